"""The stepper of one member: every state and way out of it, and, over all small cases, that no
order of steps gives a partition two owners and that every order ends with everybody at the target.
"""

from __future__ import annotations

from itertools import permutations, product

import pytest
from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.coord.group.assign.spec import Assignment, group_by_topic
from kbroker.coord.group.consumer.member import ConsumerMember, Held, pairs
from kbroker.coord.group.reconcile import (
    STABLE,
    UNRELEASED_PARTITIONS,
    UNREVOKED_PARTITIONS,
    is_reconciled,
    reconcile,
)

T = bytes(15) + b"\1"
U = bytes(15) + b"\2"


def held(epoch: int, *partitions: int, topic: bytes = T) -> Held:
    return {topic: dict.fromkeys(partitions, epoch)} if partitions else {}


def target(*partitions: int) -> Assignment:
    return {T: frozenset(partitions)} if partitions else {}


def free(topic_id: bytes, partition: int) -> str | None:
    return None


def member(**fields: object) -> ConsumerMember:
    return ConsumerMember("m")._replace(**fields)


def test_stable_at_the_target_stays() -> None:
    m = member(member_epoch=5, assigned=held(4, 1, 2))
    assert reconcile(m, 5, target(7), free, None) is m


def test_new_partitions_come_with_the_epoch_that_assigned_them() -> None:
    m = member(member_epoch=4, previous_member_epoch=3, assigned=held(2, 1))
    stepped = reconcile(m, 5, target(1, 2), free, None)
    assert stepped == m._replace(
        member_epoch=5, previous_member_epoch=4, state=STABLE, assigned={T: {1: 2, 2: 5}}
    )


def test_what_must_go_is_asked_for_in_the_old_epoch() -> None:
    m = member(member_epoch=4, previous_member_epoch=3, assigned=held(2, 1, 2))
    stepped = reconcile(m, 5, target(2, 3), free, None)
    assert stepped == m._replace(
        previous_member_epoch=4,
        state=UNREVOKED_PARTITIONS,
        assigned=held(2, 2),
        pending=held(2, 1),
    )
    # Nothing happens until the member says what it has, without what it gave up.
    assert reconcile(stepped, 5, target(2, 3), free, None) is stepped
    assert reconcile(stepped, 5, target(2, 3), free, {T: {1, 2}}) is stepped
    done = reconcile(stepped, 5, target(2, 3), free, {T: {2}})
    assert done == m._replace(
        member_epoch=5,
        previous_member_epoch=4,
        state=STABLE,
        assigned={T: {2: 2, 3: 5}},
    )


def test_who_has_given_up_before_being_asked_goes_on_at_once() -> None:
    m = member(member_epoch=4, assigned=held(2, 1, 2))
    stepped = reconcile(m, 5, target(2), free, {T: [2]})
    assert (stepped.state, stepped.member_epoch, stepped.pending) == (STABLE, 5, {})


def test_more_to_revoke_is_asked_for_in_the_same_epoch() -> None:
    m = member(
        member_epoch=4, state=UNREVOKED_PARTITIONS, assigned=held(2, 2, 3), pending=held(2, 1)
    )
    stepped = reconcile(m, 7, target(3), free, {T: [2, 3]})
    assert stepped == m._replace(
        previous_member_epoch=4,
        state=UNREVOKED_PARTITIONS,
        assigned=held(2, 3),
        pending=held(2, 2),
    )


def test_a_partition_that_somebody_has_is_waited_for_in_the_new_epoch() -> None:
    def owner_of(topic_id: bytes, partition: int) -> str | None:
        return "other" if partition == 3 else None

    m = member(member_epoch=4, assigned=held(2, 1))
    stepped = reconcile(m, 5, target(1, 2, 3), owner_of, None)
    assert stepped == m._replace(
        member_epoch=5,
        previous_member_epoch=4,
        state=UNRELEASED_PARTITIONS,
        assigned={T: {1: 2, 2: 5}},
    )
    # It asked in the new epoch, so the one before is over.
    stepped = stepped._replace(previous_member_epoch=5)
    assert reconcile(stepped, 5, target(1, 2, 3), owner_of, None) == stepped
    assert not is_reconciled(stepped, 5)
    done = reconcile(stepped, 5, target(1, 2, 3), free, None)
    assert done == stepped._replace(state=STABLE, assigned={T: {1: 2, 2: 5, 3: 5}})
    assert is_reconciled(done, 5)


