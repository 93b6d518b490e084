"""What IPC objects exist, who holds them, and which are left over.

``survey(["sysv-queue"]).objects`` are the queues, each an `IpcObject`; `remove` takes one away if
nobody alive holds it. Nothing here takes root; what could not be seen is said.
"""

from ipckit._inventory.model import KINDS, PREFIXES, IpcObject, Kind, Process, State, Survey, Use
from ipckit._inventory.survey import collect, remove, select, survey

__all__ = [
    "IpcObject",
    "KINDS",
    "Kind",
    "PREFIXES",
    "Process",
    "State",
    "Survey",
    "Use",
    "collect",
    "remove",
    "select",
    "survey",
]
