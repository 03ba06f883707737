"""Buffers and spans of logs straight into a socket, in as few calls as they need.

Spans are gathered from their mapping, up to 512 buffers a call. sendfile(2) would spare the copy out
of user space, and was slower for every size (docs/DESIGN.md, Fetch): the kernel looks up each page,
and the reader copies from memory what this copy leaves in the processor's cache. What the socket
does not take, for whatever reason, is the caller's to send later.
"""

from cpython.buffer cimport Py_buffer, PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stddef cimport size_t

from kcore._native.mapping cimport FetchSpan

cdef extern from *:
    """
    #include <errno.h>
    #include <string.h>
    #include <sys/socket.h>
    #include <sys/uio.h>
    #ifdef __linux__
    #define KC_MORE MSG_MORE
    #else
    #define KC_MORE 0
    #endif
    #ifdef MSG_NOSIGNAL
    #define KC_FLAGS (MSG_DONTWAIT | MSG_NOSIGNAL)
    #else
    #define KC_FLAGS MSG_DONTWAIT
    #endif
    static ssize_t kc_send(int out, const void *data, size_t size) {
        ssize_t n;
        do n = send(out, data, size, KC_FLAGS); while (n < 0 && errno == EINTR);
        return n;
    }
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
    ssize_t kc_send(int out, const void* data, size_t size) nogil
    ssize_t kc_gather(int out, iovec* buffers, int count, bint more) nogil

cdef enum:
    BUFFERS_MAX = 512   # the system's limit for one gathering call is 1024
    # What is joined: one small copy is cheaper than gathering.
    JOIN_BYTES_MAX = 16 * 1024


cdef struct Gathered:
    iovec buffers[BUFFERS_MAX]
    int count
    Py_ssize_t size


cdef Py_ssize_t send_now(int out, list parts, Py_ssize_t size) except -1:
    cdef bytes data
    if size > JOIN_BYTES_MAX:
        return _send_gathered(out, parts)
    data = <bytes>parts[0] if len(parts) == 1 and type(parts[0]) is bytes else b"".join(parts)
    return max(<Py_ssize_t>0, kc_send(out, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)))


cdef Py_ssize_t _send_gathered(int out, list parts) except -1:
    cdef Gathered pending
    cdef Py_ssize_t sent = 0
    cdef object part
    cdef FetchSpan span
    cdef Py_buffer view
    pending.count = 0
    pending.size = 0
    for part in parts:
        if pending.count == BUFFERS_MAX and not _gather(out, &pending, True, &sent):
            return sent
        if type(part) is FetchSpan:
            span = <FetchSpan>part
            _add(&pending, span.mapping.data + span.position, span.size)
        elif type(part) is bytes:
            _add(&pending, PyBytes_AS_STRING(part), PyBytes_GET_SIZE(part))
        else:
            # `parts` keeps the object, and nobody resizes what is being sent.
            PyObject_GetBuffer(part, &view, PyBUF_SIMPLE)
            _add(&pending, view.buf, view.len)
            PyBuffer_Release(&view)
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


def send_parts(int out, list parts not None):
    """How many bytes of `parts` the socket took: all, or as many as it had room for."""
    cdef Py_ssize_t size = 0
    for part in parts:
        size += len(part)
    return send_now(out, parts, size)
