"""The processes of this machine, and which IPC objects each of them holds or waits on."""

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

from ipckit._core import blocked_calls
from ipckit._core.processes import ProcessStat, process_stat
from ipckit._inventory import proc_text as parse
from ipckit._inventory.elf import Imports
from ipckit._inventory.model import Kind, Process

if TYPE_CHECKING:
    from collections.abc import Iterator

SHM: Final = Path("/dev/shm")  # noqa: S108 - where Linux keeps POSIX shared memory
PROC: Final = Path("/proc")
# The first pid namespace's inode, PROC_PID_INIT_INO: no process of the machine is outside it.
_FIRST_PID_NAMESPACE: Final = "pid:[4026531836]"
# Clocks are set now and then, and the kernel keeps the times of objects in whole seconds.
_SLACK: Final = 2.0
# How long a thread that runs is looked at, and how often: seconds.
_CATCH: Final = 0.1
_PAUSE: Final = 0.001
_WAITS_ON: Final[dict[str, Kind]] = {
    "msgrcv": "sysv-queue",
    "msgsnd": "sysv-queue",
    "semop": "sysv-semaphores",
}

File = tuple[int, int]  # st_dev and st_ino


@dataclass(slots=True)
class Found:
    """A file that some process has open or mapped: how it is called, and who has it.

    It is foreign where a process of another IPC namespace has it.
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
        """Note that a process holds it."""
        hows = self.holders.setdefault(pid, [])
        if how not in hows:
            hows.append(how)


def read(path: str) -> bytes:
    """A file of /proc, in one go."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts: list[bytes] = []
        while part := os.read(fd, 1 << 17):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def link(path: str) -> str:
    """Where a link of /proc leads, or ""; never the path of a file that can be opened."""
    try:
        return os.readlink(path)  # noqa: PTH115 - text, not a path
    except OSError:
        return ""


def hides_processes() -> bool:
    """Whether /proc is mounted so that it hides other users' processes; see proc(5)."""
    found = [each for each in parse.mounts(read("/proc/self/mountinfo")) if each.point == b"/proc"]
    # A later mount covers an earlier one. A kernel before 5.8 shows a number.
    options = found[-1].options if found else frozenset[bytes]()
    return any(
        each.startswith(b"hidepid=") and each not in {b"hidepid=0", b"hidepid=off"}
        for each in options
    )


def _about_blind(pids: list[int]) -> str:
    more = "" if os.geteuid() == 0 else "; root sees more"
    if len(pids) == 1:
        return f"what process {pids[0]} holds{more}"
    return f"what {len(pids)} processes hold, {pids[0]} to {pids[-1]}{more}"


