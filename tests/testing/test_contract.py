"""ipckit.testing: the other tests rely on these tools, so each must be able to fail."""

from __future__ import annotations

import fcntl
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import posix_ipc
import pytest
import sysv_ipc

from ipckit.testing import (
    Child,
    ChildFailed,
    Namespace,
    Sandbox,
    Snapshot,
    as_user,
    drop_privileges,
    require,
    run_in_namespace,
    snapshot,
    step,
    wait_blocked,
)

if TYPE_CHECKING:
    from collections.abc import Callable

# `Child` promises a new interpreter.
pytestmark = pytest.mark.usefixtures("exec_only")

SHM = "/dev/shm"  # noqa: S108 - where Linux keeps them

WAITS = """
import sysv_ipc
from ipckit.testing import step
queue = sysv_ipc.MessageQueue(args[0])
step.tell("ready")
queue.receive()
"""


def ends(pid: int) -> bool:
    """Whether a process that is not this one's child ends, as its pidfd tells."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], 30)[0])
    finally:
        os.close(pidfd)


class TestNamespace:
    def test_keys_are_positive_and_differ(self) -> None:
        with Namespace() as ns:
            keys = [ns.key() for _ in range(100)]
        assert len(set(keys)) == 100
        assert all(0 < key <= 0x7FFFFFFF for key in keys)

    def test_names_say_who_made_them(self) -> None:
        with Namespace() as ns:
            first, second = ns.name(), ns.name()
        assert first.startswith(f"/ipckit-test-{os.getpid()}-")
        assert first.count("/") == 1
        assert first != second

    def test_paths_fit_a_socket_address(self) -> None:
        with Namespace() as ns:
            path = ns.path(".sock")
            assert path.parent == ns.directory
            assert not path.exists()
            assert path.suffix == ".sock"
            assert len(os.fsencode(path)) < 108

    def test_everything_is_reported_and_then_removed(self) -> None:
        ns = Namespace()
        key, name = ns.key(), ns.name()
        queue = sysv_ipc.MessageQueue(key, sysv_ipc.IPC_CREX)
        semaphore = sysv_ipc.Semaphore(key, sysv_ipc.IPC_CREX)
        segment = sysv_ipc.SharedMemory(key, sysv_ipc.IPC_CREX, size=1)
        segment.detach()
        posix_ipc.MessageQueue(name, posix_ipc.O_CREX).close()
        os.close(posix_ipc.SharedMemory(name, posix_ipc.O_CREX, size=1).fd)
        posix_ipc.Semaphore(name, posix_ipc.O_CREX).close()
        path = ns.path()
        path.touch()
        expected = [
            f"System V queue {queue.id}, key {key:#010x}",
            f"System V semaphore set {semaphore.id}, key {key:#010x}",
            f"System V segment {segment.id}, key {key:#010x}",
            f"POSIX queue {name}",
            f"{SHM}{name}",
            f"{SHM}/sem.{name[1:]}",
            str(path),
        ]
        assert ns.leftovers() == sorted(expected)
        with ns:
            pass
        assert ns.leftovers() == []
        assert not path.parent.exists()

    def test_it_removes_nothing_that_is_not_its_own(self, ns: Namespace) -> None:
        queue = sysv_ipc.MessageQueue(ns.key(), sysv_ipc.IPC_CREX)
        with Namespace() as other:
            other.key()
        assert queue.current_messages == 0
        queue.remove()

    def test_it_clears_up_after_an_exception(self) -> None:
        ns = Namespace()
        sysv_ipc.MessageQueue(ns.key(), sysv_ipc.IPC_CREX)
        with pytest.raises(ZeroDivisionError), ns:
            raise ZeroDivisionError
        assert ns.leftovers() == []


class TestSnapshot:
    def test_two_in_a_row_are_the_same(self) -> None:
        before = snapshot()
        assert before.diff(snapshot()) == []

    def test_it_lists_what_appeared(self, ns: Namespace) -> None:
        snapshot()
        key, name = ns.key(), ns.name()
        before = snapshot()
        queue = sysv_ipc.MessageQueue(key, sysv_ipc.IPC_CREX)
        posix_ipc.Semaphore(name, posix_ipc.O_CREX).close()
        reader, writer = os.pipe()
        child = subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL)
        wait_blocked(child.pid, "clock_nanosleep")  # by then it has its own name
        target = f"pipe:[{os.fstat(reader).st_ino}]"
        after = snapshot()
        child.kill()
        child.wait()
        os.close(reader)
        os.close(writer)
        queue.remove()
        posix_ipc.unlink_semaphore(name)
        assert before.diff(after) == sorted(
            [
                f"System V queue {queue.id}, key {key:#010x}",
                f"{SHM}/sem.{name[1:]}",
                f"child process {child.pid}, sleep",
                f"descriptor {reader}, {target}",
                f"descriptor {writer}, {target}",
            ]
        )
        assert after.diff(before) == []
        assert before.diff(snapshot()) == []

    def test_a_zombie_is_a_leftover(self) -> None:
        before = snapshot()
        child = subprocess.Popen(["true"])
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        left = before.diff(snapshot())
        child.wait()
        assert left == [f"child process {child.pid}, true"]

    @pytest.mark.usefixtures("root")
    def test_root_sees_posix_queues_on_any_machine(self, ns: Namespace) -> None:
        name = ns.name()
        before = snapshot()
        assert before.unseen == ()
        queue = posix_ipc.MessageQueue(name, posix_ipc.O_CREX)
        queue.close()
        assert before.diff(snapshot()) == [f"POSIX queue {name}"]
        queue.unlink()

    @pytest.mark.usefixtures("root")
    def test_what_may_not_be_seen_is_said(self, spawn: Callable[..., Child]) -> None:
        mounted = " - mqueue " in Path("/proc/self/mountinfo").read_text()
        child = spawn(
            "from ipckit.testing import snapshot; result = snapshot().unseen",
            user="nobody",
            imports=["ipckit.testing"],
        )
        assert [line.partition(":")[0] for line in child.result] == ["POSIX queues"] * (not mounted)

    def test_a_file_deleted_since_is_no_new_descriptor(self, ns: Namespace) -> None:
        with ns.path().open("w") as file:
            before = snapshot()
            Path(file.name).unlink()
            assert before.diff(snapshot()) == []

    def test_repr(self) -> None:
        assert repr(Snapshot({("POSIX queue", "a"): "POSIX queue /a"})) == "<Snapshot, 1 entries>"


class TestChild:
    def test_steps_arguments_and_result(self) -> None:
        code = """
            import sys
            from ipckit.testing import step
            step.tell(("ready", args, sys.argv[1:]))
            step.expect("go")
            result = step.hear() + 1
        """
        with Child(code, 1, b"two") as child:
            assert child.hear() == ("ready", (1, b"two"), ["1", "b'two'"])
            child.tell("go")
            child.tell(41)
            assert child.result == 42
        assert child.returncode == 0
        assert child.status == "exit status 0"

    def test_it_is_a_fresh_interpreter(self) -> None:
        with Child("import sys, os; result = ('pytest' in sys.modules, os.getppid())") as child:
            assert child.result == (False, os.getpid())

    def test_call(self) -> None:
        with Child.call("math:hypot", 3, 4) as child:
            assert child.result == 5

    def test_script(self, ns: Namespace) -> None:
        (ns.directory / "beside.py").write_text("WORD = 'beside'\n")
        script = ns.path(".py")
        script.write_text("import sys, beside\nresult = [*sys.argv[1:], beside.WORD, __name__]\n")
        with Child(script, "a", options=["-B"]) as child:
            assert child.result == ["a", "beside", "__main__"]

    def test_environment_and_directory(self, ns: Namespace) -> None:
        code = "import os; result = os.environ['WORD'], os.getcwd(), 'PATH' in os.environ"
        with Child(code, env={"WORD": "here"}, cwd=ns.directory) as child:
            assert child.result == ("here", str(ns.directory), True)

    def test_output_is_captured_however_much(self) -> None:
        with Child("import sys; print('x' * 1_000_000); print('why', file=sys.stderr)") as child:
            child.wait()
            assert child.stdout == "x" * 1_000_000 + "\n"
        assert child.stderr == "why\n"

    def test_an_exception_fails_it_with_its_traceback(self) -> None:
        with pytest.raises(ChildFailed, match=r"expected exit status 0, got exit status 1") as info:  # noqa: SIM117
            with Child("the_line_itself = 1 / 0"):
                pass
        assert "ZeroDivisionError" in str(info.value)
        assert "the_line_itself = 1 / 0" in str(info.value)

    def test_an_exit_status_fails_it(self) -> None:
        with Child("raise SystemExit(7)") as child:
            with pytest.raises(ChildFailed, match="expected exit status 0, got exit status 7"):
                child.wait()
            assert child.wait(expect=7) == 7
            assert child.wait(expect=None) == 7

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
    def test_a_signal_has_its_name(self, number: signal.Signals) -> None:
        code = "import os, faulthandler; faulthandler.disable(); os.kill(os.getpid(), args[0])"
        with Child(code, int(number)) as child:
            message = f"expected exit status 0, got killed by {number.name}"
            with pytest.raises(ChildFailed, match=message):
                child.wait()
            assert child.wait(expect=-number) == -number
        assert child.status == f"killed by {number.name}"

    def test_a_real_time_signal_has_its_number(self) -> None:
        number = signal.SIGRTMIN + 3
        with Child("import os; os.kill(os.getpid(), args[0])", number) as child:
            child.wait(expect=-number)
        assert child.status == f"killed by signal {number}"

    def test_a_leak_in_the_child_fails_it(self) -> None:
        with pytest.raises(ChildFailed, match="ResourceWarning: unclosed file"):  # noqa: SIM117
            with Child("open('/dev/null'); result = 1") as child:
                assert child.result == 1

    def test_the_wrong_word_fails(self) -> None:
        with Child("from ipckit.testing import step; step.tell('a'); step.hear()") as child:
            with pytest.raises(ChildFailed, match="expected 'b' from the child, got 'a'"):
                child.expect("b")
            child.tell("end")

    def test_the_wrong_word_fails_in_the_child_too(self) -> None:
        with Child("from ipckit.testing import step; step.expect('b')") as child:
            child.tell("a")
            child.wait(expect=1)
        assert "expected 'b' from the parent, got 'a'" in child.stderr

    def test_an_end_instead_of_a_word_fails(self) -> None:
        with Child("print('said before')") as child:
            with pytest.raises(ChildFailed, match="exited before it sent a value") as info:
                child.expect("ready")
            assert "said before" in str(info.value)
            assert info.value.__notes__ == ["expected 'ready'"]

    def test_what_was_told_before_the_end_is_heard(self) -> None:
        with Child("from ipckit.testing import step; step.tell(1); step.tell(2)") as child:
            child.wait()
            assert (child.hear(), child.hear()) == (1, 2)

    def test_silence_fails(self) -> None:
        with Child("from ipckit.testing import step; step.hear()") as child:
            with pytest.raises(ChildFailed, match=r"sent nothing for 0\.01 s"):
                child.hear(timeout=0.01)
            with pytest.raises(ChildFailed, match=r"did not exit within 0\.01 s"):
                child.wait(timeout=0.01)
            child.tell("end")

    def test_telling_the_dead_fails(self) -> None:
        with Child("pass") as child:
            child.wait()
            with pytest.raises(ChildFailed, match="could not send 'go': the child has exited"):
                child.tell("go")

    def test_a_child_ends_when_its_parent_is_gone(self) -> None:
        code = """
            import os
            from ipckit.testing import Child
            child = Child("from ipckit.testing import step; step.hear()")
            print(child.pid, flush=True)
            os.kill(os.getpid(), 9)
        """
        # Not a Child, which would kill the grandchild with its group.
        middle = "import textwrap, sys; exec(textwrap.dedent(sys.argv[1]))"
        done = subprocess.run(
            [sys.executable, "-c", middle, code],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert ends(int(done.stdout))

    def test_kill_needs_no_verdict(self) -> None:
        with Child("from ipckit.testing import step; step.hear()") as child:
            child.kill()
            assert child.returncode == -signal.SIGKILL
        assert repr(child) == f"<Child {child.pid}, killed by SIGKILL>"

    def test_terminate_needs_no_verdict(self) -> None:
        with Child("from ipckit.testing import step; step.hear()") as child:
            child.terminate()
        assert child.status == "killed by SIGTERM"

    def test_a_signal_sent_is_judged(self) -> None:
        code = """
            from ipckit.testing import step
            try:
                step.tell("ready")
                step.hear()
            except KeyboardInterrupt:
                print("interrupted")
        """
        with Child(code) as child:
            child.expect("ready")
            child.wait_blocked("read")
            child.send_signal(signal.SIGINT)
            child.wait()
        assert child.stdout == "interrupted\n"

    def test_close_terminates_first(self) -> None:
        code = """
            import signal, sys
            from ipckit.testing import step
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
            step.tell("ready")
            step.hear()
        """
        child = Child(code)
        child.expect("ready")
        child.close()
        child.close()
        assert child.status == "exit status 5"

    def test_close_kills_what_will_not_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("ipckit._testing.child._GRACE", 0.05)
        code = """
            import signal
            from ipckit.testing import step
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            step.tell("ready")
            step.hear()
        """
        child = Child(code)
        child.expect("ready")
        child.close()
        assert child.status == "killed by SIGKILL"

    def test_close_ends_a_stopped_child(self) -> None:
        child = Child("from ipckit.testing import step; step.tell(1); step.hear()")
        child.expect(1)
        child.send_signal(signal.SIGSTOP)
        child.close()
        assert child.status == "killed by SIGTERM"

    def test_grandchildren_go_with_it(self) -> None:
        code = "import subprocess; result = subprocess.Popen(['sleep', '600']).pid"
        with Child(code, options=[]) as child:
            grandchild = child.result
        assert ends(grandchild)

    def test_an_exception_of_the_test_carries_the_output(self) -> None:
        code = (
            "print('seen', flush=True)\nfrom ipckit.testing import step; step.tell(1); step.hear()"
        )
        child = Child(code)
        child.expect(1)
        with pytest.raises(LookupError) as info, child:
            raise LookupError
        assert "seen" in info.value.__notes__[0]
        assert child.returncode is not None

    def test_nothing_is_left_of_many(self) -> None:
        before = snapshot()
        for _ in range(3):
            with Child("result = 1") as child:
                assert child.result == 1
        assert before.diff(snapshot()) == []

    def test_a_program_that_is_not_there_leaks_nothing(self, ns: Namespace) -> None:
        before = snapshot()
        with pytest.raises(FileNotFoundError):
            Child("pass", cwd=ns.directory / "absent")
        assert before.diff(snapshot()) == []

    def test_step_outside_a_child_says_so(self) -> None:
        with pytest.raises(RuntimeError, match="only in a process that"):
            step.tell("ready")
        with pytest.raises(RuntimeError, match="only in a process that"):
            step.hear()


class TestWaitBlocked:
    def test_a_receiver_that_is_killed(self, ns: Namespace) -> None:
        queue = sysv_ipc.MessageQueue(ns.key(), sysv_ipc.IPC_CREX)
        with Child(WAITS, queue.key) as child:
            child.expect("ready")
            child.wait_blocked("msgrcv")
            child.kill()
        queue.remove()

    @pytest.mark.parametrize(
        ("call", "code"),
        [
            ("msgsnd", "q = sysv_ipc.MessageQueue(args[0])\nwhile True: q.send(b'x' * 2048)"),
            ("semop", "sysv_ipc.Semaphore(args[0]).acquire()"),
            ("semtimedop", "sysv_ipc.Semaphore(args[0]).acquire(600)"),
            ("futex", "import threading; s = threading.Semaphore(0); s.acquire()"),
            ("shared_futex", "posix_ipc.Semaphore(args[1]).acquire()"),
            ("clock_nanosleep", "import time; time.sleep(600)"),
            ("poll", "import select; p = select.poll(); p.poll(600_000)"),
            ("select", "import select; select.select([], [], [], 600)"),
            ("epoll_wait", "import select; e = select.epoll(); e.poll(600)"),
            ("read", "import os; r, w = os.pipe(); os.read(r, 1)"),
            ("write", "import os; r, w = os.pipe()\nwhile True: os.write(w, bytes(65536))"),
            ("recvfrom", "import socket; a, b = socket.socketpair(); a.recv(1)"),
            ("recvmsg", "import socket; a, b = socket.socketpair(); a.recvmsg(1)"),
            (
                "sendto",
                "import socket; a, b = socket.socketpair()\nwhile True: a.send(bytes(9999))",
            ),
            ("mq_timedreceive", "posix_ipc.MessageQueue(args[1]).receive()"),
            ("pause", "import signal; signal.pause()"),
            ("sigtimedwait", "import signal; signal.sigwait({signal.SIGUSR1})"),
            ("wait", "import os, subprocess; os.waitpid(subprocess.Popen(['sleep', '9']).pid, 0)"),
            ("flock", "import fcntl; f = open(args[2]); fcntl.flock(f, fcntl.LOCK_EX)"),
        ],
    )
    def test_each_call(self, ns: Namespace, call: str, code: str) -> None:
        key, name, path = ns.key(), ns.name(), ns.path()
        sysv_ipc.MessageQueue(key, sysv_ipc.IPC_CREX)
        sysv_ipc.Semaphore(key, sysv_ipc.IPC_CREX)
        queue = posix_ipc.MessageQueue(name, posix_ipc.O_CREX)
        posix_ipc.Semaphore(name, posix_ipc.O_CREX).close()
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with Child(f"import posix_ipc, sysv_ipc\n{code}", key, name, str(path)) as child:
                child.wait_blocked(call)
                child.kill()
        queue.close()
        ns.clear()

    def test_another_thread_counts(self) -> None:
        code = """
            import signal, threading, time
            threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
            signal.pause()
        """
        with Child(code) as child:
            child.wait_blocked("clock_nanosleep")
            child.wait_blocked("pause")
            child.kill()

    def test_what_threads_wait_for_among_themselves_is_not_a_shared_futex(self) -> None:
        with Child("import threading; threading.Semaphore(0).acquire()") as child:
            child.wait_blocked("futex")
            with pytest.raises(ChildFailed, match="did not sleep in shared_futex"):
                child.wait_blocked("shared_futex", timeout=0.02)
            child.kill()

    def test_another_call_is_not_enough(self) -> None:
        with Child("import signal; signal.pause()") as child:
            child.wait_blocked("pause")
            with pytest.raises(ChildFailed, match="did not sleep in msgrcv or semop"):
                child.wait_blocked("msgrcv", "semop", timeout=0.02)
            child.kill()

    def test_a_child_that_ends_first(self) -> None:
        with Child("pass") as child:
            with pytest.raises(ChildFailed, match="exited before it slept in pause"):
                child.wait_blocked("pause")
            child.wait()

    def test_unknown_names(self) -> None:
        with pytest.raises(ValueError, match="unknown system call 'sleeep'"):
            wait_blocked(os.getpid(), "sleeep")
        with pytest.raises(ValueError, match="at least one system call"):
            wait_blocked(os.getpid())

    def test_no_such_process(self) -> None:
        process = subprocess.Popen(["true"])
        process.wait()
        with pytest.raises(ProcessLookupError):
            wait_blocked(process.pid, "pause")


@pytest.mark.usefixtures("root")
class TestNamespaces:
    def test_ipc_objects_are_its_own(self, ns: Namespace) -> None:
        key, name = ns.key(), ns.name()
        code = """
            import posix_ipc, sysv_ipc
            from ipckit.testing import snapshot, step
            sysv_ipc.MessageQueue(args[0], sysv_ipc.IPC_CREX)
            posix_ipc.MessageQueue(args[1], posix_ipc.O_CREX).close()
            posix_ipc.Semaphore(args[1], posix_ipc.O_CREX).close()
            step.tell([line for kind, line in snapshot().entries.items() if kind[0] == "shm"])
            step.tell([line for kind, line in snapshot().entries.items() if "POSIX" in kind[0]])
            step.hear()
        """
        before = snapshot()
        with Child(code, key, name, sandbox=Sandbox()) as child:
            assert child.hear() == [f"{SHM}/sem.{name[1:]}"]
            assert child.hear() == [f"POSIX queue {name}"]
            assert ns.leftovers() == []
            child.kill()
        assert before.diff(snapshot()) == []

    def test_the_parent_can_watch_it(self) -> None:
        with Child("import signal; signal.pause()", sandbox=Sandbox(net=True)) as child:
            child.wait_blocked("pause")
            child.kill()
        assert child.status == "killed by SIGKILL"

    def test_sysctls_are_its_own(self) -> None:
        path = Path("/proc/sys/kernel/msgmax")
        before = path.read_text()
        done = run_in_namespace(
            ["cat", str(path), "/proc/sys/fs/mqueue/msg_max"],
            sysctls={"kernel.msgmax": 12345, "fs.mqueue.msg_max": 17},
        )
        assert done.stdout.split() == ["12345", "17"]
        assert path.read_text() == before

    def test_shared_memory_has_the_size_that_was_asked_for(self) -> None:
        done = run_in_namespace(["df", "--output=size", "-B1", SHM], shm_size="1m")
        assert done.stdout.split()[-1] == str(1 << 20)

    def test_a_failing_program_shows(self) -> None:
        done = run_in_namespace(["sh", "-c", "echo why >&2; exit 3"])
        assert (done.returncode, done.stderr) == (3, "why\n")

    def test_a_sysctl_that_is_refused_runs_nothing(self) -> None:
        done = run_in_namespace(["echo", "ran"], sysctls={"kernel.msgmax": -1})
        assert done.returncode != 0
        assert done.stdout == ""

    def test_the_network_is_its_own(self) -> None:
        done = run_in_namespace(["readlink", "/proc/self/ns/net", "/proc/self/ns/ipc"], net=True)
        inside = done.stdout.split()
        outside = [str(Path("/proc/self/ns", name).readlink()) for name in ("net", "ipc")]
        assert all(a != b for a, b in zip(inside, outside, strict=True))

    def test_nobody(self, ns: Namespace) -> None:
        key = ns.key()
        queue = sysv_ipc.MessageQueue(key, sysv_ipc.IPC_CREX, mode=0o600)
        code = """
            import os
            result = [os.getresuid(), os.getresgid(), os.getgroups()]
            import sysv_ipc
            try:
                sysv_ipc.MessageQueue(args[0])
            except sysv_ipc.PermissionsError:
                result.append("denied")
        """
        with Child(code, key, user="nobody", imports=["sysv_ipc"]) as child:
            uids, gids, groups, verdict = child.result
        assert len(set(uids)) == len(set(gids)) == 1
        assert uids[0] != 0
        assert gids[0] != 0
        assert groups == []
        assert verdict == "denied"
        queue.remove()

    def test_nobody_in_a_namespace(self) -> None:
        code = "import os; result = (os.geteuid() != 0, os.listdir('/dev/shm'))"
        with Child(code, sandbox=Sandbox(), user="nobody") as child:
            assert child.result == (True, [])

    def test_as_user(self) -> None:
        done = subprocess.run(
            as_user("nobody", ["id", "-un"]), capture_output=True, text=True, check=True
        )
        assert done.stdout == "nobody\n"

    def test_an_unknown_user(self) -> None:
        with pytest.raises(LookupError):
            as_user("nobody-at-all", ["id"])
        with pytest.raises(LookupError):
            drop_privileges("nobody-at-all")

    def test_without_root(self) -> None:
        code = """
            from ipckit.testing import Sandbox, as_user, drop_privileges
            result = []
            for call in (lambda: Sandbox().command(["true"]), lambda: as_user("nobody", ["true"]),
                         lambda: drop_privileges("root")):
                try:
                    call()
                except PermissionError:
                    result.append("refused")
        """
        with Child(code, user="nobody", imports=["ipckit.testing"]) as child:
            assert child.result == ["refused"] * 3


class TestSandbox:
    def test_it_cannot_change_the_machine(self) -> None:
        with pytest.raises(ValueError, match="does not belong to an IPC namespace"):
            Sandbox(sysctls={"vm.overcommit_memory": 1})
        with pytest.raises(ValueError, match="would change the machine"):
            Sandbox(ipc=False, sysctls={"kernel.msgmax": 1})

    def test_it_is_something(self) -> None:
        with pytest.raises(ValueError, match="at least one of ipc, mount and net"):
            Sandbox(ipc=False, mount=False)


class TestRequire:
    def test_a_program_that_is_there(self) -> None:
        assert require("sh", package="dash") == shutil.which("sh")

    def test_a_missing_one_fails_in_ci(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CI", "true")
        with pytest.raises(pytest.fail.Exception, match="apt-get install some-package"):
            require(f"absent-{secrets.token_hex(4)}", package="some-package")

    def test_a_missing_one_skips_elsewhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CI", raising=False)
        with pytest.raises(pytest.skip.Exception, match="apt-get install some-package"):
            require(f"absent-{secrets.token_hex(4)}", package="some-package")
