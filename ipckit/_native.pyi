# The extension module; each section is one C file.

import sys
from collections.abc import Callable, Iterable, Iterator
from types import GenericAlias
from typing import Any, Final, Generic, Self, SupportsIndex, final, overload

from typing_extensions import Buffer, TypeVar, disjoint_base

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True, default=bytes)
_HolderT = TypeVar("_HolderT", bound=LeaseHolder)

# native/errors.c

class CallFailed(OSError): ...  # noqa: N818 - the user never sees it
class BadArgument(ValueError): ...  # noqa: N818

# native/records/struct_layout.c

@final
class Layout:
    def __new__(
        cls,
        size: int,
        fields: tuple[Field, ...],
        defaults: dict[str, Any],
        modes: bytes | None = None,
        measure: Callable[[tuple[Any, ...], dict[str, Any] | None], int] | None = None,
        minimum: int = -1,
    ) -> Layout: ...
    @property
    def size(self) -> int: ...
    @property
    def minimum(self) -> int: ...
    @property
    def fields(self) -> tuple[Field, ...]: ...
    @property
    def defaults(self) -> dict[str, Any]: ...
    @property
    def modes(self) -> bytes | None: ...
    @property
    def measure(self) -> Callable[[tuple[Any, ...], dict[str, Any] | None], int] | None: ...

# native/records/field.c

RECORD_SIZE_MAX: Final[int]

@final
class Field:
    def __new__(
        cls,
        name: str,
        code: str,
        offset: int,
        size: int,
        swap: bool = False,
        type: Any = None,
        first_bit: int = 0,
        width: int = 0,
    ) -> Field: ...
    @property
    def name(self) -> str: ...
    @property
    def offset(self) -> int: ...
    @property
    def size(self) -> int: ...
    def __get__(self, instance: Any, owner: Any = None, /) -> Any: ...
    def __set__(self, instance: Any, value: Any, /) -> None: ...
    def __delete__(self, instance: Any, /) -> None: ...

# native/records/struct_base.c

@disjoint_base
class Record:
    def __init__(self, /, *args: Any, **kwargs: Any) -> None: ...
    if sys.version_info >= (3, 12):
        def __buffer__(self, flags: int, /) -> memoryview: ...

def record_from_bytes(cls: type[_T], data: Buffer, /) -> _T: ...
def record_from_buffer(cls: type[_T], buffer: Buffer, offset: int = 0) -> _T: ...

# native/records/typedefs.c

TYPEDEFS: Final[dict[str, tuple[str, int, int]]]  # name: code (i or u), size, alignment in bytes

# native/records/foreign.c

def check_array(value: object, /) -> None: ...

# native/queues/message.c

@final
class Message(Generic[_T_co]):
    __match_args__: Final = ("value", "mtype")

    @property
    def value(self) -> _T_co: ...
    @property
    def mtype(self) -> int: ...
    @property
    def priority(self) -> int: ...
    @property
    def truncated(self) -> bool: ...
    def __new__(
        cls, value: _T_co, mtype: int = 0, priority: int = 0, truncated: bool = False
    ) -> Message[_T_co]: ...
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

def message(value: _T, mtype: int, priority: int, truncated: bool, /) -> Message[_T]: ...

# native/queues/message_form.c

@final
class MessageForm:
    def __new__(cls, record_type: type[Record], typed: bool, end: int, /) -> MessageForm: ...
    @property
    def head(self) -> int: ...
    @property
    def longest(self) -> int: ...
    def decode(self, mtype: int, text: Buffer, /) -> Any: ...

# native/queues/sysv_msg.c

IPC_STAT: Final[int]
IPC_INFO: Final[int]
IPC_NOWAIT: Final[int]
MSG_STAT: Final[int]
MSG_STAT_ANY: Final[int]
MSG_INFO: Final[int]
MSG_NOERROR: Final[int]
MSG_EXCEPT: Final[int]
MSG_COPY: Final[int]
WAIT_MARK: Final[int]
WAIT_RECEIVES: Final[int]

