"""Read what a Struct class statement says: its annotations and its keywords."""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING, Any, ClassVar, get_origin

from ipckit._core.arguments import int_argument
from ipckit._payload.fields import ctype_of
from ipckit._payload.members import checked_alignment, checked_size
from ipckit._payload.placement import PACKINGS, Rules
from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

    from ipckit._payload.c_types import CType


def _annotations(namespace: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the annotations of a class body, before the class exists."""
    # From Python 3.14 on, the namespace has a function that returns them; 1 asks for their values.
    annotate = namespace.get("__annotate_func__")
    found: Mapping[str, Any] = annotate(1) if annotate else namespace.get("__annotations__", {})
    return found


def declared_types(
    cls_name: str, namespace: Mapping[str, Any], body: FrameType
) -> dict[str, CType]:
    """Return the C type of each member that a class body declares.

    Args:
        cls_name: the name of the class.
        namespace: the names of the class body.
        body: the frame of the class statement.

    Raises:
        TypeError: an annotation has no C type.
        InvalidArgument: Python reserves the name of a member.
    """
    found: dict[str, CType] = {}
    for name, raw in _annotations(namespace).items():
        annotation = _evaluated(raw, namespace, body) if isinstance(raw, str) else raw
        if isinstance(annotation, str):  # it was in quotes, and the module's annotations are text
            annotation = _evaluated(annotation, namespace, body)
        if annotation is ClassVar or get_origin(annotation) is ClassVar:
            continue
        if name.startswith("__") and name.endswith("__"):
            message = f"{cls_name}.{name}: Python reserves names that start and end with __"
            raise InvalidArgument(message, errno=errno.EINVAL)
        try:
            found[name] = ctype_of(annotation)
        except TypeError as error:
            message = f"{cls_name}.{name}: {error}"
            raise TypeError(message) from None
    return found


def _evaluated(annotation: str, namespace: Mapping[str, Any], body: FrameType) -> object:
    """Return an annotation that `from __future__ import annotations` left as text.

    `typing.get_type_hints` can't do this: it takes only types, and ``Char[32]`` is a `CType`. Only
    the frame knows the local names of a function in which the class is defined.
    """
    module = sys.modules.get(namespace.get("__module__", ""))
    scope = {**(vars(module) if module else {}), **body.f_locals, **namespace}
    return eval(annotation, scope)  # noqa: S307 - the text of the class body itself


def checked_rules(*, union: bool, packed: object, align: object, size: object) -> Rules:
    """Return the rules for the keywords of a class statement.

    Raises:
        InvalidArgument: a value is out of range.
        TypeError: a value is not an int.
    """
    packing = int(packed) if isinstance(packed, bool) else int_argument("packed", packed)
    if packing not in PACKINGS:
        message = f"packed must be True, False, 2, 4, 8 or 16, not {packing}"
        raise InvalidArgument(message, errno=errno.EINVAL)
    return Rules(union, packing, checked_alignment("align", align), checked_size(size))
