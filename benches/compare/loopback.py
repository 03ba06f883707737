"""`python loopback.py PORT FRAME_BYTES REPLY_BYTES`: reads frames of one size, throws them away and
answers each with as many zeros behind a length. One thread, one epoll, blocking writes; it imports
nothing of the project."""

from __future__ import annotations

import select
import socket
import struct
import sys

SCRATCH_BYTES = 4 << 20


def serve(port: int, frame_bytes: int, reply_bytes: int) -> None:
    reply = struct.pack(">i", reply_bytes - 4) + bytes(reply_bytes - 4)
    # Several small answers go out in one write, as a broker would.
    burst = min(64, max(1, SCRATCH_BYTES // reply_bytes))
    replies = memoryview(reply * burst)
    scratch = bytearray(SCRATCH_BYTES)
    listener = socket.create_server(("127.0.0.1", port), backlog=64)
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    peers: dict[int, socket.socket] = {}
    partial: dict[int, int] = {}  # bytes of a frame that has begun to come
    while True:
        for fd, _ in poll.poll():
            if fd == listener.fileno():
                peer, _ = listener.accept()
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peers[peer.fileno()] = peer
                partial[peer.fileno()] = 0
                poll.register(peer, select.EPOLLIN)
                continue
            peer = peers[fd]
            try:
                got = peer.recv_into(scratch)
                whole, partial[fd] = divmod(partial[fd] + got, frame_bytes)
                while whole > 0:
                    count = min(whole, burst)
                    peer.sendall(replies[: count * reply_bytes])
                    whole -= count
            except OSError:
                got = 0
            if got == 0:
                poll.unregister(fd)
                del peers[fd], partial[fd]
                peer.close()


if __name__ == "__main__":
    serve(*map(int, sys.argv[1:4]))