def msgsnd(id: int, mtype: int | None, data: Buffer, timeout: float | None, /) -> None: ...
def msgrcv(
    id: int,
    select: int,
    flags: int,
    size: int,
    timeout: float | None,
    form: MessageForm | None,
    /,
) -> Message[Any]: ...
def msgget(key: int, flags: int, /) -> int: ...
def msg_remove(id: int, /) -> None: ...
def msg_stat(id: int, command: int, /) -> tuple[int, ...]: ...
def msg_set(id: int, uid: int, gid: int, mode: int, qbytes: int, /) -> None: ...
def msg_info(command: int, /) -> tuple[int, ...]: ...

# native/queues/posix_mq.c

def mq_send(
    fd: int | QueueDescriptor, data: Buffer, priority: int, timeout: float | None, /
) -> None: ...
def mq_receive(
    fd: int | QueueDescriptor,
    size: int,
    timeout: float | None,
    record_type: type[Record] | None,
    /,
) -> Message[Any]: ...

# native/queues/mq_descriptor.c

@final
class QueueDescriptor:
    def __new__(cls, fd: int, /) -> Self: ...
    def close(self) -> None: ...

# native/queues/mq_open.c

def mq_open(name: str, flags: int, mode: int, max_messages: int, max_size: int, /) -> int: ...
def mq_getattr(fd: int, /) -> tuple[int, int, int, int]: ...

# native/queues/mq_notify.c

NOTIFY_COOKIE_LEN: Final[int]
NOTIFY_WOKENUP: Final[int]

def mq_notify_signal(fd: int, signal: int, /) -> None: ...
def mq_notify_socket(fd: int, socket: int, /) -> None: ...

# native/queues/mqueue_fs.c

def mqueue_directory() -> int: ...

# native/memory/mapping.c

@final
class Mapping:
    @property
    def size(self) -> int: ...
    @property
    def address(self) -> int: ...
    @property
    def protection(self) -> int: ...
    @property
    def closed(self) -> bool: ...
    @property
    def exports(self) -> int: ...
    def close(self) -> None: ...
    def view(self, offset: int, size: int, /) -> View: ...
    def read(self, offset: int, size: int, /) -> bytes: ...
    def write(self, offset: int, data: Buffer, /) -> None: ...
    if sys.version_info >= (3, 12):
        def __buffer__(self, flags: int, /) -> memoryview: ...
        def __release_buffer__(self, buffer: memoryview, /) -> None: ...

# native/memory/view.c

@final
class View:
    if sys.version_info >= (3, 12):
        def __buffer__(self, flags: int, /) -> memoryview: ...

# native/memory/mmap.c

MADV_POPULATE_WRITE: Final[int]
MS_ASYNC: Final[int]
MS_INVALIDATE: Final[int]
MS_SYNC: Final[int]
MFD_NOEXEC_SEAL: Final[int]
F_SEAL_SEAL: Final[int]
F_SEAL_SHRINK: Final[int]
F_SEAL_GROW: Final[int]
F_SEAL_WRITE: Final[int]
F_SEAL_FUTURE_WRITE: Final[int]
F_SEAL_EXEC: Final[int]

def mmap(fd: int, offset: int, size: int, protection: int, flags: int, /) -> Mapping: ...
def msync(mapping: Mapping, offset: int, size: int, flags: int, /) -> None: ...
def madvise(mapping: Mapping, offset: int, size: int, advice: int, /) -> None: ...
def mprotect(mapping: Mapping, protection: int, /) -> None: ...

# native/memory/sysv_shm.c

IPC_CREAT: Final[int]
IPC_EXCL: Final[int]
IPC_RMID: Final[int]
SHM_RDONLY: Final[int]
SHM_RND: Final[int]
SHM_REMAP: Final[int]
SHM_HUGETLB: Final[int]
SHM_LOCK: Final[int]
SHM_UNLOCK: Final[int]
SHM_STAT: Final[int]
SHM_STAT_ANY: Final[int]
SHM_INFO: Final[int]
SHM_DEST: Final[int]
SHM_LOCKED: Final[int]

def shmget(key: int, size: int, flags: int, /) -> int: ...
def shmat(id: int, address: int, flags: int, replaced: Mapping | None, /) -> Mapping: ...
def shm_stat(id: int, command: int, /) -> tuple[int, ...]: ...
def shm_set(id: int, uid: int, gid: int, mode: int, /) -> None: ...
def shm_control(id: int, command: int, /) -> None: ...
def shm_info(command: int, /) -> tuple[int, ...]: ...

