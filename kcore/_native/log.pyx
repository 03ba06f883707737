"""`Log`: append, read, look up by time, roll, truncate, flush.

One owner appends and reads; `flush` may run on any other thread. The lock exists for callers that
do share a log between threads: they wait instead of corrupting it. Readers take it too, since even
a read may load an index, map a file or repair a segment, and each of those gives the GIL away.

What the disk says decides what happens: no space is `DiskFull`, the log stays as it was; any other
failed write or sync is `StorageFailed` for good, because after a failed fsync nobody knows what is
on the disk (the kernel has marked the pages clean), and asking again would answer "fine".
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.pythread cimport (
    NOWAIT_LOCK, PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock,
    PyThread_get_thread_ident, PyThread_release_lock, WAIT_LOCK,
)
from libc.errno cimport EDQUOT, EFBIG, EMFILE, ENFILE, ENOMEM, ENOSPC
from libc.stdint cimport INT32_MAX, INT64_MAX

from kcore._native.batch cimport (
    BatchHeader, BatchStatus, batch_check, batch_peek, batch_set_append_time, batch_stamp,
    raise_batch_status,
)
from kcore._native.mapping cimport FetchSpan
from kcore._native.reading cimport read_segment

import os

from kcore import recovery, times
from kcore._native.posixops import POSIX
from kcore._native.segment import Inconsistent
from kcore.errors import (
    ClosedError, CorruptBatch, DiskFull, IndexCorrupt, LimitExceeded, OffsetOutOfRange,
    StorageFailed, TooManyFiles,
)
from kcore.log_config import LogConfig
from kcore.log_types import RecoveryReport


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class AppendResult:
    """What an append did. `append_time_ms` is -1 unless the log stamped its own time."""

    def __init__(self):
        raise TypeError("AppendResult comes from Log.append")

    def __repr__(self):
        return (f"AppendResult(base_offset={self.base_offset}, last_offset={self.last_offset}, "
                f"size={self.size}, position={self.position}, rolled={self.rolled})")


@cython.final
cdef class Log:
    """Kafka's log of one partition, in a directory of its own: `Log.open(path)`.

    Offsets count records; `next_offset`, the end, is the one that comes next. Sizes are bytes, times
    milliseconds since 1970. Any thread may call: they take turns. One `Log` at a time may have a
    directory open, in all processes together, and only a broker's is guarded: two that append to
    one directory overwrite each other. Raises CoreError (`kcore.errors`), never OSError.
    """

    def __init__(self):
        raise TypeError("use Log.open()")

    def __cinit__(self):
        self._lock = PyThread_allocate_lock()
        self._flush_lock = PyThread_allocate_lock()
        if self._lock == NULL or self._flush_lock == NULL:
            raise MemoryError("a lock")

    def __dealloc__(self):
        if self._lock != NULL:
            PyThread_free_lock(self._lock)
        if self._flush_lock != NULL:
            PyThread_free_lock(self._flush_lock)

    # ------------------------------------------------------------------- open and close

    @staticmethod
    def open(path, config=None, *, ops=None, bint clean=False, int64_t recovery_point=0,
             log_start_offset=None, bint fresh=False, bint owned=False, **settings):
        """Opens the log in directory `path`, or makes an empty one.

        `clean`: the caller knows (by its clean-shutdown marker) that the log was closed; else all
        from `recovery_point` on is scanned. `fresh`: the directory was just made; it is not read.
        `owned`: the caller has the data directory around it locked; else a running broker's is
        refused. Keyword settings change fields of `config`. See `recovery` for what was found.
        """
        cdef Log log = Log.__new__(Log)
        if config is None:
            config = LogConfig()
        if settings:
            config = config.replace(**settings)
        log.path = os.fspath(path)
        log.ops = POSIX if ops is None else ops
        if not owned and ops is None:
            from kcore.dir_lock import refuse_served

            refuse_served(log.path)
        log._scratch = bytearray()
        log._adopt(config)
        try:
            opening = recovery.open_segments(
                log.ops, log.path, config, clean=clean, recovery_point=recovery_point,
                log_start_offset=log_start_offset, fresh=fresh)
        except OSError as error:
            raise _disk_error(error) from error
        log._segments = opening.segments
        log._active = opening.segments[len(opening.segments) - 1]
        log.recovery = opening.report
        log.damaged = opening.report.damaged
        log.next_offset = log._active.next_offset
        log.log_start_offset = (<Segment>log._segments[0]).base_offset
        if log_start_offset is not None:
            log.log_start_offset = max(log.log_start_offset, log_start_offset)
        # What an unclean stop left may still be only in the page cache.
        log.flushed_offset = log.next_offset if clean else max(
            log.log_start_offset, min(recovery_point, log.next_offset))
        log._dir_unsynced = True
        return log

    def close(self, *, bint sync=True):
        """Writes the indexes, trims the file to its data and, with `sync`, makes all of it
        durable: only then may it be opened as `clean`. Spans stay valid. Idempotent."""
        if self._closed:
            return
        self._enter()
        try:
            self._closed = True
            self._forget_cleaned()
            if self._failed is None:
                self._close_active()
                if sync:
                    self._sync_all()
        except OSError as error:
            raise self._fail(error) from error
        finally:
            for segment in self._segments:
                (<Segment>segment).let_go()
            self._leave()

    def rest(self, *, bint used_too=False):
        """Gives the descriptors and mappings of segments back that nobody has used since the last
        call (or that somebody has, `used_too`); the next use opens them again. What waits for a
        sync keeps them. Returns whether none is left."""
        cdef bint all_rest = True
        if self._closed or self._failed is not None:
            return False
        self._enter()
        try:
            for segment in self._segments:
                all_rest = (<Segment>segment).rest(used_too) and all_rest
        except OSError as error:
            raise _disk_error(error) from error
        finally:
            self._leave()
        return all_rest

    def _close_active(self):
        try:
            self._active.prepare_seal(True)
        except OSError as error:
            # A full disk must not keep a log from being closed; its data is all there.
            if error.errno not in (ENOSPC, EDQUOT, EFBIG):
                raise
            self._active.drop_indexes()
        self._active.seal(self._active.next_offset)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    def configure(self, **changes):
        """Changes settings of the live log; they act from the next append on."""
        self._adopt(self.config.replace(**changes))
        for segment in self._segments:
            segment.set_limits(self.config.index_interval_bytes, self.config.segment_bytes,
                               self.config.append_mode)

    def _adopt(self, config):
        self.config = config
        self._segment_bytes = config.segment_bytes
        self._roll_ms = max(1, config.segment_ms - config.segment_jitter_ms)
        self._index_entries_max = config.index_bytes_max // 8
        self._time_entries_max = config.index_bytes_max // 12 - 1

    # ------------------------------------------------------------------- append

    def append(self, data, *, int32_t leader_epoch=0, int64_t append_time_ms=-1, bint verify=True):
        """Appends one or more whole batches, giving them the next offsets.

        Offsets and epoch are stamped into `data` itself when it is writable. With
        `append_time_ms` the batches become of type LogAppendTime. `verify=False`: the caller has
        checked the CRCs. Either all batches are in the log afterwards or none is.
        """
        cdef Py_buffer view
        cdef BatchHeader h
        cdef BatchStatus status
        cdef uint8_t* p
        cdef int64_t pos = 0, offset, max_timestamp = -1, base_offset
        cdef AppendResult result
        self._enter()
        try:
            self._ensure_writable()
            try:
                PyObject_GetBuffer(data, &view, PyBUF_WRITABLE)
            except (BufferError, TypeError):
                PyObject_GetBuffer(self._copy(data), &view, PyBUF_WRITABLE)
            try:
                p = <uint8_t*>view.buf
                while pos < view.len or view.len == 0:
                    status = (batch_check if verify else batch_peek)(p + pos, view.len - pos, &h)
                    raise_batch_status(status, &h, None, pos)
                    if h.last_offset_delta < 0:
                        raise CorruptBatch("negative last offset delta", pos=pos)
                    pos += h.size
                pos = 0
                offset = base_offset = self.next_offset
                while pos < view.len:
                    batch_peek(p + pos, view.len - pos, &h)
                    batch_stamp(p + pos, offset, leader_epoch)
                    if append_time_ms >= 0:
                        batch_set_append_time(p + pos, append_time_ms)
                        h.max_timestamp = append_time_ms
                    max_timestamp = max(max_timestamp, h.max_timestamp)
                    offset += h.last_offset_delta + 1
                    pos += h.size
                result = self._append(p, view.len, base_offset, offset, max_timestamp)
                result.append_time_ms = append_time_ms
                return result
            finally:
                PyBuffer_Release(&view)
        finally:
            self._leave()

    def append_verbatim(self, data, *, bint verify=True):
        """Appends batches as they are, offsets and epochs included: a replica's copy.

        They must not begin below the end of the log; gaps are allowed (compaction leaves them).
        """
        cdef Py_buffer view
        cdef BatchHeader h
        cdef BatchStatus status
        cdef const uint8_t* p
        cdef int64_t pos = 0, offset, max_timestamp = -1, base_offset = -1
        cdef AppendResult result
        self._enter()
        try:
            self._ensure_writable()
            PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
            try:
                p = <const uint8_t*>view.buf
                offset = self.next_offset
                while pos < view.len or view.len == 0:
                    status = (batch_check if verify else batch_peek)(p + pos, view.len - pos, &h)
                    raise_batch_status(status, &h, None, pos)
                    if (h.base_offset < offset or h.last_offset_delta < 0
                            or h.base_offset > INT64_MAX - INT32_MAX - 1):
                        raise OffsetOutOfRange("a batch does not continue the log", path=self.path,
                                               expected=offset, found=h.base_offset)
                    if base_offset < 0:
                        base_offset = h.base_offset
                    if h.base_offset + h.last_offset_delta - base_offset > INT32_MAX:
                        raise LimitExceeded(
                            "batches too far apart for one segment; append them one by one",
                            path=self.path, expected=f"offsets up to {base_offset + INT32_MAX}",
                            found=h.base_offset)
                    max_timestamp = max(max_timestamp, h.max_timestamp)
                    offset = h.base_offset + h.last_offset_delta + 1
                    pos += h.size
                result = self._append(<uint8_t*>p, view.len, base_offset, offset, max_timestamp)
                result.append_time_ms = -1
                return result
            finally:
                PyBuffer_Release(&view)
        finally:
            self._leave()

    def _copy(self, data):
        cdef Py_ssize_t size
        with memoryview(data).cast("B") as view:
            size = len(view)
            if len(self._scratch) != size:
                self._scratch = bytearray(size)
            memoryview(self._scratch)[:] = view
        return self._scratch

    cdef AppendResult _append(self, uint8_t* p, int64_t size, int64_t base_offset,
                              int64_t next_offset, int64_t max_timestamp):
        cdef BatchHeader h
        cdef Segment active = self._active
        cdef AppendResult result = AppendResult.__new__(AppendResult)
        cdef int64_t pos = 0, start
        if size > self._segment_bytes:
            raise LimitExceeded("batches larger than a segment", path=self.path,
                                expected=f"at most {self._segment_bytes} bytes", found=size)
        if self._must_roll(size, next_offset - 1, max_timestamp):
            self._roll(base_offset)
            active = self._active
            result.rolled = True
        start = active.size
        if start == 0:
            self._dir_unsynced = True       # its file may be made now
        try:
            active.write(p, size)
        except OSError as error:
            raise self._write_failed(active, error) from error
        while pos < size:
            batch_peek(p + pos, size - pos, &h)
            active.note(&h, start + pos)
            pos += h.size
        active.verified_to = active.size
        self.next_offset = next_offset
        if active.index.count - active.index.stored >= 512:
            self._store_indexes(active)
        result.base_offset = base_offset
        result.last_offset = next_offset - 1
        result.size = size
        result.max_timestamp = max_timestamp
        result.position = start
        return result

    def _store_indexes(self, Segment segment):
        # An index is a shortcut: a failure to write it must not fail the append it rides on.
        try:
            segment.index.store(False)
            segment.time_index.store(False)
        except OSError:
            pass

    def _write_failed(self, Segment active, error):
        """Leaves the log as it was before the write, and says what became of it."""
        if error.errno in (ENOSPC, EDQUOT, EFBIG, EMFILE, ENFILE, ENOMEM):
            try:
                if active.file is not None:
                    active.drop_unwritten()
                return _disk_error(error, active.path)
            except OSError as again:
                error = again
        return self._fail(error)

    def _fail(self, error):
        self._failed = _disk_error(error)  # raised never: a traceback would keep the log alive
        return _disk_error(error)

    # ------------------------------------------------------------------- roll

    cdef bint _must_roll(self, int64_t size, int64_t last_offset, int64_t max_timestamp) except -1:
        cdef Segment active = self._active
        if last_offset - active.base_offset > INT32_MAX:
            return True
        if active.size == 0:
            return False
        if active.size + size > self._segment_bytes:
            return True
        if (active.index.count >= self._index_entries_max
                or active.time_index.count >= self._time_entries_max):
            return True
        if max_timestamp >= 0 and active.first_timestamp >= 0:
            return max_timestamp - active.first_timestamp > self._roll_ms
        return self._roll_ms < INT64_MAX // 2 and (
            <int64_t>self.config.clock_ms() - active.created_ms > self._roll_ms)

    def _roll(self, int64_t base_offset):
        cdef Segment fresh
        base_offset = max(base_offset, self.next_offset)
        try:
            self._active.prepare_seal()
            fresh = recovery.make_segment(self.ops, self.path, self.config, base_offset)
        except OSError as error:
            raise self._write_failed(self._active, error) from error
        self._active.seal(base_offset)
        self._segments.append(fresh)
        self._active = fresh
        self._dir_unsynced = True

    def roll(self):
        """Ends the active segment, unless it is empty. Returns whether it did."""
        self._enter()
        try:
            self._ensure_writable()
            if self._active.size == 0:
                return False
            self._roll(self.next_offset)
            return True
        finally:
            self._leave()

    # ------------------------------------------------------------------- read

    def read(self, int64_t offset, int64_t max_bytes, *, max_offset=None, bint one_at_least=True):
        """Whole batches from the one that holds `offset` on, at most `max_bytes`, of one segment.

        At least one batch if `one_at_least`; only batches that end below `max_offset`. None when
        there is nothing (yet). Raises OffsetOutOfRange, or DamagedRange for quarantined offsets.
        """
        return self.read_span(
            offset, min(max_bytes, <int64_t>INT32_MAX),
            INT64_MAX if max_offset is None else <int64_t>max_offset, one_at_least, None)

    cdef FetchSpan read_span(self, int64_t offset, int64_t max_bytes, int64_t bound, bint one,
                             list cold):
        self._enter()
        try:
            return self._read(offset, max_bytes, bound, one, cold)
        finally:
            self._leave()

    cdef FetchSpan _read(self, int64_t offset, int64_t max_bytes, int64_t bound, bint one,
                         list cold):
        cdef int64_t i
        cdef Py_ssize_t cold_before = 0 if cold is None else len(cold)
        cdef FetchSpan span
        cdef Segment segment
        if self._closed:
            raise ClosedError("the log is closed", path=self.path)
        bound = min(bound, self.next_offset)
        if offset < self.log_start_offset or offset > self.next_offset:
            raise OffsetOutOfRange("no such offset", path=self.path, found=offset,
                                   expected=f"{self.log_start_offset}..{self.next_offset}")
        i = self._segment_at(offset)
        while offset < bound and i < len(self._segments):
            if self.damaged:
                recovery.refuse_damaged(self.damaged, offset)
            segment = self._segments[i]
            try:
                span = read_segment(segment, offset, max_bytes, bound, one, cold)
            except (Inconsistent, IndexCorrupt):
                self._examine(i)
                if self.damaged:
                    recovery.refuse_damaged(self.damaged, offset)
                span = read_segment(segment, offset, max_bytes, bound, one, cold)
            except OSError as error:
                raise _disk_error(error) from error
            if span is not None or (cold is not None and len(cold) > cold_before):
                return span
            # Nothing at or after `offset` in this one: compaction may have emptied its end.
            if segment is self._active or segment.next_offset >= bound:
                return None
            i += 1
            offset = max(offset, (<Segment>self._segments[i]).base_offset)
        return None

    cdef int64_t _segment_at(self, int64_t offset) noexcept:
        """Index of the segment that holds `offset`: the last with a base not above it."""
        cdef int64_t low = 0, high = len(self._segments) - 1, middle
        if offset >= self._active.base_offset:
            return high
        while low < high:
            middle = (low + high + 1) >> 1
            if (<Segment>self._segments[middle]).base_offset <= offset:
                low = middle
            else:
                high = middle - 1
        return low

    def _examine(self, int64_t i):
        """A reader met bytes that contradict the segment: scan it, rebuild its indexes, and list
        what is damaged. The active segment cannot be wrong about what it wrote itself."""
        cdef Segment segment = self._segments[i]
        self._enter()
        try:
            report = RecoveryReport(clean=False)
            if segment is self._active:
                scan = recovery.scan_segment(segment)
                if scan.tail == "torn" or segment.next_offset < self.next_offset:
                    segment.add_damage(scan.tail_pos, scan.tail_end, segment.next_offset,
                                       self.next_offset)
                    self._roll(self.next_offset)
            else:
                recovery.examine_sealed(segment, segment.next_offset, report)
            self.damaged = recovery.damaged_spans(self._segments)
            recovery.store_damage(self.ops, self.path, self._segments)
        except OSError as error:
            raise self._fail(error) from error
        finally:
            self._leave()

    # ------------------------------------------------------------------- by time (times.py)

    def offset_for_timestamp(self, int64_t ms, *, max_offset=None):
        """The first record, in offset order, whose timestamp is at least `ms`; None if none is."""
        return times.first_at_or_after(self, ms, INT64_MAX if max_offset is None else max_offset)

    def max_timestamp_offset(self):
        """The record with the largest timestamp (the first of those); None if there is none."""
        return times.largest(self)

    def segment_list(self):
        """The segment objects themselves."""
        return list(self._segments)

    def time_start(self, int64_t ms, int64_t offset):
        """For `times`: where records that are not older than `ms` may be at or after `offset`, as
        (start, end) offsets in the first segment that has any in its whole; None if none has. A
        segment may begin before `offset`. Repairs a time index that does not fit its batches."""
        cdef Segment segment
        cdef int64_t i
        self._enter()
        try:
            i = self._segment_at(offset)
            while i < len(self._segments):
                segment = self._segments[i]
                if not segment.times_known:
                    self._ensure_times(segment)
                if segment.max_timestamp >= ms and segment.next_offset > offset:
                    return self._time_start(i, ms), segment.next_offset
                i += 1
            return None
        except OSError as error:
            raise _disk_error(error) from error
        finally:
            self._leave()

    cdef int64_t _time_start(self, int64_t i, int64_t ms) except -1:
        cdef int64_t found = 0, offset = 0
        cdef BatchHeader h
        cdef Segment segment = self._segments[i]
        try:
            segment.load_indexes(False)
            if not segment.time_index.floor(ms, &found, &offset):
                return segment.base_offset
            if segment.find(offset, &h) < segment.size and h.max_timestamp == found:
                return offset
        except (Inconsistent, IndexCorrupt):
            pass
        self._examine(i)
        return segment.base_offset

    def _ensure_times(self, Segment segment):
        if not segment.times_known:
            try:
                segment.load_times()
            except (Inconsistent, IndexCorrupt):
                self._examine(self._segments.index(segment))
            except OSError as error:
                raise _disk_error(error) from error

    # ------------------------------------------------------------------- truncate, delete

    def truncate(self, int64_t offset):
        """Cuts everything from the batch that holds `offset` on; later segments go at once.

        A stored recovery point above `offset` must be lowered before: after a crash it would
        claim offsets that were cut on purpose.
        """
        cdef Segment segment
        cdef BatchHeader h
        cdef int64_t pos, next_offset
        self._enter()
        try:
            if offset >= self.next_offset:
                return
            if offset < self.log_start_offset:
                raise OffsetOutOfRange("cannot truncate below the log start", path=self.path,
                                       expected=f"at least {self.log_start_offset}", found=offset)
            self._ensure_writable()
            self._check_cut(offset)
            self._forget_cleaned()
            self.cuts += 1
            removed = False
            while len(self._segments) > 1 and self._active.base_offset > offset:
                # From the end: a crash in between leaves a shorter log, never one with a hole.
                self._active.remove()
                self._segments.pop()
                self._active = self._segments[len(self._segments) - 1]
                self.next_offset = self._active.next_offset
                removed = True
            if removed:
                self.ops.sync_dir(self.path)    # before the cut, which is synced too
            segment = self._active
            pos = segment.find(offset, &h)
            next_offset = h.base_offset if pos < segment.size else segment.next_offset
            for start, _, first_offset, after in segment.damage:
                if start < pos and after > offset:      # the cut goes through what is damaged
                    pos, next_offset = start, min(next_offset, first_offset)
            next_offset = min(next_offset, max(offset, segment.base_offset))
            self.next_offset = next_offset      # before the cut: readers look here first
            segment.cut(pos, next_offset)
            # The log start may lie inside the batch that went.
            segment.next_offset = max(segment.next_offset, self.log_start_offset)
            self.next_offset = segment.next_offset
            self.flushed_offset = min(self.flushed_offset, self.next_offset)
            self._dir_unsynced = True
            self._note_damage()
        except OSError as error:
            raise self._fail(error) from error
        finally:
            self._leave()

    def _check_cut(self, int64_t offset):
        """What a cut relies on is repaired first: in the middle there is no way back."""
        cdef BatchHeader h
        cdef int64_t i = self._segment_at(offset)
        cdef Segment segment = self._segments[i]
        try:
            segment.find(offset, &h)
            segment.load_indexes(False)
            segment.load_times()
        except (Inconsistent, IndexCorrupt):
            self._examine(i)
        except OSError as error:
            raise _disk_error(error) from error

    def truncate_prefix(self, int64_t offset):
        """Moves the log start to `offset` and renames the segments wholly below it.

        Returns the renamed paths. The caller stores the log start; the log itself does not.
        """
        self._enter()
        try:
            self._ensure_writable()
            if offset > self.next_offset:
                raise OffsetOutOfRange("cannot move the log start past the end", path=self.path,
                                       expected=f"at most {self.next_offset}", found=offset)
            if offset > self.log_start_offset:
                self.log_start_offset = offset
                self.flushed_offset = max(self.flushed_offset, offset)
            return self.delete_segments_below(offset)
        finally:
            self._leave()

    def delete_segments_below(self, int64_t offset):
        """Renames whole segments that end at or below `offset` to '.deleted'; the active one
        stays. The log start moves up to what is left. Returns the new paths."""
        cdef Segment segment
        renamed = []
        self._enter()
        try:
            self._ensure_writable()
            while len(self._segments) > 1:
                segment = self._segments[0]
                if segment.next_offset > offset:
                    break
                self._forget_cleaned()
                renamed += segment.remove()
                del self._segments[0]
                self._dir_unsynced = True
            self.log_start_offset = max(
                self.log_start_offset, (<Segment>self._segments[0]).base_offset)
            self.flushed_offset = max(self.flushed_offset, self.log_start_offset)
            if renamed:
                self._note_damage()
        except OSError as error:
            raise self._fail(error) from error
        finally:
            self._leave()
        return renamed

    cdef int _forget_cleaned(self) except -1:
        """What compaction made of segments that now change must not take their place, not even
        after a crash."""
        if self._cleaned is not None:
            cleaned, self._cleaned = self._cleaned, None
            cleaned.unlink()
        return 0

    def retire(self):
        """The directory is about to be renamed or removed: nothing more is made in it by the
        threads that may still be at work on this log."""
        self._enter()
        try:
            self._retired = True
            self._cleaned = None
        finally:
            self._leave()

    def _note_damage(self):
        if self.damaged:
            self.damaged = recovery.damaged_spans(self._segments)
            recovery.store_damage(self.ops, self.path, self._segments)

    def purge_deleted(self):
        """Removes the '.deleted' files of this directory. Returns how many."""
        return recovery.purge_deleted(self.ops, self.path)

    # ------------------------------------------------------------------- flush

    @property
    def needs_sync(self):
        """Under flush_policy "sync": whether appends wait for a `flush` before they may be acked."""
        return self.config.flush_policy == "sync" and self.flushed_offset < self.next_offset

    def flush(self):
        """Makes everything appended before this call durable; returns the flushed offset.

        Callable from another thread than the appends; the syncs run without the GIL. Calls that
        arrive while one is under way share the next: many appends, one fdatasync.
        """
        cdef int64_t target = self.next_offset
        cdef int64_t cuts
        if self._closed:
            raise ClosedError("the log is closed", path=self.path)
        if self.flushed_offset >= target and not self._dir_unsynced:
            return self.flushed_offset
        with nogil:
            PyThread_acquire_lock(self._flush_lock, WAIT_LOCK)
        try:
            if self._failed is not None:
                raise StorageFailed("the log failed before", path=self.path) from self._failed
            if self.flushed_offset >= target and not self._dir_unsynced:
                return self.flushed_offset      # the one we waited for has covered us
            target = self.next_offset
            cuts = self.cuts
            try:
                self._sync_all()
            except OSError as error:
                if error.errno in (EMFILE, ENFILE, ENOMEM):
                    self._dir_unsynced = True   # all that opens a file here
                    raise _disk_error(error) from error
                raise self._fail(error) from error
            if cuts == self.cuts:
                self.flushed_offset = max(self.flushed_offset, target)
            return self.flushed_offset
        finally:
            PyThread_release_lock(self._flush_lock)

    def begin_sync(self):
        """For a caller that is about to make a whole file system durable: what was appended before
        counts as flushed when `end_sync` says so. Other flushes of this log wait until then. False
        when there is nothing to end: it is closed, or has failed."""
        if self._closed or self._failed is not None:
            return False
        with nogil:
            PyThread_acquire_lock(self._flush_lock, WAIT_LOCK)
        self._sync_to = self.next_offset
        self._sync_cuts = self.cuts
        for segment in self._segments:
            (<Segment>segment).note_synced()
        self._dir_unsynced = False
        return True

    def end_sync(self, failure=None):
        """`failure`: the OSError of the sync, which ends this log as that of a `flush` does."""
        if failure is not None:
            self._fail(failure)
        elif self._sync_cuts == self.cuts:
            self.flushed_offset = max(self.flushed_offset, self._sync_to)
        PyThread_release_lock(self._flush_lock)

    def _sync_all(self):
        for segment in list(self._segments):
            segment.sync()
        if self._dir_unsynced:
            self._dir_unsynced = False
            self.ops.sync_dir(self.path)

    # ------------------------------------------------------------------- about it

    @property
    def size_bytes(self):
        """Bytes of data; preallocated space does not count."""
        return sum([segment.size for segment in self._segments])

    @property
    def closed(self):
        return self._closed

    @property
    def failed(self):
        """The error that stopped this log, or None."""
        return self._failed

    def sizes(self):
        """[(base offset, next offset, bytes)] of the segments, the active one last: what can be
        told without a look at the disk."""
        cdef Segment segment
        return [(segment.base_offset, segment.next_offset, segment.size)
                for segment in self._segments]

    @property
    def active_offset(self):
        """Base offset of the active segment."""
        return self._active.base_offset

    def segments(self):
        """The segments in order, the active one last."""
        self._enter()
        try:
            for segment in self._segments:
                self._ensure_times(segment)
            return [recovery.segment_info(self.ops, segment) for segment in self._segments]
        finally:
            self._leave()

    def __repr__(self):
        return (f"<Log {self.path!r} offsets {self.log_start_offset}..{self.next_offset} "
                f"in {len(self._segments)} segments{' closed' if self._closed else ''}>")

    # ------------------------------------------------------------------- private

    cdef int _enter(self) except -1:
        cdef unsigned long thread = PyThread_get_thread_ident()
        if self._depth and self._holder == thread:
            self._depth += 1
            return 0
        if not PyThread_acquire_lock(self._lock, NOWAIT_LOCK):
            with nogil:
                PyThread_acquire_lock(self._lock, WAIT_LOCK)
        self._holder = thread
        self._depth = 1
        return 0

    cdef void _leave(self) noexcept:
        self._depth -= 1
        if self._depth == 0:
            PyThread_release_lock(self._lock)

    cdef int _ensure_writable(self) except -1:
        if self._closed:
            raise ClosedError("the log is closed", path=self.path)
        if self._failed is not None:
            raise StorageFailed("a write or sync failed before; reopen the log",
                                path=self.path) from self._failed
        return 0


def _disk_error(error, path=None):
    if error.errno in (ENOSPC, EDQUOT, EFBIG):
        kind = DiskFull
    else:
        kind = TooManyFiles if error.errno in (EMFILE, ENFILE, ENOMEM) else StorageFailed
    return kind(f"{error.strerror or error}", path=path or error.filename)
