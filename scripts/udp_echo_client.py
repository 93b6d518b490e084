"""Send each text, or each line, as one UDP datagram, and print what comes back.

    $ python scripts/udp_echo_client.py --port 8899 hello ''
    5 bytes: hello
    0 bytes: an empty datagram, which is no end
    $ python scripts/udp_echo_client.py --port 9 hello
    error: [Errno 111] nobody listens on udp 127.0.0.1:9 (the ICMP message: port unreachable)

The socket is connected: nobody else's datagrams reach it, and the kernel tells it that a port is
unreachable, at the call after the one that sent. A datagram that is lost ends the run.
"""

from __future__ import annotations

from _common import plain_errors, say, seconds

# isort: split
# After it, because from there on Ctrl-C is quiet.
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
    parser.add_argument("--size", type=positive, default=65536, help="bytes of the buffer")
    parser.add_argument("--timeout", type=seconds, default=10, help="seconds to wait for each")
    parser.add_argument("text", nargs="*", help="one datagram each; else lines are read")
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
