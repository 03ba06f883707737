"""What every kind of group can be asked, whatever protocol its members speak."""

from __future__ import annotations

from typing import Protocol

from kbroker.base.errors import KafkaError
from kbroker.coord.result import Record


class Group(Protocol):
    """A group of the classic or of the consumer protocol. Methods that check raise KafkaError."""

    @property
    def group_id(self) -> str: ...

    @property
    def type_name(self) -> str:
        """ "classic" or "consumer", as ListGroups tells."""
        ...

    @property
    def protocol_type(self) -> str: ...

    @property
    def state_name(self) -> str:
        """As ListGroups and the describing APIs tell it: "Stable", "Empty" and so on."""
        ...

    @property
    def is_empty(self) -> bool: ...

    def check_commit(
        self,
        member_id: str,
        instance_id: str | None,
        generation_or_epoch: int,
        api_version: int,
        *,
        transactional: bool = False,
    ) -> None:
        """Whether this member may commit now."""
        ...

    def check_fetch(self, member_id: str | None, epoch: int) -> None:
        """Whether this member may read offsets now (OffsetFetch v9); epoch -1: nobody asked."""
        ...

    def check_delete(self) -> None:
        """NON_EMPTY_GROUP while there are members."""
        ...

    def check_delete_offsets(self) -> None:
        """Whether single offsets may be deleted; those of subscribed topics never."""
        ...

    def is_subscribed(self, topic: str) -> bool:
        """Whether a member reads `topic`: its offsets are then neither deleted nor expired."""
        ...

    def expiry_base_ms(self, commit_timestamp_ms: int) -> int | None:
        """From when an offset of a topic without readers grows old, by the wall clock; None: not
        while the group is as it is."""
        ...

    def tombstones(self) -> list[Record]:
        """The records that end the group, not its offsets."""
        ...

    def on_unloaded(self, error: KafkaError) -> None:
        """The partition is not ours any more: whoever waits is answered with `error`."""
        ...
