"""The extension module. Each section is one C file."""

from typing import Any, TypeVar, final

from typing_extensions import Buffer

_T = TypeVar("_T")

# native/layout.c

@final
class Layout:
    """What one Struct class says of its bytes."""

    def __new__(
        cls, size: int, fields: tuple[Field, ...], defaults: tuple[Any, ...]
    ) -> Layout: ...
    @property
    def size(self) -> int: ...
    @property
    def fields(self) -> tuple[Field, ...]: ...
    @property
    def defaults(self) -> tuple[Any, ...]: ...

# native/field.c

@final
class Field:
    """Reads and writes one field of a Record in place."""

    def __new__(
        cls, name: str, code: str, offset: int, size: int, swap: bool = False, type: Any = None
    ) -> Field: ...
    @property
    def name(self) -> str: ...
    @property
    def offset(self) -> int: ...
    @property
    def size(self) -> int: ...
    def __get__(self, instance: Any, owner: Any = None, /) -> Any: ...
    def __set__(self, instance: Any, value: Any, /) -> None: ...
    def __delete__(self, instance: Any, /) -> None: ...

# native/record.c

class Record:
    """Bytes that the Fields of a subclass read and write; the base of Struct."""

    def __init__(self, /, *args: Any, **kwargs: Any) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

def record_from_bytes(cls: type[_T], data: Buffer, /) -> _T: ...
def record_from_buffer(cls: type[_T], buffer: Buffer, offset: int = 0) -> _T: ...
