"""The data classes of the inventory: objects, their use, and processes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Literal, cast, final

from ipckit._core.files import CHANNEL_PREFIX, TOPIC_PREFIX
from ipckit._core.public import public

Kind = Literal[
    "sysv-queue",
    "sysv-segment",
    "sysv-semaphores",
    "posix-queue",
    "posix-segment",
    "posix-semaphore",
    "channel",
    "topic",
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
    "topic",
    "memfd",
    "socket",
)
# The names of files from glibc's sem_open(3) begin with it. Those of musl have no prefix: nothing
# tells them from shared memory.
SEMAPHORE_PREFIX: Final = "sem."
# What precedes an object's name in the name of its file, for the kinds that add something.
FILE_PREFIXES: Final[dict[Kind, str]] = {
    "posix-semaphore": SEMAPHORE_PREFIX,
    "channel": CHANNEL_PREFIX,
    "topic": TOPIC_PREFIX,
}
PREFIXES: Final[dict[Kind, str]] = {
    "sysv-queue": "q",
    "sysv-segment": "m",
    "sysv-semaphores": "s",
    "posix-queue": "mq",
    "posix-segment": "shm",
    "posix-semaphore": "sem",
    "channel": "channel",
    "topic": "topic",
    "memfd": "memfd",
    "socket": "socket",
}


@final
@public("ipckit.inventory")
@dataclass(frozen=True, slots=True)
class Process:
    """A process that holds, used or created an object.

    Attributes:
        pid: its process id in this pid namespace.
        command: its command line, or its name in brackets if the command line is empty; "" if it
            has exited or can't be inspected.
        how: what it did, if the kernel recorded it: ``"created"``, ``"sent"``, ``"received"``,
            ``"attached"``, ``"detached"`` or ``"operated"``. How it holds the object, for a
            holder: ``"mapped"``, ``"fd 5"``, ``"attached"`` or ``"waits in msgrcv"``.
        alive: it is still running, and not a later process with the same pid.

    Example:
        >>> from ipckit import SysVMessageQueue, inventory
        >>> with SysVMessageQueue.create() as queue:
        ...     queue.send(b"hello")
        ...     survey = inventory.survey(["sysv-queue"])
        ...     (item,) = [each for each in survey.objects if each.id == queue.id]
        ...     [(user.how, user.alive) for user in item.users]
        [('sent', True)]
    """

    pid: int
    command: str
    how: str
    alive: bool


@final
@public("ipckit.inventory")
@dataclass(frozen=True, slots=True)
class PeerBridge:
    """A bridge to another machine, which has a channel or topic open as a peer.

    Attributes:
        url: the URL of the other end.
        direction: ``"send"`` if the bridge takes messages from the object, ``"receive"`` if it
            sends messages into the object.
        state: ``"starting"``, ``"connected"``, or ``"waiting"`` for the server or the other side.
        reason: why the bridge waits; "" if it does not wait.
        since: when the bridge started, in seconds since the epoch.
        changed: when its state changed last, in seconds since the epoch.
        messages: number of messages that the bridge has carried, and that are acknowledged.
        bytes: size of the packets that contained these messages.
        batches: number of these packets.
        unacknowledged: number of messages that are sent, and not acknowledged yet.
        repeated: number of messages that arrived again, and that the bridge skipped.
        uncertain: number of messages that may have been delivered twice.
        lost: number of messages of a topic that the other side did not get.
        reconnects: how often the connection was lost.

    Example:
        >>> from ipckit import inventory
        >>> peers = [peer for each in inventory.survey(["channel"]).objects for peer in each.peers]
        >>> waiting = [peer.pid for peer in peers if peer.bridge and peer.bridge.reason]
    """

    url: str
    direction: Literal["send", "receive"]
    state: Literal["starting", "connected", "waiting"]
    reason: str
    since: float
    changed: float
    messages: int = 0
    bytes: int = 0
    batches: int = 0
    unacknowledged: int = 0
    repeated: int = 0
    uncertain: int = 0
    lost: int = 0
    reconnects: int = 0


@final
@public("ipckit.inventory")
@dataclass(frozen=True, slots=True)
class Peer:
    """An open handle of a channel or topic, in any process.

    Attributes:
        pid: the process, by its id in this pid namespace if it can be seen here, else by the id in
            its own.
        command: its command line; "" if it can't be inspected.
        roles: what it is: ``"creator"``, ``"sender"`` and ``"receiver"``, or ``"publisher"`` and
            ``"subscriber"``. Without the last four it has not sent or received anything yet.
        waits: what it sleeps for: ``"message"``, ``"room"``, ``"lock"``; "" if it does not sleep.
        waiting: seconds that this call has waited; None if it does not sleep.
        since: when it opened the object, in seconds since the epoch.
        sent: the messages that it has sent or published.
        received: the messages that it has received.
        taken: the messages that it has taken and not acknowledged.
        blocks: the blocks of memory that it holds: loans, views, and messages that it has taken.
        locks: the locks that it holds: ``"send"``, ``"receive"``, ``"pool"``.
        stopped: a signal or a debugger has stopped it; false if it can't be seen.
        unread: the messages that wait for this subscriber; None for others.
        depth: the maximum number of unread messages of this subscriber; None for others.
        lost: the messages that this subscriber has lost; None for others.
        policy: what happens if this subscriber is slow: ``"wait"`` or ``"drop_oldest"``; "" for
            others.
        bridge: the bridge to another machine that it is; None for others.

    Example:
        >>> from ipckit import Channel, inventory
        >>> with Channel.create() as channel:
        ...     channel.send(b"hello")
        ...     survey = inventory.survey(["channel"])
        ...     (item,) = [each for each in survey.objects if each.name == channel.name[1:]]
        ...     [peer.sent for peer in item.peers]
        [1]
    """

    pid: int
    command: str
    roles: tuple[str, ...]
    waits: str
    waiting: float | None
    since: float
    sent: int
    received: int
    taken: int = 0
    blocks: int = 0
    locks: tuple[str, ...] = ()
    stopped: bool = False
    unread: int | None = None
    lost: int | None = None
    policy: str = ""
    depth: int | None = None
    bridge: PeerBridge | None = None


@final
@public("ipckit.inventory")
@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message in a channel or topic; `messages` returns it.

    Attributes:
        data: its bytes.
        returned: how often a receiver had taken the message and gave it back, or died.

    Example:
        >>> from ipckit import Channel, inventory
        >>> with Channel.create() as channel:
        ...     channel.send(b"hello")
        ...     survey = inventory.survey(["channel"])
        ...     (item,) = [each for each in survey.objects if each.name == channel.name[1:]]
        ...     [message.data for message in inventory.messages(item)]
        [b'hello']
    """

    data: bytes
    returned: int


