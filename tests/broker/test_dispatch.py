"""Goal: a handler's every way of ending becomes the right answer, and never the broker's end.

Method: made-up handlers behind a real Dispatcher; the parked and the awaiting ones on a loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from kbroker.base import errors
from kbroker.base.clock import ManualClock
from kbroker.base.metrics import BrokerMetrics
from kbroker.broker.context import RequestContext
from kbroker.broker.dispatch import CloseConnection, Dispatcher, Pending
from kbroker.broker.purgatory import Outcome, Purgatory
from kbroker.broker.registry import Registry, handles, handles_raw
from kbroker.wire import apis, messages
from kbroker.wire.schema.init_producer_id import InitProducerIdRequest, InitProducerIdResponse

from kcore.errors import StorageFailed
from tests.broker.support import run

KEY, VERSION = apis.INIT_PRODUCER_ID, 1  # has a top-level error_code
BODY = messages.encode_request(KEY, VERSION, InitProducerIdRequest(transactional_id=None))


class Rig:
    def __init__(self, handler: Callable[..., Any]) -> None:
        self.deferred: list[Callable[[], None]] = []
        self.clock = ManualClock()
        self.purgatory = Purgatory(
            self.clock,
            lambda fn: self.deferred.append(fn),
            lambda ms, fn: SimpleNamespace(cancel=lambda: None),
        )
        self.metrics = BrokerMetrics()
        self.dispatcher = Dispatcher(Registry.of([handler]), self.metrics.request)
        self.key = handler.__kafka_api__.key  # type: ignore[attr-defined]
        self.version = VERSION if self.key == KEY else handler.__kafka_api__.min_version  # type: ignore[attr-defined]

    def begin(self, body: bytes = BODY) -> Any:
        services: Any = SimpleNamespace(purgatory=self.purgatory)
        ctx = RequestContext(self.key, self.version, 5, "me", None, services, "User:x", "P", 0)
        frame = memoryview(bytearray(body))
        row = self.dispatcher.row(self.key, self.version)
        return self.dispatcher.begin(row, ctx, frame, 0)

    def turn(self) -> None:
        deferred, self.deferred = self.deferred, []
        for fn in deferred:
            fn()


def decoded(parts: Any) -> Any:
    (frame,) = parts
    return messages.decode_response(KEY, VERSION, memoryview(frame), 8)


def plain(result: Any) -> Callable[..., Any]:
    @handles(KEY, 0, 4)
    def handle(ctx: Any, req: Any) -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    return handle


def test_a_plain_handler_is_decoded_called_and_encoded() -> None:
    rig = Rig(plain(InitProducerIdResponse(producer_id=77)))
    assert decoded(rig.begin()).producer_id == 77
    assert rig.metrics.request(KEY).count == 1


def test_an_async_handler_that_need_not_wait_is_answered_at_once() -> None:
    @handles(KEY, 0, 4)
    async def handle(ctx: Any, req: Any) -> Any:
        return InitProducerIdResponse(producer_id=5)

    assert decoded(Rig(handle).begin()).producer_id == 5


def test_a_raw_handler_answers_buffers_or_nothing() -> None:
    answers: list[Any] = [[b"abc"], None]

    @handles_raw(apis.PRODUCE, 3, 13)
    def handle(ctx: Any, frame: memoryview, pos: int) -> Any:
        return answers.pop(0)

    rig = Rig(handle)
    assert rig.begin(b"") == [b"abc"]
    assert rig.begin(b"") is None


def test_a_parked_handler_goes_on_without_a_task() -> None:
    @handles_raw(apis.FETCH, 4, 18)
    async def handle(ctx: Any, frame: memoryview, pos: int) -> Any:
        first = bytes(frame[pos:])
        outcome = await ctx.services.purgatory.park(["k"], 10**9, lambda: True)
        return [first, outcome.value.encode()]

    rig = Rig(handle)
    pending = rig.begin(b"fetch!")
    assert type(pending) is Pending and not pending.done
    ended: list[bool] = []
    pending.on_done = lambda: ended.append(True)
    rig.purgatory.wake("k")
    rig.turn()  # no event loop runs in this test: nothing needed one
    assert ended == [True] and pending.parts == [b"fetch!", Outcome.SATISFIED.value.encode()]
    assert rig.metrics.request(apis.FETCH).count == 1


def test_a_handler_may_park_again() -> None:
    @handles_raw(apis.FETCH, 4, 18)
    async def handle(ctx: Any, frame: memoryview, pos: int) -> Any:
        for _ in range(3):
            await ctx.services.purgatory.park(["k"], 10**9, lambda: True)
        return [b"third time"]

    rig = Rig(handle)
    pending = rig.begin()
    for _ in range(3):
        assert not pending.done
        rig.purgatory.wake("k")
        rig.turn()
    assert pending.parts == [b"third time"]


def test_cancelling_a_parked_handler_closes_it() -> None:
    closed: list[bool] = []

    @handles_raw(apis.FETCH, 4, 18)
    async def handle(ctx: Any, frame: memoryview, pos: int) -> Any:
        try:
            await ctx.services.purgatory.park(["k"], 10**9, lambda: True)
        finally:
            closed.append(True)

    rig = Rig(handle)
    pending = rig.begin()
    pending.on_done = lambda: pytest.fail("nobody is left to answer")
    pending.cancel()
    assert closed == [True] and len(rig.purgatory) == 0


@pytest.mark.parametrize("uvloop", [True, False])
def test_a_handler_that_awaits_anything_else_becomes_a_task(uvloop: bool) -> None:
    @handles(KEY, 0, 4)
    async def handle(ctx: Any, req: Any) -> Any:
        loop = asyncio.get_running_loop()
        failing = loop.create_future()
        loop.call_soon(failing.set_exception, OSError("gone"))
        with pytest.raises(OSError, match="gone"):
            await failing
        await asyncio.sleep(0)
        async with asyncio.timeout(60):  # a task is there by now
            number = await loop.run_in_executor(None, lambda: 41)
        await ctx.services.purgatory_like()
        return InitProducerIdResponse(producer_id=number + 1)

    async def test() -> None:
        rig = Rig(handle)

        async def nothing() -> None: ...

        done = asyncio.Event()
        services: Any = SimpleNamespace(purgatory=rig.purgatory, purgatory_like=nothing)
        ctx = RequestContext(KEY, VERSION, 5, "me", None, services, "User:x", "P", 0)
        row = rig.dispatcher.row(KEY, VERSION)
        pending = rig.dispatcher.begin(row, ctx, memoryview(bytearray(BODY)), 0)
        assert type(pending) is Pending
        pending.on_done = done.set
        await done.wait()
        assert decoded(pending.parts).producer_id == 42

    run(test, uvloop=uvloop)


def test_parking_after_another_wait_works_too() -> None:
    @handles_raw(apis.FETCH, 4, 18)
    async def handle(ctx: Any, frame: memoryview, pos: int) -> Any:
        await asyncio.sleep(0)
        outcome = await ctx.services.purgatory.park(["k"], 10**9, lambda: True)
        return [outcome.value.encode()]

    async def test() -> None:
        rig = Rig(handle)
        done = asyncio.Event()
        pending = rig.begin()
        pending.on_done = done.set
        while not rig.purgatory.parked_on("k"):
            await asyncio.sleep(0)
        rig.purgatory.wake("k")
        rig.turn()
        await done.wait()
        assert pending.parts == [b"satisfied"]

    run(test)


def test_a_kafka_error_is_answered_with_its_code_and_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = Rig(plain(errors.KafkaError(errors.INVALID_REQUEST, "why")))
    assert decoded(rig.begin()).error_code == errors.INVALID_REQUEST
    assert caplog.records == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError("a bug"), errors.UNKNOWN_SERVER_ERROR),
        (StorageFailed("EIO"), errors.KAFKA_STORAGE_ERROR),
        (OSError("EIO"), errors.KAFKA_STORAGE_ERROR),
    ],
)
def test_other_errors_are_logged_with_the_api_and_answered(
    error: Exception, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(plain(error))
    with caplog.at_level(logging.ERROR):
        assert decoded(rig.begin()).error_code == code
    (record,) = caplog.records
    assert "InitProducerId v1 from me failed" in record.getMessage()
    assert str(error) in record.getMessage()
    assert rig.metrics.request(KEY).errors == 1


def test_a_response_that_cannot_be_encoded_is_an_error_of_the_handler() -> None:
    rig = Rig(plain(InitProducerIdResponse(producer_id=1 << 70)))
    assert decoded(rig.begin()).error_code == errors.UNKNOWN_SERVER_ERROR


def test_an_api_without_a_place_for_the_error_closes() -> None:
    @handles(apis.METADATA, 0, 13)
    def handle(ctx: Any, req: Any) -> Any:
        raise RuntimeError("a bug")

    with pytest.raises(CloseConnection, match="Metadata failed"):
        Rig(handle).begin(b"\0\0\0\0")


def test_produce_never_answers_unknown_server_error() -> None:
    codes: list[int] = []

    def on_error(ctx: Any, frame: Any, code: int) -> Any:
        codes.append(code)
        return [b"answer"]

    @handles_raw(apis.PRODUCE, 3, 13, on_error=on_error)
    def handle(ctx: Any, frame: Any, pos: int) -> Any:
        raise ZeroDivisionError("a bug")

    assert Rig(handle).begin() == [b"answer"]
    assert codes == [errors.KAFKA_STORAGE_ERROR]


def test_a_failing_on_error_closes() -> None:
    def on_error(ctx: Any, req: Any, code: int) -> Any:
        raise RuntimeError("again")

    @handles(KEY, 0, 4, on_error=on_error)
    def handle(ctx: Any, req: Any) -> Any:
        raise RuntimeError("first")

    with pytest.raises(CloseConnection):
        Rig(handle).begin()


def test_a_failure_after_parking_is_answered() -> None:
    @handles(KEY, 0, 4)
    async def handle(ctx: Any, req: Any) -> Any:
        await ctx.services.purgatory.park(["k"], 10**9, lambda: True)
        raise errors.KafkaError(errors.COORDINATOR_NOT_AVAILABLE)

    rig = Rig(handle)
    pending = rig.begin()
    rig.purgatory.wake("k")
    rig.turn()
    assert decoded(pending.parts).error_code == errors.COORDINATOR_NOT_AVAILABLE


def test_malformed_bodies_unknown_keys_and_versions_close() -> None:
    rig = Rig(plain(None))
    with pytest.raises(CloseConnection, match="malformed InitProducerId v1"):
        rig.begin(b"\xff")
    with pytest.raises(CloseConnection, match="malformed InitProducerId v1"):
        rig.begin(BODY[:-1])
    with pytest.raises(CloseConnection, match=r"InitProducerId version 9 .* \(versions 0 to 4"):
        rig.dispatcher.row(KEY, 9)
    with pytest.raises(CloseConnection, match="version -1"):
        rig.dispatcher.row(KEY, -1)
    with pytest.raises(CloseConnection, match=r"API key 3 \(Metadata\) is not served"):
        rig.dispatcher.row(apis.METADATA, 0)
    with pytest.raises(CloseConnection, match=r"API key 999 \(unknown\)"):
        rig.dispatcher.row(999, 0)
