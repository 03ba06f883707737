"""`Swap`: a compacted segment on its way into the place of the segments it was made from.

    begin   '.cleaned' files are made; whoever compacts writes to `segment`         any thread
    offer   sealed, synced, renamed to '.swap', directory synced                    any thread
    finish  originals renamed to '.deleted', '.swap' stripped, the log's list       the log's owner

Of the files of one segment the log's is renamed last each time, so that a '.log.swap' says: all
that is needed is here, and durable. From there on a crash ends with the swap done (`recovery`),
before it with the originals. A log has one swap at a time; truncation, the removal of old segments
and close make an end of it (`Log._forget_cleaned`), and each step here asks whether it still counts.
The long waits (the data's sync, the directory's) hold no lock.
"""

cimport cython
from libc.stdint cimport INT32_MAX, int64_t, uint8_t

from kcore._native.batch cimport (
    BATCH_OK, BatchHeader, BatchStatus, batch_peek, raise_batch_status,
)
from kcore._native.fileops cimport File, FileOps
from kcore._native.log cimport Log
from kcore._native.segment cimport Segment

from kcore import recovery
from kcore._native.segment import segment_path
from kcore.errors import LimitExceeded
from kcore.files.names import CLEANED_SUFFIX, DELETED_SUFFIX, SWAP_SUFFIX, TXN_INDEX_SUFFIX


