from collections import deque
from typing import Any

from kcore._native.framing import FrameBuffer, ReceivePool
from kcore._native.request import RequestDispatch

class SocketCounters:
    bytes_in: int
    bytes_out: int

class Connection:
    transport: Any
    listener: str
    principal: str
    reading: bool
    writable: bool
    closing: bool
    active: bool
    finishing: bool
    def __init__(
        self,
        frames: FrameBuffer,
        pool: ReceivePool,
        dispatch: RequestDispatch,
        counters: SocketCounters,
        clock: Any,
        services: Any,
        listener: str,
        principal: str,
        fd: int,
        ahead_max: int,
    ) -> None: ...
    @property
    def frames(self) -> FrameBuffer: ...
    @property
    def answers(self) -> deque[Any]: ...
    @property
    def saw_request(self) -> bool: ...
    @property
    def partial_since_ms(self) -> int: ...
    @property
    def blocked(self) -> bool: ...
    def get_buffer(self, sizehint: int) -> memoryview: ...
    def buffer_updated(self, nbytes: int) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def run(self) -> None: ...
    def on_answer(self) -> None: ...
    def resume(self) -> None: ...
    def flush(self) -> None: ...
    def drop(self) -> None: ...
