r"""Receive from a System V queue, a POSIX queue, a socket and a channel in one event loop.

    $ python scripts/aio_hub.py --key 1234 --name /notes --path /tmp/hub.sock --channel c --count 4
    waiting
    sysv	hello
    posix	hello
    socket	hello
    channel	hello

It prints each message, and each line from each client of the socket, as ``source<TAB>payload`` in
order of arrival. It creates the objects that do not exist, and removes those at the end. Send with
`msgq_send.py`, `mq_send.py`, ``nc -U`` and `channel_send.py`. It continues until --count or Ctrl-C,
or until the System V queue is removed. A message that it has not printed stays in its queue.
"""

from __future__ import annotations

from _common import plain_errors, say

# isort: split
# After `_common`, which makes Ctrl-C quiet from here on.
import argparse
import asyncio
import signal
import sys

from _hub import Hub
from _net import positive

from ipckit import Channel, Key, PosixMessageQueue, SysVMessageQueue, aio, listen


async def main(args: argparse.Namespace) -> int:
    """Receive from all four until enough has come, or SIGTERM. Return the exit status."""
    hub = Hub(args.count)
    async with (
        aio.wrap(SysVMessageQueue.open_or_create(args.key)) as sysv,
        aio.wrap(PosixMessageQueue.open_or_create(args.name)) as posix,
        aio.wrap(listen(args.path)) as listener,
        aio.wrap(Channel.open_or_create(args.channel, peer_gone="wait")) as channel,
    ):
        say("waiting")
        for source, messages in (("sysv", sysv), ("posix", posix), ("channel", channel)):
            hub.start(hub.show(source, messages))
        hub.start(hub.serve(listener))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, hub.end, 128 + signal.SIGTERM)
        try:
            return await hub.status
        finally:
            hub.end(0)
            await asyncio.gather(*hub.readers, return_exceptions=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--key", type=Key.parse, required=True, help="the System V queue's key")
    parser.add_argument("--name", required=True, help="the POSIX queue's name, such as /notes")
    parser.add_argument("--path", required=True, help="the socket file")
    parser.add_argument("--channel", required=True, help="the channel's name")
    parser.add_argument("--count", type=positive, help="stop after this many messages")
    with plain_errors():
        sys.exit(asyncio.run(main(parser.parse_args())))
