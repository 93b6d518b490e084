"""An echo server of several processes: a broker accepts, and workers that wait get the clients.

    $ python scripts/broker_server.py --port 8899 --path /run/echo --workers 4
    listening on tcp 127.0.0.1:8899
    listening on unix /run/echo
    workers 4711 4712 4713 4714

Each connection, of TCP or UNIX, crosses to a worker as a descriptor. A worker that dies takes the
clients along that it serves; those that it had not taken yet go to the others, and it is replaced.
`echo_client.py` is the client.
"""

from __future__ import annotations

from _common import plain_errors, say

# isort: split
# After it, because from there on Ctrl-C is quiet.
import argparse

from _broker import Broker
from _children import end_children
from _net import Address, add_inet_options, end_on_sigterm, inet_address, listening, positive


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_inet_options(parser)
    parser.add_argument("--path", required=True, help="the socket file")
    parser.add_argument("--workers", type=positive, default=4, help="how many processes")
    args = parser.parse_args()
    end_on_sigterm()
    with (
        plain_errors(),
        listening(inet_address(args, "tcp")) as inet,
        listening(Address("unix", path=args.path)) as unix,
    ):
        broker = Broker([inet, unix], args.workers)
        try:
            say(f"workers {' '.join(str(worker.pid) for worker in broker.workers)}")
            broker.loop.run()
        finally:
            end_children([worker.pid for worker in broker.workers])


if __name__ == "__main__":
    main()
