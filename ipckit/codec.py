"""Codecs: they encode a value as the bytes of a message, and decode the bytes.

`codec_for` returns the codec of a payload type. No codec that it chooses runs code from a message.
`Pickle` does, so it is used only if the caller names it.
"""

from ipckit._payload.array_codecs import AnyShape, ArrayCodec
from ipckit._payload.codec import Codec
from ipckit._payload.codecs import (
    BytesCodec,
    CtypesCodec,
    DescribedCodec,
    Msgpack,
    Pickle,
    RawCodec,
    StrCodec,
    StructCodec,
    codec_for,
)

__all__ = [
    "AnyShape",
    "ArrayCodec",
    "BytesCodec",
    "Codec",
    "CtypesCodec",
    "DescribedCodec",
    "Msgpack",
    "Pickle",
    "RawCodec",
    "StrCodec",
    "StructCodec",
    "codec_for",
]
