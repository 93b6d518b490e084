"""An echo server that a new process can replace while clients connect, without refusing any.

    $ python scripts/handover_server.py --port 8899 --control /run/echo.control
    listening on tcp 127.0.0.1:8899
    $ python scripts/handover_server.py --take-over --control /run/echo.control
    listening on tcp 127.0.0.1:8899

The second server, perhaps a newer version, receives the listening socket from the first as a
descriptor. The first then prints `handed over`, serves its present clients, and ends when the last
one has left. `echo_client.py` is the client.
"""

from __future__ import annotations

from _common import plain_errors

# isort: split
# After `_common`, which makes Ctrl-C quiet from here on.
import argparse
from contextlib import ExitStack

from _handover import SERVING, Server, take_over
from _net import Address, add_inet_options, announce, bound, end_on_sigterm, inet_address

from ipckit import unixsock


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_inet_options(parser)
    parser.add_argument("--control", required=True, help="the socket file for the handover")
    parser.add_argument("--take-over", action="store_true", help="replace the server there")
    args = parser.parse_args()
    if args.take_over and (args.host is not None or args.port is not None):
        parser.error("--take-over uses the old server's address: give no --host or --port")
    end_on_sigterm()
    with plain_errors(), ExitStack() as stack:
        if args.take_over:
            listener, control, before = take_over(args.control)
            stack.enter_context(before)
        else:
            before = None
            listener = stack.enter_context(bound(inet_address(args, "tcp")))
            control = unixsock.listen(args.control, "seqpacket")
        stack.enter_context(listener)
        stack.enter_context(control)
        server = Server(listener, control)
        if before is not None:
            before.send(SERVING)
        announce(Address("tcp"), listener)
        server.loop.run()


if __name__ == "__main__":
    main()
