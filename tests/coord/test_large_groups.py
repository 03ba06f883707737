"""Groups of the consumer protocol that one write cannot hold: goal: no heartbeat fails for the size
of what others have, and what is written in pieces ends as if it had been one.
"""

from __future__ import annotations

import pytest
from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.coord.group.schema import ConsumerGroupTargetAssignmentMetadataKey
from kbroker.coord.group.serde import decode_record

from tests.coord.consumer_kit import (
    INDEX,
    Client,
    ConsumerKit,
    check_owners,
    owned_of,
    settle,
    topic_id,
)

WRITE_BYTES = 4_000


def limited(bytes_max: int = WRITE_BYTES) -> ConsumerKit:
    kit = ConsumerKit(message_max_bytes=str(bytes_max))
    kit.log.bytes_max = bytes_max
    return kit


def wide(kit: ConsumerKit, count: int, first: int = 0) -> list[str]:
    names = [f"a_long_name_{number:04}" for number in range(first, first + count)]
    kit.topics(**dict.fromkeys(names, 1))
    return names


def finish(kit: ConsumerKit) -> int:
    """Runs what is due until nothing is; how often that was."""
    for turn in range(1_000):
        if not kit.shard.timers.is_scheduled(("consumer target", "g")):
            return turn
        kit.advance(0)
    raise AssertionError("a target is never written")


def epochs_written(kit: ConsumerKit) -> list[int]:
    """The target epochs that the log tells of, in order."""
    decoded = [decode_record(key, value) for key, value in kit.log.records(INDEX)]
    return [
        record.value.assignment_epoch
        for record in decoded
        if record and isinstance(record.key, ConsumerGroupTargetAssignmentMetadataKey)
    ]


# Patterns


def test_patterns_that_one_write_cannot_hold() -> None:
    kit = limited()
    names = wide(kit, 40)  # about 800 bytes for each pattern
    patterns = [f"a_.*|none{number}" for number in range(6)]
    clients = [
        kit.client(f"m{number}", subscribed_topic_regex=pattern)
        for number, pattern in enumerate(patterns)
    ]
    settle(*clients)
    finish(kit)
    names += wide(kit, 1, first=40)
    for client in clients:
        client.beat()
    assert all(kit.group().regexes[pattern].topics == set(names) for pattern in patterns)
    finish(kit)
    settle(*clients)
    owned = [name for client in clients for name in client.owned]
    assert sorted(owned) == names
    assert kit.group().checked_version == kit.image.version
    check_owners(kit.group())


def test_a_pattern_that_matches_more_than_a_record_can_hold() -> None:
    kit = limited()
    wide(kit, 60)
    a = kit.client("a", subscribed_topic_regex="a_.*")
    finish(kit)
    settle(a)
    assert len(a.owned) == 60
    wide(kit, 60, first=60)
    assert len(a.owned) == 60 and a.beat().error_code == errors.NONE
    settle(a)
    assert len(a.owned) == 60, "it goes on with what it had"
    with pytest.raises(KafkaError) as refused:
        kit.join("b", subscribed_topic_regex="a_.*|b")
    assert refused.value.code == errors.INVALID_REGULAR_EXPRESSION
    assert "message.max.bytes" in str(refused.value)
    b = kit.client("b", subscribed_topic_regex="a_long_name_000.")
    finish(kit)
    settle(a, b)
    assert len(b.owned) == 10 and len(a.owned) == 50


# Target assignments


def crowd(kit: ConsumerKit, count: int = 80) -> list[Client]:
    kit.topics(t=count)
    clients = [kit.client(f"member-{number:03}", "t") for number in range(count)]
    finish(kit)
    settle(*clients)
    assert all(client.owned == {"t": client.owned["t"]} for client in clients)
    return clients