class Processes:
    """What /proc showed of every process, at one time.

    Attributes:
        stats: each process that runs, kernel threads left out, by pid.
        files: the files of shared memory, POSIX queues and memfds that are open or mapped.
        sockets: by inode, who has it open.
        segments: by identifier, who has a System V segment attached.
        waiters: by kind and identifier, who sleeps in a call on it.
        blind: the processes that could not be looked into.
        busy: the processes with a thread that ran whenever it was looked at, and may call msgrcv.
        first: this is the machine's first pid namespace: no process is outside it.
        whole: no process is hidden, neither by /proc's options nor in another pid namespace.
        unseen: what could not be seen, one line each.
    """

    def __init__(self, root: Path = PROC, *, waits_only: bool = False) -> None:
        self._root = os.fspath(root)
        self._machine = os.uname().machine
        self._ipc = link(f"{self._root}/self/ns/ipc")
        self._foreign: set[int] = set()
        self._imports = Imports()
        # Thousands of objects can ask after the same processes.
        self._commands: dict[int, str] = {}
        self._users: dict[int, frozenset[int]] = {}
        self._callers: dict[tuple[int, str], bool] = {}
        self._makers: dict[tuple[int, float, str], list[int]] = {}
        self.stats: dict[int, ProcessStat] = {}
        self.files: dict[File, Found] = {}
        self.sockets: dict[int, dict[int, list[str]]] = defaultdict(dict)
        self.segments: dict[int, set[int]] = defaultdict(set)
        self.waiters: dict[tuple[Kind, int], dict[int, str]] = defaultdict(dict)
        self.blind: list[int] = []
        self.first = link(f"{self._root}/self/ns/pid") == _FIRST_PID_NAMESPACE
        self.whole = True
        self.unseen: list[str] = []
        self.busy: set[int] = set()
        self._running: list[tuple[int, str]] = []
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
        self._look_at_proc()
        for pid in self._pids():
            self._look_at(pid, waits_only=waits_only)
        self._look_again_at_running()
        self.taken = time.monotonic()
        if self.blind:
            self.unseen.append(_about_blind(self.blind))

    # -- collecting --------------------------------------------------------------------------------

    def _look_at_proc(self) -> None:
        if self._root != os.fspath(PROC):
            return
        if link("/proc/self") != str(os.getpid()):
            self.whole = False
            self.unseen.append("any process: /proc is of another pid namespace")
        elif hides_processes():
            self.whole = os.geteuid() == 0
            if not self.whole:
                self.unseen.append("other users' processes: /proc is mounted with hidepid")
        if not self.first:
            self.unseen.append("processes outside this pid namespace, if there are any")
        if not blocked_calls.knows_waits(self._machine):
            self.whole = False
            self.unseen.append(f"who waits: the system calls of {self._machine} are not known here")
        elif not Path("/proc/self/syscall").exists():
            self.whole = False
            self.unseen.append("who waits: this kernel has no /proc/PID/syscall")

    def _pids(self) -> Iterator[int]:
        with os.scandir(self._root) as entries:
            for entry in entries:
                if entry.name.isdecimal():
                    yield int(entry.name)

    def _look_at(self, pid: int, *, waits_only: bool) -> None:
        base = f"{self._root}/{pid}"
        try:
            found = process_stat(read(f"{base}/stat"))
            if found.kernel or not found.runs:
                return
            self.stats[pid] = found
            # One of a namespace of its own may use the same numbers for other objects.
            namespace = link(f"{base}/ns/ipc")
            if namespace not in {"", self._ipc}:
                self._foreign.add(pid)
            else:
                self._look_at_waits(pid, base)
            if not waits_only:
                self._look_at_maps(pid, base)
                self._look_at_descriptors(pid, base)
        except PermissionError:
            self.blind.append(pid)
        except (FileNotFoundError, ProcessLookupError):
            self.stats.pop(pid, None)  # it ended meanwhile

    def _look_at_waits(self, pid: int, base: str) -> None:
        for task in os.listdir(f"{base}/task"):  # noqa: PTH208 - names are all it takes
            with suppress(FileNotFoundError, ProcessLookupError):
                if not self._look_at_thread(pid, f"{base}/task/{task}/syscall"):
                    self._running.append((pid, f"{base}/task/{task}/syscall"))

    def _look_at_thread(self, pid: int, path: str) -> bool:
        """Note what a thread waits on; false where it runs, and so can't be seen to wait."""
        text = read(path).decode()
        wait = blocked_calls.waits(text, self._machine)
        if wait is not None:
            self.waiters[_WAITS_ON[wait.call], wait.id][pid] = f"waits in {wait.call}"
        return not text.startswith("running")

    def _look_again_at_running(self) -> None:
        """Catch those asleep that wait with a deadline: between two naps they run for a moment."""
        own = f"{self._root}/{os.getpid()}/task/{threading.get_native_id()}/syscall"
        left = [
            (pid, path)
            for pid, path in self._running
            if path != own and self._may_call(pid, "msgrcv")
        ]
        deadline = time.monotonic() + _CATCH
        while left and time.monotonic() < deadline:
            time.sleep(_PAUSE)
            still: list[tuple[int, str]] = []
            for pid, path in left:
                with suppress(FileNotFoundError, ProcessLookupError):
                    if not self._look_at_thread(pid, path):
                        still.append((pid, path))
            left = still
        self.busy = {pid for pid, _ in left}

    def _look_at_maps(self, pid: int, base: str) -> None:
        text = read(f"{base}/maps")
        pattern = self._pattern if self._shm_mark in text else parse.maps_pattern(None)
        for each in parse.mapped_files(text, pattern):
            if each.path.startswith("/SYSV"):
                if pid not in self._foreign:
                    self.segments[each.inode].add(pid)
                continue
            self._file(each.device, each.inode, each.path, deleted=each.deleted).add(pid, "mapped")

    def _look_at_descriptors(self, pid: int, base: str) -> None:
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
    def complete(self) -> bool:
        """Whether every process of the machine was seen, and could be looked into."""
        return self.whole and not self.blind and self.first

    def command(self, pid: int) -> str:
        """A process's command line, or its name in brackets where it has none; "" for none."""
        if pid not in self._commands:
            try:
                line = parse.command_line(read(f"{self._root}/{pid}/cmdline"))
            except OSError:
                line = ""
            if not line and pid in self.stats:
                line = f"[{self.stats[pid].name}]"
            self._commands[pid] = line
        return self._commands[pid]

    def started(self, pid: int) -> float:
        """When a process that was seen started, in seconds since the epoch."""
        return self._boot + self.stats[pid].start * self._tick

    def ran_at(self, pid: int, when: float) -> bool:
        """Whether a process ran already at a time, as far as that is known."""
        # A time before this boot says that the clock was set, and proves nothing.
        return pid not in self.stats or when < self._boot or self.started(pid) <= when + _SLACK

    def is_alive(self, pid: int, when: float) -> bool:
        """Whether the process that was on record at a time runs still.

        Args:
            pid: its number.
            when: a time at which it was alive, in seconds since the epoch.
        """
        if pid in self.stats:
            return self.ran_at(pid, when)
        return self._hidden(pid)

    def _hidden(self, pid: int) -> bool:
        """Whether a process that /proc does not list, or did not yet, exists all the same."""
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
        # The number can be a thread's of some process by now, or a zombie's.
        return b"\nTgid:\t%d\n" % pid in text and b"\nState:\tZ" not in text

    def on_record(self, pid: int, how: str, when: float) -> Process:
        """A process that an object has on record, and whether it is that one still."""
        alive = self.is_alive(pid, when)
        return Process(pid, self.command(pid) if alive else "", how, alive)

    def holding(self, pids: dict[int, str]) -> tuple[Process, ...]:
        """Processes that hold an object, and how each does."""
        return tuple(Process(pid, self.command(pid), how, True) for pid, how in pids.items())  # noqa: FBT003

    def waiting(self, kind: Kind, ident: int) -> tuple[Process, ...]:
        """Who sleeps in a call on a System V object."""
        return self.holding(self.waiters.get((kind, ident), {}))

    def attached(self, ident: int) -> tuple[Process, ...]:
        """Who has a System V segment attached."""
        return self.holding(dict.fromkeys(sorted(self.segments.get(ident, ())), "attached"))

    def having(self, file: File) -> tuple[Process, ...]:
        """Who has a file open or mapped."""
        found = self.files.get(file)
        pids = {} if found is None else found.holders
        return self.holding({pid: ", ".join(hows) for pid, hows in sorted(pids.items())})

    def users(self, pid: int) -> frozenset[int]:
        """The users that a process acts as, or can; empty where it is gone."""
        if pid not in self._users:
            try:
                text = read(f"{self._root}/{pid}/status").partition(b"\nUid:")[2]
            except OSError:
                text = b""
            self._users[pid] = frozenset(map(int, text.partition(b"\n")[0].split()))
        return self._users[pid]

    @property
    def dark(self) -> list[int]:
        """The processes that may wait on something unseen: busy, and blind but the machine's init.

        In a container pid 1 is some application; the machine's own uses no System V objects.
        """
        return [*(pid for pid in self.blind if pid != 1 or not self.first), *sorted(self.busy)]

    def may_wait(self, uids: frozenset[int], mode: int) -> list[int]:
        """The processes that could wait on a System V queue, and can't be looked into.

        Args:
            uids: the queue's owner and creator.
            mode: its permission bits.
        """
        if mode & 0o077:
            return self.dark
        return [pid for pid in self.dark if self.users(pid) & (uids | {0})]

    def makers(self, uid: int, when: float, call: str) -> list[int]:
        """The processes of a user that ran already when something was made, and can make it.

        Args:
            uid: who made it.
            when: when, in whole seconds since the epoch.
            call: by which function: ``"msgget"`` or ``"semget"``.
        """
        if (uid, when, call) not in self._makers:
            self._makers[uid, when, call] = [
                pid
                for pid in self.stats
                if pid not in self._foreign
                and (pid != 1 or not self.first)
                and self.ran_at(pid, when)
                and uid in self.users(pid)
                and self._may_call(pid, call)
            ]
        return self._makers[uid, when, call]

    def _may_call(self, pid: int, name: str) -> bool:
        """Whether a process can call a function of the C library, as far as its files tell."""
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
