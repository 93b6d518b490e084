"""``ipckit recv``: receive messages from a queue, channel or topic, and print them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from ipckit._cli.options import Seconds, chosen, object_argument, struct_options, type_given

if TYPE_CHECKING:
    from ipckit.inventory import Kind

_KINDS: Final[tuple[Kind, ...]] = ("sysv-queue", "posix-queue", "channel", "topic")
_HIGHEST_MTYPE: Final = 2**63 - 1
_EXAMPLES: Final = """\b
Examples:
  ipckit recv q:5                          wait for one message
  ipckit recv channel:jobs --all --json    all that wait now
  ipckit recv topic:frames --follow        subscribe until Ctrl-C
  ipckit recv q:5 --mtype 2 --timeout 10 --struct records:Stu
  ipckit recv q:5 --all --json | ipckit send channel:jobs --json
"""


@click.command(epilog=_EXAMPLES)
@object_argument(*_KINDS)
@click.option(
    "-n", "count", type=click.IntRange(min=1), metavar="N", help="Receive N messages; by default 1."
)
@click.option("--all", "everything", is_flag=True, help="Receive all that wait now; do not wait.")
@click.option("--follow", is_flag=True, help="Continue until Ctrl-C, also if no sender is left.")
@click.option(
    "--mtype",
    type=click.IntRange(-_HIGHEST_MTYPE, _HIGHEST_MTYPE),
    metavar="N",
    help="The type: 0 for any, N for type N, -N for the lowest type up to N.",
)
@click.option("--exclude", is_flag=True, help="Receive any type except that of --mtype.")
@click.option(
    "--timeout",
    type=Seconds(min=0),
    metavar="SECONDS",
    help="How long to wait for each message; by default forever.",
)
@struct_options
@click.option("--json", "shown", flag_value="json", help="Print one JSON object on each line.")
@click.option("--hex", "shown", flag_value="hex", help="Print hexadecimal digits.")
@click.option("--raw", "shown", flag_value="raw", help="Write only the bytes, without line ends.")
def command(
    text: str,
    *,
    count: int | None,
    everything: bool,
    follow: bool,
    mtype: int | None,
    exclude: bool,
    timeout: float | None,
    shown: str | None,
) -> int:
    """Receive messages from a queue, channel or topic, and print each on a line.

    Each message is printed before the next is received. The type of the messages of a channel or
    topic is found from its header. A message that can't be decoded is printed in hexadecimal
    digits, so that it is not lost, and the exit status is 1. From a topic, recv receives its
    history and what is published from now on.
    """
    if sum((count is not None, everything, follow)) > 1:
        message = "-n, --all and --follow exclude each other"
        raise click.UsageError(message, click.get_current_context())
    if type_given() is not None and shown in {"hex", "raw"}:
        message = f"--{shown} excludes --struct and --c"
        raise click.UsageError(message, click.get_current_context())
    # Completion does not need what the rest imports.
    from ipckit._cli.receive import ReceiveOptions, receive  # noqa: PLC0415

    most = None if follow or everything else count or 1
    options = ReceiveOptions(most, everything, follow, mtype, exclude, timeout)
    return receive(chosen(text, _KINDS), options, shown or "")