def test_a_target_that_one_write_cannot_hold_comes_in_pieces() -> None:
    kit = limited()
    clients = crowd(kit)
    kit.topics(t=160)  # everybody gets one more
    before = len(kit.log.batches[INDEX])
    epoch = kit.group().assignment_epoch
    told = [clients[0].beat()]
    planned = kit.group().long_target
    told += [client.beat() for client in clients[1:]]
    assert kit.group().long_target is planned, "once for all of them"
    assert {response.member_epoch for response in told} == {epoch}, (
        "nobody moves before it is there"
    )
    assert kit.group().epoch == epoch + 1 and kit.group().state_name == "Assigning"
    assert len(kit.log.batches[INDEX]) == before + 1
    assert finish(kit) > 1
    assert kit.group().assignment_epoch == epoch + 1 and epochs_written(kit)[-1] == epoch + 1
    settle(*clients)
    assert sorted(p for client in clients for p in client.owned["t"]) == list(range(160))
    assert {len(client.owned["t"]) for client in clients} == {2}
    check_owners(kit.group())
    assert kit.group().long_target is None


def test_the_first_target_of_a_group_may_be_large() -> None:
    kit = limited()
    names = wide(kit, 60)
    response = kit.join("a", *names)
    assert (response.member_epoch, owned_of(response)) == (1, {})
    finish(kit)
    response = kit.heartbeat("a", 1, owned={})
    assert response.member_epoch == 2
    assert len(owned_of(response)) == 60
    assert set(kit.group().target("a")) == {topic_id(name) for name in names}


def test_who_comes_and_goes_meanwhile_is_counted() -> None:
    kit = limited()
    clients = crowd(kit)
    kit.topics(t=160)
    clients[0].beat()
    kit.advance(0)
    clients.pop().leave()
    clients.append(kit.client("another", "t"))
    finish(kit)
    settle(*clients)
    finish(kit)
    settle(*clients)
    assert sorted(p for client in clients for p in client.owned["t"]) == list(range(160))
    assert set(kit.group().targets) == set(kit.group().members)
    check_owners(kit.group())


def test_a_static_member_that_comes_back_meanwhile_gets_its_share() -> None:
    """It has another member id in the same epoch: what is left to write names the old one."""
    kit = limited()
    clients = crowd(kit, 79)
    static = kit.client("was", "t", instance_id="i")
    finish(kit)
    settle(*clients, static)
    kit.heartbeat("was", -2, instance_id="i")
    kit.topics(t=160)
    clients[0].beat()
    back = kit.client("is", "t", instance_id="i")
    finish(kit)
    settle(*clients, back)
    finish(kit)
    settle(*clients, back)
    everybody = [*clients, back]
    assert sorted(p for client in everybody for p in client.owned["t"]) == list(range(160))
    assert set(kit.group().targets) == set(kit.group().members)


def test_topics_that_change_meanwhile_count() -> None:
    kit = limited()
    clients = crowd(kit)
    kit.topics(t=160)
    clients[0].beat()
    kit.advance(0)
    kit.topics(t=240)
    clients[1].beat()
    finish(kit)
    assert kit.group().assignment_epoch == kit.group().epoch
    settle(*clients)
    assert sorted(p for client in clients for p in client.owned["t"]) == list(range(240))


def test_a_restart_in_between_begins_anew() -> None:
    kit = limited()
    clients = crowd(kit)
    kit.topics(t=160)
    clients[0].beat()
    kit.advance(0)
    kit.restart()
    assert kit.group().epoch > kit.group().assignment_epoch
    clients[0].beat()
    finish(kit)
    settle(*clients)
    assert sorted(p for client in clients for p in client.owned["t"]) == list(range(160))


def test_a_refused_piece_is_written_later() -> None:
    kit = limited()
    clients = crowd(kit)
    kit.topics(t=160)
    kit.log.failures = [0, errors.NOT_ENOUGH_REPLICAS]
    clients[0].beat()
    kit.advance(0)
    epoch = kit.group().assignment_epoch
    kit.advance(499)
    assert kit.group().assignment_epoch == epoch and kit.log.failures == []
    kit.advance(1)
    finish(kit)
    assert kit.group().assignment_epoch == epoch + 1


def test_a_group_that_ends_meanwhile() -> None:
    kit = limited()
    clients = crowd(kit)
    kit.topics(t=160)
    clients[0].beat()
    for client in clients:
        client.leave()
    finish(kit)
    assert kit.group().is_empty and not kit.group().targets
    assert kit.group().long_target is None
