"""Run the examples of a page of the documentation, and compare what they print with what it shows.

The fences of a page say what a block is:

- ``python``: statements. All of a page run in one process and share their names. The indented block
  below, if there is one, is what they print.
- ``py`` and ``c``: a program. Its first line is a comment with its file's name.
- ``console``: commands at ``$`` prompts, and what they print. They run where the programs are. The
  last command after a line ``<!-- terminal 2 -->`` runs beside what follows, to the end of the
  section; a last line ``^C`` stops it there.
- ``text``, ``toml`` and the directives of MyST: not run.

``...`` in the output stands for any text, as in doctest.

`run_apart` runs a page in PID and network namespaces of its own, so that ``pkill`` and fixed TCP
ports reach nothing else. In them, this file is the program: ``page_examples.py PAGE DIRECTORY``.
"""

from __future__ import annotations

import doctest
import fcntl
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ipckit.testing import Child

FENCE: Final = re.compile(
    r"^(?:<!-- terminal (?P<terminal>\d) -->\n+)?"
    r"^```(?P<kind>[^\s]*)[^\n]*\n(?P<body>.*?)^```\n(?:\n(?P<shown>(?:    [^\n]*\n|\n(?=    ))+))?"
    r"|^(?P<heading>#+ [^\n]*)\n",
    re.MULTILINE | re.DOTALL,
)
NAMED: Final = re.compile(r"(?:# |/\* )(?P<name>[\w./-]+\.\w+)\b")
# On pages of the site alone.
DIRECTIVES: Final = frozenset({"{toctree}", "{include}", "{eval-rst}"})
KINDS: Final = frozenset({"python", "py", "c", "console", "text", "toml"}) | DIRECTIVES
# A page is in a PID namespace of its own, and ipckit says that there are processes outside.
UNSEEN: Final = "ipckit: could not see "
RUN: Final = frozenset({"python", "py", "c", "console"})

SIOCSIFFLAGS: Final = 0x8914
IFF_UP: Final = 1

PAGE = """
import contextlib, io
from ipckit.testing import step
scope = {"__name__": "page"}
while (code := step.hear()) is not None:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(code, "<page>", "exec", dont_inherit=True), scope)
    step.tell(out.getvalue())
"""


@dataclass(frozen=True)
class Block:
    """A fenced block, or a heading, which has the kind ``"#"``."""

    kind: str
    body: str
    shown: str = ""
    terminal: str = ""


def blocks(text: str) -> list[Block]:
    """The fenced blocks and the headings of a page, in order."""
    return [
        Block("#", match["heading"])
        if match["heading"]
        else Block(
            match["kind"],
            match["body"],
            re.sub("^    ", "", match["shown"] or "", flags=re.MULTILINE),
            match["terminal"] or "",
        )
        for match in FENCE.finditer(text)
    ]


def compare(shown: str, real: str) -> None:
    """Raise AssertionError, with both texts, if a program printed something else."""
    matches = doctest.OutputChecker().check_output(shown, real, doctest.ELLIPSIS)
    assert matches, f"the page shows:\n{shown}\nbut this was printed:\n{real}"


