"""`ipckit rm`, and how the command line ends: status, pipes, colours, without its extra."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import ipckit
from ipckit import (
    InUse,
    NotFound,
    PosixMessageQueue,
    PosixSharedMemory,
    SysVMessageQueue,
    inventory,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Child, Namespace

    Run = Callable[..., subprocess.CompletedProcess[str]]

LEAK = """
from ipckit import PosixMessageQueue, PosixSemaphore, PosixSharedMemory
from ipckit import SysVMessageQueue, SysVSemaphoreSet, SysVSharedMemory
key, name = args
queue = SysVMessageQueue.create(key)
queue.send(b"text")
leaked = [queue, SysVSharedMemory.create(key, 4096), SysVSemaphoreSet.create(key, [1])]
made = (PosixSharedMemory.create(name, 4096), PosixSemaphore.create(name),
        PosixMessageQueue.create(name, max_messages=1, max_size=10))
for each in (*leaked, *made):
    each.disown()
    each.close()
result = [each.id for each in leaked]
"""


@pytest.fixture
def left(ns: Namespace, spawn: Callable[..., Child]) -> list[str]:
    """The addresses of one object of each kind, whose maker is gone."""
    name = ns.name()
    child = spawn(LEAK, ns.key(), name)
    child.wait()
    queue, segment, sets = child.result
    system_v = [f"q:{queue}", f"m:{segment}", f"s:{sets}"]
    return [*system_v, f"shm:{name}", f"sem:{name}", f"mq:{name}"]


def test_an_object_without_holders_is_removed(left: list[str], ipckit_run: Run) -> None:
    done = ipckit_run("rm", "--yes", *left)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[1] for line in done.stdout.splitlines()] == left
    again = ipckit_run("rm", "--yes", left[0])
    assert again.returncode == 1
    assert again.stderr == f"ipckit: {left[0]}: no such object; list all objects: ipckit ls\n"


def test_nothing_is_removed_if_one_address_is_wrong(left: list[str], ipckit_run: Run) -> None:
    done = ipckit_run("rm", "--yes", left[0], "mq:/there-is-none")
    assert done.returncode == 1
    assert ipckit_run("rm", "--yes", *left).returncode == 0


def test_rm_without_a_terminal_needs_yes(left: list[str], ipckit_run: Run) -> None:
    done = ipckit_run("rm", left[0])
    assert done.returncode == 3
    assert "--yes" in done.stderr
    assert ipckit_run("rm", "--yes", *left).returncode == 0


@pytest.mark.parametrize(("answer", "status"), [("n", 3), ("y", 0)])
def test_it_asks_on_a_terminal(left: list[str], ipckit_run: Run, answer: str, status: int) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "ipckit", "rm", left[0]],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(theirs)
        os.write(ours, f"{answer}\n".encode())
        told = process.communicate(timeout=60)[1]
    os.close(ours)
    assert process.returncode == status
    assert f"Remove {left[0]} (1 message, 4 bytes, owner " in told
    rest = left if answer == "n" else left[1:]
    assert ipckit_run("rm", "--yes", *rest).returncode == 0


HOLD = """
from ipckit import PosixMessageQueue, PosixSharedMemory, SysVSharedMemory
from ipckit.testing import step
key, name = args
held = [SysVSharedMemory.create(key, 100), PosixSharedMemory.create(name, 100),
        PosixMessageQueue.create(name, max_messages=1, max_size=10)]
step.tell(held[0].id)
step.hear()
for each in held:
    each.unlink(missing_ok=True)
    each.close()
