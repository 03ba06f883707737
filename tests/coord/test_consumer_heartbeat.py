"""ConsumerGroupHeartbeat against a shard under the real runtime: joining and leaving, epochs, lost
answers, hand-over between members, static members, timers, and changes of the metadata."""

from __future__ import annotations

import pytest
from kbroker.base import errors
from kbroker.coord.group import schema
from kbroker.coord.group.classic import ClassicGroup
from kbroker.coord.group.env import Caller
from kbroker.coord.group.ops.commit import op_commit
from kbroker.coord.group.ops.consumer_describe import op_consumer_describe
from kbroker.coord.group.reconcile import STABLE, UNRELEASED_PARTITIONS, UNREVOKED_PARTITIONS
from kbroker.coord.group.serde import decode_record
from kbroker.coord.result import Result
from kbroker.wire.schema.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)

from tests.coord.classic_client import ClassicClient, classic_group
from tests.coord.commits import parsed, told
from tests.coord.consumer_kit import (
    INDEX,
    REBALANCE_MS,
    SESSION_MS,
    ConsumerKit,
    check_owners,
    code_of,
    owned_of,
    settle,
    topic_id,
)


@pytest.fixture
def kit() -> ConsumerKit:
    kit = ConsumerKit()
    kit.topics(t=4, u=2)
    return kit


def kinds(kit: ConsumerKit, since: int) -> list[str]:
    """The types of the records that were written since, "-" in front of a tombstone."""
    found = []
    for key, value in kit.log.records(INDEX)[since:]:
        record = decode_record(key, value)
        assert record is not None
        name = type(record.key).__name__.removesuffix("Key").removeprefix("ConsumerGroup")
        found.append(name if value is not None else f"-{name}")
    return found


# Joining


def test_the_first_member_gets_everything_in_one_answer(kit: ConsumerKit) -> None:
    response = kit.join("a", "t", "u")
    assert (response.member_id, response.member_epoch) == ("a", 1)
    assert response.heartbeat_interval_ms == 5_000
    assert owned_of(response) == {"t": {0, 1, 2, 3}, "u": {0, 1}}
    assert kinds(kit, 0) == [
        "MemberMetadata",
        "Metadata",
        "TargetAssignmentMember",
        "TargetAssignmentMetadata",
        "CurrentMemberAssignment",
    ]
    assert kit.group().state_name == "Stable"
    # A heartbeat without news writes nothing and carries no assignment.
    before = kit.log.next_offset(INDEX)
    quiet = kit.heartbeat("a", 1)
    assert (quiet.member_epoch, quiet.assignment) == (1, None)
    assert kit.log.next_offset(INDEX) == before
    assert kit.group().checked_version == kit.image.version, "so it looks at no topic either"


def test_a_full_request_is_answered_in_full(kit: ConsumerKit) -> None:
    kit.join("a", "t")
    full = {"rebalance_timeout_ms": REBALANCE_MS, "subscribed_topic_names": ["t"]}
    assert owned_of(kit.heartbeat("a", 1, owned={"t": range(4)}, **full)) == {"t": {0, 1, 2, 3}}
    assert kit.heartbeat("a", 1, **full).assignment is None


