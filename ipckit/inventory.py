"""Find the IPC objects that exist, see which processes hold them, and remove orphaned ones.

``survey(["sysv-queue"]).objects`` is the list of queues, each an `IpcObject`. `remove` removes one
object, `collect` all orphaned ones of a list. No function requires root; `Survey.unseen` says what
could not be seen.
"""

from ipckit._inventory.model import (
    KINDS,
    PREFIXES,
    IpcObject,
    Kind,
    Peer,
    Process,
    State,
    StoredMessage,
    Survey,
    Use,
)
from ipckit._inventory.survey import collect, messages, remove, select, survey

__all__ = [
    "IpcObject",
    "KINDS",
    "Kind",
    "PREFIXES",
    "Peer",
    "Process",
    "State",
    "StoredMessage",
    "Survey",
    "Use",
    "collect",
    "messages",
    "remove",
    "select",
    "survey",
]
