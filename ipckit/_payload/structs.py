"""Struct classes: from the annotations of a class body, or from C text, to the fields in memory.

A class statement calls `StructType.__new__`. It gets the C type of each annotation from
`class_body.declared_types` and the offsets from a `Plan`, and gives the class a `Field` of the
extension for each field. The extension implements constructors, attributes and buffers; see
native/records.
"""

from __future__ import annotations

import copyreg
import errno
import os
import sys
import weakref
from pickle import PicklingError
from types import BuiltinMethodType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Final,
    Literal,
    Self,
    TypeVar,
    cast,
    dataclass_transform,
)

from ipckit._core.lazy_numpy import is_array, np
from ipckit._core.public import public
from ipckit._native import Layout, Record, record_from_buffer, record_from_bytes
from ipckit._payload import c_enums, c_pickling
from ipckit._payload.arrays import ArrayView
from ipckit._payload.class_body import checked_rules, declared_types
from ipckit._payload.placement import Rules
from ipckit._payload.plan import KEYWORD_ONLY, Endian, Entry, FieldInfo, Plan
from ipckit.errors import LayoutMismatch

if TYPE_CHECKING:
    import inspect
    from collections.abc import Iterable, Mapping

    from ipckit._payload.c_types import CType

T = TypeVar("T")

_PICKLED_DIGITS: Final = 16  # of a fingerprint, in the pickle of an instance

# The classes that were made by their layout: by `from_c` and by unpickling. Unpickling a class must
# return the same class.
_BY_LAYOUT: Final[weakref.WeakValueDictionary[tuple[Any, ...], StructType]] = (
    weakref.WeakValueDictionary()
)


class _OfStructs(property):
    """A property of Struct classes. On their metaclass itself it is None, not the property.

    `inspect.signature` reads ``__signature__`` of any class, and fails if it is another object.
    """

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return None if instance is None else super().__get__(instance, owner)


