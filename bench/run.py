"""Measure ipckit beside its peers, print tables, and write bench/results/*.json.

$ make bench                          # everything, about 12 minutes
$ make bench ARGS="msgq sem"          # two suites
$ make bench ARGS="channel --quick"   # the channel, in a minute or less
$ make bench ARGS=topic               # one publisher, many subscribers
$ make bench ARGS=bridge              # two hosts, beside nats-py and zenoh

The processes of both benches import this file too, so it imports little.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

SUITES = (
    "msgq",
    "shm",
    "sem",
    "unixsock",
    "echo",
    "aio",
    "rpc",
    "pool",
    "channel",
    "topic",
    "bridge",
)
DOCS = Path(__file__).parent.parent / "docs"


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"one of {', '.join(SUITES)}")
    parser.add_argument(
        "--quick", action="store_true", help="channel and topic with few repetitions"
    )
    parser.add_argument("--only", action="append", help="only this section of channel or topic")
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
    others = [suite for suite in chosen if suite in wrappers.SUITES]
    if others:
        wrappers.run(others)
    quick, only = arguments.quick, arguments.only or ()
    failed = 0
    if "channel" in chosen:
        from channel import suite  # noqa: PLC0415 - see above

        plots = arguments.plots or (None if quick or only else DOCS)
        failed |= suite.run(suite.channel(quick=quick), quick=quick, only=only, plots_to=plots)
    if "topic" in chosen:
        from channel import suite  # noqa: PLC0415 - see above
        from topic import sections  # noqa: PLC0415 - see above

        failed |= suite.run(sections.suite(), quick=quick, only=only)
    if "bridge" in chosen:  # in network namespaces of their own
        for name in ("bridge.py", "bridge_topics.py"):
            command = [sys.executable, str(Path(__file__).with_name(name))]
            failed |= subprocess.run(command, check=False).returncode
    return failed


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\ninterrupted; nothing was written")
