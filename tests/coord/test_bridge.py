"""Migration between the protocols, both ways, and classic members in a group of the new protocol:
upgrade, mixed groups that hand partitions over, downgrade, and what keeps a group from changing.
"""

from __future__ import annotations

import pytest
from kbroker.base import errors
from kbroker.coord.group.classic import ClassicGroup
from kbroker.coord.group.ops.consumer_describe import op_consumer_describe
from kbroker.coord.group.ops.join import op_join
from kbroker.coord.group.ops.leave import op_leave
from kbroker.coord.group.reconcile import UNRELEASED_PARTITIONS, UNREVOKED_PARTITIONS
from kbroker.wire.schema.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from kbroker.wire.schema.leave_group import LeaveGroupRequest, MemberIdentity

from tests.coord.classic_client import REBALANCE_MS, SESSION_MS, ClassicClient, classic_group
from tests.coord.consumer_kit import (
    INDEX,
    Client,
    ConsumerKit,
    check_owners,
    code_of,
    owned_of,
    topic_id,
)
from tests.coord.consumer_kit import SESSION_MS as CONSUMER_SESSION_MS


@pytest.fixture
def kit() -> ConsumerKit:
    kit = ConsumerKit()
    kit.topics(t=4)
    return kit


def classic(kit: ConsumerKit) -> ClassicGroup:
    group = kit.shard.groups["g"]
    assert isinstance(group, ClassicGroup)
    return group


def run(*clients: ClassicClient | Client, rounds: int = 6) -> None:
    for _ in range(rounds):
        for client in clients:
            if isinstance(client, ClassicClient):
                client.poll()
            else:
                client.beat()


def total(*clients: ClassicClient | Client) -> int:
    return sum(len(partitions) for client in clients for partitions in client.owned.values())


# Upgrade


def test_an_empty_classic_group_becomes_one_of_the_new_protocol(kit: ConsumerKit) -> None:
    old = ClassicClient(kit, "c", "t")
    classic_group(kit, old)
    old.leave()
    assert classic(kit).is_empty
    assert owned_of(kit.join("a", "t")) == {"t": {0, 1, 2, 3}}
    kit.restart()
    assert kit.group().state_name == "Stable"


def test_an_empty_group_of_the_new_protocol_becomes_a_classic_one(kit: ConsumerKit) -> None:
    kit.join("a", "t", subscribed_topic_regex="t|u")
    kit.heartbeat("a", -1)
    classic_group(kit, ClassicClient(kit, "c", "t"))
    assert classic(kit).state_name == "Stable"
    kit.restart()
    assert len(classic(kit).members) == 1


def test_the_first_new_member_upgrades_a_stable_group_and_takes_its_share(
    kit: ConsumerKit,
) -> None:
    c, d = ClassicClient(kit, "c", "t"), ClassicClient(kit, "d", "t")
    classic_group(kit, c, d)
    generation = classic(kit).generation
    a = kit.client("a", "t")
    group = kit.group()
    assert (group.epoch, group.assignment_epoch) == (generation + 1, generation + 1)
    assert set(group.members) == {"a", c.member_id, d.member_id}
    assert a.owned == {}, "all partitions still belong to the classic members"
    assert kit.member(c.member_id).state == 0
    assert {kit.member(x.member_id).member_epoch for x in (c, d)} == {generation}
    run(a, c, d)
    assert group.state_name == "Stable"
    assert total(a, c, d) == 4
    assert sorted(total(one) for one in (a, c, d)) == [1, 1, 2]
    check_owners(group)
    types = {
        member.member_id: member.member_type
        for member in op_consumer_describe(kit.shard, "g").members
    }
    assert types == {"a": 1, c.member_id: 0, d.member_id: 0}


def test_members_that_wait_in_a_rebalance_are_told_to_join_again(kit: ConsumerKit) -> None:
    c, d = ClassicClient(kit, "c", "t"), ClassicClient(kit, "d", "t")
    classic_group(kit, c, d)
    c.leads = True
    c.topics = ["t", "u"]
    waiting = c.send_join()
    assert not waiting.done
    a = kit.client("a", "t")
    assert waiting.done
    assert waiting.result().error_code == errors.REBALANCE_IN_PROGRESS
    assert c.join() == errors.NONE
    c.sync()
    run(a, c, d)
    assert total(a, c, d) == 4


