"""Measure ipckit beside its peers, print tables, and write bench/results/*.json.

$ make bench                          # everything, about 8 minutes
$ make bench ARGS="msgq sem"          # two suites
$ make bench ARGS="channel --quick"   # the channel, in a minute or less

The processes of the channel's bench import this file too, so it imports little.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

SUITES = ("msgq", "shm", "sem", "unixsock", "echo", "aio", "channel")
DOCS = Path(__file__).parent.parent / "docs"


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"one of {', '.join(SUITES)}")
    parser.add_argument("--quick", action="store_true", help="the channel in less than a minute")
    parser.add_argument("--only", action="append", help="only this section of the channel suite")
    parser.add_argument(
        "--plots",
        type=Path,
        help="directory for the channel's plots; by default docs/, after a full run only",
    )
    arguments = parser.parse_args(argv)
    unknown = [suite for suite in arguments.suites if suite not in SUITES]
    if unknown:
        parser.error(f"no suite {unknown[0]!r}; there are {', '.join(SUITES)}")
    return arguments


def main() -> int:
    """Run the chosen suites."""
    arguments = _arguments(sys.argv[1:])
    chosen = [suite for suite in SUITES if suite in (arguments.suites or SUITES)]
    import machine  # noqa: PLC0415 - see above
    import wrappers  # noqa: PLC0415 - see above

    print(machine.machine(), flush=True)
    others = [suite for suite in chosen if suite != "channel"]
    if others:
        wrappers.run(others)
    if "channel" not in chosen:
        return 0
    from channel import suite  # noqa: PLC0415 - see above

    whole = not (arguments.quick or arguments.only)
    plots = arguments.plots or (DOCS if whole else None)
    return suite.run(quick=arguments.quick, only=arguments.only, plots_to=plots)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\ninterrupted; nothing was written")
