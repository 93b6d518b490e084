"""Echo UDP datagrams, and print the length of each and whether it was cut.

    $ python scripts/udp_echo_server.py --port 8899 --size 8
    listening on udp 127.0.0.1:8899
    127.0.0.1:40112: 5 bytes: hello
    127.0.0.1:40112: 0 bytes: an empty datagram, not an end
    127.0.0.1:40112: 11 bytes, cut to 8 (MSG_TRUNC): hello wo

The kernel cuts a datagram that is longer than the buffer, and reports it in MSG_TRUNC. A datagram
socket has no end of stream. `udp_echo_client.py` is the other side.
"""

from __future__ import annotations

from _common import plain_errors, say

# isort: split
# After `_common`, which makes Ctrl-C quiet from here on.
import argparse
import socket
import sys

from _net import Address, add_inet_options, end_on_sigterm, inet_address, listening, positive


def said(data: memoryview, length: int) -> str:
    """Describe a datagram: its real length, and its text."""
    if not length:
        return "0 bytes: an empty datagram, not an end"
    cut = f", cut to {len(data)} (MSG_TRUNC)" if length > len(data) else ""
    text = "".join(each if each.isprintable() else "?" for each in str(data, errors="replace"))
    return f"{length} bytes{cut}: {text[:64]}"


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_inet_options(parser)
    parser.add_argument("--size", type=positive, default=2048, help="buffer size in bytes")
    parser.add_argument(
        "--count", type=positive, default=sys.maxsize, help="end after this many datagrams"
    )
    args = parser.parse_args()
    end_on_sigterm()
    buffer = memoryview(bytearray(args.size))
    with plain_errors(), listening(inet_address(args, "udp")) as sock:
        for _ in range(args.count):
            # With MSG_TRUNC as a flag of the call, the kernel returns the real length.
            length, _, _, sender = sock.recvmsg_into([buffer], 0, socket.MSG_TRUNC)
            data = buffer[:length]
            say(f"{str(Address('udp', *sender[:2]))[4:]}: {said(data, length)}")
            try:
                sock.sendto(data, sender)
            except OSError as exc:
                say(f"no answer: {exc.strerror}")


if __name__ == "__main__":
    main()
