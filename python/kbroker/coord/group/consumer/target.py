"""What a group subscribes to, as the metadata has it, and who is to have which partition of it.

Pure functions of a group and an image of the metadata.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

from kbroker.coord.group.assign import ASSIGNORS
from kbroker.coord.group.assign.spec import MemberSpec
from kbroker.coord.group.consumer import records
from kbroker.coord.group.consumer.group import ConsumerGroup
from kbroker.coord.group.env import ImageView
from kbroker.coord.group.limits import RECORD_OVERHEAD_BYTES
from kbroker.coord.group.regex import match_topics
from kbroker.coord.result import Record

_NAME_BYTES = 2  # a topic's name has its length in front


def metadata_hash(group: ConsumerGroup, image: ImageView) -> int:
    """Changes when a subscribed topic appears, goes, comes back as another one, or grows. 0: there
    is none. Kafka hashes in its own way; a group that another broker wrote rebalances once."""
    digest = blake2b(digest_size=8)
    found = False
    for name in sorted(group.subscribed_topics):
        topic = image.topics.get(name)
        if topic is not None:
            found = True
            digest.update(topic.topic_id)
            digest.update(len(topic.partitions).to_bytes(4, "big"))
    return int.from_bytes(digest.digest(), "big", signed=True) if found else 0


class Regexes(NamedTuple):
    """`is_complete`: all that matches something else than before is in `records`. `too_large`:
    patterns that match more than one record may hold; they keep what they matched before, if
    anything."""

    records: list[Record]
    is_complete: bool
    too_large: frozenset[str]


def plan_regexes(group: ConsumerGroup, image: ImageView, now_ms: int, bytes_max: int) -> Regexes:
    """Looks up what patterns match now: records of what is new, as many as fit, and tombstones of
    patterns that nobody has any more."""
    wanted = group.patterns()
    planned = [
        records.regex_tombstone(group.group_id, pattern)
        for pattern in group.regexes
        if pattern not in wanted
    ]
    left = bytes_max
    too_large: set[str] = set()
    for pattern in sorted(wanted, key=lambda pattern: (pattern in group.regexes, pattern)):
        known = group.regexes.get(pattern)
        if known is not None and image.version in (known.image_version, group.checked_version):
            continue
        topics = match_topics(pattern, image.topics)
        if known is not None and known.topics == topics:
            continue
        size = RECORD_OVERHEAD_BYTES + sum(map(len, topics)) + _NAME_BYTES * len(topics)
        if size > bytes_max:
            too_large.add(pattern)
        elif size > left:
            return Regexes(planned, False, frozenset(too_large))
        else:
            left -= size
            planned.append(
                records.regex_record(group.group_id, pattern, topics, image.version, now_ms)
            )
    return Regexes(planned, True, frozenset(too_large))


def plan_target(group: ConsumerGroup, image: ImageView, assignor: str) -> list[Record]:
    """Records of the target assignment of the group's epoch: what differs."""
    specs: dict[str, MemberSpec] = {}
    counts: dict[bytes, int] = {}
    # Members of a group mostly subscribe to the same: looked up once, and one set for all.
    known: dict[tuple[tuple[str, ...], str], frozenset[bytes]] = {}
    for member_id, member in group.members.items():
        subscription = member.topics, member.regex
        topic_ids = known.get(subscription)
        if topic_ids is None:
            topics = [image.topics.get(name) for name in group.topics_of(member)]
            counts.update((topic.topic_id, len(topic.partitions)) for topic in topics if topic)
            topic_ids = frozenset(topic.topic_id for topic in topics if topic)
            known[subscription] = topic_ids
        specs[member_id] = MemberSpec(member.instance_id, topic_ids, group.target(member_id))
    return [
        records.target_record(group.group_id, member_id, target)
        for member_id, target in ASSIGNORS[assignor](specs, counts).items()
        if target is not (had := group.targets.get(member_id)) and target != had
    ]