def test_version_0_lets_the_broker_name_the_member(kit: ConsumerKit) -> None:
    old = Caller("client", "/127.0.0.1", 0)
    response = kit.join("", "t", caller=old)
    assert response.member_id
    assert len(response.member_id) == 36
    assert kit.member(response.member_id).client_host == "/127.0.0.1"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"group": " "}, errors.INVALID_REQUEST),
        ({"member_id": ""}, errors.INVALID_REQUEST),
        ({"instance_id": ""}, errors.INVALID_REQUEST),
        ({"rack_id": " "}, errors.INVALID_REQUEST),
        ({"rebalance_timeout_ms": -1}, errors.INVALID_REQUEST),
        ({"owned": None}, errors.INVALID_REQUEST),
        ({"owned": {"t": [0]}}, errors.INVALID_REQUEST),
        ({"subscribed_topic_names": None}, errors.INVALID_REQUEST),
        ({"epoch": -3}, errors.INVALID_REQUEST),
        ({"epoch": -2}, errors.INVALID_REQUEST),
        ({"epoch": -1, "member_id": ""}, errors.INVALID_REQUEST),
        ({"server_assignor": "sticky"}, errors.UNSUPPORTED_ASSIGNOR),
        ({"subscribed_topic_regex": "(?=t)"}, errors.INVALID_REGULAR_EXPRESSION),
        ({"subscribed_topic_regex": "t" * 5000}, errors.INVALID_REGULAR_EXPRESSION),
        ({"epoch": 1}, errors.GROUP_ID_NOT_FOUND),
        ({"epoch": -1}, errors.GROUP_ID_NOT_FOUND),
    ],
)
def test_requests_that_are_refused(kit: ConsumerKit, fields: dict[str, object], code: int) -> None:
    request: dict[str, object] = {
        "member_id": "a",
        "epoch": 0,
        "owned": {},
        "subscribed_topic_names": ["t"],
        "rebalance_timeout_ms": 1000,
        **fields,
    }
    assert code_of(lambda: kit.heartbeat(**request)) == code  # type: ignore[arg-type]
    assert not kit.has_group("g")
    assert kit.log.records(INDEX) == []


def test_a_group_that_is_full(kit: ConsumerKit) -> None:
    kit.configure(group_consumer_max_size="1")
    kit.join("a", "t", instance_id="i")
    assert code_of(lambda: kit.join("b", "t")) == errors.GROUP_MAX_SIZE_REACHED
    kit.heartbeat("a", -2, instance_id="i")
    assert owned_of(kit.join("b", "t", instance_id="i")) == {"t": {0, 1, 2, 3}}


def test_a_refused_write_changes_nothing_and_may_be_tried_again(kit: ConsumerKit) -> None:
    kit.log.failures = [errors.NOT_ENOUGH_REPLICAS]
    assert code_of(lambda: kit.join("a", "t")) == errors.COORDINATOR_NOT_AVAILABLE
    assert not kit.has_group()
    assert kit.join("a", "t").member_epoch == 1


# Epochs


def test_epochs_that_are_not_the_members_are_fenced(kit: ConsumerKit) -> None:
    kit.join("a", "t")
    assert code_of(lambda: kit.heartbeat("b", 1)) == errors.UNKNOWN_MEMBER_ID
    assert code_of(lambda: kit.heartbeat("a", 2)) == errors.FENCED_MEMBER_EPOCH
    client = kit.client("b", "t")
    for _ in range(3):
        kit.heartbeat("a", 1, owned={"t": [0, 1]}) if kit.member("a").member_epoch == 1 else None
        client.beat()
    assert kit.member("a").member_epoch == 2
    # The answer with epoch 2 was lost: fine, as long as it reports nothing but what it has.
    assert kit.heartbeat("a", 1, owned={"t": [0, 1]}).member_epoch == 2
    assert kit.heartbeat("a", 1, owned={}).member_epoch == 2
    assert code_of(lambda: kit.heartbeat("a", 1)) == errors.FENCED_MEMBER_EPOCH
    assert code_of(lambda: kit.heartbeat("a", 1, owned={"t": [3]})) == errors.FENCED_MEMBER_EPOCH
    assert code_of(lambda: kit.heartbeat("a", 1, owned={"x": [0]})) == errors.FENCED_MEMBER_EPOCH


def test_a_join_whose_answer_was_lost_is_repeated_without_a_rebalance(kit: ConsumerKit) -> None:
    first = kit.join("a", "t")
    before = kit.log.next_offset(INDEX)
    assert kit.join("a", "t") == first
    assert kit.log.next_offset(INDEX) == before


