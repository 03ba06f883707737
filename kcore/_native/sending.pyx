"""Buffers and spans of logs straight into a socket, in as few calls as they need.

Spans of a middling size leave by sendfile(2), which spares the copy out of user space; the rest is
gathered, up to 512 buffers a call. What the socket does not take, for whatever reason, is the
caller's to send later.
"""

from cpython.buffer cimport Py_buffer, PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t
from libc.stddef cimport size_t

from kcore._native.mapping cimport FetchSpan

cdef extern from *:
    """
    #include <errno.h>
    #include <stdint.h>
    #include <string.h>
    #include <sys/socket.h>
    #include <sys/types.h>
    #include <sys/uio.h>
    #ifdef __linux__
    #include <sys/sendfile.h>
    #define KC_SENDS_FILES 1
    #define KC_MORE MSG_MORE
    static ssize_t kc_sendfile(int out, int fd, int64_t pos, size_t size) {
        off_t at = (off_t)pos;
        ssize_t n;
        do n = sendfile(out, fd, &at, size); while (n < 0 && errno == EINTR);
        return n;
    }
    #else
    #define KC_SENDS_FILES 0
    #define KC_MORE 0
    static ssize_t kc_sendfile(int out, int fd, int64_t pos, size_t size) {
        (void)out; (void)fd; (void)pos; (void)size;
        return -1;
    }
    #endif
    #ifdef MSG_NOSIGNAL
    #define KC_FLAGS (MSG_DONTWAIT | MSG_NOSIGNAL)
    #else
    #define KC_FLAGS MSG_DONTWAIT
    #endif
    static ssize_t kc_gather(int out, struct iovec *buffers, int count, int more) {
        struct msghdr message;
        ssize_t n;
        memset(&message, 0, sizeof message);
        message.msg_iov = buffers;
        message.msg_iovlen = count;
        do n = sendmsg(out, &message, KC_FLAGS | (more ? KC_MORE : 0));
        while (n < 0 && errno == EINTR);
        return n;
    }
    """
    ctypedef struct iovec "struct iovec":
        void* iov_base
        size_t iov_len
    bint KC_SENDS_FILES
    ssize_t kc_sendfile(int out, int fd, int64_t pos, size_t size) nogil
    ssize_t kc_gather(int out, iovec* buffers, int count, bint more) nogil

cdef enum:
    BUFFERS_MAX = 512   # the system's limit for one gathering call is 1024
    # Sendfile against a gathering send, CPU of the sender by loopback: 16 KiB 6.0 and 6.4 us, 64 KiB
    # 9.2 and 11.3, 256 KiB 18 and 28, 512 KiB 36 and 52, 1 MiB 316 and 113: there the window is full.
    SENDFILE_BYTES_MIN = 16 * 1024
    SENDFILE_BYTES_MAX = 512 * 1024


cdef struct Gathered:
    iovec buffers[BUFFERS_MAX]
    int count
    Py_ssize_t size


def send_parts(int out, list parts not None, Py_ssize_t sendfile_bytes_max=SENDFILE_BYTES_MAX):
    """How many bytes of `parts` the socket took: all, or as many as it had room for."""
    cdef Gathered pending
    cdef Py_ssize_t sent = 0, done = 0
    cdef object part
    cdef FetchSpan span
    cdef Py_buffer view
    pending.count = 0
    pending.size = 0
    for part in parts:
        if type(part) is FetchSpan:
            span = <FetchSpan>part
            if (KC_SENDS_FILES and span.mapping.file.fd >= 0
                    and SENDFILE_BYTES_MIN <= span.size <= sendfile_bytes_max):
                # Header and records leave as one segment, not two: there is more.
                if pending.count and not _gather(out, &pending, True, &sent):
                    return sent
                done = kc_sendfile(out, span.mapping.file.fd, span.position, span.size)
                if done > 0:
                    sent += done
                if done < span.size:
                    return sent
                continue
            _add(&pending, span.mapping.data + span.position, span.size)
        elif type(part) is bytes:
            _add(&pending, PyBytes_AS_STRING(part), PyBytes_GET_SIZE(part))
        else:
            # `parts` keeps the object, and nobody resizes what is being sent.
            PyObject_GetBuffer(part, &view, PyBUF_SIMPLE)
            _add(&pending, view.buf, view.len)
            PyBuffer_Release(&view)
        if pending.count == BUFFERS_MAX and not _gather(out, &pending, True, &sent):
            return sent
    if pending.count:
        _gather(out, &pending, False, &sent)
    return sent


cdef inline void _add(Gathered* pending, const void* data, Py_ssize_t size) noexcept:
    pending.buffers[pending.count].iov_base = <void*>data
    pending.buffers[pending.count].iov_len = size
    pending.count += 1
    pending.size += size


cdef bint _gather(int out, Gathered* pending, bint more, Py_ssize_t* sent) noexcept:
    """Whether the socket took all of it."""
    cdef Py_ssize_t size = pending.size
    cdef Py_ssize_t done = kc_gather(out, pending.buffers, pending.count, more)
    pending.count = 0
    pending.size = 0
    if done > 0:
        sent[0] += done
    return done == size
