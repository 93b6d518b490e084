"""Find the IPC objects that exist, see which processes hold them, and remove orphaned ones.

``survey(["sysv-queue"]).objects`` is the list of queues, each an `IpcObject`. `remove` removes one
object, `collect` all orphaned ones of a list. `survey_processes` lists the processes, with what
each holds and waits on. No function requires root; `Survey.unseen` says what could not be seen.
"""

from ipckit._inventory.model import (
    KINDS,
    PREFIXES,
    IpcObject,
    Kind,
    Peer,
    PeerBridge,
    Process,
    State,
    StoredMessage,
    Survey,
    Use,
)
from ipckit._inventory.survey import collect, messages, remove, select, survey
from ipckit._inventory.waits import (
    Edge,
    Held,
    ProcessSurvey,
    ProcessUse,
    Wait,
    edges,
    survey_processes,
)

__all__ = [
    "Edge",
    "Held",
    "IpcObject",
    "KINDS",
    "Kind",
    "PREFIXES",
    "Peer",
    "PeerBridge",
    "Process",
    "ProcessSurvey",
    "ProcessUse",
    "State",
    "StoredMessage",
    "Survey",
    "Use",
    "Wait",
    "collect",
    "edges",
    "messages",
    "remove",
    "select",
    "survey",
    "survey_processes",
]