@dataclass
class Command:
    """A command that runs in a directory, and its output so far."""

    text: str
    directory: Path
    output: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self._process = subprocess.Popen(
            # The command is no argument of the shell, so pkill -f does not match the shell itself.
            ["sh", "-c", 'eval "$COMMAND"'],
            cwd=self.directory,
            env=os.environ
            | {"PYTHONUNBUFFERED": "1", "COLUMNS": "80", "COMMAND": self.text}
            # To import the plugins of this project's tests takes a second; pages use none.
            | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            self.output.extend(line for line in lines if not line.startswith(UNSEEN))

    def asleep(self) -> bool:
        """Whether every process of the command sleeps, or it has ended."""
        states: list[str] = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[3]) == self._process.pid:  # its session
                states.append(fields[0])
        return all(state in "SZ" for state in states)

    def await_sleep(self) -> None:
        """Wait until the command waits for something: asleep in five looks, 20 ms apart."""
        looks = 0
        end = time.monotonic() + 30
        while looks < 5:
            assert time.monotonic() < end, f"{self.text} never waits"
            time.sleep(0.02)
            looks = looks + 1 if self.asleep() else 0

    def finish(self, *, interrupt: bool = False) -> str:
        """Wait for the end, after a SIGINT if asked; returns the whole output."""
        if interrupt:
            os.killpg(self._process.pid, signal.SIGINT)
        self._process.wait(30)
        self._reader.join(30)
        # Where sh is bash, it adds a line number, the pid and the command.
        return re.sub(r"(?m)^\S+: (?:line \d+: +)?\d+ (Killed) .*$", r"\1", "".join(self.output))

    def kill(self) -> None:
        """End what still runs."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def commands(body: str) -> list[tuple[str, str]]:
    r"""The commands of a console block, each with what it prints; ``\`` continues a line."""
    found = re.findall(
        r"^\$ ((?:[^\n]*\\\n)*[^\n]*)\n((?:(?!\$ )[^\n]*\n)*)", body, flags=re.MULTILINE
    )
    return [(command, shown) for command, shown in found]


class Page:
    """The run of one page, in a directory of its own."""

    def __init__(self, text: str, directory: Path) -> None:
        self.blocks = blocks(text)
        self.directory = directory
        self._beside: list[tuple[Command, str]] = []

    def run(self) -> None:
        """Run all blocks in order; AssertionError if one prints what the page does not show."""
        with Child(PAGE, cwd=self.directory) as child:
            try:
                for block in self.blocks:
                    self._run_block(block, child)
                self._end_section()
            finally:
                for command, _ in self._beside:
                    command.kill()
            child.tell(None)

    def _run_block(self, block: Block, child: Child) -> None:
        if block.kind == "#":
            self._end_section()
        elif block.kind == "python":
            child.tell(block.body)
            printed = child.hear()
            assert isinstance(printed, str)
            compare(block.shown, printed)
        elif block.kind in {"py", "c"}:
            named = NAMED.match(block.body)
            assert named, f"the first line of this program does not name its file:\n{block.body}"
            path = self.directory / named["name"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.body)
        elif block.kind == "console":
            self._run_commands(block)

    def _run_commands(self, block: Block) -> None:
        listed = commands(block.body)
        assert listed, f"no command in this block:\n{block.body}"
        for text, shown in listed[:-1] if block.terminal else listed:
            compare(shown, Command(text, self.directory).finish())
        if block.terminal:
            text, shown = listed[-1]
            command = Command(text, self.directory)
            self._beside.append((command, shown))
            command.await_sleep()

    def _end_section(self) -> None:
        while self._beside:
            command, shown = self._beside[-1]
            interrupt = shown.endswith("^C\n")
            compare(shown.removesuffix("^C\n"), command.finish(interrupt=interrupt))
            self._beside.pop()


def missing_tools(text: str) -> list[str]:
    """The tools that a page uses and this machine has not."""
    used = [block.body for block in blocks(text) if block.kind == "console"]
    return [
        tool
        for tool in ("gcc", "pkill", "systemd-socket-activate")
        if any(re.search(rf"^\$ {tool} ", body, re.MULTILINE) for body in used)
        and shutil.which(tool) is None
    ]


def run_apart(page: Path, directory: Path) -> None:
    """Run a page in namespaces of its own, which requires root; raises as `Page.run`."""
    apart = ("unshare", "--net", "--pid", "--fork", "--mount-proc", "--kill-child")
    # sh is process 1, and reaps what a page leaves to it.
    program = ("sh", "-c", '"$@"; exit $?', "sh", sys.executable, __file__, page, directory)
    done = subprocess.run([*apart, *program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def start_loopback() -> None:
    """Set the loopback interface of a new network namespace up; see netdevice(7)."""
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))


if __name__ == "__main__":
    start_loopback()
    # The programs of packages that are installed, such as ipckit itself.
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    Page(Path(sys.argv[1]).read_text(), Path(sys.argv[2])).run()
