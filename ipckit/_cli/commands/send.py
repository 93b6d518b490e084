"""``ipckit send``: send messages to a queue, channel or topic, from arguments or standard input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from ipckit._cli.options import Seconds, chosen, object_argument, struct_options, type_given

if TYPE_CHECKING:
    from ipckit.inventory import Kind

_KINDS: Final[tuple[Kind, ...]] = ("sysv-queue", "posix-queue", "channel", "topic")
_HIGHEST_MTYPE: Final = 2**63 - 1
_HIGHEST_PRIORITY: Final = 32767
_EXAMPLES: Final = """\b
Examples:
  ipckit send q:5 hello --mtype 3
  ipckit send channel:people '{"name": "amy", "age": 20}'
  ipckit send topic:prices '[1.5, 2.5]'
  ipckit send mq:/jobs --struct records:Stu '{"name": "amy", "age": 20}'
  generate-lines | ipckit send mq:/jobs --priority 9 --timeout 2
  ipckit recv q:5 --all --json | ipckit send channel:jobs --json
"""


@click.command(epilog=_EXAMPLES)
@object_argument(*_KINDS)
@click.argument("words", nargs=-1, metavar="[MESSAGE]...")
@click.option(
    "--mtype",
    type=click.IntRange(1, _HIGHEST_MTYPE),
    metavar="N",
    help="The type, for a System V queue; by default 1.",
)
@click.option(
    "--priority",
    type=click.IntRange(0, _HIGHEST_PRIORITY),
    metavar="N",
    help="The priority, for a POSIX queue; by default 0.",
)
@click.option(
    "--timeout",
    type=Seconds(min=0),
    metavar="SECONDS",
    help="How long to wait while there is no room; by default forever.",
)
@click.option(
    "--owner",
    metavar="USER",
    help="Send to a channel or topic of this user; by default only of yours and root's.",
)
@struct_options
@click.option("--json", "given", flag_value="json", help="Messages as `recv --json` prints them.")
@click.option("--hex", "given", flag_value="hex", help="Messages as hexadecimal digits.")
@click.option("--raw", "given", flag_value="raw", help="All of standard input as one message.")
def command(
    text: str,
    words: tuple[str, ...],
    *,
    mtype: int | None,
    priority: int | None,
    timeout: float | None,
    owner: str | None,
    given: str | None,
) -> int:
    """Send messages to a queue or channel, or publish them to a topic.

    Each MESSAGE is sent. Without MESSAGE arguments, each line of standard input is sent. The type
    of the messages of a channel or topic is found from its header. A struct is written as a JSON
    object of its fields, or an array of them in order, with bytes as hexadecimal digits; a numpy
    array as JSON lists. A struct that begins with mtype is sent to a System V queue under that
    type. If a message is invalid, the command stops; the messages before it have been sent.
    """
    if type_given() is not None and given in {"hex", "raw"}:
        message = f"--{given} excludes --struct and --c"
        raise click.UsageError(message, click.get_current_context())
    if words and given == "raw":
        message = "--raw reads standard input, and takes no MESSAGE"
        raise click.UsageError(message, click.get_current_context())
    # Completion does not need what the rest imports.
    from ipckit._cli.send import SendOptions, send  # noqa: PLC0415

    return send(
        chosen(text, _KINDS), words, SendOptions(mtype, priority, timeout, owner), given or ""
    )
