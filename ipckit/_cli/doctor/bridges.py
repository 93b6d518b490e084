"""Check bridges to other machines: which wait, and which were killed."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from ipckit._cli import words
from ipckit._cli.doctor.model import Finding, ago, shell
from ipckit._core.bridge_file import bridges
from ipckit._core.processes import pid_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipckit._core.bridge_file import BridgeFacts
    from ipckit.inventory import IpcObject


def _ends(facts: BridgeFacts) -> tuple[str, str]:
    """Return the source and the target of a bridge."""
    ends = (facts.object, facts.url)
    return ends if facts.direction == "send" else (ends[1], ends[0])


def _named(facts: BridgeFacts) -> str:
    source, target = _ends(facts)
    return f"the bridge from {source} to {target}"


def _waits(facts: BridgeFacts, item: IpcObject | None) -> Finding:
    lasts = ago(max(0.0, time.time() - facts.changed))
    reason = f": {facts.reason}" if facts.reason else ""
    on_way = facts.counts.unacknowledged
    return Finding(
        "bridge-waits",
        (facts.object,),
        f"{_named(facts)} has waited for {lasts}{reason}",
        "" if item is None else f"ipckit stat {shell(facts.object)}",
        "warning",
        (f"{words.counted(on_way, 'message')} on the way",) if on_way else (),
        f"It is pid {pid_of(facts.token)}, and goes on by itself when the cause is gone. Check "
        "that the server runs and can be reached.",
    )


def _killed(facts: BridgeFacts, item: IpcObject) -> Finding | None:
    """Report a bridge that was killed, if it is missed."""
    # The messages that it had taken are delivered again.
    messages = (item.used.messages or 0) + int(item.details.get("taken", 0))
    if facts.direction == "send" and item.kind == "channel":
        if not messages:
            return None
        why = f"{words.counted(messages, 'message')} {'waits' if messages == 1 else 'wait'} for it"
    elif item.peers:
        why = f"{words.counted(len(item.peers), 'peer')} of {facts.object} may miss it"
    else:
        return None
    source, target = _ends(facts)
    return Finding(
        "bridge-killed",
        (facts.object,),
        f"{_named(facts)} was killed, and {why}",
        f"ipckit bridge {shell(source)} {shell(target)}",
        "warning",
        (f"it was pid {pid_of(facts.token)}",),
        "Start it again with the options that it had. It continues where it was killed.",
    )


def check(objects: Iterable[IpcObject]) -> Iterator[Finding]:
    """Check the bridges of this machine.

    Any user can write a file that looks like one of a bridge. So bridges of other users are left
    out, unless the object is theirs, or the caller is root and the bridge runs.
    """
    items = {(*each.identity, each.details.get("created")): each for each in objects}
    own = os.geteuid()
    for facts in bridges():
        item = items.get(facts.identity)
        trusted = {0, own} if item is None else {0, own, item.uid}
        if facts.runs and facts.state == "waiting" and (own == 0 or facts.uid in trusted):
            yield _waits(facts, item)
        elif facts.killed and item is not None and facts.uid in {0, item.uid}:
            finding = _killed(facts, item)
            if finding is not None:
                yield finding
