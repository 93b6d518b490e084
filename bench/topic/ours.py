"""ipckit's own lanes: topics, and the channel that a topic's round trip is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from channel import ours
from channel.lane import Lane, depth, fresh_name

if TYPE_CHECKING:
    from collections.abc import Callable

# Imports are late: without the topic, the rest of the bench still runs and lists it as missing.
# ruff: noqa: PLC0415


class Topic(Lane):
    """Topic of bytes with its defaults; subscribers never lose a message."""

    name = "ipckit"
    module = "ipckit"
    attribute = "Topic"
    shared = True

    def __init__(self, size: int) -> None:
        from ipckit import Topic

        super().__init__(size)
        self._name = fresh_name()
        self._owner: Any = Topic.create(self._name, self._type(), **self._creation())
        self._kept: list[Any] = []

    def _creation(self) -> dict[str, Any]:
        """Return the options of `Topic.create` that set how much the topic holds."""
        return {}

    def _type(self) -> Any:
        """Return the type of the messages."""
        return bytes

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_owner": None}  # other processes open it by name

    def open(self) -> Any:
        """In a using process: open the topic."""
        from ipckit import Topic

        topic = Topic.open(self._name, self._type())
        self._kept.append(topic)
        return topic

    def _subscribe(self) -> Any:
        subscription = self.open().subscribe()
        self._kept.append(subscription)
        return subscription

    def sender(self) -> Callable[[Any], object]:
        """Return the topic's own method."""
        return self.open().publish  # type: ignore[no-any-return]

    def receiver(self) -> Callable[[], Any]:
        """Return the subscription's own method."""
        return self._subscribe().receive  # type: ignore[no-any-return]

    def leave(self) -> None:
        """Close the subscriptions before their topics."""
        while self._kept:
            self._kept.pop().close()

    def close(self) -> None:
        """Remove the topic."""
        self._owner.close()
        self._owner.unlink()


class DeepTopic(Topic):
    """Topic of bytes that holds as many messages as the peers' queues."""

    name = "ipckit, deep"

    def _creation(self) -> dict[str, Any]:
        return {"capacity": depth(self.size)}


class Frames(Topic):
    """Topic of arrays with its defaults, written and read in place."""

    in_place = True

    def _type(self) -> Any:
        import numpy as np

        return np.dtype((np.uint8, (self.size,)))

    def sender(self) -> Callable[[Any], object]:
        """Return a function that takes a loan, copies the frame in, and publishes it."""
        loan = self.open().loan

        def send(message: Any) -> None:
            slot = loan()
            slot.write(message)
            slot.send()

        return send

    def receiver(self) -> Callable[[], Any]:
        """Return a function that receives a frame in place, as a view."""
        receive = self._subscribe().receive_view
        return lambda: receive().buf


class TopicOfFour(Topic):
    """Topic that is full soon."""

    def _creation(self) -> dict[str, Any]:
        return {"capacity": 4}


class Channel(ours.Channel):
    """The channel of bytes, for the round trip."""

    name = "ipckit, channel"


LANES: tuple[type[Lane], ...] = (Topic, DeepTopic)