# native/memory/shared_struct.c

@disjoint_base
class SharedStruct:
    def __new__(
        cls, memory: Buffer, offset: int, record_type: type[Record], fingerprint: int, /
    ) -> Self: ...
    @property
    def count(self) -> int: ...
    def load(self) -> Any: ...
    def store(self, value: Any, /) -> None: ...
    def take_over(self, dead: int, /) -> bool: ...

def shared_struct_header(memory: Buffer, offset: int, /) -> tuple[int, int]: ...
def set_writer_token(token: int, /) -> None: ...
def shared_struct_size(size: int, /) -> int: ...

# native/semaphores/semop.c

@final
class SemOp:
    __match_args__: Final = ("index", "delta")

    def __new__(
        cls, index: int, delta: int, *, undo: bool = False, nowait: bool = False
    ) -> SemOp: ...
    @property
    def index(self) -> int: ...
    @property
    def delta(self) -> int: ...
    @property
    def undo(self) -> bool: ...
    @property
    def nowait(self) -> bool: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

def sem_ops(id: int, ops: Iterable[SemOp], timeout: float | None, /) -> None: ...

# native/semaphores/semctl.c

GETVAL: Final[int]
GETPID: Final[int]
GETNCNT: Final[int]
GETZCNT: Final[int]
SEM_STAT: Final[int]
SEM_STAT_ANY: Final[int]
SEM_INFO: Final[int]
SEM_UNDO: Final[int]

def semget(key: int, count: int, flags: int, /) -> int: ...
def sem_get(id: int, index: int, command: int, /) -> int: ...
def sem_setval(id: int, index: int, value: int, /) -> None: ...
def sem_getall(id: int, /) -> list[int]: ...
def sem_setall(id: int, values: Iterable[int], /) -> None: ...
def sem_stat(id: int, command: int, /) -> tuple[int, ...]: ...
def sem_set(id: int, uid: int, gid: int, mode: int, /) -> None: ...
def sem_info(command: int, /) -> tuple[int, ...]: ...

# native/semaphores/semaphore.c

