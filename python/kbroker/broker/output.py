"""The way out of a connection: straight to the socket while nothing is queued, else the transport.

A transport gathers writes for the end of the loop's turn and cannot send from a file. Here what a
wake-up has to answer goes out at once, in one call, and slices of a log by sendfile(2), which
spares the copy through user space: worth it up to 256 KiB; above that the socket buffer is full
first, and a gathering send is as good. What the socket does not take is the transport's to queue,
so order and back-pressure stay where they were, and errors are found and reported by it alone.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

from kcore import FetchSpan

# Answers up to this size are joined: one small copy is cheaper than gathering.
_JOIN_BYTES_MAX = 16 * 1024
_SENDFILE_BYTES_MIN = 16 * 1024
_SENDFILE_BYTES_MAX = 256 * 1024
_BUFFERS_MAX = 512  # the system's limit for one gathering call is 1024
_MSG_MORE = getattr(socket, "MSG_MORE", 0)


def write(transport: asyncio.Transport, sock: socket.socket, parts: list[Any], size: int) -> None:
    """Sends `parts`, `size` bytes in all, or leaves the rest with the transport."""
    if transport.get_write_buffer_size():
        transport.writelines(parts)
        return
    if size <= _JOIN_BYTES_MAX:
        parts = [parts[0] if len(parts) == 1 else b"".join(parts)]
    sender = _Sender(sock)
    try:  # noqa: SIM105 - suppress() would add a tenth to the cost of the send
        sender.send(parts)
    except OSError:
        # Full, or gone: the transport learns the latter from its own attempt, and tells the
        # session.
        pass
    if sender.sent < size:
        transport.writelines(_after(parts, sender.sent))


class _Sender:
    """Counts what the socket took, also when it takes no more in the middle."""

    __slots__ = ("_sock", "sent")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.sent = 0

    def send(self, parts: list[Any]) -> None:
        if len(parts) == 1 and type(parts[0]) is not FetchSpan:
            self.sent = self._sock.send(parts[0])
            return
        pending: list[Any] = []
        for part in parts:
            if type(part) is FetchSpan and _fits_sendfile(part):
                if pending:
                    # MSG_MORE: header and records leave as one segment, not two.
                    self._gather(pending, _MSG_MORE)
                    pending = []
                self._file(part)
            else:
                pending.append(part)
                if len(pending) == _BUFFERS_MAX:
                    self._gather(pending, _MSG_MORE)
                    pending = []
        if pending:
            self._gather(pending, 0)

    def _gather(self, buffers: list[Any], flags: int) -> None:
        count = self._sock.sendmsg(buffers, (), flags)
        self.sent += count
        if count < sum(map(len, buffers)):
            raise BlockingIOError

    def _file(self, span: FetchSpan) -> None:
        count = os.sendfile(self._sock.fileno(), span.fd, span.position, span.size)
        self.sent += count
        if count < span.size:
            raise BlockingIOError


def _fits_sendfile(span: FetchSpan) -> bool:
    return span.fd >= 0 and _SENDFILE_BYTES_MIN <= span.size <= _SENDFILE_BYTES_MAX


def _after(parts: list[Any], skip: int) -> list[Any]:
    """What is left of `parts` behind their first `skip` bytes, without copying."""
    for index, part in enumerate(parts):
        size = len(part)
        if skip < size:
            return [memoryview(part)[skip:], *parts[index + 1 :]]
        skip -= size
    return []
