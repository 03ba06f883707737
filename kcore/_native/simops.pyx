"""MemoryOps: the engine runs on it unchanged.

Live and durable image. What a program sees is the live one. `sync` makes a file's bytes durable,
`sync_dir` a directory's names. `crash` returns a new file system as a power cut may leave it: of
each file's unsynced pages any subset has arrived, its size is the old or the new one, and of the
unsynced name changes some leading part. Truncation is only as durable as the next sync.

`fail_next` makes a coming operation fail with an errno, optionally after writing a part.

This is a leaf: nothing in the package imports it but the public face.
"""

import os
import time

cimport cython
from libc.errno cimport EEXIST, ENOENT, ENOSPC
from libc.stdint cimport uintptr_t
from libc.string cimport memcpy, memset

cdef extern from *:
    """
    #include <sys/mman.h>
    #ifndef MAP_ANONYMOUS
    #define MAP_ANONYMOUS MAP_ANON
    #endif
    #ifndef MAP_NORESERVE
    #define MAP_NORESERVE 0
    #endif
    static void *kc_arena(size_t size) {
        void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        return p == MAP_FAILED ? NULL : p;
    }
    """
    void* kc_arena(size_t size) nogil
    int munmap(void* p, size_t size) nogil

cdef enum:
    ARENA_BYTES_MIN = 64 * 1024
    PAGE_BYTES = 4096


# Without the collector: its tp_clear would take `arenas` away before __dealloc__ needs it, and all
# of the file's memory would stay mapped. A file holds nothing that could close a cycle.
@cython.no_gc
cdef class Inode:
    def __cinit__(self):
        self.arenas = []

    def __dealloc__(self):
        for address, capacity in self.arenas:
            munmap(<void*><uintptr_t>address, capacity)

    cdef int reserve(self, int64_t capacity) except -1:
        cdef uint8_t* arena
        if capacity <= self.capacity:
            return 0
        capacity = max(capacity, self.capacity * 2, <int64_t>ARENA_BYTES_MIN)
        arena = <uint8_t*>kc_arena(capacity)
        if arena == NULL:
            raise MemoryError(f"{capacity} bytes for a file in memory")
        if self.size:
            memcpy(arena, self.live, self.size)
        self.arenas.append((<uintptr_t>arena, capacity))
        self.live = arena
        self.capacity = capacity
        return 0

    def content(self):
        return (<const char*>self.live)[:self.size] if self.size else b""


cdef class MemoryFile(File):
    pass


