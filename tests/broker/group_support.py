"""Group handlers over a real shard, without a loop: requests and answers go through the codec of
their version; a handler that waits is resumed when its answer is there.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from types import SimpleNamespace
from typing import Any

from kbroker.base.errors import KafkaError
from kbroker.broker import registry
from kbroker.broker.context import ANONYMOUS, RequestContext
from kbroker.coord.result import Answer
from kbroker.wire import messages
from kbroker.wire.header import response_header

from tests.coord.group_kit import GroupKit

REGISTRY = registry.load()


class _Later:
    def __init__(self, answer: Answer[Any]) -> None:
        self._answer = answer

    def __await__(self) -> Generator[None, None, Any]:
        while not self._answer.done:
            yield
        return self._answer.result()


class Groups:
    """`services.groups`. `refuses`: the code that every request is refused with, if any."""

    def __init__(self, kit: GroupKit) -> None:
        self._kit = kit
        self.refuses = 0

    def run(self, group_id: str, op: Callable[[Any], Any]) -> Any:
        self._check()
        answer = self._kit.write(op)
        return answer.result() if answer.done else answer

    async def write(self, group_id: str, op: Callable[[Any], Any]) -> Any:
        self._check()
        return await _Later(self._kit.write(op))

    async def read(self, group_id: str, op: Callable[[Any], Any]) -> Any:
        self._check()
        return await _Later(self._kit.read(op))

    async def each(self, op: Callable[[Any], Any]) -> list[Any]:
        self._check()
        return [await _Later(self._kit.read(op))]

    def _check(self) -> None:
        if self.refuses:
            raise KafkaError(self.refuses)


class Waiting:
    """A request at work. `answer()` is what the client got, None before."""

    def __init__(self, key: int, version: int, work: Any) -> None:
        self._key = key
        self._version = version
        self._work = work

    def answer(self) -> Any:
        if not hasattr(self._work, "send"):
            return self._read(self._work)
        try:
            self._work.send(None)
        except StopIteration as done:
            return self._read(done.value)
        return None

    def _read(self, given: Any) -> Any:
        """Of a message, or of the buffers of a whole frame."""
        if isinstance(given, list):
            frame, pos = b"".join(given), len(response_header(self._key, self._version, 7)) + 4
            assert frame[4:8] == (7).to_bytes(4, "big")
            assert int.from_bytes(frame[:4], "big") == len(frame) - 4
        else:
            frame, pos = messages.encode_response(self._key, self._version, given), 0
        return messages.decode_response(self._key, self._version, memoryview(frame), pos)


class Edge:
    def __init__(self, **config: object) -> None:
        self.kit = GroupKit(group_initial_rebalance_delay_ms=0, **config)
        self.groups = Groups(self.kit)
        self.services: Any = SimpleNamespace(config=self.kit.config, groups=self.groups)

    def send(self, key: int, version: int, request: Any) -> Waiting:
        api = REGISTRY.get(key)
        assert api is not None and api.serves(version)
        session: Any = SimpleNamespace(peer="10.1.2.3")
        ctx = RequestContext(key, version, 7, "me", session, self.services, ANONYMOUS, "P", 0)
        body = messages.encode_request(key, version, request)
        if api.raw:
            frame = memoryview(bytearray(b"header" + body))
            return Waiting(key, version, api.handler(ctx, frame, len(b"header")))
        decoded = messages.decode_request(key, version, memoryview(body), 0)
        return Waiting(key, version, api.handler(ctx, decoded))

    def ask(self, key: int, version: int, request: Any) -> Any:
        waiting = self.send(key, version, request)
        for _ in range(1_000):  # turns of a loop that nobody else uses
            answer = waiting.answer()
            if answer is not None:
                return answer
        raise AssertionError("the request is never answered")
