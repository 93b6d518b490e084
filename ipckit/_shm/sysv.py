"""SysVSharedMemory: a System V segment, found by a key or an id, attached to this process."""

from __future__ import annotations

import errno
import resource
from contextlib import suppress
from typing import Any, Self, final

import ipckit._native as native
from ipckit._core.construct import construct
from ipckit._core.deadline import Deadline
from ipckit._core.handle import checked_mode
from ipckit._core.limits import described, soft_limit, sysctl
from ipckit._core.making import PATIENCE, find_or_make
from ipckit._core.public import public
from ipckit._core.sysv import SysVObject
from ipckit._core.taken import UNKNOWN, Use, exists
from ipckit._core.trust import Trust
from ipckit._shm.allocation import checked_size
from ipckit._shm.mapping import mapping_at
from ipckit._shm.memory import Memory
from ipckit._shm.stat import SEGMENTS, SysVSharedMemoryStat
from ipckit.errors import (
    AlreadyExists,
    InvalidArgument,
    IpcError,
    LimitReached,
    Removed,
    from_errno,
)
from ipckit.keys import Key


@final
@public("ipckit.shm")
class SysVSharedMemory(SysVObject, Memory):
    """A System V shared memory segment, attached to this process.

    Create one with `create`, `open`, `open_or_create` or `from_id`. New memory is zeros. An
    unlinked segment stays until the last process detaches it. Until then its id still finds it, but
    its key does not. With ``create(…, unlink_after_attach=True)`` a crash leaves no segment behind:
    pass its `id` to the other processes.

    Example:
        >>> from ipckit import SysVSharedMemory
        >>> with SysVSharedMemory.create(size=4096, unlink_after_attach=True) as segment:
        ...     segment.write(b"hello")
        ...     with SysVSharedMemory.from_id(segment.id) as again:
        ...         again.read(5), again.attached
        5
        (b'hello', 2)

    See shmget(2), shmop(2) and shmctl(2).
    """

    _factories = "SysVSharedMemory.create, open, open_or_create or from_id"

    _table = SEGMENTS

    def __init__(
        self, segment: int, key: Key | None, mapping: native.Mapping, *, owner: bool
    ) -> None:
        self._ident = segment
        self._key = key
        super().__init__(mapping, owner=owner)

    # -- creating and opening ----------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        key: int | None = None,
        size: int | None = None,
        *,
        mode: int = 0o600,
        unlink_after_attach: bool = False,
    ) -> Self:
        """Create a segment of zeros; the handle owns it.

        Args:
            key: the segment's key; None (the default) picks a free one.
            size: bytes, 1 or more; required.
            mode: permission bits, 0 to 0o777, by default 0o600; the umask has no effect.
            unlink_after_attach: unlink the segment at once, by default False. Other processes can
                still attach it by its `id` while at least one has it attached. The kernel frees it
                with the last detach, even after a crash.

        Returns:
            The handle. Leaving its ``with`` block unlinks the segment.

        Raises:
            AlreadyExists: the key is in use.
            Removed: another process removed the segment before it was attached.
            LimitReached: `size` exceeds kernel.shmmax, or kernel.shmmni, kernel.shmall or the
                memory is exhausted.
            TypeError: `size` is missing, or an argument has the wrong type.
            InvalidArgument: `key`, `size` or `mode` is out of range.

        See shmget(2).
        """
        wanted_size = checked_size(size)
        checked_mode(mode)
        segment, wanted = _create_segment(key, wanted_size, mode)
        target = SEGMENTS.named(segment, wanted)
        try:
            # A mode that denies the owner access applies to later attaches, not to `create` itself.
            narrow = mode & 0o600 != 0o600  # noqa: PLR2004 - read and write of the owner
            if narrow:
                native.shm_set(segment, *_owner_of(segment), 0o600)
            mapping = _attach(segment, target)
            if narrow:
                native.shm_set(segment, *_owner_of(segment), mode)
            if unlink_after_attach:
                _remove_segment(segment)
            return construct(
                cls,
                segment,
                None if unlink_after_attach else wanted,
                mapping,
                owner=not unlink_after_attach,
            )
        except BaseException as exc:
            _remove_segment(segment)
            if isinstance(exc, OSError) and not isinstance(exc, IpcError):
                raise SEGMENTS.error(exc, segment, target) from None
            raise

    @classmethod
    def open(
        cls,
        key: int,
        *,
        readonly: bool = False,
        address: int | None = None,
        round_down: bool = False,
        remap: bool = False,
    ) -> Self:
        """Attach an existing segment by its key; never creates or owns it.

        Args:
            key: the segment's key.
            readonly: attach it for reading only (SHM_RDONLY), by default False.
            address: where to attach it, a multiple of the page size; None (the default) lets the
                kernel choose. Processes attach it at different addresses, so share offsets instead.
            round_down: round `address` down to a multiple of the page size (SHM_RND), by default
                False.
            remap: replace the mapping at `address` (SHM_REMAP), by default False. It must be the
                mapped file or the anonymous memory of another ipckit handle, with the same number
                of pages and without views. That handle is closed.

        Raises:
            NotFound: there is no segment of that key.
            AccessDenied: the segment's mode forbids it.
            LimitReached: no address space is left, or vm.max_map_count is reached.
            InvalidArgument: `key` or `address` is out of range; `address` is in use or not a
                multiple of the page size; or `remap` is true, and there is no such mapping at
                `address`.

        See shmop(2).
        """
        wanted = Key(key)
        while True:
            segment = _get(wanted, 0, 0)
            try:
                mapping = _attach(
                    segment,
                    SEGMENTS.named(segment, wanted),
                    readonly=readonly,
                    address=address,
                    round_down=round_down,
                    remap=remap,
                )
            except Removed:
                continue  # between the two calls: look up the key again
            return construct(cls, segment, wanted, mapping, owner=False)

    @classmethod
    def open_or_create(
        cls,
        key: int,
        size: int,
        *,
        mode: int = 0o600,
        timeout: float | None = PATIENCE,
        owner_uid: int | None = None,
    ) -> Self:
        """Attach a segment, or create it; the handle owns it only if it created it.

        Args:
            key: the segment's key.
            size: bytes of a new segment, and the least size of an existing one.
            mode: permission bits of a new segment, by default 0o600. An existing segment must not
                give other users more rights.
            timeout: seconds to retry while other processes create and remove the segment, by
                default 1; None retries for ever.
            owner_uid: a user whose segment is accepted, besides this user and root.

        Raises:
            InvalidArgument: the existing segment is smaller than `size`.
            AccessDenied: the owner or the creator of the existing segment is another user, or it
                gives other users more rights than `mode`; also as for `create` and `open`.
            Timeout: other processes created and removed it until the deadline.
            IpcError: as for `create` and `open`.

        See shmget(2).
        """
        deadline = Deadline(timeout)
        wanted, trust = Key(key), Trust(owner_uid, checked_mode(mode))

        found = find_or_make(
            lambda: cls.create(key, size, mode=mode),
            lambda: cls._trusted(wanted, trust),
            deadline,
            op="shmget",
            target=SEGMENTS.named(None, wanted),
            removed="removed",
        )
        if found.size < size:
            found.close()
            message = f"the segment has {found.size:,} bytes, and {size:,} were requested"
            raise InvalidArgument(message, errno=errno.EINVAL, target=found._target)
        return found

    @classmethod
    def _trusted(cls, key: Key, trust: Trust) -> Self:
        segment = _get(key, 0, 0)
        target = SEGMENTS.named(segment, key)
        trust.check_sysv(SEGMENTS.present(segment, key), op="shmget", target=target)
        return construct(cls, segment, key, _attach(segment, target), owner=False)

    @classmethod
    def from_id(
        cls,
        id: int,
        *,
        readonly: bool = False,
        address: int | None = None,
        round_down: bool = False,
    ) -> Self:
        """Attach a segment by its identifier; never owns it.

        This also finds an unlinked segment that a process still has attached.

        Args:
            id: the identifier that shmget(2) returned, in this process or another.
            readonly: as in `open`.
            address: as in `open`.
            round_down: as in `open`.

        Raises:
            NotFound: there is no segment of that id.
            AccessDenied: the segment's mode forbids it.
            TypeError: `id` is not an int.
            InvalidArgument: `id` is out of range, or as for `open`.

        See shmop(2).
        """
        _, key = SEGMENTS.given(id)
        mapping = _attach(
            id, SEGMENTS.named(id, key), readonly=readonly, address=address, round_down=round_down
        )
        return construct(cls, id, key, mapping, owner=False)

    # -- facts and changes -------------------------------------------------------------------------

    def stat(self) -> SysVSharedMemoryStat:
        """Return the segment's state: every field of shmid_ds.

        Works on a closed handle too, while the segment exists.

        Raises:
            Removed: the segment was removed.
            AccessDenied: the caller may not read it.

        See shmctl(2), IPC_STAT.
        """
        return SEGMENTS.look(self._ident, self._target)

    @property
    def attached(self) -> int:
        """The number of attaches by all processes together; 0 after the segment was removed."""
        found = SEGMENTS.find(self._ident)
        return 0 if found is None else found.nattch

    def lock(self) -> None:
        """Keep the segment's pages in memory, out of swap, until `unlock`.

        Raises:
            LimitReached: RLIMIT_MEMLOCK is reached.
            AccessDenied: the caller is neither owner nor creator.
            Removed: the segment was removed.
            ClosedHandle: the handle is closed.

        See shmctl(2), SHM_LOCK.
        """
        self._control(native.SHM_LOCK)

    def unlock(self) -> None:
        """Allow the kernel to swap out the segment's pages again.

        Raises:
            AccessDenied: the caller is neither owner nor creator.
            Removed: the segment was removed.
            ClosedHandle: the handle is closed.

        See shmctl(2), SHM_UNLOCK.
        """
        self._control(native.SHM_UNLOCK)

    def _apply(self, status: SysVSharedMemoryStat) -> None:
        native.shm_set(self._ident, status.uid, status.gid, status.mode)

    def _control(self, command: int) -> None:
        self._check_open("shmctl")
        try:
            native.shm_control(self._ident, command)
        except OSError as exc:
            raise self._control_error(exc, command) from None

    def _control_error(self, exc: OSError, command: int = 0) -> IpcError:
        code = exc.errno or errno.EIO
        found = SEGMENTS.find(self._ident)
        if found is None:
            return SEGMENTS.removed(self._target)
        if command == native.SHM_LOCK:
            limit = soft_limit(resource.RLIMIT_MEMLOCK)
            if code == errno.ENOMEM or (code == errno.EPERM and limit == "0"):
                message = (
                    f"{found.segsz:,} bytes and the locked memory exceed RLIMIT_MEMLOCK ({limit})"
                )
                hint = "raise the limit with ulimit -l"
                return LimitReached(
                    message, errno=code, op="shmctl", target=self._target, hint=hint
                )
        return super()._control_error(exc)

    # -- lifecycle ---------------------------------------------------------------------------------

    @staticmethod
    def _find(key: Key) -> int:
        return native.shmget(int(key), 0, 0)

    @staticmethod
    def _rmid(ident: int) -> None:
        native.shm_control(ident, native.IPC_RMID)

    def _reopen_args(self) -> tuple[Any, ...]:
        return (self._ident, self.readonly)

    @classmethod
    def _reopen(cls, *args: Any) -> Self:
        segment, readonly = args
        return cls.from_id(segment, readonly=readonly)


