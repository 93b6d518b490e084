"""Import the library of an engine, or raise an error that says how to install it."""

from __future__ import annotations

import errno
import importlib
from typing import Any

from ipckit.errors import NotFound


def import_library(module: str, package: str, extra: str) -> Any:
    """Import a library of an engine.

    Args:
        module: the module to import.
        package: the package that contains the module.
        extra: the extra of ipckit that installs the package.

    Returns:
        The module.

    Raises:
        NotFound: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as exc:
        if exc.name != module:
            raise
    message = f"the package {package} is not installed"
    hint = f"pip install {package}, or in a checkout pip install '.[{extra}]'"
    raise NotFound(message, errno=errno.ENOENT, op="bridge", target=module, hint=hint)