@public("ipckit.structs")
class StructType(type):
    """The class of `Struct` classes. Its attributes describe the type.

    They are not attributes of instances. So a field can have the name ``size`` or ``fields``, which
    is common in C: ``Stu.size`` is the size of the struct, and ``stu.size`` is the field. A field
    with the name of a method hides the method; call ``StructType.from_bytes(Stu, data)`` then.

    Example:
        >>> from ipckit import Int, Struct
        >>> from ipckit.structs import StructType
        >>> class Box(Struct):
        ...     size: Int
        >>> isinstance(Box, StructType), Box.size, Box(7).size
        (True, 4, 7)
    """

    __plan__: Plan
    __layout__: Layout

    def __new__(
        mcs,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        packed: bool | Literal[1, 2, 4, 8, 16] = False,
        align: int = 1,
        size: int = 0,
        endian: Endian = "native",
    ) -> StructType:
        """Lay out the fields that the class body declares."""
        if "__slots__" in namespace:
            message = f"{name} is a Struct, so it can't have __slots__: it stores only its fields"
            raise TypeError(message)
        types = declared_types(name, namespace, sys._getframe(1))  # noqa: SLF001
        plans = (getattr(base, "__plan__", None) for base in bases)
        inherited = {id(plan) for plan in plans if plan is not None}
        if len(inherited) + bool(types) > 1:
            message = (
                f"{name} would have the fields of two structs; make one struct a field of the other"
            )
            raise TypeError(message)
        if types:
            union = any(hasattr(base, "__union__") for base in bases)
            rules = checked_rules(union=union, packed=packed, align=align, size=size)
            plan = Plan(name, types, rules, endian=endian)
            namespace = namespace | _laid_out(plan, namespace)
        elif packed or endian != "native" or align != 1 or size:
            message = f"{name} declares no fields, so packed, align, size and endian have no effect"
            raise TypeError(message)
        cls = super().__new__(mcs, name, bases, namespace | {"__slots__": ()})
        if types:
            _try_defaults(cls)
        # Bound once, because the lookup on the metaclass takes as long as the call itself. If it is
        # not a builtin, it is a field of that name or a method of the user's.
        if type(cls.from_bytes) is BuiltinMethodType and hasattr(cls, "__plan__"):
            bound: Any = record_from_bytes
            type.__setattr__(cls, "from_bytes", bound.__get__(cls))
        return cls

    from_bytes = record_from_bytes
    from_buffer = record_from_buffer

    @property
    def size(cls) -> int:
        """The bytes of the struct, with its padding: C's ``sizeof``."""
        return _plan(cls).size

    @property
    def alignment(cls) -> int:
        """The alignment of the struct in bytes: C's ``_Alignof``."""
        return _plan(cls).alignment

    @property
    def fields(cls) -> tuple[FieldInfo, ...]:
        """The name, offset, size and C type of each field, in order.

        Example:
            >>> from ipckit.structs import Char, Int, Struct
            >>> class Stu(Struct):
            ...     name: Char[32]
            ...     age: Int
            >>> Stu.fields[1]
            FieldInfo(name='age', offset=32, size=4, c_type='int')
        """
        return _plan(cls).fields

    @property
    def flexible(cls) -> bool:
        """Whether its last member is a flexible array, so that records have different sizes."""
        return _plan(cls).flexible

    @property
    def dtype(cls) -> np.dtype[Any]:
        """The numpy dtype of the same bytes. Char[n] is of kind ``S``, and Bytes[n] of ``V``.

        Members of a union overlap. Bit-fields that share bytes are one unsigned integer, whose name
        is their names with commas. A flexible array member is left out.
        """
        return _plan(cls).dtype

    @property
    def fingerprint(cls) -> str:
        """16 hexadecimal digits that two programs share if they agree on the layout.

        It is a hash of the fields' names, types, offsets, sizes and byte orders. The name of the
        struct has no effect, and two names of one type have the same: Int and Int32, for example.
        """
        return _plan(cls).fingerprint

    @_OfStructs
    def __signature__(cls) -> inspect.Signature:
        """The constructor's parameters, for `inspect.signature` and `help`: the fields."""
        layout: Layout | None = getattr(cls, "__layout__", None)
        own: Any = cls
        plain = own.__init__ is Record.__init__ and own.__new__ is Record.__new__
        if layout is None or not plain:
            raise AttributeError(name="__signature__", obj=cls)  # then `inspect` looks by itself
        import inspect  # noqa: PLC0415 - it takes long to import

        parameters: list[inspect.Parameter] = []
        try:
            for entry in sorted(_plan(cls).entries, key=_is_keyword_only):
                kind: Any = inspect.Parameter.POSITIONAL_OR_KEYWORD
                default = layout.defaults.get(entry.name, inspect.Parameter.empty)
                if entry.mode == KEYWORD_ONLY:
                    kind, default = inspect.Parameter.KEYWORD_ONLY, ...
                parameters.append(inspect.Parameter(entry.name, kind, default=default))
            return inspect.Signature(parameters)
        except ValueError:  # `from_c` takes names that are keywords of Python
            raise AttributeError(name="__signature__", obj=cls) from None

    def c_declaration(cls) -> str:
        """Declare this struct in C, with the structs nested in it and the headers they need.

        Returns:
            C text.

        Raises:
            InvalidArgument: a name is not valid in C, two types have the same name, or C can't
                place the fields there.

        Example:
            >>> from ipckit.structs import Char, Int, Struct
            >>> class Stu(Struct):
            ...     name: Char[32]
            ...     age: Int
            >>> print(Stu.c_declaration(), end="")
            typedef struct Stu {
                char name[32];
                int age;
            } Stu;
        """
        # Few programs need it, and it takes long to import.
        from ipckit._payload.c_declaration import Declaration  # noqa: PLC0415

        return Declaration(_plan(cls)).text

    def zeroed(cls: type[T], items: int = 0) -> T:
        """Create an instance of which every byte is 0.

        Args:
            items: the number of items of its flexible array member; 0 by default.

        Raises:
            InvalidArgument: the struct has no flexible array member, or `items` is negative.
        """
        if not items:
            return cls.__new__(cls)
        own: Any = cls
        return record_from_bytes(cls, bytes(own.__plan__.bytes_for(items)))

    def from_c(
        cls,
        declaration: str,
        name: str | None = None,
        *,
        endian: Endian = "native",
        include_dirs: Iterable[str | os.PathLike[str]] = (),
        defines: Mapping[str, str | int] | None = None,
        target: str | None = None,
        opaque: bool = False,
        filename: str = "<text>",
    ) -> type[Any]:
        """Create a Struct class from C source, with the layout that the compiler gives the struct.

        libclang compiles the text, with the system's headers. The text should be trusted as much
        as a program's source is: it can include any file that the process can read. Integer types
        of C, POSIX and Linux such as ``uint32_t`` and ``pid_t`` need no ``#include``.

        Args:
            declaration: C text that declares one struct or union or more, or includes a header that
                does.
            name: the typedef name or the tag of the struct; by default the last struct of the text
                itself. Only this struct is read, and what it needs.
            endian: the byte order of all numbers: ``"native"`` (the default; that of the target),
                ``"little"`` or ``"big"``.
            include_dirs: directories to search for included files, before the system's.
            defines: macros to define, with their values.
            target: the LLVM triple of another machine whose layout is wanted, such as
                ``"aarch64-linux-gnu"``; by default this machine.
            opaque: keep pointers, ``long double`` and other types that Python can't read as
                `Opaque` bytes. By default they are an error.
            filename: the name of the text in errors. Files that it includes in quotes are searched
                in the directory of this name first; by default in the working directory.

        Returns:
            A subclass of Struct, or of `Union` for a union. Enums are IntEnum classes. The same
            text gives the same class while that class is in use and the included files do not
            change. The class is pickled by its layout, so that unpickling it needs no libclang.

        Raises:
            ImportError: libclang is not installed; ``pip install libclang``.
            InvalidSource: the text is not C, or it does not declare the struct, or the struct has a
                member that Python can't read. This is an `InvalidArgument`. Each line of the
                message names the file, the line and the member.
            InvalidArgument: `endian` is another value.
            TypeError: an argument is of the wrong type, or it was called on a subclass of Struct.

        Example:
            >>> from ipckit.structs import Struct
            >>> Stu = Struct.from_c("typedef struct { char name[32]; int age; } Stu;")
            >>> Stu("amy", 20)
            Stu(name='amy', age=20)
        """
        if cls is not Struct:
            message = "from_c creates a new class; call Struct.from_c"
            raise TypeError(message)
        for what, value in (("declaration", declaration), ("name", name or "")):
            if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
                message = f"{what} takes text, not {type(value).__name__}"
                raise TypeError(message)
        from ipckit._payload import c_structs  # noqa: PLC0415 - it needs libclang
        from ipckit._payload.c_source import Options  # noqa: PLC0415 - it is slow to import

        options = Options.of(include_dirs, defines, target)
        # A quoted include is searched in the working directory.
        directory = os.getcwd() if "include" in declaration else ""  # noqa: PTH109 - text is wanted
        request = c_structs.Request(
            declaration, name, endian, options, opaque, filename, directory=directory
        )
        return c_structs.read_struct(request, made_by_layout)

    @staticmethod
    @public("ipckit.structs")
    def _from_layout(
        name: str, types: tuple[tuple[str, Any], ...], rules: tuple[Any, ...], endian: Endian
    ) -> StructType:
        """Return the class that was pickled by its layout."""
        restored = {each: c_pickling.restored(parts) for each, parts in types}
        return made_by_layout(name, restored, Rules(*rules), endian)

    @staticmethod
    @public("ipckit.structs")
    def _enum_from_c(name: str, members: tuple[tuple[str, int], ...]) -> type[c_enums.CEnum]:
        """Return the enum that was pickled by its members."""
        return c_enums.enum_from_c(name, members)

    @public("ipckit.structs")
    def _restore(cls: type[T], data: bytes, fingerprint: str = "") -> T:
        """Create a pickled instance.

        Raises:
            LayoutMismatch: the class has other fields than the one that was pickled.
        """
        if fingerprint and not _plan(cast("StructType", cls)).fingerprint.startswith(fingerprint):
            message = f"{cls.__name__} has other fields than the class that was pickled"
            raise LayoutMismatch(message, errno=errno.EBADMSG, op="unpickle", target=cls.__name__)
        return record_from_bytes(cls, data)

    @public("ipckit.structs")
    def _defined_again(cls: type[T]) -> type[T]:
        """Return the class; a pickle of a class that was defined again contains this call."""
        return cls


