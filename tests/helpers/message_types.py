"""Types of messages, and values of each, that tests of channels and of topics send."""

from __future__ import annotations

import ctypes
from typing import Any

import msgspec

from ipckit import Char, Int, Struct
from ipckit.codec import Msgpack, Pickle, codec_for


class Stu(Struct):
    name: Char[32]
    age: Int


class Big(Struct):
    text: Char[20000]


class Point(ctypes.Structure):
    _fields_ = (("x", ctypes.c_int), ("y", ctypes.c_double))


class Note(msgspec.Struct):
    n: int
    text: str = ""


VALUES: list[tuple[Any, Any]] = [
    (bytes, b"\0abc"),
    (bytes, b""),
    (bytes, bytes(100_000)),
    (str, "grüße"),
    (Stu, Stu("amy", 20)),
    (Big, Big("long " * 3000)),
    (Note, Note(7, "seven")),
    (Msgpack(Note), Note(8)),
    (Pickle, {"any": [1, None]}),
    (codec_for(Stu), Stu("bob", 31)),
]