def _owner_of(segment: int) -> tuple[int, int]:
    """Return the user and the group that own a segment."""
    found = SEGMENTS.find(segment)
    if found is None:
        raise from_errno(errno.EIDRM, op="shmctl", target=SEGMENTS.named(segment, None))
    return found.uid, found.gid


def _remove_segment(segment: int) -> None:
    with suppress(OSError):  # another process may have removed it
        native.shm_control(segment, native.IPC_RMID)


def _create_segment(key: int | None, size: int, mode: int) -> tuple[int, Key]:
    """Create a segment, with a free key if `key` is None; return its id and its key."""
    flags = native.IPC_CREAT | native.IPC_EXCL | mode
    while True:
        wanted = Key.random() if key is None else Key(key)
        try:
            return _get(wanted, size, flags), wanted
        except AlreadyExists:
            if key is not None:
                raise


def _get(key: Key, size: int, flags: int) -> int:
    """Return the id that shmget(2) gives for a key."""
    try:
        return native.shmget(int(key), size, flags)
    except OSError as exc:
        raise _get_error(exc.errno or errno.EIO, key, size, creating=bool(flags)) from None


def _use(key: Key) -> Use:
    """Return whether a process has the segment of a key attached."""
    try:
        found = SEGMENTS.find(native.shmget(int(key), 0, 0))
    except OSError:
        found = None
    if found is None:
        return UNKNOWN
    if found.nattch:
        return Use(held=True, evidence="a process has it attached")
    return Use(held=False, evidence="no process has it attached")


