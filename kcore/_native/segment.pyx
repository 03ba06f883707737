"""Segments: append by store or by pwrite, read by slices of the mapping.

Both ways of writing meet in one page cache. A small batch is a memcpy into pages that the helper
thread has populated ahead; anything else is one pwrite into the same preallocated file, which
costs a third of faulting fresh pages in. Blocks exist before a byte is stored, so a full disk is
an error of the append and never a signal.

Nothing below a live span is unmapped, cut or rewritten: a mapping lives as long as its spans, and
`cut` moves the kept part to a new file while any span is out.

This file raises OSError for the disk and `Inconsistent` for bytes that contradict what the segment
knows; the log decides what they mean.
"""

cimport cython
from libc.errno cimport EDQUOT, EFBIG, ENOSPC
from libc.stdint cimport INT64_MAX
from libc.string cimport memcmp, memcpy

from kcore._native.batch cimport BATCH_OK, batch_check, batch_peek

import os

from kcore.errors import CoreError, IndexCorrupt

cdef extern from "<unistd.h>" nogil:
    long sysconf(int name)
    int _SC_PAGESIZE

cdef enum:
    # Measured per append, populated store against pwrite: 256 B 0.24 against 1.6 us, 1 KiB 0.4-0.75
    # against 2.2, 4 KiB 0.9-1.3 against 4.6-5.4. Beyond, a stream of appends outruns the helper
    # (it populates 0.4-6 GB/s), whose work costs a second core what the first one saves.
    STORE_BYTES_MAX = 4096
    WINDOW_BYTES_MIN = 256 * 1024
    WINDOW_BYTES_MAX = 1024 * 1024
    # Populated pages are dirty pages: a partition must show some traffic before it gets them.
    SMALL_APPENDS_MIN = 16
    GROW_BYTES_MIN = 4 * 1024       # doubled from then on: most partitions of many stay small
    GROW_BYTES_MAX = 64 * 1024 * 1024

cdef int64_t PAGE_BYTES = sysconf(_SC_PAGESIZE)


class Inconsistent(CoreError):
    """Bytes of a segment contradict its index or header chain; the log examines it and repairs."""


def segment_path(str directory, int64_t base_offset, str suffix=".log"):
    return os.path.join(directory, f"{base_offset:020d}{suffix}")