@cython.final
cdef class Swap:
    """Of the segments that begin at `bases`, in order; what comes after them begins at
    `next_offset`. Raises nothing for a log that has moved on: `counts` turns false."""

    cdef Log log
    cdef readonly list bases
    cdef readonly int64_t next_offset
    cdef readonly Segment segment
    cdef str txn_path            # of the transaction index, as the segment's first name has it
    cdef str state

    @staticmethod
    def begin(Log log, bases, int64_t next_offset, *, int64_t cuts=-1):
        """Makes the '.cleaned' segment. None when the log is closed, gone, or has moved on.
        `cuts`: the log's when the work began; none may have come since."""
        cdef Swap swap = Swap.__new__(Swap)
        swap.log = log
        swap.bases = list(bases)
        swap.next_offset = next_offset
        swap.txn_path = segment_path(log.path, swap.bases[0], TXN_INDEX_SUFFIX)
        swap.state = CLEANED_SUFFIX
        log._enter()
        try:
            if (log._closed or log._retired or log._failed is not None or cuts not in (-1, log.cuts)
                    or log._cleaned is not None or swap._place() < 0):
                return None
            for suffix in (".log", ".index", ".timeindex", TXN_INDEX_SUFFIX):
                path = segment_path(log.path, swap.bases[0], suffix) + CLEANED_SUFFIX
                if log.ops.exists(path):
                    log.ops.unlink(path)
            swap.segment = recovery.make_segment(
                log.ops, log.path, log.config.replace(append_mode="pwrite"), swap.bases[0],
                state=CLEANED_SUFFIX)
            log._cleaned = swap
            return swap
        finally:
            log._leave()

    @property
    def counts(self):
        """Whether the log still waits for it."""
        return self.log._cleaned is self

    def txn_indexes(self):
        """Paths of the transaction indexes beside the originals."""
        paths = [segment_path(self.log.path, base, TXN_INDEX_SUFFIX) for base in self.bases]
        return [path for path in paths if self.log.ops.exists(path)]

    def append(self, data):
        """Whole batches with valid headers, above what is there: they are written and indexed."""
        cdef Segment segment = self.segment
        cdef const uint8_t[::1] view = data
        cdef const uint8_t* p
        cdef BatchHeader h
        cdef int64_t pos = 0, start = segment.size, size = view.shape[0]
        cdef BatchStatus status = BATCH_OK
        if size == 0:
            return
        if start + size > INT32_MAX:
            raise LimitExceeded("compaction made a segment too large", path=segment.path,
                                expected=f"at most {INT32_MAX} bytes", found=start + size)
        p = &view[0]
        segment.write(p, size)
        with nogil:
            while pos < size and status == BATCH_OK:
                status = batch_peek(p + pos, size - pos, &h)
                if status == BATCH_OK:
                    segment.note(&h, start + pos)
                    pos += h.size
        raise_batch_status(status, &h, segment.path, start + pos)
        segment.verified_to = segment.size

    def offer(self, txn_index=None):
        """Everything durable under '.swap'. `txn_index`: bytes of the new transaction index, or
        None when the originals have none. Returns whether it still counts."""
        cdef Log log = self.log
        cdef FileOps ops = log.ops
        cdef File f
        cdef bytes rows
        log._enter()
        try:
            if not self.counts:
                return False
            self.segment.seal_at(self.next_offset)
            if txn_index is not None:
                rows = txn_index
                f = ops.open(self.txn_path + CLEANED_SUFFIX, True)
                if rows:
                    ops.pwrite(f, <const uint8_t*><char*>rows, len(rows), 0)
        finally:
            log._leave()
        self.segment.sync()
        if txn_index is not None:
            ops.sync(f)
        log._enter()
        try:
            if not self.counts:
                return False
            if txn_index is not None:
                ops.rename(self.txn_path + CLEANED_SUFFIX, self.txn_path + SWAP_SUFFIX)
            self.state = SWAP_SUFFIX
            self.segment.rename_to(SWAP_SUFFIX)
        finally:
            log._leave()
        ops.sync_dir(log.path)
        return True

    def finish(self):
        """The log has it instead of the originals. Returns the paths of their '.deleted' files,
        or None when it counts no more."""
        cdef Log log = self.log
        cdef FileOps ops = log.ops
        cdef Segment original
        cdef int64_t at
        renamed = []
        log._enter()
        try:
            if not self.counts:
                return None
            at = self._place()
            if at < 0 or self.state != SWAP_SUFFIX:
                log._forget_cleaned()
                return None
            for original in log._segments[at:at + len(self.bases)]:
                renamed += original.remove()
                path = segment_path(log.path, original.base_offset, TXN_INDEX_SUFFIX)
                if original.base_offset != self.bases[0] and ops.exists(path):
                    ops.rename(path, path + DELETED_SUFFIX)
                    renamed.append(path + DELETED_SUFFIX)
            if ops.exists(self.txn_path + SWAP_SUFFIX):
                ops.rename(self.txn_path + SWAP_SUFFIX, self.txn_path)
            self.segment.rename_to("")
            log._segments[at:at + len(self.bases)] = [self.segment]
            log._cleaned = None
            log._dir_unsynced = True
            return renamed
        except OSError as error:
            # Half the names are changed: only opening the log again can tell what is what.
            log._cleaned = None
            raise log._fail(error) from error
        finally:
            log._leave()

    def discard(self):
        """Gives it up; the originals stay. Harmless at any time."""
        self.log._enter()
        try:
            if self.counts:
                self.log._forget_cleaned()
        finally:
            self.log._leave()

    def unlink(self):
        """For the log: removes the files, under whatever names they have by now."""
        self.segment.unlink()
        for state in (CLEANED_SUFFIX, SWAP_SUFFIX):
            if self.log.ops.exists(self.txn_path + state):
                self.log.ops.unlink(self.txn_path + state)

    cdef int64_t _place(self) except -2:
        """Index of the first original, or -1 when they are no longer there as they were."""
        cdef Log log = self.log
        cdef Segment segment
        cdef int64_t at, i
        at = log._segment_at(self.bases[0])
        if at + len(self.bases) >= len(log._segments):
            return -1           # the active segment is never one of them
        for i in range(len(self.bases)):
            segment = log._segments[at + i]
            if segment.base_offset != self.bases[i] or segment.damage:
                return -1
        segment = log._segments[at + len(self.bases)]
        return at if segment.base_offset == self.next_offset else -1
