"""Records: the description of an array or a handle that is sent with its descriptor.

A record is a prefix of fixed size and a JSON text. The receiver trusts neither.
"""

from __future__ import annotations

import errno
import importlib
import json
import math
import re
import struct
from typing import TYPE_CHECKING, Any, Final, cast

from ipckit._core.fd_access import check_sender_cannot_shrink, checked_uid
from ipckit._core.handle import Handle
from ipckit._core.lazy_numpy import is_scalar_type, np
from ipckit._payload.dtypes import check_arrays, is_own_dtype
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
_PLAIN_DTYPE: Final = re.compile(r"[<>|=](?:[?bBiufcSUV]\d{1,10}|[mM]8(?:\[\d*[A-Za-z]{1,7}\])?)")
_PACKAGE: Final = "ml_dtypes"  # the only package that a peer can have imported
_PACKAGE_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_PACKAGE_ITEM_MAX: Final = 64
_DTYPE_KINDS: Final = frozenset("biufcSUVmM")
_MAX_DIMENSIONS: Final = 32
_MAX_NESTING: Final = 32
_MAX_SIZE: Final = 2**62
_MAX_DTYPE: Final = 2**31

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


# -- dtypes ----------------------------------------------------------------------------------------


def dtype_to_json(dtype: np.dtype[Any]) -> Any:
    """Return a dtype as JSON, with the offset of each field.

    Raises:
        TypeError: the dtype contains Python objects, or another process could not read its bytes.
    """
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return {"base": dtype_to_json(base), "shape": list(shape)}
    if dtype.names is not None:
        return _fields_to_json(dtype, dtype.names)
    kind: Any = dtype.type
    if kind.__module__ == _PACKAGE and _package_dtype(kind.__name__) == dtype:
        return {"package": _PACKAGE, "name": kind.__name__, "itemsize": dtype.itemsize}
    if dtype.hasobject or dtype.kind not in _DTYPE_KINDS or not is_own_dtype(dtype):
        message = f"{dtype!r} cannot be sent: another process could not read its bytes"
        raise TypeError(message)
    return dtype.str


def _fields_to_json(dtype: np.dtype[Any], names: tuple[str, ...]) -> Any:
    known: Any = dtype.fields
    fields = [known[name] for name in names]
    facts = {
        "names": list(names),
        "formats": [dtype_to_json(field[0]) for field in fields],
        "offsets": [field[1] for field in fields],
        "itemsize": dtype.itemsize,
    }
    titles: list[Any] = [field[2] if len(field) > 2 else None for field in fields]  # noqa: PLR2004
    if any(title is not None for title in titles):
        if not all(title is None or type(title) is str for title in titles):
            message = f"{dtype!r} cannot be sent: a title is not a str"
            raise TypeError(message)
        facts["titles"] = titles
    return facts


def _package_dtype(name: str) -> np.dtype[Any] | None:
    """Return a dtype of ml_dtypes; None if it is not installed, or has no type of that name."""
    try:
        package = importlib.import_module(_PACKAGE)
    except ImportError:
        return None
    kind = getattr(package, name, None)
    if not (isinstance(kind, type) and is_scalar_type(kind)):
        return None
    made: np.dtype[Any] = np.dtype(kind)
    return made


def dtype_from_json(value: Any, depth: int = 0, missing: list[str] | None = None) -> np.dtype[Any]:
    """Return the dtype that `dtype_to_json` described.

    Args:
        value: the description.
        depth: how many dtypes contain this one.
        missing: takes the names of types that this process does not have. Items of such a type are
            raw bytes in the result.

    Raises:
        Corrupt: the description is invalid.
    """
    if depth > _MAX_NESTING:
        raise corrupt("a dtype that is nested too deep")
    try:
        made = _dtype_from(value, depth + 1, [] if missing is None else missing)
    except IpcError:
        raise
    except Exception as exc:
        # numpy refuses descriptions with exceptions of many classes.
        raise corrupt(f"a dtype that numpy refuses ({type(exc).__name__})") from None
    if made.hasobject:
        raise corrupt("a dtype of Python objects")
    return made