def test_a_refused_upgrade_leaves_the_classic_group_as_it_was(kit: ConsumerKit) -> None:
    c = ClassicClient(kit, "c", "t")
    classic_group(kit, c)
    before = classic(kit)
    kit.log.failures = [errors.NOT_ENOUGH_REPLICAS]
    assert code_of(lambda: kit.join("a", "t")) == errors.COORDINATOR_NOT_AVAILABLE
    assert classic(kit) is before
    assert c.beat() == errors.NONE
    assert before.members[c.member_id].assignment


@pytest.mark.parametrize("policy", ["disabled", "downgrade"])
def test_the_policy_may_forbid_an_upgrade(kit: ConsumerKit, policy: str) -> None:
    kit.configure(group_consumer_migration_policy=policy)
    classic_group(kit, ClassicClient(kit, "c", "t"))
    assert code_of(lambda: kit.join("a", "t")) == errors.GROUP_ID_NOT_FOUND
    assert classic(kit).state_name == "Stable"


def test_only_small_enough_groups_of_consumers_upgrade(kit: ConsumerKit) -> None:
    c, d = ClassicClient(kit, "c", "t"), ClassicClient(kit, "d", "t")
    classic_group(kit, c, d)
    kit.configure(group_consumer_max_size="1")
    assert code_of(lambda: kit.join("a", "t")) == errors.GROUP_ID_NOT_FOUND
    kit.configure()
    classic(kit).protocol_type = "connect"
    assert code_of(lambda: kit.join("a", "t")) == errors.GROUP_ID_NOT_FOUND
    classic(kit).protocol_type = "consumer"
    classic(kit).members[c.member_id].protocols = {"range": b"\0"}
    assert code_of(lambda: kit.join("a", "t")) == errors.GROUP_ID_NOT_FOUND
    assert code_of(lambda: kit.heartbeat("a", 1)) == errors.GROUP_ID_NOT_FOUND


def test_a_partition_that_a_leader_gave_twice_has_one_owner(kit: ConsumerKit) -> None:
    c, d = ClassicClient(kit, "c", "t"), ClassicClient(kit, "d", "t")
    classic_group(kit, c, d)
    members = classic(kit).members
    members[d.member_id].assignment = members[c.member_id].assignment
    a = kit.client("a", "t")
    check_owners(kit.group())
    run(a, c, d)
    assert total(a, c, d) == 4


# Classic members in a group of the new protocol


def test_a_classic_member_joins_a_group_of_the_new_protocol(kit: ConsumerKit) -> None:
    a = kit.client("a", "t")
    c = ClassicClient(kit, "c", "t")
    assert c.join() == errors.NONE
    assert (c.generation, c.protocol, c.leads) == (2, "range", False)
    assert c.sync() == errors.NONE
    assert c.owned == {}, "nothing is free yet"
    assert kit.member(c.member_id).state == UNRELEASED_PARTITIONS
    assert c.beat() == errors.NONE, "it waits until something is free"
    a.beat()
    a.beat()
    assert c.beat() == errors.REBALANCE_IN_PROGRESS
    run(a, c)
    assert (len(a.owned["t"]), len(c.owned["t"])) == (2, 2)
    check_owners(kit.group())


def test_a_cooperative_member_gives_up_only_what_it_must(kit: ConsumerKit) -> None:
    c = ClassicClient(kit, "c", "t", protocols=("cooperative-sticky",), cooperative=True)
    classic_group(kit, c)
    assert c.owned == {"t": [0, 1, 2, 3]}
    a = kit.client("a", "t")
    assert c.beat() == errors.REBALANCE_IN_PROGRESS
    assert c.join() == errors.NONE
    assert kit.member(c.member_id).state == UNREVOKED_PARTITIONS
    c.sync()
    assert len(c.owned["t"]) == 2
    a.beat()
    assert a.owned == {}, "c has not come back without them"
    kept = list(c.owned["t"])
    run(c, a)
    assert c.owned == {"t": kept}
    assert total(a, c) == 4