cdef class MemoryOps(FileOps):
    """`crashes`: keep the durable image too (a copy of each file at each sync).
    `capacity_bytes`: the size of the disk. `stores`: whether stores through a mapping are safe;
    without, every append is a pwrite that `fail_next` can make fail."""

    def __init__(self, *, bint crashes=False, capacity_bytes=None, bint stores=True, clock_ms=None):
        self._names = {}
        self._durable_names = {}
        self._pending = []
        self._faults = []
        self._tracks = crashes
        self._stores = stores
        self._clock_ms = clock_ms
        self.capacity_bytes = capacity_bytes
        self.calls = {}

    # ------------------------------------------------------------------- faults and crashes

    def fail_next(self, str op, int errno, *, int after=0, short_bytes=None, str suffix="", int times=1):
        """The operation `op` (on a path ending in `suffix`) fails, `after` successful ones later,
        `times` times. `short_bytes`: a pwrite puts that many bytes down first."""
        self._faults.append([op, errno, after, short_bytes, suffix, times])

    def heal(self):
        """Forgets the failures that have not happened yet."""
        self._faults.clear()

    def crash(self, choose=None):
        """The file system after a power cut. `choose(n)` picks one of n outcomes (0 = the oldest
        state; always 0 when left out): pass a seeded random's `randrange`."""
        cdef MemoryOps after = MemoryOps(crashes=True, capacity_bytes=self.capacity_bytes,
                                         stores=self._stores, clock_ms=self._clock_ms)
        cdef Inode inode
        if choose is None:
            choose = _oldest
        names = {d: dict(entries) for d, entries in self._durable_names.items()}
        for directory, name, changed in self._pending[:choose(len(self._pending) + 1)]:
            entries = names.setdefault(directory, {})
            if changed is None:
                entries.pop(name, None)
            else:
                entries[name] = changed
        images = {}
        for directory, entries in names.items():
            for name, inode in entries.items():
                if id(inode) not in images:
                    images[id(inode)] = _image(inode, choose)
            after._names[directory] = {n: images[id(i)] for n, i in entries.items()}
            after._durable_names[directory] = dict(after._names[directory])
        for directory in self._names:
            after._names.setdefault(directory, {})
            after._durable_names.setdefault(directory, {})
        return after

    cdef int64_t _enter(self, str op, str path) except? -1:
        """Counts the call and raises what `fail_next` asked for; returns the bytes that a short
        write puts down first, or -1."""
        self.calls[op] = self.calls.get(op, 0) + 1
        for fault in self._faults:
            if fault[0] != op or not path.endswith(fault[4]):
                continue
            if fault[2] > 0:
                fault[2] -= 1
                continue
            fault[5] -= 1
            if fault[5] <= 0:
                self._faults.remove(fault)
            if fault[3] is not None:
                fault[2] = 0
                self.calls["errno"] = fault[1]
                return fault[3]
            raise OSError(fault[1], os.strerror(fault[1]), path)
        return -1

    # ------------------------------------------------------------------- files

    cdef File open(self, str path, bint create):
        self._enter("open", path)
        cdef MemoryFile f = MemoryFile.__new__(MemoryFile)
        directory, name = os.path.split(path)
        cdef dict entries = self._directory(directory)
        cdef Inode inode = entries.get(name)
        if create:
            if inode is not None:
                raise OSError(EEXIST, os.strerror(EEXIST), path)
            inode = Inode.__new__(Inode)
            self._rename_entry(directory, name, inode)
            inode.modified_ms = self._now_ms()
        elif inode is None:
            raise OSError(ENOENT, os.strerror(ENOENT), path)
        f.path = path
        f.fd = -1
        f.inode = inode
        return f

    cdef int pwrite(self, File f, const uint8_t* data, int64_t size, int64_t pos) except -1:
        cdef Inode inode = (<MemoryFile>f).inode
        cdef int64_t part = self._enter("pwrite", f.path)
        cdef int code
        if part >= 0:
            code = self.calls.pop("errno")
            self._put(inode, data, min(part, size), pos)
            raise OSError(code, os.strerror(code), f.path)
        self._charge(inode, pos + size, f.path)
        self._put(inode, data, size, pos)
        return 0

    cdef _put(self, Inode inode, const uint8_t* data, int64_t size, int64_t pos):
        inode.reserve(pos + size)
        memcpy(inode.live + pos, data, size)
        inode.size = max(inode.size, pos + size)
        inode.modified_ms = self._now_ms()

    cdef int sync(self, File f) except -1:
        self._enter("sync", f.path)
        cdef Inode inode = (<MemoryFile>f).inode
        if self._tracks:
            inode.durable = inode.content()
        return 0

    cdef int preallocate(self, File f, int64_t size) except -1:
        self._enter("preallocate", f.path)
        cdef Inode inode = (<MemoryFile>f).inode
        if size > inode.size:
            self._charge(inode, size, f.path)
            inode.reserve(size)
            inode.size = size
        return 0

    cdef int truncate(self, File f, int64_t size) except -1:
        self._enter("truncate", f.path)
        cdef Inode inode = (<MemoryFile>f).inode
        inode.reserve(size)
        if size < inode.size:
            memset(inode.live + size, 0, inode.size - size)
        inode.size = size
        return 0

    cdef int64_t size(self, File f) except -1:
        return (<MemoryFile>f).inode.size

    cdef uint8_t* map(self, File f, int64_t size) except NULL:
        self._enter("map", f.path)
        cdef Inode inode = (<MemoryFile>f).inode
        inode.reserve(max(size, <int64_t>1))
        return inode.live

    cdef object identity(self, File f):
        return id((<MemoryFile>f).inode)

    cdef bint maps_ahead(self):
        return True

    cdef bint stores_safely(self, File f):
        return self._stores

    cdef int _charge(self, Inode inode, int64_t size, str path) except -1:
        """Refuses what does not fit on the disk."""
        cdef int64_t used
        if self.capacity_bytes is None or size <= inode.size:
            return 0
        used = self.used_bytes()
        if used + size - inode.size > self.capacity_bytes:
            raise OSError(ENOSPC, os.strerror(ENOSPC), path)
        return 0

    def used_bytes(self):
        """Bytes of all files, preallocated space included."""
        cdef Inode inode
        cdef int64_t total = 0
        for entries in self._names.values():
            for inode in entries.values():
                total += inode.size
        return total

    # ------------------------------------------------------------------- names

    cdef Inode _find(self, str path):
        directory, name = os.path.split(path)
        inode = self._names.get(directory, {}).get(name)
        if inode is None:
            raise OSError(ENOENT, os.strerror(ENOENT), path)
        return inode

    def _directory(self, str directory):
        entries = self._names.get(directory)
        if entries is None:
            raise OSError(ENOENT, os.strerror(ENOENT), directory)
        return entries

    def _rename_entry(self, directory, name, inode):
        """One change of a name: to `inode`, or gone (None)."""
        if inode is None:
            del self._names[directory][name]
        else:
            self._names[directory][name] = inode
        if self._tracks:
            self._pending.append((directory, name, inode))

    def _now_ms(self):
        return time.time_ns() // 1_000_000 if self._clock_ms is None else self._clock_ms()

    cpdef list list(self, str directory):
        return sorted(self._directory(directory))

    cpdef bint exists(self, str path):
        directory, name = os.path.split(path)
        return name in self._names.get(directory, {})

    cpdef int64_t file_size(self, str path) except -1:
        return self._find(path).size

    cpdef int64_t modified_ms(self, str path) except -1:
        return self._find(path).modified_ms

    cpdef bytes read(self, str path):
        return self._find(path).content()

    cpdef make_dirs(self, str directory):
        self._names.setdefault(directory, {})
        self._durable_names.setdefault(directory, {})

    cpdef rename(self, str source, str target):
        self._enter("rename", source)
        inode = self._find(source)
        self._directory(os.path.dirname(target))
        self._rename_entry(*os.path.split(target), inode)
        self._rename_entry(*os.path.split(source), None)

    cpdef unlink(self, str path):
        self._enter("unlink", path)
        self._find(path)
        self._rename_entry(*os.path.split(path), None)

    cpdef sync_dir(self, str directory):
        self._enter("sync_dir", directory)
        if self._tracks:
            self._durable_names[directory] = dict(self._directory(directory))
            self._pending = [change for change in self._pending if change[0] != directory]

    # ------------------------------------------------------------------- for tests

    def write(self, str path, bytes data):
        """Replaces a file's content behind the engine's back, durably."""
        cdef Inode inode = Inode.__new__(Inode)
        directory, name = os.path.split(path)
        inode.reserve(len(data))
        if data:
            memcpy(inode.live, <const char*>data, len(data))
        inode.size = len(data)
        inode.durable = data
        inode.modified_ms = self._now_ms()
        self.make_dirs(directory)
        self._names[directory][name] = inode
        self._durable_names[directory][name] = inode


def _oldest(n):
    return 0


cdef Inode _image(Inode source, choose):
    """One file as a power cut may leave it."""
    cdef Inode image = Inode.__new__(Inode)
    cdef int64_t pos, end
    before = source.durable or b""
    now = source.content()
    content = now if choose(2) else before
    size = len(content)
    mixed = bytearray(content)
    for pos in range(0, size, PAGE_BYTES):
        end = min(pos + PAGE_BYTES, size)
        old, new = before[pos:end], now[pos:end]
        if old != new:
            page = new if choose(2) else old
            mixed[pos:end] = page.ljust(end - pos, b"\0")[:end - pos]
    image.durable = bytes(mixed)
    image.reserve(max(size, 1))
    memcpy(image.live, <const char*>image.durable, size)
    image.size = size
    image.modified_ms = source.modified_ms
    return image
