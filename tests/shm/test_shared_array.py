"""SharedArray: every dtype and shape, names, pickles, other processes, and hostile headers."""

from __future__ import annotations

import copy
import errno
import gc
import json
import os
import pickle
import signal
import struct
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from layout_page import Section, up

from ipckit import (
    AccessDenied,
    AlreadyExists,
    Array,
    Char,
    ClosedHandle,
    Corrupt,
    Counter,
    Double,
    InvalidArgument,
    LayoutMismatch,
    LimitReached,
    MemFd,
    NotFound,
    PosixSharedMemory,
    SharedArray,
    Struct,
    Timeout,
    pair,
)
from ipckit._shm import lending

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Child, Namespace

ml_dtypes = pytest.importorskip("ml_dtypes")
SHM = Path("/dev/shm")  # noqa: S108


class Stu(Struct):
    name: Char[32]
    marks: Array[Double, 2]


class Unnamed(np.void):
    """A dtype of a class, whose bytes only its module explains."""


OVERLAPPING = np.dtype(
    {"names": ["whole", "low"], "formats": ["<u4", "<u2"], "offsets": [0, 0], "itemsize": 6}
)

ARRAYS: dict[str, Any] = {
    "floats": np.linspace(0, 1, 12).reshape(3, 4),
    "0-d": np.array(7, np.int16),
    "empty": np.zeros((0, 3)),
    "empty inside": np.zeros((4, 0, 2), ">i4"),
    "Fortran": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "three dimensions": np.asfortranarray(np.arange(24).reshape(2, 3, 4)),
    "big-endian": np.arange(5, dtype=">u4"),
    "reversed": np.arange(10)[::-2],
    "sliced": np.arange(20).reshape(4, 5)[1:, ::2],
    "axes moved": np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    "broadcast": np.broadcast_to(np.arange(3), (4, 3)),
    "read-only": np.frombuffer(b"12345678", "<u2"),
    "bool": np.array([True, False]),
    "complex": np.array([1j, 2]),
    "half": np.array([0.5], np.float16),
    "long double": np.array([1.5], np.longdouble),
    "text": np.array(["amy", "bö"]),
    "bytes": np.array([b"amy", b""]),
    "void": np.array([b"ab\0"], "V3"),
    "dates": np.array(["2020-02-29", "NaT"], "M8[D]"),
    "spans": np.array([1, 2], "m8[25us]"),
    "records": np.array(
        [(1, [2, 3], ("x", 4))], [("a", "i1"), ("b", ">f8", 2), ("c", [("d", "U2"), ("e", "<i8")])]
    ),
    "aligned": np.zeros(3, np.dtype([("a", "i1"), ("b", "f8")], align=True)),
    "overlapping": np.array([(70000, 4464)], OVERLAPPING),
    "titles": np.zeros(2, [(("the title", "a"), "i4")]),
    "Struct": np.zeros(2, Stu.dtype),
    "bfloat16": np.array([1.5, -2], ml_dtypes.bfloat16),
    "float8": np.array([1.5, -2], ml_dtypes.float8_e4m3fn),
    "int4": np.array([-8, 7], ml_dtypes.int4),
    "bfloat16 in records": np.zeros(2, [("x", ml_dtypes.bfloat16)]),
}


def check_equal(one: Any, other: Any) -> None:
    assert (one.dtype, one.shape) == (other.dtype, other.shape)
    assert one.dtype.type is other.dtype.type
    assert one.tobytes() == np.ascontiguousarray(other).tobytes()


