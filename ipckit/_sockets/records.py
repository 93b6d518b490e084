"""What crosses beside one descriptor: the head of an array, or of a handle.

A record is a fixed prefix and some JSON, all of which its reader takes for hostile.
"""

from __future__ import annotations

import errno
import json
import math
import re
import struct
from typing import TYPE_CHECKING, Any, Final, cast

from ipckit._core.fd_access import check_sender_cannot_shrink, checked_uid
from ipckit._core.lazy_numpy import np
from ipckit._payload.dtypes import check_arrays, is_own_dtype
from ipckit._shm.memfd import MemFd, Seal
from ipckit._sockets.packet import Descriptors, Packet
from ipckit._sockets.waiting import gone
from ipckit.errors import Corrupt, InvalidArgument, IpcError

if TYPE_CHECKING:
    from typing import Literal

    import numpy.typing as npt

    from ipckit._core.handle import Handle

if TYPE_CHECKING:
    Order = Literal["C", "F"]

PREFIX: Final = struct.Struct("<8sI")
ARRAY: Final = b"ipckitA1"
HANDLE: Final = b"ipckitH1"
TEXT_MAX: Final = 32768
_FDS_MOST: Final = 1  # a record has one descriptor, or none
_SEALS: Final = Seal.SHRINK | Seal.GROW | Seal.WRITE
_PLAIN_DTYPE: Final = re.compile(r"[<>|=](?:[?bBiufcSUV]\d{1,10}|[mM]8(?:\[\d*[A-Za-z]{1,7}\])?)")
_KINDS: Final = frozenset("biufcSUVmM")
_DIMENSIONS_MAX: Final = 32
_NESTING_MAX: Final = 32
_SIZE_MAX: Final = 2**62
_DTYPE_MAX: Final = 2**31

# Those whose memory may be a named file, which no seal keeps from being cut.
_NAMED_MEMORY: Final = frozenset({"PosixSharedMemory", "Channel"})


def encode(magic: bytes, facts: dict[str, Any]) -> bytes:
    """A record.

    Raises:
        InvalidArgument: it has more fields than a record has room for.
    """
    text = json.dumps(facts, separators=(",", ":")).encode()
    if len(text) > TEXT_MAX:
        message = f"its description has {len(text):,} bytes; {TEXT_MAX:,} are the most"
        raise InvalidArgument(message, errno=errno.EMSGSIZE, op="send")
    return PREFIX.pack(magic, len(text)) + text


def text_size(prefix: bytes, magic: bytes) -> int:
    """How many bytes of JSON follow a prefix.

    Raises:
        Corrupt: it is no such record's prefix.
    """
    if len(prefix) != PREFIX.size:
        raise corrupt(f"{len(prefix)} bytes where a record of ipckit's was due")
    found, size = PREFIX.unpack(prefix)
    if found != magic or size > TEXT_MAX:
        raise corrupt(f"{found!r} and {size} where a record of ipckit's was due")
    return int(size)


class Partial:
    """A record off a stream, as far as it has come, with its descriptors."""

    def __init__(self) -> None:
        self.fds = Descriptors()
        self._came = 0
        self._data = bytearray()

    def __bool__(self) -> bool:
        return bool(self._data)

    def missing(self, magic: bytes) -> int:
        """How many bytes the next read may take; 0 where the record is whole.

        Raises:
            Corrupt: it is no such record.
        """
        if len(self._data) < PREFIX.size:
            return PREFIX.size - len(self._data)
        size = text_size(bytes(self._data[: PREFIX.size]), magic)
        return PREFIX.size + size - len(self._data)

    def add(self, packet: Packet, size: int, target: str) -> None:
        """Take what came when `size` bytes were missing.

        Raises:
            PeerGone: the stream ended.
        """
        self._came += len(packet.fds)
        if self._came > _FDS_MOST:
            # Closed at once: a sender could give one with each byte, until this process has no
            # number left. The rest of the record is read, so that the stream stays in step.
            packet.close()
            self.fds.close()
        else:
            self.fds.extend(packet.fds)
        if packet.eof:
            message = f"the stream ended with {size} bytes of a record missing"
            raise gone(message, op="recv", target=target)
        self._data += packet.data

    def packet(self) -> Packet:
        """The record's JSON and descriptors.

        Raises:
            Corrupt: more descriptors came than a record may have; all of them are closed.
        """
        if self._came > _FDS_MOST:
            raise corrupt(f"{self._came} descriptors with one record; all of them are closed")
        return Packet(bytes(self._data[PREFIX.size :]), self.fds)


