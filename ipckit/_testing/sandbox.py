"""Sandbox: programs in their own IPC, mount and network namespaces, or as another user."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, final

from ipckit._core.public import public

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# All values are positional parameters, so that none needs quoting.
_SETUP = """
set -e
shm_size=$1; settings=$2; shift 2
if [ -n "$shm_size" ]; then
    mount -t tmpfs -o "mode=1777,size=$shm_size" tmpfs /dev/shm
    if [ -d /dev/mqueue ]; then mount -t mqueue mqueue /dev/mqueue; fi
fi
while [ "$settings" -gt 0 ]; do
    if ! [ -w "$1" ]; then mount -o remount,rw /proc/sys; fi
    printf '%s' "$2" >"$1"
    shift 2; settings=$((settings - 1))
done
exec "$@"
"""


@final
@public("ipckit.testing")
@dataclass(frozen=True, slots=True)
class Sandbox:
    """Separate namespaces for a process; requires root. See namespaces(7).

    Objects created inside are invisible outside. The kernel removes them with the last process in
    the namespaces.

    Args:
        ipc: separate System V objects, POSIX queues, and their sysctls; by default true.
        mount: a separate ``/dev/shm``, with POSIX shared memory and semaphores; by default true.
        net: separate abstract socket names, and no network; by default false.
        shm_size: the size of that ``/dev/shm``, in the form of mount(8); by default ``"8m"``.
        sysctls: values to set before the program starts: ``{"kernel.msgmax": 20000}``. Only
            sysctls of an IPC namespace are allowed (``kernel.msg*``, ``kernel.shm*``,
            ``kernel.sem*``, ``fs.mqueue.*``); others would change the whole machine.

    Raises:
        ValueError: no namespace is selected, or `sysctls` would change the machine.

    Example:
        >>> Sandbox(sysctls={"kernel.hostname": "x"})
        Traceback (most recent call last):
        ...
        ValueError: sysctl kernel.hostname does not belong to an IPC namespace
    """

    ipc: bool = True
    mount: bool = True
    net: bool = False
    shm_size: str = "8m"
    sysctls: Mapping[str, int | str] = field(default_factory=dict[str, int | str])

    def __post_init__(self) -> None:
        for name in self.sysctls:
            if not name.startswith(("kernel.msg", "kernel.shm", "kernel.sem", "fs.mqueue.")):
                message = f"sysctl {name} does not belong to an IPC namespace"
                raise ValueError(message)
        if self.sysctls and not (self.ipc and self.mount):
            message = (
                "sysctls need ipc=True and mount=True; otherwise they would change the machine"
            )
            raise ValueError(message)
        if not (self.ipc or self.mount or self.net):
            message = "a sandbox needs at least one of ipc, mount and net"
            raise ValueError(message)

    def command(self, argv: Sequence[str]) -> list[str]:
        """Return the command line that runs a program in the sandbox.

        Args:
            argv: the program and its arguments.

        Returns:
            A command line. Its process becomes the program, with the same pid and descriptors.

        Raises:
            PermissionError: this process is not root.
        """
        if os.geteuid() != 0:
            message = "a sandbox requires root"
            raise PermissionError(message)
        flags = [f"--{name}" for name in ("ipc", "mount", "net") if getattr(self, name)]
        settings: list[str] = []
        for name, value in self.sysctls.items():
            settings += [f"/proc/sys/{name.replace('.', '/')}", str(value)]
        setup = [self.shm_size if self.mount else "", str(len(self.sysctls)), *settings]
        return ["unshare", *flags, "sh", "-c", _SETUP, "sh", *setup, *argv]


@public("ipckit.testing")
def run_in_namespace(
    argv: Sequence[str],
    *,
    ipc: bool = True,
    mount: bool = True,
    net: bool = False,
    shm_size: str = "8m",
    sysctls: Mapping[str, int | str] | None = None,
    timeout: float = 30.0,
) -> subprocess.CompletedProcess[str]:
    """Run a program in separate namespaces until it exits.

    To run Python code in a sandbox, pass a `Sandbox` to `Child`.

    Args:
        argv: the program and its arguments.
        ipc: see `Sandbox`.
        mount: see `Sandbox`.
        net: see `Sandbox`.
        shm_size: see `Sandbox`.
        sysctls: see `Sandbox`.
        timeout: seconds, 0 or more; by default 30.

    Returns:
        The exit status, and both output streams as text.

    Raises:
        PermissionError: this process is not root.
        ValueError: see `Sandbox`.
        subprocess.TimeoutExpired: the program ran longer than `timeout`, and was killed.

    Example:
        ``run_in_namespace(["ipcs", "-q"]).stdout`` shows no queues.
    """
    box = Sandbox(ipc=ipc, mount=mount, net=net, shm_size=shm_size, sysctls=sysctls or {})
    return subprocess.run(  # noqa: S603 - the test's own command
        box.command(argv),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@public("ipckit.testing")
def as_user(user: str, argv: Sequence[str]) -> list[str]:
    """Return the command line that runs a program as another user, by setpriv(1).

    The user must have access to the program. If Python is in a directory that the user can't
    search, use ``Child(..., user=...)``.

    Args:
        user: the name of the user. The program also gets the user's group.
        argv: the program and its arguments.

    Returns:
        The command line.

    Raises:
        LookupError: there is no such user.
        PermissionError: this process is not root.
    """
    entry = pwd.getpwnam(user)
    if os.geteuid() != 0:
        message = "running as another user requires root"
        raise PermissionError(message)
    ids = [f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]
    return ["setpriv", *ids, "--", *argv]


@public("ipckit.testing")
def require(program: str, *, package: str) -> str:
    """Return the path of a program that a test needs, or skip the test.

    If the environment variable ``CI`` is set, a missing program fails the test instead. Requires
    pytest.

    Args:
        program: the name of the program.
        package: the Debian package that contains it, for the message.

    Returns:
        The absolute path.

    Raises:
        pytest.fail.Exception: the program is missing, and ``CI`` is set.
        pytest.skip.Exception: the program is missing, and ``CI`` is not set.

    Example:
        >>> require("sh", package="dash")
        '/.../sh'
    """
    # pytest is not a dependency of ipckit; the caller is a test, so it is installed.
    import pytest  # noqa: PLC0415

    path = shutil.which(program)
    if path is None:
        reason = f"{program} is missing: apt-get install {package}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path
