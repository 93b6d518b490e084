"""Classes whose objects come from factories such as `create` and `open`, not from a constructor."""

from __future__ import annotations

from abc import ABCMeta
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


class FactoryMade(ABCMeta):
    """The type of a class without a public constructor.

    Attributes:
        _factories: the factories' names, for the error: ``"create or open"``. If it is empty,
            the class has a public constructor.
    """

    _factories: str = ""

    if not TYPE_CHECKING:  # type checkers take the parameters of `construct` from `__init__`

        def __call__(cls, *args: Any, **options: Any) -> Any:
            if cls._factories:
                message = f"{cls.__name__} has no public constructor; use {cls._factories}"
                raise TypeError(message)
            return super().__call__(*args, **options)


def construct(cls: Callable[P, T], /, *args: P.args, **options: P.kwargs) -> T:
    """Create an object of a class without a public constructor; its factories call this.

    Args:
        cls: the class.
        *args: the positional arguments of its `__init__`.
        **options: the keyword arguments of its `__init__`.
    """
    return cast("T", type.__call__(cast("type", cls), *args, **options))
