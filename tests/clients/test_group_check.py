"""The checks of the soak see what they are for: histories with one fault each."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tests.clients.driven import DrivenClient
from tests.clients.group_check import (
    check_acknowledged_commits_go_forward,
    check_nothing_is_owned_twice,
)
from tests.clients.group_members import Group, Hosts, Member

Told = tuple[float, str, int, list[Any]]  # at, event, generation, partitions or offsets


def group_of(*histories: list[Told], kind: str = "confluent") -> Group:
    group = Group(cast(Hosts, None), "g", "t", 2)
    for history in histories:
        name = f"g/{kind}-{len(group.members)}"
        member = Member(name, kind, None, cast(DrivenClient, None))
        for at, name, generation, values in history:
            event = {"event": name, "at": at, "generation": generation}
            key = "offsets" if name == "committed" else "partitions"
            member.on_event({**event, key: values})
        group.members.append(member)
    return group


def test_partitions_handed_over_in_order() -> None:
    first: list[Told] = [(1, "assigned", 1, [0, 1]), (5, "revoked", 1, [1]), (9, "closing", 3, [])]
    second: list[Told] = [(6, "assigned", 2, [1]), (11, "assigned", 4, [0])]
    assert check_nothing_is_owned_twice(group_of(first, second)) == 2


def test_two_owners_in_one_generation() -> None:
    first: list[Told] = [(1, "assigned", 3, [0]), (5, "revoked", 3, [0])]
    with pytest.raises(AssertionError, match="one generation"):
        check_nothing_is_owned_twice(group_of(first, [(6, "assigned", 3, [0])]))
    assert check_nothing_is_owned_twice(group_of([*first, (6, "assigned", 3, [0])])) == 1


def test_a_callback_that_runs_on_while_the_broker_is_killed() -> None:
    """Only with the new protocol, only then, and never for two in the epoch in which one began."""
    first: list[Told] = [(1, "assigned", 3, [0]), (7, "revoked", 4, [0])]
    second: list[Told] = [(6, "assigned", 4, [0])]
    assert check_nothing_is_owned_twice(group_of(first, second, kind="java-consumer"), kills=True)
    for group, kills in (
        (group_of(first, second, kind="java-consumer"), False),
        (group_of(first, second, kind="java"), True),
        (group_of(first, [(6, "assigned", 3, [0])], kind="java-consumer"), True),
    ):
        with pytest.raises(AssertionError, match="one generation"):
            check_nothing_is_owned_twice(group, kills=kills)


def test_two_owners_at_one_time() -> None:
    first: list[Told] = [(1, "assigned", 3, [0]), (7, "revoked", 3, [0])]
    second: list[Told] = [(6, "assigned", 4, [0])]
    with pytest.raises(AssertionError, match="at one time"):
        check_nothing_is_owned_twice(group_of(first, second))
    alive: list[Told] = [(1, "assigned", 3, [0])]
    with pytest.raises(AssertionError, match="at one time"):
        check_nothing_is_owned_twice(group_of(alive, second))
    # Thrown out and not yet aware of it: the generation tells who owns it.
    thrown_out: list[Told] = [(1, "assigned", 3, [0]), (7, "lost", -1, [0])]
    assert check_nothing_is_owned_twice(group_of(thrown_out, second)) == 1


def test_killed_members_own_until_then() -> None:
    group = group_of([(1, "assigned", 3, [0])], [(6, "assigned", 4, [0])])
    group.members[0].killed_at = 5
    assert check_nothing_is_owned_twice(group) == 1
    group.members[0].killed_at = 7
    with pytest.raises(AssertionError, match="at one time"):
        check_nothing_is_owned_twice(group)


def test_commits_that_go_back() -> None:
    first: list[Told] = [(1, "committed", 1, [[0, 5]]), (3, "committed", 1, [[0, 5], [1, 2]])]
    check_acknowledged_commits_go_forward(group_of(first, [(4, "committed", 2, [[0, 6]])]))
    with pytest.raises(AssertionError, match="back to 4 of 0"):
        check_acknowledged_commits_go_forward(group_of(first, [(4, "committed", 2, [[0, 4]])]))
