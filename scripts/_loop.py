"""The socket servers' event loop, over select, poll, epoll and edge-triggered epoll.

A member has a socket in the loop. `readable` and `writable` are the known state of the socket,
`wants` returns the events that it waits for, and `turn` does a bounded amount of work.
"""

from __future__ import annotations

import errno
import select
import selectors
import sys
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

READ: Final = selectors.EVENT_READ
WRITE: Final = selectors.EVENT_WRITE
TURN: Final = 16  # chunks or clients per turn
FD_SETSIZE: Final = 1024
NO_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
# Seconds. A signal just before a wait does not interrupt it, and Python handles it only after the
# wait.
_LOOK: Final = 0.5


class Member:
    """A socket in the loop."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(0)
        self.sock = sock
        self.readable = False
        self.writable = True
        self.closed = False
        self.mask = 0  # the events that the poller watches now

    def fileno(self) -> int:
        """Return the descriptor that the poller watches."""
        return self.sock.fileno()

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()

    def wants(self) -> int:
        """Return READ, WRITE, both or neither."""
        return READ

    def turn(self, loop: Loop) -> None:
        """Do a bounded amount of work, and clear `readable` or `writable` on EAGAIN."""
        raise NotImplementedError

    def can_go(self) -> bool:
        """Whether a turn could do something without waiting."""
        wants = self.wants()
        return bool((wants & READ and self.readable) or (wants & WRITE and self.writable))


class Poller(Protocol):
    """Reports the ready members, each with an event mask."""

    edge: bool
    limit: int  # it cannot watch descriptors from this number on

    def wait(self, timeout: float | None) -> list[tuple[Member, int]]: ...
    def update(self, member: Member) -> None: ...
    def forget(self, member: Member) -> None: ...
    def close(self) -> None: ...


class LevelPoller:
    """A selector of the standard library. It reports an event again until it is handled."""

    edge = False

    def __init__(self, selector: selectors.BaseSelector, limit: int = sys.maxsize) -> None:
        self._selector = selector
        self.limit = limit
        self.close = selector.close

    def wait(self, timeout: float | None) -> list[tuple[Member, int]]:
        """Return the ready members. Python handles EINTR."""
        return [(key.data, events) for key, events in self._selector.select(timeout)]

    def update(self, member: Member) -> None:
        """Watch for the events that the member wants now."""
        wants = member.wants()
        if wants == member.mask:
            return
        if not wants:
            self._selector.unregister(member)
        elif member.mask:
            self._selector.modify(member, wants, member)
        else:
            self._selector.register(member, wants, member)
        member.mask = wants

    def forget(self, member: Member) -> None:
        """Watch it no more."""
        if member.mask:
            self._selector.unregister(member)
            member.mask = 0


class EdgePoller:
    """Edge-triggered epoll. It reports an event once, so the member must continue until EAGAIN."""

    edge = True
    limit = sys.maxsize
    _EVENTS: Final = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._members: dict[int, Member] = {}
        self.close = self._epoll.close

    def wait(self, timeout: float | None) -> list[tuple[Member, int]]:
        """Return the members whose sockets changed."""
        found: list[tuple[Member, int]] = []
        for number, events in self._epoll.poll(timeout, max(1, len(self._members))):
            # An error or hang-up counts as both; the next read or write reports it.
            read = READ if events & ~select.EPOLLOUT else 0
            write = WRITE if events & ~(select.EPOLLIN | select.EPOLLRDHUP) else 0
            found.append((self._members[number], read | write))
        return found

    def update(self, member: Member) -> None:
        """Watch for all events, from the first call on."""
        if not member.mask:
            member.mask = READ | WRITE
            self._members[member.fileno()] = member
            self._epoll.register(member, self._EVENTS)

    def forget(self, member: Member) -> None:
        """Watch it no more."""
        if member.mask:
            self._epoll.unregister(member)
            del self._members[member.fileno()]
            member.mask = 0


class Loop:
    """The members, and the order of their turns."""

    def __init__(self, poller: Poller) -> None:
        self.poller = poller
        self.members: set[Member] = set()
        self._ready: deque[Member] = deque()
        self._stopped = False

    def stop(self) -> None:
        """Make `run` return after this round, even if members are left."""
        self._stopped = True

    def add(self, member: Member) -> None:
        """Add a member. It gets a turn when its socket is ready."""
        self.members.add(member)  # first, so that `run` closes it if a signal ends this call
        self.poller.update(member)

    def wake(self, member: Member) -> None:
        """Give a member a turn without an event."""
        self._ready.append(member)

    def drop(self, member: Member) -> None:
        """Remove a member, and close its socket."""
        self.release(member)
        member.close()
        for other in self.members:
            if isinstance(other, Acceptor) and other.paused:
                other.paused = False
                self.wake(other)

    def release(self, member: Member) -> None:
        """Remove a member, and leave its socket open."""
        member.closed = True
        self.poller.forget(member)
        self.members.discard(member)

    def run(self, idle: float | None = None) -> None:
        """Serve until no member is left, `stop` is called, or no client came for `idle` seconds."""
        try:
            while self.members and not self._stopped:
                worked = self._once(_LOOK if idle is None else idle)
                if worked or idle is None:
                    continue
                if all(isinstance(each, Acceptor) for each in self.members):
                    return
        finally:
            for member in self.members:
                member.close()
            self.poller.close()

    def _once(self, timeout: float | None) -> bool:
        ready = self._ready
        queued = set(ready)
        for member, events in self.poller.wait(0 if ready else timeout):
            member.readable |= bool(events & READ)
            member.writable |= bool(events & WRITE)
            if member not in queued:
                ready.append(member)
        # Members with more to do go to the end of the queue.
        count = len(ready)
        for _ in range(count):
            member = ready.popleft()
            if member.closed:
                continue
            member.turn(self)
            if member.closed:
                continue
            if not self.poller.edge:
                member.readable = False
            elif member.can_go():
                ready.append(member)
            self.poller.update(member)
        return count > 0


class Acceptor(Member):
    """A listening socket. Each connection becomes a member."""

    def __init__(self, sock: socket.socket, make: Callable[[socket.socket], Member]) -> None:
        super().__init__(sock)
        self._make = make
        self._refused = False
        self.paused = False

    def wants(self) -> int:
        """Accept connections, unless the process has no descriptor for one."""
        return 0 if self.paused else READ

    def turn(self, loop: Loop) -> None:
        """Accept a limited number of connections."""
        for _ in range(TURN):
            try:
                sock, _ = self.sock.accept()
            except BlockingIOError:
                self.readable = False
                return
            except ConnectionAbortedError:
                continue
            except OSError as exc:
                # Until a client leaves, new ones wait in the listener's backlog.
                if exc.errno not in NO_DESCRIPTORS or not loop.members - {self}:
                    raise
                self.paused = True
                return
            if sock.fileno() < loop.poller.limit:
                try:
                    self.take(loop, sock)
                except BaseException:  # Ctrl-C before the loop has the socket
                    sock.close()
                    raise
                continue
            with sock:
                if not self._refused:
                    print(
                        f"error: a client is refused: its descriptor is {sock.fileno()}, and "
                        f"select accepts none above {FD_SETSIZE - 1} (FD_SETSIZE); "
                        "use --model poll or epoll",
                        file=sys.stderr,
                        flush=True,
                    )
                self._refused = True

    def take(self, loop: Loop, sock: socket.socket) -> None:
        """Create a member for a connection."""
        loop.add(self._make(sock))


POLLERS: Final[dict[str, Callable[[], Poller]]] = {
    "select": lambda: LevelPoller(selectors.SelectSelector(), FD_SETSIZE),
    "poll": lambda: LevelPoller(selectors.PollSelector()),
    "epoll": lambda: LevelPoller(selectors.EpollSelector()),
    "epoll-et": EdgePoller,
}
