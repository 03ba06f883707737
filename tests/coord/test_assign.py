"""Assignors: every partition of a subscribed topic has exactly one subscriber; uniform is balanced
and moves no more than it must; range gives equal topics in equal ranges."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st
from kbroker.coord.group.assign import ASSIGNORS
from kbroker.coord.group.assign.range import assign_range
from kbroker.coord.group.assign.spec import NOTHING, Assignment, MemberSpec
from kbroker.coord.group.assign.uniform import assign_uniform


def topic(number: int) -> bytes:
    return bytes(15) + bytes([number])


def spec(*topics: int, target: Assignment = NOTHING, instance: str | None = None) -> MemberSpec:
    return MemberSpec(instance, frozenset(topic(number) for number in topics), target)


def placed(assignment: Mapping[str, Assignment]) -> dict[tuple[bytes, int], str]:
    owners: dict[tuple[bytes, int], str] = {}
    for member_id, topics in assignment.items():
        for topic_id, partitions in topics.items():
            assert partitions, "no topic without partitions"
            for partition in partitions:
                assert (topic_id, partition) not in owners, "two owners"
                owners[topic_id, partition] = member_id
    return owners


def load(assignment: Assignment) -> int:
    return sum(len(partitions) for partitions in assignment.values())


COUNTS = st.lists(st.integers(0, 12), min_size=1, max_size=5).map(
    lambda sizes: {topic(number): size for number, size in enumerate(sizes)}
)


@st.composite
def groups(draw: st.DrawFn) -> tuple[dict[str, MemberSpec], dict[bytes, int]]:
    """Members with any subscriptions, and targets as an earlier epoch may have left them: topics
    that are gone, shrunk, or not subscribed any more."""
    counts = draw(COUNTS)
    names = draw(st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1, max_size=8))
    topics = [*counts, topic(99)]
    owner_of = {
        (topic_id, partition): draw(st.sampled_from([*names, ""]))
        for topic_id in topics
        for partition in range(counts.get(topic_id, 1) + 1)
    }
    members = {}
    for name in names:
        target: dict[bytes, frozenset[int]] = {}
        for topic_id in topics:
            mine = frozenset(
                p for (t, p), owner in owner_of.items() if (t, owner) == (topic_id, name)
            )
            if mine:
                target[topic_id] = mine
        subscribed = frozenset(draw(st.sets(st.sampled_from(topics))))
        instance = draw(st.sampled_from([None, f"i-{name}"]))
        members[name] = MemberSpec(instance, subscribed, target)
    return members, counts


@given(groups())
def test_every_subscribed_partition_has_one_owner_that_subscribes(
    group: tuple[dict[str, MemberSpec], dict[bytes, int]],
) -> None:
    members, counts = group
    for name, assignor in ASSIGNORS.items():
        result = assignor(members, counts)
        assert result.keys() == members.keys(), name
        owners = placed(result)
        for (topic_id, _), member_id in owners.items():
            assert topic_id in members[member_id].topic_ids, name
        subscribed = frozenset[bytes]().union(*(member.topic_ids for member in members.values()))
        assert owners.keys() == {
            (topic_id, partition)
            for topic_id, count in counts.items()
            if topic_id in subscribed
            for partition in range(count)
        }, name


@given(groups())
def test_uniform_no_single_move_would_improve_the_balance(
    group: tuple[dict[str, MemberSpec], dict[bytes, int]],
) -> None:
    members, counts = group
    result = assign_uniform(members, counts)
    for (topic_id, _), owner in placed(result).items():
        for member_id, member in members.items():
            if topic_id in member.topic_ids:
                assert load(result[owner]) - load(result[member_id]) <= 1


@given(groups())
def test_uniform_with_equal_subscriptions_moves_only_what_exceeds_a_share(
    group: tuple[dict[str, MemberSpec], dict[bytes, int]],
) -> None:
    members, counts = group
    members = {
        name: member._replace(topic_ids=frozenset(counts)) for name, member in members.items()
    }
    before = {
        partition: owner
        for partition, owner in placed({n: m.target for n, m in members.items()}).items()
        if partition[1] < counts.get(partition[0], 0)
    }
    result = assign_uniform(members, counts)
    after = placed(result)
    loads = sorted(load(assignment) for assignment in result.values())
    assert loads[-1] - loads[0] <= 1

    held = sorted((list(before.values()).count(name) for name in members), reverse=True)
    quota, with_one_more = divmod(sum(counts.values()), len(members))
    least_moves = sum(
        max(0, had - quota - (index < with_one_more)) for index, had in enumerate(held)
    )
    moved = sum(after[partition] != owner for partition, owner in before.items())
    assert moved == least_moves


@given(groups())
def test_uniform_is_stable(group: tuple[dict[str, MemberSpec], dict[bytes, int]]) -> None:
    members, counts = group
    first = assign_uniform(members, counts)
    again = {name: member._replace(target=first[name]) for name, member in members.items()}
    assert assign_uniform(again, counts) == first


def test_uniform_a_member_that_joins_takes_its_share_and_nothing_else_moves() -> None:
    counts = {topic(0): 6}
    two = {"a": spec(0), "b": spec(0)}
    first = assign_uniform(two, counts)
    three = {
        **{name: member._replace(target=first[name]) for name, member in two.items()},
        "c": spec(0),
    }
    second = assign_uniform(three, counts)
    moved = [p for p, owner in placed(first).items() if placed(second)[p] != owner]
    assert len(moved) == 2
    assert all(placed(second)[partition] == "c" for partition in moved)


def test_range_equal_topics_are_co_partitioned() -> None:
    counts = {topic(0): 3, topic(1): 3}
    result = assign_range({"a": spec(0, 1), "b": spec(0, 1)}, counts)
    assert result == {
        "a": {topic(0): frozenset({0, 1}), topic(1): frozenset({0, 1})},
        "b": {topic(0): frozenset({2}), topic(1): frozenset({2})},
    }


def test_range_static_members_come_first_whatever_their_member_ids() -> None:
    counts = {topic(0): 3}
    before = assign_range(
        {"m0": spec(0, instance="i0"), "m1": spec(0, instance="i1"), "a": spec(0)}, counts
    )
    after = assign_range(
        {"z0": spec(0, instance="i0"), "m1": spec(0, instance="i1"), "a": spec(0)}, counts
    )
    assert before["m0"] == after["z0"] == {topic(0): frozenset({0})}
    assert before["m1"] == after["m1"]
    assert before["a"] == after["a"]


def test_range_different_subscriptions() -> None:
    counts = {topic(0): 4, topic(1): 2}
    result = assign_range({"a": spec(0), "b": spec(0, 1), "c": spec(1)}, counts)
    assert result == {
        "a": {topic(0): frozenset({0, 1})},
        "b": {topic(0): frozenset({2, 3}), topic(1): frozenset({0})},
        "c": {topic(1): frozenset({1})},
    }
