"""One step of one member from what it has towards what it is to have (KIP-848). Pure.

A member is always in one of three states:

* STABLE: it has what the target assignment of its epoch gives it.
* UNREVOKED_PARTITIONS: it was asked to give partitions up and has not said that it did. It stays
  in its epoch; the partitions count as its own until it no longer reports them.
* UNRELEASED_PARTITIONS: it reached the target's epoch, but some of its partitions still belong to
  members that have not given them up.

A partition is handed over only when `owner_of` says that nobody has it. Since what a member has
and what it is still giving up both count as owned, no partition ever has two owners.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final

from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.coord.group.assign.spec import Assignment
from kbroker.coord.group.consumer.member import ConsumerMember, Held

STABLE: Final = 0
UNREVOKED_PARTITIONS: Final = 1
UNRELEASED_PARTITIONS: Final = 2

OwnerOf = Callable[[bytes, int], str | None]
Reported = Mapping[bytes, Collection[int]]


def is_reconciled(member: ConsumerMember, target_epoch: int) -> bool:
    return member.state == STABLE and member.member_epoch == target_epoch


def reconcile(
    member: ConsumerMember,
    target_epoch: int,
    target: Assignment,
    owner_of: OwnerOf,
    reported: Reported | None,
    subscribed: Collection[bytes] | None = None,
) -> ConsumerMember:
    """The member after one step, or the same one. `reported` is what it says it has; None when
    the request did not say. `subscribed`: ids of the topics that it reads, when the request changed
    that. KafkaError FENCED_MEMBER_EPOCH for a member in a state that a newer
    broker wrote: it has to begin with nothing."""
    if member.state == STABLE:
        if member.member_epoch == target_epoch:
            return member
        epoch = member.member_epoch
    elif member.state == UNREVOKED_PARTITIONS:
        if _reports_any(member.pending, reported):
            return member if subscribed is None else _without_topics(member, subscribed)
        # There may be more to give up by now: that is asked for in the same epoch, as in Kafka
        # since 4.3. It is over when the member has what it keeps.
        epoch = member.member_epoch
    elif member.state == UNRELEASED_PARTITIONS:
        epoch = member.member_epoch
    else:
        if reported is None or any(reported.values()):
            raise KafkaError(
                errors.FENCED_MEMBER_EPOCH,
                "The consumer group member is in a unknown state. "
                "The member must abandon all its partitions and rejoin.",
            )
        epoch = target_epoch
    return _step(member, epoch, target_epoch, target, owner_of, reported)


def _step(
    member: ConsumerMember,
    epoch: int,
    target_epoch: int,
    target: Assignment,
    owner_of: OwnerOf,
    reported: Reported | None,
) -> ConsumerMember:
    kept: dict[bytes, dict[int, int]] = {}
    to_revoke: dict[bytes, dict[int, int]] = {}
    for topic_id, partitions in member.assigned.items():
        wanted = target.get(topic_id, ())
        for partition, since in partitions.items():
            into = kept if partition in wanted else to_revoke
            into.setdefault(topic_id, {})[partition] = since
    if to_revoke and _reports_any(to_revoke, reported):
        return _at(member, epoch)._replace(
            state=UNREVOKED_PARTITIONS, assigned=kept, pending=to_revoke
        )
    unreleased = False
    for topic_id, wanted in target.items():
        for partition in wanted:
            if partition in kept.get(topic_id, ()):
                continue
            if owner_of(topic_id, partition) in (None, member.member_id):
                kept.setdefault(topic_id, {})[partition] = target_epoch
            else:
                unreleased = True
    return _at(member, target_epoch)._replace(
        state=UNRELEASED_PARTITIONS if unreleased else STABLE, assigned=kept, pending={}
    )


def _without_topics(member: ConsumerMember, subscribed: Collection[bytes]) -> ConsumerMember:
    """The member that is giving partitions up gives up all of topics that it does not read, too."""
    kept = {topic_id: held for topic_id, held in member.assigned.items() if topic_id in subscribed}
    if len(kept) == len(member.assigned):
        return member
    pending = {topic_id: dict(held) for topic_id, held in member.pending.items()}
    for topic_id, held in member.assigned.items():
        if topic_id not in subscribed:
            pending.setdefault(topic_id, {}).update(held)
    return _at(member, member.member_epoch)._replace(assigned=kept, pending=pending)


def _at(member: ConsumerMember, epoch: int) -> ConsumerMember:
    """The member in `epoch`. The one in which it asked stays good for one whose answer was lost."""
    return member._replace(member_epoch=epoch, previous_member_epoch=member.member_epoch)


def _reports_any(pending: Held, reported: Reported | None) -> bool:
    """Whether the member still has any of `pending`; it does as long as it has not said."""
    if reported is None:
        return True
    return any(
        partition in partitions
        for topic_id, partitions in pending.items()
        for partition in reported.get(topic_id, ())
    )
