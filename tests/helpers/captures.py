"""The captures in docs/command-line.md: what the commands print beside the processes of a scene.

    python tests/helpers/captures.py --write

runs the scene in namespaces of its own, which requires root, and writes the blocks and the images
of the page.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import termios
import textwrap
import time
import traceback
from pathlib import Path
from typing import Final

from own_machine import OWN_MACHINE
from rich.console import Console
from rich.text import Text

import ipckit
from ipckit import cli

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs/command-line.md"
WIDTH, HEIGHT = 80, 24
COMMANDS: Final = {
    "ls": ["ls"],
    "ps": ["ps"],
    "ps-camera": ["ps", "camera"],
    "doctor": ["doctor"],
}
_BLOCK: Final = re.compile(r"<!-- capture: ([a-z-]+) -->\n\n```text\n(.*?)\n?```", re.DOTALL)
IMAGES: Final = ("ls", "ps", "top", "doctor")
UNSHARED: Final = ("unshare", "--ipc", "--mount", "--net", "--pid", "--fork", "--mount-proc")

# The processes of the scene in the order in which they start: a command line, and its code. After
# it has called `ready`, a process waits in its last line, or exits.
PROCESSES: Final[tuple[tuple[str, str], ...]] = (
    (
        "camera --fps 30",
        """
        frames = Channel.create("frames", capacity=8, size=1 << 20, peer_gone="wait").disown()
        frames.send_many([bytes(64_000)] * 8)
        ready()
        while True:
            frames.send(bytes(64_000))
        """,
    ),
    (
        "viewer",
        """
        frames = Channel.open("frames")
        frames.receive()
        ready()
        os.kill(os.getpid(), signal.SIGKILL)
        """,
    ),
    (
        "feed --market xetra",
        """
        prices = Topic.create("prices", str, capacity=64, size=1 << 16).disown()
        book = PosixSharedMemory.create("/book", 300_000).disown()
        ready()
        wait()
        for cents in range(40):
            prices.publish(f"ACME {cents}")
        ready()
        wait()
        """,
    ),
    (
        "trader",
        """
        prices = Topic.open("prices", str).subscribe()
        book = PosixSharedMemory.open("/book")
        ready()
        wait()
        """,
    ),
    (
        "logger --lossy",
        """
        prices = Topic.open("prices", str).subscribe(when_full="drop_oldest", depth=16)
        ready()
        wait()
        """,
    ),
    (
        "worker",
        """
        requests = SysVMessageQueue.create(0x4D2).disown()
        ready()
        requests.receive()
        """,
    ),
    (
        "ledger",
        """
        accounts = SysVSemaphoreSet.create(0x4D3, [1, 1]).disown()
        accounts[0].acquire()
        ready()
        wait()
        ready()
        accounts[1].acquire()
        """,
    ),
    (
        "audit",
        """
        accounts = SysVSemaphoreSet.open(0x4D3)
        accounts[1].acquire()
        ready()
        accounts[0].acquire()
        """,
    ),
    (
        "importer",
        """
        import socket
        jobs = PosixMessageQueue.create("/jobs", max_messages=10, max_size=128).disown()
        for number in range(3):
            jobs.send(b"%d" % number)
        Channel.create("import-7", capacity=64, size=1 << 20).disown().send(b"left")
        for number in range(3):
            socket.socket(socket.AF_UNIX).bind(f"/run/web-{number}.sock")
        ready()
        """,
    ),
)


def name_process(line: str) -> None:
    """Give this process another command line, for which its own must have room."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end of proc_pid_stat(5)
    with Path("/proc/self/mem").open("r+b", buffering=0) as memory:
        memory.seek(start)
        memory.write(line.replace(" ", "\0").encode().ljust(end - start, b"\0"))
    Path("/proc/self/comm").write_text(line.partition(" ")[0])


def play(line: str, code: str, start: int, come: int) -> None:
    """Run the code of a process of the scene; `start` is readable when it may go on."""
    name_process(line)
    scope = {name: getattr(ipckit, name) for name in ipckit.__all__}
    scope |= {"os": os, "signal": signal, "socket": socket}
    scope["ready"] = lambda: os.write(come, b".")
    scope["wait"] = lambda: os.read(start, 1)
    exec(textwrap.dedent(code), scope)  # noqa: S102 - the code above


