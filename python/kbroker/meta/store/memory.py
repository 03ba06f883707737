"""A metadata store in memory: of in-memory brokers and tests, and what the LMDB store reads from.

Metadata is small and read far more often than written, so the whole of it is held here; a durable
store only adds `_persist`, which is called before a change becomes visible.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence

from kbroker.base.check import invariant
from kbroker.meta.store.base import (
    Compare,
    KeyValue,
    Lease,
    OnEvents,
    Put,
    StoreClosed,
    TxnResult,
    WatchEvent,
)

Changes = Mapping[bytes, KeyValue | None]


class MemoryStore:
    """A MetadataStore that lives as long as the object. One loop owns it: no locks."""

    def __init__(self) -> None:
        self._by_key: dict[bytes, KeyValue] = {}
        self._keys: list[bytes] = []  # sorted, so that a range is a slice
        self._leased: dict[bytes, int] = {}  # key -> lease id
        self._revision = 0
        self._next_lease_id = 1
        self._watches: list[_Watch] = []
        self._closed = False

    @property
    def revision(self) -> int:
        return self._revision

    async def get(self, key: bytes) -> KeyValue | None:
        self._ensure_open()
        return self._by_key.get(key)

    async def range(self, prefix: bytes) -> list[KeyValue]:
        self._ensure_open()
        found = []
        for index in range(bisect_left(self._keys, prefix), len(self._keys)):
            key = self._keys[index]
            if not key.startswith(prefix):
                break
            found.append(self._by_key[key])
        return found

    async def txn(
        self,
        compare: Sequence[Compare] = (),
        puts: Sequence[Put] = (),
        deletes: Sequence[bytes] = (),
    ) -> TxnResult:
        self._ensure_open()
        if not all(self._holds(condition) for condition in compare):
            return TxnResult(False, self._revision)
        touched = [put.key for put in puts] + list(deletes)
        invariant(len(set(touched)) == len(touched), "a transaction touches a key twice")
        self._commit(puts, deletes)
        return TxnResult(True, self._revision)

    def watch(self, prefix: bytes, on_events: OnEvents) -> _Watch:
        self._ensure_open()
        watch = _Watch(self, prefix, on_events)
        self._watches.append(watch)
        return watch

    async def lease(self, ttl_ms: int) -> Lease:
        """The store ends with the process that would have to renew the lease, so `ttl_ms` cannot
        pass while anybody is there to see it."""
        self._ensure_open()
        invariant(ttl_ms > 0, "a lease needs a time to live")
        lease_id = self._next_lease_id
        self._next_lease_id += 1
        return _Lease(self, lease_id)

    def close(self) -> None:
        self._closed = True
        self._watches.clear()

    def _persist(self, changes: Changes, revision: int) -> None:
        """Makes the change durable or raises; the memory is only changed after it returned."""

    def _ensure_open(self) -> None:
        if self._closed:
            raise StoreClosed("the metadata store is closed")

    def _holds(self, condition: Compare) -> bool:
        kv = self._by_key.get(condition.key)
        created, modified = (kv.create_revision, kv.mod_revision) if kv else (0, 0)
        return condition.mod_revision in (None, modified) and condition.create_revision in (
            None,
            created,
        )

    def _commit(self, puts: Sequence[Put], deletes: Sequence[bytes]) -> None:
        changes: dict[bytes, KeyValue | None] = {}
        revision = self._revision + 1
        for put in puts:
            old = self._by_key.get(put.key)
            invariant(
                old is None or (put.key in self._leased) == bool(put.lease_id),
                f"{put.key!r} is under a lease or it is not, for as long as it exists",
            )
            created = old.create_revision if old else revision
            changes[put.key] = KeyValue(put.key, put.value, created, revision)
        for key in deletes:
            if key in self._by_key:
                changes[key] = None
        if not changes:
            return
        # A key under a lease must be gone after a restart, so it never reaches the disk.
        leased = self._leased.keys() | {put.key for put in puts if put.lease_id}
        self._persist({key: kv for key, kv in changes.items() if key not in leased}, revision)
        self._revision = revision
        for key, kv in changes.items():
            self._apply(key, kv)
        self._leased.update((put.key, put.lease_id) for put in puts if put.lease_id)
        self._notify(changes)

    def _apply(self, key: bytes, kv: KeyValue | None) -> None:
        if kv is None:
            del self._by_key[key]
            self._leased.pop(key, None)
            del self._keys[bisect_left(self._keys, key)]
            return
        if key not in self._by_key:
            insort(self._keys, key)
        self._by_key[key] = kv

    def _notify(self, changes: Changes) -> None:
        events = [
            WatchEvent(key, kv.value if kv else None, self._revision)
            for key, kv in sorted(changes.items())
        ]
        for watch in list(self._watches):
            wanted = [event for event in events if event.key.startswith(watch.prefix)]
            if wanted and watch in self._watches:
                watch.on_events(wanted)


class _Watch:
    __slots__ = ("_store", "on_events", "prefix")

    def __init__(self, store: MemoryStore, prefix: bytes, on_events: OnEvents) -> None:
        self._store = store
        self.prefix = prefix
        self.on_events = on_events

    def cancel(self) -> None:
        if self in self._store._watches:
            self._store._watches.remove(self)


class _Lease:
    __slots__ = ("_store", "lease_id")

    def __init__(self, store: MemoryStore, lease_id: int) -> None:
        self._store = store
        self.lease_id = lease_id

    async def revoke(self) -> None:
        keys = [key for key, owner in self._store._leased.items() if owner == self.lease_id]
        if keys:
            await self._store.txn(deletes=keys)
