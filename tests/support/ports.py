"""A port that a process of a test listens on, now and after each restart.

A port that was merely free a moment ago may be somebody else's when it is bound, and that of a
broker that was killed when it comes back. So a socket of ours stays bound to it and never listens:
whoever asks for any port gets another one, and Linux lets one that listens bind beside it when both
say SO_REUSEADDR, as servers do.
"""

from __future__ import annotations

import os
import socket
import weakref


class HeldPort:
    """`number` is held until this object is gone."""

    def __init__(self) -> None:
        with socket.socket() as holder:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind(("127.0.0.1", 0))
            self.number: int = holder.getsockname()[1]
            weakref.finalize(self, os.close, holder.detach())
