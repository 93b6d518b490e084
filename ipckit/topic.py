"""Topics: messages in shared memory that go to every subscriber.

`Topic` publishes messages of one type, and `Topic.subscribe` returns a `Subscription`, which
receives them.
"""

from ipckit._topic.facts import TopicPublisher, TopicStats, TopicSubscriber
from ipckit._topic.subscription import Subscription
from ipckit._topic.topic import Topic

__all__ = ["Subscription", "Topic", "TopicPublisher", "TopicStats", "TopicSubscriber"]
