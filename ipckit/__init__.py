"""Ways in which Linux processes communicate, with types, deadlines and a common life cycle.

Between your own Python processes:

- `Channel`: messages through shared memory, each to one receiver
- `Topic`: messages through shared memory, each to every subscriber
- `ipckit.rpc`: functions that other processes call
- `ipckit.pool`: tasks for a pool of processes
- `ProcessQueue`: in the place of `multiprocessing.Queue` and `JoinableQueue`
- `SharedArray`, `Counter`: a numpy array, a number, that processes share

With programs in any language:

- `SysVMessageQueue`, `PosixMessageQueue`: the kernel's message queues
- `SysVSharedMemory`, `PosixSharedMemory`, `MemFd`, `MappedFile`: memory, for arrays and structs
- `SysVSemaphoreSet`, `PosixSemaphore`; `Lock`, `Event` and others, built from sets
- `listen`, `connect`, `pair`: UNIX sockets, which also pass descriptors; `Framed` streams

For all of them: `Struct` describes a C struct, `ipckit.errors` has the exceptions, `ipckit.aio`
makes calls awaitable in asyncio and trio, and the command ``ipckit`` shows and removes what exists.

Start here:

    >>> from ipckit import Channel, Char, Int, Struct
    >>> class Stu(Struct):
    ...     name: Char[32]
    ...     age: Int
    >>> with Channel.create("people", Stu) as channel:  # removed at the end of the block
    ...     with Channel.open("people", Stu) as other:  # usually in another process
    ...         other.send(Stu("amy", 20))
    ...     channel.receive(timeout=1.5)
    Stu(name='amy', age=20)

`create` never opens an existing object, `open` never creates one, and `open_or_create` does either.
A ``with`` block closes, and unlinks what its handle created. A call that can wait takes
``timeout=`` in seconds: None waits without limit, and 0 does not wait. Every error is an `OSError`
that names the object and says what to do next. ``help(ipckit.Channel)`` shows a class with its
examples, and docs/choosing.md compares the classes.

A name of this package is imported when it is first used. A program that changes its user or its
root directory names what it needs before: ``from ipckit import Channel``.
"""

try:
    # `from ipckit import _native` would not say which module is missing.
    import ipckit._native as _native  # noqa: F401, PLR0402 # pyright: ignore[reportUnusedImport]
except ModuleNotFoundError as exc:
    if exc.name != "ipckit._native":
        raise
    _message = "ipckit's extension module is not built; run `make demo` or `pip install .`"
    raise ImportError(_message, name=exc.name) from None

from typing import TYPE_CHECKING

from ipckit._core.lazy_names import lazy_names

if TYPE_CHECKING:
    from ipckit._core.handle import Capabilities, Handle
    from ipckit._core.version import __version__ as __version__
    from ipckit.channel import Channel, Delivery, Loan, ProcessQueue, View
    from ipckit.codec import Codec
    from ipckit.errors import (
        AccessDenied,
        AlreadyExists,
        ClosedHandle,
        Corrupt,
        DeadlockRisk,
        InUse,
        InvalidArgument,
        InvalidSource,
        IpcError,
        LayoutMismatch,
        LimitReached,
        MessageTooLong,
        NotFound,
        OwnerDied,
        PeerGone,
        RemoteError,
        Removed,
        Timeout,
        WouldBlock,
    )
    from ipckit.framing import (
        DelimitedFrames,
        FixedFrames,
        Framed,
        Framing,
        LengthPrefixed,
        read_exactly,
        read_line,
        write_all,
    )
    from ipckit.keys import Key, Name, ftok
    from ipckit.msgq import Message, PosixMessageQueue, SysVMessageQueue
    from ipckit.sem import (
        Barrier,
        BoundedBuffer,
        Event,
        Lock,
        LockOrder,
        PosixSemaphore,
        ReadWriteLock,
        SemOp,
        SysVSemaphoreSet,
    )
    from ipckit.shm import (
        Counter,
        MappedFile,
        MemFd,
        PosixSharedMemory,
        Seal,
        SharedArray,
        SharedStruct,
        SysVSharedMemory,
    )
    from ipckit.structs import (
        Aligned,
        Anonymous,
        Array,
        At,
        Bits,
        BlkCntT,
        BlkSizeT,
        Bool,
        Bytes,
        Char,
        ClockIdT,
        ClockT,
        DevT,
        Double,
        Float,
        Float32,
        Float64,
        GidT,
        IdT,
        InoT,
        Int,
        Int8,
        Int16,
        Int32,
        Int64,
        IntPtrT,
        KeyT,
        Long,
        LongLong,
        ModeT,
        NLinkT,
        OffT,
        Opaque,
        PidT,
        PtrDiffT,
        SChar,
        Short,
        SizeT,
        SockLenT,
        SSizeT,
        Struct,
        SUSecondsT,
        TimeT,
        UChar,
        UidT,
        UInt,
        UInt8,
        UInt16,
        UInt32,
        UInt64,
        UIntPtrT,
        ULong,
        ULongLong,
        Union,
        UShort,
    )
    from ipckit.topic import Topic
    from ipckit.unixsock import (
        Abstract,
        Credentials,
        Descriptors,
        Inherited,
        Packet,
        Peer,
        UnixListener,
        UnixSocket,
        connect,
        inherited,
        listen,
        pair,
    )
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "ipckit._core.handle": "Capabilities Handle",
            "ipckit._core.version": "__version__",
            "ipckit.channel": "Channel Delivery Loan ProcessQueue View",
            "ipckit.codec": "Codec",
            "ipckit.errors": (
                "AccessDenied AlreadyExists ClosedHandle Corrupt DeadlockRisk InUse "
                "InvalidArgument InvalidSource IpcError LayoutMismatch LimitReached "
                "MessageTooLong NotFound OwnerDied PeerGone RemoteError Removed Timeout "
                "WouldBlock"
            ),
            "ipckit.framing": (
                "DelimitedFrames FixedFrames Framed Framing LengthPrefixed read_exactly "
                "read_line write_all"
            ),
            "ipckit.keys": "Key Name ftok",
            "ipckit.msgq": "Message PosixMessageQueue SysVMessageQueue",
            "ipckit.sem": (
                "Barrier BoundedBuffer Event Lock LockOrder PosixSemaphore ReadWriteLock "
                "SemOp SysVSemaphoreSet"
            ),
            "ipckit.shm": (
                "Counter MappedFile MemFd PosixSharedMemory Seal SharedArray SharedStruct "
                "SysVSharedMemory"
            ),
            "ipckit.structs": (
                "Aligned Anonymous Array At Bits BlkCntT BlkSizeT Bool Bytes Char ClockIdT "
                "ClockT DevT Double Float Float32 Float64 GidT IdT InoT Int Int8 Int16 Int32 "
                "Int64 IntPtrT KeyT Long LongLong ModeT NLinkT OffT Opaque PidT PtrDiffT "
                "SChar Short SizeT SockLenT SSizeT Struct SUSecondsT TimeT UChar UidT UInt "
                "UInt8 UInt16 UInt32 UInt64 UIntPtrT ULong ULongLong Union UShort"
            ),
            "ipckit.topic": "Topic",
            "ipckit.unixsock": (
                "Abstract Credentials Descriptors Inherited Packet Peer UnixListener "
                "UnixSocket connect inherited listen pair"
            ),
        },
    )

