"""The function of the children in test_contract.py, in a module that is imported fast."""

from __future__ import annotations

import os
from typing import Any


def work(todo: Any, done: Any) -> None:
    """Double each number until STOP arrives."""
    for value in iter(todo.get, "STOP"):
        done.put((os.getpid(), value * 2))
