"""What `Char[32]` and `Bytes[6]` are, for mypy.

mypy refuses a number between the brackets of a type unless a plugin explains it.
In pyproject.toml::

    [tool.mypy]
    plugins = ["ipckit.mypy_plugin"]

Without the plugin mypy reports no error either, but takes such fields as `Any`.
pyright needs nothing of the kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy.plugin import AnalyzeTypeContext, Plugin

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy.types import Type


def _str(context: AnalyzeTypeContext) -> Type:
    return context.api.named_type("builtins.str", [])


def _bytes(context: AnalyzeTypeContext) -> Type:
    return context.api.named_type("builtins.bytes", [])


_HOOKS: Final = {"ipckit._payload.fields.Char": _str, "ipckit._payload.fields.Bytes": _bytes}


class _FieldsPlugin(Plugin):
    """Names the Python type of the field types that mypy cannot read."""

    def get_type_analyze_hook(self, fullname: str) -> Callable[[AnalyzeTypeContext], Type] | None:
        """The hook for one name, or None where it is none of ours."""
        return _HOOKS.get(fullname)


def plugin(_version: str) -> type[Plugin]:
    """What mypy calls to load the plugin."""
    return _FieldsPlugin
