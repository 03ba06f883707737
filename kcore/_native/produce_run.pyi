from collections.abc import Mapping

from kcore._native.framing import FrameBuffer
from kcore._native.leader import Leader
from kcore._native.request import RunHandler

class ProduceRuns(RunHandler):
    def __init__(
        self,
        by_name: Mapping[tuple[str, int], Leader],
        by_id: Mapping[tuple[bytes, int], Leader],
    ) -> None: ...
    def handle(
        self, frames: FrameBuffer, now_ms: int, most: int = ...
    ) -> tuple[int, list[bytes]]: ...
