"""Send text to an echo server and print the replies, or send a large load and check them.

    $ python scripts/echo_client.py --transport tcp --port 8899 hello
    hello
    $ python scripts/echo_client.py --transport unix --path /run/echo --bytes 100000000
    100000000 bytes came back as they were sent

Without text, it sends each line of standard input as it comes. `echo_server.py` is the other side.
"""

from __future__ import annotations

from _common import plain_errors, say, seconds

# isort: split
# After `_common`, which makes Ctrl-C quiet from here on.
import argparse
import os
import sys
from typing import TYPE_CHECKING

from _echo_load import datagram_load, exchange, stream_load
from _net import Address, add_address_options, address_of, connected, named, positive

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable


def talk(sock: socket.socket, address: Address, texts: Iterable[bytes], timeout: float) -> None:
    """Send each text, and print the reply."""
    for text in texts:
        if address.transport != "udp":
            back = exchange(sock, address, text + b"\n")
        else:
            sock.settimeout(timeout)
            with named(address):
                sock.send(text)
                back = sock.recv(65536) + b"\n"
        sys.stdout.buffer.write(back)
        sys.stdout.buffer.flush()


def main() -> None:
    """Read the command line and talk."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_address_options(parser)
    parser.add_argument("--bytes", type=positive, help="send this many bytes, and check the reply")
    parser.add_argument(
        "--timeout", type=seconds, default=10, help="seconds to wait for a datagram"
    )
    parser.add_argument(
        "text", nargs="*", help="what to send; by default, lines from standard input"
    )
    args = parser.parse_args()
    if args.bytes is not None and args.text:
        parser.error("--bytes generates its data: give no text")
    address = address_of(args, parser)
    with plain_errors(), connected(address) as sock:
        if args.bytes is None:
            lines = (line.rstrip(b"\n") for line in sys.stdin.buffer)
            texts = map(os.fsencode, args.text) if args.text else lines
            talk(sock, address, texts, args.timeout)
            return
        if address.transport == "udp":
            datagram_load(sock, address, args.bytes, args.timeout)
        else:
            stream_load(sock, address, args.bytes)
        say(f"{args.bytes} bytes came back as they were sent")


if __name__ == "__main__":
    main()
