"""Expiry, deletion, listing and description of groups: goal: nothing in use goes, nothing stays for
ever (KIP-211).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kbroker.base import errors
from kbroker.coord.group.classic import State
from kbroker.coord.group.ops import expire
from kbroker.coord.group.ops.describe import op_describe
from kbroker.coord.group.ops.list import op_list
from kbroker.coord.group.schema import GroupMetadataKey, OffsetCommitKey
from kbroker.coord.result import Record
from kbroker.wire.schema.list_groups import ListGroupsRequest

from tests.coord.group_kit import GROUP, INDEX, GroupKit, Member, caller, code, subscription

MINUTE_MS = 60_000
SWEEP_MS = 600_000
RETENTION = 30  # minutes


@pytest.fixture
def kit() -> Iterator[GroupKit]:
    kit = GroupKit(offsets_retention_minutes=RETENTION)
    yield kit
    kit.check()


def alive(kit: GroupKit, member: Member, ms: int) -> None:
    """Time passes for a member that sends heartbeats."""
    for _ in range(ms // 5_000):
        kit.sleep(5_000)
        assert member.heartbeat() == errors.NONE


def offset_tombstone(topic: str, partition: int = 0, group: str = GROUP) -> Record:
    return Record(OffsetCommitKey(group=group, topic=topic, partition=partition), None)


GROUP_TOMBSTONE = Record(GroupMetadataKey(group=GROUP), None)


def test_offsets_of_an_empty_group_count_from_when_it_became_empty(kit: GroupKit) -> None:
    a = kit.member()
    kit.stable(a)
    a.commit(1)
    alive(kit, a, 40 * MINUTE_MS)
    assert kit.committed() == 1, "its members read it"
    a.leave()
    kit.written()
    kit.sleep(29 * MINUTE_MS)
    assert kit.committed() == 1 and kit.written() == []
    kit.sleep(11 * MINUTE_MS)
    assert kit.written() == [offset_tombstone("t"), GROUP_TOMBSTONE]
    assert kit.shard.groups == {} and kit.shard.offsets.count == 0


def test_offsets_without_a_group_count_from_their_commit(kit: GroupKit) -> None:
    kit.commit(1)
    kit.sleep(20 * MINUTE_MS)
    kit.commit(2, topic="u")
    kit.written()
    kit.sleep(10 * MINUTE_MS + SWEEP_MS)
    assert kit.written() == [offset_tombstone("t")] and kit.committed("u") == 2
    kit.sleep(20 * MINUTE_MS)
    assert kit.written() == [offset_tombstone("u")], "no record ever spoke of the group"
    assert kit.shard.groups == {}


def test_offsets_of_topics_that_nobody_reads_any_more(kit: GroupKit) -> None:
    a = kit.member(topics=("t",))
    kit.stable(a)
    a.commit(1)
    a.commit(2, topic="u")
    kit.written()
    alive(kit, a, 40 * MINUTE_MS)
    assert kit.written() == [offset_tombstone("u")]
    assert kit.committed() == 1 and kit.state is State.STABLE


def test_when_it_is_not_known_who_reads_what_nothing_goes(kit: GroupKit) -> None:
    other = kit.member(protocol_type="connect", group_id="other")
    garbled = kit.member()
    garbled.protocols = {"range": b"?"}
    for member in (other, garbled):
        answer = member.join()
        kit.sleep(3_000)
        member.joined(answer.result())
        assert code(member.sync()) == errors.NONE
        assert member.commit(2, topic="u") == errors.NONE
    for _ in range(40 * MINUTE_MS // 5_000):
        kit.sleep(5_000)
        assert other.heartbeat() == garbled.heartbeat() == errors.NONE
    assert kit.committed("u") == kit.committed("u", group_id="other") == 2


def test_nothing_goes_while_members_rebalance(kit: GroupKit) -> None:
    a = kit.member(topics=("t",), session_ms=1_800_000, rebalance_ms=86_400_000)
    kit.stable(a)
    a.commit(2, topic="u")
    for _ in range(2):
        kit.member(version=3, rebalance_ms=86_400_000, session_ms=1_800_000).join()
    assert kit.state is State.PREPARING
    for _ in range(9):
        kit.sleep(5 * MINUTE_MS - 10)
        a.heartbeat()
        kit.member(version=3, rebalance_ms=86_400_000, session_ms=1_800_000).join()
    assert kit.state is State.PREPARING and kit.committed("u") == 2


def test_a_commit_may_say_how_long_it_is_kept(kit: GroupKit) -> None:
    kit.commit(1, version=4, retention_ms=MINUTE_MS)
    kit.commit(2, topic="u", version=5, retention_ms=MINUTE_MS)
    kit.commit(3, topic="t", partition=1, version=2, retention_ms=100 * MINUTE_MS)
    (short, plain, long) = kit.written()
    now_ms = kit.clock.wall_ms()
    assert (short.value.expire_timestamp, short.value.version()) == (now_ms + MINUTE_MS, 1)
    assert (plain.value.expire_timestamp, plain.value.version()) == (-1, 3)
    assert long.value.expire_timestamp == now_ms + 100 * MINUTE_MS
    kit.sleep(SWEEP_MS)
    assert kit.written() == [offset_tombstone("t")]
    kit.sleep(50 * MINUTE_MS)
    assert kit.committed("t", 1) == 3 and kit.committed("u") == -1


def test_an_empty_group_without_offsets_goes_with_the_next_sweep(kit: GroupKit) -> None:
    a = kit.member()
    kit.stable(a)
    a.leave()
    kit.written()
    kit.sleep(SWEEP_MS)
    assert kit.written() == [GROUP_TOMBSTONE] and kit.shard.groups == {}


def test_a_group_that_somebody_is_about_to_join_stays(kit: GroupKit) -> None:
    a = kit.member(session_ms=1_200_000)
    a.member_id = a.request_join().result().member_id
    kit.sleep(SWEEP_MS)
    assert GROUP in kit.shard.groups and not a.request_join().done


def test_a_refused_sweep_is_made_up_for_by_the_next(kit: GroupKit) -> None:
    kit.commit(1)
    kit.log.failures = [errors.NOT_ENOUGH_REPLICAS]
    kit.sleep(30 * MINUTE_MS + SWEEP_MS)
    assert kit.committed() == 1
    kit.sleep(SWEEP_MS)
    assert kit.committed() == -1


def test_more_than_one_write_can_hold(kit: GroupKit) -> None:
    kit.config = GroupKit(offsets_retention_minutes=RETENTION, message_max_bytes=2_000).config
    kit.image.add("wide", 100)
    for partition in range(100):
        kit.commit(1, topic="wide", partition=partition)
    kit.sleep(30 * MINUTE_MS + SWEEP_MS)
    assert kit.shard.offsets.count == 0 and kit.shard.groups == {}
    sweeps = [len(batch) for batch in kit.log.batches[7][100:]]
    assert sum(sweeps) == 100 and len(sweeps) > 2
    sizes = [sum(len(key) + 16 for key, _ in batch) for batch in kit.log.batches[7][100:]]
    assert max(sizes) <= 2_000


def crowd(kit: GroupKit, *names: str) -> None:
    """Four offsets of `wide` for each of these groups."""
    kit.image.add("wide", 4)
    for name in names:
        for partition in range(4):
            kit.commit(1, topic="wide", partition=partition, group_id=name)


def test_a_look_at_many_offsets_is_taken_in_pieces(
    kit: GroupKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expire, "OFFSETS_PER_GO", 10)
    names = [f"group-{number}" for number in range(9)]
    crowd(kit, *names)
    kit.clock.advance(30 * MINUTE_MS)
    kit.written()
    assert kit.write(expire.op_expire).error is None
    assert {record.key.group for record in kit.written()} == set(names[:2])
    assert kit.shard.timers.is_scheduled(("expire more",))
    kit.sleep(SWEEP_MS)
    assert kit.shard.offsets.count == 0 and not kit.shard.groups
    assert not kit.shard.timers.is_scheduled(("expire more",))


def test_a_large_group_is_looked_at_in_pieces(
    kit: GroupKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A piece ends within a group; the group goes with its last offset, and only then."""
    monkeypatch.setattr(expire, "OFFSETS_PER_GO", 3)
    a = kit.member()
    kit.stable(a)
    kit.image.add("wide", 7)
    for partition in range(7):
        a.commit(1, topic="wide", partition=partition)
    a.leave()
    kit.clock.advance(30 * MINUTE_MS)
    kit.written()
    kit.write(expire.op_expire)
    assert kit.written() == [offset_tombstone("wide", partition) for partition in range(3)]
    kit.runtime.run_due()  # the sweep that is due: it begins anew
    assert kit.written() == [offset_tombstone("wide", partition) for partition in range(3, 6)]
    kit.runtime.run_due()
    assert kit.written() == [offset_tombstone("wide", 6), GROUP_TOMBSTONE]
    kit.runtime.run_due()
    assert kit.written() == [] and not kit.shard.groups


