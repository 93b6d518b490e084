"""A plugin that teaches mypy types such as `Char[32]`, `Bytes[6]` and `Bits[UInt, 3]`.

Without a plugin, mypy does not accept a number in the brackets of a type. Enable it in
pyproject.toml::

    [tool.mypy]
    plugins = ["ipckit.mypy_plugin"]

Without the plugin mypy reports no error, but treats such fields as `Any`. pyright needs no plugin,
but treats `Aligned` and `At` as `Any`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy.plugin import AnalyzeTypeContext, Plugin
from mypy.types import AnyType, TypeOfAny

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy.types import Type


def _str(context: AnalyzeTypeContext) -> Type:
    return context.api.named_type("builtins.str", [])


def _bytes(context: AnalyzeTypeContext) -> Type:
    return context.api.named_type("builtins.bytes", [])


def _int(context: AnalyzeTypeContext) -> Type:
    return context.api.named_type("builtins.int", [])


def _first(context: AnalyzeTypeContext) -> Type:
    """Return the type between the brackets: that of T for ``Aligned[T, 64]``."""
    if not context.type.args:
        return AnyType(TypeOfAny.from_error)
    return context.api.analyze_type(context.type.args[0])


_HOOKS: Final = {
    "ipckit._payload.fields.Char": _str,
    "ipckit._payload.fields.Bytes": _bytes,
    "ipckit._payload.members.Aligned": _first,
    "ipckit._payload.members.At": _first,
    "ipckit._payload.members.Bits": _int,
    "ipckit._payload.members.Opaque": _bytes,
}


class _FieldsPlugin(Plugin):
    """Gives mypy the Python types of fields."""

    def get_type_analyze_hook(self, fullname: str) -> Callable[[AnalyzeTypeContext], Type] | None:
        """Return the hook for a type; None for a type that mypy knows."""
        return _HOOKS.get(fullname)


def plugin(_version: str) -> type[Plugin]:
    """Return the plugin's class; mypy calls this."""
    return _FieldsPlugin
