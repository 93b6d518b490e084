"""Run the example scripts as a user does, and check their output."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipckit.testing import Child

if TYPE_CHECKING:
    from collections.abc import Sequence

SCRIPTS = Path(__file__).resolve().parent.parent.parent / "scripts"

Done = subprocess.CompletedProcess[bytes]

ONE_BY_ONE = """
import gc, io, runpy, sys
streams = sys.stdin, sys.stdout, sys.stderr
result = []
for command, text in zip(*args, strict=True):
    sys.argv = command
    sys.path[0:0] = [command[0].rpartition("/")[0]]
    ins, out, err = (io.TextIOWrapper(io.BytesIO(each)) for each in (text, b"", b""))
    sys.stdin, sys.stdout, sys.stderr = ins, out, err
    status = 0
    try:
        runpy.run_path(command[0], run_name="__main__")
    except SystemExit as exc:
        status = exc.code or 0
    except Exception as exc:
        err.write(f"Traceback: {exc!r}")
        status = 1
    gc.collect()  # what was not closed shows now
    out.flush()
    err.flush()
    sys.stdin, sys.stdout, sys.stderr = streams
    result.append((command, status, out.buffer.getvalue(), err.buffer.getvalue()))
"""


class Scripts:
    """Runs scripts in another directory, with Python's warnings as errors that show."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.started: list[subprocess.Popen[bytes]] = []
        # One thread, so that it is the script that waits in a futex, and not one of numpy's.
        self.env = {**os.environ, "PYTHONWARNINGS": "error", "OPENBLAS_NUM_THREADS": "1"}

    def path(self, script: object) -> str:
        """A path that is relative, as a user types it."""
        return os.path.relpath(SCRIPTS / str(script), self.directory)

    def command(self, script: str, *args: object) -> list[str | bytes]:
        texts = (each if isinstance(each, bytes) else str(each) for each in args)
        return [sys.executable, self.path(script), *texts]

    def run(self, script: str, *args: object, stdin: bytes = b"", then: str = "") -> Done:
        """Run one to its end; `then` redirects as a shell does."""
        command = self.command(script, *args)
        process = self.start(
            script,
            command=["sh", "-c", f'exec "$@" {then}', "sh", *command] if then else command,
            stdin=subprocess.PIPE,
        )
        out, err = process.communicate(stdin, timeout=100)
        return Done(process.args, process.returncode, out, err)

    def run_all(
        self, *commands: Sequence[object], stdin: bytes | Sequence[bytes] = b""
    ) -> list[Done]:
        """Many in one interpreter, because most of a run is its start."""
        paths = [[self.path(script), *map(str, args)] for script, *args in commands]
        inputs = [stdin] * len(commands) if isinstance(stdin, bytes) else list(stdin)
        with Child(ONE_BY_ONE, paths, inputs, cwd=self.directory) as child:
            return [Done(*each) for each in child.result]

    def start(
        self,
        script: str,
        *args: object,
        kind: Any = subprocess.Popen,
        command: Sequence[str | bytes] = (),
        **options: Any,
    ) -> Any:
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL}
        pipes |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        # communicate() passes over what a readline() before it has taken into a buffer.
        pipes["bufsize"] = 0
        process = kind(
            command or self.command(script, *args),
            cwd=self.directory,
            env=self.env,
            **{**pipes, **options},
        )
        self.started.append(process)
        return process

    def close(self) -> None:
        for process in self.started:
            with process:  # which closes its pipes
                process.kill()


def fails(done: Done, *words: object, status: int = 1) -> str:
    """The one line on standard error of a script that could not do it."""
    line = done.stderr.decode(errors="surrogateescape")
    assert done.returncode == status, done
    assert line.startswith("error: "), line
    assert line.count("\n") == 1, line
    assert line.endswith("\n")
    for word in words:
        assert str(word) in line
    return line


def misused(done: Done, *words: str) -> None:
    """It says how it is used, and what was wrong."""
    assert done.returncode == 2, done
    assert done.stderr.startswith(b"usage: ")
    assert b"Traceback" not in done.stderr
    assert done.stdout == b""
    for word in words:
        assert word.encode() in done.stderr


def quiet(done: Done, stdout: str | bytes = b"") -> None:
    """It did well, and printed this and no more."""
    wanted = stdout.encode() if isinstance(stdout, str) else stdout
    assert (done.returncode, done.stderr, done.stdout) == (0, b"", wanted)
