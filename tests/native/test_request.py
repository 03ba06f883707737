"""Goal: a request finds its row and gets its answer, whatever its handler is and does.

Method: rows with made-up handlers; the subclass notes what the native half leaves to it.
"""

from __future__ import annotations

from typing import Any

import pytest

from kcore._native.request import (
    LATENCY_BUCKETS,
    RequestContext,
    RequestDispatch,
    RequestMetrics,
    RequestRow,
)


class Noting(RequestDispatch):
    """What falls to the subclass comes back as a tuple that says so."""

    def refused(self, key: int, version: int) -> RequestRow:
        raise LookupError(f"{key} v{version}")

    def later(self, row: Any, ctx: Any, request: Any, coroutine: Any, started_ns: int) -> Any:
        coroutine.close()
        return ("later", request)

    def failed(self, row: Any, ctx: Any, request: Any, error: Exception) -> Any:
        return ("failed", request, type(error).__name__)


def decode(key: int, version: int, frame: memoryview, pos: int) -> Any:
    if not frame:
        raise ValueError("empty")
    return ("message", key, version, bytes(frame[pos:]))


def encode(key: int, version: int, correlation_id: int, message: Any) -> bytes:
    return repr((key, version, correlation_id, message)).encode()


def begin(handler: Any, *, raw: bool, frame: bytes = b"..body") -> tuple[Any, RequestMetrics]:
    metrics = RequestMetrics()
    row = RequestRow(3, 1, 4, raw, False, handler, metrics)
    dispatch = Noting([row], decode, encode)
    ctx = RequestContext(3, 2, 9, "me", None, None, "User:x", "P", 1_000)
    return dispatch.begin(dispatch.row(3, 2), ctx, memoryview(frame), 2), metrics


async def waits() -> None: ...


def fails(*_: Any) -> None:
    raise OSError("disk")


@pytest.mark.parametrize(
    "handler,raw,answer,counted",
    [
        (lambda ctx, frame, pos: [bytes(frame[pos:])], True, [b"body"], 1),
        (lambda ctx, frame, pos: None, True, None, 1),
        (lambda ctx, frame, pos: b"body", True, ("failed", None, "TypeError"), 1),
        (lambda ctx, frame, pos: waits(), True, ("later", None), 0),
        (fails, True, ("failed", None, "OSError"), 1),
        (lambda ctx, req: ctx.now_ms, False, [b"(3, 2, 9, 1000)"], 1),
        (lambda ctx, req: waits(), False, ("later", ("message", 3, 2, b"body")), 0),
        (fails, False, ("failed", ("message", 3, 2, b"body"), "OSError"), 1),
    ],
)
def test_what_a_handler_does_becomes_an_answer(
    handler: Any, raw: bool, answer: Any, counted: int
) -> None:
    got, metrics = begin(handler, raw=raw)
    assert got == answer
    assert metrics.count == sum(metrics.buckets) == counted


def test_a_request_that_cannot_be_decoded_has_no_message() -> None:
    got, _ = begin(lambda ctx, req: None, raw=False, frame=b"")
    assert got == ("failed", None, "ValueError")


@pytest.mark.parametrize("key,version", [(-1, 1), (2, 1), (4, 1), (30_000, 1), (3, 0), (3, 5)])
def test_what_is_not_served_is_refused(key: int, version: int) -> None:
    dispatch = Noting([RequestRow(3, 1, 4, True, True, print, RequestMetrics())], decode, encode)
    assert dispatch.row(3, 1) is dispatch.row(3, 4)
    with pytest.raises(LookupError, match=f"{key} v{version}"):
        dispatch.row(key, version)
    with pytest.raises(LookupError):
        Noting([], decode, encode).row(0, 0)


def test_latencies_fall_into_powers_of_two() -> None:
    metrics = RequestMetrics()
    for elapsed_us in (0, 1, 2, 3, 4, 7, 8, 1 << 40):
        metrics.observe(elapsed_us)
    assert metrics.buckets[:5] == [1, 1, 2, 2, 1]
    assert metrics.buckets[LATENCY_BUCKETS - 1] == 1
    assert (metrics.count, metrics.total_us) == (8, 25 + (1 << 40))
