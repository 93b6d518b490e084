"""The main demonstration: two interpreters exchange typed messages over a System V queue.

    $ python scripts/demo.py                      # `make demo` runs this

It creates a queue, starts `demo_producer.py` and `demo_consumer.py` on it, removes the queue
when both have ended, and runs ipcs(1) to show that nothing is left.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from _common import plain_errors

from ipckit import SysVMessageQueue

_SCRIPTS = Path(__file__).parent


def run() -> int:
    """Run both sides to their end. Return 1 if one of them failed."""
    with SysVMessageQueue.create() as queue:
        print(f"made {queue}", flush=True)
        sides = [
            subprocess.Popen([sys.executable, _SCRIPTS / f"demo_{side}.py", f"{queue.key}"])
            for side in ("consumer", "producer")
        ]
        try:
            # If one side fails, the other would wait for ever.
            while None in (codes := [side.poll() for side in sides]) and not any(codes):
                os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        finally:
            for side in sides:
                side.kill()
                side.wait()
        print(f"removing {queue}", flush=True)
    return 1 if any(codes) else 0


def main() -> None:
    """Run the demonstration, then show the queues that are left."""
    # SIGTERM must end both sides and remove the queue, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with plain_errors():
        status = run()
        print("$ ipcs -q", flush=True)
        subprocess.run(["ipcs", "-q"], check=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
