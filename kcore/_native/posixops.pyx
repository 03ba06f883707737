"""FileOps over POSIX calls. An errno becomes an OSError in one place, `_raise`.

Linux is the first-class target; macOS maps without reserving address space ahead of the file and
preallocates with F_PREALLOCATE. Calls that touch much data release the GIL.
"""

import os

from libc.errno cimport errno
from libc.stdint cimport int64_t, uint8_t

from kcore._native.fileops cimport File, FileOps, Part

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <errno.h>
    #include <fcntl.h>
    #include <string.h>
    #include <sys/mman.h>
    #include <sys/stat.h>
    #include <sys/types.h>
    #include <sys/uio.h>
    #include <unistd.h>
    #ifdef __linux__
    #include <sys/vfs.h>
    #define KC_MAPS_AHEAD 1
    #define KC_SYNC fdatasync
    #else
    #define KC_MAPS_AHEAD 0
    /* fsync on macOS stops at the drive's cache; F_FULLFSYNC is what durable means there. */
    static int KC_SYNC(int fd) { return fcntl(fd, F_FULLFSYNC) == -1 ? fsync(fd) : 0; }
    #endif

    static int kc_pwrite_all(int fd, const unsigned char *p, int64_t n, int64_t pos) {
        while (n > 0) {
            ssize_t done = pwrite(fd, p, (size_t)n, (off_t)pos);
            if (done < 0) {
                if (errno == EINTR) continue;
                return -1;
            }
            if (done == 0) { errno = ENOSPC; return -1; }
            p += done; n -= done; pos += done;
        }
        return 0;
    }

    static int kc_pwritev_all(int fd, const struct iovec *parts, int count, int64_t size,
                              int64_t pos) {
        ssize_t done = pwritev(fd, parts, count, (off_t)pos);
        if (done == size) return 0;
        if (done < 0 && errno != EINTR) return -1;
        /* A signal, or a disk that is nearly full: all of it again, each part to its end. */
        for (; count; count--, parts++) {
            if (kc_pwrite_all(fd, parts->iov_base, (int64_t)parts->iov_len, pos)) return -1;
            pos += (int64_t)parts->iov_len;
        }
        return 0;
    }

    /* For file systems without fallocate: zeros, so that the blocks are really there. */
    static int kc_write_zeros(int fd, int64_t from, int64_t to) {
        static const unsigned char zeros[65536];
        while (from < to) {
            int64_t n = to - from < (int64_t)sizeof zeros ? to - from : (int64_t)sizeof zeros;
            if (kc_pwrite_all(fd, zeros, n, from)) return -1;
            from += n;
        }
        return 0;
    }

    static int kc_preallocate(int fd, int64_t to) {
        struct stat st;
        if (fstat(fd, &st)) return -1;
        if (st.st_size >= to) return 0;
    #ifdef __linux__
        int rc;
        do rc = fallocate(fd, 0, (off_t)st.st_size, (off_t)(to - st.st_size));
        while (rc && errno == EINTR);
        if (rc == 0) return 0;
        if (errno != EOPNOTSUPP && errno != ENOSYS) {
            int saved = errno;
            /* A part may have been allocated past the old end: give it back. */
            if (ftruncate(fd, st.st_size)) { }
            errno = saved;
            return -1;
        }
    #elif defined(F_PREALLOCATE)
        fstore_t store = {F_ALLOCATEALL, F_PEOFPOSMODE, 0, (off_t)(to - st.st_size), 0};
        if (fcntl(fd, F_PREALLOCATE, &store) == 0) return ftruncate(fd, (off_t)to);
        if (errno == ENOSPC) return -1;
    #endif
        if (kc_write_zeros(fd, st.st_size, to)) {
            int saved = errno;
            if (ftruncate(fd, st.st_size)) { }
            errno = saved;
            return -1;
        }
        return 0;
    }

    /* Overwriting file systems only: where a store may have to find a new block (btrfs, zfs,
       anything copy-on-write or remote) a full disk would be a SIGBUS, so there we pwrite. */
    static int kc_stores_safely(int fd) {
    #ifdef __linux__
        struct statfs fs;
        if (fstatfs(fd, &fs)) return 0;
        switch ((unsigned long)fs.f_type & 0xffffffffUL) {
            case 0xEF53UL: case 0x58465342UL: case 0x01021994UL: return 1;  /* ext, xfs, tmpfs */
        }
    #endif
        return 0;
    }

    static int kc_sync_filesystem(int fd) {
    #ifdef __linux__
        return syncfs(fd);
    #else
        (void)fd;
        errno = ENOSYS;
        return -1;
    #endif
    }

    static int64_t kc_size(int fd) {
        struct stat st;
        return fstat(fd, &st) ? -1 : (int64_t)st.st_size;
    }
    """
    int KC_MAPS_AHEAD
    int KC_SYNC(int fd) nogil
    int kc_pwrite_all(int fd, const uint8_t* p, int64_t n, int64_t pos) nogil
    int kc_pwritev_all(int fd, const Part* parts, int count, int64_t size, int64_t pos) nogil
    int kc_preallocate(int fd, int64_t to) nogil
    int kc_stores_safely(int fd) nogil
    int kc_sync_filesystem(int fd) nogil
    int64_t kc_size(int fd) nogil
    int c_open "open"(const char* path, int flags, ...) nogil
    int c_close "close"(int fd) nogil
    int ftruncate(int fd, int64_t size) nogil
    void* mmap(void* at, size_t size, int prot, int flags, int fd, int64_t pos) nogil
    int munmap(void* p, size_t size) nogil
    int O_RDWR, O_CREAT, O_EXCL, O_CLOEXEC, PROT_READ, PROT_WRITE, MAP_SHARED
    void* MAP_FAILED

# Above this a write releases the GIL: it costs ~40 us, far more than handing the GIL over.
cdef enum:
    NOGIL_BYTES = 256 * 1024


cdef object _raise(str path):
    cdef int code = errno
    raise OSError(code, os.strerror(code), path)


cdef class PosixFile(File):
    def __dealloc__(self):
        if self.fd >= 0:
            c_close(self.fd)


cdef class PosixOps(FileOps):
    cdef File open(self, str path, bint create):
        cdef bytes name = os.fsencode(path)
        cdef int flags = O_RDWR | O_CLOEXEC | (O_CREAT | O_EXCL if create else 0)
        cdef int fd = c_open(name, flags, 0o644)
        if fd < 0:
            _raise(path)
        cdef PosixFile f = PosixFile.__new__(PosixFile)
        f.path = path
        f.fd = fd
        return f

    cdef int pwrite(self, File f, const uint8_t* data, int64_t size, int64_t pos) except -1:
        cdef int rc
        if size < NOGIL_BYTES:
            rc = kc_pwrite_all(f.fd, data, size, pos)
        else:
            with nogil:
                rc = kc_pwrite_all(f.fd, data, size, pos)
        if rc:
            _raise(f.path)
        return 0

    cdef int pwritev(self, File f, const Part* parts, int count, int64_t size,
                     int64_t pos) except -1:
        cdef int rc
        if size < NOGIL_BYTES:
            rc = kc_pwritev_all(f.fd, parts, count, size, pos)
        else:
            with nogil:
                rc = kc_pwritev_all(f.fd, parts, count, size, pos)
        if rc:
            _raise(f.path)
        return 0

    cdef int sync(self, File f) except -1:
        cdef int rc
        with nogil:
            rc = KC_SYNC(f.fd)
        if rc:
            _raise(f.path)
        return 0

    cdef int preallocate(self, File f, int64_t size) except -1:
        if kc_preallocate(f.fd, size):
            _raise(f.path)
        return 0

    cdef int truncate(self, File f, int64_t size) except -1:
        if ftruncate(f.fd, size):
            _raise(f.path)
        return 0

    cdef int64_t size(self, File f) except -1:
        cdef int64_t size = kc_size(f.fd)
        if size < 0:
            _raise(f.path)
        return size

    cdef uint8_t* map(self, File f, int64_t size) except NULL:
        cdef void* p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, f.fd, 0)
        if p == MAP_FAILED:
            _raise(f.path)
        return <uint8_t*>p

    cdef void unmap(self, uint8_t* data, int64_t size) noexcept:
        with nogil:
            munmap(data, size)

    cdef object identity(self, File f):
        stat = os.fstat(f.fd)
        return (stat.st_dev, stat.st_ino)

    cdef bint maps_ahead(self):
        return KC_MAPS_AHEAD

    cdef bint stores_safely(self, File f):
        return kc_stores_safely(f.fd)

    cdef bint wants_populate(self):
        return True

    cpdef list list(self, str directory):
        return sorted(os.listdir(directory))

    cpdef bint exists(self, str path):
        return os.path.exists(path)

    cpdef int64_t file_size(self, str path) except -1:
        return os.stat(path).st_size

    cpdef int64_t modified_ms(self, str path) except -1:
        return os.stat(path).st_mtime_ns // 1_000_000

    cpdef bytes read(self, str path):
        with open(path, "rb") as f:
            return f.read()

    cpdef make_dirs(self, str directory):
        os.makedirs(directory, exist_ok=True)

    cpdef rename(self, str source, str target):
        os.rename(source, target)

    cpdef unlink(self, str path):
        os.unlink(path)

    cpdef sync_dir(self, str directory):
        fd = os.open(directory or ".", os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def sync_filesystem(int fd):
    """Makes everything of the file system of `fd` durable: one call where many files are dirty.

    Raises OSError, also for writes that have failed since `fd` was opened, from Linux 5.8 on; an
    older kernel keeps those to itself, and other systems have no such call (ENOSYS).
    """
    cdef int rc
    with nogil:
        rc = kc_sync_filesystem(fd)
    if rc:
        _raise("")


POSIX = PosixOps()
