"""Message queues among real interpreters: killed, interrupted, removed, shared, forbidden."""

from __future__ import annotations

import errno
import signal
import subprocess
import threading
import zlib
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

import ipckit
from ipckit import PosixMessageQueue, SysVMessageQueue
from ipckit.testing import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Child, Namespace

# In a child: args[0] is the kind and args[1] the key or name.
PREAMBLE = """
import errno, os, signal, sys, time, zlib
import ipckit
from ipckit import PosixMessageQueue, SysVMessageQueue
from ipckit.testing import step
KIND, WHERE, *REST = args
CLASS = SysVMessageQueue if KIND == "sysv" else PosixMessageQueue
def outcome(call, *args, **options):
    try:
        return call(*args, **options)
    except Exception as exc:
        return type(exc).__name__, getattr(exc, "errno", None), str(exc)
def numbered(number, sender=0):
    text = b"%d %d " % (sender, number) + b"x" * (number % 20)
    return b"%08x " % zlib.crc32(text) + text
def number_of(message):
    crc, _, text = message.value.partition(b" ")
    assert int(crc, 16) == zlib.crc32(text), message
    sender, number, _ = text.split(b" ")
    return int(sender), int(number)
"""


class Kind:
    """One of the two classes, and one queue of it."""

    def __init__(self, name: str, ns: Namespace, spawn: Callable[..., Child]) -> None:
        self.name = name
        self._spawn = spawn
        self.where: Any = ns.key() if name == "sysv" else ns.name()
        self.queue: Any = (
            SysVMessageQueue.create(self.where, max_bytes=256)
            if name == "sysv"
            else PosixMessageQueue.create(self.where, max_messages=8, max_size=64)
        )

    def child(self, code: str, *args: object, **options: Any) -> Child:
        return self._spawn(PREAMBLE + dedent(code), self.name, self.where, *args, **options)

    def asleep(self, verb: str, timeout: float | None) -> str:
        """The system call in which a blocked call sleeps."""
        if self.name == "sysv":
            return "clock_nanosleep" if timeout else {"receive": "msgrcv", "send": "msgsnd"}[verb]
        return "poll" if timeout else f"mq_timed{verb}"

    def fill(self) -> int:
        """Send until there is no room; how many that were."""
        count = 0
        while True:
            try:
                self.queue.send(b"full", timeout=0)
            except ipckit.WouldBlock:
                return count
            count += 1


@pytest.fixture(params=["sysv", "posix"])
def kind(
    request: pytest.FixtureRequest, ns: Namespace, spawn: Callable[..., Child]
) -> Iterator[Kind]:
    made = Kind(request.param, ns, spawn)
    yield made
    made.queue.unlink(missing_ok=True)
    made.queue.close()


def numbers(text: str) -> list[int]:
    return [int(line) for line in text.splitlines()]


def number_of(message: Any) -> int:
    crc, _, text = message.value.partition(b" ")
    assert int(crc, 16) == zlib.crc32(text), f"a torn message: {message}"
    return int(text.split(b" ")[1])


# -- kill -9 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [None, 600])
def test_a_killed_blocked_receiver_loses_no_message(kind: Kind, timeout: float | None) -> None:
    child = kind.child("with CLASS.open(WHERE) as queue: queue.receive(timeout=REST[0])", timeout)
    child.wait_blocked(kind.asleep("receive", timeout))
    child.kill()
    assert child.status == "killed by SIGKILL"
    kind.queue.send(b"for another")
    assert kind.queue.receive(timeout=0).value == b"for another"


@pytest.mark.parametrize("timeout", [None, 600])
def test_a_killed_blocked_sender_sends_nothing(kind: Kind, timeout: float | None) -> None:
    count = kind.fill()
    child = kind.child(
        'with CLASS.open(WHERE) as queue: queue.send(b"x", timeout=REST[0])', timeout
    )
    child.wait_blocked(kind.asleep("send", timeout))
    child.kill()
    assert [message.value for message in kind.queue.drain()] == [b"full"] * count
    with pytest.raises(ipckit.WouldBlock):
        kind.queue.receive(timeout=0)


