"""Every command as a shell sees it: help, completion, colours, exit statuses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from terminal import on_terminal

from ipckit import SysVMessageQueue
from ipckit.cli import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Namespace


def test_every_command_has_help_with_examples(commands: Callable[..., Any]) -> None:
    names = list(COMMANDS)
    results = commands(*([name, "--help"] for name in names))
    for name, (status, out, err) in zip(names, results, strict=True):
        assert (status, err) == (0, ""), name
        assert f"Usage: ipckit {name}" in out
        assert f"\n    ipckit {name}" in out or f"(ipckit {name}" in out, name
        assert max(map(len, out.splitlines())) <= 100, name


def test_the_examples_in_the_help_are_valid_usage(commands: Callable[..., Any]) -> None:
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


# Each would have a shell run a command, or make another word of it, if it stood there unquoted.
HOSTILE = (
    *("$(touch${IFS}pwned)", "`touch${IFS}pwned`", ";touch pwned", "|touch pwned", "&touch pwned"),
    *(">pwned", "\ntouch pwned\n", "a b", "'", '"', "\\", "*", "?", "[x]", "{x,y}", "~root", "!!"),
    *("#", "=ls", "a,b", "^x", "<x", "\t", "\x1b]0;owned\x07", "\x9b31m", "\udcff", "größe", "(x)"),
    "\nplain,forged",
)
# What each shell would put on the command line, a word a line.
OFFERED = {
    "bash": """
        source <(ipckit completion bash)
        COMP_LINE=$1 COMP_POINT=${#1} COMPREPLY=()
        _ipckit_objects ipckit
        printf '%s\\n' "${COMPREPLY[@]/#/shm:}"
    """,
    "zsh": """
        compdef() { }
        compadd() { print -rl -- "${(@P)argv[-1]}" }
        _describe() { print -rl -- described "${(@P)argv[-2]}" }
        eval "$(ipckit completion zsh)"
        words=(${(z)1}) CURRENT=${#words}
        _ipckit_completion
    """,
    "fish": """
        ipckit completion fish | source
        complete -C $argv[1]
    """,
}


@pytest.mark.parametrize("shell", OFFERED)
def test_no_name_makes_a_shell_run_a_command(
    shell: str, bin_directory: Path, ns: Namespace
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    # A name of the kind that is offered, and with it as a prefix those that are not.
    good = ns.name()
    memory = Path("/dev/shm")  # noqa: S108 - where Linux keeps POSIX shared memory
    paths = [memory / f"{good[1:]}{each}" for each in ("", *HOSTILE)]
    try:
        for path in paths:
            path.touch()
        name = [] if shell == "fish" else [shell]  # fish has no $0
        done = subprocess.run(
            [shell, "-c", OFFERED[shell], *name, f"ipckit rm shm:{good}"],
            capture_output=True,
            text=True,
            check=True,
            cwd=ns.directory,
            env={
                **os.environ,
                "PATH": f"{bin_directory}:{os.environ['PATH']}",
                "HOME": str(ns.directory),
            },
        )
    finally:
        for path in paths:
            path.unlink(missing_ok=True)
    assert done.stdout.split("\n") == [f"shm:{good}", ""], done
    assert not (ns.directory / "pwned").exists()


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