def test_what_a_member_gave_up_itself_it_may_get_back() -> None:
    m = member(member_epoch=4, state=UNREVOKED_PARTITIONS, pending=held(2, 1))
    stepped = reconcile(m, 6, target(1), lambda topic_id, partition: "m", {})
    assert (stepped.state, stepped.assigned) == (STABLE, held(6, 1))


def test_an_unknown_state_begins_with_nothing() -> None:
    m = member(member_epoch=4, state=77)
    for reported in (None, {T: [1]}):
        with pytest.raises(KafkaError) as refused:
            reconcile(m, 5, target(1), free, reported)
        assert refused.value.code == errors.FENCED_MEMBER_EPOCH
    assert reconcile(m, 5, target(1), free, {}).state == STABLE


class World:
    """Members with what the clients believe they have; a client takes what an answer gives it and
    drops the rest with its next heartbeat."""

    def __init__(self, before: dict[str, set[int]], after: dict[str, set[int]]) -> None:
        self.members = {
            name: ConsumerMember(name, member_epoch=1, assigned=held(1, *partitions))
            for name, partitions in before.items()
        }
        self.clients = {name: set(partitions) for name, partitions in before.items()}
        self.after = {
            name: group_by_topic((T, partition) for partition in partitions)
            for name, partitions in after.items()
        }

    def owner_of(self, topic_id: bytes, partition: int) -> str | None:
        for one in self.members.values():
            if (topic_id, partition) in [*pairs(one.assigned), *pairs(one.pending)]:
                return one.member_id
        return None

    def heartbeat(self, name: str, *, told: bool) -> None:
        reported = {T: sorted(self.clients[name])} if told else None
        before = self.members[name]
        stepped = reconcile(before, 2, self.after[name], self.owner_of, reported)
        self.members[name] = stepped
        if stepped.assigned != before.assigned or told:
            self.clients[name] = {partition for _, partition in pairs(stepped.assigned)}
        self.check()

    def check(self) -> None:
        owned = [
            partition
            for one in self.members.values()
            for partition in [*pairs(one.assigned), *pairs(one.pending)]
        ]
        assert len(owned) == len(set(owned)), "two owners"
        for name, partitions in self.clients.items():
            mine = [*pairs(self.members[name].assigned), *pairs(self.members[name].pending)]
            assert {(T, partition) for partition in partitions} <= set(mine)


def splits(partitions: int, names: str) -> list[dict[str, set[int]]]:
    return [
        {name: {p for p, owner in enumerate(owners) if owner == name} for name in names}
        for owners in product(names, repeat=partitions)
    ]


@pytest.mark.parametrize("told", [(True,), (True, False)], ids=["always told", "told or not"])
def test_any_order_of_heartbeats_hands_over_without_two_owners_and_ends(
    told: tuple[bool, ...],
) -> None:
    """All 27 x 27 pairs of assignments of three partitions to three members, all orders."""
    for before, after in product(splits(3, "abc"), repeat=2):
        for order in permutations("abc"):
            world = World(before, after)
            for round_number in range(4):
                for name in order:
                    world.heartbeat(name, told=told[round_number % len(told)])
            world_ends(world)


def world_ends(world: World) -> None:
    for _ in range(2):
        for name in world.members:
            world.heartbeat(name, told=True)
    for name, one in world.members.items():
        assert is_reconciled(one, 2)
        assert {p for _, p in pairs(one.assigned)} == {p for _, p in pairs(world.after[name])}
        assert one.pending == {}
        assert world.clients[name] == {p for _, p in pairs(one.assigned)}
