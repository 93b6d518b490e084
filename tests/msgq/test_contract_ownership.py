"""Both classes of message queue: owners, closing and unlinking, and handles in other processes."""

from __future__ import annotations

import errno
import os
import pickle
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import ClosedHandle, IpcError, NotFound, Removed

if TYPE_CHECKING:
    from collections.abc import Callable

    from queue_kinds import Kind

    from ipckit.testing import Child


# -- ownership, closing, unlinking -----------------------------------------------------------------


def test_disown_and_adopt_move_the_duty_to_unlink(kind: Kind) -> None:
    address = kind.address()
    with kind.cls.create(address) as made:
        assert made.disown() is made
        assert not made.owner
    assert kind.exists(address)
    with kind.cls.open(address) as found:
        assert found.adopt() is found
        assert found.owner
    assert not kind.exists(address)


def test_with_unlinks_although_the_block_raised(kind: Kind) -> None:
    address = kind.address()
    with pytest.raises(ZeroDivisionError), kind.cls.create(address) as queue:
        _ = 1 / 0
    assert queue.closed
    assert not kind.exists(address)


def test_with_unlinks_although_the_block_closed(kind: Kind) -> None:
    address = kind.address()
    with kind.cls.create(address) as queue:
        queue.close()
    assert not kind.exists(address)


def test_with_accepts_that_the_queue_is_already_unlinked(kind: Kind) -> None:
    with kind.create() as queue:
        queue.unlink()
        assert not queue.owner
    with kind.create() as queue, kind.again(queue) as other:
        other.unlink()
        assert queue.owner


def test_close_is_idempotent_and_leaves_the_queue(kind: Kind) -> None:
    queue = kind.create()
    queue.send(b"stays")
    queue.close()
    queue.close()
    assert queue.closed
    with kind.again(queue) as other:
        assert other.receive(timeout=0).value == b"stays"
    queue.unlink()
    assert not kind.exists(kind.address_of(queue))


def test_unlink_works_once(queue: Any) -> None:
    queue.unlink()
    with pytest.raises(NotFound):
        queue.unlink()
    queue.unlink(missing_ok=True)
    queue.unlink(True)  # noqa: FBT003 - as pathlib has it


def test_a_dropped_handle_warns_closes_and_never_unlinks(kind: Kind) -> None:
    address = kind.address()
    queue = kind.cls.create(address)
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with pytest.warns(ResourceWarning, match=f"unclosed <{kind.cls.__name__}"):
        del queue
    assert len(os.listdir("/proc/self/fd")) == descriptors - (not kind.sysv)  # noqa: PTH208
    assert kind.exists(address)
    kind.ns.clear()


CALLS: dict[str, Callable[[Any], object]] = {
    "send": lambda queue: queue.send(b"x"),
    "send with timeout": lambda queue: queue.send(b"x", timeout=1),
    "send without waiting": lambda queue: queue.send(b"x", timeout=0),
    "send too much": lambda queue: queue.send(bytes(100_000)),
    "receive": lambda queue: queue.receive(),
    "receive with timeout": lambda queue: queue.receive(timeout=1),
    "receive without waiting": lambda queue: queue.receive(timeout=0),
    "drain": lambda queue: queue.drain(),
    "len": len,
    "iter": lambda queue: next(iter(queue)),
    "with": lambda queue: queue.__enter__(),
    "pickle": pickle.dumps,
}


@pytest.mark.parametrize("call", CALLS)
def test_every_call_on_a_closed_handle_raises_closed_handle(kind: Kind, call: str) -> None:
    with kind.create() as queue:
        queue.send(b"x")
        queue.close()
        with pytest.raises(ClosedHandle) as caught:
            CALLS[call](queue)
        assert isinstance(caught.value, ValueError)
        assert caught.value.errno == errno.EBADF


def test_a_closed_handle_still_says_what_it_was(queue: Any, kind: Kind) -> None:
    address, shown = kind.address_of(queue), repr(queue)
    queue.close()
    assert kind.address_of(queue) == address
    assert "closed" in repr(queue)
    assert "open" in shown


def test_repr_says_class_address_size_owner_and_state(kind: Kind) -> None:
    with kind.create() as queue, kind.again(queue) as other:
        queue.send(b"four")
        address = f"{queue.key:#010x}" if kind.sysv else queue.name
        for handle in (queue, other):
            shown = repr(handle)
            assert shown.startswith(f"<{kind.cls.__name__} ")
            assert address in shown
            assert "1 messages" in shown or "1 of 10 messages" in shown
            assert "open" in shown
            assert ("owner" in shown) is handle.owner


def test_repr_of_a_removed_queue_does_not_raise(kind: Kind) -> None:
    with kind.create() as queue:
        queue.unlink()
        assert kind.cls.__name__ in repr(queue)


