"""Start Python fast: by a fork of an interpreter that has imported ipckit, instead of an exec.

A test child spends most of its life on starting and importing: 70 to 170 ms of CPU, a thousand
times a run. `install` makes `subprocess.Popen` ask a `zygote` for the Python processes that it
would start with plain options. All else about them is as it was: they are children of this
process, with their own pid, descriptors, environment and exit status.

Only the command line differs that others see in /proc. A test that is about it, or about what a
new interpreter imports, runs under `exec_only`. IPCKIT_TEST_EXEC=1 does so for all tests.
"""

from __future__ import annotations

import contextlib
import ctypes
import inspect
import json
import os
import resource
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

EXEC = "IPCKIT_TEST_EXEC"

_PR_SET_CHILD_SUBREAPER = 36
_PRELOADED = (
    *("ipckit", "ipckit._testing.step", "ipckit.testing", "numpy", "argparse", "runpy"),
    *("multiprocessing.connection", "multiprocessing.context", "ipckit.cli", "click", "rich.table"),
    *("ipckit.inventory", "ipckit._inventory.remove"),
)
# What an interpreter or the C library takes in at its start, and a fork can't take in later.
_AT_START = ("PYTHON", "LD_", "LC_", "LANG", "MALLOC_", "GLIBC_", "ASAN_", "OPENBLAS", "OMP_")
_NOT_AT_START = {"PYTHONWARNINGS", "PYTHONPATH"}


class Plan(NamedTuple):
    """A command line that a zygote can serve."""

    kind: str
    what: str
    argv: list[str]
    warnings: list[str]
    faulthandler: bool


def plan_of(argv: Sequence[Any]) -> Plan | None:
    """What a command line of this interpreter asks for; None for all that takes an exec."""
    try:
        words = [os.fspath(each) for each in argv]
    except TypeError:
        return None
    if not words or words[0] != sys.executable or not all(isinstance(each, str) for each in words):
        return None
    warnings: list[str] = []
    faulthandler = False
    at = 1
    while words[at : at + 1] == ["-W"] or words[at : at + 2] == ["-X", "faulthandler"]:
        if words[at] == "-W":
            warnings += words[at + 1 : at + 2]
        else:
            faulthandler = True
        at += 2
    if at >= len(words):
        return None
    rest = words[at + 1 :]
    if words[at] in {"-c", "-m"} and rest:
        return Plan(words[at], rest[0], [words[at], *rest[1:]], warnings, faulthandler)
    if words[at].startswith("-"):
        return None
    return Plan("script", words[at], words[at:], warnings, faulthandler)


