"""What a shell sees of every command: help, completion, colours, statuses."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import SysVMessageQueue
from ipckit.cli import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ipckit.testing import Namespace


def test_every_command_has_help_with_examples(commands: Callable[..., Any]) -> None:
    names = list(COMMANDS)
    results = commands(*([name, "--help"] for name in names))
    for name, (status, out, err) in zip(names, results, strict=True):
        assert (status, err) == (0, ""), name
        assert f"Usage: ipckit {name}" in out
        assert f"\n    ipckit {name}" in out or f"(ipckit {name}" in out, name
        assert max(map(len, out.splitlines())) <= 100, name


def test_the_examples_in_the_help_are_usage_that_is_right(commands: Callable[..., Any]) -> None:
    """No example has an option that its command does not know."""
    names = list(COMMANDS)
    for name, (_, out, _) in zip(names, commands(*([n, "--help"] for n in names)), strict=True):
        usage, _, examples = out.partition("Examples:")
        for line in examples.splitlines():
            command = line.split("#")[0].split("| ")[0]
            if command.strip().startswith(f"ipckit {name}"):
                options = [word for word in command.split() if word.startswith("--")]
                assert [option for option in options if f"{option} " not in usage] == [], line


@pytest.fixture
def bin_directory(ns: Namespace) -> Path:
    """A directory with the command ipckit."""
    path = ns.directory / "ipckit"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -m ipckit "$@"\n')
    path.chmod(0o755)
    return ns.directory


COMPLETE = """
source <(ipckit completion bash)
for COMP_LINE in "$@"; do
    COMP_POINT=${#COMP_LINE} COMPREPLY=()
    _ipckit_objects ipckit
    echo "${COMPREPLY[*]}"
done
"""


def test_bash_completes_commands_options_and_objects(bin_directory: Path, ns: Namespace) -> None:
    with SysVMessageQueue.create(ns.key()) as queue:
        lines = ["ipckit pee", "ipckit peek --mt", f"ipckit peek q:{queue.id}", "ipckit send q"]
        done = subprocess.run(
            ["bash", "-c", COMPLETE, "bash", *lines],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PATH": f"{bin_directory}:{os.environ['PATH']}"},
        )
        command, option, rest, whole = done.stdout.splitlines()
        assert (command, option) == ("peek", "--mtype")
        # bash has taken the colon for the end of a word: what stands before it is there already.
        assert str(queue.id) in rest.split()
        assert f"q:{queue.id}" in whole.split()


def test_completing_imports_no_module(bin_directory: Path) -> None:
    (bin_directory / "records.py").write_text("raise SystemExit('imported')\n")
    words = "ipckit peek --struct records:Stu --mt"
    done = subprocess.run(
        [bin_directory / "ipckit"],
        capture_output=True,
        text=True,
        check=True,
        cwd=bin_directory,
        env={
            **os.environ,
            "_IPCKIT_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": "4",
        },
    )
    assert done.stdout == "plain,--mtype\n"


def test_other_shells_have_completion_too(commands: Callable[..., Any]) -> None:
    zsh, fish, wrong = commands(
        ["completion", "zsh"], ["completion", "fish"], ["completion", "tcsh"]
    )
    assert "#compdef ipckit" in zsh[1]
    assert "complete --no-files --command ipckit" in fish[1]
    assert wrong[0] == 2


def on_terminal(environment: dict[str, str], *words: str) -> bytes:
    """What a command writes to a terminal."""
    ours, theirs = pty.openpty()
    env = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    with subprocess.Popen(
        [sys.executable, "-m", "ipckit", *words],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={**env, "TERM": "xterm-256color", **environment},
    ):
        os.close(theirs)
        seen = b""
        try:
            while part := os.read(ours, 65536):
                seen += part
        except OSError:
            pass  # the other end is closed
    os.close(ours)
    return seen


BOLD = b"\x1b[1"


def test_colours_are_for_terminals_and_may_be_refused(ipckit: Callable[..., Any]) -> None:
    assert BOLD in on_terminal({}, "limits")
    assert b"\x1b[3" not in on_terminal({"NO_COLOR": "1"}, "doctor")
    assert b"\x1b" not in on_terminal({"TERM": "dumb"}, "limits")
    assert "\x1b" not in ipckit("limits").stdout


def test_a_message_can_not_move_the_terminals_cursor(ns: Namespace) -> None:
    with SysVMessageQueue.create(ns.key()) as queue:
        queue.send(b"\x1b]0;owned\x07")
        queue.send(b"\x1b]0;owned\x07")
        assert b"\x1b]" not in on_terminal({"NO_COLOR": "1"}, "peek", f"q:{queue.id}")
        assert b"\x1b]" not in on_terminal({"NO_COLOR": "1"}, "recv", f"q:{queue.id}")
        queue.drain()
