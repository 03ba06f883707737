"""Replaying prepared requests as fast as they are answered.

Answers of prepared requests all have one size, so counting bytes counts answers: a round of the
loop is one write of all requests that may go out and one read of all answers that have come. Error
codes are not looked at here; the caller compares end offsets with what was sent.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benches.compare.payload import Frames

TIMEOUT_S = 60.0
SCRATCH_BYTES = 4 << 20


@dataclass(slots=True)
class Limits:
    """When a round stops sending: at a time, or after a count of requests. One request at least."""

    seconds: float
    requests: int


def connect(port: int, count: int) -> list[socket.socket]:
    opened = []
    for _ in range(count):
        sock = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.append(sock)
    return opened


class Window:
    """One connection and its requests, `in_flight` of them unanswered at most."""

    def __init__(self, sock: socket.socket, frames: Frames, in_flight: int) -> None:
        self.sock = sock
        self.size = frames.size
        self.answer_bytes = frames.answer_bytes
        self.in_flight = in_flight
        turns = -(-in_flight // len(frames.frames))
        self.slots = turns * len(frames.frames)
        self.ring = memoryview(b"".join(frames.frames) * turns)
        self.sent = 0
        self.got_bytes = 0

    @property
    def unanswered(self) -> int:
        return self.sent - self.got_bytes // self.answer_bytes

    def send(self, most: int) -> int:
        """Fills the window, by `most` requests at most; how many."""
        slot = self.sent % self.slots
        count = min(self.in_flight - self.unanswered, self.slots - slot, most)
        if count > 0:
            self.sock.sendall(self.ring[slot * self.size : (slot + count) * self.size])
            self.sent += count
        return count

    def receive(self, scratch: bytearray) -> None:
        got = self.sock.recv_into(scratch)
        if got == 0:
            raise RuntimeError("the broker closed the connection")
        self.got_bytes += got


def replay(windows: Sequence[Window], limits: Limits) -> float:
    """Sends until a limit is reached, then waits for what is unanswered; seconds it took."""
    scratch = bytearray(SCRATCH_BYTES)
    if len(windows) == 1:
        return _replay_one(windows[0], limits, scratch)
    by_fd = {window.sock.fileno(): window for window in windows}
    left = limits.requests
    waiting = 0
    with select.epoll() as poll:
        begin = time.perf_counter()
        end = begin + limits.seconds
        for fd, window in by_fd.items():
            if left:
                left -= window.send(left)
                poll.register(fd, select.EPOLLIN)
                waiting += 1
        while waiting:
            ready = poll.poll(TIMEOUT_S)
            if not ready:
                raise RuntimeError(f"no answer for {TIMEOUT_S:.0f} s")
            if left and time.perf_counter() >= end:
                left = 0
            for fd, _ in ready:
                window = by_fd[fd]
                window.receive(scratch)
                if left:
                    left -= window.send(left)
                elif not window.unanswered:
                    waiting -= 1
                    poll.unregister(fd)
        return time.perf_counter() - begin


def _replay_one(window: Window, limits: Limits, scratch: bytearray) -> float:
    begin = time.perf_counter()
    end = begin + limits.seconds
    left = limits.requests - window.send(limits.requests)
    while window.unanswered:
        window.receive(scratch)
        if left:
            left = left - window.send(left) if time.perf_counter() < end else 0
    return time.perf_counter() - begin
