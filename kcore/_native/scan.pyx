"""Recovery's reader: believes nothing but the bytes, runs at the speed of the CRC, without the GIL.

A scan never raises for bad bytes and never deletes any. It says where the good batches are, what
lies between them, and what the tail is; `kcore/recovery.py` decides.

What makes a batch the next one: magic, length, CRC, count relations, and an offset that is not
below the end of the one before (compaction leaves gaps upwards, nothing leaves one downwards).
The offset lies outside the CRC, so a flipped bit in it would make one batch jump ahead and turn
all honest ones after it into liars; therefore a jump is believed only if the batch after it agrees.

After a bad batch the scan looks on. Record values may themselves hold batches (a topic that
mirrors another one), so a find inside the debris must also be continued by what follows it.
"""

from libc.stdint cimport INT32_MAX
from libc.string cimport memchr

from kcore._native.batch cimport BATCH_OK, BATCH_SHORT, BatchHeader, batch_check, batch_peek
from kcore._native.layout cimport BATCH_HEADER_BYTES, BATCH_MAGIC_AT, BATCH_MAGIC_V2

from kcore._native.mapping cimport Mapping
from kcore._native.segment cimport all_zero

from kcore.log_types import SegmentScan


cdef ScanEnd walk(Segment s, int64_t pos, int64_t end, bint check_crc, int64_t* stopped,
                  int64_t* batches) noexcept nogil:
    cdef BatchHeader h, after
    cdef const uint8_t* p = s.mapping.data
    cdef int64_t offset_max = s.base_offset + INT32_MAX
    while True:
        stopped[0] = pos
        if pos >= end:
            return SCAN_END
        if check_crc:
            if batch_check(p + pos, end - pos, &h) != BATCH_OK:
                return SCAN_ZEROS if all_zero(p, pos, end) else SCAN_BAD
        elif batch_peek(p + pos, end - pos, &h) != BATCH_OK:
            return SCAN_ZEROS if all_zero(p, pos, end) else SCAN_BAD
        if (h.base_offset < s.next_offset or h.last_offset_delta < 0
                or h.base_offset + h.last_offset_delta > offset_max):
            return SCAN_BAD
        if h.base_offset > s.next_offset and check_crc:
            if (batch_peek(p + pos + h.size, end - pos - h.size, &after) == BATCH_OK
                    and s.next_offset <= after.base_offset
                    and after.base_offset <= h.base_offset + h.last_offset_delta):
                return SCAN_BAD
        s.note(&h, pos)
        batches[0] += 1
        pos += h.size


cdef int64_t find_next(const uint8_t* p, int64_t pos, int64_t end, int64_t next_offset,
                       int64_t offset_max) noexcept nogil:
    cdef BatchHeader h
    cdef const uint8_t* magic
    cdef int64_t stop = end - BATCH_HEADER_BYTES + BATCH_MAGIC_AT
    cdef int64_t at = pos + BATCH_MAGIC_AT
    while at <= stop:
        magic = <const uint8_t*>memchr(p + at, BATCH_MAGIC_V2, stop - at + 1)
        if magic == NULL:
            return -1
        pos = (magic - p) - BATCH_MAGIC_AT
        if (batch_peek(p + pos, end - pos, &h) == BATCH_OK
                and next_offset <= h.base_offset <= offset_max
                and batch_check(p + pos, end - pos, &h) == BATCH_OK
                and _continued(p, pos + h.size, end, h.base_offset + h.last_offset_delta + 1)):
            return pos
        at = pos + BATCH_MAGIC_AT + 1
    return -1


cdef bint _continued(const uint8_t* p, int64_t pos, int64_t end, int64_t next_offset) noexcept nogil:
    """Whether the file goes on at `pos` as it would after a real batch: ends, is zero, or has
    a header of the very next offset (its body may be damaged in turn)."""
    cdef BatchHeader h
    cdef int status
    if pos == end or all_zero(p, pos, end):
        return True
    status = batch_peek(p + pos, end - pos, &h)
    if status == BATCH_OK and batch_check(p + pos, end - pos, &h) == BATCH_OK:
        return h.base_offset >= next_offset
    return (status == BATCH_OK or status == BATCH_SHORT) and h.base_offset == next_offset