def _get_error(code: int, key: Key, size: int, *, creating: bool) -> IpcError:
    """Return the error for an errno of shmget(2)."""
    target = SEGMENTS.named(None, key)
    message = hint = ""
    if code == errno.ENOENT:
        message = "no such segment"
        hint = f"create it with SysVSharedMemory.create({key}, size)"
    elif code == errno.EEXIST:
        message, hint = exists("segment", "SysVSharedMemory", f"{int(key):#x}", _use(key))
    elif code == errno.EINVAL and creating:
        message = f"{size:,} bytes exceed {described('kernel.shmmax')}"
        hint = f"as root: sysctl kernel.shmmax={size}"
        return LimitReached(message, errno=code, op="shmget", target=target, hint=hint)
    elif code == errno.ENOSPC:
        shmmni, shmall = described("kernel.shmmni"), described("kernel.shmall")
        message = f"the system has as many segments as {shmmni} allows, or {size:,} bytes and "
        message += f"the other segments exceed the pages of {shmall}"
        hint = "remove some with ipcrm, or as root raise the sysctl"
    elif code == errno.ENOMEM:
        overcommit = sysctl("vm.overcommit_memory")
        message = f"no memory for {size:,} bytes (vm.overcommit_memory is {overcommit})"
    return from_errno(code, op="shmget", target=target, message=message, hint=hint)