def test_offsets_that_stay_are_looked_at_once(
    kit: GroupKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is too young does not keep a look at the same place."""
    monkeypatch.setattr(expire, "OFFSETS_PER_GO", 3)
    crowd(kit, "young")
    kit.clock.advance(30 * MINUTE_MS - 1)
    crowd(kit, "young")
    kit.commit(1, group_id="old")
    kit.clock.advance(1)
    kit.write(expire.op_expire)
    assert kit.shard.timers.is_scheduled(("expire more",))
    kit.sleep(1)
    assert not kit.shard.timers.is_scheduled(("expire more",))
    assert kit.shard.offsets.count == 5


def test_a_refused_go_ends_the_look(kit: GroupKit, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that takes nothing is not asked again at every turn of the loop."""
    monkeypatch.setattr(expire, "OFFSETS_PER_GO", 3)
    crowd(kit, "a", "b")
    kit.clock.advance(30 * MINUTE_MS)
    kit.log.failures = [errors.NOT_ENOUGH_REPLICAS]
    assert kit.write(expire.op_expire).error is not None
    assert not kit.shard.timers.is_scheduled(("expire more",))
    kit.sleep(SWEEP_MS)
    assert kit.shard.offsets.count == 0


def test_shards_look_at_times_of_their_own() -> None:
    kit = GroupKit()
    due = set()
    for _ in range(8):
        kit.start()  # the same source of chance, one load after the other
        due.add(kit.shard.timers.next_due_ms)
    assert len(due) > 4


def test_offsets_go_with_their_topic(kit: GroupKit) -> None:
    kit.image.add("wide", 50)
    for partition in range(50):
        kit.commit(1, topic="wide", partition=partition)
    kit.commit(2)
    kit.commit(3, topic="wide", group_id="other")
    gone = kit.image.remove("wide")
    kit.written()
    kit.config = GroupKit(message_max_bytes=2_000).config
    kit.log.failures = [0, errors.NOT_ENOUGH_REPLICAS]
    assert kit.write(lambda shard: shard.op_topics_deleted([gone])).error is None
    kit.clock.advance(1)
    kit.image.add("wide", 50)
    kit.commit(9, topic="wide", partition=49)  # refused
    kit.commit(9, topic="wide", partition=49)
    kit.sleep(5_000)
    assert kit.committed("wide", 49) == 9, "what was committed to its successor stays"
    assert kit.shard.offsets.count == 2 and list(kit.shard.groups) == [GROUP]


def test_a_start_makes_up_for_offsets_that_outlived_their_topic(
    kit: GroupKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker died after the topic's end and before that of its offsets."""
    monkeypatch.setattr(expire, "OFFSETS_PER_GO", 3)
    crowd(kit, "a", "b")
    kit.commit(1, group_id="a")
    kit.image.remove("wide")
    kit.clock.advance(1)
    kit.runtime.deactivate(INDEX)
    kit.start()
    kit.written()
    kit.runtime.run_due()
    assert kit.written() == [offset_tombstone("wide", partition, "a") for partition in range(3)]
    kit.image.add("wide", 4)
    kit.clock.advance(1)
    kit.commit(9, topic="wide", group_id="b")
    kit.image.remove("wide")
    kit.log.failures = [errors.NOT_ENOUGH_REPLICAS]
    kit.sleep(5_000)
    assert kit.committed("wide", 0, "b") == 9, "it was committed since"
    assert kit.shard.offsets.count == 2 and sorted(kit.shard.groups) == ["a", "b"]


def test_the_offsets_of_a_topic_go_in_pieces(
    kit: GroupKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each go looks at so many offsets, whatever they are of, and the next one goes on behind."""
    monkeypatch.setattr(expire, "OFFSETS_PER_GO", 10)
    names = [f"group-{number}" for number in range(6)]
    crowd(kit, *names)
    kit.commit(1, group_id="group-0")
    gone = kit.image.remove("wide")
    looked: list[str] = []
    pieces = expire.OffsetWalk.piece

    def piece(walk: expire.OffsetWalk, count: int) -> Any:
        found = pieces(walk, count)
        looked.append(found.group_id)
        return found

    monkeypatch.setattr(expire.OffsetWalk, "piece", piece)
    kit.written()
    kit.write(lambda shard: shard.op_topics_deleted([gone]))
    assert {record.key.group for record in kit.written()} == set(names[:2])
    kit.sleep(0)
    assert kit.shard.offsets.count == 1 and list(kit.shard.groups) == ["group-0"]
    assert len(looked) <= 9, "no group twice, but where a go ends within it"


def test_a_group_is_deleted_with_its_offsets(kit: GroupKit) -> None:
    assert code(kit.delete()) == errors.GROUP_ID_NOT_FOUND
    a = kit.member()
    kit.stable(a)
    a.commit(1)
    assert code(kit.delete()) == errors.NON_EMPTY_GROUP
    a.leave()
    kit.member().request_join()
    kit.written()
    assert kit.delete().result() is True
    assert kit.written() == [offset_tombstone("t"), GROUP_TOMBSTONE]
    assert kit.shard.groups == {}
    kit.sleep(MINUTE_MS)  # the pending member's session ends without effect
    kit.commit(5)
    kit.written()
    assert kit.delete().result() is True
    assert kit.written() == [offset_tombstone("t")]


def test_a_large_group_is_deleted_in_several_writes(kit: GroupKit) -> None:
    kit.config = GroupKit(message_max_bytes=2_000).config
    kit.image.add("wide", 100)
    for partition in range(100):
        kit.commit(1, topic="wide", partition=partition)
    rounds = 1
    while not kit.delete().result():
        rounds += 1
        assert rounds < 20
    assert rounds > 2 and kit.shard.groups == {}


def test_a_deletion_is_taken_in_pieces(kit: GroupKit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kbroker.coord.group.ops.delete.OFFSETS_PER_GO", 3)
    a = kit.member()
    kit.stable(a)
    for topic, partition in (("t", 0), ("t", 1), ("t", 2), ("u", 0)):
        a.commit(1, topic=topic, partition=partition)
    a.leave()
    kit.member().request_join()
    kit.written()
    assert kit.delete().result() is False
    assert kit.written() == [offset_tombstone("t", partition) for partition in range(3)]
    assert kit.state is State.EMPTY and len(kit.group().pending) == 1
    assert kit.delete().result() is True
    assert kit.written() == [offset_tombstone("u"), GROUP_TOMBSTONE] and not kit.shard.groups


def test_a_refused_deletion_leaves_everything(kit: GroupKit) -> None:
    a = kit.member()
    kit.stable(a)
    a.commit(1)
    a.leave()
    kit.log.failures = [errors.NOT_ENOUGH_REPLICAS]
    assert code(kit.delete()) == errors.COORDINATOR_NOT_AVAILABLE
    assert kit.committed() == 1 and kit.state is State.EMPTY


def listed(kit: GroupKit, states: tuple[str, ...] = (), types: tuple[str, ...] = ()) -> list[Any]:
    request = ListGroupsRequest(states_filter=list(states), types_filter=list(types))
    return list(kit.read(lambda shard: op_list(shard, request)).result())


def test_groups_are_listed_by_state_and_type(kit: GroupKit) -> None:
    kit.commit(1, group_id="simple")
    kit.stable(kit.member())
    kit.member(group_id="fresh").join()
    told = {g.group_id: (g.protocol_type, g.group_state, g.group_type) for g in listed(kit)}
    assert told == {
        "simple": ("", "Empty", "classic"),
        GROUP: ("consumer", "Stable", "classic"),
        "fresh": ("consumer", "PreparingRebalance", "classic"),
    }

    def names(*filters: tuple[str, ...]) -> set[str]:
        return {group.group_id for group in listed(kit, *filters)}

    assert names(("stable", "EMPTY")) == {"simple", GROUP}
    assert names(("PreparingRebalance",), ("Classic",)) == {"fresh"}
    assert names((), ("consumer",)) == set()
    assert names(("NoSuchState",)) == set() and names((), ("none",)) == set()


def described(kit: GroupKit, group_id: str = GROUP, version: int = 6) -> Any:
    return kit.read(lambda shard: op_describe(shard, caller(version), group_id)).result()


def test_groups_are_described(kit: GroupKit) -> None:
    missing = described(kit)
    assert (missing.error_code, missing.group_state) == (errors.GROUP_ID_NOT_FOUND, "Dead")
    assert missing.error_message == "Group g not found."
    older = described(kit, version=5)
    assert (older.error_code, older.group_state) == (errors.NONE, "Dead")
    a = kit.member(instance_id="i", client_id="me")
    kit.stable(a)
    told = described(kit)
    assert (told.group_state, told.protocol_type, told.protocol_data) == (
        "Stable", "consumer", "range",
    )  # fmt: skip
    (member,) = told.members
    assert (member.member_id, member.group_instance_id) == (a.member_id, "i")
    assert (member.client_id, member.client_host) == ("me", "/127.0.0.1")
    assert member.member_metadata == subscription("t")
    assert member.member_assignment == b"for " + a.member_id.encode()
    kit.member(version=3).join()
    told = described(kit)
    assert (told.group_state, told.protocol_data) == ("PreparingRebalance", "")
    assert [m.member_metadata for m in told.members] == [b"", b""]
