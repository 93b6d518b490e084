"""A property that is computed once for each object, without a lock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class cached_property(Generic[T]):  # noqa: N801 - a decorator, and the name that functools uses
    """Compute a value at its first use, and keep it in the object's `__dict__`.

    In Python 3.11, the class of the same name in functools holds a lock while it computes. One lock
    serves all objects of a class. If one thread forks while another one computes, the child has
    that lock in the locked state, and no thread that would release it. Its first use of the
    property then never ends. Without the lock, two threads may both compute the value. All threads
    get the one that was kept first.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self._name = compute.__name__
        self.__doc__ = compute.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object, owner: type) -> Self | T:
        if instance is None:
            return self
        # Python finds the kept value first, because this class has no `__set__`.
        kept: T = instance.__dict__.setdefault(self._name, self._compute(instance))
        return kept
