"""System V shared memory."""

from __future__ import annotations

import errno
import resource
from contextlib import suppress
from typing import Any, Self

import ipckit._native as native
from ipckit._core.construct import construct
from ipckit._core.deadline import Deadline
from ipckit._core.handle import checked_mode
from ipckit._core.limits import described, soft_limit, sysctl
from ipckit._core.making import PATIENCE, find_or_make
from ipckit._core.public import public
from ipckit._core.sysv import SysVObject
from ipckit._core.trust import Trust
from ipckit._shm.mapping import mapping_at
from ipckit._shm.memory import Memory, checked_size
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


@public("ipckit.shm")
class SysVSharedMemory(SysVObject, Memory):
    """A System V shared memory segment, attached to this process.

    Make one with `create`, `open`, `open_or_create` or `from_id`. Fresh memory is zeros. An
    unlinked segment stays for those who have it attached, and goes with the last of them; until
    then its id, but not its key, still finds it. So ``create(…, unlink_after_attach=True)`` gives
    memory that no crash leaves behind: hand its `id` to the others.

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

    # -- making and finding ------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        key: int | None = None,
        size: int | None = None,
        *,
        mode: int = 0o600,
        unlink_after_attach: bool = False,
    ) -> Self:
        """Make a new segment of zeros, which the handle owns.

        Args:
            key: the key to find it by; None picks a free one.
            size: bytes, 1 or more; required.
            mode: permission bits, 0 to 0o777; the umask has no say.
            unlink_after_attach: unlink it at once. Others attach by its `id`, while somebody has
                it attached, and nothing is left when the last is gone, however that happens.

        Raises:
            AlreadyExists: there is a segment of that key.
            Removed: another process has removed it already.
            LimitReached: `size` is above kernel.shmmax, or kernel.shmmni, kernel.shmall or memory
                is used up.
            InvalidArgument: `key`, `size` or `mode` is out of range.

        See shmget(2).
        """
        wanted_size = checked_size(size)
        checked_mode(mode)
        segment, wanted = cls._make(key, wanted_size, mode)
        target = SEGMENTS.named(segment, wanted)
        try:
            # A mode that keeps the creator out is for those who come later.
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

    @staticmethod
    def _make(key: int | None, size: int, mode: int) -> tuple[int, Key]:
        flags = native.IPC_CREAT | native.IPC_EXCL | mode
        while True:
            wanted = Key.random() if key is None else Key(key)
            try:
                return _get(wanted, size, flags), wanted
            except AlreadyExists:
                if key is not None:
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
        """Find a segment by its key and attach it; never makes one, never owns it.

        Args:
            key: the segment's key.
            readonly: attach for reading only (SHM_RDONLY).
            address: where to attach it, a multiple of the page size; by default where the kernel
                likes. It differs from process to process: share offsets, not addresses.
            round_down: round `address` down to a page border (SHM_RND).
            remap: take the place of what is mapped at `address` (SHM_REMAP). That must be another
                ipckit handle's mapped file or anonymous memory of as many pages, which nothing
                looks at; that handle is closed by it.

        Raises:
            NotFound: there is no segment of that key.
            AccessDenied: the mode forbids it.
            InvalidArgument: `key` or `address` is out of range, `address` is in use or not on a
                page border, or `remap` without an address or over something else.

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
                continue  # between the two calls; the key leads to another one, or to none
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
        """Find a segment, or make it; the handle owns it only if it made it.

        Args:
            key: the segment's key.
            size: bytes of a segment that is made, and the least of one that is found.
            mode: permission bits of a segment that is made, and the widest of one that is found.
            timeout: seconds to keep trying while others make and remove it meanwhile.
            owner_uid: a user whose segment is accepted beside this user's and root's.

        Raises:
            InvalidArgument: the segment that is there is smaller than `size`.
            AccessDenied: the segment that is there belongs to another user or was made by one, or
                lets other users do more than `mode`; also as `create` and `open`.
            Timeout: others made and removed it until the deadline.
            IpcError: as `create` and `open`.
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
            message = f"the segment has {found.size:,} bytes, and {size:,} are wanted"
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
        """Attach a segment whose identifier came from elsewhere; never owns it.

        An unlinked segment that somebody has attached is found too.

        Args:
            id: what shmget gave, in this process or another.
            readonly: as in `open`.
            address: as in `open`.
            round_down: as in `open`.

        Raises:
            NotFound: there is no segment of that id.
            AccessDenied: the mode forbids it.
            InvalidArgument: `id` is out of range, or as in `open`.
        """
        _, key = SEGMENTS.given(id)
        mapping = _attach(
            id, SEGMENTS.named(id, key), readonly=readonly, address=address, round_down=round_down
        )
        return construct(cls, id, key, mapping, owner=False)

    # -- facts and changes -------------------------------------------------------------------------

    def stat(self) -> SysVSharedMemoryStat:
        """What the kernel knows of the segment: every field of shmid_ds.

        Works on a closed handle too, while the segment exists.

        Raises:
            Removed: the segment is gone.
            AccessDenied: the caller may not read it.

        See shmctl(2), IPC_STAT.
        """
        return SEGMENTS.look(self._ident, self._target)

    @property
    def attached(self) -> int:
        """How often the segment is attached now, by all processes together; 0 once it is gone."""
        found = SEGMENTS.find(self._ident)
        return 0 if found is None else found.nattch

    def lock(self) -> None:
        """Keep the segment's pages in memory, never in swap.

        Raises:
            LimitReached: RLIMIT_MEMLOCK is used up.
            AccessDenied: the caller is neither owner nor creator.
            Removed: the segment is gone.

        See shmctl(2), SHM_LOCK.
        """
        self._control(native.SHM_LOCK)

    def unlock(self) -> None:
        """Let the segment's pages go to swap again.

        Raises:
            AccessDenied: the caller is neither owner nor creator.
            Removed: the segment is gone.
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
                    f"{found.segsz:,} bytes and what is locked exceed RLIMIT_MEMLOCK ({limit})"
                )
                hint = "raise it with ulimit -l"
                return LimitReached(
                    message, errno=code, op="shmctl", target=self._target, hint=hint
                )
        return super()._control_error(exc)

    # -- lifecycle ---------------------------------------------------------------------------------

    def _rmid(self) -> None:
        native.shm_control(self._ident, native.IPC_RMID)

    def _reopen_args(self) -> tuple[Any, ...]:
        return (self._ident, self.readonly)

    @classmethod
    def _reopen(cls, *args: Any) -> Self:
        segment, readonly = args
        return cls.from_id(segment, readonly=readonly)


