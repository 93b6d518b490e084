"""``ipckit``: what IPC objects exist, who holds them, what is in them, and what may go.

Each command lives in a module ``_cli_NAME`` of its own, as ``command``, and is loaded when it
is called for.
"""

from __future__ import annotations

import importlib
import signal
from typing import TYPE_CHECKING, Final

import click

from ipckit._cli.output import DONE, ERROR, USAGE, say, say_lines
from ipckit._core.public import public

if TYPE_CHECKING:
    from collections.abc import Sequence

# In the order of `ipckit --help`.
COMMANDS: Final = {
    "ls": "List the IPC objects that exist, and who holds them.",
    "stat": "Show everything that is known of an object.",
    "rm": "Remove objects.",
    "gc": "Find what nobody alive holds, and remove it when told to.",
    "peek": "Show the messages in a queue without taking them.",
    "dump": "Show the bytes of shared memory.",
    "send": "Put messages into a queue.",
    "recv": "Take messages from a queue and print them.",
    "top": "Watch queues, segments and semaphores live.",
    "limits": "Show the kernel's limits, what is used, and how to raise them.",
    "doctor": "Find what is likely to bite, and say what cures it.",
    "header": "Turn a Struct into a C header, or the other way.",
    "completion": "Print the shell's code that completes these commands.",
}
_DISTRIBUTION: Final = "ipckit-linux"  # on the public index ipckit is another project
_BY_SIGNAL: Final = 128  # what a shell shows for a program that a signal ended


class _Commands(click.Group):
    """The commands, each imported when it is used: `top` needs far more than `ls`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = importlib.import_module(f"ipckit._cli.commands.{cmd_name}").command
        found.name = cmd_name
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's signature
    del param
    if not value or ctx.resilient_parsing:
        return
    from importlib import metadata  # noqa: PLC0415 - it takes long to import

    try:
        version = f"version {metadata.version(_DISTRIBUTION)}"
    except metadata.PackageNotFoundError:
        version = f"a checkout: {_DISTRIBUTION} is not installed"
    say(f"ipckit, {version}")
    ctx.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def main() -> None:
    """Show and tend the IPC objects of this system.

    \b
    An OBJECT is named as `ipckit ls` names it, or shorter where only one can be meant:
      q:5  m:5  s:5             a System V queue, segment, semaphore set by its id
      q:0x4d2  key:0x4d2        the same by its key
      mq:/a  shm:/a  sem:/a     a POSIX queue, segment, semaphore
      channel:a  memfd:1234     a channel; a memfd by its inode
      socket:/run/a  @a         a UNIX socket by its path or abstract name

    Exit status: 0 done, 1 an error, 2 wrong usage, 3 refused.
    """  # noqa: D301 - \b is click's mark for text that keeps its lines


def _fail(text: str) -> None:
    say(f"ipckit: {text}", error=True)


@public("ipckit.cli")
def run(arguments: Sequence[str]) -> int:
    """Run one command.

    Args:
        arguments: the words of the command line behind ``ipckit``.

    Returns:
        The exit status: 0 done, 1 an error, 2 wrong usage, 3 refused; 130 after Ctrl-C.
    """
    try:
        status = main.main(list(arguments), prog_name="ipckit", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as exc:
        say_lines(exc.format_message(), error=True)
        status = USAGE
    except click.UsageError as exc:
        path = exc.ctx.command_path if exc.ctx else "ipckit"
        _fail(f"{exc.format_message().rstrip('.')}; see {path} --help")
        status = USAGE
    except click.ClickException as exc:
        _fail(exc.format_message())
        status = exc.exit_code
    except click.Abort:
        _fail("stopped")
        status = _BY_SIGNAL + signal.SIGINT
    except OSError as exc:
        _fail(str(exc))
        status = ERROR
    return status if isinstance(status, int) else DONE