@cython.final
cdef class Segment:
    def __init__(self):
        raise TypeError("segments belong to a Log")

    @staticmethod
    def open(FileOps ops, str directory, int64_t base_offset, *, bint create,
             int64_t index_interval_bytes, int64_t segment_bytes, str mode, int64_t now_ms,
             str state="", bint absent=False):
        """An existing segment (its size is the file's until something examines it) or a new one.

        No file stays open or is mapped before it is needed, and a new one has no blocks. `state`: what
        its names end with, ".cleaned" or ".swap" while it is not a segment of the log yet. `absent`: a
        new one has no file either; only for the first of a log, as its name is the log's offset.
        """
        cdef Segment s = Segment.__new__(Segment)
        s.ops = ops
        s.state = state
        s.path = segment_path(directory, base_offset) + state
        s.base_offset = s.next_offset = base_offset
        s.max_timestamp = s.first_timestamp = -1
        s.max_timestamp_offset = -1
        s.created_ms = now_ms
        s.damage = []
        s.index = OffsetIndex.new(
            ops, segment_path(directory, base_offset, ".index") + state, base_offset)
        s.time_index = TimeIndex.new(
            ops, segment_path(directory, base_offset, ".timeindex") + state, base_offset)
        s.window = WINDOW_BYTES_MIN
        s.set_limits(index_interval_bytes, segment_bytes, mode)
        if create:
            s.absent = absent
            if not absent:
                ops.open(s.path, True)      # closed again: the first use opens it
            s.index.reset()
            s.time_index.reset()
            s.times_known = True
        else:
            s.size = s.allocated = ops.file_size(s.path)
        return s

    def set_limits(self, int64_t index_interval_bytes, int64_t segment_bytes, str mode):
        self.index_interval_bytes = index_interval_bytes
        self.reserve_bytes = segment_bytes
        self.mode = (APPEND_MMAP if mode == "mmap" else
                     APPEND_PWRITE if mode == "pwrite" else APPEND_AUTO)
        if self.file is not None:
            self.stores = self._may_store()

    # ------------------------------------------------------------------- file and mapping

    def _may_store(self):
        if self.mode == APPEND_PWRITE:
            return False
        return self.mode == APPEND_MMAP or self.ops.stores_safely(self.file)

    cdef int ensure_mapped(self) except -1:
        self.used = True
        if self.mapping is not None:
            return 0
        if self.file is None:
            self.file = self.ops.open(self.path, self.absent)
            self.absent = False
            self.allocated = self.ops.size(self.file)
            if self.allocated < self.size:
                raise Inconsistent("the file became shorter", path=self.path,
                                   expected=self.size, found=self.allocated)
            self.stores = self._may_store()
        if self.allocated:
            self._map(self.allocated)
        return 0

    cdef bint rest(self, bint used_too) except -1:
        """Gives descriptor and mappings back until the next use; not if used since the last call
        (unless `used_too`) or written and not synced: its own descriptor is told of a failed write.
        Whether it holds none now."""
        if self.file is None and self.index.mapping is None and self.time_index.mapping is None:
            return True
        if self.written or self.indexes_unsynced or (self.used and not used_too):
            self.used = False
            return False
        if not self.sealed and self.file is not None and self.allocated > self.size:
            if self.mapping is not None:
                self.mapping.cancel()
            self.ops.truncate(self.file, self.size)     # zeros: may come back after a crash
            self.allocated = self.size
        self.let_go()
        return True

    cdef int let_go(self) except -1:
        # Spans keep what they show; an active segment its indexes, which are not all written.
        self.file = None
        self.mapping = None
        self.populated = self.asked = 0
        self.used = self.stores = False
        self.index.rest()
        self.time_index.rest()
        return 0

    cdef int _map(self, int64_t size) except -1:
        cdef int64_t reserve = max(self.reserve_bytes, size)
        if not self.sealed and self.ops.maps_ahead():
            # Address space is free: growing the file then needs no new mapping. Where even that
            # is rationed (RLIMIT_AS) map what there is.
            try:
                self.mapping = Mapping.new(self.ops, self.file, reserve)
            except OSError:
                self.mapping = Mapping.new(self.ops, self.file, size)
        else:
            self.mapping = Mapping.new(self.ops, self.file, size)
        self.populated = self.asked = 0
        return 0

    cdef int _grow(self, int64_t needed) except -1:
        cdef int64_t wanted
        if self.file is None:
            self.ensure_mapped()
        wanted = self.allocated + min(
            max(self.allocated, <int64_t>GROW_BYTES_MIN), <int64_t>GROW_BYTES_MAX)
        if needed <= self.reserve_bytes:
            wanted = min(wanted, self.reserve_bytes)
        try:
            self.ops.preallocate(self.file, max(needed, wanted))
            self.allocated = max(needed, wanted)
        except OSError as error:
            if wanted <= needed or error.errno not in (ENOSPC, EDQUOT, EFBIG):
                raise
            self.ops.preallocate(self.file, needed)   # the last bytes of a nearly full disk
            self.allocated = needed
        if self.mapping is None or self.mapping.size < self.allocated:
            self._map(self.allocated)
        self.stores = self._may_store()
        return 0

    # ------------------------------------------------------------------- append

    cdef int write(self, const uint8_t* data, int64_t size) except -1:
        """Puts the bytes at the end of the data without counting them yet: `note` does, after."""
        cdef Part part
        part.data, part.size = <void*>data, <size_t>size
        return self.write_run(&part, 1, size)

    cdef int write_run(self, const Part* parts, int count, int64_t size) except -1:
        """As `write`: `count` parts of `size` bytes together, one behind the other, in one go."""
        cdef int64_t end = self.size + size
        if end > self.allocated:
            self._grow(end)
        self.unsynced = self.written = self.used = True
        if self.stores and (size <= STORE_BYTES_MAX or self.mode == APPEND_MMAP):
            if not self.ops.wants_populate() or self.mode == APPEND_MMAP:
                self._store(parts, count)
                return 0
            self._populate_ahead()
            if end <= self.populated:
                self._store(parts, count)
                return 0
        if count == 1:
            self.ops.pwrite(self.file, <const uint8_t*>parts[0].data, size, self.size)
        else:
            self.ops.pwritev(self.file, parts, count, size, self.size)
        return 0

    cdef void _store(self, const Part* parts, int count) noexcept:
        cdef uint8_t* to = self.mapping.data + self.size
        cdef int i
        for i in range(count):
            memcpy(to, parts[i].data, parts[i].size)
            to += parts[i].size

    cdef int _populate_ahead(self) except -1:
        cdef int done = self.mapping.poll()
        cdef int64_t start
        if done == 1:
            self.populated = self.asked
        elif done == -1:
            self.mode = APPEND_PWRITE   # an old kernel or no thread
            self.stores = False
            self.asked = self.populated
            return 0
        self.small_appends += 1
        if (self.asked > self.populated or self.small_appends < SMALL_APPENDS_MIN
                or self.populated - self.size >= self.window // 2
                or self.populated >= self.allocated):
            return 0
        start = max(self.populated, self.size) // PAGE_BYTES * PAGE_BYTES
        self.asked = min(start + self.window, self.allocated)
        self.window = min(self.window * 2, <int64_t>WINDOW_BYTES_MAX)
        self.mapping.populate(start, self.asked - start)
        return 0

    cdef int drop_unwritten(self) except -1:
        """After a failed write: whatever it left behind the data must not be there after a crash,
        where it could look like a batch that follows a shorter one."""
        self.ops.truncate(self.file, self.size)
        self.allocated = self.size
        self.populated = self.asked = 0
        if self.mapping is not None:
            self.mapping.cancel()
        return 0

    cdef void note(self, const BatchHeader* h, int64_t pos) noexcept nogil:
        """Counts a batch that stands at `pos`: ends, timestamps, index entries when due.

        A batch that compaction emptied has no time: its header keeps one that no record has.
        """
        cdef int64_t last_offset = h.base_offset + h.last_offset_delta
        if pos == 0:
            self.first_timestamp = h.max_timestamp
        if h.max_timestamp > self.max_timestamp and h.record_count:
            self.max_timestamp = h.max_timestamp
            self.max_timestamp_offset = last_offset
        if self.since_index > self.index_interval_bytes:
            self.index.add(last_offset, pos)
            self.time_index.add(self.max_timestamp, self.max_timestamp_offset)
            self.since_index = 0
        self.since_index += h.size
        self.size = pos + h.size
        self.next_offset = last_offset + 1

    # ------------------------------------------------------------------- read

    cdef int load_indexes(self, bint owned) except -1:
        if not self.index.loaded or (owned and self.index.mapping is not None):
            self.index.load(owned)
        if not self.time_index.loaded or (owned and self.time_index.mapping is not None):
            self.time_index.load(owned)
        return 0

    cdef int64_t find(self, int64_t offset, BatchHeader* h) except -1:
        """Position of the first batch that ends at or after `offset`, its header in `h`; `size`
        if there is none."""
        cdef int64_t pos = 0, last_offset = -1, expected = self.base_offset
        self.ensure_mapped()
        if not self.index.loaded:
            self.index.load(False)
        if self.index.floor(offset, &last_offset, &pos):
            if (pos >= self.size
                    or batch_peek(self.mapping.data + pos, self.size - pos, h) != BATCH_OK
                    or h.base_offset + h.last_offset_delta != last_offset):
                raise Inconsistent("an index entry does not point at its batch", path=self.path,
                                   pos=pos, expected=last_offset)
            expected = h.base_offset
        while pos < self.size:
            if self.damage:
                pos = self.skip_damage(pos)
                if pos >= self.size:
                    break
            if batch_peek(self.mapping.data + pos, self.size - pos, h) != BATCH_OK:
                raise Inconsistent("no batch where one must start", path=self.path, pos=pos)
            last_offset = h.base_offset + h.last_offset_delta
            if h.base_offset < expected or last_offset >= self.next_offset:
                raise Inconsistent("a batch breaks the order of offsets", path=self.path, pos=pos,
                                   expected=expected, found=h.base_offset)
            if last_offset >= offset:
                return pos
            expected = last_offset + 1
            pos += h.size
        return self.size

    cdef int64_t skip_damage(self, int64_t pos) noexcept:
        for start, end, _, _ in self.damage:
            if start <= pos < end:
                return end
        return pos

    # ------------------------------------------------------------------- examination (scan.pyx)

    def begin_scan(self, int64_t pos):
        """Forgets what a scan from `pos` will find out again."""
        self.ensure_mapped()
        self.read_end = 0
        self.unsynced = True    # after a crash it may be in the page cache only
        if pos == 0:
            self.index.reset()
            self.time_index.reset()
            self.size = self.since_index = 0
            self.next_offset = self.base_offset
            self.max_timestamp = self.max_timestamp_offset = self.first_timestamp = -1
        self.times_known = True
        self.damage = [d for d in self.damage if d[0] < pos]

    def add_damage(self, int64_t pos, int64_t end, int64_t first_offset, int64_t next_offset):
        """A range of bytes that is kept but never served; the log goes on behind it."""
        self.damage.append((pos, end, first_offset, next_offset))
        self.damage.sort()
        self.next_offset = max(self.next_offset, next_offset)
        self.size = max(self.size, end)

    def end_scan(self, int64_t pos, int64_t end):
        self.size = end
        if pos <= self.verified_to:
            self.verified_to = max(self.verified_to, end)
        else:
            self.verified_from, self.verified_to = pos, end

    def load_times(self):
        """Largest timestamp of a segment that was not scanned."""
        self.ensure_mapped()
        self.load_indexes(False)
        self._times_from_index(self.size)
        self.times_known = True

    def restore_damage(self, int64_t pos, int64_t end, int64_t first_offset, int64_t next_offset):
        """Damage that an earlier opening found and wrote down."""
        if end <= self.allocated:
            self.damage.append((pos, end, first_offset, next_offset))

    def adopt_sealed(self, int64_t next_offset):
        """Takes a segment that needs no scan at its word; it is opened when first read."""
        self.next_offset = next_offset
        self.sealed = True

    def seal_at(self, int64_t next_offset):
        self.prepare_seal()
        self.seal(next_offset)

    def indexes_plausible(self, *, bint thorough):
        """Whether the index files can be this segment's: there, whole entries, and (`thorough`)
        readable to the end. Reading checks every entry it uses all the same."""
        if not self.ops.exists(self.index.path) or not self.ops.exists(self.time_index.path):
            return self.size == 0
        if (self.ops.file_size(self.index.path) % self.index.width
                or self.ops.file_size(self.time_index.path) % self.time_index.width):
            return False
        if not thorough:
            return True
        try:
            self.ensure_mapped()
            self.load_indexes(False)
            self._check_index_reach()
        except (IndexCorrupt, Inconsistent):
            return False
        return True

    def _check_index_reach(self):
        """The last entry must point at its batch, and be close enough to the end of the segment:
        a cut index would make every read behind it walk."""
        cdef BatchHeader h
        cdef int64_t last = 0, pos = 0, walked = 0
        cdef bint indexed = self.index.floor_pos(self.size, &last, &pos)
        while pos < self.size:
            pos = self.skip_damage(pos) if self.damage else pos
            if pos >= self.size:
                break
            if batch_peek(self.mapping.data + pos, self.size - pos, &h) != BATCH_OK:
                raise Inconsistent("no batch where one must start", path=self.path, pos=pos)
            if indexed and walked == 0 and h.base_offset + h.last_offset_delta != last:
                raise Inconsistent("an index entry does not point at its batch",
                                   path=self.path, pos=pos, expected=last)
            if walked > self.index_interval_bytes:
                raise Inconsistent("the index ends too early", path=self.path, pos=pos)
            walked += h.size
            pos += h.size

    def trim(self):
        """Cuts the file to its data. Zeros and torn tails only: the caller has judged."""
        if self.allocated > self.size:
            self.ensure_mapped()
            self.ops.truncate(self.file, self.size)
            self.allocated = self.size
            self.populated = self.asked = 0
            self.unsynced = True

    def resume_pos(self, int64_t offset):
        """Where a scan may start that must see `offset` and all after it: a batch the index
        points at, with the segment's counters set as of there. 0 when the index cannot be used."""
        cdef BatchHeader h
        cdef int64_t last = 0, pos = 0
        self.ensure_mapped()
        try:
            self.load_indexes(True)
        except IndexCorrupt:
            return 0
        if (not self.index.floor(offset - 1, &last, &pos) or pos >= self.allocated
                or batch_peek(self.mapping.data + pos, self.allocated - pos, &h) != BATCH_OK
                or h.base_offset + h.last_offset_delta != last):
            return 0
        self.index.truncate(pos)
        self.time_index.truncate(last + 1)
        try:
            self._times_from_index(pos)
        except Inconsistent:
            return 0
        self.next_offset = h.base_offset
        self.size = pos
        # The batch at `pos` was due for an entry when it was appended: make it due again.
        self.since_index = self.index_interval_bytes + 1
        if batch_peek(self.mapping.data, self.allocated, &h) == BATCH_OK:
            self.first_timestamp = h.max_timestamp
        self.times_known = True
        return pos

    # ------------------------------------------------------------------- seal, cut, sync, close

    cdef int prepare_seal(self, bint closing=False) except -1:
        """Everything of a seal that can fail: the file trimmed, which frees space, then both
        indexes written, with the final time entry. The segment can still be appended to."""
        if self.mapping is not None:
            self.mapping.cancel()
        self.trim()
        if (self.times_known and self.max_timestamp >= 0 and self.time_index.loaded
                and self.time_index.mapping is None):
            self.time_index.add(self.max_timestamp, self.max_timestamp_offset)
        # Nor is there anything in the indexes of a small log that is only closed: its next opening
        # walks it. A broker may stop with thousands of those.
        if ((self.index.count if closing else self.size) or self.ops.exists(self.index.path)
                or self.ops.exists(self.time_index.path)):
            self.index.store(True)
            self.time_index.store(True)
        return 0

    cdef int seal(self, int64_t next_offset) except -1:
        """Ends the segment; `prepare_seal` has succeeded."""
        self.next_offset = next_offset
        self.sealed = True
        self.stores = False
        self.index.release()
        self.time_index.release()
        self.indexes_unsynced = True
        return 0

    def drop_indexes(self):
        """Removes index files that could not be completed: the next opening rebuilds them."""
        for path in (self.index.path, self.time_index.path):
            if self.ops.exists(path):
                self.ops.unlink(path)

    cdef int cut(self, int64_t pos, int64_t next_offset) except -1:
        """Drops what lies at or after `pos` (the batches from `next_offset` on) and makes the
        segment the active one. It then ends with its last batch, as it will when reopened."""
        self.ensure_mapped()
        self.load_indexes(True)
        self.index.truncate(pos)
        self.time_index.truncate(next_offset)
        self.sealed = False
        self.damage = [d for d in self.damage if d[0] < pos]
        if self.mapping is not None:
            self.mapping.cancel()
        self.read_end = 0
        # The ends first: a reader on another thread must not look behind the new one.
        moves = pos < self.size and self.mapping is not None and self.mapping.shared()
        self.size = pos
        self.next_offset = min(self.next_offset, next_offset)
        if moves:
            self._move_to_new_file(pos)
        else:
            # Durable at once: what was cut must not come back after a power cut, behind or
            # between batches that took its place.
            self.ops.truncate(self.file, pos)
            self.ops.sync(self.file)
        self.allocated = pos
        self.verified_to = min(self.verified_to, pos)
        self.verified_from = min(self.verified_from, self.verified_to)
        self.populated = self.asked = self.since_index = 0
        self.unsynced = True
        self.stores = self._may_store()
        self._recount()
        return 0

    def _move_to_new_file(self, int64_t size):
        """A reader may still look at what is cut off: it keeps the old file, we get a new one.

        '.cleaned' is the suffix that every opener (Kafka too) removes as unfinished work.
        """
        cdef str aside = self.path + ".cleaned"
        cdef Mapping before = self.mapping
        cdef File f
        if self.ops.exists(aside):
            self.ops.unlink(aside)
        f = self.ops.open(aside, True)
        if size:
            self.ops.pwrite(f, before.data, size, 0)
        self.ops.sync(f)
        self.ops.rename(aside, self.path)
        self.ops.sync_dir(os.path.dirname(self.path))
        f.path = self.path
        self.file = f
        self.mapping = None
        if size:
            self._map(size)

    cdef int _times_from_index(self, int64_t end) except -1:
        """The largest timestamp of the batches before position `end`.

        The last time entry only speaks for what lies before it, and it may be an old one: the two
        index files are written at different times, so after a crash either may lag. It must fit
        its batch; from there on the headers are asked.
        """
        cdef BatchHeader h
        cdef int64_t pos = 0, last = 0, timestamp = -1, offset = -1
        cdef bint found = not self.time_index.last(&timestamp, &offset)
        if not found:
            self.index.floor(offset, &last, &pos)
        while pos < end:
            if self.damage:
                pos = self.skip_damage(pos)
                if pos >= end:
                    break
            if batch_peek(self.mapping.data + pos, end - pos, &h) != BATCH_OK:
                if found and all_zero(self.mapping.data, pos, end):
                    break           # a sealed segment whose trim was lost
                raise Inconsistent("no batch where one must start", path=self.path, pos=pos)
            last = h.base_offset + h.last_offset_delta
            if not found and last >= offset:
                found = h.max_timestamp == timestamp and h.base_offset <= offset
                if not found:
                    break
            if found and h.max_timestamp > timestamp and h.record_count:
                timestamp, offset = h.max_timestamp, last
            pos += h.size
        if not found:
            raise Inconsistent("a time index entry does not fit its batch",
                               path=self.time_index.path, expected=timestamp)
        self.max_timestamp, self.max_timestamp_offset = timestamp, offset
        return 0

    def _recount(self):
        """Timestamps and end of what a cut left."""
        cdef BatchHeader h
        cdef int64_t pos = 0, last = 0
        cdef int64_t size = self.size
        self.max_timestamp = self.first_timestamp = -1
        self.max_timestamp_offset = -1
        self.times_known = True
        self.next_offset = max([self.base_offset] + [d[3] for d in self.damage])
        if size == 0:
            return
        if batch_peek(self.mapping.data, size, &h) == BATCH_OK:
            self.first_timestamp = h.max_timestamp
        self._times_from_index(size)
        self.index.floor_pos(size - 1, &last, &pos)
        while pos < size:
            if self.damage:
                pos = self.skip_damage(pos)
                if pos >= size:
                    break
            if batch_peek(self.mapping.data + pos, size - pos, &h) != BATCH_OK:
                raise Inconsistent("no batch where one must start", path=self.path, pos=pos)
            self.next_offset = h.base_offset + h.last_offset_delta + 1
            self.since_index += h.size
            pos += h.size

    def sync(self):
        """Makes data and, once sealed, indexes durable. Callable from another thread."""
        cdef File file = self.file
        if self.unsynced and (file is not None or self.size):
            if file is None:
                file = self.ops.open(self.path, False)
            self.unsynced = self.written = False
            self.ops.sync(file)
        if self.indexes_unsynced:
            self.indexes_unsynced = False
            self.index.sync()
            self.time_index.sync()

    cdef void note_synced(self) noexcept:
        """A sync of all there is, which is about to begin, has `sync`'s work to do."""
        self.unsynced = self.written = self.indexes_unsynced = False
        self.index.written = self.time_index.written = None

    def index_sizes(self):
        """Bytes of both index files."""
        return tuple([self.ops.file_size(path) if self.ops.exists(path) else 0
                      for path in (self.index.path, self.time_index.path)])

    def rename_to(self, str state):
        """Gives its files the names of `state`, the log's last: once it is there all are."""
        cdef str before
        for part in (self.index, self.time_index, self):
            before = part.path
            part.path = before[:len(before) - len(self.state)] + state
            if self.ops.exists(before):
                self.ops.rename(before, part.path)
        self.state = state

    def unlink(self):
        """Removes its files, the log's first."""
        for path in (self.path, self.index.path, self.time_index.path):
            if self.ops.exists(path):
                self.ops.unlink(path)

    def remove(self):
        """Renames its files to '.deleted'; spans keep reading. Returns the new paths."""
        renamed = []
        for path in (self.path, self.index.path, self.time_index.path):
            if self.ops.exists(path):
                self.ops.rename(path, path + ".deleted")
                renamed.append(path + ".deleted")
        return renamed


cdef bint all_zero(const uint8_t* p, int64_t pos, int64_t end) noexcept nogil:
    """Each byte equals the one after it and the first is zero: memcmp runs at memory speed."""
    return pos >= end or (p[pos] == 0 and memcmp(p + pos, p + pos + 1, end - pos - 1) == 0)
