"""The way out of a connection: straight to the socket while nothing is queued, else the transport.

A transport gathers writes for the end of the loop's turn and cannot send from a file. Here what a
wake-up has to answer goes out at once (`kcore._native.sending`). What the socket does not take is
the transport's to queue, so order and back-pressure stay where they were, and errors are found and
reported by it alone.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from kcore._native.sending import send_parts


def write(transport: asyncio.Transport, sock: socket.socket, parts: list[Any], size: int) -> None:
    """Sends `parts`, `size` bytes in all, or leaves the rest with the transport."""
    if transport.get_write_buffer_size():
        _queue(transport, parts)
        return
    sent = send_parts(sock.fileno(), parts)
    if sent < size:
        _queue(transport, _after(parts, sent))


def _queue(transport: asyncio.Transport, parts: list[Any]) -> None:
    # asyncio's writelines() of Python 3.12.0 to 3.12.8 and 3.13.0 to 3.13.1 never pauses the
    # protocol, and a client that takes no answers would fill the memory; its write() does.
    if len(parts) > 1:
        transport.writelines(parts[:-1])
    transport.write(memoryview(parts[-1]))


def _after(parts: list[Any], skip: int) -> list[Any]:
    """What is left of `parts` behind their first `skip` bytes, without copying."""
    for index, part in enumerate(parts):
        size = len(part)
        if skip < size:
            return [memoryview(part)[skip:], *parts[index + 1 :]]
        skip -= size
    return []
