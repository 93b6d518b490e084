"""Send each text, or each line, as one UDP datagram, and print the replies.

    $ python scripts/udp_echo_client.py --port 8899 hello ''
    5 bytes: hello
    0 bytes: an empty datagram, not an end
    $ python scripts/udp_echo_client.py --port 9 hello
    error: [Errno 111] no process listens on udp 127.0.0.1:9 (the ICMP message: port unreachable)

The socket is connected, so it receives datagrams only from the server. If the port is unreachable,
the kernel reports it at the next call after the send. A lost datagram ends the run.
"""

from __future__ import annotations

from _common import plain_errors, say, seconds

# isort: split
# After `_common`, which makes Ctrl-C quiet from here on.
import argparse
import os
import socket
import sys

from _net import add_inet_options, connected, inet_address, named, positive
from udp_echo_server import said


def main() -> None:
    """Read the command line and send."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_inet_options(parser)
    parser.add_argument("--size", type=positive, default=65536, help="buffer size in bytes")
    parser.add_argument("--timeout", type=seconds, default=10, help="seconds to wait for each")
    parser.add_argument(
        "text", nargs="*", help="one datagram each; by default, lines from standard input"
    )
    args = parser.parse_args()
    address = inet_address(args, "udp")
    buffer = memoryview(bytearray(args.size))
    with plain_errors(), connected(address) as sock, named(address):
        sock.settimeout(args.timeout)
        lines = (line.rstrip(b"\n") for line in sys.stdin.buffer)
        for text in map(os.fsencode, args.text) if args.text else lines:
            sock.send(text)
            try:
                length = sock.recvmsg_into([buffer], 0, socket.MSG_TRUNC)[0]
            except TimeoutError:
                message = f"nothing came back from {address} within {args.timeout:g} s"
                raise TimeoutError(message) from None
            say(said(buffer[:length], length))


if __name__ == "__main__":
    main()
