"""The hint for a library that is not installed."""

from __future__ import annotations

import errno
import importlib
from typing import Any

from ipckit.errors import NotFound


def needs(module: str, package: str, extra: str) -> Any:
    """Import a library of an engine.

    Args:
        module: the module to import.
        package: the package that has it.
        extra: the extra of ipckit that installs it.

    Raises:
        NotFound: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as exc:
        if exc.name != module:
            raise
    message = f"the package {package} is not installed"
    hint = f"pip install {package}, or in a checkout pip install '.[{extra}]'"
    raise NotFound(message, errno=errno.ENOENT, op="bridge", target=module, hint=hint)
