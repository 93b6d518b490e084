"""Echo what clients send: one server with seven ways to serve many clients at once.

    $ python scripts/echo_server.py --transport tcp --model epoll --port 8899
    listening on tcp 127.0.0.1:8899

`fork` and `thread` give each client a process or a thread; `select`, `poll`, `epoll`, `epoll-et`
(edge-triggered) and `asyncio` serve all from one thread. If a client sends without reading, the
server stops reading from it. Ctrl-C ends the server. `echo_client.py` is the other side.
"""

from __future__ import annotations

from _common import plain_errors

# isort: split
# After `_common`, which makes Ctrl-C quiet from here on.
import argparse

from _echo_models import MODELS
from _net import add_address_options, address_of, end_on_sigterm, listening


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_address_options(parser)
    parser.add_argument("--model", choices=MODELS, default="epoll")
    args = parser.parse_args()
    address = address_of(args, parser)
    end_on_sigterm()
    with plain_errors(), listening(address) as sock:
        MODELS[args.model](sock)


if __name__ == "__main__":
    main()
