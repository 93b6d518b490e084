"""BridgeFile: the file of a bridge in /dev/shm, with the bridge's state, counts and journal.

The bridge writes the file, and commands such as `ipckit ls` read it. A running bridge holds a lock
on its file, so that only one bridge runs for each object, URL and direction. A killed bridge leaves
its file behind, and the next bridge continues with the journal in it.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
import struct
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from ipckit._core import processes
from ipckit._core.files import SHM, open_regular
from ipckit._core.forks import at_fork
from ipckit._core.limits import user_name
from ipckit.errors import AccessDenied, Corrupt, InUse, LimitReached, from_errno

BRIDGE_PREFIX: Final = "ipckit-bridge."  # the names of these files begin with it
Direction = Literal["send", "receive"]
State = Literal["starting", "connected", "waiting"]

BRIDGE_MAGIC: Final = b"IPCBRDG1"
_DIRECTIONS: Final[tuple[Direction, ...]] = ("send", "receive")
_STATES: Final[tuple[State, ...]] = ("starting", "connected", "waiting")
# The magic, the direction, the state, the token of the process, and the start time of the bridge.
_HEAD: Final = struct.Struct("<8sIIQQ")
_IDENTITY: Final = struct.Struct("<QQQ")  # of the object's memory: device, inode, creation
_COUNTERS: Final = struct.Struct("<8Q")
_COUNT_MAX: Final = 2**64 - 1
_NUMBER: Final = struct.Struct("<Q")
_IDENTITY_AT: Final = 32
_TOKEN_AT: Final = 16
_CHANGED_AT: Final = 56  # the time at which the state changed last
_COUNTERS_AT: Final = 64
_URL_AT, _URL_SIZE = 256, 768
_OBJECT_AT, _OBJECT_SIZE = 1024, 512
_REASON_AT, _REASON_SIZE = 1536, 1024
JOURNAL_START: Final = 4096
NO_IDENTITY: Final = (0, 0, 0)  # the bridge has not opened or created its object yet


@dataclass(slots=True)
class Counts:
    """The counts of a bridge since its start.

    Attributes:
        messages: messages that arrived on the other side, and are acknowledged.
        bytes: the size of the packets that contained these messages.
        batches: the number of these packets.
        unacknowledged: messages that are sent, and not acknowledged yet.
        repeated: messages that the engine delivered again, and that the bridge skipped.
        uncertain: messages that may have been delivered twice.
        lost: messages of a topic that the other side did not get.
        reconnects: how often the connection was lost.
    """

    messages: int = 0
    bytes: int = 0
    batches: int = 0
    unacknowledged: int = 0
    repeated: int = 0
    uncertain: int = 0
    lost: int = 0
    reconnects: int = 0

    def numbers(self) -> tuple[int, ...]:
        """Return the counts in the order of the file."""
        return (
            *(self.messages, self.bytes, self.batches, self.unacknowledged),
            *(self.repeated, self.uncertain, self.lost, self.reconnects),
        )


class BridgeFacts(NamedTuple):
    """The content of a bridge's file, without the journal.

    Attributes:
        path: the file.
        file: the device and the inode of the file.
        uid: the owner of the file.
        object: the address of the channel or topic, such as ``"channel:jobs"``.
        identity: the device, the inode and the time of creation of its memory; `NO_IDENTITY` if
            the bridge has not opened it yet.
        url: the URL to which the messages go, or from which they come.
        direction: "send" or "receive".
        state: "starting", "connected", or "waiting" for the engine or the other side.
        reason: why the bridge waits; "" if it does not wait.
        token: the token of the bridge's process; 0 if the bridge was stopped.
        since: when the bridge started, in seconds since the epoch.
        changed: when its state changed last, in seconds since the epoch.
        counts: the counts of the bridge.
    """

    path: str
    file: tuple[int, int]
    uid: int
    object: str
    identity: tuple[int, int, int]
    url: str
    direction: Direction
    state: State
    reason: str
    token: int
    since: int
    changed: int
    counts: Counts

    @property
    def runs(self) -> bool:
        """Whether its process is alive, as far as this process can see."""
        return self.token != 0 and not processes.is_dead(self.token)

    @property
    def killed(self) -> bool:
        """Whether its process certainly exited without stopping the bridge."""
        return self.token != 0 and not self.runs


class BridgeFile:
    """The file of a bridge in this process. It is created if it does not exist, locked and mapped.

    Args:
        address: the channel or topic, such as ``"channel:jobs"``.
        identity: the device, the inode and the time of creation of its memory; None for a bridge
            that does not know it yet, and calls `attach` later.
        url: the URL to which the messages go, or from which they come.
        direction: "send" or "receive".
        size: the size of the journal in bytes.

    Attributes:
        memory: the whole file, mapped. The journal begins at `JOURNAL_START`.
        fresh: whether the journal is new, because there was no file, or because the file belonged
            to another object.
        path: the path of the file.

    Raises:
        InUse: another process bridges the same object with the same URL.
        AccessDenied: the file belongs to another user.
        LimitReached: /dev/shm is full.
        Corrupt: the file is not the file of a bridge.
    """

    def __init__(
        self,
        address: str,
        identity: tuple[int, int, int] | None,
        url: str,
        direction: Direction,
        size: int,
    ) -> None:
        import hashlib  # noqa: PLC0415 - the import is slow, and `ipckit ls` does not need it

        key = f"{address}\0{identity if address.endswith(':') else ''}\0{url}\0{direction}"
        digest = hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
        self.path = f"{SHM}/{BRIDGE_PREFIX}{digest}"
        self._target = f"{address} {url}"
        self._fd = self._opened()
        _open.add(self)  # at once, because another thread may fork
        try:
            self.memory = self._mapped(JOURNAL_START + size)
        except BaseException:
            _open.discard(self)
            os.close(self._fd)
            raise
        if bytes(self.memory[: len(BRIDGE_MAGIC)]) != BRIDGE_MAGIC:
            self.memory[:] = bytes(len(self.memory))
        self.fresh = _IDENTITY.unpack_from(self.memory, _IDENTITY_AT) == NO_IDENTITY
        if identity is not None:
            self.attach(identity)
        head = (BRIDGE_MAGIC, _DIRECTIONS.index(direction), 0, processes.token(), int(time.time()))
        _HEAD.pack_into(self.memory, 0, *head)
        self._store_text(_URL_AT, _URL_SIZE, url)
        self._store_text(_OBJECT_AT, _OBJECT_SIZE, address)
        self.store_state("starting", "")
        self.store_counts(Counts())

    def _opened(self) -> int:
        """Open or create the file, and lock it."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        while True:
            try:
                fd = os.open(self.path, flags, 0o600)
            except OSError as exc:
                if exc.errno in {errno.ELOOP, errno.EISDIR}:
                    raise self._invalid() from None
                code, target = exc.errno or errno.EIO, f"{self.path}, the file of {self._target}"
                raise from_errno(code, op="open", target=target) from None
            try:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    raise self._invalid()  # noqa: TRY301 - the descriptor is closed below
                self._check_owner(fd)
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_named(fd):
                    return fd
            except BlockingIOError:
                os.close(fd)
                message = "another process bridges it already"
                raise InUse(message, errno=errno.EBUSY, op="bridge", target=self._target) from None
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # the bridge that held the lock has removed the file: try again

    def _check_owner(self, fd: int) -> None:
        """Check that this user or root owns the file.

        Raises:
            AccessDenied: another user owns it.
        """
        if (owner := os.fstat(fd).st_uid) not in {os.geteuid(), 0}:
            message = f"its file {self.path} belongs to {user_name(owner)}"
            hint = "run the bridge as that user, or remove the file"
            raise AccessDenied(
                message, errno=errno.EACCES, op="bridge", target=self._target, hint=hint
            )

    def _invalid(self) -> Corrupt:
        """Return the exception for a file that is not the file of a bridge."""
        message = f"its file {self.path} is not the file of a bridge, or was changed"
        hint = "remove the file; it records which messages a killed bridge had sent"
        return Corrupt(message, errno=errno.EUCLEAN, op="bridge", target=self._target, hint=hint)

    def _is_named(self, fd: int) -> bool:
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(fd), os.stat(self.path, follow_symlinks=False))  # noqa: PTH116
        return False

    def _mapped(self, size: int) -> mmap.mmap:
        """Set the size of a new file, and map the file.

        Raises:
            Corrupt: the file has another size.
            LimitReached: /dev/shm is full.
        """
        found = os.fstat(self._fd).st_size
        if found not in {0, size}:
            raise self._invalid()
        try:
            os.posix_fallocate(self._fd, 0, size)  # avoids a SIGBUS later if /dev/shm is full
        except OSError as exc:
            message = f"there is no room for {size:,} bytes in {SHM}"
            code = exc.errno or errno.ENOSPC
            raise LimitReached(message, errno=code, op="bridge", target=self._target) from None
        return mmap.mmap(self._fd, size)

    def attach(self, identity: tuple[int, int, int]) -> None:
        """Record the memory of the bridge's channel or topic. Empty a journal of other memory."""
        if _IDENTITY.unpack_from(self.memory, _IDENTITY_AT) != identity:
            self.fresh = True
            self.memory[JOURNAL_START:] = bytes(len(self.memory) - JOURNAL_START)
            _IDENTITY.pack_into(self.memory, _IDENTITY_AT, *identity)

    def _store_text(self, at: int, size: int, text: str) -> None:
        data = text.encode("utf-8", "replace")[: size - 1]
        self.memory[at : at + size] = data.ljust(size, b"\0")

    def store_state(self, state: State, reason: str) -> None:
        """Record the state of the bridge, and why it waits."""
        self._store_text(_REASON_AT, _REASON_SIZE, reason)
        number = _STATES.index(state)
        if state == "starting" or struct.unpack_from("<I", self.memory, 12)[0] != number:
            _NUMBER.pack_into(self.memory, _CHANGED_AT, int(time.time()))
        struct.pack_into("<I", self.memory, 12, number)

    def store_counts(self, counts: Counts) -> None:
        """Record the counts."""
        # A forged packet from another client can claim any number of lost messages.
        numbers = (min(number, _COUNT_MAX) for number in counts.numbers())
        _COUNTERS.pack_into(self.memory, _COUNTERS_AT, *numbers)

    def close(self, *, remove: bool) -> None:
        """Unmap the file and release the lock.

        Args:
            remove: remove the file first, because the next bridge does not need the journal.
        """
        if self._fd < 0:  # closed already, or a copy in a child process
            return
        _open.discard(self)
        _NUMBER.pack_into(self.memory, _TOKEN_AT, 0)  # stopped, not killed
        self.memory.close()
        if remove:
            with suppress(OSError):
                os.unlink(self.path)  # noqa: PTH108 - this module uses paths as text
        os.close(self._fd)
        self._fd = -1

    def forget(self) -> None:
        """Close this copy of the file in a child process. The bridge runs in the parent.

        The lock belongs to the open file description, which the descriptor and the mapping keep
        alive. If the child kept one of them, the bridge could not restart after the parent was
        killed.
        """
        # The file is not mapped yet, or a memoryview of the mapping exists.
        with suppress(AttributeError, BufferError):
            self.memory.close()
        os.close(self._fd)
        self._fd = -1


