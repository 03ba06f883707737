"""Bounds of what clients can make a group coordinator keep. A configuration may tighten them."""

from __future__ import annotations

from typing import Final

# A group
MEMBERS_MAX: Final = 10_000
PENDING_MEMBERS_MAX: Final = 10_000  # given an id, not yet back with it
PROTOCOLS_PER_MEMBER_MAX: Final = 100
GROUP_METADATA_BYTES_MAX: Final = 64 << 20  # of all members and all protocols they support
TOPICS_PER_SUBSCRIPTION_MAX: Final = 100_000

# A shard
GROUPS_MAX: Final = 100_000
OFFSETS_PER_GO: Final = 1_000  # looked at, or deleted, in one turn of the loop: a few milliseconds

# A write may be as large as a message; this is what records need besides their strings.
RECORD_OVERHEAD_BYTES: Final = 64
