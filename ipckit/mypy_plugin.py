"""A plugin for mypy, by which it knows the types `Char[32]` and `Bytes[6]`.

mypy refuses a number between the brackets of a type unless a plugin explains it.
In pyproject.toml::

    [tool.mypy]
    plugins = ["ipckit.mypy_plugin"]

Without the plugin mypy reports no error either, but takes such fields as `Any`.
pyright needs no plugin.
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
        """The hook for a name; None if the name is not of ipckit."""
        return _HOOKS.get(fullname)


def plugin(_version: str) -> type[Plugin]:
    """Load the plugin; mypy calls this."""
    return _FieldsPlugin
