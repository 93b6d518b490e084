"""``ipckit bridge``: carry messages of channels and topics to other machines, and from them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.shell_completion import CompletionItem

from ipckit._cli.address import ObjectType
from ipckit._cli.options import Size

if TYPE_CHECKING:
    from ipckit.inventory import Kind

_KINDS: Final[tuple[Kind, ...]] = ("channel", "topic")
_SCHEMES: Final = ("nats://", "tls://", "zenoh://")
_MOST_PACKETS: Final = 256
_FILE: Final = click.Path(exists=True, dir_okay=False, readable=True)
_EXAMPLES: Final = """\b
Examples:
  ipckit bridge channel:jobs nats://10.0.0.5:4222/jobs     on one machine
  ipckit bridge nats://10.0.0.5:4222/jobs channel:jobs     on the other
  ipckit bridge channel:jobs tls://nats.lan/jobs --creds jobs.creds
  ipckit bridge --config bridges.toml

\b
A file for --config has a table for each bridge:
  [[bridge]]
  from = "channel:jobs"
  to = "nats://10.0.0.5:4222/jobs"
  credentials = "jobs.creds"
  max_bytes = "4G"
"""


class _End(ObjectType):
    """An end of a bridge: the address of a channel or topic, or a URL. Has shell completion."""

    name = "end"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        schemes = [CompletionItem(each) for each in _SCHEMES if each.startswith(incomplete)]
        return super().shell_complete(ctx, param, incomplete) + schemes


def _usage(message: str) -> click.UsageError:
    return click.UsageError(message, click.get_current_context())


@click.command(epilog=_EXAMPLES)
@click.argument("source", metavar="[FROM", required=False, type=_End(*_KINDS))
@click.argument("target", metavar="TO]", required=False, type=_End(*_KINDS))
@click.option("--send", "direction", flag_value="send", help="FROM is the channel or topic.")
@click.option("--receive", "direction", flag_value="receive", help="TO is the channel or topic.")
@click.option("--config", type=_FILE, metavar="FILE", help="Run the bridges of a TOML file.")
@click.option("--creds", "credentials", type=_FILE, metavar="FILE", help="NATS credentials.")
@click.option("--tls-ca", type=_FILE, metavar="FILE", help="Authorities to trust, as PEM.")
@click.option("--tls-cert", type=_FILE, metavar="FILE", help="The certificate to show, as PEM.")
@click.option("--tls-key", type=_FILE, metavar="FILE", help="The key of --tls-cert, as PEM.")
@click.option("--zenoh-config", type=_FILE, metavar="FILE", help="A configuration of zenoh.")
@click.option(
    "--storage",
    type=click.Choice(("file", "memory")),
    help="Where a new stream keeps messages; by default file.",
)
@click.option(
    "--max-bytes",
    type=Size(),
    metavar="SIZE",
    help="Bytes that a new stream keeps, such as 512M; by default 1G.",
)
@click.option(
    "--window",
    type=click.IntRange(1, _MOST_PACKETS),
    metavar="N",
    help="The most unacknowledged packets; by default 64.",
)
@click.option(
    "--capacity",
    type=click.IntRange(min=1),
    metavar="N",
    help="The most messages in a channel or topic that --receive creates.",
)
@click.option(
    "--when-full",
    type=click.Choice(("wait", "drop_oldest")),
    help="If the other side of a topic is slow: wait makes publishers wait (the default), "
    "drop_oldest loses messages.",
)
def command(
    source: str | None,
    target: str | None,
    *,
    direction: str | None,
    config: str | None,
    **options: Any,
) -> int:
    """Carry the messages of a channel or topic to another machine, or from one.

    One end is channel:NAME or topic:NAME, and the other a URL:

    \b
      nats://HOST:PORT/STREAM   NATS; for a channel with JetStream
      tls://HOST:PORT/STREAM    the same over TLS
      zenoh://HOST:PORT/KEY     zenoh; for topics

    The sending bridge acknowledges a message of a channel after the server has stored it. The
    receiving bridge acknowledges it to the server after it has sent it into its channel. So no
    message is lost if a process is killed. While the server can't be reached, the bridge waits, and
    says so once on standard error.

    The bridge runs until SIGTERM or Ctrl-C. Then it waits up to 5 s for the acknowledgements of the
    messages that it has sent. A second Ctrl-C ends it at once. If one of several bridges ends with
    an error, the others continue, and the exit status is 1.
    """  # noqa: D301 - \b tells click not to wrap the paragraph
    given = {name: value for name, value in options.items() if value is not None}
    if config is not None and (source or direction or given):
        message = "--config excludes all other arguments and options"
        raise _usage(message)
    if config is None and target is None:
        message = "a bridge needs two ends: FROM and TO, or --config FILE"
        raise _usage(message)
    # Completion and --help do not need the modules that this one imports.
    from ipckit._cli import bridging  # noqa: PLC0415

    if config is not None:
        routes = bridging.routes_of_file(Path(config))
    else:
        assert source is not None and target is not None  # noqa: S101, PT018 - checked above
        routes = [bridging.route_of_arguments(source, target, direction, given)]
    return bridging.run(routes)