def scan_segment(Segment s, int64_t pos=0):
    """Examines `s` from `pos` (a batch start whose offset is `s.next_offset`) to the end of the
    file: rebuilds its indexes from there, lists the damage between good batches in `s.damage`,
    leaves `s.size` behind the last good batch. What follows that is the caller's to judge.
    """
    cdef int64_t end, at = pos, found, batches = 0
    cdef ScanEnd outcome
    cdef BatchHeader h
    s.begin_scan(pos)
    end = s.allocated
    outcome = SCAN_END
    cdef Mapping mapping = s.mapping
    if mapping is not None:
        mapping.spans += 1      # counts as a reader: nothing is cut under it
    while mapping is not None:
        with nogil:
            outcome = walk(s, at, end, True, &at, &batches)
            found = -1
            if outcome == SCAN_BAD:
                found = _resume(s, at, end)
        if found < 0:
            break
        batch_peek(s.mapping.data + found, end - found, &h)
        s.add_damage(at, found, s.next_offset, h.base_offset)
        at = found
    s.end_scan(pos, at)
    if mapping is not None:
        mapping.spans -= 1
    if outcome == SCAN_BAD:
        tail = "torn"
        # Preallocated zeros behind an unfinished write are not part of what it lost; the zeros
        # that a batch of believable length ends with are.
        while end > at and s.mapping.data[end - 1] == 0:
            end -= 1
        if batch_peek(s.mapping.data + at, s.allocated - at, &h) == BATCH_OK:
            end = max(end, at + h.size)
    else:
        tail = "zeros" if outcome == SCAN_ZEROS else "end"
    return SegmentScan(path=s.path, tail=tail, tail_pos=at, tail_end=end,
                       tail_next_offset=_claimed_end(s, at, s.allocated),
                       scanned_bytes=at - pos, batches=batches)


def walk_headers(Segment s, int64_t pos=0):
    """Notes the batches from `pos` on by their headers alone: opening after a clean stop.

    True when they end where the file does or in zeros.
    """
    cdef int64_t at = pos, batches = 0
    cdef ScanEnd outcome = SCAN_END
    s.begin_scan(pos)
    if s.mapping is not None:
        outcome = walk(s, pos, s.allocated, False, &at, &batches)
    s.end_scan(pos, at)
    return outcome != SCAN_BAD


cdef int64_t _claimed_end(Segment s, int64_t pos, int64_t end) noexcept nogil:
    """The offset behind the unfinished batch at `pos` if its header can be believed, else one
    past the last good one."""
    cdef BatchHeader h
    if pos < end:
        batch_peek(s.mapping.data + pos, end - pos, &h)
        if (h.magic == BATCH_MAGIC_V2 and h.base_offset == s.next_offset
                and h.last_offset_delta >= 0):
            return h.base_offset + h.last_offset_delta + 1
    return s.next_offset + 1


cdef int64_t _resume(Segment s, int64_t bad, int64_t end) noexcept nogil:
    """Where good batches begin again after the bad bytes at `bad`, or -1.

    First where the bad batch itself says it ends: then nothing inside it can be mistaken.
    """
    cdef BatchHeader h, after
    cdef const uint8_t* p = s.mapping.data
    cdef int64_t offset_max = s.base_offset + INT32_MAX
    if batch_peek(p + bad, end - bad, &h) == BATCH_OK:
        if (batch_check(p + bad + h.size, end - bad - h.size, &after) == BATCH_OK
                and s.next_offset <= after.base_offset <= offset_max):
            return bad + h.size
    return find_next(p, bad + 1, end, s.next_offset, offset_max)