@final
@public("ipckit.inventory")
@dataclass(frozen=True, slots=True)
class Use:
    """What an object contains. Each is None if the kind has none, or if it can't be read.

    Attributes:
        messages: the number of queued messages.
        bytes: bytes of queued message text, or of allocated memory.
        attached: the number of a segment's attaches, or of a socket's connections.
        values: the values of semaphores, in order.

    Example:
        >>> from ipckit import SysVMessageQueue, inventory
        >>> with SysVMessageQueue.create() as queue:
        ...     queue.send(b"hello")
        ...     survey = inventory.survey(["sysv-queue"])
        ...     (item,) = [each for each in survey.objects if each.id == queue.id]
        ...     item.used.messages, item.used.bytes
        (1, 5)
    """

    messages: int | None = None
    bytes: int | None = None
    attached: int | None = None
    values: tuple[int, ...] | None = None


@final
@public("ipckit.inventory")
@dataclass(frozen=True, slots=True)
class IpcObject:
    """One IPC object. The names of the fields are stable, also in JSON.

    Attributes:
        kind: one of `KINDS`.
        name: the name of a POSIX object, the label of a memfd, the path of a socket, ``@name``
            for an abstract socket; "" for a System V object.
        key: a System V object's key, 0 for a private object; None for other kinds.
        id: a System V object's identifier; an inode for other kinds.
        uid: the owner; None if it can't be seen.
        gid: the owner's group; None if it can't be seen.
        owner: the owner's name, or the uid as text if it has no name; "" if it can't be seen.
        group: the group's name, or the gid as text; "" if it can't be seen.
        mode: the permission bits; None if they can't be seen.
        size: the maximum bytes of a queue, the bytes of a segment or file, the number of
            semaphores of a set; None for other kinds.
        used: what it contains.
        creator: the process that created it, if the kernel recorded it.
        users: the processes that used it last, if the kernel recorded them.
        holders: the live processes that hold it or wait on it.
        times: by event, seconds since the epoch. The events are ``"changed"``, ``"sent"``,
            ``"received"``, ``"attached"``, ``"detached"``, ``"operated"`` and ``"modified"``.
        age: seconds since the last of `times`, 0 for a time in the future; None without times.
        state: ``"held"``: a live process holds it or waits on it. ``"used"``: its creator or last
            user is still running. ``"orphaned"``: neither. ``"unknown"``: neither as far as
            ipckit could see, but it could not see everything.
        reason: the evidence for the state.
        unseen: what could not be seen, one noun phrase each.
        payload: the type of the messages of a channel or topic, as text.
        peers: the handles of a channel or topic that live processes have open.
        details: all other data, by the kernel's names; of a channel or topic by those in
            docs/layout.md.
        identity: tells it from a later object of the same name or id.
        recognized: it is an IPC object for certain. False for a file in /dev/shm without evidence
            in its content, its name or a mark; `collect` never removes such a file.

    Example:
        >>> from ipckit import SysVMessageQueue, inventory
        >>> with SysVMessageQueue.create() as queue:
        ...     queue.send(b"hello")
        ...     survey = inventory.survey(["sysv-queue"])
        ...     (item,) = [each for each in survey.objects if each.id == queue.id]
        ...     item.kind, item.state, item.key == queue.key
        ('sysv-queue', 'used', True)
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
    payload: str = ""
    peers: tuple[Peer, ...] = ()
    details: dict[str, int | str] = field(default_factory=dict[str, int | str])
    identity: tuple[int, ...] = ()
    recognized: bool = True

    @property
    def orphaned(self) -> bool:
        """No live process holds it, waits on it, created it or used it last."""
        return self.state == "orphaned"

    @property
    def removable(self) -> bool:
        """It has a name or an id to remove. The kernel frees others with their last holder."""
        if self.kind == "socket":
            elsewhere = self.details.get("file") in {"missing", "elsewhere"}
            return self.name.startswith("/") and not elsewhere
        return self.kind != "memfd" and "unlinked" not in self.details

    @property
    def creator_pids(self) -> frozenset[int]:
        """The creator's pid; or the pids of the last users if no creator is recorded."""
        if self.creator is not None:
            return frozenset({self.creator.pid})
        return frozenset(each.pid for each in self.users)

    @property
    def address(self) -> str:
        r"""The address of this object on the command line: ``q:5``, ``shm:/name``.

        A command line cannot contain a NUL, which an abstract socket's name can. It is ``\x00``.
        """
        prefix = PREFIXES[self.kind]
        named = self.key is None and self.kind not in {"memfd", "socket"}
        if named or (self.kind == "socket" and self.name):
            name = self.name.replace("\0", "\\x00")
            return f"{prefix}:{name}"
        return f"{prefix}:{self.id}"

    @property
    def file_name(self) -> str:
        """The name of its file in /dev/shm or in the mqueue file system."""
        return FILE_PREFIXES.get(self.kind, "") + self.name.removeprefix("/")

    def as_dict(self) -> dict[str, Any]:
        """Return all fields as plain values, for JSON."""
        found: dict[str, Any] = {"address": self.address}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, Process | Use):
                value = asdict(value)
            elif isinstance(value, tuple) and value and isinstance(value[0], Process | Peer):
                value = [asdict(process) for process in cast("tuple[Process | Peer, ...]", value)]
            found[each.name] = value
        del found["identity"]
        return {**found, "orphaned": self.orphaned}


@final
@public("ipckit.inventory")
@dataclass(frozen=True, slots=True)
class Survey:
    """The IPC objects that existed at one time.

    Attributes:
        objects: the objects, in the order of `KINDS`, then by name or id.
        unseen: what could not be seen, one line each.
        taken: when the survey was taken, in seconds since the epoch.

    Example:
        >>> from ipckit import SysVMessageQueue, inventory
        >>> with SysVMessageQueue.create() as queue:
        ...     queue.send(b"hello")
        ...     survey = inventory.survey(["sysv-queue"])
        ...     (item,) = [each for each in survey.objects if each.id == queue.id]
        ...     len(survey.objects) >= 1
        True
    """

    objects: tuple[IpcObject, ...]
    unseen: tuple[str, ...]
    taken: float
