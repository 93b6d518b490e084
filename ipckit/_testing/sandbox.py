"""Programs and children in IPC and mount namespaces of their own, or as another user."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ipckit._core.public import public

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Everything comes in as positional parameters, so nothing is ever quoted.
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


@public("ipckit.testing")
@dataclass(frozen=True, slots=True)
class Sandbox:
    """Namespaces of a process's own; see namespaces(7). It takes root.

    What is made inside is invisible outside, and goes with the last process in it.

    Attributes:
        ipc: System V objects and POSIX queues of its own, and their sysctls.
        mount: a ``/dev/shm`` of its own, hence POSIX shared memory and semaphores.
        net: abstract socket names of its own, and no network.
        shm_size: how large that ``/dev/shm`` is, as mount(8) takes it: ``"8m"``.
        sysctls: values to set first, by name: ``{"kernel.msgmax": 20000}``. Only
            those of the namespace itself (``kernel.msg*``, ``kernel.shm*``,
            ``kernel.sem``, ``fs.mqueue.*``): others would change the whole machine.
    """

    ipc: bool = True
    mount: bool = True
    net: bool = False
    shm_size: str = "8m"
    sysctls: Mapping[str, int | str] = field(default_factory=dict[str, int | str])

    def __post_init__(self) -> None:
        for name in self.sysctls:
            if not name.startswith(("kernel.msg", "kernel.shm", "kernel.sem", "fs.mqueue.")):
                message = f"{name} does not belong to an IPC namespace"
                raise ValueError(message)
        if self.sysctls and not (self.ipc and self.mount):
            message = "sysctls need ipc=True and mount=True, or they would change the machine"
            raise ValueError(message)
        if not (self.ipc or self.mount or self.net):
            message = "a sandbox has one namespace of its own or more"
            raise ValueError(message)

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs a command in here.

        Args:
            argv: the program and its arguments.

        Returns:
            A command line whose process becomes the program: same pid, descriptors kept.

        Raises:
            PermissionError: this process is not root.
        """
        if os.geteuid() != 0:
            message = "namespaces of its own take root"
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
    """Run a program in namespaces of its own, to its end. `Child` takes a `Sandbox` instead.

    Args:
        argv: the program and its arguments.
        ipc: see `Sandbox`.
        mount: see `Sandbox`.
        net: see `Sandbox`.
        shm_size: see `Sandbox`.
        sysctls: see `Sandbox`.
        timeout: seconds, 0 or more.

    Returns:
        The exit status, and the two output streams as text.

    Raises:
        PermissionError: this process is not root.
        ValueError: a sysctl of the whole machine, or no namespace at all.
        subprocess.TimeoutExpired: it ran longer, and was killed.
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
    """The command line that runs a program as another user, by setpriv(1).

    The user must be able to reach the program. Where Python itself lives in a
    directory closed to that user, take ``Child(..., user=...)``.

    Args:
        user: the name of the user, whose own group comes with it.
        argv: the program and its arguments.

    Returns:
        The longer command line.

    Raises:
        LookupError: no such user.
        PermissionError: this process is not root.
    """
    entry = pwd.getpwnam(user)
    if os.geteuid() != 0:
        message = "running as another user takes root"
        raise PermissionError(message)
    ids = [f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]
    return ["setpriv", *ids, "--", *argv]


@public("ipckit.testing")
def require(program: str, *, package: str) -> str:
    """The path of a program that a test needs, or the end of that test.

    A missing program fails the test where the environment says ``CI``, so that
    nothing goes untested unseen; elsewhere it skips the test. Needs pytest.

    Args:
        program: its name, as on a command line.
        package: the Debian package to install.

    Returns:
        The absolute path.

    Raises:
        pytest.fail.Exception: it is missing, in CI.
        pytest.skip.Exception: it is missing, elsewhere.
    """
    # pytest is no dependency of ipckit's; whoever calls this has it.
    import pytest  # noqa: PLC0415

    path = shutil.which(program)
    if path is None:
        reason = f"{program} is missing: apt-get install {package}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path
