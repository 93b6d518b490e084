r"""Offer methods to other processes: numbers, an array, a stream, and a slow method.

    $ python scripts/rpc_server.py --name calculator --workers 2
    serving calculator

`rpc_client.py` calls the methods. Several of these servers can have the same name: each call goes
to one of them. The first one creates the service and removes it at the end. Ctrl-C and SIGTERM end
a server, and the methods that it runs first end.
"""

from __future__ import annotations

from _common import plain_errors, say

# isort: split
# After `_common`, which makes Ctrl-C quiet from here on.
import argparse
import os
import time
from collections.abc import Iterator  # noqa: TC003 - the service reads the annotations

import numpy as np
import numpy.typing as npt
from _net import end_on_sigterm, positive

from ipckit.rpc import Service, current


def divide(a: float, b: float = 2.0) -> float:
    """Return a / b."""
    return a / b


def norm(vector: npt.NDArray[np.float64]) -> float:
    """Return the length of a vector."""
    return float(np.linalg.norm(vector))


def scale(array: npt.NDArray[np.float64], factor: float) -> npt.NDArray[np.float64]:
    """Return the array, each element times the factor."""
    return array * factor


def count(start: int, step: int = 1) -> Iterator[int]:
    """Yield numbers until the client stops."""
    while True:
        yield start
        start += step


def work(duration: float) -> int:
    """Work for some seconds, or until the client no longer waits; return the process."""
    say(f"work: {duration:g} s")
    end = time.monotonic() + duration
    while time.monotonic() < end:
        if current().cancelled:
            say("work: the client no longer waits")
            break
        time.sleep(0.01)
    return os.getpid()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--name", required=True, help="the service's name")
    parser.add_argument("--workers", type=positive, default=1, help="threads that run calls")
    args = parser.parse_args()
    end_on_sigterm()
    with plain_errors(), Service.open_or_create(args.name) as service:
        for function in (divide, scale, count, work):
            service.method(function)
        service.method(norm, in_place=True)
        say(f"serving {args.name}")
        service.serve(workers=args.workers)


if __name__ == "__main__":
    main()
