"""Helpers for tests of programs that use IPC: names, leftovers, and child processes in step.

A test takes its names from a `Namespace`, which removes what is left of them;
compares `snapshot` before and after, to find what it leaked; and runs other
processes as `Child`, whose order comes from steps told through pipes, never
from sleeping. `Sandbox` and `run_in_namespace` give a process IPC objects,
limits and a ``/dev/shm`` of its own.
"""

from ipckit._testing.child import Child, ChildFailed
from ipckit._testing.namespace import Namespace
from ipckit._testing.sandbox import Sandbox, as_user, require, run_in_namespace
from ipckit._testing.snapshot import Snapshot, snapshot
from ipckit._testing.step import drop_privileges, step
from ipckit._testing.syscalls import wait_blocked

__all__ = [
    "Child",
    "ChildFailed",
    "Namespace",
    "Sandbox",
    "Snapshot",
    "as_user",
    "drop_privileges",
    "require",
    "run_in_namespace",
    "snapshot",
    "step",
    "wait_blocked",
]
