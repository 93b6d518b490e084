"""Check the machine: limits, /dev/shm, descriptors, systemd, and a peer's namespaces."""

from __future__ import annotations

import errno
import os
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ipckit._cli.doctor.leftovers import owners, removal
from ipckit._cli.doctor.model import AS_ROOT, EXAMPLES, Finding, shell, some
from ipckit._cli.limits_table import is_hidden, open_files, process_limits, table
from ipckit._cli.words import human, memory, summary
from ipckit._core.files import SHM
from ipckit.errors import IpcError, NotFound
from ipckit.inventory import PREFIXES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ipckit._cli.doctor.model import Severity
    from ipckit._cli.limits_table import Limit
    from ipckit.inventory import IpcObject, Kind

_ROOT: Final = Path("/")
_DOCKER_SHM: Final = 64 * 2**20
_NEARLY: Final = 0.8
_FULL: Final = 0.95  # of /dev/shm; the next large object does not fit
_SHARE_OF_ORPHANS: Final = 0.1
_FIRST_USER: Final = 1000  # systemd does not touch the objects of system users, which are below
_LAST_USER: Final = 60000
_SETTING: Final = re.compile(r"^\s*RemoveIPC\s*=\s*(\S+)", re.MULTILINE)
_NAMESPACES: Final = {
    "ipc": "System V objects and POSIX queues",
    "net": "abstract UNIX sockets",
    "pid": "process ids",
}
# The kinds whose objects use up a limit. Limits without a line here are those of one object, which
# the checks of queues and sets report, or of `doctor` itself.
_IN_SHM: Final[tuple[Kind, ...]] = ("posix-segment", "posix-semaphore", "channel", "topic")
_COUNTED: Final[dict[str, tuple[Kind, ...]]] = {
    "kernel.msgmni": ("sysv-queue",),
    "kernel.sem SEMMNS": ("sysv-semaphores",),
    "kernel.sem SEMMNI": ("sysv-semaphores",),
    "kernel.shmall": ("sysv-segment",),
    "kernel.shmmni": ("sysv-segment",),
    "fs.mqueue.queues_max": ("posix-queue",),
    "RLIMIT_MSGQUEUE": ("posix-queue",),
    f"{SHM} size": _IN_SHM,
    f"{SHM} files": _IN_SHM,
}
# How long a command that raises a limit has an effect, and for whom.
_SCOPES: Final = {
    "sysctl": "This raises the limit until the next boot. To keep it, use /etc/sysctl.d.",
    "mount": "This raises the limit until the next boot. In Docker, run with --shm-size=1g.",
    "ulimit": "This raises the limit of one shell and of the programs that it starts.",
}
_MOST_LINKS: Final = 4096
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


# -- limits and /dev/shm ---------------------------------------------------------------------------


def limits(
    objects: Iterable[IpcObject], lost: Sequence[IpcObject], root: Path = _ROOT
) -> Iterator[tuple[Finding, tuple[Kind, ...]]]:
    """Check for limits that are nearly reached, and a /dev/shm of the size that Docker gives.

    Args:
        objects: all objects.
        lost: the orphans among them.
        root: the directory in which to look for signs of a container.

    Yields:
        The finding, and the kinds whose orphans its cure removes.
    """
    objects = list(objects)
    try:
        rows = table()
    except IpcError as exc:  # /proc is not mounted
        yield (
            Finding("unseen", ("limits",), f"could not see all limits: {exc.strerror}", "", "note"),
            (),
        )
        return
    for limit in rows:
        kinds = _COUNTED.get(limit.name)
        if kinds is None or not limit.value:
            continue
        if limit.share is not None and limit.share >= _NEARLY:
            mine = [each for each in objects if each.kind in kinds]
            yield _near(limit, limit.share, mine, [each for each in lost if each.kind in kinds])
        elif limit.name == f"{SHM} size" and limit.value == _DOCKER_SHM and in_container(root):
            yield _docker(limit), ()