def decode(text: bytes) -> dict[str, Any]:
    """What a record says.

    Raises:
        Corrupt: it is no JSON object.
    """
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        raise corrupt("a record without sense") from None
    if not isinstance(facts, dict):
        raise corrupt("a record without names")
    return cast("dict[str, Any]", facts)


def corrupt(message: str) -> Corrupt:
    """The error for something that no ipckit sends."""
    return Corrupt(f"it sent {message}", errno=errno.EUCLEAN, op="receive")


# -- dtypes ----------------------------------------------------------------------------------------


def dtype_to_json(dtype: np.dtype[Any]) -> Any:
    """A dtype as JSON, with every field's offset.

    Raises:
        TypeError: it holds Python objects, or is of a kind that has no plain bytes.
    """
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return {"base": dtype_to_json(base), "shape": list(shape)}
    if dtype.names is not None:
        known: Any = dtype.fields
        fields = [known[name] for name in dtype.names]
        return {
            "names": list(dtype.names),
            "formats": [dtype_to_json(field[0]) for field in fields],
            "offsets": [field[1] for field in fields],
            "itemsize": dtype.itemsize,
        }
    if dtype.hasobject or dtype.kind not in _KINDS or not is_own_dtype(dtype):
        message = f"{dtype!r} has no bytes that another process could read"
        raise TypeError(message)
    return dtype.str


def dtype_from_json(value: Any, depth: int = 0) -> np.dtype[Any]:
    """The dtype that `dtype_to_json` described.

    Raises:
        Corrupt: it describes none.
    """
    if depth > _NESTING_MAX:
        raise corrupt("a dtype that nests too deep")
    try:
        made = _dtype_from(value, depth + 1)
    except IpcError:
        raise
    except Exception as exc:
        # numpy has many ways to refuse a description.
        raise corrupt(f"a dtype that numpy refuses ({type(exc).__name__})") from None
    if made.hasobject:
        raise corrupt("a dtype of Python objects")
    return made


def _dtype_from(value: Any, depth: int) -> np.dtype[Any]:
    numpy_dtype: Any = np.dtype
    made: np.dtype[Any]
    if isinstance(value, str):
        if not _PLAIN_DTYPE.fullmatch(value):
            raise corrupt(f"the dtype {value[:40]!r}")
        made = numpy_dtype(value)
        return made
    facts: dict[str, Any] = value  # what it is else, the next line refuses
    if "base" in facts:
        base = dtype_from_json(facts["base"], depth)
        shape = checked_shape(facts["shape"])
        if math.prod(shape) * max(1, base.itemsize) >= _DTYPE_MAX:
            raise corrupt("a dtype of too many bytes")
        made = numpy_dtype((base, shape))
        return made
    names, offsets, itemsize = facts["names"], facts["offsets"], facts["itemsize"]
    if not all(isinstance(name, str) for name in names):
        raise corrupt("a field without a name")
    if not all(type(each) is int for each in (*offsets, itemsize)):
        raise corrupt("a field without a place")
    formats = [dtype_from_json(each, depth) for each in facts["formats"]]
    spec = {"names": names, "formats": formats, "offsets": offsets, "itemsize": itemsize}
    made = numpy_dtype(spec)
    return made


def checked_shape(value: Any) -> tuple[int, ...]:
    """A shape out of a record.

    Raises:
        Corrupt: it is none.
    """
    if type(value) is not list:
        raise corrupt("a shape that is none")
    shape: tuple[Any, ...] = tuple(cast("Any", value))
    if len(shape) > _DIMENSIONS_MAX or not all(
        type(each) is int and 0 <= each < _SIZE_MAX for each in shape
    ):
        raise corrupt("a shape that is none")
    return shape


# -- arrays ----------------------------------------------------------------------------------------


