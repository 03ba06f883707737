"""Fetch sessions (KIP-227): the broker remembers a consumer's partitions between its fetches.

A client names all its partitions once (epoch 0, a *full* fetch); afterwards it sends only what it
wants changed, under the session's id and the next epoch (an *incremental* fetch), and gets only
partitions that have something new. `resolve` turns a request into what to read:

    epoch  id      meaning                                            answer's session id
    -1     0       no session                                         0
    -1     given   no session any more: that one is closed            0
    0      0       full fetch, wants a session                        new one, 0 if no slot is free
    0      given   the same, and that one is closed                   the same
    n > 0  given   incremental                                        the id; 0 once it is empty

Errors, for the whole request: FETCH_SESSION_ID_NOT_FOUND (no such id, or evicted),
INVALID_FETCH_SESSION_EPOCH (not the next one), FETCH_SESSION_TOPIC_ID_ERROR (the session began with
topic names and goes on with ids, or the other way). After any of them the client starts a new one.

A session costs memory, so there are `slots` of them. A new session may take the slot of one that
nobody has used for two minutes, or else of a smaller one that is at least two minutes old.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from kbroker.base import errors
from kbroker.base.rng import Rng

if TYPE_CHECKING:
    from kcore._native.fetch_codec import FetchPartition, FetchRequest, FetchResult

Topic = str | bytes  # a name, or a topic id from version 13 on

FINAL_EPOCH = -1
INITIAL_EPOCH = 0
EPOCH_MAX = (1 << 31) - 1
NO_SESSION = 0

SLOTS_DEFAULT = 1000
EVICTION_AGE_MS = 120_000
IDS_FROM_VERSION = 13


class Wanted:
    """One partition a fetch asks for. In a session it lives on, with what was last told of it."""

    __slots__ = (
        "current_leader_epoch",
        "fetch_offset",
        "high_watermark",
        "index",
        "last_fetched_epoch",
        "last_stable_offset",
        "log_start_offset",
        "max_bytes",
        "topic",
    )

    def __init__(self, topic: Topic, asked: FetchPartition) -> None:
        self.topic = topic
        self.index = asked.index
        self.high_watermark = -1
        self.last_stable_offset = -1
        self.log_start_offset = -1
        self.update(asked)

    def update(self, asked: FetchPartition) -> None:
        self.current_leader_epoch = asked.current_leader_epoch
        self.fetch_offset = asked.fetch_offset
        self.last_fetched_epoch = asked.last_fetched_epoch
        self.max_bytes = asked.max_bytes

    def note(self, result: FetchResult, has_records: bool) -> bool:
        """Notes what the client is about to be told; is any of it news?"""
        news = (
            has_records
            or result.error_code != errors.NONE
            or result.diverging_epoch is not None
            or result.high_watermark != self.high_watermark
            or result.last_stable_offset != self.last_stable_offset
            or result.log_start_offset != self.log_start_offset
        )
        if news:
            # An error's -1 stays noted, so that the partition is news again when it is well.
            self.high_watermark = result.high_watermark
            self.last_stable_offset = result.last_stable_offset
            self.log_start_offset = result.log_start_offset
        return news


class FetchSession:
    __slots__ = ("by_ids", "created_ms", "epoch", "id", "partitions", "used_ms")

    def __init__(self, session_id: int, by_ids: bool, now_ms: int) -> None:
        self.id = session_id
        self.by_ids = by_ids
        self.epoch = INITIAL_EPOCH + 1  # the one the next request must carry
        self.created_ms = now_ms
        self.used_ms = now_ms
        # In the order in which they are read: who was served goes to the end.
        self.partitions: dict[tuple[Topic, int], Wanted] = {}

    def merge(self, request: FetchRequest) -> None:
        partitions = self.partitions
        for topic, indexes in request.forgotten:
            for index in indexes:
                partitions.pop((topic, index), None)
        for topic, asked_list in request.topics:
            for asked in asked_list:
                known = partitions.get((topic, asked.index))
                if known is None:
                    partitions[topic, asked.index] = Wanted(topic, asked)
                else:
                    known.update(asked)

    def topics(self) -> list[tuple[Topic, list[Wanted]]]:
        """In reading order; a topic comes again where another's partitions are in between."""
        grouped: list[tuple[Topic, list[Wanted]]] = []
        for wanted in self.partitions.values():
            if not grouped or grouped[-1][0] != wanted.topic:
                grouped.append((wanted.topic, []))
            grouped[-1][1].append(wanted)
        return grouped

    def tell(
        self, results: list[tuple[Topic, list[FetchResult]]], incremental: bool
    ) -> list[tuple[Topic, list[FetchResult]]]:
        """What of `results` to answer: all of a full fetch, of an incremental one only news. Who
        got records is read last the next time: a full response must not starve the rest."""
        partitions = self.partitions
        told: list[tuple[Topic, list[FetchResult]]] = []
        for topic, rows in results:
            news = []
            for row in rows:
                key = (topic, row.index)
                # Forgotten by a later request, while this one waited: told, and noted nowhere.
                wanted = partitions.get(key)
                has_records = row.records is not None
                if wanted is None or wanted.note(row, has_records) or not incremental:
                    news.append(row)
                if has_records and wanted is not None:
                    del partitions[key]
                    partitions[key] = wanted
            if news:
                told.append((topic, news))
        return told


