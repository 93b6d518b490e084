r"""Call a method of a service, and print its result or its items.

    $ python scripts/rpc_client.py --name calculator divide 7
    3.5
    $ python scripts/rpc_client.py --name calculator norm [3,4]
    5.0
    $ python scripts/rpc_client.py --name calculator count 10 step=5 --stream 2
    10
    15
    $ python scripts/rpc_client.py --name calculator divide 1 0
    error: call divide on service calculator: ZeroDivisionError: float division by zero

An argument is a number, true, false, null, a list of numbers, which becomes an array, or text.
``name=value`` gives it by name. With --timeout, the client waits so many seconds for the service,
for the result, and for each item. `rpc_server.py` is the service.
"""

from __future__ import annotations

from _common import plain_errors, say, seconds

# isort: split
# After `_common`, which makes Ctrl-C quiet from here on.
import argparse
import json
import sys
from itertools import islice
from typing import Any

import numpy as np
from _net import positive

from ipckit import RemoteError
from ipckit.rpc import Client, RemoteStream


def value_of(text: str) -> Any:
    """Return the value of an argument."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return np.array(value, np.float64) if isinstance(value, list) else value


def show(client: Client, args: argparse.Namespace) -> None:
    """Call the method, and print what it returns."""
    pairs = [text.partition("=") for text in args.arguments]
    given = [value_of(text) for text, equals, _ in pairs if not equals]
    named = {name: value_of(text) for name, equals, text in pairs if equals}
    try:
        result = client.call(args.method, *given, timeout=args.timeout, **named)
    except TypeError as exc:  # the arguments do not fit the method
        raise ValueError(str(exc)) from exc
    items = result if isinstance(result, RemoteStream) else [result]
    for item in islice(items, args.stream):
        say(item)


def main() -> None:
    """Read the command line and call."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--name", required=True, help="the service's name")
    parser.add_argument("--timeout", type=seconds, help="seconds to wait")
    parser.add_argument("--stream", type=positive, metavar="N", help="stop after N items")
    parser.add_argument("--traceback", action="store_true", help="show where the method failed")
    parser.add_argument("method", help="the name of the method")
    parser.add_argument("arguments", nargs="*", help="its arguments")
    args = parser.parse_args()
    with plain_errors(), Client.open_or_wait(args.name, timeout=args.timeout) as client:
        try:
            show(client, args)
        except RemoteError as exc:
            if args.traceback:
                print(*exc.__notes__, sep="\n", file=sys.stderr)
            raise


if __name__ == "__main__":
    main()
