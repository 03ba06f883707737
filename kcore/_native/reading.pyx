"""Reading a segment: whole batches as a slice of its mapping, and never by waiting for a disk on a
thread that must not.

Whether bytes are in memory is asked of the kernel. cachestat (Linux 6.5) counts the pages of a
range in 0.2 us, however long it is, but counts those on their way from the disk too; mincore knows
them apart and costs 0.4 us and 5 ns (18 where they are not mapped) a page. Both only look.
"""

from libc.stdint cimport int64_t, uint8_t

from kcore._native.batch cimport BATCH_OK, BatchHeader, batch_check, batch_peek
from kcore._native.mapping cimport FetchSpan, Mapping
from kcore._native.segment cimport Segment

from kcore._native.segment import Inconsistent

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <errno.h>
    #include <fcntl.h>
    #include <stdint.h>
    #include <sys/mman.h>
    #include <unistd.h>

    #ifdef __linux__
    #include <sys/syscall.h>
    #ifndef SYS_cachestat
    #define SYS_cachestat 451      /* the same on every architecture */
    #endif
    #ifndef MADV_POPULATE_READ
    #define MADV_POPULATE_READ 22  /* Linux 5.14; older kernels say EINVAL */
    #endif
    struct kc_range { uint64_t pos, size; };
    struct kc_pages { uint64_t cached, dirty, writeback, evicted, recently_evicted; };
    static int kc_counts = 1;      /* 0 once the kernel does not know cachestat */

    static int kc_resident(int fd, uint8_t *data, int64_t pos, int64_t size, int exactly) {
        int64_t page = sysconf(_SC_PAGESIZE), first = pos / page, last = (pos + size - 1) / page;
        if (kc_counts && !exactly) {
            struct kc_range range = { (uint64_t)(first * page), (uint64_t)((last - first + 1) * page) };
            struct kc_pages pages;
            if (syscall(SYS_cachestat, fd, &range, &pages, 0) == 0)
                return pages.cached >= (uint64_t)(last - first + 1);
            kc_counts = 0;
        }
        while (first <= last) {
            unsigned char there[1024];
            int64_t n = last - first + 1 < 1024 ? last - first + 1 : 1024;
            if (mincore(data + first * page, (size_t)(n * page), there)) return 1;
            for (int64_t i = 0; i < n; i++) if (!(there[i] & 1)) return 0;
            first += n;
        }
        return 1;
    }

    static void kc_warm(int fd, uint8_t *data, int64_t pos, int64_t size, int64_t ahead) {
        int64_t page = sysconf(_SC_PAGESIZE), start = pos / page * page;
        /* The kernel goes on reading what comes after while the span is waited for. */
        posix_fadvise(fd, start, pos + size - start + ahead, POSIX_FADV_WILLNEED);
        if (madvise(data + start, (size_t)(pos + size - start), MADV_POPULATE_READ) == 0) return;
        if (errno != EINVAL) return;
        for (int64_t at = start; at < pos + size; at += page) *(volatile uint8_t *)(data + at);
    }
    #else
    static int kc_resident(int fd, uint8_t *data, int64_t pos, int64_t size, int exactly) {
        (void)fd; (void)data; (void)pos; (void)size; (void)exactly;
        return 1;
    }
    static void kc_warm(int fd, uint8_t *data, int64_t pos, int64_t size, int64_t ahead) {
        (void)fd; (void)data; (void)pos; (void)size; (void)ahead;
    }
    #endif
    """
    bint kc_resident(int fd, uint8_t* data, int64_t pos, int64_t size, bint exactly) nogil
    void kc_warm(int fd, uint8_t* data, int64_t pos, int64_t size, int64_t ahead) nogil


cdef enum:
    # What was written last is taken to be in memory.
    TAIL_BYTES = 64 * 1024
    # Reads after a cold one that tell pages that are being read ahead from those that are there.
    WARY_READS = 64


cdef FetchSpan read_segment(Segment s, int64_t offset, int64_t max_bytes, int64_t max_offset,
                            bint one, list cold):
    cdef BatchHeader h
    cdef int64_t next_offset = 0, last_offset = 0
    cdef int64_t pos = 0
    cdef int64_t base_offset, bound, end
    cdef bint known
    s.ensure_mapped()
    known = _known(s, offset, &pos)
    if cold is not None:
        if not known:
            if not s.index.loaded:
                s.index.load(False)
            s.index.floor(offset, &last_offset, &pos)
        if (s.sealed or s.size - pos > TAIL_BYTES) and _is_cold(
                s, pos, min(max_bytes, s.size - pos), cold):
            return None
    # After a compaction the offset may be missing: then the next one is looked for.
    if not (known and batch_peek(s.mapping.data + pos, s.size - pos, &h) == BATCH_OK
            and h.base_offset <= offset <= h.base_offset + h.last_offset_delta):
        pos = s.find(offset, &h)
    if pos >= s.size or h.base_offset + h.last_offset_delta >= max_offset:
        return None
    if h.size > max_bytes:
        if not one:
            return None
        if cold is not None and _is_cold(s, pos, h.size, cold):
            return None
    base_offset = h.base_offset
    end = pos + h.size
    bound = _bound(s, pos, &next_offset)
    if bound - pos > max_bytes or max_offset < next_offset:
        next_offset = h.base_offset + h.last_offset_delta + 1
        end = _extend(s, end, min(bound, pos + max_bytes), bound, max_offset, &next_offset)
    else:
        end = bound
    if pos < s.verified_from or end > s.verified_to:
        _verify(s, pos, end)
    s.read_offset, s.read_pos = base_offset, pos
    s.read_next_offset, s.read_end = next_offset, end
    return FetchSpan.new(s.mapping, pos, end - pos, base_offset, next_offset)


cdef bint _known(Segment s, int64_t offset, int64_t* pos) noexcept:
    """Where the batch with `offset` stands, if the last read began or ended there."""
    if s.read_end == 0 or s.damage:
        return False
    if offset == s.read_next_offset:
        pos[0] = s.read_end
    elif offset == s.read_offset:
        pos[0] = s.read_pos
    else:
        return False
    return pos[0] < s.size


cdef bint _is_cold(Segment s, int64_t pos, int64_t size, list cold) except -1:
    if is_resident(s.mapping, pos, size, s.wary > 0):
        if s.wary:
            s.wary -= 1
        return False
    s.wary = WARY_READS
    cold.append(FetchSpan.new(s.mapping, pos, size, 0, 0))
    return True


cdef int64_t _bound(Segment s, int64_t pos, int64_t* next_offset) noexcept:
    """Where good bytes that start at `pos` end, and the offset that comes there."""
    for start, _, first_offset, _ in s.damage:
        if start > pos:
            next_offset[0] = first_offset
            return start
    next_offset[0] = s.next_offset
    return s.size


cdef int64_t _extend(Segment s, int64_t end, int64_t limit, int64_t bound, int64_t max_offset,
                     int64_t* next_offset) except -1:
    """The end of the whole batches from `end` on that fit below `limit` and `max_offset`.

    The index jumps close to it, so that a large fetch of small batches walks one interval.
    """
    cdef BatchHeader h
    cdef int64_t by_pos = 0, by_offset = 0, last = 0, at = end
    if (s.index.floor_pos(limit, &last, &by_pos)
            and s.index.floor(max_offset - 1, &last, &by_offset)):
        at = max(end, min(by_pos, by_offset))
    while at < limit:
        if batch_peek(s.mapping.data + at, bound - at, &h) != BATCH_OK:
            raise Inconsistent("no batch where one must start", path=s.path, pos=at)
        if at + h.size > limit or h.base_offset + h.last_offset_delta >= max_offset:
            # `at` may be where the index pointed to: then this batch says where the span ends.
            if at > end:
                next_offset[0] = h.base_offset
            return at
        at += h.size
        end = at
        next_offset[0] = h.base_offset + h.last_offset_delta + 1
    if at > end:
        if batch_peek(s.mapping.data + at, bound - at, &h) != BATCH_OK:
            raise Inconsistent("no batch where one must start", path=s.path, pos=at)
        next_offset[0] = h.base_offset
    return at


cdef int _verify(Segment s, int64_t pos, int64_t end) except -1:
    """Checks a span that this process has neither written nor scanned, once: the CRCs, and
    that the offsets, which lie outside them, go on into the batch behind the span."""
    cdef BatchHeader h
    cdef int64_t at = pos, expected = s.base_offset, size = s.size
    cdef int64_t bad = -1
    cdef Mapping mapping = s.mapping
    mapping.spans += 1      # counts as a reader: nothing is cut under it
    with nogil:
        while at < end:
            if (batch_check(s.mapping.data + at, end - at, &h) != BATCH_OK
                    or h.base_offset < expected):
                bad = at
                break
            expected = h.base_offset + h.last_offset_delta + 1
            at += h.size
        if (bad < 0 and at < size
                and batch_peek(s.mapping.data + at, size - at, &h) == BATCH_OK
                and h.base_offset < expected):
            bad = at
    mapping.spans -= 1
    if bad >= 0:
        raise Inconsistent("a batch fits neither its CRC nor its neighbors", path=s.path,
                           pos=bad)
    if pos <= s.verified_to and end >= s.verified_from:
        s.verified_from = min(s.verified_from, pos)
        s.verified_to = max(s.verified_to, end)
    else:
        s.verified_from, s.verified_to = pos, end
    return 0


cdef bint is_resident(Mapping mapping, int64_t pos, int64_t size, bint exactly) noexcept:
    if size <= 0 or mapping.file.fd < 0:
        return True
    return kc_resident(mapping.file.fd, mapping.data, pos, size, exactly)


def resident(FetchSpan span not None):
    """Whether the bytes of `span` are in memory now."""
    return is_resident(span.mapping, span.position, span.size, True)


def warm(list spans not None, int64_t ahead_bytes):
    """Has all of the spans read from the disk, and as many bytes behind each asked for. Waits,
    without the GIL: for threads that may."""
    cdef FetchSpan span
    cdef Mapping mapping
    for span in spans:
        mapping = span.mapping
        if mapping.file.fd >= 0:
            with nogil:
                kc_warm(mapping.file.fd, mapping.data, span.position, span.size, ahead_bytes)
