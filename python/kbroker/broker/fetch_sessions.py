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

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kbroker.base import errors
from kbroker.base.rng import Rng
from kcore._native.fetch_reader import FetchReader

if TYPE_CHECKING:
    from kcore._native.fetch_codec import FetchRequest

FINAL_EPOCH = -1
INITIAL_EPOCH = 0
EPOCH_MAX = (1 << 31) - 1
NO_SESSION = 0

SLOTS_DEFAULT = 1000
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
        self.reader = FetchReader(lasting=True)


class FetchPlan:
    """What one request is to read. No `reader`: nothing, the answer is only the error."""

    __slots__ = ("_epoch", "_session", "error_code", "incremental", "reader", "session_id")

    def __init__(
        self,
        reader: FetchReader | None,
        *,
        session: FetchSession | None = None,
        session_id: int = NO_SESSION,
        incremental: bool = False,
        error_code: int = 0,
    ) -> None:
        self.reader = reader
        self.session_id = session_id
        self.incremental = incremental
        self.error_code = error_code
        self._session = session
        self._epoch = 0 if session is None else session.epoch

    @property
    def overtaken(self) -> bool:
        """The session has gone on to a later request since."""
        return self._session is not None and self._session.epoch != self._epoch


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
                closed = self._sessions.pop(request.session_id, None)
                if closed is not None:
                    closed.reader.close()
            if epoch == FINAL_EPOCH or not request.topics:
                return _without_session(request)
            return self._open(request, version >= IDS_FROM_VERSION, now_ms)
        return self._go_on(request, version, now_ms)

    def _open(self, request: FetchRequest, by_ids: bool, now_ms: int) -> FetchPlan:
        if len(self._sessions) >= self._slots and not self._evict_for(
            sum(len(asked_list) for _, asked_list in request.topics), now_ms
        ):
            return _without_session(request)
        session = FetchSession(self._new_id(), by_ids, now_ms)
        session.reader.merge(request.topics, [])
        self._sessions[session.id] = session
        return FetchPlan(session.reader, session=session, session_id=session.id)

    def _go_on(self, request: FetchRequest, version: int, now_ms: int) -> FetchPlan:
        session = self._sessions.get(request.session_id)
        if session is None:
            return FetchPlan(None, error_code=errors.FETCH_SESSION_ID_NOT_FOUND)
        if request.session_epoch != session.epoch:
            return FetchPlan(None, error_code=errors.INVALID_FETCH_SESSION_EPOCH)
        if session.by_ids != (version >= IDS_FROM_VERSION):
            return FetchPlan(None, error_code=errors.FETCH_SESSION_TOPIC_ID_ERROR)
        session.epoch = 1 if session.epoch == EPOCH_MAX else session.epoch + 1
        session.used_ms = now_ms
        reader = session.reader
        if reader.parked is not None:
            reader.parked.finish()  # overtaken: it ends with an error, before this one begins
        del self._sessions[session.id]
        if request.topics or request.forgotten:
            reader.merge(request.topics, request.forgotten)
            if not reader.wanted:
                return FetchPlan(reader, incremental=True)
        self._sessions[session.id] = session
        return FetchPlan(reader, session=session, session_id=session.id, incremental=True)

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
        victim.reader.close()
        self.evicted += 1
        return True


def _without_session(request: FetchRequest) -> FetchPlan:
    reader = FetchReader(lasting=False)
    reader.merge(request.topics, [])
    return FetchPlan(reader)