class FetchPlan:
    """What one request is to read. `error_code`: nothing; the answer is only this."""

    __slots__ = ("error_code", "incremental", "session", "session_id", "topics")

    def __init__(
        self,
        topics: Sequence[tuple[Topic, Sequence[FetchPartition | Wanted]]],
        *,
        session: FetchSession | None = None,
        session_id: int = NO_SESSION,
        incremental: bool = False,
        error_code: int = 0,
    ) -> None:
        self.topics = topics
        self.session = session
        self.session_id = session_id
        self.incremental = incremental
        self.error_code = error_code


class FetchSessionCache:
    __slots__ = ("_rng", "_sessions", "_slots", "evicted")

    def __init__(self, rng: Rng, slots: int = SLOTS_DEFAULT) -> None:
        self._rng = rng
        self._slots = slots
        self._sessions: dict[int, FetchSession] = {}  # the longest unused first
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[FetchSession]:
        return iter(self._sessions.values())

    def resolve(self, request: FetchRequest, version: int, now_ms: int) -> FetchPlan:
        """`now_ms` is monotonic."""
        epoch = request.session_epoch
        if epoch in (FINAL_EPOCH, INITIAL_EPOCH):
            if request.session_id != NO_SESSION:
                self._sessions.pop(request.session_id, None)
            if epoch == FINAL_EPOCH or not request.topics:
                return FetchPlan(request.topics)
            return self._open(request, version >= IDS_FROM_VERSION, now_ms)
        return self._go_on(request, version, now_ms)

    def _open(self, request: FetchRequest, by_ids: bool, now_ms: int) -> FetchPlan:
        size = sum(len(asked_list) for _, asked_list in request.topics)
        if len(self._sessions) >= self._slots and not self._evict_for(size, now_ms):
            return FetchPlan(request.topics)
        session = FetchSession(self._new_id(), by_ids, now_ms)
        session.merge(request)
        self._sessions[session.id] = session
        return FetchPlan(session.topics(), session=session, session_id=session.id)

    def _go_on(self, request: FetchRequest, version: int, now_ms: int) -> FetchPlan:
        session = self._sessions.get(request.session_id)
        if session is None:
            return FetchPlan((), error_code=errors.FETCH_SESSION_ID_NOT_FOUND)
        if request.session_epoch != session.epoch:
            return FetchPlan((), error_code=errors.INVALID_FETCH_SESSION_EPOCH)
        if session.by_ids != (version >= IDS_FROM_VERSION):
            return FetchPlan((), error_code=errors.FETCH_SESSION_TOPIC_ID_ERROR)
        session.epoch = 1 if session.epoch == EPOCH_MAX else session.epoch + 1
        session.used_ms = now_ms
        del self._sessions[session.id]
        if request.topics or request.forgotten:
            session.merge(request)
            if not session.partitions:
                return FetchPlan((), incremental=True)
        self._sessions[session.id] = session
        return FetchPlan(session.topics(), session=session, session_id=session.id, incremental=True)

    def _new_id(self) -> int:
        while True:
            session_id = 1 + self._rng.below(EPOCH_MAX)
            if session_id not in self._sessions:
                return session_id

    def _evict_for(self, size: int, now_ms: int) -> bool:
        """Frees a slot for a new session of `size` partitions, if one may go."""
        if not self._sessions:
            return False
        victim = next(iter(self._sessions.values()))
        if now_ms - victim.used_ms <= EVICTION_AGE_MS:
            old = [
                session
                for session in self._sessions.values()
                if now_ms - session.created_ms > EVICTION_AGE_MS
            ]
            if not old:
                return False
            victim = min(old, key=lambda session: len(session.partitions))
            if len(victim.partitions) >= size:
                return False
        del self._sessions[victim.id]
        self.evicted += 1
        return True
