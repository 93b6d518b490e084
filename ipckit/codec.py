"""Codec: how a value becomes the bytes of a message, and they become a value again.

`codec_for` finds the codec of a payload type. None of those it finds runs code
that came with a message; `Pickle` does, and so must be asked for by name.
"""

from ipckit._payload.codecs import (
    ArrayCodec,
    BytesCodec,
    Codec,
    CtypesCodec,
    Msgpack,
    Pickle,
    StrCodec,
    StructCodec,
    codec_for,
)

__all__ = [
    "ArrayCodec",
    "BytesCodec",
    "Codec",
    "CtypesCodec",
    "Msgpack",
    "Pickle",
    "StrCodec",
    "StructCodec",
    "codec_for",
]
