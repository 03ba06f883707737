"""`.index` and `.timeindex`, byte for byte as Kafka writes them.

An offset index entry is (last offset of a batch - base, position of that batch), strictly
increasing in both. A time index entry is (largest timestamp so far, last offset of its batch -
base), strictly increasing in time. Neither is ever trusted blindly: `load` refuses what cannot be
an index (IndexCorrupt; the segment then rebuilds it from the log), and a reader compares the entry
it uses with the batch it points at.

Entries of an active segment are written in chunks; a crash leaves a short index, which recovery
extends. Zero entries at the end (Kafka preallocates 10 MiB of them) are not entries.
"""

cimport cython
from libc.stdint cimport INT32_MAX
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from kcore._native.endian cimport load_i32, load_i64, load_u32, store_i64, store_u32
from kcore._native.fileops cimport File
from kcore._native.layout cimport (
    INDEX_ENTRY_BYTES,
    INDEX_ENTRY_POSITION_AT,
    TIME_INDEX_ENTRY_BYTES,
    TIME_INDEX_ENTRY_OFFSET_AT,
)

from kcore.errors import IndexCorrupt

cdef enum:
    STORE_ENTRIES = 512     # entries gathered before the file is written: one page of offsets


cdef int64_t floor_u32(const uint8_t* entries, int64_t count, int64_t width, int64_t at,
                       uint32_t key) noexcept nogil:
    # The comparison becomes a mask, not a jump: random lookups mispredict every other jump, which
    # costs three times the loads of the whole search.
    cdef int64_t low = 0
    cdef int64_t half
    if count == 0:
        return -1
    entries += at
    while count > 1:
        half = count >> 1
        low += half & -<int64_t>(load_u32(entries + (low + half) * width) <= key)
        count -= half
    return low if load_u32(entries + low * width) <= key else -1


cdef class IndexFile:
    def __init__(self):
        raise TypeError("indexes belong to segments")

    def __dealloc__(self):
        if self.capacity:
            free(self.data)
            self.data = NULL

    def __len__(self):
        return self.count

    cdef uint8_t* _push(self) noexcept nogil:
        """Room for one more entry at the end, or NULL when memory is out (or it is mapped)."""
        cdef int64_t capacity
        cdef uint8_t* data
        if self.capacity == 0 and self.data != NULL:
            return NULL
        if self.count == self.capacity:
            capacity = max(64, self.capacity * 2)
            data = <uint8_t*>realloc(self.data, capacity * self.width)
            if data == NULL:
                return NULL
            self.data = data
            self.capacity = capacity
        self.count += 1
        return self.data + (self.count - 1) * self.width

    cdef int release(self) except -1:
        """Lets the memory go; the next use loads the file."""
        if self.capacity:
            free(self.data)
        self.data = NULL
        self.capacity = 0
        self.count = 0
        self.mapping = None
        self.loaded = False
        return 0

    cdef int rest(self) except -1:
        """Lets go of what the files have too; entries in memory may not be written yet."""
        self.written = None
        if self.mapping is not None:
            self.release()
        return 0

    cdef bint _sane(self) noexcept nogil:
        return False

    cdef int load(self, bint owned) except -1:
        """Reads (`owned`) or maps the file; a missing file is an empty index.

        Raises IndexCorrupt when the content cannot be an index of this segment.
        """
        cdef int64_t size, stored
        cdef File f
        cdef Mapping mapping
        self.release()
        self.stored = 0
        if not self.ops.exists(self.path):
            self.loaded = True
            return 0
        f = self.ops.open(self.path, False)
        size = self.ops.size(f)
        if size:
            mapping = Mapping.new(self.ops, f, size)
            mapping.close_file()
            self.data = mapping.data
            self.mapping = mapping
            self.count = size // self.width
            stored = self.count
            while self.count and _is_zero(self.data + (self.count - 1) * self.width, self.width):
                self.count -= 1
            if size % self.width or not self._sane():
                self.release()
                raise IndexCorrupt("not an index of this segment", path=self.path)
            if owned:
                self._own(mapping)
            self.stored = self.count if stored == self.count else 0
        self.loaded = True
        return 0

    def _own(self, Mapping mapping):
        cdef int64_t count = self.count
        cdef uint8_t* data
        if count == 0:
            self.release()
            return
        data = <uint8_t*>realloc(NULL, count * self.width)
        if data == NULL:
            raise MemoryError(f"{count} index entries")
        memcpy(data, mapping.data, count * self.width)
        self.data = data
        self.capacity = count
        self.mapping = None

    cdef int store(self, bint whole) except -1:
        """Writes new entries once there are enough of them; `whole`: all of them, and the file
        becomes exactly as long as they are."""
        cdef File f
        cdef int64_t size
        if self.capacity == 0 and self.mapping is not None:
            return 0                # mapped: nothing was added since it was loaded
        if not whole and self.count - self.stored < STORE_ENTRIES:
            return 0
        if self.count > self.stored or whole:
            f = self.ops.open(self.path, not self.ops.exists(self.path))
            size = self.count * self.width
            if self.count > self.stored:
                self.ops.pwrite(f, self.data + self.stored * self.width,
                                size - self.stored * self.width, self.stored * self.width)
            if self.ops.size(f) != size:
                self.ops.truncate(f, size)
            self.stored = self.count
            if whole:
                self.written = f
        return 0

    cdef int reset(self) except -1:
        """Empty and owned, to be rebuilt; the file is rewritten at the next store."""
        self.release()
        self.stored = 0
        self.loaded = True
        return 0

    cdef int cut(self, int64_t count) except -1:
        """Keeps the first `count` entries; the caller has loaded it as owned."""
        cdef File f
        if count < self.count:
            self.count = count
        if count < self.stored:
            self.stored = count
            f = self.ops.open(self.path, False)
            self.ops.truncate(f, count * self.width)
        return 0

    cdef int sync(self) except -1:
        cdef File f = self.written
        if f is not None:
            self.written = None
            self.ops.sync(f)
        return 0


