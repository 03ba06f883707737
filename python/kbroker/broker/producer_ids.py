"""Producer ids: unique for the life of the cluster, handed out from blocks taken from the store.

A block is committed before its first id leaves, so a crash skips ids and never repeats one.
"""

from __future__ import annotations

import asyncio

from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.meta import codec, keys
from kbroker.meta.store.base import MetadataStore, Put, StoreError, absent, unchanged

BLOCK_SIZE = 1_000
PRODUCER_ID_MAX = (1 << 63) - 1
_ATTEMPTS = 10


class ProducerIdBlocks:
    def __init__(self, store: MetadataStore) -> None:
        self._store = store
        self._next = 0
        self._end = 0  # exclusive
        self._lock = asyncio.Lock()

    async def allocate(self) -> int:
        """A producer id that nobody had; a retriable KafkaError when the store gives no block."""
        if self._next == self._end:
            async with self._lock:
                # Whoever waited for the lock may find the block that the one before it took.
                if self._next == self._end:
                    self._next, self._end = await self._take_block()
        producer_id = self._next
        self._next += 1
        return producer_id

    async def _take_block(self) -> tuple[int, int]:
        try:
            # Another broker may take a block between the two calls; each loss is its gain.
            for _ in range(_ATTEMPTS):
                kv = await self._store.get(keys.PID_BLOCK)
                start = 0 if kv is None else codec.decode_pid_block(kv)
                end = start + BLOCK_SIZE
                if end > PRODUCER_ID_MAX:
                    break
                compare = absent(keys.PID_BLOCK) if kv is None else unchanged(kv)
                put = Put(keys.PID_BLOCK, codec.encode_pid_block(end))
                if (await self._store.txn([compare], [put])).succeeded:
                    return start, end
        except StoreError as failed:
            raise KafkaError(
                errors.COORDINATOR_NOT_AVAILABLE, f"No producer id could be reserved: {failed}"
            ) from failed
        raise KafkaError(errors.COORDINATOR_NOT_AVAILABLE, "No producer id could be reserved.")