def _near(
    limit: Limit, share: float, objects: list[IpcObject], lost: list[IpcObject]
) -> tuple[Finding, tuple[Kind, ...]]:
    is_memory = limit.unit in {"bytes", "pages"}
    is_shm = limit.name == f"{SHM} size"
    size = human if is_memory else "{:,}".format
    used, value = limit.used or 0, limit.value or 0
    if limit.unit == "pages":
        used, value = used * _PAGE, value * _PAGE
    unit = "bytes" if is_memory else limit.unit
    what = f"{size(used)} of {size(value)} {unit} are used ({share:.0%}): {limit.meaning}"
    evidence = list(_greatest(objects)) if is_memory else list(owners(objects))
    part = sum(map(memory, lost)) / used if is_memory else len(lost) / max(1, len(objects))
    cure, change = limit.change, limit.change
    if limit.name == "RLIMIT_MSGQUEUE":  # the one of `doctor` itself, which it has from the shell
        cure = change = f"ulimit -q {limit.value * 2}" if limit.value else ""
    advice = next((text for start, text in _SCOPES.items() if cure.startswith(start)), "")
    kinds: tuple[Kind, ...] = ()
    if lost and part >= _SHARE_OF_ORPHANS:
        kinds = tuple(dict.fromkeys(each.kind for each in lost))
        evidence.insert(0, f"orphaned: {some([summary(each) for each in lost])}")
        cure = removal(lost)
        advice = "The command lists the orphans and asks before it removes them."
        advice += f" To raise the limit instead: {change}" * bool(change)
    elif not cure:
        cure = " ".join(["ipckit ls", *(f"--kind {PREFIXES[each.kind]}" for each in objects[:1])])
        advice = "The limit can't be raised. Find out which program makes so many objects."
    full = share >= _FULL if is_shm else share >= 1
    check = "shm-full" if limit.name.startswith(SHM) else "limit"
    severity: Severity = "critical" if full else "warning"
    name = (limit.name,)
    return Finding(check, name, what, cure, severity, tuple(evidence), advice), kinds


def _greatest(objects: Iterable[IpcObject]) -> Iterator[str]:
    """Say which objects take most of the memory, and which process holds them."""
    found = [each for each in objects if not each.orphaned and memory(each)]
    for each in sorted(found, key=memory, reverse=True)[:EXAMPLES]:
        yield f"{each.address} takes {human(memory(each))} bytes: {each.reason}"


def in_container(root: Path = _ROOT) -> bool:
    """Return whether this is probably a container of Docker, Podman or Kubernetes."""
    if any((root / name).exists() for name in (".dockerenv", "run/.containerenv")):
        return True
    try:
        text = (root / "proc/self/cgroup").read_bytes()
    except OSError:
        return False
    return any(name in text for name in (b"docker", b"containerd", b"kubepods", b"libpod"))


def _docker(limit: Limit) -> Finding:
    return Finding(
        "shm-small",
        (SHM,),
        f"{SHM} has only 64 MiB, as Docker creates it unless it is told otherwise",
        limit.change,
        "note",
        (f"{human(limit.used or 0)} of 64M bytes are used",),
        "In a container without the right to mount: docker run --shm-size=1g",
    )


def descriptors(pids: Iterable[int]) -> Iterator[Finding]:
    """Check for processes that have nearly reached their RLIMIT_NOFILE."""
    for pid in pids:
        used = open_files(pid)
        if not used:
            continue
        try:
            soft, hard = process_limits(pid).get("Max open files", (None, None))
            name = os.fsdecode(Path(f"/proc/{pid}/comm").read_bytes()).removesuffix("\n")
        except OSError:
            continue  # it has exited
        if soft and used >= soft * _NEARLY:
            highest = soft * 2 if hard is not None and soft * 2 > hard else ""
            yield Finding(
                "descriptors",
                (f"pid {pid}",),
                f"{name} has {used:,} of {soft:,} descriptors open",
                f"prlimit --pid {pid} --nofile={soft * 2}:{highest}",
                "critical" if used >= soft else "warning",
                tuple(_targets(pid)),
                f"Often a program never closes them. To list them: ls -l /proc/{pid}/fd",
                pids=(pid,),
            )


def _targets(pid: int) -> Iterator[str]:
    """Say what most of a process's descriptors are."""
    found: Counter[str] = Counter()
    try:
        for fd in os.listdir(f"/proc/{pid}/fd")[:_MOST_LINKS]:  # noqa: PTH208 - only names
            target = os.readlink(f"/proc/{pid}/fd/{fd}")  # noqa: PTH115 - text, not a path
            found[target if target.startswith("/") else target.partition(":")[0]] += 1
    except OSError:
        return  # it has exited, or may not be inspected
    most = [f"{name} ({count:,})" for name, count in found.most_common(EXAMPLES)]
    yield f"most of them: {', '.join(most)}"


def neighbours() -> list[int]:
    """Return the processes known to be in this process's IPC namespace."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208
    own = _namespace("self", "ipc")
    return [pid for pid in pids if _namespace(pid, "ipc") == own]


# -- systemd ---------------------------------------------------------------------------------------


def _removes_ipc(root: Path) -> bool:
    """Return whether logind removes a user's objects at logout, which is its default."""
    files: dict[str, Path] = {}
    for directory in ("usr/lib", "run", "etc"):  # a later file replaces one of the same name
        folder = root / directory / "systemd/logind.conf.d"
        files.update({path.name: path for path in folder.glob("*.conf")})
    setting = "yes"
    for path in [root / "etc/systemd/logind.conf", *(files[name] for name in sorted(files))]:
        try:
            found = _SETTING.findall(path.read_text())
        except (OSError, UnicodeDecodeError):
            continue
        setting = found[-1] if found else setting
    return setting.lower() in {"yes", "true", "on", "1", "y", "t"}


