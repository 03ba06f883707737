"""The metadata store: an ordered map of bytes with revisions, transactions, watches and leases.

The shape is etcd's, because etcd is what a cluster uses; a single node has the same shape over LMDB
or memory, and nothing above this interface can tell which it talks to. Every call that may reach
another process is a coroutine; a local store finishes it without suspending.

A **revision** counts committed transactions. Every key knows the revision that created it and the
one that last changed it: comparing these in a transaction is how writers fence each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from kcore.errors import CoreError


class StoreError(CoreError):
    """The store could not do what it was asked; nothing of the transaction was applied."""


class StoreDamaged(StoreError):
    """What is stored is not what was written. The store refuses to open."""


class StoreInUse(StoreError):
    """Another process holds the store."""


class StoreClosed(StoreError):
    """The store was closed."""


class KeyValue(NamedTuple):
    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int


class Compare(NamedTuple):
    """Holds when `key` has these revisions; 0 is the revision of a key that does not exist."""

    key: bytes
    mod_revision: int | None = None
    create_revision: int | None = None


class Put(NamedTuple):
    """A key under a lease (its id, 0 for none) vanishes with the lease."""

    key: bytes
    value: bytes
    lease_id: int = 0


class TxnResult(NamedTuple):
    """`revision` is the store's after the call, whether or not the comparisons held."""

    succeeded: bool
    revision: int


class WatchEvent(NamedTuple):
    """`value` is None when the key was deleted."""

    key: bytes
    value: bytes | None
    mod_revision: int


class Watch(Protocol):
    def cancel(self) -> None:
        """No event is delivered after this returns. Cancelling twice is allowed."""


class Lease(Protocol):
    @property
    def lease_id(self) -> int: ...

    async def revoke(self) -> None:
        """Deletes every key under the lease, in one revision."""


OnEvents = Callable[[Sequence[WatchEvent]], None]


class MetadataStore(Protocol):
    @property
    def revision(self) -> int:
        """The last revision this process knows of."""

    async def get(self, key: bytes) -> KeyValue | None: ...

    async def range(self, prefix: bytes) -> list[KeyValue]:
        """Every key that starts with `prefix`, in order, at one revision."""

    async def txn(
        self,
        compare: Sequence[Compare] = (),
        puts: Sequence[Put] = (),
        deletes: Sequence[bytes] = (),
    ) -> TxnResult:
        """If every comparison holds, applies all puts and deletes at once, durably; else nothing.

        No key may be there twice. Deleting a key that does not exist changes nothing.
        """

    def watch(self, prefix: bytes, on_events: OnEvents) -> Watch:
        """Calls `on_events` after each revision that touches `prefix`, from now on, in order.

        A watch is a hint: after a lost connection a store says nothing about what it missed, so
        whoever watches must be able to read the range again and compare.
        """

    async def lease(self, ttl_ms: int) -> Lease:
        """A lease that ends when this process does, or `ttl_ms` after it was last heard of."""

    def close(self) -> None: ...


def absent(key: bytes) -> Compare:
    """Holds when `key` does not exist."""
    return Compare(key, mod_revision=0)


def unchanged(kv: KeyValue) -> Compare:
    """Holds when nobody wrote the key since `kv` was read."""
    return Compare(kv.key, mod_revision=kv.mod_revision)
