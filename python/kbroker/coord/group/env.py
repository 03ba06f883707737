"""What all group shards of a node are given: the world as pure arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from kbroker.base.clock import Clock
from kbroker.base.config import BrokerConfig
from kbroker.base.rng import Rng

if TYPE_CHECKING:
    from kbroker.base.group_config import GroupConfig


class TopicView(Protocol):
    """What this room reads of `meta.image`, which it may not import."""

    @property
    def name(self) -> str: ...
    @property
    def topic_id(self) -> bytes: ...
    @property
    def partitions(self) -> Sequence[Any]: ...


class ImageView(Protocol):
    @property
    def version(self) -> int: ...
    @property
    def topics(self) -> Mapping[str, TopicView]: ...
    @property
    def topics_by_id(self) -> Mapping[bytes, TopicView]: ...


class Caller(NamedTuple):
    """Who sent a request. `api_version` decides details that differ between versions."""

    client_id: str
    client_host: str
    api_version: int


class GroupEnv:
    """`config()`, `group_config(group_id)` and `image()` give what holds now: ask every time."""

    __slots__ = ("clock", "config", "group_config", "image", "rng")

    def __init__(
        self,
        *,
        clock: Clock,
        rng: Rng,
        config: Callable[[], BrokerConfig],
        group_config: Callable[[str], GroupConfig],
        image: Callable[[], ImageView],
    ) -> None:
        self.clock = clock
        self.rng = rng
        self.config = config
        self.group_config = group_config
        self.image = image
