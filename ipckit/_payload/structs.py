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

from __future__ import annotations

import copyreg
import errno
import sys
import weakref
from types import BuiltinMethodType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Final,
    Self,
    TypeVar,
    dataclass_transform,
    get_origin,
)

from ipckit._core.lazy_numpy import is_array, np
from ipckit._core.public import public
from ipckit._native import Layout, Record, record_from_buffer, record_from_bytes
from ipckit._payload.c_types import ArrayView
from ipckit._payload.fields import (
    ctype_of,
)
from ipckit._payload.plan import Endian, FieldInfo, Plan
from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ipckit._payload.c_types import CType

T = TypeVar("T")

# What `from_c` made of which text, so that a class pickled by its declaration comes back as itself.
_FROM_C: Final[weakref.WeakValueDictionary[tuple[str, str | None, Endian], StructType]] = (
    weakref.WeakValueDictionary()
)


@public("ipckit.structs")
class StructType(type):
    """The class of `Struct` classes: what is true of the type stands here.

    So a field may be called ``size`` or ``fields``, as in C it often is:
    ``Stu.size`` is the size of the struct, ``stu.size`` that field. A field with
    the name of a method hides it: call ``StructType.from_bytes(Stu, data)`` then.
    """

    __plan__: Plan
    __layout__: Layout

    def __new__(
        mcs,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        packed: bool = False,
        endian: Endian = "native",
    ) -> StructType:
        """Lay out the fields that the class body declares."""
        if "__slots__" in namespace:
            message = f"{name} is a Struct: its fields are all it has, and __slots__ adds none"
            raise TypeError(message)
        # The frame of the class statement: its names may be a function's own.
        names = sys._getframe(1).f_locals  # noqa: SLF001 - there is no public way
        types = _declared(name, namespace, names)
        plans = (getattr(base, "__plan__", None) for base in bases)
        inherited = {id(plan) for plan in plans if plan is not None}
        if len(inherited) + bool(types) > 1:
            message = f"{name} would have the fields of two structs: nest one as a field instead"
            raise TypeError(message)
        if types:
            plan = Plan(name, types, packed=packed, endian=endian)
            namespace = namespace | _laid_out(plan, namespace)
        elif packed or endian != "native":
            message = f"{name} declares no fields for packed and endian to act on"
            raise TypeError(message)
        cls = super().__new__(mcs, name, bases, namespace | {"__slots__": ()})
        if types:
            _try_defaults(cls)
        # Bound once: to find it on the metaclass and bind it costs as much as the call. What is
        # no builtin is a field of that name, or the user's own.
        if type(cls.from_bytes) is BuiltinMethodType and hasattr(cls, "__plan__"):
            bound: Any = record_from_bytes
            type.__setattr__(cls, "from_bytes", bound.__get__(cls))
        return cls

    from_bytes = record_from_bytes
    from_buffer = record_from_buffer

    @property
    def size(cls) -> int:
        """Bytes of the struct, with its padding; C's ``sizeof``."""
        return _plan(cls).size

    @property
    def alignment(cls) -> int:
        """The multiple of bytes at which C puts such a struct; C's ``_Alignof``."""
        return _plan(cls).alignment

    @property
    def fields(cls) -> tuple[FieldInfo, ...]:
        """Name, offset, size and C type of each field, in order."""
        return _plan(cls).fields

    @property
    def dtype(cls) -> np.dtype[Any]:
        """The numpy dtype of the same bytes; Char[n] is ``S``, Bytes[n] is ``V``."""
        return _plan(cls).dtype

    @property
    def fingerprint(cls) -> str:
        """16 hexadecimal digits that two programs share if they agree on the layout.

        A hash of the fields' names, types, offsets, sizes and byte orders. The
        struct's own name has no part in it, nor has the spelling of a type:
        Int and Int32 are the same bytes.
        """
        return _plan(cls).fingerprint

    def c_declaration(cls) -> str:
        """C text that declares this struct, those nested in it, and the headers they need.

        Raises:
            InvalidArgument: a name is not possible in C, or two structs share one.
        """
        return _plan(cls).c_declaration()

    def zeroed(cls: type[T]) -> T:
        """An instance of which every byte is 0."""
        return cls.__new__(cls)

    def from_c(
        cls, declaration: str, name: str | None = None, *, endian: Endian = "native"
    ) -> type[Any]:
        """A Struct class from C source.

        Args:
            declaration: C text that declares one struct or more. Comments,
                ``#include`` lines and include guards are passed over; macros
                without arguments are expanded. What is taken is laid out as
                gcc does on this machine.
            name: the typedef name or the tag of the struct to take; by default
                the last one. The class has the typedef name, if there is one.
            endian: the byte order of all numbers.

        Returns:
            A subclass of Struct. The same text gives the same class for as long
            as it is in use. It pickles by its declaration.

        Raises:
            ImportError: pycparser is missing; ``pip install pycparser``.
            InvalidArgument: the text is not C, declares no such struct, or has
                what a Struct cannot have or `from_c` does not understand:
                pointers, unions, bit-fields, flexible arrays, ``_Alignas``,
                attributes other than ``packed``, macros with arguments. The
                message names the line.
        """
        if cls is not Struct:
            message = "from_c makes a new class: call Struct.from_c"
            raise TypeError(message)
        return _from_c(declaration, name, endian)