def _attach(
    segment: int,
    target: str,
    *,
    readonly: bool = False,
    address: int | None = None,
    round_down: bool = False,
    remap: bool = False,
) -> native.Mapping:
    """Attach a segment; the arguments are those of `SysVSharedMemory.open`. See shmat(2)."""
    if address is not None and not 0 < address < 2**63:
        message = f"address must be 1 to {2**63 - 1:#x}, not {address:#x}"
        raise InvalidArgument(message, errno=errno.EINVAL, op="shmat", target=target)
    replaced: native.Mapping | None = None
    if remap:
        replaced = mapping_at(address) if address is not None else None
        if replaced is None:
            message = "remap can replace only a mapping of ipckit, and none starts at the address"
            raise InvalidArgument(message, errno=errno.EINVAL, op="shmat", target=target)
    flags = native.SHM_RDONLY if readonly else 0
    flags |= native.SHM_RND if round_down else 0
    flags |= native.SHM_REMAP if remap else 0
    try:
        return native.shmat(segment, address or 0, flags, replaced)
    except (BufferError, ValueError) as exc:
        raise InvalidArgument(str(exc), errno=errno.EINVAL, op="shmat", target=target) from None
    except PermissionError:
        raise SEGMENTS.denied(segment, target, op="shmat") from None
    except OSError as exc:
        code = exc.errno or errno.EIO
    raise _attach_error(code, segment, target, address)


def _attach_error(code: int, segment: int, target: str, address: int | None) -> IpcError:
    """Return the error for an errno of shmat(2)."""
    message = hint = ""
    if code == errno.EINVAL and SEGMENTS.find(segment) is None:
        code = errno.EIDRM
    elif code == errno.EINVAL and address is not None:
        message = f"address {address:#x} is in use, or not a multiple of the page size"
        hint = "round_down=True rounds it; None lets the kernel choose"
    elif code == errno.ENOMEM:
        limit = described("vm.max_map_count")
        message = f"no address space for the segment, or the process has {limit} mappings"
    return from_errno(code, op="shmat", target=target, message=message, hint=hint)
