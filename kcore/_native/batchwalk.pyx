"""Walks the batch headers of a span and hands over only those that change a partition's state.

Opening a partition after a crash replays who produced what since the last snapshot. Most batches
of most logs have no producer id and the leader epoch of the batch before: they are stepped over at
memory speed without the GIL, and Python sees the others.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t

from kcore._native.batch cimport BATCH_OK, BatchHeader, BatchInfo, BatchStatus, batch_peek, raise_batch_status

cdef enum WalkStop:
    WALK_END = 0
    WALK_FOUND = 1
    WALK_BAD = 2

cdef struct Walk:
    const uint8_t* base
    int64_t size
    int64_t pos
    int32_t leader_epoch
    BatchStatus status


cdef WalkStop _next(Walk* walk, BatchHeader* h) noexcept nogil:
    """Steps to the next batch with a producer id or a newer leader epoch; `pos` stays on it."""
    while walk.pos < walk.size:
        walk.status = batch_peek(walk.base + walk.pos, walk.size - walk.pos, h)
        if walk.status != BATCH_OK:
            return WALK_BAD
        if h.producer_id >= 0 or h.leader_epoch > walk.leader_epoch:
            return WALK_FOUND
        walk.pos += h.size
    return WALK_END


def walk_states(span, *, int32_t leader_epoch=-1):
    """`(batches, epochs)` of a span of whole batches.

    `batches`: BatchInfo of each batch that has a producer id, in offset order.
    `epochs`: (leader epoch, first offset) wherever the epoch rises above `leader_epoch`.
    Raises CorruptBatch at the first header that is not one. Does not check CRCs: recovery has.
    """
    cdef const uint8_t[::1] view = span
    cdef BatchHeader h
    cdef Walk walk
    cdef WalkStop stop
    cdef list batches = []
    cdef list epochs = []
    if view.shape[0] == 0:
        return batches, epochs
    walk.base = &view[0]
    walk.size = view.shape[0]
    walk.pos = 0
    walk.leader_epoch = leader_epoch
    walk.status = BATCH_OK
    while True:
        with nogil:
            stop = _next(&walk, &h)
        if stop == WALK_END:
            return batches, epochs
        if stop == WALK_BAD:
            raise_batch_status(walk.status, &h, None, walk.pos)
        if h.leader_epoch > walk.leader_epoch:
            walk.leader_epoch = h.leader_epoch
            epochs.append((h.leader_epoch, h.base_offset))
        if h.producer_id >= 0:
            batches.append(BatchInfo.new(&h))
        walk.pos += h.size
