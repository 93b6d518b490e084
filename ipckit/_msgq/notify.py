"""A POSIX queue's notifications, delivered by a thread that Python started.

The C library's SIGEV_THREAD starts a thread of its own, which may call into an interpreter that is
shutting down. Underneath, the kernel writes to a netlink socket. Reading that socket in a daemon
thread is safe.
"""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING, Final

import ipckit._native as native

if TYPE_CHECKING:
    from collections.abc import Callable

_WOKENUP: Final = bytes([native.NOTIFY_WOKENUP])


class Notifier:
    """One registration with mq_notify(2), or one after another.

    Args:
        fd: the queue's descriptor, which stays open until `stop` is called. The notifier makes no
            duplicate, because closing a duplicate would end the registration.
        callback: called without arguments for each notification.
        repeat: register again before each call.

    Raises:
        OSError: EBUSY if a process has registered; EMFILE if no descriptor is left.
    """

    def __init__(self, fd: int, callback: Callable[[], object], *, repeat: bool) -> None:
        self._fd = fd
        self._callback = callback
        self._repeat = repeat
        self._pid = os.getpid()
        # Reentrant, because the garbage collector may finalise the handle in the notifier's own
        # thread while that thread has the lock.
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
        """End the registration. No call of the callback starts after this returns."""
        if os.getpid() != self._pid:
            # In a forked child: the thread, the lock and the registration are the parent's.
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
            while self._next_notification():
                self._callback()
                if not self._repeat:
                    break
        finally:
            self.stop()
            self._socket.close()

    def _next_notification(self) -> bool:
        """Wait for a cookie; False if the registration has ended instead."""
        cookie = self._socket.recv(native.NOTIFY_COOKIE_LEN)
        with self._lock:
            if not self._registered:
                return False
            # Either cookie ends the registration: a notification, or a descriptor of the queue
            # that was closed elsewhere in the process.
            self._registered = False
            if not cookie.endswith(_WOKENUP):
                return False
            if self._repeat:
                self._register()
            return True
