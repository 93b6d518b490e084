"""Struct: a C struct as a Python class.

For example::

    class Stu(Struct):               # typedef struct stu { char name[32]; int age; } STU;
        name: Char[32]
        age: Int

    stu = Stu("amy", 20)
    bytes(stu)                       # the 36 bytes that a C program reads
    Stu.from_bytes(data).age         # read a field of the 36 bytes that a C program wrote

Padding and sizes are those of the C compiler on this machine. An instance owns its bytes, or is a
view of other memory (`from_buffer`). In both cases it has the buffer protocol, so a function that
takes bytes takes an instance without encoding it.

Type checkers treat an ``Int`` field as ``int``, ``Double`` as ``float`` and ``Bool`` as ``bool``,
in the constructor and as attributes. pyright treats ``Char[32]`` as ``str`` and ``Bytes[6]`` as
``bytes``. mypy does too with ``plugins = ["ipckit.mypy_plugin"]``; without the plugin it treats
such a field as ``Any``.

Every checker understands ``name: Annotated[str, Char[32]]``. Use this form for a text field with a
default, and for an array whose type matters: ``Annotated[NDArray[np.int32], Array[Int, 4]]``.
"""

from ipckit._payload.arrays import ArrayView
from ipckit._payload.c_header import c_header
from ipckit._payload.fields import (
    Array,
    BlkCntT,
    BlkSizeT,
    Bool,
    Bytes,
    Char,
    ClockIdT,
    ClockT,
    DevT,
    Double,
    Float,
    Float32,
    Float64,
    GidT,
    IdT,
    InoT,
    Int,
    Int8,
    Int16,
    Int32,
    Int64,
    IntPtrT,
    KeyT,
    Long,
    LongLong,
    ModeT,
    NLinkT,
    OffT,
    PidT,
    PtrDiffT,
    SChar,
    Short,
    SizeT,
    SockLenT,
    SSizeT,
    SUSecondsT,
    TimeT,
    UChar,
    UidT,
    UInt,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    UIntPtrT,
    ULong,
    ULongLong,
    UShort,
)
from ipckit._payload.members import Aligned, Anonymous, At, Bits, Opaque
from ipckit._payload.plan import Endian, FieldInfo
from ipckit._payload.python_source import python_source
from ipckit._payload.structs import Struct, StructType, Union

__all__ = [
    "Aligned",
    "Anonymous",
    "Array",
    "ArrayView",
    "At",
    "Bits",
    "BlkCntT",
    "BlkSizeT",
    "Bool",
    "Bytes",
    "Char",
    "ClockIdT",
    "ClockT",
    "DevT",
    "Double",
    "Endian",
    "FieldInfo",
    "Float",
    "Float32",
    "Float64",
    "GidT",
    "IdT",
    "InoT",
    "Int",
    "Int16",
    "Int32",
    "Int64",
    "Int8",
    "IntPtrT",
    "KeyT",
    "Long",
    "LongLong",
    "ModeT",
    "NLinkT",
    "OffT",
    "Opaque",
    "PidT",
    "PtrDiffT",
    "SChar",
    "SSizeT",
    "SUSecondsT",
    "Short",
    "SizeT",
    "SockLenT",
    "Struct",
    "StructType",
    "TimeT",
    "UChar",
    "UInt",
    "UInt16",
    "UInt32",
    "UInt64",
    "UInt8",
    "UIntPtrT",
    "ULong",
    "ULongLong",
    "UShort",
    "UidT",
    "Union",
    "c_header",
    "python_source",
]
