"""Arrays and handles that are sent through a UNIX socket."""

from __future__ import annotations

from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ipckit import (
    Handle,
    LayoutMismatch,
    MemFd,
    PosixMessageQueue,
    PosixSharedMemory,
    UnixListener,
    UnixSocket,
    connect,
    listen,
    pair,
)

if TYPE_CHECKING:
    from socket_pairs import Pair

    from ipckit.testing import Namespace


ARRAYS = {
    "plain": np.arange(10),
    "scalar": np.array(3.5),
    "strided": np.arange(24).reshape(4, 6)[::2, ::-3],
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "empty": np.zeros((0, 3), "<f4"),
    "big-endian": np.arange(5, dtype=">i4"),
    "bool": np.array([[True, False]]),
    "text": np.array(["a", "äöü"]),
    "time": np.array(["2026-01-01"], "M8[s]"),
    "complex": np.array([1 + 2j]),
    "structured": np.array(
        [(1, b"x", [[1, 2], [3, 4]], (5.0,))],
        np.dtype(
            [("a", "i1"), ("b", "S3"), ("c", "<u2", (2, 2)), ("d", [("e", "f8")])], align=True
        ),
    ),
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=list(ARRAYS))
def test_arrays_cross_as_they_are(both: Pair, array: Any) -> None:
    both[0].send_array(array)
    found = both[1].receive_array(timeout=5)
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert (found == array).all()
    assert not found.flags.writeable
    both[0].close()
    assert (found == array).all()


def test_arrays_without_plain_bytes(both: Pair) -> None:
    with pytest.raises(TypeError, match="no bytes"):
        both[0].send_array(np.array([object()]))


def test_handles_cross(both: Pair, ns: Namespace) -> None:
    first, second = both
    with PosixMessageQueue.create(ns.name()) as queue:
        first.send_handle(queue)
        queue.send(b"through")
        with second.receive_handle(PosixMessageQueue) as other:
            assert other.receive().value == b"through"
            assert not other.owner
    with PosixSharedMemory.create(ns.name(), 10) as memory:
        first.send_handle(memory)
        memory.write(b"shared")
        with second.receive_handle(PosixSharedMemory) as view:
            assert view.read(6) == b"shared"
    with MemFd.create("label", 10) as sealed:
        first.send_handle(sealed)
        with second.receive_handle() as any_one:
            assert isinstance(any_one, MemFd)
        first.send_handle(sealed)
        with pytest.raises(LayoutMismatch, match="expected UnixSocket, but received MemFd"):
            second.receive_handle(UnixSocket)
    third, fourth = pair()
    with third, fourth:
        first.send_handle(third)
        third.send(b"early")
        with second.receive_handle(UnixSocket):
            assert fourth.receive().data == b"early"
    with pytest.raises(TypeError, match="no descriptor"):
        first.send_handle(_NoDescriptor())


class _NoDescriptor(Handle):
    def __init__(self) -> None:
        super().__init__(owner=False)
        self.close()

    def _release(self) -> None: ...
    def _remove(self) -> None: ...
    def _size_text(self) -> str:
        return ""

    def _reopen_args(self) -> tuple[Any, ...]:
        return ()

    @classmethod
    def _reopen(cls, *_: Any) -> Any:
        raise NotImplementedError

    @property
    def _target(self) -> str:
        return "nothing"


def test_a_listener_is_handed_over_with_its_file(ns: Namespace) -> None:
    path = ns.path()
    first, second = pair()
    with first, second, listen(path) as old, connect(path) as early:
        first.send_handle(old.disown())
        old.close()
        with second.receive_handle(UnixListener).adopt() as new:
            assert new.address == str(path)
            with connect(path) as late, new.accept() as one, new.accept() as two:
                early.send(b"early")
                late.send(b"late")
                assert (one.receive().data, two.receive().data) == (b"early", b"late")
        assert not path.exists()


def test_a_handle_goes_to_a_child_of_multiprocessing(both: Pair) -> None:
    context = get_context("spawn")
    child = context.Process(target=_send_from_child, args=(both[0],))
    child.start()
    child.join()
    assert child.exitcode == 0
    child.close()
    assert both[1].receive(timeout=5).data == b"from the child"
    from multiprocessing import resource_tracker  # noqa: PLC0415

    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


def _send_from_child(sock: UnixSocket) -> None:
    with sock:
        sock.send(b"from the child")