def _would_be_missed(each: IpcObject) -> bool:
    """Return whether logind removes an object of such an owner although a process needs it."""
    if each.orphaned or not each.removable or not _FIRST_USER <= (each.uid or 0) <= _LAST_USER:
        return False
    # logind leaves segments that are attached.
    return each.kind not in {"socket", "memfd"} and not (
        each.kind == "sysv-segment" and each.used.attached
    )


def remove_ipc(objects: Iterable[IpcObject], root: Path = _ROOT) -> Iterator[Finding]:
    """Check for objects that systemd-logind removes when their user's last session ends.

    RemoveIPC=yes is systemd's default, so it is a note, and only if there is an object that a
    process may still need then. If a user has linger enabled, systemd removes
    nothing.
    """
    if not (root / "run/systemd/system").is_dir() or not _removes_ipc(root):
        return
    lingers = root / "var/lib/systemd/linger"
    found = [
        each
        for each in objects
        if _would_be_missed(each) and not (lingers / (each.owner or "-")).exists()
    ]
    if found:
        users = sorted({each.owner for each in found})
        yield Finding(
            "remove-ipc",
            ("/etc/systemd/logind.conf",),
            f"systemd removes all IPC objects of {some(users)} when the user's last session ends",
            f"loginctl enable-linger {shell(users[0])}",
            "note",
            tuple(f"{each.address}: {each.reason or each.state}" for each in found),
            "Or set RemoveIPC=no in /etc/systemd/logind.conf and run: "
            "systemctl restart systemd-logind",
        )


# -- another process's namespaces ------------------------------------------------------------------


def _namespace(pid: int | str, name: str) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/{name}")  # noqa: PTH115 - text, not a path
    except OSError:
        return None  # permission denied, or it has exited


def _other_shm(pid: int) -> str:
    """Return what is different about the /dev/shm of a process; "" if it is the same.

    Raises:
        PermissionError: it may not be inspected.
    """
    try:
        there = Path(f"/proc/{pid}/root/dev/shm").stat()
        here = Path(SHM).stat()
    except PermissionError:
        raise
    except OSError:
        return "it has no /dev/shm, so it can't use POSIX segments and semaphores"
    if (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino):
        return ""
    return "it has another /dev/shm, with other POSIX segments and semaphores"


def peer(pid: int) -> Iterator[Finding]:
    """Check whether a process is in other namespaces than this process.

    Raises:
        NotFound: there is no such process.
    """
    hidden = is_hidden(pid)
    if not hidden and not Path(f"/proc/{pid}").is_dir():
        message = "no such process"
        raise NotFound(message, errno=errno.ESRCH, target=f"pid {pid}")
    found: dict[str, str] = {}
    denied: list[str] = []
    for name, what in _NAMESPACES.items():
        other = _namespace(pid, name)
        if other is None:
            denied.append(f"its {name} namespace")
        elif other != _namespace("self", name):
            found[name] = f"it is in another {name} namespace, which has other {what}"
    try:
        found["mount"] = _other_shm(pid)
    except PermissionError:
        denied.append("its /dev/shm")
    differences = {name: text for name, text in found.items() if text}
    if hidden or denied:
        text = f"permission denied while reading {', '.join(denied)}"
        if hidden:
            text = "it belongs to another user, and /proc hides it"
        cure = "" if os.geteuid() == 0 else AS_ROOT
        yield Finding("unseen", (f"pid {pid}",), text, cure, "note")
    if differences:
        yield _elsewhere(pid, differences)


def _elsewhere(pid: int, differences: dict[str, str]) -> Finding:
    """Report the namespaces of a process that are not those of this process."""
    enter = " ".join(f"--{name}" for name in ("ipc", "net") if name in differences)
    # Its mount namespace may not have the command.
    cure = f"ls -la /proc/{pid}/root{SHM}"
    if enter:
        cure = f'nsenter --target {pid} {enter} "$(command -v ipckit)" ls'
    options = {"ipc": "ipc", "mount": "ipc", "net": "network", "pid": "pid"}
    wanted = dict.fromkeys(options[name] for name in differences)
    share = " ".join(f"--{option}=container:NAME" for option in wanted)
    return Finding(
        "peer-namespace",
        (f"pid {pid}",),
        f"pid {pid} and this command do not see the same objects",
        cure,
        "warning",
        tuple(differences.values()),
        f"The command lists the objects there. To share the namespaces: docker run {share}",
    )
