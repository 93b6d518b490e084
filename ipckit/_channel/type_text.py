"""How a channel's header records the type of the messages: a fingerprint, and a text for people."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from ipckit._core.fingerprints import fingerprint
from ipckit._payload.codecs import CtypesCodec, DescribedCodec, Msgpack, StructCodec
from ipckit._payload.meaning import ctypes_fields

if TYPE_CHECKING:
    from ipckit._payload.codec import Codec


def fingerprint_of(codec: Codec[Any]) -> int:
    """Return the fingerprint of a payload type: 64 bits, never 0."""
    if isinstance(codec, DescribedCodec):
        return codec.number
    return fingerprint(codec.fingerprint, codec.size)


def text_of(codec: Codec[Any]) -> str:
    """Return the text of a payload type: a Struct's C declaration, or the name and the fields."""
    kind: Any = codec.accepts
    if isinstance(codec, DescribedCodec):
        return codec.name
    if isinstance(codec, StructCodec):
        return " ".join(kind.c_declaration().split())
    if isinstance(codec, CtypesCodec):
        fields = ", ".join(f"{name}: {hint.__name__}" for name, hint, *_ in ctypes_fields(kind))
        return f"{codec.name}({fields}) of {codec.size} bytes"
    if isinstance(codec, Msgpack):
        hints: dict[str, Any] = {}
        for base in reversed(kind.__mro__):
            hints.update(inspect.get_annotations(base))
        fields = ", ".join(f"{name}: {_hint_text(hints[name])}" for name in kind.__struct_fields__)
        return f"{codec.name}({fields}) as MessagePack"
    return f"{codec.name}" + (f" of {codec.size} bytes" if codec.size else "")


def _hint_text(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)
