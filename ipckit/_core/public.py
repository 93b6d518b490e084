"""The public page of a class or function, as its `__module__`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def public(page: str) -> Callable[[T], T]:
    """Name the public page of a class or function.

    Its `__module__` becomes the page. So `repr`, tracebacks, `help` and pickles show the path
    that users import from, and the file that defines it can move without breaking a pickle.

    Args:
        page: the module that users import it from, such as ``"ipckit.msgq"``.
    """

    def name_page(item: T) -> T:
        # Through Any: neither mypy nor pyright lets a T have attributes.
        changed: Any = item
        changed.__module__ = page
        return item

    return name_page