def array_out(array: npt.ArrayLike) -> tuple[bytes, MemFd | None]:
    """The record of an array, and a sealed memfd of its bytes, for the caller to close.

    An array of no bytes needs no memfd.

    Raises:
        TypeError: its dtype has no plain bytes, or it is a masked array.
        LimitReached: no memory or descriptor is left.
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
        _copy(target, source, order)
        del target
        memory.seal(_SEALS | Seal.SEAL)
    except BaseException:
        memory.close()
        raise
    return memory


def _bytes_of(memory: MemFd) -> Any:
    # numpy looks through a memoryview at what is below, and would not keep that mapped.
    return memory.array(np.uint8)


def _copy(target: npt.NDArray[Any], source: npt.NDArray[Any], order: str) -> None:
    if order == "C" and not source.flags.c_contiguous:
        np.copyto(target, source, casting="no")
        return
    # Whole bytes, so that padding is what it was and overlapping fields do no harm.
    flat = (source if order == "C" else source.T).reshape(-1).view(np.uint8)
    (target if order == "C" else target.T).reshape(-1).view(np.uint8)[:] = flat


def array_in(facts: dict[str, Any], fds: Descriptors) -> npt.NDArray[Any]:
    """The array that a record and its descriptor are; the descriptor is taken where this works.

    Raises:
        Corrupt: they do not agree, or the memory could change under this process.
    """
    dtype = dtype_from_json(facts.get("dtype"))
    shape = checked_shape(facts.get("shape"))
    order, size = facts.get("order"), facts.get("size")
    if order not in ("C", "F") or type(size) is not int:
        raise corrupt("an array without order or size")
    if math.prod(shape) * dtype.itemsize != size:
        raise corrupt(f"{size} bytes for the shape {shape} of {dtype}")
    try:
        if size == 0:
            if fds:
                raise corrupt("a descriptor with an array of no bytes")
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
    """The record of a handle, and its descriptor, which stays the handle's.

    Raises:
        TypeError: handles of its class have no descriptor that could be passed.
        ClosedHandle: it is closed.
    """
    name = handle._passed_as
    if not name:
        message = f"{type(handle).__name__} has no descriptor to pass; pickle it, or pass its name"
        raise TypeError(message)
    given: Any = handle
    facts: dict[str, Any] = {"class": name}
    if hasattr(given, "readonly"):
        facts["readonly"] = bool(given.readonly)
    if hasattr(given, "_path") and given._path is not None:  # noqa: SLF001 - a socket's
        facts["path"] = str(given._path)  # noqa: SLF001
    # Where `fileno` is for waiting, another one leads to the object.
    return encode(HANDLE, facts), given.memory_fd if hasattr(given, "memory_fd") else given.fileno()


def handle_in(
    facts: dict[str, Any], expected: type[Handle], fds: Descriptors, options: dict[str, Any]
) -> Any:
    """The handle that a record and its descriptor are; the descriptor is taken where this works.

    Raises:
        Corrupt: the descriptor is no such thing, or memory that its sender could cut.
        LayoutMismatch: it is of another class than expected.
        AccessDenied: the descriptor gives less than the class needs, or the memory is another
            user's.
    """
    name = facts.get("class")
    maker: Any = None
    if isinstance(name, str) and len(fds) == 1:
        maker = expected._made_from_passed(name)  # noqa: SLF001
    if maker is None:
        raise corrupt(f"{len(fds)} descriptors as a handle of class {str(name)[:40]!r}")
    options = dict(options)
    if hasattr(maker, "readonly") and facts.get("readonly") is True:
        options.setdefault("readonly", True)
    try:
        if name in _NAMED_MEMORY:
            trusted = checked_uid(options.pop("owner_uid", None))
            check_sender_cannot_shrink(fds[0], f"the {name} that came", trusted)
        handle = maker.from_fd(fds[0], **options)
    except InvalidArgument as exc:
        raise corrupt(f"a descriptor that is no {name}, or not a safe one: {exc}") from None
    fds.take()
    path = facts.get("path")
    if isinstance(path, str) and hasattr(handle, "_told_path"):
        handle._told_path(path)  # noqa: SLF001 - a socket's
    return handle