_open: Final[weakref.WeakSet[BridgeFile]] = weakref.WeakSet()


def _forked() -> None:
    for file in list(_open):
        file.forget()
    _open.clear()


at_fork("bridges", after_in_child=_forked)


def bridges() -> list[BridgeFacts]:
    """Return the bridges whose files this process may read, including those of dead processes."""
    found: list[BridgeFacts] = []
    try:
        names = sorted(name for name in os.listdir(SHM) if name.startswith(BRIDGE_PREFIX))  # noqa: PTH208
    except OSError:
        return found
    for name in names:
        with suppress(OSError):
            facts = facts_of(f"{SHM}/{name}")
            if facts is not None:
                found.append(facts)
    return found


def facts_of(path: str) -> BridgeFacts | None:
    """Return the content of a bridge's file; None if it is not the file of a bridge.

    Raises:
        OSError: the file can't be opened or read.
    """
    fd = open_regular(path, follow=False)
    if fd is None:
        return None
    try:
        data = os.pread(fd, JOURNAL_START, 0)
        status = os.fstat(fd)
    finally:
        os.close(fd)
    if len(data) < JOURNAL_START:
        return None
    head: tuple[bytes, int, int, int, int] = _HEAD.unpack_from(data, 0)
    magic, direction, state, token, since = head
    device, inode, created = _IDENTITY.unpack_from(data, _IDENTITY_AT)
    if magic != BRIDGE_MAGIC or direction >= len(_DIRECTIONS) or state >= len(_STATES):
        return None
    return BridgeFacts(
        path=path,
        file=(status.st_dev, status.st_ino),
        uid=status.st_uid,
        object=_text(data, _OBJECT_AT, _OBJECT_SIZE),
        identity=(device, inode, created),
        url=_text(data, _URL_AT, _URL_SIZE),
        direction=_DIRECTIONS[direction],
        state=_STATES[state],
        reason=_text(data, _REASON_AT, _REASON_SIZE),
        token=token,
        since=since,
        changed=_NUMBER.unpack_from(data, _CHANGED_AT)[0],
        counts=Counts(*_COUNTERS.unpack_from(data, _COUNTERS_AT)),
    )


def _text(data: bytes, at: int, size: int) -> str:
    return data[at : at + size].partition(b"\0")[0].decode("utf-8", "replace")