def test_a_receiver_killed_in_a_stream_loses_only_what_it_received(kind: Kind) -> None:
    sender = kind.child("""
        with CLASS.open(WHERE) as queue:
            for number in range(2000):
                queue.send(numbered(number))
            queue.send(b"end")
    """)
    receiver = kind.child("""
        with CLASS.open(WHERE) as queue:
            while True:
                os.write(1, b"%d\\n" % number_of(queue.receive())[1])
                step.tell("took one")
    """)
    for _ in range(50):
        receiver.expect("took one")
    receiver.kill()
    taken = numbers(receiver.stdout)
    assert taken == list(range(len(taken)))
    rest = []
    while (message := kind.queue.receive(timeout=30)).value != b"end":
        rest.append(number_of(message))
    sender.wait()
    # It may have received one more and not yet written it down.
    assert rest[0] - len(taken) in {0, 1}
    assert rest == list(range(rest[0], 2000))


def test_a_sender_killed_in_a_stream_leaves_whole_messages(kind: Kind) -> None:
    sender = kind.child("""
        with CLASS.open(WHERE) as queue:
            for number in range(10**9):
                queue.send(numbered(number))
    """)
    got = [number_of(kind.queue.receive(timeout=30)) for _ in range(200)]
    sender.kill()
    got += [number_of(message) for message in kind.queue.drain()]
    assert got == list(range(len(got)))
    with pytest.raises(ipckit.WouldBlock):
        kind.queue.receive(timeout=0)


def test_a_killed_process_loses_its_registration(
    ns: Namespace, spawn: Callable[..., Child]
) -> None:
    kind = Kind("posix", ns, spawn)
    with kind.queue as queue:
        child = kind.child("""
            queue = CLASS.open(WHERE)
            queue.notify(lambda: None, repeat=True)
            step.tell("registered")
            step.hear()
        """)
        child.expect("registered")
        with pytest.raises(ipckit.AlreadyExists):
            queue.notify(signal.SIGUSR1)
        child.kill()
        told = threading.Event()
        queue.notify(told.set)
        queue.send(b"x")
        assert told.wait(30)


# -- removal ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [None, 600])
@pytest.mark.parametrize("verb", ["receive", "send"])
@pytest.mark.parametrize("by", ["unlink", "ipcrm"])
def test_removal_ends_a_blocked_call_of_another_process(
    ns: Namespace, spawn: Callable[..., Child], by: str, verb: str, timeout: float | None
) -> None:
    kind = Kind("sysv", ns, spawn)
    if verb == "send":
        kind.fill()
    child = kind.child(
        """
        verb, timeout = REST
        with CLASS.open(WHERE) as queue:
            payload = [b"x"] if verb == "send" else []
            result = [outcome(getattr(queue, verb), *payload, timeout=timeout)]
            # Each new call fails in the same way.
            result += [outcome(queue.send, b"x"), outcome(queue.receive), outcome(queue.stat)]
            result += [outcome(queue.receive, timeout=0), outcome(queue.peek), outcome(len, queue)]
            assert [message for message in queue] == []
        """,
        verb,
        timeout,
    )
    child.wait_blocked(kind.asleep(verb, timeout))
    if by == "unlink":
        kind.queue.unlink()
    else:
        subprocess.run(["ipcrm", "-q", str(kind.queue.id)], check=True)
    first, *later = child.result
    # A call with a timeout looks again and again: it may be in the kernel at the removal or not.
    assert first[0] == "Removed"
    assert first[1] in ({errno.EINVAL, errno.EIDRM} if timeout else {errno.EIDRM})
    assert {outcome[:2] for outcome in later} == {("Removed", errno.EINVAL)}
    assert all("the queue was removed" in outcome[2] for outcome in (first, *later))
    kind.queue.close()