# -- creating --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ARRAYS)
def test_an_array_keeps_its_type_shape_and_values(kind: str, ns: Namespace) -> None:
    source = ARRAYS[kind]
    with SharedArray.from_array(source, name=ns.name()) as made:
        check_equal(made.array, source)
        assert (made.shape, made.dtype, made.nbytes) == (source.shape, source.dtype, source.nbytes)
        assert made.array.flags.writeable
        assert made.array.ctypes.data % 64 == 0
        fortran = source.flags.f_contiguous and not source.flags.c_contiguous
        assert made.array.flags.f_contiguous if fortran else made.array.flags.c_contiguous
        with SharedArray.open(str(made.name)) as other, copy.copy(made) as copied:
            for each in (other, copied):
                check_equal(each.array, source)
                assert each.array.strides == made.array.strides
            copied.array[...] = np.zeros((), source.dtype)
            check_equal(made.array, other.array)
    with SharedArray.from_array(source) as anonymous, copy.copy(anonymous) as other:
        check_equal(other.array, source)


def test_create_gives_zeros_of_any_dtype_and_shape() -> None:
    for shape, dtype, expected in [
        (3, float, np.zeros(3)),
        ([2, 3], "<i2", np.zeros((2, 3), "<i2")),
        ((), "u1", np.zeros((), "u1")),
        (np.int64(2), Stu, np.zeros(2, Stu.dtype)),
        ((2,), (np.int32, (3, 4)), np.zeros((2, 3, 4), np.int32)),
        ((2, 0), ml_dtypes.bfloat16, np.zeros((2, 0), ml_dtypes.bfloat16)),
    ]:
        made = SharedArray.create(shape, dtype)  # type: ignore[call-overload]
        check_equal(made.array, expected)
        assert made.shape == expected.shape
    order = SharedArray.create((3, 4), float, order="F")
    assert order.array.strides == (8, 24)


def test_from_array_takes_what_numpy_converts() -> None:
    assert SharedArray.from_array([[1, 2], [3, 4]]).array.tolist() == [[1, 2], [3, 4]]
    assert SharedArray.from_array(memoryview(b"ab")).array.tolist() == [97, 98]  # type: ignore[arg-type]
    shared = SharedArray.from_array(2.5)
    assert SharedArray.from_array(shared).array[()] == 2.5  # type: ignore[call-overload]
    source = np.arange(3)
    made = SharedArray.from_array(source)
    source[0] = 9
    assert made.array[0] == 0


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (np.array([None, "x"]), r"references to Python objects.*a\.astype\(float\)"),
        (np.zeros(2, [("a", object)]), "references to Python objects"),
        (np.ma.array([1, 2], mask=[0, 1]), "masked"),
        ([np.ma.array([1])], "masked"),
        (np.zeros(2, np.dtype((Unnamed, 4))), "could not read its bytes"),
        (np.zeros(2, [((1, "a"), "i4")]), "a title is not a str"),
    ],
)
def test_what_another_process_could_not_read_is_refused(array: Any, why: str) -> None:
    with pytest.raises(TypeError, match=why):
        SharedArray.from_array(array)


@pytest.mark.parametrize(
    ("arguments", "error", "why"),
    [
        ((3, object), TypeError, "references to Python objects"),
        ((3, "U"), TypeError, "has no size; for text, give one, such as 'U20'"),
        ((3, "no such type"), TypeError, "no such type"),
        ((2.5, float), TypeError, "shape must be an int or a sequence of ints, not 2.5"),
        (("3", float), TypeError, "shape must be"),
        (((2, -1), float), InvalidArgument, "shape"),
        (((2**40, 2**40), float), InvalidArgument, "shape"),
        (((1,) * 33, float), InvalidArgument, "up to 32 dimensions, not 33"),
        ((2**60, "u1"), LimitReached, "available"),
    ],
)
def test_invalid_arguments_say_why(arguments: Any, error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why):
        SharedArray.create(*arguments)
    with pytest.raises(InvalidArgument, match="order"):
        SharedArray.create(3, float, order="A")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="no public constructor"):
        SharedArray()  # type: ignore[call-arg]


# -- the array -------------------------------------------------------------------------------------


