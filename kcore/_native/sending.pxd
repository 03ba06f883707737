"""Buffers and spans of logs straight into a socket: see sending.pyx."""

# How many bytes of `parts`, `size` in all, the socket took.
cdef Py_ssize_t send_now(int out, list parts, Py_ssize_t size) except -1
