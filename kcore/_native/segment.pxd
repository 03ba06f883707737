"""One segment: a `.log` file of whole batches, its mapping and its two indexes."""

from libc.stdint cimport int64_t, uint8_t

from kcore._native.batch cimport BatchHeader
from kcore._native.fileops cimport File, FileOps, Part
from kcore._native.index cimport OffsetIndex, TimeIndex
from kcore._native.mapping cimport FetchSpan, Mapping


cdef enum AppendMode:
    APPEND_AUTO
    APPEND_MMAP
    APPEND_PWRITE


# Whether [pos, end) holds only zeros.
cdef bint all_zero(const uint8_t* p, int64_t pos, int64_t end) noexcept nogil


cdef class Segment:
    cdef public str path
    cdef str state                          # what its names end with: "" in a log
    cdef readonly int64_t base_offset
    cdef public int64_t next_offset         # one past the last batch; the successor's base once sealed
    cdef readonly int64_t size              # where the next batch goes: the end of the data
    cdef readonly int64_t allocated         # bytes the file has, zeros from `size` on
    cdef readonly int64_t max_timestamp     # of its batches, -1 for none; known once `times_known`
    cdef readonly int64_t max_timestamp_offset
    cdef readonly int64_t first_timestamp   # max timestamp of its first batch: rolling by time
    cdef readonly int64_t created_ms
    cdef readonly bint sealed
    cdef readonly bint times_known
    cdef readonly list damage               # [(pos, end_pos, first_offset, next_offset)], by pos
    cdef readonly OffsetIndex index
    cdef readonly TimeIndex time_index
    cdef bint unsynced                      # data that may not be durable, whoever wrote it
    cdef bint written                       # by this process since the last sync
    cdef bint used                          # since the last `rest`
    cdef readonly bint absent               # its file will be made by the first use
    cdef bint indexes_unsynced              # sealed since the last sync
    cdef FileOps ops
    cdef File file
    cdef Mapping mapping
    cdef int64_t index_interval_bytes
    cdef int64_t since_index                # bytes noted since the last index entry
    cdef int64_t verified_from, verified_to # positions whose CRCs were seen good in this process
    # Where the last read began and ended: readers go on there, at the end of a log many of them.
    cdef int64_t read_offset, read_pos, read_next_offset, read_end
    cdef int wary                           # reads left that ask whether pages are on their way
    # The populated window of an active segment: stores below `populated` meet no page fault.
    cdef AppendMode mode
    cdef bint stores
    cdef int64_t reserve_bytes
    cdef int64_t populated, asked, window, small_appends

    cdef int ensure_mapped(self) except -1
    cdef bint rest(self, bint used_too) except -1
    cdef int let_go(self) except -1
    cdef void note_synced(self) noexcept
    cdef int write(self, const uint8_t* data, int64_t size) except -1
    cdef int write_run(self, const Part* parts, int count, int64_t size) except -1
    cdef int _grow(self, int64_t size) except -1
    cdef int _map(self, int64_t size) except -1
    cdef void _store(self, const Part* parts, int count) noexcept
    cdef int _populate_ahead(self) except -1
    cdef int drop_unwritten(self) except -1
    cdef void note(self, const BatchHeader* h, int64_t pos) noexcept nogil
    cdef int64_t find(self, int64_t offset, BatchHeader* h) except -1
    cdef int _times_from_index(self, int64_t end) except -1
    cdef int64_t skip_damage(self, int64_t pos) noexcept
    cdef int load_indexes(self, bint owned) except -1
    cdef int cut(self, int64_t pos, int64_t next_offset) except -1
    cdef int prepare_seal(self, bint closing=*) except -1
    cdef int seal(self, int64_t next_offset) except -1