"""


def test_rm_refuses_a_held_object_without_force(
    ns: Namespace, spawn: Callable[..., Child], ipckit_run: Run
) -> None:
    name = ns.name()
    child = spawn(HOLD, ns.key(), name)
    held = [f"m:{child.hear()}", f"shm:{name}", f"mq:{name}"]
    for address in held:
        done = ipckit_run("rm", "--yes", address)
        assert done.returncode == 3
        assert f"pid {child.pid}" in done.stderr
        assert "--force" in done.stderr
        assert done.stderr.count("\n") == 1
    done = ipckit_run("rm", "--yes", "--force", *held)
    assert done.returncode == 0, done.stderr
    # The memory stays with who has it, without a name.
    assert ipckit_run("rm", "--yes", f"shm:{name}").returncode == 1
    child.tell("end")


def test_a_recreated_object_is_another_object(ns: Namespace) -> None:
    name = ns.name()
    PosixSharedMemory.create(name, 10).disown().close()
    (seen,) = [each for each in inventory.survey(["posix-segment"]).objects if each.name == name]
    keep = PosixSharedMemory.open(name)  # so that its inode is not used again
    keep.unlink()
    with PosixSharedMemory.create(name, 10) as other:
        with pytest.raises(NotFound, match="replaced or changed"):
            inventory.remove(seen, force=True)
        assert PosixSharedMemory.open(other.name).close() is None
    keep.close()


def test_a_holder_that_arrives_after_the_survey_is_seen_by_the_last_check(
    ns: Namespace, left: list[str], ipckit_run: Run
) -> None:
    found = {each.address: each for each in inventory.survey().objects}
    segment, memory, queue = (found[left[index]] for index in (1, 3, 5))
    assert segment.orphaned
    assert memory.orphaned
    assert queue.orphaned
    attached = ipckit.SysVSharedMemory.from_id(segment.id)
    mapped = PosixSharedMemory.open(memory.name)
    opened = PosixMessageQueue.open(queue.name)
    for each in (segment, memory, queue):
        with pytest.raises(InUse):
            inventory.remove(each)
    assert all(isinstance(error, InUse) for _, error in inventory.collect([segment, memory, queue]))
    for handle in (attached, mapped, opened):
        handle.close()
    # And who leaves in between is seen too, but the one who came last is on record by now.
    assert [error for _, error in inventory.collect([memory, queue])] == [None, None]
    assert ipckit_run("rm", "--yes", "--force", *left[:3], left[4]).returncode == 0
    assert ns.leftovers() == []


# -- the command line itself -----------------------------------------------------------------------


@pytest.mark.parametrize("words", [["nosuch"], ["ls", "--nosuch"], ["rm"], ["ls", "--kind", "x"]])
def test_wrong_usage_exits_with_2_and_one_line(words: list[str], ipckit_run: Run) -> None:
    done = ipckit_run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ipckit: ")
    assert "--help" in done.stderr
    assert done.stderr.count("\n") == 1


def test_help_has_examples(ipckit_run: Run) -> None:
    assert ipckit_run().returncode == 2
    whole = ipckit_run("--help")
    assert whole.returncode == 0
    for command in ("ls", "stat", "rm", "gc"):
        assert f"\n  {command} " in whole.stdout
        shown = ipckit_run(command, "--help")
        assert shown.returncode == 0
        assert f"  ipckit {command}" in shown.stdout.partition("Examples:")[2]


def test_a_closed_pipe_causes_no_error_message() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ipckit", "ls"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    told = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == -signal.SIGPIPE
    assert b"Traceback" not in told
    assert b"Broken" not in told


@pytest.mark.usefixtures("exec_only")
def test_without_its_extra_it_says_what_to_install() -> None:
    hide = "import sys; sys.modules['click'] = None; import runpy; runpy.run_module('ipckit', "
    done = subprocess.run(
        [sys.executable, "-c", f"{hide}run_name='__main__')"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert (
        done.stderr == "ipckit: the package click is missing; run: pip install click rich textual\n"
    )


@pytest.mark.parametrize(("variable", "coloured"), [("", True), ("1", False)])
def test_colours_are_for_terminals_that_want_them(
    ns: Namespace, variable: str, *, coloured: bool
) -> None:
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"}
    env.pop("NO_COLOR", None)
    if variable:
        env["NO_COLOR"] = variable
    with PosixSharedMemory.create(ns.name(), 4096):
        process = subprocess.Popen(
            [sys.executable, "-m", "ipckit", "ls"],
            stdout=theirs,
            stderr=subprocess.DEVNULL,
            env=env,
        )
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65536):
                shown += part
        except OSError:  # the other side is closed
            pass
        os.close(ours)
        assert process.wait(60) == 0
    assert b"held" in shown
    assert (b"\x1b[3" in shown or b"\x1b[9" in shown) is coloured


# Imported before it becomes somebody who can't reach where Python lives.
MODULES = [f"ipckit._cli.commands.{name}" for name in ("ls", "stat", "rm", "gc")]
MODULES += ["ipckit.cli", "click.shell_completion", "rich.table"]
AS_NOBODY = """
import contextlib, io
from ipckit import cli
result = []
for words in args:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        result.append([cli.run(words), out.getvalue()])
"""


@pytest.mark.usefixtures("root")
def test_another_user_sees_what_permissions_allow(
    ns: Namespace, spawn: Callable[..., Child]
) -> None:
    name = ns.name()
    with (
        SysVMessageQueue.create(ns.key()) as queue,
        ipckit.SysVSemaphoreSet.create(ns.key(), [1]) as sets,
        PosixSharedMemory.create(name, 4096) as memory,
    ):
        child = spawn(
            AS_NOBODY,
            ["ls", "--kind", "sysv", "--kind", "shm"],
            ["stat", f"s:{sets.id}"],
            ["rm", "--yes", f"q:{queue.id}"],
            ["rm", "--yes", "--force", f"shm:{name}"],
            ["gc", "--delete", "--yes"],
            user="nobody",
            imports=MODULES,
        )
        child.wait()
        listed, shown, queue_kept, memory_kept, collected = child.result
        assert listed[0] == 0
        assert f"q:{queue.id}" in listed[1]
        assert "could not see what" in listed[1]
        # Nobody may ask who has a file of root's open, and may not look into root's processes.
        (line,) = [line for line in listed[1].splitlines() if line.startswith(f"shm:{name} ")]
        assert " unknown " in line
        assert shown[0] == 0
        assert "its semaphores: permission denied (root, mode 0600)" in shown[1]
        assert queue_kept[0] in {1, 3}
        assert memory_kept[0] == 1
        assert "ermission" in memory_kept[1] or "not permitted" in memory_kept[1]
        assert collected[0] in {0, 1}
        assert memory.name == name
        assert queue.stat().id == queue.id
        assert Path(f"/dev/shm{name}").exists()  # noqa: S108


LEAK_AS = """
import os
from ipckit import PosixSharedMemory, SysVSharedMemory, SysVSemaphoreSet
key, name = args
for each in (SysVSharedMemory.create(key, 100), SysVSemaphoreSet.create(key, [1]),
             PosixSharedMemory.create(name, 4096)):
    each.disown()
    each.close()
os.kill(os.getpid(), 9)
"""


@pytest.mark.usefixtures("root")
def test_another_user_can_remove_own_objects(ns: Namespace, spawn: Callable[..., Child]) -> None:
    key, name = ns.key(), ns.name()
    gone = spawn(LEAK_AS, key, name, user="nobody")
    gone.wait(expect=-signal.SIGKILL)
    child = spawn(AS_NOBODY, ["gc", "--mine", "--delete", "--yes"], user="nobody", imports=MODULES)
    child.wait()
    ((status, told),) = child.result
    assert status == 0
    if "hidepid" in told:
        # A process out of sight may use the two System V objects. Of a file the kernel itself
        # tells whether a process has it open.
        assert told.count("removed ") == 1, told
        assert "state unknown: 2 objects, not selected" in told
        assert len(ns.leftovers()) == 2
        ns.clear()
    else:
        assert told.count("removed ") == 3, told
        assert ns.leftovers() == []
