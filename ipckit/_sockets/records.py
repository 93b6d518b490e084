"""Records: the description of an array or a handle that is sent with its descriptor.

A record is a prefix of fixed size and a JSON text. The receiver trusts neither.
"""

from __future__ import annotations

import errno
import json
import math
import struct
from typing import TYPE_CHECKING, Any, Final, cast

from ipckit._core.fd_access import check_sender_cannot_shrink, checked_uid
from ipckit._core.handle import Handle
from ipckit._core.lazy_numpy import np
from ipckit._payload.dtype_json import (
    PACKAGE,
    BadDescriptionError,
    dtype_from_json,
    dtype_to_json,
    shape_from_json,
)
from ipckit._payload.dtypes import check_arrays, copy_array
from ipckit._shm.memfd import MemFd, Seal
from ipckit._sockets.endpoint import Endpoint
from ipckit._sockets.errors import stream_ended
from ipckit._sockets.packet import Descriptors, Packet
from ipckit.errors import Corrupt, InvalidArgument, IpcError, LayoutMismatch

if TYPE_CHECKING:
    from typing import Literal

    import numpy.typing as npt

    Order = Literal["C", "F"]

PREFIX: Final = struct.Struct("<8sI")
ARRAY: Final = b"ipckitA1"
HANDLE: Final = b"ipckitH1"
MAX_TEXT: Final = 32768
_MAX_FDS: Final = 1  # a record has one descriptor, or none
_SEALS: Final = Seal.SHRINK | Seal.GROW | Seal.WRITE

# Their memory may be a named file, which seals cannot protect from being truncated.
_NAMED_MEMORY: Final = frozenset({"PosixSharedMemory", "Channel", "Topic"})


def encode(magic: bytes, facts: dict[str, Any]) -> bytes:
    """Return a record as bytes.

    Raises:
        InvalidArgument: the description is too long, as for a dtype of very many fields.
    """
    text = json.dumps(facts, separators=(",", ":")).encode()
    if len(text) > MAX_TEXT:
        message = f"the description has {len(text):,} bytes, and a record has at most {MAX_TEXT:,}"
        raise InvalidArgument(message, errno=errno.EMSGSIZE, op="send")
    return PREFIX.pack(magic, len(text)) + text


def text_size(prefix: bytes, magic: bytes) -> int:
    """Return how many bytes of JSON follow a prefix.

    Raises:
        Corrupt: it is not the prefix of a record with this magic.
    """
    if len(prefix) != PREFIX.size:
        raise corrupt(f"{len(prefix)} bytes instead of a record")
    found, size = PREFIX.unpack(prefix)
    if found != magic or size > MAX_TEXT:
        raise corrupt(
            f"{found!r} and the size {size} instead of a record that begins with {magic!r}"
        )
    return int(size)


class PartialRecord:
    """The bytes of a record that have come on a stream, with its descriptors."""

    def __init__(self) -> None:
        self.fds = Descriptors()
        self._came = 0
        self._data = bytearray()

    def __bool__(self) -> bool:
        return bool(self._data)

    def missing(self, magic: bytes) -> int:
        """Return how many bytes the next read may take; 0 if the record is complete.

        Raises:
            Corrupt: the bytes are not a record with this magic.
        """
        if len(self._data) < PREFIX.size:
            return PREFIX.size - len(self._data)
        size = text_size(bytes(self._data[: PREFIX.size]), magic)
        return PREFIX.size + size - len(self._data)

    def add(self, packet: Packet, size: int, target: str) -> None:
        """Add a packet that came when `size` bytes were missing.

        Raises:
            PeerGone: the stream ended.
        """
        self._came += len(packet.fds)
        if self._came > _MAX_FDS:
            # Closed at once: a sender could send one with each byte, until this process has no
            # descriptor left. The rest of the record is read, so that the stream stays in step.
            packet.close()
            self.fds.close()
        else:
            self.fds.extend(packet.fds)
        if packet.eof:
            message = f"the stream ended with {size} bytes of a record missing"
            raise stream_ended(message, op="recv", target=target)
        self._data += packet.data

    def packet(self) -> Packet:
        """Return the record's JSON text and descriptors.

        Raises:
            Corrupt: more descriptors came than a record may have; all of them are closed.
        """
        if self._came > _MAX_FDS:
            raise corrupt(f"{self._came} descriptors with one record; all of them are closed")
        return Packet(bytes(self._data[PREFIX.size :]), self.fds)