@cython.final
cdef class OffsetIndex(IndexFile):
    @staticmethod
    def new(FileOps ops, str path, int64_t base_offset):
        cdef OffsetIndex index = OffsetIndex.__new__(OffsetIndex)
        index.ops = ops
        index.path = path
        index.base_offset = base_offset
        index.width = INDEX_ENTRY_BYTES
        return index

    cdef int add(self, int64_t last_offset, int64_t pos) noexcept nogil:
        cdef uint8_t* entry = self._push()
        if entry == NULL:
            return -1
        store_u32(entry, <uint32_t>(last_offset - self.base_offset))
        store_u32(entry + INDEX_ENTRY_POSITION_AT, <uint32_t>pos)
        return 0

    cdef bint _entry(self, int64_t i, int64_t* last_offset, int64_t* pos) noexcept nogil:
        if i < 0:
            return False
        last_offset[0] = self.base_offset + load_u32(self.data + i * INDEX_ENTRY_BYTES)
        pos[0] = load_u32(self.data + i * INDEX_ENTRY_BYTES + INDEX_ENTRY_POSITION_AT)
        return True

    cdef bint floor(self, int64_t offset, int64_t* last_offset, int64_t* pos) noexcept nogil:
        cdef int64_t key = min(offset - self.base_offset, <int64_t>INT32_MAX)
        if key < 0:
            return False
        return self._entry(
            floor_u32(self.data, self.count, INDEX_ENTRY_BYTES, 0, <uint32_t>key), last_offset, pos)

    cdef bint floor_pos(self, int64_t pos, int64_t* last_offset, int64_t* at) noexcept nogil:
        cdef int64_t key = min(pos, <int64_t>INT32_MAX)
        return self._entry(
            floor_u32(self.data, self.count, INDEX_ENTRY_BYTES, INDEX_ENTRY_POSITION_AT,
                      <uint32_t>key), last_offset, at)

    cdef int truncate(self, int64_t pos) except -1:
        """Drops the entries of batches at or after `pos`."""
        if pos == 0:
            return self.cut(0)
        return self.cut(1 + floor_u32(self.data, self.count, INDEX_ENTRY_BYTES,
                                      INDEX_ENTRY_POSITION_AT, <uint32_t>(pos - 1)))

    cdef bint _sane(self) noexcept nogil:
        cdef int64_t i
        cdef int64_t last = 0, pos = 0
        for i in range(self.count):
            if (load_i32(self.data + i * INDEX_ENTRY_BYTES) <= last and i > 0
                    or load_i32(self.data + i * INDEX_ENTRY_BYTES) < 0
                    or load_i32(self.data + i * INDEX_ENTRY_BYTES + 4) <= pos):
                return False
            last = load_i32(self.data + i * INDEX_ENTRY_BYTES)
            pos = load_i32(self.data + i * INDEX_ENTRY_BYTES + INDEX_ENTRY_POSITION_AT)
        return True

    def entries(self):
        """[(last_offset, position)] for tests and tools."""
        if not self.loaded:
            self.load(False)
        return [(self.base_offset + load_u32(self.data + i * INDEX_ENTRY_BYTES),
                 load_u32(self.data + i * INDEX_ENTRY_BYTES + INDEX_ENTRY_POSITION_AT))
                for i in range(self.count)]

    def floor_many(self, offsets, positions):
        """Fills int64 buffer `positions` with where to look for each of the int64 `offsets`."""
        cdef const int64_t[::1] asked = offsets
        cdef int64_t[::1] found = positions
        cdef int64_t i, last_offset = 0, pos = 0
        if asked.shape[0] != found.shape[0]:
            raise ValueError(f"{asked.shape[0]} offsets but {found.shape[0]} positions")
        if not self.loaded:
            self.load(False)
        with nogil:
            for i in range(asked.shape[0]):
                found[i] = pos if self.floor(asked[i], &last_offset, &pos) else 0

    def lookup(self, int64_t offset):
        """(last_offset, position) of the greatest entry not above `offset`, or None."""
        cdef int64_t last_offset = 0, pos = 0
        if not self.loaded:
            self.load(False)
        return (last_offset, pos) if self.floor(offset, &last_offset, &pos) else None