def test_an_empty_queue_is_true(queue: Any) -> None:
    assert len(queue) == 0
    assert queue
    queue.send(b"x")
    assert len(queue) == 1
    assert queue


def test_nothing_registers_with_the_resource_tracker(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    for name in ("register", "unregister", "ensure_running"):
        monkeypatch.setattr(resource_tracker, name, lambda *args: told.append(args))
        monkeypatch.setattr(
            resource_tracker._resource_tracker,  # type: ignore[attr-defined]
            name,
            lambda *args: told.append(args),
        )
    with kind.create() as queue, pickle.loads(pickle.dumps(queue)) as copy:  # noqa: S301
        copy.send(b"x")
        queue.receive()
    assert told == []


def test_capabilities_say_what_the_classes_have(kind: Kind) -> None:
    caps = kind.cls.caps
    assert caps.pollable == hasattr(kind.cls, "fileno")
    assert caps.typed_receive == hasattr(kind.cls, "peek")
    with kind.create() as queue, kind.again(queue) as other:
        queue.send(b"x")
        queue.unlink()
        if caps.unlink_destroys_now:
            with pytest.raises(Removed):
                other.receive(timeout=0)
        else:
            assert other.receive(timeout=0).value == b"x"
        assert caps.priorities is not kind.sysv
        assert caps.timed is not kind.sysv


def test_a_removed_address_can_be_used_again_and_is_another_queue(kind: Kind) -> None:
    with kind.create() as first:
        first.unlink()
        with kind.cls.create(kind.address_of(first)) as second:
            second.send(b"second's")
            assert kind.exists(kind.address_of(second))
            with pytest.raises(IpcError):
                first.receive(timeout=0)
            assert len(second) == 1


def test_the_owner_of_a_removed_queue_does_not_unlink_its_successor(kind: Kind) -> None:
    with kind.create() as first:
        with kind.again(first) as other:
            other.unlink()
        successor = kind.cls.create(kind.address_of(first))
        assert first.owner
    with successor:
        assert kind.exists(kind.address_of(successor))


def test_closing_first_does_not_make_the_owner_unlink_a_successor(kind: Kind) -> None:
    with kind.create() as first:
        with kind.again(first) as other:
            other.unlink()
        successor = kind.cls.create(kind.address_of(first))
        first.close()
    with successor:
        assert kind.exists(kind.address_of(successor))


# -- other processes -------------------------------------------------------------------------------


WORKER = """
def answer(queue):
    with queue:
        assert not queue.owner, queue
        queue.send(queue.receive(timeout=60).value[::-1])
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_handles_go_to_workers_as_non_owners(
    kind: Kind, method: str, spawn: Callable[..., Child]
) -> None:
    (kind.ns.directory / "worker_of_a_test.py").write_text(WORKER)
    spawn(
        """
        import multiprocessing, sys
        method, cls, address, directory = args
        sys.path.insert(0, directory)
        from worker_of_a_test import answer
        with cls.create(address) as queue:
            queue.send(b"stressed")
            worker = multiprocessing.get_context(method).Process(target=answer, args=(queue,))
            worker.start()
            worker.join()
            assert worker.exitcode == 0, worker.exitcode
            worker.close()
            assert queue.receive(timeout=60).value == b"desserts"
            cls.open(address).close()  # the worker did not unlink it
        """,
        method,
        kind.cls,
        kind.address(),
        str(kind.ns.directory),
    ).wait()


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_opens_the_same_queue_with_the_same_type(kind: Kind, protocol: int) -> None:
    with kind.create(str) as queue:
        with pickle.loads(pickle.dumps(queue, protocol)) as copy:  # noqa: S301
            assert not copy.owner
            copy.send("grüße")
            with pytest.raises(TypeError):
                copy.send(b"bytes")
        assert queue.receive(timeout=0).value == "grüße"


def test_a_pickle_of_a_removed_queue_finds_nothing(kind: Kind) -> None:
    with kind.create() as queue:
        pickled = pickle.dumps(queue)
    with pytest.raises(NotFound):
        pickle.loads(pickled)  # noqa: S301


def test_a_forked_copy_neither_owns_nor_unlinks_nor_warns(
    kind: Kind, spawn: Callable[..., Child]
) -> None:
    child = spawn(
        """
        import gc, os
        cls, address = args
        with cls.create(address) as queue:
            pid = os.fork()
            if pid == 0:
                try:
                    assert not queue.owner
                    with queue:
                        queue.send(b"from the copy")
                finally:
                    os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            assert queue.owner
            assert queue.receive(timeout=0).value == b"from the copy"
            pid = os.fork()
            if pid == 0:
                del queue
                gc.collect()
                os._exit(0)
            os.waitpid(pid, 0)
            cls.open(address).close()
        """,
        kind.cls,
        kind.address(),
    )
    child.wait()
    assert child.stderr == ""
