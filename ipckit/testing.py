"""Helpers for tests of programs that use IPC: unique names, leak checks, and child processes.

A test takes its keys, names and paths from a `Namespace`, which removes their objects at the end.
It compares a `snapshot` before and after, to find leaks. It runs other processes as `Child`: the
test and the child agree on their order by values sent through pipes, never by sleeping. `Sandbox`
and `run_in_namespace` give a process its own IPC objects, limits and ``/dev/shm``.
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