def test_numpy_takes_the_handle_without_a_copy() -> None:
    with SharedArray.create(3, "<i4") as shared:
        array = np.asarray(shared)
        assert array is shared.array
        array[0] = 7
        assert shared.array[0] == 7
        assert np.shares_memory(np.asarray(shared, dtype="<i4"), array)
        assert np.asarray(shared, dtype=float).tolist() == [7.0, 0.0, 0.0]
        assert not np.shares_memory(np.array(shared), array)
        assert not np.shares_memory(np.array(shared, copy=True), array)
        assert (np.sum(shared), np.max(shared)) == (7, 7)
        if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
            assert np.array(shared, copy=False) is array
            with pytest.raises(ValueError, match="copy"):
                np.array(shared, dtype=float, copy=False)
        assert memoryview(array).nbytes == 12


def test_an_array_outlives_its_handle() -> None:
    shared = SharedArray.from_array(np.arange(5))
    mapping = shared._memory._mapping
    view = shared.array[1:]
    shared.close()
    shared.close()
    assert view.tolist() == [1, 2, 3, 4]
    assert mapping.exports > 0
    for act in (lambda: shared.array, shared.fileno, lambda: np.asarray(shared)):
        with pytest.raises(ClosedHandle):
            act()
    assert repr(shared) == "<SharedArray anonymous shared array, closed>"
    del view
    assert mapping.exports == 0


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_an_anonymous_array_needs_no_close() -> None:
    descriptors = open_descriptors()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shared = SharedArray.create(3, float)
        array = shared.array
        del shared
        gc.collect()
        array[0] = 1
    assert open_descriptors() == descriptors


def test_a_named_array_that_was_not_closed_warns(ns: Namespace) -> None:
    name = ns.name()
    shared = [SharedArray.create(3, float, name=name)]
    with pytest.warns(ResourceWarning, match=f"unclosed <SharedArray shared array {name}"):
        shared.clear()
    SharedArray.open(name).adopt().__exit__(None, None, None)


def test_a_full_file_system_is_an_error(ns: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(LimitReached, match=r"shared array /.*no room .* are free; .*--shm-size"):
        SharedArray.create(1000, float, name=ns.name())


# -- names -----------------------------------------------------------------------------------------


def test_a_name_has_the_lifecycle_of_other_handles(ns: Namespace) -> None:
    name = ns.name()
    with pytest.raises(NotFound, match=r"create it with SharedArray\.create\(shape, dtype, name="):
        SharedArray.open(name)
    with SharedArray.create((2, 3), float, name=name, mode=0o640) as shared:
        assert (shared.owner, shared.name) == (True, name)
        assert (SHM / name[1:]).stat().st_mode & 0o777 == 0o640
        with pytest.raises(AlreadyExists, match=r"SharedArray\.open\("):
            SharedArray.create((2, 3), float, name=name)
        with SharedArray.open_or_create((2, 3), float, name=name, mode=0o640) as other:
            assert not other.owner
            other.array[1, 2] = 5
        assert shared.array[1, 2] == 5
        with SharedArray.open(name, readonly=True) as reader:
            assert reader.readonly
            assert not reader.array.flags.writeable
            assert repr(reader) == (
                f"<SharedArray shared array {name}, (2, 3) float64, read-only, open>"
            )
            with copy.copy(reader) as copied:
                assert copied.readonly
    assert not (SHM / name[1:]).exists()
    with SharedArray.open_or_create(3, float, name=name) as shared:
        assert shared.owner
        shared.unlink()
        with pytest.raises(NotFound):
            shared.unlink()
        shared.unlink(missing_ok=True)
        assert copy.copy(shared).shape == (3,)  # by its descriptor


def test_open_or_create_compares_type_shape_and_order(ns: Namespace) -> None:
    name = ns.name()
    with SharedArray.create((2, 3), ml_dtypes.bfloat16, name=name):
        for shape, dtype, order in [
            ((3, 2), ml_dtypes.bfloat16, "C"),
            ((2, 3), "V2", "C"),
            ((2, 3), ml_dtypes.bfloat16, "F"),
        ]:
            with pytest.raises(LayoutMismatch, match=r"the array is \(2, 3\) bfloat16"):
                SharedArray.open_or_create(shape, dtype, name=name, order=order)  # type: ignore[arg-type]


def test_another_object_of_the_name_is_not_unlinked(ns: Namespace) -> None:
    name = ns.name()
    first = SharedArray.create(3, float, name=name)
    first.disown().unlink()
    with SharedArray.create(4, float, name=name):
        with pytest.raises(NotFound, match="another object"):
            first.unlink()
        with first.adopt():
            pass
        assert (SHM / name[1:]).exists()


@pytest.mark.parametrize("cls", [SharedArray, Counter])
def test_remove_needs_no_handle(cls: Any, ns: Namespace) -> None:
    name = ns.name()
    cls.remove(name, missing_ok=True)
    with pytest.raises(NotFound, match=f"{name}: no such {cls._word}"):
        cls.remove(name)
    made = SharedArray.create((), np.int64, name=name).disown()
    made.close()
    cls.remove(name)
    with pytest.raises(NotFound):
        cls.open(name)
    with pytest.raises(InvalidArgument):
        cls.remove("/")


# -- other processes -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_it_reaches_processes_and_pools_however_they_start(
    method: str, spawn: Callable[..., Child]
) -> None:
    result = spawn(Path(__file__).with_name("share_arrays.py"), method).result
    assert result.pop("process") == [0, 3]
    assert result.pop("seen") == [5, 6, 3]
    if method == "fork":  # a task is pickled in the same way, however the workers started
        assert result == {
            "ProcessPool": list(range(4, 44)),
            "ProcessPool made": [0, 1, 4, 9],
            "ProcessPoolExecutor": list(range(44, 84)),
            "ProcessPoolExecutor made": [0, 1, 4, 9],
            "sum": 85,
        }