def start_scene() -> None:
    """Start the processes, one after the other."""
    starts: dict[str, int] = {}
    come, told = os.pipe()
    for line, code in PROCESSES:
        start, starts[line] = os.pipe()
        if os.fork() == 0:
            try:
                play(line, code, start, told)
            except BaseException:
                traceback.print_exc()
                os.write(told, b"!")
            os._exit(0)
        assert os.read(come, 1) == b".", line
    for line in ("feed --market xetra", "ledger"):
        os.write(starts[line], b".")
        assert os.read(come, 1) == b".", line
    time.sleep(1.2)  # so that waits have a length


def in_terminal(words: list[str]) -> bytes:
    """Return what a command prints on a terminal of 80 columns; without standard error."""
    pid, terminal = pty.fork()
    if pid == 0:
        termios.tcsetwinsize(0, (HEIGHT, WIDTH))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.environ.update(TERM="xterm-256color", COLUMNS="", LINES="")
        name_process("ipckit " + " ".join(words))
        os._exit(cli.run(words))
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the command has ended
        while data := os.read(terminal, 1 << 16):
            shown += data
    os.close(terminal)
    os.waitpid(pid, 0)
    return shown.replace(b"\r\n", b"\n")


def record() -> None:
    """Print the captures of the scene as JSON. It runs in namespaces of its own."""
    exec(OWN_MACHINE, {})  # noqa: S102 - the code of a helper
    start_scene()
    texts = {name: in_terminal(words).decode() for name, words in COMMANDS.items()}
    texts["top"], texts["top.svg"] = asyncio.run(screen_of_top())
    sys.stdout.write(json.dumps(texts))


async def screen_of_top() -> tuple[str, str]:
    """Return the screen of `ipckit top` as text, and as an image."""
    from ipckit._cli.top.app import TopApp  # noqa: PLC0415 - imports that the scene does not need

    app = TopApp(interval=1.0)
    async with app.run_test(size=(WIDTH, HEIGHT)) as pilot:
        await pilot.pause(1.1)
        lines = app.screen._compositor.render_strips()  # there is no public way to text
        text = "\n".join(line.text.rstrip() for line in lines)
        return text, app.export_screenshot(title="ipckit top")


def captured() -> dict[str, str]:
    """Run the scene, and return what each command printed, with its colours."""
    memory = "mount -t tmpfs -o size=1g tmpfs /dev/shm"
    words = [*UNSHARED, "--kill-child", "sh", "-c", f'{memory} && exec "$@"', "sh"]
    done = subprocess.run(
        [*words, sys.executable, __file__, "--record", "-" * 200],
        check=True,
        timeout=120,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": ""},
    )
    texts: dict[str, str] = json.loads(done.stdout)
    return texts


def plain(text: str) -> str:
    """Return a capture without colours."""
    return "\n".join(line.rstrip() for line in Text.from_ansi(text).plain.splitlines())


def image_of(text: str, title: str) -> str:
    """Return a capture as an image."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(text))
    return console.export_svg(title=title)


def blocks(page: str) -> dict[str, str]:
    """Return the captures that a page shows: each after a comment with its name."""
    return dict(_BLOCK.findall(page))


def write() -> None:
    """Write the captures into the page, and the images beside it."""
    texts = captured()
    page = PAGE.read_text()
    for name in blocks(page):
        start = f"<!-- capture: {name} -->\n\n```text\n"
        before, _, after = page.partition(start)
        page = f"{before}{start}{plain(texts[name])}\n```{after.partition('```')[2]}"
    PAGE.write_text(page)
    for name in IMAGES:
        image = texts["top.svg"] if name == "top" else image_of(texts[name], f"ipckit {name}")
        PAGE.with_name(f"ipckit-{name}.svg").write_text(image)


if __name__ == "__main__":
    if sys.argv[1] == "--record":
        record()
    else:
        write()
