"""The command ``ipckit``: it loads one command, runs it, and turns an error into an exit status.

The command NAME is ``command`` in ``ipckit._cli.commands.NAME``.
"""

from __future__ import annotations

import importlib
import signal
from typing import TYPE_CHECKING, Final

import click
from click.shell_completion import CompletionItem

from ipckit._cli.output import DONE, ERROR, USAGE, UnreadableSource, say, say_lines
from ipckit._core.public import public
from ipckit._core.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

# In the order of `ipckit --help`.
COMMANDS: Final = {
    "ls": "List the IPC objects, and which processes hold them.",
    "stat": "Show everything that is known about one object.",
    "ps": "Show which objects processes hold and wait on.",
    "make": "Create an object, and print its address.",
    "rm": "Remove the named objects.",
    "gc": "List orphaned objects; remove them with --delete.",
    "peek": "Show the messages in a queue, channel or topic; they stay there.",
    "dump": "Show the bytes of shared memory.",
    "send": "Send messages to a queue, channel or topic.",
    "recv": "Receive messages from a queue, channel or topic.",
    "bridge": "Carry a channel or topic to another machine, or from one.",
    "sem": "Post to a semaphore, take from it or set it.",
    "top": "Watch all objects: messages, rates, waiters, holders.",
    "limits": "Show the limits, their use, and how to raise them.",
    "doctor": "Find likely problems, and suggest a cure for each.",
    "header": "Convert a Struct to a C header and back.",
    "completion": "Print the code for shell completion.",
}
_BY_SIGNAL: Final = 128  # plus the signal: the status of a program that a signal ended


class _Commands(click.Group):
    """The commands. Each is imported when it is used, because `top` imports far more than `ls`."""

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

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a command without importing it; click imports each that matches."""
        found = [
            CompletionItem(name, help=summary)
            for name, summary in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's signature
    del param
    if not value or ctx.resilient_parsing:
        return
    say(f"ipckit, version {__version__}")
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
    """List, inspect and remove the IPC objects of this system.

    \b
    OBJECT is an address that `ipckit ls` shows. The prefix can be left out if
    only one object matches:
      q:5  m:5  s:5             a System V queue, segment, semaphore set, by id
      q:0x4d2  key:0x4d2        the same, by key
      mq:/a  shm:/a  sem:/a     a POSIX queue, segment, semaphore
      channel:a  topic:a        a channel, a topic
      memfd:1234                a memfd, by inode
      socket:/run/a  @a         a UNIX socket, by path or abstract name

    Exit status: 0 success, 1 an error or a critical finding, 2 wrong usage,
    3 refused, 4 warnings of doctor.
    """  # noqa: D301 - \b tells click not to wrap the paragraph


def _fail(text: str) -> None:
    say(f"ipckit: {text}", error=True)


@public("ipckit.cli")
def run(arguments: Sequence[str]) -> int:
    """Run one command.

    Args:
        arguments: the words of the command line after ``ipckit``.

    Returns:
        The exit status: 0 success; 1 an error, or a critical finding of ``doctor``; 2 wrong usage;
        3 refused; 4 if ``doctor`` has warnings but nothing critical; 130 after Ctrl-C.

    Example:
        >>> run(["header"])
        2
    """
    try:
        status = main.main(list(arguments), prog_name="ipckit", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as exc:
        say_lines(exc.format_message(), error=True)
        status = USAGE
    except UnreadableSource as exc:
        say_lines(f"ipckit: {exc.format_message()}", error=True)
        status = USAGE
    except click.UsageError as exc:
        path = exc.ctx.command_path if exc.ctx else "ipckit"
        _fail(f"{exc.format_message().rstrip('.')}; see {path} --help")
        status = USAGE
    except click.ClickException as exc:
        _fail(exc.format_message())
        status = exc.exit_code
    except click.Abort:
        _fail("interrupted")
        status = _BY_SIGNAL + signal.SIGINT
    except OSError as exc:
        _fail(str(exc))
        status = ERROR
    return status if isinstance(status, int) else DONE