def _owner_of(segment: int) -> tuple[int, int]:
    found = SEGMENTS.find(segment)
    if found is None:
        raise from_errno(errno.EIDRM, op="shmctl", target=SEGMENTS.named(segment, None))
    return found.uid, found.gid


def _remove_segment(segment: int) -> None:
    with suppress(OSError):  # another process has removed it
        native.shm_control(segment, native.IPC_RMID)


def _get(key: Key, size: int, flags: int) -> int:
    """The id that shmget gives for a key, or the error that says what to do."""
    try:
        return native.shmget(int(key), size, flags)
    except OSError as exc:
        code = exc.errno or errno.EIO
    error = from_errno(code, op="shmget", target=SEGMENTS.named(None, key))
    if code == errno.ENOENT:
        error.strerror = "no such segment"
        error.hint = f"make it with SysVSharedMemory.create({key}, size)"
    elif code == errno.EEXIST:
        error.strerror = "the segment exists already"
        error.hint = f"find it with SysVSharedMemory.open({key}), or use open_or_create"
    elif code == errno.EINVAL and flags:
        message = f"{size:,} bytes exceed {described('kernel.shmmax')}"
        hint = f"as root: sysctl kernel.shmmax={size}"
        raise LimitReached(message, errno=code, op="shmget", target=error.target, hint=hint)
    elif code == errno.ENOSPC:
        shmmni, shmall = described("kernel.shmmni"), described("kernel.shmall")
        error.strerror = f"the system has all the segments that {shmmni} allows, or {size:,} bytes "
        error.strerror += f"and the others exceed {shmall} pages"
        error.hint = "remove some with ipcrm, or as root raise the sysctl"
    elif code == errno.ENOMEM:
        overcommit = sysctl("vm.overcommit_memory")
        error.strerror = f"no memory for {size:,} bytes (vm.overcommit_memory is {overcommit})"
    raise error


def _attach(
    segment: int,
    target: str,
    *,
    readonly: bool = False,
    address: int | None = None,
    round_down: bool = False,
    remap: bool = False,
) -> native.Mapping:
    if address is not None and not 0 < address < 2**63:
        message = f"address is {address:#x}; it takes 1 to {2**63 - 1:#x}"
        raise InvalidArgument(message, errno=errno.EINVAL, op="shmat", target=target)
    over: native.Mapping | None = None
    if remap:
        over = mapping_at(address) if address is not None else None
        if over is None:
            message = "remap takes the place of an ipckit mapping that starts at the given address"
            raise InvalidArgument(message, errno=errno.EINVAL, op="shmat", target=target)
    flags = native.SHM_RDONLY if readonly else 0
    flags |= native.SHM_RND if round_down else 0
    flags |= native.SHM_REMAP if remap else 0
    try:
        return native.shmat(segment, address or 0, flags, over)
    except (BufferError, ValueError) as exc:
        raise InvalidArgument(str(exc), errno=errno.EINVAL, op="shmat", target=target) from None
    except PermissionError:
        raise SEGMENTS.denied(segment, target, op="shmat") from None
    except OSError as exc:
        code = exc.errno or errno.EIO
        error = from_errno(code, op="shmat", target=target)
    if code == errno.EINVAL and SEGMENTS.find(segment) is None:
        raise from_errno(errno.EIDRM, op="shmat", target=target)
    if code == errno.EINVAL and address is not None:
        error.strerror = f"address {address:#x} is in use, or not on a page border"
        error.hint = "round_down=True rounds it; None lets the kernel choose"
    elif code == errno.ENOMEM:
        limit = described("vm.max_map_count")
        error.strerror = f"no address space for it, or the process has {limit} mappings"
    raise error
