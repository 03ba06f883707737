"""A member of a group of the consumer protocol, as its records say it is. Immutable.

A member that speaks the classic protocol may be in such a group too while it migrates; `classic`
then has what it said of itself when it joined.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from kbroker.coord.group.schema import ClassicMemberMetadata

JOIN_EPOCH: Final = 0
LEFT_EPOCH: Final = -1
AWAY_EPOCH: Final = -2  # a static member that said it will be back

# topic id -> partition -> the epoch that assigned it, from which on the member may commit it
Held = Mapping[bytes, Mapping[int, int]]
NOTHING_HELD: Held = {}


class ConsumerMember(NamedTuple):
    """`assigned` is what the member may use, `pending` what it has still to give up; both are its
    own. `state` is one of reconcile.py."""

    member_id: str
    instance_id: str | None = None
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    topics: tuple[str, ...] = ()  # sorted
    regex: str = ""
    rebalance_timeout_ms: int = -1
    assignor: str | None = None
    classic: ClassicMemberMetadata | None = None
    member_epoch: int = JOIN_EPOCH
    previous_member_epoch: int = JOIN_EPOCH
    state: int = 0
    assigned: Held = NOTHING_HELD
    pending: Held = NOTHING_HELD

    @property
    def is_classic(self) -> bool:
        return self.classic is not None

    @property
    def is_away(self) -> bool:
        return self.member_epoch == AWAY_EPOCH


def pairs(held: Mapping[bytes, Mapping[int, int] | frozenset[int]]) -> list[tuple[bytes, int]]:
    return [(topic_id, partition) for topic_id, numbers in held.items() for partition in numbers]