def test_an_unlinked_posix_queue_still_works_for_open_handles(
    ns: Namespace, spawn: Callable[..., Child]
) -> None:
    kind = Kind("posix", ns, spawn)
    child = kind.child("""
        with CLASS.open(WHERE) as queue:
            first = queue.receive().value
            queue.send(b"answer")
            result = first, outcome(CLASS.open, WHERE)[0], outcome(queue.unlink)[0]
    """)
    child.wait_blocked("mq_timedreceive")
    kind.queue.unlink()
    kind.queue.send(b"question")
    child.wait()
    assert child.result == (b"question", "NotFound", "NotFound")
    assert kind.queue.receive(timeout=0).value == b"answer"
    kind.queue.close()


def test_a_queue_that_is_created_again_is_another(
    ns: Namespace, spawn: Callable[..., Child]
) -> None:
    kind = Kind("sysv", ns, spawn)
    child = kind.child("""
        with CLASS.open(WHERE) as queue:
            step.tell("open")
            step.expect("remade")
            result = outcome(queue.receive, timeout=0), outcome(queue.send, b"astray")
    """)
    child.expect("open")
    kind.queue.unlink()
    kind.queue.close()
    with SysVMessageQueue.create(kind.where) as another:
        another.send(b"for the new one")
        child.tell("remade")
        assert [outcome[0] for outcome in child.result] == ["Removed", "Removed"]
        assert [message.value for message in another.drain()] == [b"for the new one"]


# -- signals ---------------------------------------------------------------------------------------


def test_signal_handlers_run_and_the_call_continues(kind: Kind) -> None:
    child = kind.child(
        """
        def handler(number, frame):
            step.tell(number)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, handler)
        with CLASS.open(WHERE) as queue:
            for verb, timeout in REST[0]:
                step.expect(verb)
                if verb == "send":
                    queue.send(b"sent", timeout=timeout)
                else:
                    assert queue.receive(timeout=timeout).value == b"received"
                step.tell("done")
    """,
        calls := [(verb, timeout) for verb in ("receive", "send") for timeout in (None, 600)],
    )
    for verb, timeout in calls:
        count = kind.fill() if verb == "send" else 0
        child.tell(verb)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            child.wait_blocked(kind.asleep(verb, timeout))
            child.send_signal(number)
            child.expect(number)
        child.wait_blocked(kind.asleep(verb, timeout))
        if verb == "send":
            assert kind.queue.receive(timeout=0).value == b"full"
            child.expect("done")
            values = [message.value for message in kind.queue.drain()]
            assert values == [b"full"] * (count - 1) + [b"sent"]
        else:
            kind.queue.send(b"received")
            child.expect("done")
    child.wait()


def test_ctrl_c_ends_every_wait(kind: Kind) -> None:
    child = kind.child(
        """
        with CLASS.open(WHERE) as queue:
            for verb, timeout in REST[0]:
                step.expect(verb)
                try:
                    if verb == "send":
                        queue.send(b"sent", timeout=timeout)
                    else:
                        queue.receive(timeout=timeout)
                except KeyboardInterrupt:
                    step.tell("interrupted")
        # If it is not caught, it ends the process as usual.
        step.expect("last")
        with CLASS.open(WHERE) as queue:
            queue.receive()
    """,
        calls := [(verb, timeout) for verb in ("receive", "send") for timeout in (None, 600)],
    )
    count = 0
    for verb, timeout in calls:
        if verb == "send" and not count:
            count = kind.fill()
        child.tell(verb)
        child.wait_blocked(kind.asleep(verb, timeout))
        child.send_signal(signal.SIGINT)
        child.expect("interrupted")
        assert len(kind.queue) == count
    kind.queue.drain()
    child.tell("last")
    child.wait_blocked(kind.asleep("receive", None))
    child.send_signal(signal.SIGINT)
    child.wait(expect=-signal.SIGINT)
    assert child.stderr.rstrip().endswith("KeyboardInterrupt")


