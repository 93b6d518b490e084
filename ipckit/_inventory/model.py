"""What the inventory tells of an IPC object, whatever its kind."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Literal, cast

from ipckit._core.public import public

Kind = Literal[
    "sysv-queue",
    "sysv-segment",
    "sysv-semaphores",
    "posix-queue",
    "posix-segment",
    "posix-semaphore",
    "channel",
    "memfd",
    "socket",
]
State = Literal["held", "used", "unknown", "orphaned"]
KINDS: Final[tuple[Kind, ...]] = (
    "sysv-queue",
    "sysv-segment",
    "sysv-semaphores",
    "posix-queue",
    "posix-segment",
    "posix-semaphore",
    "channel",
    "memfd",
    "socket",
)
# The names of files in /dev/shm: a channel's, and what glibc's sem_open(3) puts before a name.
CHANNEL_PREFIX: Final = "ipckit."
SEMAPHORE_PREFIX: Final = "sem."
PREFIXES: Final[dict[Kind, str]] = {
    "sysv-queue": "q",
    "sysv-segment": "m",
    "sysv-semaphores": "s",
    "posix-queue": "mq",
    "posix-segment": "shm",
    "posix-semaphore": "sem",
    "channel": "channel",
    "memfd": "memfd",
    "socket": "socket",
}


@public("ipckit.inventory")
@dataclass(frozen=True, slots=True)
class Process:
    """A process, and what it has to do with an object.

    Attributes:
        pid: its number, as this pid namespace counts.
        command: its command line, or its name in brackets where that is empty; "" where it is
            gone or can't be seen.
        how: what it does or did: ``"created"``, ``"sent"``, ``"received"``, ``"attached"``,
            ``"detached"``, ``"operated"`` for one on record; ``"mapped"``, ``"fd 5"``,
            ``"attached"``, ``"waits in msgrcv"`` for one that holds.
        alive: whether it runs still, and is the one on record: not a later process of that pid.
    """

    pid: int
    command: str
    how: str
    alive: bool


@public("ipckit.inventory")
@dataclass(frozen=True, slots=True)
class Use:
    """What is in an object; None where the kind has no such thing or it can't be seen.

    Attributes:
        messages: messages queued now.
        bytes: bytes of message text queued, or bytes of memory really taken.
        attached: how often a segment is attached.
        values: the values of semaphores, in order.
    """

    messages: int | None = None
    bytes: int | None = None
    attached: int | None = None
    values: tuple[int, ...] | None = None


@public("ipckit.inventory")
@dataclass(frozen=True, slots=True)
class IpcObject:
    """One IPC object. The names of the fields are stable, also in JSON.

    Attributes:
        kind: one of `KINDS`.
        name: the name of a POSIX object, the label of a memfd, the path of a socket, ``@name``
            for an abstract one; "" for a System V object.
        key: a System V object's key, 0 for a private one; None for other kinds.
        id: a System V object's identifier, an inode for other kinds.
        uid: the owner's user, or None where it can't be seen.
        gid: the owner's group, likewise.
        owner: the user's name, or the number as text where it has none.
        group: the group's name, likewise.
        mode: permission bits, or None.
        size: how large it is: a queue's most bytes, a segment's or file's bytes, how many
            semaphores; None where it has no size.
        used: what is in it.
        creator: who made it, where that is on record.
        users: who last used it, where that is on record.
        holders: the live processes that hold it or wait on it.
        times: seconds since the epoch by what happened then: ``"changed"``, ``"sent"``,
            ``"received"``, ``"attached"``, ``"detached"``, ``"operated"``, ``"modified"``.
        age: seconds since the last of `times`, or None; 0 where that is yet to come.
        state: ``"held"`` by a live process that has it or waits on it; ``"used"`` where only its
            creator or last user is known to live; ``"orphaned"`` where neither is so;
            ``"unknown"`` where that can't be seen.
        reason: why it is said to be in that state.
        unseen: what could not be seen of it.
        recognized: whether it is an IPC object for certain; false for a file of /dev/shm that
            neither its content nor its name shows to be one, and that `collect` never removes.
        details: what else the kernel tells, by the kernel's names.
        identity: what tells it from another object of the same name or id made later.
    """

    kind: Kind
    name: str
    key: int | None
    id: int
    uid: int | None
    gid: int | None
    owner: str
    group: str
    mode: int | None
    size: int | None
    used: Use = Use()
    creator: Process | None = None
    users: tuple[Process, ...] = ()
    holders: tuple[Process, ...] = ()
    times: dict[str, float] = field(default_factory=dict[str, float])
    age: float | None = None
    state: State = "unknown"
    reason: str = ""
    unseen: tuple[str, ...] = ()
    details: dict[str, int | str] = field(default_factory=dict[str, int | str])
    identity: tuple[int, ...] = ()
    recognized: bool = True

    @property
    def orphaned(self) -> bool:
        """Nobody alive holds it, waits on it or is on record as its creator or last user."""
        return self.state == "orphaned"

    @property
    def removable(self) -> bool:
        """Whether it has a name or id to remove; what has none goes with its last holder."""
        if self.kind == "socket":
            return self.name.startswith("/")
        return self.kind != "memfd" and "unlinked" not in self.details

    @property
    def creator_pids(self) -> frozenset[int]:
        """The pid of the creator; if only the last users are on record, theirs; else none."""
        if self.creator is not None:
            return frozenset({self.creator.pid})
        return frozenset(each.pid for each in self.users)

    @property
    def address(self) -> str:
        """What names this object, and no other, on the command line: ``q:5``, ``shm:/name``."""
        prefix = PREFIXES[self.kind]
        named = self.key is None and self.kind not in {"memfd", "socket"}
        if named or (self.kind == "socket" and self.name):
            return f"{prefix}:{self.name}"
        return f"{prefix}:{self.id}"

    @property
    def file_name(self) -> str:
        """The name of its file in /dev/shm or in the mqueue file system, if it has one there."""
        if self.kind == "channel":
            return f"{CHANNEL_PREFIX}{self.name}"
        prefix = SEMAPHORE_PREFIX if self.kind == "posix-semaphore" else ""
        return prefix + self.name.removeprefix("/")

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        found: dict[str, Any] = {"address": self.address}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, Process | Use):
                value = asdict(value)
            elif isinstance(value, tuple) and value and isinstance(value[0], Process):
                value = [asdict(process) for process in cast("tuple[Process, ...]", value)]
            found[each.name] = value
        del found["identity"]
        return {**found, "orphaned": self.orphaned}


@public("ipckit.inventory")
@dataclass(frozen=True, slots=True)
class Survey:
    """What exists, at one time.

    Attributes:
        objects: in the order of `KINDS`, then by id or name.
        unseen: what could not be seen at all, one line each.
        taken: when, in seconds since the epoch.
    """

    objects: tuple[IpcObject, ...]
    unseen: tuple[str, ...]
    taken: float
