"""Find which IPC objects each process of this machine holds or waits on, from /proc."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ipckit._core import blocked_calls, files
from ipckit._core.processes import (
    ProcessStat,
    namespace_bits,
    namespace_of,
    pid_here,
    pid_of,
    process_stat,
)
from ipckit._inventory import proc_text as parse
from ipckit._inventory.elf import Imports
from ipckit._inventory.model import Kind, Process

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipckit._core.bridge_file import BridgeFacts

SHM: Final = Path(files.SHM)
PROC: Final = Path("/proc")
# The initial pid namespace has the inode PROC_PID_INIT_INO. It contains every process.
_FIRST_PID_NAMESPACE: Final = "pid:[4026531836]"
# Seconds of tolerance: clocks are adjusted, and the kernel keeps objects' times in whole seconds.
_SLACK: Final = 2.0
# How long, and at what interval, running threads are sampled again: seconds.
_SAMPLE_TIME: Final = 0.1
_SAMPLE_INTERVAL: Final = 0.001
_WAITS_ON: Final[dict[str, Kind]] = {
    "msgrcv": "sysv-queue",
    "msgsnd": "sysv-queue",
    "semop": "sysv-semaphores",
}

_HOWS_SHOWN: Final = 8

File = tuple[int, int]  # st_dev and st_ino


@dataclass(slots=True)
class Found:
    """A file that processes have open or mapped.

    Attributes:
        path: its path, as /proc shows it.
        deleted: it was unlinked.
        holders: by pid, how each process holds it.
        foreign: a process of another IPC namespace has it open.
        size: its size in bytes; None, as for the owner and mode, if no process has it open.
        uid: its owner.
        gid: its group.
        mode: its permission bits.
    """

    path: str
    deleted: bool
    holders: dict[int, list[str]] = field(default_factory=dict[int, list[str]])
    foreign: bool = False
    size: int | None = None
    uid: int | None = None
    gid: int | None = None
    mode: int | None = None

    def add(self, pid: int, how: str) -> None:
        """Record that a process holds it."""
        hows = self.holders.setdefault(pid, [])
        # A process can have a million descriptors, so the list is not searched. The same text comes
        # several times in a row only.
        if hows[-1:] != [how]:
            hows.append(how)


def read(path: str) -> bytes:
    """Read a whole file of /proc."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts: list[bytes] = []
        while part := os.read(fd, 1 << 17):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def link(path: str) -> str:
    """Return the target of a symbolic link in /proc, or "" if it can't be read."""
    try:
        return os.readlink(path)  # noqa: PTH115 - text, not a path
    except OSError:
        return ""


def in_words(hows: Sequence[str]) -> str:
    """Return how a process holds a file: ``mapped, fd 5``. It can have a million descriptors."""
    more = len(hows) - _HOWS_SHOWN
    return ", ".join(hows[:_HOWS_SHOWN]) + (f", and {more} more" if more > 0 else "")


def hides_processes() -> bool:
    """Return whether /proc is mounted with hidepid, which hides other users' processes."""
    found = [each for each in parse.mounts(read("/proc/self/mountinfo")) if each.point == b"/proc"]
    # A later mount covers an earlier one. Kernels before 5.8 show hidepid as a number.
    options = found[-1].options if found else frozenset[bytes]()
    return any(
        each.startswith(b"hidepid=") and each not in {b"hidepid=0", b"hidepid=off"}
        for each in options
    )


def _about_denied(pids: list[int]) -> str:
    why = "permission denied" if os.geteuid() == 0 else "permission denied; run as root to see it"
    if len(pids) == 1:
        return f"what process {pids[0]} holds: {why}"
    return f"what {len(pids)} processes hold, with pids from {pids[0]} to {pids[-1]}: {why}"


