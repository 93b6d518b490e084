"""An echo server of several processes: a broker accepts clients and passes them to workers.

    $ python scripts/broker_server.py --port 8899 --path /run/echo --workers 4
    listening on tcp 127.0.0.1:8899
    listening on unix /run/echo
    workers 4711 4712 4713 4714

Each connection, TCP or UNIX, is passed to a worker as a descriptor. When a worker dies, the clients
that it served are lost. Clients that it had not taken yet go to the other workers, and the worker
is replaced. `echo_client.py` is the client.
"""

from __future__ import annotations

from _common import plain_errors, say

# isort: split
# After `_common`, which makes Ctrl-C quiet from here on.
import argparse

from _broker import Broker
from _children import end_children
from _net import Address, add_inet_options, end_on_sigterm, inet_address, listening, positive


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_inet_options(parser)
    parser.add_argument("--path", required=True, help="the socket file")
    parser.add_argument("--workers", type=positive, default=4, help="number of processes")
    args = parser.parse_args()
    end_on_sigterm()
    with (
        plain_errors(),
        listening(inet_address(args, "tcp")) as inet,
        listening(Address("unix", path=args.path)) as unix,
    ):
        try:
            broker = Broker([inet, unix], args.workers)
            say(f"workers {' '.join(str(worker.pid) for worker in broker.workers)}")
            broker.loop.run()
        finally:
            end_children()


if __name__ == "__main__":
    main()
