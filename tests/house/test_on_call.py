"""docs/on-call.md: its commands print what the page shows, in a sandbox with those problems."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
from own_machine import OWN_MACHINE

from ipckit import cli
from ipckit.testing import Child, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
PAGES = [DOCS / "on-call.md", DOCS / "command-line.md"]
SECTION = re.compile(r"^## (.*)\n((?:(?!## ).*\n?)*)", re.MULTILINE)
# A command of a page, and what it prints.
SHOWN = re.compile(r"^    \$ (ipckit .*)\n((?:    (?!\$ ).*\n|\n(?=    (?!\$ )))*)", re.MULTILINE)

# Each scene leaves `numbers`: what a number of the page is here.
PREAMBLE = (
    OWN_MACHINE
    + """
import io, os, resource, signal, subprocess, sys, time
from ipckit import *
from ipckit import cli, inventory
from ipckit.testing import wait_blocked
numbers, living = {}, []

def program(act, *, lives=True):
    pid = start(act)
    if lives:
        living.append(pid)
    else:
        os.waitpid(pid, 0)
    return pid

def await_sleeper():
    # A call notes in the channel that it waits once it has slept for a moment.
    while not any(p.waits for x in inventory.survey(["channel"]).objects for p in x.peers):
        time.sleep(0.01)
"""
)
SCENES = {
    "No space left on device": """
def order(told):
    os.setuid(65534)  # what one user makes at one time may belong together
    SysVMessageQueue.create(0x4d2).disown().send(b"order 17")
def frames(told):
    PosixSharedMemory.create("/frames", 60 * 2**20).disown()
def lives(told):
    queue = SysVMessageQueue.create(0x4d3)
    queue.send(b"a")
    told()
    signal.pause()
program(order, lives=False)
program(frames, lives=False)
program(lives)
""",
    "Too many open files": """
def hungry(told):
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    for _ in range(50):
        os.open("/", os.O_RDONLY)
    told()
    signal.pause()
numbers["4242"] = program(hungry)
""",
    "The queue is full": """
queue = SysVMessageQueue.create(0x4d2, max_bytes=100)
queue.send(b"order 17" * 11)
def sends(told):
    told()
    queue.send(b"order 18" * 11)
wait_blocked(program(sends), "msgsnd")
""",
    "A channel is full": """
channel = Channel.create("orders", capacity=2, peer_gone="wait")
def sends(told):
    sender = Channel.open("orders", peer_gone="wait")
    told()
    for _ in range(3):
        sender.send(b"order 17")
program(sends)
channel.disown()
channel.close()
await_sleeper()
""",
    "It hangs": """
locks = SysVSemaphoreSet.create(0x4d2, [1])
def takes(told):
    locks[0].acquire()
def waits(told):
    told()
    locks[0].acquire()
program(takes, lives=False)
wait_blocked(program(waits), "semop")
""",
}
RUN = """
result = []
for words in args[0]:
    words = ["ipckit", *(str(numbers.get(word, word)) for word in words[1:])]
    real, sys.stdout = sys.stdout, io.TextIOWrapper(io.BytesIO())
    cli.run(words[1:])
    sys.stdout.flush()
    printed, sys.stdout = sys.stdout.buffer.getvalue().decode(), real
    result.append(printed)
for pid in living:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
"""


def gist(text: str) -> str:
    """The text without numbers, line ends, and notes, which depend on the machine."""
    text = re.sub(r"pid (\d+) \([^)]*\)", r"pid \1 (program)", text)
    text = re.sub(r"^note  .*\n(    .*\n)*", "", text, flags=re.MULTILINE)
    text = re.sub(r", \d+ notes?$", "", text, flags=re.MULTILINE)
    text = re.sub(r"less than 1 s|\d+ (min|h)\b", "0 s", text)
    return " ".join(re.sub(r"\d[\d,.]*", "0", text).split())


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("title", SCENES)
def test_the_page_shows_what_is_printed(spawn: Callable[..., Child], title: str) -> None:
    sections = dict(SECTION.findall(PAGES[0].read_text()))
    found = SHOWN.findall(sections[title])
    assert found
    sandbox = Sandbox(shm_size="64m", sysctls={"kernel.msgmni": 2})
    code = PREAMBLE + SCENES[title] + RUN
    child = spawn(code, [shlex.split(command) for command, _ in found], sandbox=sandbox)
    child.wait()
    for (command, shown), printed in zip(found, child.result, strict=True):
        assert gist(re.sub("^    ", "", shown, flags=re.MULTILINE)) == gist(printed), command


def commands_of(page: Path) -> list[tuple[str, str]]:
    return re.findall(r"^    (?:\$ )?(ipckit .*)$|`(ipckit [^`]+)`", page.read_text(), re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_the_pages_exist(page: Path) -> None:
    known = commands_of(page)
    assert len(known) > 5
    for pair in known:
        line = "".join(pair).split("|")[0].split(">")[0].split("  ")[0]
        name, *words = shlex.split(line, comments=True)[1:]
        assert name in cli.COMMANDS, line
        command: Any = cli.main.get_command(click.Context(cli.main), name)
        options = {option for param in command.params for option in param.opts} | {"--help"}
        assert [word for word in words if word.startswith("--") and word not in options] == [], line