def decode(text: bytes) -> dict[str, Any]:
    """Return the fields of a record.

    Raises:
        Corrupt: the text is not a JSON object.
    """
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        raise corrupt("a record that is not JSON") from None
    if not isinstance(facts, dict):
        raise corrupt("a record that is not a JSON object")
    return cast("dict[str, Any]", facts)


def corrupt(message: str) -> Corrupt:
    """Return the error for something that ipckit never sends."""
    return Corrupt(f"the peer sent {message}", errno=errno.EUCLEAN, op="receive")


# -- arrays ----------------------------------------------------------------------------------------


def array_out(array: npt.ArrayLike) -> tuple[bytes, MemFd | None]:
    """Return the record of an array, and a sealed memfd with its bytes, which the caller closes.

    An array of 0 bytes has no memfd.

    Raises:
        TypeError: the dtype can't be sent, or the array is of a subclass, such as a masked array.
        LimitReached: there is no memory or descriptor left.
    """
    check_arrays(array)
    source = np.asarray(array)
    dtype = dtype_to_json(source.dtype)
    order: Order = "F" if source.flags.f_contiguous and not source.flags.c_contiguous else "C"
    facts = {"dtype": dtype, "shape": list(source.shape), "order": order, "size": source.nbytes}
    record = encode(ARRAY, facts)
    if source.nbytes == 0:
        return record, None
    return record, _filled(source, order)


def _filled(source: npt.NDArray[Any], order: Order) -> MemFd:
    memory = MemFd.create("ipckit-array", source.nbytes)
    try:
        target = np.ndarray(source.shape, source.dtype, buffer=_bytes_of(memory), order=order)
        copy_array(target, source)
        del target
        memory.seal(_SEALS | Seal.SEAL)
    except BaseException:
        memory.close()
        raise
    return memory


def _bytes_of(memory: MemFd) -> Any:
    # Over a memoryview, numpy would refer to the object below it, and would not keep that mapped.
    return memory.array(np.uint8)


def array_in(facts: dict[str, Any], fds: Descriptors) -> npt.NDArray[Any]:
    """Return the array of a record and its descriptor, and on success take the descriptor.

    Raises:
        Corrupt: the record and the memory contradict each other, or the memory could change.
        LayoutMismatch: this process lacks a type of ml_dtypes; ``.raw`` has the array's bytes.
    """
    missing: list[str] = []
    try:
        dtype = dtype_from_json(facts.get("dtype"), missing=missing)
        shape = shape_from_json(facts.get("shape"))
    except BadDescriptionError as exc:
        raise corrupt(str(exc)) from None
    array = _array_of(facts, dtype, shape, fds)
    if missing:
        message = f"the peer sent an array of {missing[0]}, which this process does not have"
        hint = f"install {PACKAGE}, in the sender's version or a later one"
        error = LayoutMismatch(message, errno=errno.EBADMSG, op="receive", hint=hint)
        error.raw = array.tobytes("A")
        raise error
    return array


def _array_of(
    facts: dict[str, Any], dtype: np.dtype[Any], shape: tuple[int, ...], fds: Descriptors
) -> npt.NDArray[Any]:
    order, size = facts.get("order"), facts.get("size")
    if order not in ("C", "F") or type(size) is not int:
        raise corrupt("an array without a valid order or size")
    if math.prod(shape) * dtype.itemsize != size:
        raise corrupt(f"{size} bytes for the shape {shape} of {dtype}")
    try:
        if size == 0:
            if fds:
                raise corrupt("a descriptor with an array of 0 bytes")
            empty = np.ndarray(shape, dtype, order=order)
            empty.flags.writeable = False
            return empty
        if len(fds) != 1:
            raise corrupt(f"{len(fds)} descriptors with an array")
        return _mapped(fds, dtype, shape, order, size)
    except ValueError as exc:
        if isinstance(exc, IpcError):
            raise
        raise corrupt(f"an array that numpy refuses: {exc}") from None


