"""The `range` assignor: each topic in contiguous ranges, in the same order of members every time.

Topics with equally many partitions and the same subscribers are therefore co-partitioned: a member
gets the same partition numbers of each. It is not sticky; static members come first, by instance
id, so that a rolling bounce, which changes member ids, moves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from kbroker.coord.group.assign.spec import Assignment, MemberSpec


def assign_range(
    members: Mapping[str, MemberSpec], partition_counts: Mapping[bytes, int]
) -> dict[str, Assignment]:
    order = sorted(members, key=lambda member_id: _rank(member_id, members[member_id]))
    subscribers: dict[bytes, list[str]] = {}
    for member_id in order:
        for topic_id in members[member_id].topic_ids:
            if topic_id in partition_counts:
                subscribers.setdefault(topic_id, []).append(member_id)
    assigned: dict[str, dict[bytes, frozenset[int]]] = {member_id: {} for member_id in members}
    for topic_id, subscribed in subscribers.items():
        quota, with_one_more = divmod(partition_counts[topic_id], len(subscribed))
        start = 0
        for index, member_id in enumerate(subscribed):
            end = start + quota + (index < with_one_more)
            if end > start:
                assigned[member_id][topic_id] = frozenset(range(start, end))
            start = end
    return {**assigned}


def _rank(member_id: str, spec: MemberSpec) -> tuple[bool, str, str]:
    return spec.instance_id is None, spec.instance_id or "", member_id