def _plan(cls: StructType) -> Plan:
    plan: Plan | None = getattr(cls, "__plan__", None)
    if plan is None:
        message = f"{cls.__name__} has no fields: a struct is a subclass that declares some"
        raise TypeError(message)
    return plan


def _annotations(namespace: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a class body annotates, before there is a class."""
    # From Python 3.14 on the body leaves a function that gives them; 1 asks for their values.
    annotate = namespace.get("__annotate_func__")
    found: Mapping[str, Any] = annotate(1) if annotate else namespace.get("__annotations__", {})
    return found


def _declared(
    cls_name: str, namespace: Mapping[str, Any], names: Mapping[str, object]
) -> dict[str, CType]:
    """The fields that a class body declares, with their types."""
    module = sys.modules.get(namespace.get("__module__", ""))
    scope = {**(vars(module) if module else {}), **names, **namespace}
    found: dict[str, CType] = {}
    for name, raw in _annotations(namespace).items():
        annotation = raw
        if isinstance(raw, str):
            annotation = eval(raw, scope)  # noqa: S307 - the text of the class body itself
        if annotation is ClassVar or get_origin(annotation) is ClassVar:
            continue
        if name.startswith("__") and name.endswith("__"):
            message = f"{cls_name}.{name}: names of that kind belong to Python"
            raise InvalidArgument(message, errno=errno.EINVAL)
        try:
            found[name] = ctype_of(annotation)
        except TypeError as error:
            message = f"{cls_name}.{name}: {error}"
            raise TypeError(message) from None
    return found


def _laid_out(plan: Plan, namespace: Mapping[str, Any]) -> dict[str, Any]:
    """What a class needs to have the fields of a plan; their defaults are in the namespace."""
    fields = plan.descriptors()
    names = tuple(field.name for field in fields)
    defaults = tuple(namespace[name] for name in names if name in namespace)
    if any(name in namespace for name in names[: len(names) - len(defaults)]):
        message = f"{plan.name}: a field without a default follows one that has a default"
        raise TypeError(message)
    return {
        **{field.name: field for field in fields},
        "__plan__": plan,
        "__layout__": Layout(plan.size, fields, defaults),
        "__match_args__": names,
    }


def _try_defaults(cls: Any) -> None:
    """Raise at once what a wrong default would raise later."""
    layout: Layout = cls.__layout__
    trial = StructType.zeroed(cls) if layout.defaults else None
    first = len(layout.fields) - len(layout.defaults)
    for field, value in zip(layout.fields[first:], layout.defaults, strict=True):
        field.__set__(trial, value)


def _from_c(declaration: str, name: str | None, endian: Endian) -> StructType:
    from ipckit._payload import c_parser  # noqa: PLC0415

    def make(class_name: str, types: Mapping[str, CType], packed: bool) -> StructType:  # noqa: FBT001
        known = _FROM_C.get((declaration, class_name, endian))
        plan = Plan(class_name, types, packed=packed, endian=endian)
        if known is not None and known.fingerprint == plan.fingerprint:
            return known
        namespace = {
            "__annotations__": dict(types),
            "__module__": __name__,
            "__c_source__": (declaration, class_name, endian),
        }
        made = StructType(class_name, (Struct,), namespace, packed=packed, endian=endian)
        _FROM_C[declaration, class_name, endian] = made
        return made

    found = _FROM_C.get((declaration, name, endian))
    if found is None:
        found = c_parser.parse(declaration, name, make)
        _FROM_C[declaration, name, endian] = found
    return found


def _reduce_class(cls: StructType) -> str | tuple[Any, ...]:
    source = vars(cls).get("__c_source__")
    return cls.__qualname__ if source is None else (_from_c, source)


copyreg.pickle(StructType, _reduce_class)


def _restore(cls: type[T], data: bytes) -> T:
    return record_from_bytes(cls, data)


def _plain(value: object) -> object:
    """A field's value as something that lives on when the record changes."""
    if isinstance(value, Struct):
        return Struct.asdict(value)
    if is_array(value):
        array: Any = value
        return array.tolist()
    return [_plain(item) for item in value] if isinstance(value, ArrayView) else value


def _shown(value: object) -> str:
    return repr(_plain(value) if is_array(value) else value)


@public("ipckit.structs")
@dataclass_transform()
class Struct(Record, metaclass=StructType):
    """A C struct: subclass it, and declare its fields by annotation.

    Values are given in order or by name; a field without a default must be
    given. Reading and writing an attribute reads and writes the bytes. Instances
    are equal if they are of one class and their fields are equal, whatever is in
    the padding; they pickle by value, and are not hashable, since they change.

    A field takes what its type can hold and nothing is cut or wrapped: TypeError
    for a wrong type or a view of read-only memory, `InvalidArgument` (a
    ValueError) for a number out of range or text too long.

    Class keywords:
        packed: no padding; ``__attribute__((packed))`` in C.
        endian: ``"native"``, ``"little"`` or ``"big"``, for the struct's own
            numbers. A nested struct keeps its own order and its own packing.

    A subclass of a struct with fields may add methods, but no fields: nest the
    one in the other, as C does.

    What is true of the type is on the class alone, and documented on
    `StructType`: `Stu.size`, `Stu.alignment`, `Stu.fields`, `Stu.dtype`,
    `Stu.fingerprint`, `Stu.c_declaration()`, `Stu.zeroed()`,
    `Stu.from_bytes(data)`, `Stu.from_buffer(buffer, offset)`, `Struct.from_c(text)`.
    """

    if TYPE_CHECKING:
        __plan__: ClassVar[Plan]
        __layout__: ClassVar[Layout]

        def __buffer__(self, flags: int, /) -> memoryview: ...

    def asdict(self) -> dict[str, Any]:
        """The fields by name; nested structs as dicts, arrays as lists. Shares nothing."""
        names = self.__layout__.fields
        return {field.name: _plain(field.__get__(self)) for field in names}

    def copy(self) -> Self:
        """An instance of the same values which owns its bytes."""
        return record_from_bytes(type(self), self)

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        assert isinstance(other, Struct)  # noqa: S101 - for the type checkers
        return bytes(self) == bytes(other) or Struct.asdict(self) == Struct.asdict(other)

    __hash__ = None  # type: ignore[assignment] # its fields change

    def __repr__(self) -> str:
        shown = (f"{field.name}={_shown(field.__get__(self))}" for field in self.__layout__.fields)
        return f"{type(self).__name__}({', '.join(shown)})"

    def __copy__(self) -> Self:
        return record_from_bytes(type(self), self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return record_from_bytes(type(self), self)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restore, (type(self), bytes(self)))
