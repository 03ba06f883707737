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

A session costs memory, so there are `slots` of them, and they hold `partitions_max` partitions
together, about 450 bytes each: one that grows above that is closed as if evicted, and none begins.
A new session may take the slot of one that nobody has used for two minutes, or else of a smaller
one that is at least two minutes old.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kbroker.base import errors
from kbroker.base.clock import Clock
from kbroker.base.rng import Rng
from kcore._native.fetch_reader import FetchReader

if TYPE_CHECKING:
    from kcore._native.fetch_codec import FetchRequest

FINAL_EPOCH = -1
INITIAL_EPOCH = 0
EPOCH_MAX = (1 << 31) - 1
NO_SESSION = 0

SLOTS_DEFAULT = 1000
PARTITIONS_MAX = 1_000_000
EVICTION_AGE_MS = 120_000
IDS_FROM_VERSION = 13


class FetchSession:
    __slots__ = ("by_ids", "created_ms", "epoch", "id", "reader", "used_ms")

    def __init__(self, session_id: int, by_ids: bool, now_ms: int) -> None:
        self.id = session_id
        self.by_ids = by_ids
        self.epoch = INITIAL_EPOCH + 1  # the one the next request must carry
        self.created_ms = now_ms
        self.used_ms = now_ms
        self.reader = FetchReader(session_id)


class FetchSessionCache:
    __slots__ = ("_partitions", "_partitions_max", "_rng", "_sessions", "_slots", "evicted")

    def __init__(
        self, rng: Rng, slots: int = SLOTS_DEFAULT, partitions_max: int = PARTITIONS_MAX
    ) -> None:
        self._rng = rng
        self._slots = slots
        self._partitions_max = partitions_max
        self._partitions = 0  # of all sessions
        self._sessions: dict[int, FetchSession] = {}  # the longest unused first
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[FetchSession]:
        return iter(self._sessions.values())

    def resolve(
        self, request: FetchRequest, version: int, clock: Clock
    ) -> tuple[FetchReader | None, int]:
        """What to read for a request, or the error that is its whole answer."""
        epoch = request.session_epoch
        if epoch in (FINAL_EPOCH, INITIAL_EPOCH):
            if request.session_id != NO_SESSION:
                closed = self._sessions.pop(request.session_id, None)
                if closed is not None:
                    self._close(closed)
            if epoch == FINAL_EPOCH or not request.topics:
                reader = FetchReader()
                reader.merge(request.topics, ())
                return reader, 0
            return self._open(request, version >= IDS_FROM_VERSION, clock.monotonic_ms()), 0
        session = self._sessions.get(request.session_id)
        if session is None:
            return None, errors.FETCH_SESSION_ID_NOT_FOUND
        if epoch != session.epoch:
            return None, errors.INVALID_FETCH_SESSION_EPOCH
        if session.by_ids != (version >= IDS_FROM_VERSION):
            return None, errors.FETCH_SESSION_TOPIC_ID_ERROR
        grown = self._go_on(session, request, clock.monotonic_ms())
        return grown, 0 if grown is not None else errors.FETCH_SESSION_ID_NOT_FOUND

    def _open(self, request: FetchRequest, by_ids: bool, now_ms: int) -> FetchReader:
        """A session's reader, or another where there is no slot, or no room."""
        session = FetchSession(self._new_id(), by_ids, now_ms)
        session.reader.merge(request.topics, ())
        size = len(session.reader)
        if self._partitions + size > self._partitions_max or (
            len(self._sessions) >= self._slots and not self._evict_for(size, now_ms)
        ):
            reader = FetchReader()
            reader.merge(request.topics, ())
            return reader
        self._partitions += size
        self._sessions[session.id] = session
        return session.reader

    def _go_on(
        self, session: FetchSession, request: FetchRequest, now_ms: int
    ) -> FetchReader | None:
        """None: it has grown too large, and is closed."""
        session.epoch = 1 if session.epoch == EPOCH_MAX else session.epoch + 1
        session.used_ms = now_ms
        reader = session.reader
        reader.incremental = True
        reader.turn += 1
        if reader.parked is not None:
            reader.parked.finish()  # overtaken: it ends with an error, before this one begins
        del self._sessions[session.id]
        if request.topics or request.forgotten:
            before = len(reader)
            reader.merge(request.topics, request.forgotten)
            self._partitions += len(reader) - before
            if self._partitions > self._partitions_max:
                self._close(session)
                return None
            if not reader.wanted:
                reader.session_id = NO_SESSION  # an emptied one is over
                return reader
        self._sessions[session.id] = session
        return reader

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
            victim = min(old, key=lambda session: len(session.reader))
            if len(victim.reader) >= size:
                return False
        del self._sessions[victim.id]
        self._close(victim)
        self.evicted += 1
        return True

    def _close(self, session: FetchSession) -> None:
        self._partitions -= len(session.reader)
        session.reader.close()
