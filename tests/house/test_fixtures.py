"""The fixtures of conftest.py, in a pytest of their own, over tests that leak."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import posix_ipc
import pytest
from quick_python import EXEC

from ipckit.testing import snapshot

if TYPE_CHECKING:
    from ipckit.testing import Namespace

SHM = "/dev/shm"  # noqa: S108 - where Linux keeps them

# As conftest.py has it.
UNSHARED = "IPCKIT_TEST_UNSHARED"

HEAD = """
import os, subprocess
import posix_ipc, pytest, sysv_ipc
from ipckit.testing import Child

KEPT = []
"""


def run(
    repository: Path, ns: Namespace, body: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    shutil.copy(repository / "tests" / "conftest.py", ns.directory)
    (ns.directory / "test_inner.py").write_text(HEAD + body)
    options = ["-q", "-p", "no:cacheprovider", "--rootdir", str(ns.directory)]
    inherited = {name: text for name, text in os.environ.items() if name != UNSHARED}
    # A zygote and plugins, which half a second goes to, are of no use here.
    inherited |= {EXEC: "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        [sys.executable, "-B", "-m", "pytest", *options, "test_inner.py"],
        cwd=ns.directory,
        env={**inherited, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_clean_test_passes(repository: Path, ns: Namespace) -> None:
    body = """
def test_clean(ns, spawn):
    q = sysv_ipc.MessageQueue(ns.key(), sysv_ipc.IPC_CREX)
    ns.path().touch()
    assert spawn("result = 1").result == 1
    assert spawn(Child.call("math:hypot", 3, 4)).result == 5
    q.remove()

def test_cleared(ns):
    posix_ipc.Semaphore(ns.name(), posix_ipc.O_CREX).close()
    ns.clear()
"""
    done = run(repository, ns, body)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


LEAKS = {
    "sysv_ipc.MessageQueue(KEY, sysv_ipc.IPC_CREX)": "System V queue ",
    "sysv_ipc.Semaphore(KEY, sysv_ipc.IPC_CREX)": "System V semaphore set ",
    "sysv_ipc.SharedMemory(KEY, sysv_ipc.IPC_CREX, size=1).detach()": "System V segment ",
    "posix_ipc.MessageQueue(NAME, posix_ipc.O_CREX).close()": "POSIX queue /ipckit-test",
    "posix_ipc.Semaphore(NAME, posix_ipc.O_CREX).close()": f"{SHM}/sem.ipckit-test",
    "posix_ipc.SharedMemory(NAME, posix_ipc.O_CREX).close_fd()": f"{SHM}/ipckit-test",
}
KEPT_LEAKS = {
    "KEPT.append(os.pipe())": "descriptor ",
    "KEPT.append(subprocess.Popen(['true']))": "child process ",
}


@pytest.mark.parametrize("its_own", [True, False])
def test_a_test_that_leaks_an_object_fails(
    repository: Path, ns: Namespace, *, its_own: bool
) -> None:
    """With names of the namespace the fixture `ns` finds it, with others the snapshot does."""
    leaks = dict(LEAKS) if its_own else LEAKS | KEPT_LEAKS
    unlisted = bool(snapshot().unseen) and not its_own
    if unlisted:
        leaks = {code: line for code, line in leaks.items() if "MessageQueue(NAME" not in code}
    body = ""
    for number, code in enumerate(leaks):
        key, name = ("ns.key()", "ns.name()") if its_own else (ns.key(), repr(ns.name()))
        leak = code.replace("KEY", str(key)).replace("NAME", str(name))
        body += f"def test_leak_{number}(ns):\n    {leak}\n\n"
        body += f"def test_not_blamed_{number}(ns):\n    pass\n\n"
    body += """
def teardown_module():
    for kept in KEPT:
        if isinstance(kept, subprocess.Popen):
            kept.wait()
"""
    done = run(repository, ns, body, **{UNSHARED: "1"})
    ns.clear()
    assert done.returncode == 1, done.stdout
    for line in leaks.values():
        assert f"left behind:\n{line}" in done.stdout
    assert f"{2 * len(leaks)} passed, {len(leaks)} errors" in done.stdout


@pytest.mark.usefixtures("root")
def test_a_run_as_root_is_in_namespaces_of_its_own(repository: Path, ns: Namespace) -> None:
    body = """
def test_where(ns):
    print(os.readlink("/proc/self/ns/ipc"), os.environ["IPCKIT_TEST_UNSHARED"])
    assert os.listdir("/dev/shm") == []
    assert 0, "to show the output"
"""
    posix_ipc.Semaphore(ns.name(), posix_ipc.O_CREX).close()
    done = run(repository, ns, body)
    ns.clear()
    namespaces = [line for line in done.stdout.splitlines() if line.startswith("ipc:[")]
    assert len(namespaces) == 1, done.stdout + done.stderr
    namespace, unshared = namespaces[0].split()
    assert unshared == "1"
    assert namespace != str(Path("/proc/self/ns/ipc").readlink())
    assert "to show the output" in done.stdout


def test_a_failed_test_shows_its_children(repository: Path, ns: Namespace) -> None:
    body = """
def test_fails(spawn):
    child = spawn("print('the child said so', flush=True)\\n"
                  "from ipckit.testing import step; step.tell(1); step.hear()")
    child.expect(1)
    assert child is None
"""
    done = run(repository, ns, body)
    assert done.returncode == 1, done.stdout
    assert "1 failed" in done.stdout
    assert "error" not in done.stdout.splitlines()[-1]
    assert "killed by SIGTERM" in done.stdout
    assert "the child said so" in done.stdout


def test_a_spawned_child_that_fails_fails_the_test(repository: Path, ns: Namespace) -> None:
    done = run(repository, ns, "def test_quiet(spawn):\n    spawn('1 / 0')\n")
    assert done.returncode == 1, done.stdout
    assert "ZeroDivisionError" in done.stdout
    assert "1 passed, 1 error" in done.stdout