@cython.final
cdef class TimeIndex(IndexFile):
    @staticmethod
    def new(FileOps ops, str path, int64_t base_offset):
        cdef TimeIndex index = TimeIndex.__new__(TimeIndex)
        index.ops = ops
        index.path = path
        index.base_offset = base_offset
        index.width = TIME_INDEX_ENTRY_BYTES
        return index

    cdef int add(self, int64_t timestamp, int64_t offset) noexcept nogil:
        """Adds an entry unless time has not moved: entries are strictly increasing in time."""
        cdef uint8_t* entry
        cdef int64_t last_timestamp = -1, last_offset = -1
        self.last(&last_timestamp, &last_offset)
        if timestamp <= last_timestamp:
            return 0
        entry = self._push()
        if entry == NULL:
            return -1
        store_i64(entry, timestamp)
        store_u32(entry + TIME_INDEX_ENTRY_OFFSET_AT, <uint32_t>(offset - self.base_offset))
        return 0

    cdef bint last(self, int64_t* timestamp, int64_t* offset) noexcept nogil:
        return self._entry(self.count - 1, timestamp, offset)

    cdef bint _entry(self, int64_t i, int64_t* timestamp, int64_t* offset) noexcept nogil:
        if i < 0:
            return False
        timestamp[0] = load_i64(self.data + i * TIME_INDEX_ENTRY_BYTES)
        offset[0] = self.base_offset + load_u32(
            self.data + i * TIME_INDEX_ENTRY_BYTES + TIME_INDEX_ENTRY_OFFSET_AT)
        return True

    cdef bint floor(self, int64_t timestamp, int64_t* found, int64_t* offset) noexcept nogil:
        """The last entry with a timestamp strictly below: every record up to it is older."""
        cdef int64_t low = 0
        cdef int64_t count = self.count
        cdef int64_t half
        if count == 0:
            return False
        while count > 1:
            half = count >> 1
            low += half & -<int64_t>(
                load_i64(self.data + (low + half) * TIME_INDEX_ENTRY_BYTES) < timestamp)
            count -= half
        return (load_i64(self.data + low * TIME_INDEX_ENTRY_BYTES) < timestamp
                and self._entry(low, found, offset))

    cdef int truncate(self, int64_t next_offset) except -1:
        """Drops the entries that speak of offsets at or after `next_offset`."""
        if next_offset <= self.base_offset:
            return self.cut(0)
        return self.cut(1 + floor_u32(self.data, self.count, TIME_INDEX_ENTRY_BYTES,
                                      TIME_INDEX_ENTRY_OFFSET_AT,
                                      <uint32_t>(next_offset - 1 - self.base_offset)))

    cdef bint _sane(self) noexcept nogil:
        cdef int64_t i
        cdef int64_t timestamp = -1
        cdef int64_t offset = 0
        for i in range(self.count):
            if (load_i64(self.data + i * TIME_INDEX_ENTRY_BYTES) <= timestamp
                    or load_i32(self.data + i * TIME_INDEX_ENTRY_BYTES + 8) < offset):
                return False
            timestamp = load_i64(self.data + i * TIME_INDEX_ENTRY_BYTES)
            offset = load_i32(self.data + i * TIME_INDEX_ENTRY_BYTES + TIME_INDEX_ENTRY_OFFSET_AT)
        return True

    def entries(self):
        """[(timestamp, offset)] for tests and tools."""
        if not self.loaded:
            self.load(False)
        return [(load_i64(self.data + i * TIME_INDEX_ENTRY_BYTES),
                 self.base_offset + load_u32(
                     self.data + i * TIME_INDEX_ENTRY_BYTES + TIME_INDEX_ENTRY_OFFSET_AT))
                for i in range(self.count)]


cdef bint _is_zero(const uint8_t* p, int64_t size) noexcept nogil:
    cdef int64_t i
    for i in range(size):
        if p[i]:
            return False
    return True
