"""Topics: messages in shared memory that go to every subscriber.

`Topic` publishes messages of one type, and `Topic.subscribe` returns a `Subscription`, which
receives them.
"""

from typing import TYPE_CHECKING

from ipckit._core.lazy_names import lazy_names

if TYPE_CHECKING:
    from ipckit._topic.facts import TopicPublisher, TopicStats, TopicSubscriber
    from ipckit._topic.subscription import Subscription
    from ipckit._topic.topic import Topic
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "ipckit._topic.facts": "TopicPublisher TopicStats TopicSubscriber",
            "ipckit._topic.subscription": "Subscription",
            "ipckit._topic.topic": "Topic",
        },
    )

__all__ = ["Subscription", "Topic", "TopicPublisher", "TopicStats", "TopicSubscriber"]
