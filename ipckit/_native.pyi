"""The extension module: kernel calls and memory; raises plain OSError."""

from typing_extensions import Buffer
from types import GenericAlias
from typing import Final, Generic, final

from typing_extensions import TypeVar

_T_co = TypeVar("_T_co", covariant=True, default=bytes)

# -- messages

@final
class Message(Generic[_T_co]):
    """What a receive gives: a payload, and what came with it. Immutable."""

    __match_args__: Final = ("value", "mtype")

    @property
    def value(self) -> _T_co:
        """The payload, decoded."""
    @property
    def mtype(self) -> int:
        """The System V message type, 1 or more; 0 for a POSIX queue."""
    @property
    def priority(self) -> int:
        """The POSIX priority, 0 to 32767; 0 for a System V queue."""
    @property
    def truncated(self) -> bool:
        """Whether the message was longer than what was asked for."""
    def __new__(
        cls, value: _T_co, mtype: int = 0, priority: int = 0, truncated: bool = False
    ) -> Message[_T_co]: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

def message(
    value: _T_co, mtype: int, priority: int, truncated: bool, /
) -> Message[_T_co]: ...

# -- System V message queues

IPC_STAT: Final[int]
IPC_INFO: Final[int]
IPC_NOWAIT: Final[int]
MSG_STAT: Final[int]
MSG_STAT_ANY: Final[int]
MSG_INFO: Final[int]
MSG_NOERROR: Final[int]
MSG_EXCEPT: Final[int]
MSG_COPY: Final[int]

def msgsnd(id: int, mtype: int, data: Buffer, timeout: float | None, /) -> None: ...
def msgrcv(
    id: int, select: int, flags: int, size: int, timeout: float | None, /
) -> Message[bytes]: ...
def msg_stat(id: int, command: int, /) -> tuple[int, ...]: ...
def msg_set(id: int, uid: int, gid: int, mode: int, qbytes: int, /) -> None: ...
def msg_info(command: int, /) -> tuple[int, ...]: ...

# -- POSIX message queues

def mq_send(fd: int, data: Buffer, priority: int, timeout: float | None, /) -> None: ...
def mq_receive(fd: int, size: int, timeout: float | None, /) -> Message[bytes]: ...
def mq_getattr(fd: int, /) -> tuple[int, int, int, int]: ...
def mq_notify_signal(fd: int, signal: int, /) -> None: ...
def mq_notify_socket(fd: int, socket: int, /) -> None: ...