def test_a_pickle_is_short_and_opens_any_number_of_times(spawn: Callable[..., Child]) -> None:
    code = """
        import pickle
        from ipckit.testing import step
        pickled = bytes.fromhex(args[0])
        arrays = [pickle.loads(pickled) for _ in range(3)]
        arrays[0].array[2] = 8
        result = [array.array.tolist() for array in arrays]
    """
    with SharedArray.create(100_000, np.int8) as shared:
        shared.array[:2] = 1
        pickled = pickle.dumps(shared)
        assert len(pickled) < 300
        (first, *_), second, _ = spawn(code, pickled.hex()).result
        assert second[:4] == [1, 1, 8, 0]
        assert first == 1
        assert shared.array[2] == 8


def test_a_pickle_keeps_the_memory_until_it_is_opened(spawn: Callable[..., Child]) -> None:
    del spawn
    pickled = pickle.dumps(SharedArray.from_array(np.arange(4)))
    gc.collect()
    assert len(lending._KEPT) == 1
    made = pickle.loads(pickled)  # noqa: S301
    assert made.array.tolist() == [0, 1, 2, 3]
    pickle.loads(pickle.dumps(SharedArray.create(1, float)))  # noqa: S301 - the next one closes it
    assert len(lending._KEPT) <= 1
    lending._close_unneeded()
    assert not lending._KEPT
    with pytest.raises(NotFound, match=r"process \d+, which pickled it, has exited or has freed"):
        pickle.loads(pickled)  # noqa: S301
    pid, _, file = lending.lend(made._memory)
    lending.count_opened(made._memory)
    with Path("/proc/self/stat").open() as other, pytest.raises(NotFound, match="has freed"):
        lending.open_loan((pid, other.fileno(), file), "it")  # the number of another file by now


def test_a_pickle_of_a_process_that_has_exited_says_so(spawn: Callable[..., Child]) -> None:
    code = """
        import pickle
        from ipckit import SharedArray
        result = pickle.dumps(SharedArray.create(3, float)).hex()
    """
    child = spawn(code)
    pickled = bytes.fromhex(child.result)
    child.finish()
    with pytest.raises(NotFound, match=f"process {child.pid}, which pickled it, has exited"):
        pickle.loads(pickled)  # noqa: S301