def test_what_a_classic_member_is_refused_with(kit: ConsumerKit) -> None:
    kit.client("a", "t")
    c = ClassicClient(kit, "c", "t", protocols=("range", "sticky"))
    assert c.join() == errors.NONE
    assert ClassicClient(kit, "d", "t", protocols=("roundrobin",)).join() == (
        errors.INCONSISTENT_GROUP_PROTOCOL
    )
    assert ClassicClient(kit, "d", "t", protocols=("sticky",)).join() == errors.NONE
    kit.configure(group_consumer_max_size="3")
    assert ClassicClient(kit, "e", "t").join() == errors.INCONSISTENT_GROUP_PROTOCOL
    full = ClassicClient(kit, "e", "t", protocols=("sticky",))
    assert full.join() == errors.GROUP_MAX_SIZE_REACHED
    c.generation += 1
    assert (c.beat(), c.sync()) == (errors.ILLEGAL_GENERATION, errors.ILLEGAL_GENERATION)
    c.generation -= 1
    c.protocol = "sticky"
    assert c.sync() == errors.INCONSISTENT_GROUP_PROTOCOL
    for stranger in ("nobody", "a"):
        c.member_id = stranger
        assert (c.beat(), c.sync()) == (errors.UNKNOWN_MEMBER_ID, errors.UNKNOWN_MEMBER_ID)


def test_a_new_epoch_between_join_and_sync_sends_the_member_back(kit: ConsumerKit) -> None:
    kit.client("a", "t")
    c = ClassicClient(kit, "c", "t")
    c.join()
    b = kit.client("b", "t")
    assert c.sync() == errors.REBALANCE_IN_PROGRESS
    b.leave()
    for _ in range(2):
        assert c.join() == errors.NONE
    assert c.sync() == errors.NONE