class Processes:
    """What /proc showed of every process, at one time.

    Args:
        root: the directory to read; tests pass another one than /proc.
        waits_only: collect only which processes wait in a call, which is faster.

    Attributes:
        stats: by pid, each process that runs, without kernel threads.
        files: the files of shared memory, POSIX queues and memfds that are open or mapped.
        sockets: by inode, the processes that have a socket open.
        segments: by identifier, the processes that have a System V segment attached.
        waiters: by kind and identifier, the processes that sleep in a call on an object.
        denied: the processes that may not be inspected.
        busy: the processes that may call msgrcv and have a thread that was running in each sample.
        in_initial_namespace: this is the machine's initial pid namespace, which contains every
            process.
        proc_is_complete: /proc hides no process of this pid namespace, and shows the calls that
            threads wait in.
        unseen: what could not be seen, one line each.
        taken: when it was collected, by time.monotonic().
        bridges: the bridges that run; None until they were looked for.
    """

    def __init__(self, root: Path = PROC, *, waits_only: bool = False) -> None:
        self._root = os.fspath(root)
        self._machine = os.uname().machine
        self._ipc = link(f"{self._root}/self/ns/ipc")
        self._foreign: set[int] = set()
        self._imports = Imports()
        # A survey of thousands of objects asks for the same processes again and again.
        self._commands: dict[int, str] = {}
        self._below: dict[tuple[int, int], int] | None = None
        self._users: dict[int, tuple[int, ...]] = {}
        self._callers: dict[tuple[int, str], bool] = {}
        self._creators: dict[tuple[int, float, str], list[int]] = {}
        self.stats: dict[int, ProcessStat] = {}
        self.files: dict[File, Found] = {}
        self.sockets: dict[int, dict[int, list[str]]] = defaultdict(dict)
        self.segments: dict[int, set[int]] = defaultdict(set)
        self.waiters: dict[tuple[Kind, int], dict[int, str]] = defaultdict(dict)
        self.denied: list[int] = []
        self.in_initial_namespace = link(f"{self._root}/self/ns/pid") == _FIRST_PID_NAMESPACE
        self.proc_is_complete = True
        self.unseen: list[str] = []
        self.busy: set[int] = set()
        self._running: list[tuple[int, str]] = []
        self.bridges: list[BridgeFacts] | None = None
        self.shm_device: int | None
        try:
            self.shm_device = SHM.stat().st_dev
        except OSError:
            self.shm_device = None
        self._pattern = parse.maps_pattern(self.shm_device)
        device = self.shm_device or 0
        self._shm_mark = b" %02x:%02x " % (os.major(device), os.minor(device))
        self._boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        self._tick = 1 / os.sysconf("SC_CLK_TCK")
        self._check_proc()
        for pid in self._pids():
            self._collect(pid, waits_only=waits_only)
        self._sample_running()
        self.taken = time.monotonic()
        if self.denied:
            self.unseen.append(_about_denied(self.denied))

    # -- collecting --------------------------------------------------------------------------------

    def _check_proc(self) -> None:
        if self._root != os.fspath(PROC):
            return
        if link("/proc/self") != str(os.getpid()):
            self.proc_is_complete = False
            why = "belongs to another pid namespace" if any(self._pids()) else "is not mounted"
            self.unseen.append(f"any process: /proc {why}; mount -t proc proc /proc")
        elif hides_processes():
            self.proc_is_complete = os.geteuid() == 0
            if not self.proc_is_complete:
                self.unseen.append(
                    "processes of other users: /proc is mounted with hidepid; run as root"
                )
        if not self.in_initial_namespace:
            self.unseen.append("processes outside this pid namespace")
        if not blocked_calls.knows_machine(self._machine):
            self.proc_is_complete = False
            self.unseen.append(
                f"which processes wait: ipckit does not know the system calls of {self._machine}"
            )
        elif link("/proc/self") and not Path("/proc/self/syscall").exists():
            self.proc_is_complete = False
            self.unseen.append("which processes wait: this kernel has no /proc/PID/syscall")

    def _pids(self) -> Iterator[int]:
        with os.scandir(self._root) as entries:
            for entry in entries:
                if entry.name.isdecimal():
                    yield int(entry.name)

    def _collect(self, pid: int, *, waits_only: bool) -> None:
        base = f"{self._root}/{pid}"
        try:
            found = process_stat(read(f"{base}/stat"))
            if found.kernel or not found.runs:
                return
            self.stats[pid] = found
            # In another IPC namespace the same identifiers mean other objects.
            namespace = link(f"{base}/ns/ipc")
            if namespace not in {"", self._ipc}:
                self._foreign.add(pid)
            else:
                self._collect_waits(pid, base)
            if not waits_only:
                self._collect_maps(pid, base)
                self._collect_descriptors(pid, base)
        except PermissionError:
            self.denied.append(pid)
        except (FileNotFoundError, ProcessLookupError):
            self.stats.pop(pid, None)  # it has exited

    def _collect_waits(self, pid: int, base: str) -> None:
        for task in os.listdir(f"{base}/task"):  # noqa: PTH208 - names are all it takes
            with suppress(FileNotFoundError, ProcessLookupError):
                if not self._collect_wait(pid, f"{base}/task/{task}/syscall"):
                    self._running.append((pid, f"{base}/task/{task}/syscall"))

    def _collect_wait(self, pid: int, path: str) -> bool:
        """Record what a thread waits on; return false if it is running, not asleep."""
        text = read(path).decode()
        wait = blocked_calls.wait_of(text, self._machine)
        if wait is not None:
            self.waiters[_WAITS_ON[wait.call], wait.id][pid] = f"waits in {wait.call}"
        return not text.startswith("running")

    def _sample_running(self) -> None:
        """Sample the running threads again, to catch those that wait with a deadline.

        Such a thread sleeps again and again, and runs for a moment between two sleeps.
        """
        own = f"{self._root}/{os.getpid()}/task/{threading.get_native_id()}/syscall"
        left = [
            (pid, path)
            for pid, path in self._running
            if path != own and self._may_call(pid, "msgrcv")
        ]
        deadline = time.monotonic() + _SAMPLE_TIME
        while left and time.monotonic() < deadline:
            time.sleep(_SAMPLE_INTERVAL)
            still: list[tuple[int, str]] = []
            for pid, path in left:
                with suppress(FileNotFoundError, ProcessLookupError):
                    if not self._collect_wait(pid, path):
                        still.append((pid, path))
            left = still
        self.busy = {pid for pid, _ in left}

    def _collect_maps(self, pid: int, base: str) -> None:
        text = read(f"{base}/maps")
        pattern = self._pattern if self._shm_mark in text else parse.maps_pattern(None)
        for each in parse.mapped_files(text, pattern):
            if each.path.startswith("/SYSV"):
                if pid not in self._foreign:
                    self.segments[each.inode].add(pid)
                continue
            self._file(each.device, each.inode, each.path, deleted=each.deleted).add(pid, "mapped")

    def _collect_descriptors(self, pid: int, base: str) -> None:
        for fd in os.listdir(f"{base}/fd"):  # noqa: PTH208 - names are all it takes
            target = link(f"{base}/fd/{fd}")
            if target.startswith("socket:["):
                self.sockets[int(target[8:-1])].setdefault(pid, []).append(f"fd {fd}")
            elif target.startswith(("/memfd:", "/dev/shm/", "/dev/mqueue/")) or (  # noqa: S108
                target.rfind("/") == 0  # a POSIX queue shows as /name
            ):
                with suppress(OSError):
                    self._descriptor(pid, fd, target, os.stat(f"{base}/fd/{fd}"))  # noqa: PTH116

    def _descriptor(self, pid: int, fd: str, target: str, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            return
        deleted = status.st_nlink == 0
        path = target.removesuffix(" (deleted)") if deleted else target
        found = self._file(status.st_dev, status.st_ino, path, deleted=deleted)
        found.size, found.uid, found.gid = status.st_size, status.st_uid, status.st_gid
        found.mode = stat.S_IMODE(status.st_mode)
        found.foreign = found.foreign or pid in self._foreign
        found.add(pid, f"fd {fd}")

    def _file(self, device: int, inode: int, path: str, *, deleted: bool) -> Found:
        found = self.files.get((device, inode))
        if found is None:
            found = self.files[device, inode] = Found(path, deleted)
        return found

    # -- asking ------------------------------------------------------------------------------------

    @property
    def machine(self) -> str:
        """The name of this machine, by which its system calls have their numbers."""
        return self._machine

    def shares_ipc(self, pid: int) -> bool:
        """Return whether a process is in this IPC namespace, as far as that can be seen."""
        return pid not in self._foreign

    @property
    def complete(self) -> bool:
        """Whether every process of the machine was seen and could be inspected."""
        return self.proc_is_complete and not self.denied and self.in_initial_namespace

    def command(self, pid: int) -> str:
        """Return a process's command line.

        If the command line is empty, return the process's name in brackets; "" if it has exited.
        """
        if pid not in self._commands:
            try:
                line = parse.command_line(read(f"{self._root}/{pid}/cmdline"))
            except OSError:
                line = ""
            if not line and pid in self.stats:
                line = f"[{self.stats[pid].name}]"
            self._commands[pid] = line
        return self._commands[pid]

    def process_of(self, token: int) -> int | None:
        """Return the process that a token of `ipckit._core.processes` means.

        Returns:
            Its pid here, also if it is in a pid namespace below this one. None if it can't be seen.
        """
        here = pid_here(token)
        if here is None:
            here = self._pids_below().get((namespace_of(token), pid_of(token)))
        return here if here in self.stats else None

    def _pids_below(self) -> dict[tuple[int, int], int]:
        """Return the pids here of the processes in other pid namespaces, by their pids there."""
        if self._below is None:
            self._below = {}
            own = link(f"{self._root}/self/ns/pid")
            for pid in self.stats:
                namespace = link(f"{self._root}/{pid}/ns/pid")
                if namespace in {"", own}:
                    continue
                with suppress(OSError, ValueError, IndexError):
                    inside = parse.innermost_pid(read(f"{self._root}/{pid}/status"))
                    inode = int(namespace.removeprefix("pid:[").removesuffix("]"))
                    self._below[namespace_bits(inode), inside] = pid
        return self._below

    def started(self, pid: int) -> float:
        """Return when a process of `stats` started, in seconds since the epoch."""
        return self._boot + self.stats[pid].start * self._tick

    def ran_at(self, pid: int, when: float) -> bool:
        """Return whether a process was running at a time; true also if it can't be known."""
        # A time before this boot only shows that the clock was set.
        return pid not in self.stats or when < self._boot or self.started(pid) <= when + _SLACK

    def is_alive(self, pid: int, when: float) -> bool:
        """Return whether a recorded process is still running, and not a later one with its pid.

        Args:
            pid: the recorded pid.
            when: the recorded time, at which the process was running; seconds since the epoch.
        """
        if pid in self.stats:
            return self.ran_at(pid, when)
        return self._is_hidden(pid)

    def _is_hidden(self, pid: int) -> bool:
        """Return whether a process exists although it was not seen in /proc."""
        if self._root != os.fspath(PROC):
            return False
        try:
            os.kill(pid, 0)
        except PermissionError:
            pass
        except OSError:
            return False
        try:
            text = read(f"/proc/{pid}/status")
        except OSError:
            return True
        # By now the pid may be the id of a thread, or of a zombie.
        return b"\nTgid:\t%d\n" % pid in text and b"\nState:\tZ" not in text

    def on_record(self, pid: int, how: str, when: float) -> Process:
        """Return a process that an object records, and whether it is still running."""
        alive = self.is_alive(pid, when)
        return Process(pid, self.command(pid) if alive else "", how, alive)

    def holding(self, pids: dict[int, str]) -> tuple[Process, ...]:
        """Return the processes of some pids, with how each holds an object."""
        return tuple(Process(pid, self.command(pid), how, True) for pid, how in pids.items())  # noqa: FBT003

    def waiting(self, kind: Kind, ident: int) -> tuple[Process, ...]:
        """Return the processes that sleep in a call on a System V object."""
        return self.holding(self.waiters.get((kind, ident), {}))

    def attached(self, ident: int) -> tuple[Process, ...]:
        """Return the processes that have a System V segment attached."""
        return self.holding(dict.fromkeys(sorted(self.segments.get(ident, ())), "attached"))

    def holders_of(self, file: File) -> tuple[Process, ...]:
        """Return the processes that have a file open or mapped."""
        found = self.files.get(file)
        pids = {} if found is None else found.holders
        return self.holding({pid: in_words(hows) for pid, hows in sorted(pids.items())})

    def users(self, pid: int) -> frozenset[int]:
        """Return the uids of a process: real, effective, saved, file system. Empty if it exited."""
        return frozenset(self._uids_of(pid))

    def effective_user(self, pid: int) -> int | None:
        """Return the effective uid of a process; None if it has exited or is hidden."""
        uids = self._uids_of(pid)
        return uids[1] if uids else None

    def _uids_of(self, pid: int) -> tuple[int, ...]:
        if pid not in self._users:
            try:
                text = read(f"{self._root}/{pid}/status").partition(b"\nUid:")[2]
            except OSError:
                text = b""
            self._users[pid] = tuple(map(int, text.partition(b"\n")[0].split()))
        return self._users[pid]

    @property
    def uninspected(self) -> list[int]:
        """The processes that may wait on an object without being seen: `busy` and `denied`.

        The machine's own pid 1 does not count, because it uses no System V objects. In a container
        pid 1 is an application, and counts.
        """
        return [
            *(pid for pid in self.denied if pid != 1 or not self.in_initial_namespace),
            *sorted(self.busy),
        ]

    def may_wait(self, uids: frozenset[int], mode: int) -> list[int]:
        """Return the processes that may wait on a System V queue, and could not be inspected.

        Args:
            uids: the queue's owner and creator.
            mode: its permission bits.
        """
        if mode & 0o077:
            return self.uninspected
        return [pid for pid in self.uninspected if self.users(pid) & (uids | {0})]

    def possible_creators(self, uid: int, when: float, call: str) -> list[int]:
        """Return the processes that may have created an object without a recorded creator.

        These are the user's processes that were running at that time and whose files name the
        function.

        Args:
            uid: the creator's user.
            when: when the object was created, in whole seconds since the epoch.
            call: the function that creates it: ``"msgget"`` or ``"semget"``.
        """
        if (uid, when, call) not in self._creators:
            self._creators[uid, when, call] = [
                pid
                for pid in self.stats
                if pid not in self._foreign
                and (pid != 1 or not self.in_initial_namespace)
                and self.ran_at(pid, when)
                and uid in self.users(pid)
                and self._may_call(pid, call)
            ]
        return self._creators[uid, when, call]

    def _may_call(self, pid: int, name: str) -> bool:
        """Return whether a process may call a C function, judging by its program files."""
        if (pid, name) not in self._callers:
            try:
                text = read(f"{self._root}/{pid}/maps")
                may = self._imports.any_of(f"{self._root}/{pid}", text, name)
            except PermissionError:
                may = True
            except OSError:
                may = False
            self._callers[pid, name] = may
        return self._callers[pid, name]
