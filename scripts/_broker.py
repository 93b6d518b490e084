"""A broker and its workers, which start in advance and receive clients as descriptors."""

from __future__ import annotations

import os
import socket
from functools import partial
from typing import TYPE_CHECKING

from _children import in_child, wait_child
from _echo_loop import Client
from _loop import POLLERS, Acceptor, Loop, Member

from ipckit import IpcError, unixsock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipckit.unixsock import UnixSocket


class Inbox(Member):
    """The worker's end of the connection to the broker: each message is a client."""

    def __init__(self, connection: UnixSocket) -> None:
        super().__init__(connection.socket)
        self._connection = connection

    def close(self) -> None:
        """Close the handle."""
        self._connection.close()

    def turn(self, loop: Loop) -> None:
        """Take a client. If the broker has exited, serve the present clients to their end."""
        try:
            packet = self._connection.receive(64, max_fds=1, timeout=0)
        except BlockingIOError:
            return
        with packet:
            if packet.eof:
                loop.drop(self)
            elif packet.fds:
                loop.add(Client(socket.socket(fileno=packet.fds.take())))


class Worker(Member):
    """A worker, as the broker sees it."""

    def __init__(self, broker: Broker) -> None:
        # The broker keeps both ends, so that clients that a dead worker had not taken are not lost.
        mine, its = unixsock.pair("seqpacket")
        self.pid = in_child(partial(self._work, [*broker.inherited(), mine], its))
        super().__init__(mine.socket)
        self._connection, self._queue = mine, its
        self._pidfd = os.pidfd_open(self.pid)
        self._broker = broker

    def fileno(self) -> int:
        """Return the pidfd, which is readable once the worker has exited."""
        return self._pidfd

    @staticmethod
    def _work(inherited: Iterable[Member | UnixSocket], connection: UnixSocket) -> None:
        # Every worker must see the end when the broker dies, so no other worker keeps its sockets.
        for each in inherited:
            each.close()
        loop = Loop(POLLERS["epoll"]())
        loop.add(Inbox(connection))
        loop.run()

    def close(self) -> None:
        """Close the handles."""
        self._connection.close()
        self._queue.close()
        os.close(self._pidfd)

    def turn(self, loop: Loop) -> None:  # noqa: ARG002 - the broker has the loop
        """Replace the worker, which has exited."""
        self._broker.replace(self)

    def untaken(self) -> Iterator[socket.socket]:
        """Yield the clients that were passed to the worker, and not taken before it exited."""
        while True:
            try:
                packet = self._queue.receive(64, max_fds=1, timeout=0)
            except BlockingIOError:
                return
            with packet:
                yield socket.socket(fileno=packet.fds.take())

    def give(self, client: socket.socket, *, timeout: float | None) -> bool:
        """Pass a client to the worker; False if the worker has exited, or has no room in time."""
        try:
            self._connection.send(b"client", fds=[client], timeout=timeout)
        except (IpcError, OSError):
            return False
        return True


class Door(Acceptor):
    """Accepts clients, and passes each to a worker."""

    def __init__(self, sock: socket.socket, broker: Broker) -> None:
        super().__init__(sock, Client)
        self._broker = broker

    def take(self, loop: Loop, sock: socket.socket) -> None:  # noqa: ARG002 - not added to the loop
        """Pass a client to a worker, and close this process's copy of the connection."""
        with sock:
            self._broker.give(sock)


class Broker:
    """Accepts on several listeners, and passes each client to the next worker."""

    def __init__(self, listeners: Iterable[socket.socket], workers: int) -> None:
        # Not epoll: a forked child would share it.
        self.loop = Loop(POLLERS["poll"]())
        self.workers: list[Worker] = []
        self._doors = [Door(each, self) for each in listeners]
        for _ in range(workers):
            self._hire()
        for door in self._doors:
            self.loop.add(door)

    def inherited(self) -> list[Member]:
        """Return what a new worker inherits from the broker and must close."""
        return [*self._doors, *self.workers]

    def _hire(self) -> None:
        worker = Worker(self)
        self.workers.append(worker)
        self.loop.add(worker)

    def replace(self, worker: Worker) -> None:
        """Reap a dead worker, start another, and pass on the clients that it had not taken."""
        if worker.closed:
            return
        self.loop.release(worker)
        wait_child(worker.pid)
        self._hire()
        self.workers.remove(worker)
        for client in worker.untaken():
            with client:
                self.give(client)
        self.loop.drop(worker)

    def give(self, client: socket.socket) -> None:
        """Pass a client to the next worker in turn, or to another that has room."""
        self.workers.append(self.workers.pop(0))
        if any(worker.give(client, timeout=0) for worker in reversed(self.workers)):
            return
        # All workers are full, or have exited: wait for one.
        while not self.workers[-1].give(client, timeout=0.1):
            self.workers.append(self.workers.pop(0))
            for worker in list(self.workers):
                if os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                    self.replace(worker)
