"""What a socket did not take of an answer: the transport's to queue.

Answers go straight to the socket (`kcore._native.sending`): a transport would gather them for the
end of the loop's turn. What does not fit goes through the transport, so order and back-pressure are
its own, and errors are found and reported by it alone.
"""

from __future__ import annotations

import asyncio
from typing import Any


def queue(transport: asyncio.Transport, parts: list[Any], sent: int) -> None:
    """Leaves `parts` with the transport, but for their first `sent` bytes; some must be left."""
    left = after(parts, sent)
    # asyncio's writelines() of Python 3.12.0 to 3.12.8 and 3.13.0 to 3.13.1 never pauses the
    # protocol, and a client that takes no answers would fill the memory; its write() does.
    if len(left) > 1:
        transport.writelines(left[:-1])
    transport.write(memoryview(left[-1]))


def after(parts: list[Any], skip: int) -> list[Any]:
    """What is left of `parts` behind their first `skip` bytes, without copying."""
    for index, part in enumerate(parts):
        size = len(part)
        if skip < size:
            return [memoryview(part)[skip:], *parts[index + 1 :]]
        skip -= size
    return []