@final
class Semaphore:
    @property
    def set(self) -> Any: ...
    @property
    def index(self) -> int: ...
    @property
    def value(self) -> int: ...
    @value.setter
    def value(self, value: int, /) -> None: ...
    @property
    def pid(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def waiting_zero(self) -> int: ...
    def acquire(self, n: int = 1, *, timeout: float | None = None, undo: bool = False) -> None: ...
    def release(self, n: int = 1, *, undo: bool = False) -> None: ...
    def wait_zero(self, *, timeout: float | None = None) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@disjoint_base
class SemaphoreSetBase:
    _id: int
    _count: int
    def __getitem__(self, index: SupportsIndex, /) -> Semaphore: ...
    def __len__(self) -> int: ...

# native/semaphores/vector_lock.c, semaphores/vector_lock_type.c

@disjoint_base
class VectorLock:
    def _bind(
        self,
        set: SemaphoreSetBase,
        acquire: tuple[SemOp, ...],
        release: tuple[SemOp, ...],
        commit: tuple[SemOp, ...] | None,
        waiters: int,
        timeout: float | None,
        checked: bool,
        block: bool,
        /,
    ) -> None: ...
    def acquire(self, *, timeout: float | None = None, report_death: bool = False) -> None: ...
    def release(self) -> None: ...
    def __enter__(self) -> Any: ...
    def __exit__(self, *exc: object) -> None: ...

# native/semaphores/barrier.c

BARRIER_MUTEX: Final[int]
BARRIER_ROUND: Final[int]
BARRIER_ARRIVED: Final[int]
BARRIER_PARTIES: Final[int]
BARRIER_COUNT: Final[int]

def barrier_wait(set: SemaphoreSetBase, timeout: float | None, /) -> bool: ...

# native/semaphores/ordered.c

@disjoint_base
class OrderedBlock:
    def __new__(
        cls,
        order: Any,
        lock: Any,
        name: str,
        options: dict[str, Any],
        undo: dict[str, Any],
        /,
    ) -> Self: ...
    def __enter__(self) -> Any: ...
    def __exit__(self, *exc: object) -> None: ...

# native/semaphores/posix_sem.c

SEM_T_SIZE: Final[int]
SEM_VALUE_MAX: Final[int]
SEM_NAME_MAX: Final[int]
SEM_CLOCK_IS_MONOTONIC: Final[int]

def sem_create(name: str, mode: int, value: int, /) -> None: ...

@disjoint_base
class PosixSemaphoreBase:
    @property
    def value(self) -> int: ...
    def acquire(self, *, timeout: float | None = None) -> None: ...
    def release(self) -> None: ...
    def _attach(self, mapping: Mapping, /) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...

# native/channel/constants.c

RING_OK: Final[int]
RING_EMPTY: Final[int]
RING_FULL: Final[int]
RING_BUSY: Final[int]
RING_TOO_LONG: Final[int]
RING_CORRUPT: Final[int]
RING_TIMEOUT: Final[int]
RING_INTERRUPTED: Final[int]
RING_GONE: Final[int]
RING_CLOSED: Final[int]
RING_NO_PLACE: Final[int]
SIDE_NEVER_CAME: Final[int]
SIDE_PRESENT: Final[int]
SIDE_GONE: Final[int]
CHANNEL_MAGIC: Final[int]
CHANNEL_VERSION: Final[int]
CHANNEL_OVERWRITE: Final[int]
CHANNEL_PEERS: Final[int]
CHANNEL_ARENA_START: Final[int]
CHANNEL_TYPE_SIZE: Final[int]
UNIT: Final[int]
LARGE_PAYLOAD: Final[int]
CAPACITY_MAX: Final[int]
ROLE_SENDER: Final[int]
ROLE_RECEIVER: Final[int]
POLL_ITEMS: Final[int]
POLL_SPACE: Final[int]

# native/channel/file.c

def channel_units(length: int, /) -> int: ...
def channel_type(mapping: Mapping, /) -> tuple[int | None, str]: ...
def channel_format(
    mapping: Mapping,
    capacity: int,
    item_size: int,
    longest: int,
    fingerprint: int,
    flags: int,
    id: bytes,
    type: str,
    /,
) -> None: ...

# native/channel/channel.c

def channels_forked() -> None: ...

# native/channel/channel.c, channel/send.c, channel/receive.c, channel/batch.c, channel/holder.c

@disjoint_base
class ChannelBase:
    @property
    def capacity(self) -> int: ...
    @property
    def longest(self) -> int: ...
    def send(self, value: Any, /, *, timeout: float | None = None) -> None: ...
    def receive(self, *, timeout: float | None = None) -> Any: ...
    def receive_into(self, buffer: Buffer, /, *, timeout: float | None = None) -> int: ...
    def _send_one(self, value: Any, timeout: float | None, progress: list[int], /) -> None: ...
    def _receive_to(self, found: list[Any], timeout: float | None, /) -> None: ...
    def _send_batch(
        self, records: Buffer, item: int, timeout: float | None, progress: list[int], /
    ) -> int: ...
    def _receive_batch(
        self, records: Buffer, item: int, timeout: float | None, progress: list[int], /
    ) -> int: ...
    def _lend(self, holder: type[_HolderT], nbytes: int, timeout: float | None, /) -> _HolderT: ...
    def loan(
        self, shape: int | tuple[int, ...] | None = None, *, timeout: float | None = None
    ) -> Any: ...
    def receive_view(self, *, timeout: float | None = None) -> Any: ...
    def _set_in_place(
        self, loan: type[LeaseHolder], view: type[LeaseHolder], unit: int, size: int, /
    ) -> None: ...
    def _take(self, holder: type[_HolderT], timeout: float | None, /) -> bytes | _HolderT: ...
    def _iterate(self) -> ChannelIterator: ...
    def _attach(
        self,
        mapping: Mapping,
        fd: int,
        creator: bool,
        record_type: type[Record] | None,
        encode: Callable[[Any], Buffer],
        decode: Callable[[bytes], Any] | None,
        spin: int,
        wait: bool,
        /,
    ) -> None: ...
    def _detach(self, /) -> None: ...
    def _poll_fd(self, which: int, /) -> int: ...
    def _side(self, role: int, /) -> int: ...
    def _lock_holder(self, which: int, /) -> tuple[int, int]: ...
    def _peers(self, /) -> list[tuple[int, int, int, int, int, int, int, int]]: ...
    def _counts(self, /) -> tuple[int, int, int, int]: ...
    def __len__(self) -> int: ...

# native/channel/iterate.c

@final
class ChannelIterator:
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...

# native/channel/lease.c

@final
class Lease:
    if sys.version_info >= (3, 12):
        def __buffer__(self, flags: int, /) -> memoryview: ...

# native/channel/holder.c

@disjoint_base
class LeaseHolder:
    @property
    def buf(self) -> memoryview: ...
    @property
    def _nbytes(self) -> int: ...
    @property
    def _lease(self) -> Lease | None: ...
    @property
    def _channel(self) -> Any: ...
    def _drop(self, /) -> None: ...
    def _send(self, timeout: float | None, /) -> None: ...
    def _write(self, data: Buffer, offset: int, /) -> bool: ...

# native/process_queue/chunks.c

@final
class Chunks:
    def write(self, chunk: Buffer, /) -> None: ...
    def take(self) -> bytes: ...

# native/process_queue/spill.c

@final
class SpillFile:
    def __new__(cls, channel: ChannelBase, fd: int, fresh: bool, /) -> Self: ...
    @property
    def fd(self) -> int: ...
    def claim(self, size: int, force: bool, /) -> Piece | None: ...
    def take(
        self, holder: type[_HolderT], timeout: float | None, /
    ) -> bytes | _HolderT | Piece | None: ...
    def owners(self) -> set[int]: ...
    def reclaim(self, tokens: set[int], /) -> None: ...

# native/process_queue/piece.c

@final
class Piece:
    def write(self, parts: list[Any], /) -> None: ...
    def send(self, timeout: float | None, /) -> bool: ...
    if sys.version_info >= (3, 12):
        def __buffer__(self, flags: int, /) -> memoryview: ...

# native/sockets/descriptors.c

@disjoint_base
class DescriptorsBase:
    def __new__(cls, numbers: Iterable[int] = ()) -> Self: ...
    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: SupportsIndex, /) -> int: ...
    @overload
    def __getitem__(self, index: slice, /) -> list[int]: ...
    def __iter__(self) -> Iterator[int]: ...
    def _take(self, index: int, /) -> int: ...
    def take_all(self) -> list[int]: ...
    def extend(self, others: DescriptorsBase, /) -> None: ...
    def close(self) -> None: ...