def _mapped(
    fds: Descriptors, dtype: np.dtype[Any], shape: tuple[int, ...], order: Order, size: int
) -> npt.NDArray[Any]:
    try:
        memory = MemFd.from_fd(fds[0], require_seals=_SEALS, readonly=True)
    except InvalidArgument as exc:
        raise corrupt(f"memory that is not safe to map: {exc.strerror}") from None
    fds.take()
    with memory:
        if memory.size < size:
            raise corrupt(f"{memory.size:,} bytes of memory for an array of {size:,}")
        return np.ndarray(shape, dtype, buffer=_bytes_of(memory), order=order)


# -- handles ---------------------------------------------------------------------------------------


def handle_out(handle: Handle) -> tuple[bytes, int]:
    """Return the record of a handle, and its descriptor, which the handle still owns.

    Raises:
        TypeError: it is not a handle, or handles of its class have no descriptor to pass.
        ClosedHandle: the handle is closed.
    """
    given: object = handle
    if not isinstance(given, Handle):
        message = f"send_handle takes a handle, not {type(given).__name__}"
        hint = getattr(type(given), "_send_instead", "")
        raise TypeError(f"{message}; {hint}" if hint else message)
    name = handle._passed_as
    if not name:
        message = f"{type(handle).__name__} has no descriptor to pass; pickle it, or pass its name"
        raise TypeError(message)
    facts: dict[str, Any] = {"class": name}
    readonly: object = getattr(handle, "readonly", None)
    if readonly is not None:
        facts["readonly"] = bool(readonly)
    if isinstance(handle, Endpoint) and handle._path is not None:  # noqa: SLF001 - a socket's
        facts["path"] = str(handle._path)  # noqa: SLF001
    passed: Any = handle
    # The `fileno` of a Channel is for polling; its memory has a descriptor of its own.
    fd: int = passed.memory_fd if hasattr(passed, "memory_fd") else passed.fileno()
    return encode(HANDLE, facts), fd


def handle_in(
    facts: dict[str, Any], expected: type[Handle], fds: Descriptors, options: dict[str, Any]
) -> Any:
    """Return the handle of a record and its descriptor, and on success take the descriptor.

    Args:
        facts: the record's fields.
        expected: the class that the receiver asked for.
        fds: the descriptors that came with the record.
        options: for the class's `from_fd`.

    Raises:
        Corrupt: the class is unknown, or the descriptor is not of that class, or it is memory that
            the sender could truncate.
        LayoutMismatch: the handle is of another class than expected.
        AccessDenied: the descriptor gives fewer rights than the class needs, or the memory belongs
            to another user.
    """
    name = facts.get("class")
    cls: Any = None
    if len(fds) != 1:
        raise corrupt(f"{len(fds)} descriptors with a handle")
    if isinstance(name, str):
        cls = expected._made_from_passed(name)  # noqa: SLF001
    if cls is None:
        raise corrupt(f"a handle of an unknown class: {str(name)[:40]!r}")
    options = dict(options)
    if hasattr(cls, "readonly") and facts.get("readonly") is True:
        options.setdefault("readonly", True)
    try:
        if name in _NAMED_MEMORY:
            trusted = checked_uid(options.pop("owner_uid", None))
            check_sender_cannot_shrink(fds[0], f"the {name} that came", trusted)
        handle = cls.from_fd(fds[0], **options)
    except InvalidArgument as exc:
        raise corrupt(f"a descriptor that is not a {name}, or is not safe to use: {exc}") from None
    fds.take()
    path = facts.get("path")
    if isinstance(path, str) and isinstance(handle, Endpoint):
        handle._accept_path(path)  # noqa: SLF001
    return handle
