# The part of posix_ipc that ipckit and its tests use. The package has no type annotations.

O_CREX: int

class Error(Exception): ...
class PermissionsError(Error): ...
class ExistentialError(Error): ...

class MessageQueue:
    mqd: int
    name: str
    def __init__(
        self,
        name: str | None,
        flags: int = ...,
        mode: int = ...,
        max_messages: int = ...,
        max_message_size: int = ...,
        read: bool = ...,
        write: bool = ...,
    ) -> None: ...
    def close(self) -> None: ...

def unlink_message_queue(name: str, /) -> None: ...

class SharedMemory:
    fd: int
    name: str
    def __init__(
        self,
        name: str | None,
        flags: int = ...,
        mode: int = ...,
        size: int = ...,
        read_only: bool = ...,
    ) -> None: ...
    def close_fd(self) -> None: ...

def unlink_shared_memory(name: str, /) -> None: ...

class Semaphore:
    name: str
    def __init__(
        self, name: str | None, flags: int = ..., mode: int = ..., initial_value: int = ...
    ) -> None: ...
    def close(self) -> None: ...

def unlink_semaphore(name: str, /) -> None: ...
