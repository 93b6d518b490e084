"""Struct: a C struct as a Python class.

    class Stu(Struct):               # typedef struct stu { char name[32]; int age; } STU;
        name: Char[32]
        age: Int

    stu = Stu("amy", 20)
    bytes(stu)                       # the 36 bytes that a C program reads
    Stu.from_bytes(data).age         # …and writes

Padding and sizes are those of the C compiler on this machine. An instance owns
its bytes, or is a live view of memory that something else owns (`from_buffer`);
either way it exports them through the buffer protocol, so that anything which
takes bytes takes an instance, with nothing to encode first.

Type checkers see a field declared ``Int`` as ``int``, ``Double`` as ``float``
and ``Bool`` as ``bool``, in the constructor and as attributes. ``Char[32]`` is
``str`` and ``Bytes[6]`` is ``bytes`` for pyright as it is, and for mypy with
``plugins = ["ipckit.mypy_plugin"]`` (without the plugin mypy takes such a field
for ``Any``). ``name: Annotated[str, Char[32]]`` says the same, and every checker
understands it; use it too for a text field with a default, and for an array
whose type matters: ``Annotated[NDArray[np.int32], Array[Int, 4]]``.
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
