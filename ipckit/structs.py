"""Struct: a C struct as a Python class.

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

from ipckit._payload.c_header import c_header, python_source
from ipckit._payload.c_types import ArrayView
from ipckit._payload.fields import (
    Array,
    Bool,
    Bytes,
    Char,
    Double,
    Float,
    Float32,
    Float64,
    Int,
    Int8,
    Int16,
    Int32,
    Int64,
    Long,
    LongLong,
    SChar,
    Short,
    SizeT,
    SSizeT,
    UChar,
    UInt,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    ULong,
    ULongLong,
    UShort,
)
from ipckit._payload.plan import Endian, FieldInfo
from ipckit._payload.structs import Struct, StructType

__all__ = [
    "Array",
    "ArrayView",
    "Bool",
    "Bytes",
    "Char",
    "Double",
    "Endian",
    "FieldInfo",
    "Float",
    "Float32",
    "Float64",
    "Int",
    "Int16",
    "Int32",
    "Int64",
    "Int8",
    "Long",
    "LongLong",
    "SChar",
    "SSizeT",
    "Short",
    "SizeT",
    "Struct",
    "StructType",
    "UChar",
    "UInt",
    "UInt16",
    "UInt32",
    "UInt64",
    "UInt8",
    "ULong",
    "ULongLong",
    "UShort",
    "c_header",
    "python_source",
]