def test_a_default_sigterm_ends_a_blocked_process(kind: Kind) -> None:
    child = kind.child("with CLASS.open(WHERE) as queue: queue.receive()")
    child.wait_blocked(kind.asleep("receive", None))
    child.send_signal(signal.SIGTERM)
    child.wait(expect=-signal.SIGTERM)
    kind.queue.send(b"x")
    assert kind.queue.receive(timeout=0).value == b"x"


def test_many_signals_lose_and_duplicate_nothing(kind: Kind) -> None:
    child = kind.child("""
        signal.signal(signal.SIGALRM, lambda *_: None)
        with CLASS.open(WHERE) as queue:
            signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
            got = [number_of(queue.receive(timeout=t)) for _ in range(500) for t in (None, 600)]
            signal.setitimer(signal.ITIMER_REAL, 0)
        result = [number for _, number in got]
    """)
    text = [b"%08x %s" % (zlib.crc32(b"0 %d " % n), b"0 %d " % n) for n in range(1000)]
    for each in text:
        kind.queue.send(each)
    assert child.result == list(range(1000))


# -- many processes --------------------------------------------------------------------------------


def test_many_producers_and_consumers_keep_each_senders_order(kind: Kind) -> None:
    senders, receivers, count = 2, 2, 400
    taking = [
        kind.child("""
            with CLASS.open(WHERE) as queue:
                result = []
                while (message := queue.receive()).value != b"end":
                    result.append(number_of(message))
        """)
        for _ in range(receivers)
    ]
    sending = [
        kind.child(
            """
            with CLASS.open(WHERE) as queue:
                for number in range(REST[1]):
                    queue.send(numbered(number, REST[0]))
        """,
            sender,
            count,
        )
        for sender in range(senders)
    ]
    for child in sending:
        child.wait()
    for _ in range(receivers):
        kind.queue.send(b"end")
    got = [child.result for child in taking]
    everything = sorted(pair for each in got for pair in each)
    assert everything == [(sender, number) for sender in range(senders) for number in range(count)]
    for each in got:
        for sender in range(senders):
            order = [number for who, number in each if who == sender]
            assert order == sorted(order)


def test_a_handle_goes_to_a_process_of_each_start_method(kind: Kind) -> None:
    code = """
        import multiprocessing
        if __name__ == "__main__":
            with CLASS.open(WHERE) as queue:
                result = []
                for method in ("fork", "forkserver", "spawn"):
                    context = multiprocessing.get_context(method)
                    process = context.Process(target=queue.send, args=(method.encode(),))
                    process.start()
                    process.join()
                    result.append((queue.receive(timeout=0).value, process.exitcode))
                assert not queue.owner
    """
    expected = [(method.encode(), 0) for method in ("fork", "forkserver", "spawn")]
    # Without warnings: only `queue.send` runs there, and it does not close its queue.
    child = kind.child(code, options=())
    assert child.result == expected
    assert child.stderr == ""


def test_the_end_of_a_forked_child_keeps_the_parents_queue(kind: Kind) -> None:
    kind.queue.unlink()
    child = kind.child("""
        with CLASS.create(WHERE) as queue:
            pid = os.fork()
            if pid == 0:
                with queue:
                    assert not queue.owner
                    queue.send(b"from the fork")
                assert queue.closed
                sys.exit(0)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            result = status, queue.owner, queue.receive(timeout=0).value
            again = os.fork()
            if again == 0:
                del queue
                os._exit(0)
            os.waitpid(again, 0)
            CLASS.open(WHERE).close()
        assert outcome(CLASS.open, WHERE)[0] == "NotFound"
    """)
    assert child.result == (0, True, b"from the fork")