def _plan(cls: StructType) -> Plan:
    plan: Plan | None = getattr(cls, "__plan__", None)
    if plan is None:
        message = f"{cls.__name__} has no fields; declare some in a subclass"
        raise TypeError(message)
    return plan


def _is_keyword_only(entry: Entry) -> bool:
    """Sort key: in a signature, parameters that are taken by name only come last."""
    return entry.mode == KEYWORD_ONLY


def _laid_out(plan: Plan, namespace: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a class that has the fields of a plan, with the defaults of its body."""
    fields = plan.descriptors()
    names = [entry.name for entry in plan.entries]
    defaults = {name: namespace[name] for name in names if name in namespace}
    required = False
    for entry in reversed(plan.entries):
        if entry.mode and entry.name in defaults:
            message = f"{plan.name}.{entry.name}: a member of a union can't have a default"
            raise TypeError(message)
        required = required or (not entry.mode and entry.name not in defaults)
        if required and entry.name in defaults:
            message = f"{plan.name}: a field without a default follows one that has a default"
            raise TypeError(message)
    measure = plan.measure if plan.flexible else None
    return {
        # The whole of an anonymous member is an attribute, but no field.
        **{m.name: m.kind.field(m.name, m.offset, swap=False) for m in plan.members if m.inner},
        **{field.name: field for field in fields},
        "__plan__": plan,
        "__layout__": Layout(plan.size, fields, defaults, plan.modes, measure, plan.minimum),
        "__match_args__": tuple(e.name for e in plan.entries if e.mode != KEYWORD_ONLY),
    }


def _try_defaults(cls: Any) -> None:
    """Raise now what an invalid default would raise in each call of the constructor."""
    layout: Layout = cls.__layout__
    trial = StructType.zeroed(cls) if layout.defaults else None
    for field in layout.fields:
        if field.name in layout.defaults:
            field.__set__(trial, layout.defaults[field.name])


def made_by_layout(
    name: str, types: Mapping[str, CType], rules: Rules, endian: Endian
) -> StructType:
    """Return the class of a layout: the same one for the same layout while it is in use."""
    key = (name, tuple(types.items()), rules, endian)
    found = _BY_LAYOUT.get(key)
    if found is not None:
        return found
    namespace = {
        "__annotations__": dict(types),
        "__module__": "ipckit.structs",
        "__by_layout__": True,
    }
    base = Union if rules.union else Struct
    packed: Any = rules.packed
    made = StructType(
        name, (base,), namespace, packed=packed, align=rules.align, size=rules.size, endian=endian
    )
    _BY_LAYOUT[key] = made
    return made


def is_same_class(one: type, other: type) -> bool:
    """Return whether two Struct classes are one: the same, or one that was defined again.

    A notebook cell that runs again and importlib.reload define a class again, with the same name
    and the same fingerprint.
    """
    if one is other:
        return True
    if not (isinstance(one, StructType) and isinstance(other, StructType)):
        return False
    if one.__qualname__ != other.__qualname__:
        return False
    plans = getattr(one, "__plan__", None), getattr(other, "__plan__", None)
    return None not in plans and _plan(one).fingerprint == _plan(other).fingerprint


def _reduce_class(cls: StructType) -> str | tuple[Any, ...]:
    if "__by_layout__" not in vars(cls):
        found: Any = sys.modules.get(cls.__module__)
        for name in cls.__qualname__.split("."):
            found = getattr(found, name, None)
        if found is not cls and isinstance(found, StructType):
            # pickle refuses a class that its name does not lead to any more.
            if is_same_class(found, cls):
                return (StructType._defined_again, (found,))  # noqa: SLF001
            message = f"{cls.__qualname__} was defined again with other fields: create it again"
            raise PicklingError(message)
        return cls.__qualname__
    plan = _plan(cls)
    types = tuple((name, c_pickling.plain(ctype)) for name, ctype in plan.types.items())
    layout = (cls.__name__, types, tuple(plan.rules), plan.endian)
    return (StructType._from_layout, layout)  # noqa: SLF001


def _reduce_enum(cls: type[Any]) -> str | tuple[Any, ...]:
    members = vars(cls).get("__c_members__")
    if members is None:
        return cls.__qualname__
    return (StructType._enum_from_c, (cls.__name__, members))  # noqa: SLF001


copyreg.pickle(StructType, _reduce_class)
copyreg.pickle(c_enums.CEnumType, _reduce_enum)


def _plain(value: object) -> object:
    """A copy of a field's value that does not change with the record."""
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
    """A C struct. Subclass it, and declare the fields by annotations.

    The constructor takes the values of the fields in order or by name. Reading and writing an
    attribute reads and writes the bytes. Two instances are equal if they are of one class and
    their fields are equal; padding does not count. They are pickled by value. They are not
    hashable, because they can change.

    No value is truncated or wrapped. A field raises TypeError for a value of the wrong type, or if
    the instance is a view of read-only memory. It raises `InvalidArgument` (a ValueError) for a
    number that is out of range and for text that is too long.

    Class keywords:
        packed: no padding; ``__attribute__((packed))`` in C. Default: False. 2, 4, 8 or 16 limits
            the alignment of the fields to so many bytes; ``#pragma pack(n)`` in C.
        align: the least alignment of the struct, in bytes; ``__attribute__((aligned(n)))`` in C.
            Default: 1.
        size: the least size of the struct, in bytes. Default: 0.
        endian: the byte order of the struct's own numbers: ``"native"`` (the default), ``"little"``
            or ``"big"``. A nested struct keeps its own byte order and packing.

    A subclass of a struct with fields can add methods, but no fields. As in C, make the one struct
    a field of the other struct.

    The attributes that describe the type are on the class alone, and `StructType` documents them:
    `Stu.size`, `Stu.alignment`, `Stu.fields`, `Stu.dtype`, `Stu.fingerprint`,
    `Stu.c_declaration()`, `Stu.zeroed()`, `Stu.from_bytes(data)`,
    `Stu.from_buffer(buffer, offset)`, `Struct.from_c(text)`.

    Example:
        >>> from ipckit.structs import Char, Int, Struct
        >>> class Stu(Struct):
        ...     name: Char[32]
        ...     age: Int = 20
        >>> stu = Stu("amy")
        >>> stu.age += 1
        >>> stu
        Stu(name='amy', age=21)
        >>> Stu.from_bytes(bytes(stu)) == stu
        True
    """

    if TYPE_CHECKING:
        __plan__: ClassVar[Plan]
        __layout__: ClassVar[Layout]
        __match_args__: ClassVar[tuple[str, ...]]

        def __buffer__(self, flags: int, /) -> memoryview: ...

    def asdict(self) -> dict[str, Any]:
        """Copy the fields into a dict, nested structs into dicts, and arrays into lists."""
        names = self.__layout__.fields
        return {field.name: _plain(field.__get__(self)) for field in names}

    def copy(self) -> Self:
        """Create an instance of the same values that owns its bytes."""
        return record_from_bytes(type(self), self)

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other) and not is_same_class(type(self), type(other)):
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
        fingerprint = self.__plan__.fingerprint[:_PICKLED_DIGITS]
        return (StructType._restore, (type(self), bytes(self), fingerprint))  # noqa: SLF001


@public("ipckit.structs")
class Union(Struct):
    """A C union: a Struct whose members share their bytes. Subclass it, as `Struct`.

    The constructor takes the value of one member: of the first by position, or of any by name. The
    other bytes are 0. Every member can be read; it reads the bytes that are there. Type checkers
    know no unions, and take a call by name for an error; `zeroed` and an assignment please them.

    Example:
        >>> from ipckit.structs import Bytes, Float, Union
        >>> class Value(Union):
        ...     f: Float
        ...     raw: Bytes[4]
        >>> Value(1.0).raw
        b'\\x00\\x00\\x80?'
        >>> Value(raw=b"\\0\\0\\0@").f
        2.0
    """  # noqa: D301 - the backslashes are those of a repr

    __union__ = True
