"""Types of messages that tests of channels and of topics send."""

from __future__ import annotations

from ipckit import Char, Int, Struct


class Stu(Struct):
    name: Char[32]
    age: Int


class Big(Struct):
    text: Char[20000]