# native/sockets/packet.c

@disjoint_base
class PacketBase:
    data: bytes
    fds: Any
    credentials: Any
    truncated: bool
    eof: bool
    address: Any

# native/sockets/io.c

def socket_recv(fd: int, buffer: Buffer, flags: int, /) -> int: ...
def socket_send(fd: int, data: Buffer, flags: int, /) -> int: ...
def socket_accept(fd: int, /) -> int: ...
def socket_poll(fd: int, events: int, timeout: float | None, /) -> bool: ...

# native/sockets/socket.c

SCM_MAX_FD: Final[int]
CONTROL_CROWDED: Final[int]

@disjoint_base
class UnixSocketBase:
    _bytes_only: bool
    _exposed: bool

    def send(
        self,
        data: Buffer,
        *,
        fds: Iterable[Any] = (),
        credentials: bool = False,
        to: Any = None,
        timeout: float | None = None,
    ) -> None: ...
    def receive(
        self, max_bytes: int = 65536, *, max_fds: int = 0, timeout: float | None = None
    ) -> Any: ...
    def _recvmsg(self, size: int, /) -> Any: ...
    def _sendmsg(
        self, data: Buffer, fds: list[int], credentials: bool, address: bytes | None, /
    ) -> int: ...
    def _attach(
        self,
        fileno: Callable[[], int],
        packet: type[PacketBase],
        descriptors: type[DescriptorsBase],
        stream: bool,
        /,
    ) -> None: ...