# -- permissions -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("root")
def test_access_denied_names_the_owner_of_a_queue(
    ns: Namespace, spawn: Callable[..., Child]
) -> None:
    kind = Kind("sysv", ns, spawn)
    with kind.queue:
        code = """
            result = [outcome(CLASS.open, WHERE)]
            with CLASS.from_id(REST[0]) as queue:
                result += [outcome(queue.send, b"x"), outcome(queue.receive), outcome(queue.unlink)]
        """
        child = kind.child(code, kind.queue.id, user="nobody", imports=["ipckit"])
        for name, _, text in child.result:
            assert name == "AccessDenied"
            assert "the owner is root (uid 0), the mode 0600" in text
            assert "the owner can allow it with chmod" in text


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("mode", [0o622, 0o644])
@pytest.mark.parametrize("which", ["sysv", "posix"])
def test_a_right_to_send_or_to_receive_alone(
    ns: Namespace, spawn: Callable[..., Child], which: str, mode: int
) -> None:
    writes = mode == 0o622
    kind = Kind(which, ns, spawn)
    with kind.queue as queue:
        queue.unlink()
    with type(queue).create(kind.where, mode=mode) as queue:
        queue.send(b"first")
        code = """
            only = {"writeonly": True} if REST[0] else {"readonly": True}
            both = outcome(CLASS.open, WHERE) if KIND == "posix" else None
            with CLASS.open(WHERE, **(only if KIND == "posix" else {})) as queue:
                sent = outcome(queue.send, b"second", timeout=0)
                got = outcome(queue.receive, timeout=0)
                got = got if isinstance(got, tuple) else got.value
            result = both, sent, got
        """
        child = kind.child(code, writes, user="nobody", imports=["ipckit"])
        both, sent, got = child.result
        assert (got if writes else sent)[0] == "AccessDenied"
        assert (sent is None, got == b"first") == (writes, not writes)
        if which == "posix":
            assert both[:2] == ("AccessDenied", errno.EACCES)
            assert "readonly or writeonly asks for less" in both[2]
        else:
            assert f"the mode {mode:04o}" in (got if writes else sent)[2]
        assert len(queue) == (2 if writes else 0)


# -- processor time --------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [None, 600])
def test_a_waiting_receiver_uses_almost_no_cpu_time(kind: Kind, timeout: float | None) -> None:
    child = kind.child(
        """
        with CLASS.open(WHERE) as queue:
            busy, wall = time.process_time(), time.monotonic()
            queue.receive(timeout=REST[0])
            result = time.process_time() - busy, time.monotonic() - wall
    """,
        timeout,
    )
    child.wait_blocked(kind.asleep("receive", timeout))
    threading.Event().wait(0.25)  # the stretch that is measured; nothing depends on its length
    kind.queue.send(b"end of it")
    busy, wall = child.result
    assert wall >= 0.25
    assert busy < wall / 10


@pytest.mark.usefixtures("root")
def test_access_denied_names_the_owner_of_a_posix_queue(spawn: Callable[..., Child]) -> None:
    # Without the right to open it only the file system tells; not every machine mounts that.
    code = """
        import subprocess
        from pathlib import Path
        from ipckit.testing import drop_privileges
        queue = CLASS.create(WHERE)
        subprocess.run(["mount", "-t", "tmpfs", "none", "/dev"], check=True)
        Path("/dev/mqueue").mkdir()
        subprocess.run(["mount", "-t", "mqueue", "none", "/dev/mqueue"], check=True)
        drop_privileges("nobody")
        result = outcome(CLASS.open, WHERE)
        queue.close()
    """
    child = spawn(PREAMBLE + dedent(code), "posix", "/forbidden", sandbox=Sandbox())
    kind, number, text = child.result
    assert (kind, number) == ("AccessDenied", errno.EACCES)
    assert "the owner is root (uid 0), the mode 0600" in text


def test_a_message_that_never_fits_fails_without_a_right_to_read(
    ns: Namespace, spawn: Callable[..., Child], root: None
) -> None:
    del root
    with SysVMessageQueue.create(ns.key(), mode=0o622, max_bytes=100) as queue:
        queue.send(b"x")
        child = spawn(
            """
            from ipckit import MessageTooLong, SysVMessageQueue
            with SysVMessageQueue.from_id(args[0]) as queue:
                try:
                    queue.send(bytes(101))
                except MessageTooLong as error:
                    result = str(error)
            """,
            queue.id,
            user="nobody",
            imports=["ipckit"],
        )
        assert "exceeds the queue's max_bytes (100)" in child.result
