"""One hook for forks of this process, which calls the functions of the packages in a fixed order.

A package passes its functions to `at_fork` with a step of `ORDER`. Python runs the hook in
`os.fork`, which multiprocessing calls too.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Part: TypeAlias = Callable[[], object]

Step: TypeAlias = Literal[
    "mappings",
    "handles",
    "loans",
    "tokens",
    "channels",
    "queues",
    "clients",
    "services",
    "pools",
    "waiters",
    "bridges",
]

# The order of the parts after a fork, in the parent and in the child. Before a fork it is reversed.
ORDER: Final[tuple[Step, ...]] = (
    # Releases the lock under which memory is mapped. It is acquired last and released first, so
    # that no other part runs with it.
    "mappings",
    # Counts the fork, so that handles know that they are copies. The steps below may drop a
    # handle, and a copy neither warns nor unlinks.
    "handles",
    # Closes memory that the parent keeps for its pickles, which name the parent.
    "loans",
    # Gives the extension the token of the child. Until then the child would release the locks of
    # its parent, and store in a SharedStruct under its parent's name.
    "tokens",
    # Lets the child attach to each channel as a new peer, instead of acting as its parent.
    "channels",
    # Leaves the objects that wait in a ProcessQueue of the parent to the parent. That drops views
    # of messages, which belong to a channel.
    "queues",
    # Leaves the calls of an rpc client to the parent. That closes a channel for replies.
    "clients",
    # Forgets the parent's servers of each rpc service, and the locks that its threads held.
    "services",
    # Marks each ProcessPool of the parent as the parent's. That may drop tasks, whose futures and
    # arguments can be anything.
    "pools",
    # Closes the descriptors on which event loops of the parent wait. Nothing depends on it.
    "waiters",
    # Closes the files of bridges, whose locks the child would keep after its parent was killed.
    "bridges",
)

_before: Final[dict[Step, Part]] = {}
_after_in_parent: Final[dict[Step, Part]] = {}
_after_in_child: Final[dict[Step, Part]] = {}


def at_fork(
    step: Step,
    *,
    before: Part | None = None,
    after_in_parent: Part | None = None,
    after_in_child: Part | None = None,
) -> None:
    """Register functions that are called at each fork, as `os.register_at_fork` does.

    Args:
        step: the position in `ORDER`. Each step has one caller.
        before: called before the fork, in the parent.
        after_in_parent: called after the fork, in the parent; also if the fork failed.
        after_in_child: called after the fork, in the child.
    """
    for parts, part in (
        (_before, before),
        (_after_in_parent, after_in_parent),
        (_after_in_child, after_in_child),
    ):
        if part is not None:
            parts[step] = part


def _run(parts: dict[Step, Part], order: Iterable[Step]) -> None:
    """Call all parts, even if one of them raises.

    Python passes the exception to `sys.unraisablehook`, and the fork goes on.
    """
    with ExitStack() as stack:
        for step in reversed(tuple(order)):  # an ExitStack calls the last callback first
            if step in parts:
                stack.callback(parts[step])


os.register_at_fork(
    before=lambda: _run(_before, reversed(ORDER)),
    after_in_parent=lambda: _run(_after_in_parent, ORDER),
    after_in_child=lambda: _run(_after_in_child, ORDER),
)
