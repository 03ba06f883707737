"""What a group knows of a topic goes with the topic, and what all groups know with theirs.

Goal: nobody reads a topic that was made again from where somebody stood in the one before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.clients.served import Broker

INVALID = -1001  # what librdkafka says where nothing was committed


def member(broker: Broker, group: str) -> Consumer:
    return Consumer(
        {"bootstrap.servers": broker.bootstrap, "group.id": group, "log_level": 0,
         "enable.auto.commit": False}
    )  # fmt: skip


def commit(consumer: Consumer, topic: str, offset: int) -> None:
    consumer.commit(offsets=[TopicPartition(topic, 0, offset)], asynchronous=False)


def committed(consumer: Consumer, topic: str) -> Any:
    (found,) = consumer.committed([TopicPartition(topic, 0)], timeout=60)
    return found.offset


def done(futures: dict[str, Any]) -> None:
    for future in futures.values():
        future.result(60)


def test_offsets_go_with_their_topic(broker: Broker, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    other = f"{topic}-other"
    done(admin.create_topics([NewTopic(other, 1)]))
    consumer = member(broker, f"{topic}-group")
    commit(consumer, topic, 7)
    commit(consumer, other, 8)
    done(admin.delete_topics([topic]))
    done(admin.create_topics([NewTopic(topic, 1)]))
    fresh = member(broker, f"{topic}-group")
    assert (committed(fresh, topic), committed(fresh, other)) == (INVALID, 8)
    commit(fresh, topic, 3)
    assert committed(fresh, topic) == 3
    for opened in (consumer, fresh):
        opened.close()


def test_groups_go_with_the_internal_topic(new_broker: Callable[..., Broker]) -> None:
    broker = new_broker()
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    done(admin.create_topics([NewTopic("t", 1)]))
    consumer = member(broker, "g")
    commit(consumer, "t", 7)
    done(admin.delete_topics(["__consumer_offsets"]))
    consumer.close()
    # Who looks for the coordinator has the topic made again.
    fresh = member(broker, "g")
    assert committed(fresh, "t") == INVALID
    commit(fresh, "t", 9)
    fresh.close()
    broker.stop()
    broker.start()
    again = member(broker, "g")
    assert committed(again, "t") == 9
    again.close()
