"""A plugin that teaches mypy the types `Char[32]` and `Bytes[6]`.

Without a plugin, mypy does not accept a number in the brackets of a type. Enable it in
pyproject.toml::

    [tool.mypy]
    plugins = ["ipckit.mypy_plugin"]

Without the plugin mypy reports no error, but treats such fields as `Any`. pyright needs no plugin.
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
    """Gives mypy the Python type of `Char` and `Bytes` fields."""

    def get_type_analyze_hook(self, fullname: str) -> Callable[[AnalyzeTypeContext], Type] | None:
        """Return the hook for a type; None for a type that is not `Char` or `Bytes`."""
        return _HOOKS.get(fullname)


def plugin(_version: str) -> type[Plugin]:
    """Return the plugin's class; mypy calls this."""
    return _FieldsPlugin