def _dtype_from(value: Any, depth: int, missing: list[str]) -> np.dtype[Any]:
    numpy_dtype: Any = np.dtype
    made: np.dtype[Any]
    if isinstance(value, str):
        if not _PLAIN_DTYPE.fullmatch(value):
            raise corrupt(f"an unknown dtype: {value[:40]!r}")
        made = numpy_dtype(value)
        return made
    facts: dict[str, Any] = value  # the next line fails for anything else
    if "package" in facts:
        return _package_dtype_from(facts, missing)
    if "base" in facts:
        base = dtype_from_json(facts["base"], depth, missing)
        shape = shape_from_json(facts["shape"])
        if math.prod(shape) * max(1, base.itemsize) >= _MAX_DTYPE:
            raise corrupt("a dtype that is too large")
        made = numpy_dtype((base, shape))
        return made
    names, offsets, itemsize = facts["names"], facts["offsets"], facts["itemsize"]
    if not all(isinstance(name, str) for name in names):
        raise corrupt("a field without a name")
    if not all(type(each) is int for each in (*offsets, itemsize)):
        raise corrupt("a field without an offset")
    formats = [dtype_from_json(each, depth, missing) for each in facts["formats"]]
    spec = {"names": names, "formats": formats, "offsets": offsets, "itemsize": itemsize}
    if "titles" in facts:
        if not all(title is None or isinstance(title, str) for title in facts["titles"]):
            raise corrupt("a title that is not text")
        spec["titles"] = facts["titles"]
    made = numpy_dtype(spec)
    return made


def _package_dtype_from(facts: dict[str, Any], missing: list[str]) -> np.dtype[Any]:
    package, name, itemsize = facts["package"], facts["name"], facts["itemsize"]
    if package != _PACKAGE or not _PACKAGE_NAME.fullmatch(name):
        raise corrupt(f"an unknown dtype: {str(package)[:40]!r}, {str(name)[:40]!r}")
    if type(itemsize) is not int or not 0 < itemsize <= _PACKAGE_ITEM_MAX:
        raise corrupt("a dtype of an invalid size")
    made = _package_dtype(name)
    if made is None:
        missing.append(f"{package}.{name}")
        return np.dtype((np.void, itemsize))
    if made.itemsize != itemsize:
        raise corrupt(f"{package}.{name} of {itemsize} bytes")
    return made


def shape_from_json(value: Any) -> tuple[int, ...]:
    """Return the shape in a record.

    Raises:
        Corrupt: the shape is invalid.
    """
    if type(value) is not list:
        raise corrupt("an invalid shape: expected a list of non-negative integers")
    shape: tuple[Any, ...] = tuple(cast("Any", value))
    if len(shape) > _MAX_DIMENSIONS or not all(
        type(each) is int and 0 <= each < _MAX_SIZE for each in shape
    ):
        raise corrupt("an invalid shape: expected a list of non-negative integers")
    return shape


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
        _copy(target, source, order)
        del target
        memory.seal(_SEALS | Seal.SEAL)
    except BaseException:
        memory.close()
        raise
    return memory


def _bytes_of(memory: MemFd) -> Any:
    # Over a memoryview, numpy would refer to the object below it, and would not keep that mapped.
    return memory.array(np.uint8)


def _copy(target: npt.NDArray[Any], source: npt.NDArray[Any], order: str) -> None:
    if order == "C" and not source.flags.c_contiguous:
        np.copyto(target, source, casting="no")
        return
    # As bytes, so that padding is copied too, and so that overlapping fields do no harm.
    flat = (source if order == "C" else source.T).reshape(-1).view(np.uint8)
    (target if order == "C" else target.T).reshape(-1).view(np.uint8)[:] = flat


def array_in(facts: dict[str, Any], fds: Descriptors) -> npt.NDArray[Any]:
    """Return the array of a record and its descriptor, and on success take the descriptor.

    Raises:
        Corrupt: the record and the memory contradict each other, or the memory could change.
        LayoutMismatch: this process lacks a type of ml_dtypes; ``.raw`` has the array's bytes.
    """
    missing: list[str] = []
    dtype = dtype_from_json(facts.get("dtype"), missing=missing)
    array = _array_of(facts, dtype, fds)
    if missing:
        message = f"the peer sent an array of {missing[0]}, which this process does not have"
        hint = f"install {_PACKAGE}, in the sender's version or a later one"
        error = LayoutMismatch(message, errno=errno.EBADMSG, op="receive", hint=hint)
        error.raw = array.tobytes("A")
        raise error
    return array


def _array_of(facts: dict[str, Any], dtype: np.dtype[Any], fds: Descriptors) -> npt.NDArray[Any]:
    shape = shape_from_json(facts.get("shape"))
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