__all__ = [
    "Abstract",
    "AccessDenied",
    "Aligned",
    "AlreadyExists",
    "Anonymous",
    "Array",
    "At",
    "Barrier",
    "Bits",
    "BlkCntT",
    "BlkSizeT",
    "Bool",
    "BoundedBuffer",
    "Bytes",
    "Capabilities",
    "Channel",
    "Char",
    "ClockIdT",
    "ClockT",
    "ClosedHandle",
    "Codec",
    "Corrupt",
    "Counter",
    "Credentials",
    "DeadlockRisk",
    "DelimitedFrames",
    "Delivery",
    "Descriptors",
    "DevT",
    "Double",
    "Event",
    "FixedFrames",
    "Float",
    "Float32",
    "Float64",
    "Framed",
    "Framing",
    "GidT",
    "Handle",
    "IdT",
    "InUse",
    "Inherited",
    "InoT",
    "Int",
    "Int16",
    "Int32",
    "Int64",
    "Int8",
    "IntPtrT",
    "InvalidArgument",
    "InvalidSource",
    "IpcError",
    "Key",
    "KeyT",
    "LayoutMismatch",
    "LengthPrefixed",
    "LimitReached",
    "Loan",
    "Lock",
    "LockOrder",
    "Long",
    "LongLong",
    "MappedFile",
    "MemFd",
    "Message",
    "MessageTooLong",
    "ModeT",
    "NLinkT",
    "Name",
    "NotFound",
    "OffT",
    "Opaque",
    "OwnerDied",
    "Packet",
    "Peer",
    "PeerGone",
    "PidT",
    "PosixMessageQueue",
    "PosixSemaphore",
    "PosixSharedMemory",
    "ProcessQueue",
    "PtrDiffT",
    "ReadWriteLock",
    "RemoteError",
    "Removed",
    "SChar",
    "SSizeT",
    "SUSecondsT",
    "Seal",
    "SemOp",
    "SharedArray",
    "SharedStruct",
    "Short",
    "SizeT",
    "SockLenT",
    "Struct",
    "SysVMessageQueue",
    "SysVSemaphoreSet",
    "SysVSharedMemory",
    "TimeT",
    "Timeout",
    "Topic",
    "UChar",
    "UInt",
    "UInt16",
    "UInt32",
    "UInt64",
    "UInt8",
    "UIntPtrT",
    "ULong",
    "ULongLong",
    "UShort",
    "UidT",
    "Union",
    "UnixListener",
    "UnixSocket",
    "View",
    "WouldBlock",
    "connect",
    "ftok",
    "inherited",
    "listen",
    "pair",
    "read_exactly",
    "read_line",
    "write_all",
]