def _at_start(env: dict[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in env.items()
        if name.startswith(_AT_START) and name not in _NOT_AT_START
    }


class Zygote:
    """The interpreter that is forked, and what a child of it would have from it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._env = _at_start(dict(os.environ))
        self._path = os.environ.get("PYTHONPATH")
        self._limits = self._inherited()
        self._prctl = ctypes.CDLL(None, use_errno=True).prctl
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            code = str(Path(__file__).with_name("zygote.py"))
            self._process = subprocess.Popen(
                [sys.executable, code, *_PRELOADED],
                stdin=theirs,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "PYTHONWARNINGS": "", "OPENBLAS_NUM_THREADS": "1"},
            )

    @staticmethod
    def _inherited() -> list[Any]:
        limits = (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_MSGQUEUE)
        return [resource.getrlimit(each) for each in limits] + [os.sched_getaffinity(0)]

    def serves(self, env: dict[str, str], fds: Sequence[int]) -> bool:
        """Whether a fork of it is what an exec would be."""
        started = _at_start(env)
        started.pop("OPENBLAS_NUM_THREADS", None)  # it has one thread, as those have that ask
        wanted = {**self._env}
        wanted.pop("OPENBLAS_NUM_THREADS", None)
        return (
            started == wanted
            and env.get("PYTHONPATH") == self._path
            and self._inherited() == self._limits
            and not any(os.isatty(each) for each in fds)
        )

    def fork(self, request: dict[str, Any], fds: Sequence[int]) -> int:
        """A child of this process; its pid."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with self._lock, ours:
            with theirs:
                # The child's own parent ends at once. It comes to this process, not to init, while
                # this process is a subreaper: prctl(2).
                self._prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
                data = json.dumps(request).encode()
                socket.send_fds(self._socket, [data], [theirs.fileno(), *fds])
            try:
                answer = ours.recv(100)
            finally:
                self._prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        if not answer:
            message = "the zygote's child ended before it ran"
            raise RuntimeError(message)
        return int(answer)

    def close(self) -> None:
        self._socket.close()
        self._process.wait()


class _State:
    zygote: Zygote | None = None
    exec_only = 0


_execute_child: Any = subprocess.Popen._execute_child  # type: ignore[attr-defined]
_signature = inspect.signature(_execute_child)


def _start(popen: Any, *args: Any) -> None:
    """`Popen._execute_child`, by the zygote where that serves."""
    call = _signature.bind(popen, *args).arguments
    zygote = _State.zygote
    plain = (
        zygote is not None
        and not _State.exec_only
        and not call["shell"]
        and call["executable"] is None
        and call["preexec_fn"] is None
        and call["close_fds"]
        and (call["gid"], call["gids"], call["uid"]) == (None, None, None)
        and call["umask"] < 0
        and not isinstance(call["args"], (str, bytes))
    )
    plan = plan_of(call["args"]) if plain else None
    env = dict(os.environ) if call["env"] is None else dict(call["env"])
    cwd = os.path.abspath(call["cwd"] or ".")  # noqa: PTH100 - text is wanted
    outer = (call["p2cread"], call["c2pwrite"], call["errwrite"])
    inner = [number if fd < 0 else fd for number, fd in enumerate(outer)]
    fds = [*inner, *call["pass_fds"]]
    if (
        plan is None
        or zygote is None
        or not all(isinstance(each, str) for pair in env.items() for each in pair)
        or not (Path(cwd).is_dir() and os.access(cwd, os.X_OK))
        or (plan.kind == "script" and not _is_file(os.path.join(cwd, plan.what)))  # noqa: PTH118
        or max(fds) >= 400
        or not zygote.serves(env, inner)
    ):
        _execute_child(popen, *args)
        return
    umask = os.umask(0o77)
    os.umask(umask)
    request = {
        "kind": plan.kind,
        "what": plan.what,
        "argv": plan.argv,
        "orig_argv": [os.fspath(each) for each in call["args"]],
        "warnings": plan.warnings,
        "faulthandler": plan.faulthandler,
        "numbers": [0, 1, 2, *call["pass_fds"]],
        "umask": umask,
        "cwd": cwd,
        "env": env,
        "session": bool(call["start_new_session"]),
        "group": call["process_group"],
    }
    try:
        popen.pid = zygote.fork(request, fds)
        popen._child_created = True
    finally:
        popen._close_pipe_fds(*(call[each] for each in _PIPES))


_PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116
    except OSError:
        return False


def install() -> None:
    """From now on, until `remove`, Python processes start by a fork of a zygote."""
    if not os.environ.get(EXEC) and _State.zygote is None:
        _State.zygote = Zygote()
        subprocess.Popen._execute_child = _start  # type: ignore[attr-defined]


def remove() -> None:
    """End the zygote."""
    if _State.zygote is not None:
        subprocess.Popen._execute_child = _execute_child  # type: ignore[attr-defined]
        _State.zygote.close()
        _State.zygote = None


@contextlib.contextmanager
def exec_only() -> Generator[None]:
    """Start Python by an exec: a new command line, and nothing imported."""
    _State.exec_only += 1
    try:
        yield
    finally:
        _State.exec_only -= 1