def test_a_process_that_may_not_open_a_pickle_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(errno.EACCES, "denied")

    shared = SharedArray.create(1, float)
    pickled = pickle.dumps(shared)
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", denied)
        with pytest.raises(AccessDenied, match=rf"memory of process {os.getpid()}.*give it a name"):
            pickle.loads(pickled)  # noqa: S301
    pickle.loads(pickled)  # noqa: S301


def test_a_forked_child_keeps_no_memory_for_pickles_of_its_parent() -> None:
    shared = SharedArray.create(1, float)
    pickled = pickle.dumps(shared)
    shared.close()
    assert len(lending._KEPT) == 1
    pid = os.fork()
    if pid == 0:
        try:
            made = pickle.loads(pickled)  # noqa: S301
            made.array[0] = 5
            os._exit(len(lending._KEPT))
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    lending._close_unneeded()
    assert not lending._KEPT


def test_a_killed_process_leaves_nothing(ns: Namespace) -> None:
    del ns
    before = sorted(SHM.iterdir())
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            shared = SharedArray.create(1000, float)
            os.write(writing, pickle.dumps(shared))
            signal.pause()
        finally:
            os._exit(1)
    made = pickle.loads(os.read(reading, 4096))  # noqa: S301
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(reading)
    os.close(writing)
    made.array[999] = 3  # the memory lives as long as this process uses it
    assert sorted(SHM.iterdir()) == before


def test_it_is_passed_over_a_socket(ns: Namespace) -> None:
    left, right = pair()
    with left, right:
        for name in (None, ns.name()):
            with SharedArray.from_array(np.arange(6).reshape(2, 3), name=name) as shared:
                left.send_handle(shared)
                with right.receive_handle(SharedArray) as received:
                    assert received.array.tolist() == [[0, 1, 2], [3, 4, 5]]
                    assert (received.owner, received.name) == (False, name)
                with SharedArray.from_fd(os.dup(shared.fileno()), readonly=True) as other:
                    assert not other.array.flags.writeable
    with pytest.raises(InvalidArgument):
        SharedArray.from_fd(10**6)
    with Path("/proc/self/stat").open() as file, pytest.raises((InvalidArgument, AccessDenied)):
        SharedArray.from_fd(file.fileno())


def test_open_waits_for_a_creator_that_copies(ns: Namespace) -> None:
    name = ns.name()
    with PosixSharedMemory.create(name, 4096) as memory:
        with pytest.raises(Timeout, match="no header yet: its creator is slow, or died"):
            SharedArray.open(name, timeout=0.01)
        with pytest.raises(Timeout):
            SharedArray.open_or_create(3, float, name=name, timeout=0.01)
        memory.write(b"x")
        with pytest.raises(Corrupt, match="the memory contains something else"):
            SharedArray.open(name)


# -- hostile headers -------------------------------------------------------------------------------

PREFIX = struct.Struct("=8sIIQQq")


def header_of(facts: Any, **changes: Any) -> bytes:
    text = facts if isinstance(facts, bytes) else json.dumps(facts).encode()
    offset = (40 + len(text) + 63) // 64 * 64
    known = {"magic": b"ipckitND", "version": 1, "length": len(text), "offset": offset, "size": 24}
    known |= changes
    return PREFIX.pack(*known.values(), 0) + text


GOOD = {"dtype": "<f8", "shape": [3], "order": "C"}