def test_a_fenced_member_joins_again_and_keeps_its_place(kit: ConsumerKit) -> None:
    a = kit.client("a", "t")
    b = kit.client("b", "t")
    settle(a, b)
    epoch = kit.group().epoch
    assert code_of(lambda: kit.heartbeat("a", 77)) == errors.FENCED_MEMBER_EPOCH
    a.join("t")
    assert a.owned == {"t": {0, 1}}
    assert kit.group().epoch == epoch


def test_an_invalid_epoch_below_zero_changes_nothing(kit: ConsumerKit) -> None:
    kit.join("a", "t")
    assert code_of(lambda: kit.heartbeat("a", -5)) == errors.INVALID_REQUEST
    assert kit.member("a").member_epoch == 1


# Hand-over


def test_a_partition_is_handed_over_only_when_it_was_given_up(kit: ConsumerKit) -> None:
    kit.client("a", "t")
    b = kit.client("b", "t")
    assert (b.epoch, b.owned) == (2, {})
    assert kit.member("b").state == UNRELEASED_PARTITIONS
    assert kit.group().state_name == "Reconciling"

    asked = kit.heartbeat("a", 1)
    assert (asked.member_epoch, owned_of(asked)) == (1, {"t": {0, 1}})
    assert kit.member("a").state == UNREVOKED_PARTITIONS
    described = op_consumer_describe(kit.shard, "g").members
    assert [each.assignment.topic_partitions[0].partitions for each in described[:1]] == [
        [0, 1, 2, 3]
    ], "what it has not given up is its own"
    assert kit.heartbeat("b", 2).assignment is None, "a has not said that it gave them up"
    assert kit.heartbeat("a", 1, owned={"t": range(4)}).assignment is None

    done = kit.heartbeat("a", 1, owned={"t": [0, 1]})
    assert (done.member_epoch, done.assignment) == (2, None)
    b.beat()
    assert b.owned == {"t": {2, 3}}
    assert kit.group().state_name == "Stable"
    check_owners(kit.group())
    # Each partition has the epoch that assigned it, also after a restart.
    kit.restart()
    assert kit.member("a").assigned == {topic_id("t"): {0: 1, 1: 1}}
    assert kit.member("b").assigned == {topic_id("t"): {2: 2, 3: 2}}


def test_three_members_share_and_a_leaver_is_made_up_for(kit: ConsumerKit) -> None:
    kit.topics(t=9)
    a, b, c = (kit.client(name, "t") for name in "abc")
    settle(a, b, c)
    assert [len(client.owned["t"]) for client in (a, b, c)] == [3, 3, 3]
    kept = {name: set(client.owned["t"]) for name, client in (("a", a), ("c", c))}
    b.leave()
    assert kit.group().state_name == "Assigning"
    settle(a, c)
    assert sorted(len(client.owned["t"]) for client in (a, c)) == [4, 5]
    assert kept["a"] < a.owned["t"]
    assert kept["c"] < c.owned["t"]


def test_the_assignor_that_most_members_ask_for_is_used(kit: ConsumerKit) -> None:
    kit.topics(t=3, u=3)
    a = kit.client("a", "t", "u", server_assignor="range")
    b = kit.client("b", "t", "u", server_assignor="range")
    c = kit.client("c", "t", "u", server_assignor="uniform")
    settle(a, b, c)
    assert a.owned == {"t": {0}, "u": {0}}
    assert b.owned == {"t": {1}, "u": {1}}


def test_a_changed_subscription_is_a_new_epoch_and_gives_up_the_old_topic(
    kit: ConsumerKit,
) -> None:
    a = kit.client("a", "t")
    response = a.beat(subscribed_topic_names=["u"])
    assert (kit.group().epoch, response.member_epoch) == (2, 1)
    assert a.owned == {}
    a.beat()
    assert (a.epoch, a.owned) == (2, {"u": {0, 1}})
    # The same names in another order are the same subscription.
    a.beat(subscribed_topic_names=["u", "u"])
    assert kit.group().epoch == 2


# Leaving and timers