def test_a_member_that_was_told_to_join_and_does_not_is_taken_out(kit: ConsumerKit) -> None:
    a = kit.client("a", "t")
    c = ClassicClient(kit, "c", "t")
    c.join()
    c.sync()
    b = kit.client("b", "t")
    for _ in range(3):
        assert c.beat() == errors.REBALANCE_IN_PROGRESS
        a.beat()
        b.beat()
        kit.advance(REBALANCE_MS // 3)
    assert set(kit.group().members) == {"a", "b"}


def test_a_member_that_joined_and_does_not_sync_is_taken_out(kit: ConsumerKit) -> None:
    kit.topics(u=1)
    a = kit.client("a", "t")
    c = ClassicClient(kit, "c", "u")
    c.join()
    for _ in range(3):
        assert c.beat() == errors.NONE
        a.beat()
        kit.advance(REBALANCE_MS // 3)
    assert set(kit.group().members) == {"a"}


def test_the_session_of_a_classic_member_is_its_own(kit: ConsumerKit) -> None:
    kit.client("a", "t")
    c = ClassicClient(kit, "c", "t")
    c.join()
    c.sync()
    kit.advance(SESSION_MS)
    assert set(kit.group().members) == {"a"}


def test_static_members_change_their_protocol_in_place(kit: ConsumerKit) -> None:
    s = ClassicClient(kit, "s", "t", instance="i")
    other = ClassicClient(kit, "o", "t")
    classic_group(kit, s, other)
    mine = {name: set(partitions) for name, partitions in s.owned.items()}
    response = kit.join("new", "t", instance_id="i")
    assert owned_of(response) == mine
    assert set(kit.group().members) == {"new", other.member_id}
    assert kit.group().epoch == s.generation, "nobody reads anything else than before"
    assert s.beat() == errors.FENCED_INSTANCE_ID
    before = {name: list(partitions) for name, partitions in other.owned.items()}
    run(other)
    assert other.owned == before
    assert kit.group().state_name == "Stable"
    check_owners(kit.group())


def test_an_administrator_removes_members_of_either_protocol(kit: ConsumerKit) -> None:
    kit.client("a", "t")
    kit.client("b", "t")
    s = ClassicClient(kit, "s", "t", instance="i")
    assert s.join() == errors.NONE
    admin = ClassicClient(kit, "admin", instance="i")
    admin.member_id = "somebody"
    assert admin.leave() == errors.FENCED_INSTANCE_ID
    admin.member_id = ""
    assert admin.leave() == errors.NONE
    assert set(kit.group().members) == {"a", "b"}
    assert admin.leave() == errors.UNKNOWN_MEMBER_ID
    admin.member_id, admin.instance = "a", None
    assert admin.leave() == errors.NONE
    assert admin.leave() == errors.UNKNOWN_MEMBER_ID
    assert set(kit.group().members) == {"b"}


def test_who_is_removed_by_instance_id_is_not_named(kit: ConsumerKit) -> None:
    kit.client("a", "t")
    s = ClassicClient(kit, "s", "t", instance="i")
    assert s.join() == errors.NONE
    request = LeaveGroupRequest(group_id="g", members=[MemberIdentity(group_instance_id="i")] * 2)
    told = kit.write(lambda shard: op_leave(shard, s.caller, request)).result()
    assert [(each.member_id, each.error_code) for each in told.members] == [("", errors.NONE)] * 2
    assert set(kit.group().members) == {"a"}


def test_a_classic_member_hears_of_an_assignment_when_there_is_one(kit: ConsumerKit) -> None:
    """What a member leaves behind is shared out when a member of the new protocol asks."""
    a = kit.client("a", "t")
    kit.client("b", "t")
    c = ClassicClient(kit, "c", "t")
    assert (c.join(), c.sync()) == (errors.NONE, errors.NONE)
    kit.heartbeat("b", -1)
    assert (c.beat(), c.sync()) == (errors.NONE, errors.NONE)
    a.beat()
    assert (c.beat(), c.sync()) == (errors.REBALANCE_IN_PROGRESS, errors.REBALANCE_IN_PROGRESS)


def test_a_group_of_classic_members_alone_is_classic_when_one_leaves(kit: ConsumerKit) -> None:
    """A member may join with the classic protocol under the id that it had in the other."""
    kit.join("a", "t", server_assignor="range")
    a, b = ClassicClient(kit, "a", "t"), ClassicClient(kit, "b", "t")
    a.member_id = "a"
    assert (a.join(), b.join()) == (errors.NONE, errors.NONE)
    assert kit.group().member("a").is_classic
    assert kit.group().member("a").assignor == "range"
    assert b.leave() == errors.NONE
    assert set(classic(kit).members) == {"a"}


def test_a_member_id_is_given_out_before_the_subscription_is_read(kit: ConsumerKit) -> None:
    kit.client("a", "t")
    c = ClassicClient(kit, "c", "t")
    request = JoinGroupRequest(
        group_id="g",
        session_timeout_ms=SESSION_MS,
        rebalance_timeout_ms=REBALANCE_MS,
        protocol_type="consumer",
        protocols=[JoinGroupRequestProtocol(name="range", metadata=b"nonsense")],
    )
    told = kit.write(lambda shard: op_join(shard, c.caller, request)).result()
    assert told.error_code == errors.MEMBER_ID_REQUIRED
    request.member_id = told.member_id
    refused = kit.write(lambda shard: op_join(shard, c.caller, request)).result()
    assert refused.error_code == errors.INCONSISTENT_GROUP_PROTOCOL
    assert refused.member_id == "", "as Kafka tells it"
    assert set(kit.group().members) == {"a"}


def test_a_classic_member_leaves_and_the_rest_shares(kit: ConsumerKit) -> None:
    a = kit.client("a", "t")
    c = ClassicClient(kit, "c", "t")
    c.join()
    run(a, c)
    assert c.leave() == errors.NONE
    run(a)
    assert a.owned == {"t": {0, 1, 2, 3}}


# Downgrade


def mixed(kit: ConsumerKit) -> tuple[Client, ClassicClient, ClassicClient]:
    a = kit.client("a", "t")
    c, d = ClassicClient(kit, "c", "t"), ClassicClient(kit, "d", "t")
    c.join()
    c.sync()
    d.join()
    d.sync()
    run(a, c, d)
    assert kit.group().state_name == "Stable"
    return a, c, d


@pytest.mark.parametrize("how", ["leaves", "falls silent"])
def test_the_group_is_classic_again_when_the_last_new_member_is_gone(
    kit: ConsumerKit, how: str
) -> None:
    a, c, d = mixed(kit)
    epoch = kit.group().epoch
    if how == "leaves":
        a.leave()
    else:
        for _ in range(3):
            kit.advance(CONSUMER_SESSION_MS // 3)
            if not isinstance(kit.shard.groups["g"], ClassicGroup):
                c.beat()
                d.beat()
    group = classic(kit)
    assert group.state_name == "PreparingRebalance"
    assert (group.generation, set(group.members)) == (epoch, {c.member_id, d.member_id})
    for member_id in ("a", c.member_id, d.member_id):
        assert not kit.shard.timers.is_scheduled(("consumer", "session", "g", member_id))
    assert {c.beat(), d.beat()} == {errors.REBALANCE_IN_PROGRESS}
    classic_group(kit, c, d)
    assert total(c, d) == 4
    kit.restart()
    assert classic(kit).state_name == "Stable"
    assert c.beat() == errors.NONE


def test_a_classic_member_in_the_place_of_the_last_new_one_downgrades_without_a_rebalance(
    kit: ConsumerKit,
) -> None:
    s = kit.client("s", "t", instance_id="i")
    c = ClassicClient(kit, "c", "t")
    c.join()
    c.sync()
    run(s, c)
    before = dict(s.owned)
    successor = ClassicClient(kit, "successor", "t", instance="i")
    assert successor.join() == errors.NONE
    group = classic(kit)
    assert group.state_name == "Stable"
    assert (successor.sync(), c.beat()) == (errors.NONE, errors.NONE)
    assert {name: set(partitions) for name, partitions in successor.owned.items()} == before


def test_a_downgrade_while_partitions_move_is_a_rebalance(kit: ConsumerKit) -> None:
    s = kit.client("s", "t", instance_id="i")
    c = ClassicClient(kit, "c", "t")
    c.join()
    c.sync()
    s.beat(subscribed_topic_names=["t", "new"])
    successor = ClassicClient(kit, "successor", "t", instance="i")
    assert successor.join() == errors.NONE
    assert classic(kit).state_name == "PreparingRebalance"
    assert successor.sync() == errors.REBALANCE_IN_PROGRESS
    classic_group(kit, successor, c)
    assert total(successor, c) == 4


@pytest.mark.parametrize("policy", ["disabled", "upgrade"])
def test_the_policy_may_forbid_a_downgrade(kit: ConsumerKit, policy: str) -> None:
    a, c, d = mixed(kit)
    kit.configure(group_consumer_migration_policy=policy)
    a.leave()
    assert kit.group().state_name == "Assigning"
    run(c, d)
    assert total(c, d) == 4


def test_a_refused_downgrade_leaves_the_group_as_it_was(kit: ConsumerKit) -> None:
    a, c, d = mixed(kit)
    kit.log.failures = [errors.NOT_ENOUGH_REPLICAS]
    assert code_of(a.leave) == errors.COORDINATOR_NOT_AVAILABLE
    assert set(kit.group().members) == {"a", c.member_id, d.member_id}
    check_owners(kit.group())
    kit.heartbeat("a", -1)
    assert classic(kit).state_name == "PreparingRebalance"


def test_there_and_back_and_there_again(kit: ConsumerKit) -> None:
    a, c, d = mixed(kit)
    a.leave()
    classic_group(kit, c, d)
    e = kit.client("e", "t")
    run(e, c, d)
    assert total(e, c, d) == 4
    kit.restart()
    check_owners(kit.group())
    run(e, c, d)
    assert total(e, c, d) == 4
    assert kit.log.next_offset(INDEX) > 0
    assert kit.group().targets[c.member_id].keys() == {topic_id("t")}