HOSTILE: dict[str, bytes] = {
    "another version": header_of(GOOD, version=2),
    "text past the end": header_of(GOOD, length=4096),
    "text of 4 GiB": header_of(GOOD, length=2**32 - 1),
    "data elsewhere": header_of(GOOD, offset=64),
    "data past the end": header_of(GOOD, offset=2**63),
    "another size": header_of(GOOD, size=8),
    "too large a shape": header_of(GOOD | {"shape": [2**40, 2**20]}, size=2**63),
    "overflow": header_of(GOOD | {"shape": [2**61]}, size=2**64 - 1),
    "larger than the memory": header_of(GOOD | {"shape": [1000]}, size=8000),
    "a negative shape": header_of(GOOD | {"shape": [-3]}),
    "a shape of floats": header_of(GOOD | {"shape": [3.0]}),
    "no shape": header_of({"dtype": "<f8", "order": "C"}),
    "no order": header_of({"dtype": "<f8", "shape": [3]}),
    "another order": header_of(GOOD | {"order": "K"}),
    "objects": header_of(GOOD | {"dtype": "|O"}),
    "objects in fields": header_of(
        GOOD | {"dtype": {"names": ["a"], "formats": ["|O8"], "offsets": [0], "itemsize": 8}}
    ),
    "a subarray": header_of(GOOD | {"dtype": {"base": "<f8", "shape": [3]}, "shape": []}),
    "no size": header_of(GOOD | {"dtype": "<U0"}, size=0),
    "a package": header_of(GOOD | {"dtype": {"package": "os", "name": "x", "itemsize": 8}}),
    "code": header_of(GOOD | {"dtype": "__import__('os')"}),
    "nested too deep": header_of(b"[" * 2000),
    "a list": header_of([]),
    "no JSON": header_of(b"\xff\xfe"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_an_invalid_header_is_corrupt(kind: str) -> None:
    with MemFd.create("hostile", 4096) as memory:
        memory.write(HOSTILE[kind])
        fd = memory.fileno()
        with pytest.raises(Corrupt, match="expected the header of a shared array, but the memory"):
            SharedArray.from_fd(fd)
        assert memory.fileno() == fd
        os.fstat(fd)  # still the caller's


def test_the_header_is_what_the_documentation_says() -> None:
    with MemFd.create("made by hand", 4096) as memory:
        memory.write(header_of(GOOD))
        memory.array("<f8", 3, offset=128)[:] = [1, 2, 3]
        with SharedArray.from_fd(os.dup(memory.fileno())) as shared:
            assert shared.array.tolist() == [1, 2, 3]
    section = Section("SharedArray")
    rows = section.rows("Header", "offset | bytes | name")
    places = {name: (int(at), int(size)) for at, size, name, _ in rows if size.isdigit()}
    with SharedArray.create((2, 3), ">i2", order="F") as shared:
        data = shared._memory.read()
        found = {name: data[at : at + size] for name, (at, size) in places.items()}
        assert found.pop("magic") == b"ipckitND"
        numbers = {name: int.from_bytes(value, sys.byteorder) for name, value in found.items()}
        text_size = numbers["text_size"]
        assert numbers == {
            "version": section.version,
            "text_size": text_size,
            "data_offset": up(40 + text_size, 64),
            "data_size": 12,
            "waiting": 0,
        }
        facts = {"dtype": ">i2", "shape": [2, 3], "order": "F"}
        assert json.loads(data[40 : 40 + text_size]) == facts


def test_memory_of_an_unknown_type_says_what_is_missing() -> None:
    facts = GOOD | {"dtype": {"package": "ml_dtypes", "name": "float7_new", "itemsize": 8}}
    with MemFd.create("unknown", 4096) as memory:
        memory.write(header_of(facts))
        with pytest.raises(LayoutMismatch, match=r"ml_dtypes\.float7_new.*install ml_dtypes"):
            SharedArray.from_fd(memory.fileno())


def test_a_memfd_that_its_sender_can_shrink_is_refused() -> None:
    with MemFd.create("no seal", 4096, seal=0) as memory:
        memory.write(header_of(GOOD))
        with pytest.raises(InvalidArgument, match="lacks the seal"):
            SharedArray.from_fd(memory.fileno())


def test_a_counter_is_an_array_of_one_number() -> None:
    with (
        Counter.create(value=5) as counter,
        SharedArray.from_fd(os.dup(counter.fileno())) as array,
    ):
        assert (array.shape, array.dtype, int(array.array[()])) == ((), np.int64, 5)