def test_the_last_member_leaves_an_empty_group(kit: ConsumerKit) -> None:
    kit.join("a", "t")
    since = kit.log.next_offset(INDEX)
    response = kit.heartbeat("a", -1)
    assert (response.member_id, response.member_epoch) == ("a", -1)
    assert kinds(kit, since) == [
        "-CurrentMemberAssignment",
        "-TargetAssignmentMember",
        "-MemberMetadata",
        "Metadata",
    ]
    assert kit.group().state_name == "Empty"
    assert code_of(lambda: kit.heartbeat("a", 1)) == errors.UNKNOWN_MEMBER_ID
    assert code_of(lambda: kit.heartbeat("a", -1)) == errors.UNKNOWN_MEMBER_ID
    assert kit.join("a", "t").member_epoch == 3


def test_a_silent_member_is_taken_out_and_a_beating_one_is_not(kit: ConsumerKit) -> None:
    a = kit.client("a", "t")
    b = kit.client("b", "t")
    settle(a, b)
    for _ in range(3):
        kit.advance(SESSION_MS // 2)
        a.beat()
    assert list(kit.group().members) == ["a"]
    settle(a)
    assert a.owned == {"t": {0, 1, 2, 3}}
    kit.advance(SESSION_MS)
    assert kit.group().is_empty


def test_the_session_timeout_is_the_groups(kit: ConsumerKit) -> None:
    kit.group_overrides["g"] = {
        "consumer.session.timeout.ms": "50000",
        "consumer.heartbeat.interval.ms": "7000",
    }
    assert kit.join("a", "t").heartbeat_interval_ms == 7_000
    kit.advance(49_999)
    assert not kit.group().is_empty
    kit.advance(1)
    assert kit.group().is_empty


def test_an_expiry_that_cannot_be_written_is_tried_again(kit: ConsumerKit) -> None:
    kit.join("a", "t")
    kit.log.failures = [errors.NOT_ENOUGH_REPLICAS]
    kit.advance(SESSION_MS)
    assert not kit.group().is_empty
    kit.advance(500)
    assert kit.group().is_empty


def test_who_does_not_give_up_in_time_is_taken_out(kit: ConsumerKit) -> None:
    kit.join("a", "t", rebalance_timeout_ms=10_000)
    b = kit.client("b", "t")
    kit.heartbeat("a", 1)
    assert kit.member("a").state == UNREVOKED_PARTITIONS
    kit.advance(9_999)
    kit.heartbeat("a", 1, owned={"t": range(4)})
    b.beat()
    kit.advance(1)
    assert list(kit.group().members) == ["b"]
    settle(b)
    assert b.owned == {"t": {0, 1, 2, 3}}


def test_who_gives_up_in_time_stays(kit: ConsumerKit) -> None:
    kit.join("a", "t", rebalance_timeout_ms=10_000)
    kit.client("b", "t")
    kit.heartbeat("a", 1)
    kit.heartbeat("a", 1, owned={"t": [0, 1]})
    kit.advance(10_000)
    assert "a" in kit.group().members


# Static members


def test_a_static_member_is_away_and_comes_back_without_a_rebalance(kit: ConsumerKit) -> None:
    a = kit.client("a", "t", instance_id="i")
    b = kit.client("b", "t")
    settle(a, b)
    mine, epoch = a.owned, kit.group().epoch
    left = kit.heartbeat("a", -2, instance_id="i")
    assert (left.member_id, left.member_epoch) == ("a", -2)
    b.beat()
    assert b.owned == {"t": {2, 3}}, "nobody takes what is kept for it"
    assert code_of(lambda: kit.heartbeat("a", 2, instance_id="i")) == errors.FENCED_MEMBER_EPOCH
    back = kit.join("a2", "t", instance_id="i")
    assert (back.member_epoch, owned_of(back)) == (epoch, mine)
    assert (kit.group().epoch, set(kit.group().members)) == (epoch, {"a2", "b"})
    assert kit.group().statics == {"i": "a2"}
    assert kit.group().state_name == "Stable"
    assert code_of(lambda: kit.heartbeat("a", epoch, instance_id="i")) == errors.FENCED_INSTANCE_ID
    check_owners(kit.group())


def test_a_static_member_comes_back_under_the_same_member_id(kit: ConsumerKit) -> None:
    a = kit.client("a", "t", instance_id="i")
    kit.heartbeat("a", -2, instance_id="i")
    a.join("t", instance_id="i")
    assert (a.epoch, a.owned) == (1, {"t": {0, 1, 2, 3}})
    assert kit.member("a").state == STABLE


def test_an_instance_id_that_is_in_use(kit: ConsumerKit) -> None:
    kit.join("a", "t", instance_id="i")
    assert code_of(lambda: kit.join("b", "t", instance_id="i")) == errors.UNRELEASED_INSTANCE_ID
    unknown = errors.UNKNOWN_MEMBER_ID
    assert code_of(lambda: kit.heartbeat("a", 1, instance_id="j")) == unknown
    assert code_of(lambda: kit.heartbeat("a", -2, instance_id="j")) == unknown
    assert code_of(lambda: kit.heartbeat("b", -1, instance_id="i")) == errors.FENCED_INSTANCE_ID
    kit.heartbeat("a", -1, instance_id="i")
    assert kit.group().statics == {}
    kit.join("b", "t", instance_id="i")


def test_an_instance_id_that_a_member_had_is_free(kit: ConsumerKit) -> None:
    """Kafka keeps the old one for ever, and refuses it with UNKNOWN_MEMBER_ID."""
    kit.join("a", "t", instance_id="i")
    kit.join("a", "t", instance_id="j")
    assert dict(kit.group().statics) == {"j": "a"}
    kit.join("b", "t", instance_id="i")
    kit.heartbeat("a", -1, instance_id="j")
    kit.join("c", "t", instance_id="j")
    assert dict(kit.group().statics) == {"i": "b", "j": "c"}


def test_a_member_takes_the_place_of_a_static_one_that_is_away(kit: ConsumerKit) -> None:
    kit.client("s", "t", instance_id="i")
    kit.client("a", "t")
    kit.heartbeat("s", -2, instance_id="i")
    a = kit.client("a", "t", instance_id="i")
    a.beat()
    assert set(kit.group().members) == {"a"}
    assert a.owned == {"t": {0, 1, 2, 3}}
    check_owners(kit.group())


def test_who_is_giving_up_gives_up_topics_that_it_left_at_once(kit: ConsumerKit) -> None:
    kit.topics(t=4, u=2)
    kit.client("a", "t", "u")
    kit.client("b", "t")
    assert owned_of(kit.heartbeat("a", 1)) == {"t": {0}, "u": {0, 1}}
    told = kit.heartbeat("a", 1, subscribed_topic_names=["t"])
    assert (told.member_epoch, owned_of(told)) == (1, {"t": {0}})
    assert set(kit.member("a").pending[topic_id("u")]) == {0, 1}
    check_owners(kit.group())


def test_a_static_member_that_does_not_come_back_is_taken_out(kit: ConsumerKit) -> None:
    kit.join("a", "t", instance_id="i")
    kit.heartbeat("a", -2, instance_id="i")
    kit.advance(SESSION_MS)
    assert kit.group().is_empty
    assert kit.group().statics == {}


def test_going_away_frees_what_was_being_given_up(kit: ConsumerKit) -> None:
    kit.client("a", "t", instance_id="i")
    b = kit.client("b", "t")
    kit.heartbeat("a", 1)
    kit.heartbeat("a", -2, instance_id="i")
    b.beat()
    assert b.owned == {"t": {2, 3}}
    kit.advance(SESSION_MS - 1)
    assert "a" in kit.group().members, "no rebalance timer is left behind"


# Metadata


def test_topics_that_appear_grow_and_go(kit: ConsumerKit) -> None:
    a = kit.client("a", "t", "later")
    assert a.owned == {"t": {0, 1, 2, 3}}
    kit.topics(other=1)
    a.beat()
    assert kit.group().epoch == 1, "nobody reads it"
    kit.topics(later=1, t=5)
    a.beat()
    assert (a.epoch, a.owned) == (2, {"t": {0, 1, 2, 3, 4}, "later": {0}})
    kit.topics(t=0)
    a.beat()
    a.beat()
    assert (a.epoch, a.owned) == (3, {"later": {0}})
    before = kit.log.next_offset(INDEX)
    a.beat()
    assert kit.log.next_offset(INDEX) == before


def test_a_pattern_matches_whole_names_and_follows_the_metadata(kit: ConsumerKit) -> None:
    kit.topics(**{"in-1": 1, "in-2": 1, "main-1": 1, "__consumer_offsets": 2})
    a = kit.client("a", subscribed_topic_regex="in-.*|.*offsets")
    assert a.owned == {"in-1": {0}, "in-2": {0}}
    kit.topics(**{"in-3": 2})
    a.beat()
    assert a.owned == {"in-1": {0}, "in-2": {0}, "in-3": {0, 1}}
    assert kit.group().is_subscribed("in-3")
    kit.topics(**{"in-1": 0, "out-1": 1})
    a.beat()
    a.beat()
    assert a.owned == {"in-2": {0}, "in-3": {0, 1}}
    # "" takes the pattern back, names stay possible beside it.
    since = kit.log.next_offset(INDEX)
    a.beat(subscribed_topic_regex="", subscribed_topic_names=["main-1"])
    a.beat()
    assert a.owned == {"main-1": {0}}
    assert "-RegularExpression" in kinds(kit, since)
    assert kit.group().regexes == {}


def test_a_pattern_goes_with_its_last_member(kit: ConsumerKit) -> None:
    kit.join("a", subscribed_topic_regex="t")
    kit.join("b", subscribed_topic_regex="t")
    kit.heartbeat("a", -1)
    assert set(kit.group().regexes) == {"t"}
    kit.heartbeat("b", -1)
    assert kit.group().regexes == {}


def test_names_and_a_pattern_together(kit: ConsumerKit) -> None:
    response = kit.join("a", "t", subscribed_topic_regex="u")
    assert owned_of(response) == {"t": {0, 1, 2, 3}, "u": {0, 1}}


# What the records keep


def test_a_restart_forgets_nothing_but_the_time(kit: ConsumerKit) -> None:
    kit.join("a", "t", instance_id="i", rack_id="r", server_assignor="range")
    kit.join("b", subscribed_topic_regex="u|t")
    kit.heartbeat("a", 1, instance_id="i")
    before = kit.group()
    kit.advance(SESSION_MS - 1)
    kit.restart()
    after = kit.group()
    assert after is not before
    for name in ("members", "targets", "statics", "owners", "regexes"):
        assert getattr(after, name) == getattr(before, name), name
    assert (after.epoch, after.assignment_epoch) == (before.epoch, before.assignment_epoch)
    assert after.metadata_hash == before.metadata_hash
    kit.advance(SESSION_MS - 1)
    assert set(after.members) == {"a", "b"}, "sessions begin anew"
    kit.advance(1)
    assert after.is_empty


def test_a_rebalance_timeout_goes_on_after_a_restart(kit: ConsumerKit) -> None:
    kit.join("a", "t", rebalance_timeout_ms=10_000)
    kit.join("b", "t")
    kit.heartbeat("a", 1)
    kit.restart()
    kit.advance(10_000)
    assert set(kit.group().members) == {"b"}


def test_records_of_a_broker_that_wrote_no_epochs_of_partitions(kit: ConsumerKit) -> None:
    kit.join("a", "t")
    group = kit.group()
    value = schema.ConsumerGroupCurrentMemberAssignmentValue(
        member_epoch=7,
        assigned_partitions=[
            schema.CurrentTopicPartitions(topic_id=b"t".ljust(16, b"\0"), partitions=[0, 1])
        ],
    )
    group.replay_current("a", value)
    assert kit.member("a").assigned == {b"t".ljust(16, b"\0"): {0: 7, 1: 7}}


# Commits


def test_who_may_commit_and_read(kit: ConsumerKit) -> None:
    kit.join("a", "t")
    group = kit.group()
    group.check_commit("a", None, 1, 9)
    group.check_fetch("a", 1)
    group.check_fetch(None, -1)
    stale, unknown = errors.STALE_MEMBER_EPOCH, errors.UNKNOWN_MEMBER_ID
    assert code_of(lambda: group.check_commit("a", None, 0, 9)) == stale
    assert code_of(lambda: group.check_commit("a", None, 2, 9)) == stale
    assert code_of(lambda: group.check_fetch("a", 2)) == stale
    assert code_of(lambda: group.check_commit("b", None, 1, 9)) == unknown
    assert code_of(lambda: group.check_fetch("b", 1)) == unknown
    assert code_of(lambda: group.check_commit("", None, -1, 9)) == unknown
    assert code_of(lambda: group.check_commit("a", None, 1, 8)) == errors.UNSUPPORTED_VERSION
    group.check_commit("a", None, 1, 3, transactional=True)
    assert code_of(group.check_delete) == errors.NON_EMPTY_GROUP
    kit.heartbeat("a", -1)
    group = kit.group()
    group.check_commit("", None, -1, 2)
    group.check_delete()


def commit(kit: ConsumerKit, member_id: str, epoch: int, *partitions: int) -> list[int]:
    request = OffsetCommitRequest(
        group_id="g",
        member_id=member_id,
        generation_id_or_member_epoch=epoch,
        topics=[
            OffsetCommitRequestTopic(
                name="t",
                partitions=[
                    OffsetCommitRequestPartition(partition_index=partition, committed_offset=5)
                    for partition in partitions
                ],
            )
        ],
    )
    response = told(kit.call(lambda shard: op_commit(shard, parsed(request))))
    return [partition.error_code for partition in response.topics[0].partitions]


def test_a_commit_in_an_epoch_that_is_over_is_taken_for_what_the_member_had_and_still_has(
    kit: ConsumerKit,
) -> None:
    a = kit.client("a", "t")
    b = kit.client("b", "t")
    stale = errors.STALE_MEMBER_EPOCH
    a.beat()
    assert commit(kit, "a", 1, 0, 3) == [0, 0], "what it is giving up it commits now"
    settle(a, b)
    assert commit(kit, "a", 2, 0, 3) == [0, 0]
    assert commit(kit, "a", 1, 0, 3) == [0, stale]
    assert commit(kit, "b", 1, 0, 3) == [stale, stale], "it had nothing in epoch 1"
    assert commit(kit, "a", 0, 0) == commit(kit, "a", 3, 0) == [stale]
    assert commit(kit, "", -1, 0) == [errors.UNKNOWN_MEMBER_ID]


def test_a_classic_member_commits_in_a_generation_that_is_over(kit: ConsumerKit) -> None:
    c = ClassicClient(kit, "c", "t", cooperative=True)
    classic_group(kit, c)
    a = kit.client("a", "t")
    for _ in range(4):
        c.poll()
        a.beat()
    over = errors.ILLEGAL_GENERATION
    first = c.generation - 1
    mine = c.owned["t"][0]
    theirs = next(iter(a.owned["t"]))
    assert commit(kit, c.member_id, first, mine, theirs) == [0, over]
    assert commit(kit, c.member_id, c.generation + 1, mine) == [over]


def test_offsets_outlive_a_group_that_ends_without_them(kit: ConsumerKit) -> None:
    kit.join("a", "t")
    assert commit(kit, "a", 1, 0) == [0]
    kit.heartbeat("a", -1)
    kit.call(lambda shard: Result(None, kit.group().tombstones()))
    for _ in range(2):
        assert isinstance(kit.shard.groups["g"], ClassicGroup)
        assert kit.shard.offsets.get("g", "t", 0) is not None
        kit.restart()
    assert owned_of(kit.join("a", "t")) == {"t": {0, 1, 2, 3}}
    assert kit.shard.offsets.get("g", "t", 0) is not None
