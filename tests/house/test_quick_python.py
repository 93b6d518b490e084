"""quick_python: a child forked from the zygote behaves like one that was started by exec."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import quick_python
from quick_python import plan_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ipckit.testing import Child

# pytest imports readline, which puts these two past os.environ into what an exec inherits.
SIZE = ("COLUMNS", "LINES")

FACTS = f"""
import io, json, os, pathlib, signal, sys, warnings
def stream(each):
    return [each.encoding, each.errors, each.line_buffering, type(each.buffer).__name__,
            each.buffer.seekable(), each.fileno(), os.get_inheritable(each.fileno())]
print(json.dumps(dict(
    argv=sys.argv, orig_argv=sys.orig_argv, path=sys.path, cwd=os.getcwd(), umask=os.umask(0),
    env=sorted(each for each in os.environ.items() if each[0] not in {SIZE}),
    fds=sorted(map(int, os.listdir("/proc/self/fd"))), threads=len(os.listdir("/proc/self/task")),
    parent=os.getppid(), group=os.getpgid(0) == os.getpid(), session=os.getsid(0) == os.getpid(),
    comm=pathlib.Path("/proc/self/comm").read_text(), warnoptions=sys.warnoptions,
    filters=list(map(str, warnings.filters)), options=sys._xoptions, name=__name__,
    file=globals().get("__file__"), package=__package__,
    main=sys.modules["__main__"].__dict__ is globals(), same=sys.stdout is sys.__stdout__,
    streams=list(map(stream, (sys.stdin, sys.stdout, sys.stderr))),
    interrupt=str(signal.getsignal(signal.SIGINT)), pipe=str(signal.getsignal(signal.SIGPIPE)),
    blocked=sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
)))
"""


@pytest.fixture(params=["fork", "exec"])
def way(request: pytest.FixtureRequest) -> Any:
    """How Python is started."""
    if request.param == "exec":
        request.getfixturevalue("exec_only")
    return request.param


def facts(argv: list[str], **options: Any) -> dict[str, Any]:
    done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, **options)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"process_group": 0, "stdin": subprocess.DEVNULL},
        {"start_new_session": True, "env": {"HOME": "/", "PYTHONWARNINGS": "ignore"}},
        {"cwd": "/", "stderr": subprocess.STDOUT},
    ],
)
@pytest.mark.parametrize("kind", ["-c", "script", "-m"])
def test_a_fork_has_what_an_exec_has(kind: str, options: dict[str, Any], tmp_path: Path) -> None:
    script = tmp_path / "facts_of.py"
    script.write_text(FACTS)
    how = {"-c": ["-c", FACTS], "script": [str(script)], "-m": ["-m", "facts_of"]}[kind]
    if "env" in options:  # what an interpreter takes in at its start is the zygote's
        options = {**options, "env": {**_at_start(), **options["env"]}}
    if kind == "-m":
        options = {**options, "cwd": tmp_path}
    argv = [sys.executable, "-W", "error", "-X", "faulthandler", *how, "one", "two"]
    assert plan_of(argv) is not None
    forked = facts(argv, **options)
    with quick_python.exec_only():
        made = facts(argv, **options)
    assert {name: (forked[name], made[name]) for name in made if forked[name] != made[name]} == {}
    assert forked.keys() == made.keys()


def _at_start() -> dict[str, str]:
    return quick_python._at_start(dict(os.environ))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("code", "status", "word"),
    [
        ("raise SystemExit", 0, ""),
        ("raise SystemExit(7)", 7, ""),
        ("raise SystemExit('so')", 1, "so\n"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero\n"),
        ("import os; os.kill(os.getpid(), 9)", -9, ""),
        ("raise KeyboardInterrupt", -signal.SIGINT, "KeyboardInterrupt\n"),
        ("import os; os.abort()", -signal.SIGABRT, ""),
        ("import atexit, sys; atexit.register(sys.stderr.write, 'at exit')", 0, "at exit"),
        ("open('/dev/null').read", 1, "ResourceWarning"),
        (
            "class A:\n def __del__(self): print('gone', file=sys.stderr)\nimport sys\na = A()",
            0,
            "gone",
        ),
    ],
)
def test_it_ends_as_it_should(code: str, status: int, word: str) -> None:
    argv = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert done.stderr.endswith(word) or word in done.stderr
    if word != "ResourceWarning":  # told where it cannot be raised
        assert done.returncode == status


@pytest.mark.usefixtures("way")
def test_it_is_interrupted_when_it_may_be() -> None:
    argv = [sys.executable, "-c", "print('on', flush=True); import signal; signal.pause()"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"on\n"
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(30) == -signal.SIGINT
        finally:
            process.kill()


def test_it_is_a_child_of_this_process_and_no_other_becomes_one(
    spawn: Callable[..., Child],
) -> None:
    child = spawn(
        """
        import os
        from ipckit.testing import step
        pid = os.fork()
        if pid:
            step.tell(pid)
            os._exit(0)
        step.detach()
        os.read(0, 1)
        os._exit(0)
        """
    )
    orphan = child.hear()
    assert os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT) is not None
    with pytest.raises(ChildProcessError):
        os.waitpid(orphan, os.WNOHANG)


@pytest.mark.parametrize(
    "argv",
    [
        [],
        [sys.executable],
        [sys.executable, "-"],
        [sys.executable, "-c"],
        [sys.executable, "-S", "-c", "pass"],
        [sys.executable, "-W"],
        ["python3", "-c", "pass"],
        [sys.executable, b"\xff"],
        [sys.executable, "-X", "dev", "-c", "pass"],
    ],
)
def test_what_takes_an_exec(argv: list[Any]) -> None:
    assert plan_of(argv) is None


@pytest.mark.parametrize("what", ["limit", "locale", "affinity"])
def test_what_a_fork_would_not_have(what: str) -> None:
    code = "import os, resource, locale; print(*resource.getrlimit(resource.RLIMIT_FSIZE), "
    code += "os.environ.get('LC_ALL'), sorted(os.sched_getaffinity(0)))"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    cores = os.sched_getaffinity(0)
    env = dict(os.environ)
    try:
        if what == "limit":
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 40, hard))
        elif what == "locale":
            env["LC_ALL"] = "C"
        else:
            os.sched_setaffinity(0, {min(cores)})
        wanted = f"{resource.getrlimit(resource.RLIMIT_FSIZE)[0]} {hard} {env.get('LC_ALL')} "
        wanted += f"{sorted(os.sched_getaffinity(0))}\n"
        argv = [sys.executable, "-c", code]
        done = subprocess.run(argv, check=True, capture_output=True, text=True, env=env)
        assert done.stdout == wanted
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        os.sched_setaffinity(0, cores)
