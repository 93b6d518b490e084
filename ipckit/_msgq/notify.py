"""A POSIX queue's notifications, delivered in a thread of Python's own.

The C library's SIGEV_THREAD starts a thread that Python did not make, which may
call into an interpreter that is going away. The kernel's half of it is a
message on a netlink socket; reading that in a daemon thread is safe.
"""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING, Final

import ipckit._native as native

if TYPE_CHECKING:
    from collections.abc import Callable

_COOKIE_BYTES: Final = 32
_WOKEN: Final = b"\1"


class Notifier:
    """One registration with mq_notify(2), or one after the other.

    Args:
        fd: the queue's descriptor, open until `stop` was called. It is not duplicated: closing
            a duplicate would end the registration.
        callback: called without arguments each time.
        repeat: register again before each call.

    Raises:
        OSError: EBUSY where somebody has registered; EMFILE.
    """

    def __init__(self, fd: int, callback: Callable[[], object], *, repeat: bool) -> None:
        self._fd = fd
        self._callback = callback
        self._repeat = repeat
        self._pid = os.getpid()
        # Reentrant, because a handle may be finalised while its own thread is in here.
        self._lock = threading.RLock()
        self._registered = False
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        try:
            self._register()
        except OSError:
            self._socket.close()
            raise
        threading.Thread(target=self._run, name="ipckit-mq-notify", daemon=True).start()

    def stop(self) -> None:
        """Give the registration up; no call starts after this returns."""
        if os.getpid() != self._pid:
            # A forked copy: the thread, the lock and the registration are the parent's.
            self._socket.close()
            return
        with self._lock:
            if self._registered:
                self._registered = False
                # The kernel writes a last cookie, which wakes the thread.
                native.mq_notify_signal(self._fd, 0)

    def _register(self) -> None:
        native.mq_notify_socket(self._fd, self._socket.fileno())
        self._registered = True

    def _run(self) -> None:
        try:
            while self._woken():
                self._callback()
                if not self._repeat:
                    break
        finally:
            self.stop()
            self._socket.close()

    def _woken(self) -> bool:
        """Wait for one cookie; whether it stands for a message, and the caller still wants it."""
        cookie = self._socket.recv(_COOKIE_BYTES)
        with self._lock:
            if not self._registered:
                return False
            # Told, or ended by a close elsewhere in the process: either way it is no more.
            self._registered = False
            if cookie[-1:] != _WOKEN:
                return False
            if self._repeat:
                self._register()
            return True
