"""From a request frame to the buffers of its answer: look up, decode, call, encode, or fail well.

`Dispatcher.begin` runs a handler at once; it is native (kcore/_native/request.pyx), here is what is
rare. A synchronous handler, and an `async` one that never has to wait, is answered inside that
call. One that waits comes back as a `Pending`, which continues by itself when its parked operation
ends (no task, no future: a parked fetch is the common case) or, when it awaits anything else, as an
asyncio task.

Failures: bytes that break the protocol raise `CloseConnection`. Everything else that leaves a
handler is logged and answered with a Kafka error where the API has a place for it; otherwise the
connection closes, which every client treats as retriable. The broker lives on.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
import types
from collections.abc import Callable, Generator
from time import perf_counter_ns
from typing import Any

from kbroker.base import errors
from kbroker.base.metrics import RequestMetrics
from kbroker.broker.context import RequestContext
from kbroker.broker.purgatory import ParkedOperation
from kbroker.broker.registry import Api, LazyHandler, Registry
from kbroker.wire import apis, messages
from kbroker.wire.errors import BadRequest
from kbroker.wire.struct import Struct
from kcore._native.request import RequestDispatch, RequestRow
from kcore.errors import CoreError

log = logging.getLogger("kbroker.dispatch")

Parts = list[Any]  # buffers of one whole response frame

_TRACEBACK_FRAMES = 6


class CloseConnection(Exception):
    """The connection cannot go on; the message says why, for the log."""


class Row(RequestRow):
    """An API as dispatch sees it: the registry's row with its name and counters at hand."""

    __slots__ = ("api", "name")

    def __init__(self, api: Api, metrics: RequestMetrics) -> None:
        lazy = type(api.handler) is LazyHandler
        super().__init__(
            api.key,
            api.min_version,
            api.max_version,
            api.raw,
            api.pipelined,
            self._first if lazy else api.handler,
            metrics,
        )
        self.api = api
        self.name = apis.APIS[api.key].name

    def _first(self, ctx: RequestContext, *request: Any) -> Any:
        """The first request for this API has its module imported."""
        self.api = self.api.loaded()
        self.handler = self.api.handler
        if self.api.make_runs is not None:
            self.runs = self.api.make_runs(ctx.services)
        return self.handler(ctx, *request)


class Dispatcher(RequestDispatch):
    """`row(key, version)` and `begin(row, ctx, frame, pos)`, with what is rare about them."""

    __slots__ = ("_request_metrics", "_rows")

    def __init__(
        self, registry: Registry, request_metrics: Callable[[int], RequestMetrics]
    ) -> None:
        rows = [Row(api, request_metrics(api.key)) for api in registry.apis()]
        super().__init__(rows, messages.decode_request, messages.encode_response_frame)
        self._rows = {row.key: row for row in rows}
        self._request_metrics = request_metrics

    def refused(self, api_key: int, api_version: int) -> Row:
        """Raises CloseConnection for what has no answer: so does Kafka."""
        row = self._rows.get(api_key) or self._not_served(api_key)
        if row.min_version <= api_version <= row.max_version:
            return row
        if api_key == apis.API_VERSIONS:
            # Answers even a version of the future: its handler tells the client ours.
            return row
        raise CloseConnection(
            f"{row.name} version {api_version} is not served "
            f"(versions {row.min_version} to {row.max_version} are)"
        )

    def _not_served(self, api_key: int) -> Row:
        """A row whose handler refuses, made for the first client that asks and kept."""
        from kbroker.broker.not_served import is_for_clients, refusal

        api = apis.APIS.get(api_key)
        if api is None or not is_for_clients(api_key):
            name = "unknown" if api is None else api.name
            raise CloseConnection(f"API key {api_key} ({name}) is not served")

        def refuse(_ctx: RequestContext, request: Any) -> Struct:
            return refusal(api_key, request)

        made = Api(api_key, api.first, api.last, api.first, False, False, refuse, None)
        row = self._rows[api_key] = Row(made, self._request_metrics(api_key))
        return row

    def later(
        self, row: Row, ctx: RequestContext, request: Any, coroutine: Any, started_ns: int
    ) -> Parts | Pending | None:
        """A coroutine that ends without waiting is answered at once; another one is Pending."""
        pending = Pending(row, ctx, request, coroutine, started_ns)
        pending.step()
        if not pending.done:
            return pending
        if pending.close_reason is not None:
            raise CloseConnection(pending.close_reason)
        return pending.parts

    def failed(self, row: Row, ctx: RequestContext, request: Any, error: Exception) -> Parts | None:
        return _answer_failure(row, ctx, request, error)


class Pending:
    """A request whose handler waits. `on_done` is called once, when `parts` or `close_reason` is
    there; not after `cancel()`."""

    __slots__ = (
        "_coroutine",
        "_parked",
        "_started_ns",
        "_task",
        "close_reason",
        "ctx",
        "done",
        "on_done",
        "parts",
        "request",
        "row",
    )

    def __init__(
        self, row: Row, ctx: RequestContext, request: Any, coroutine: Any, started_ns: int
    ) -> None:
        self.row = row
        self.ctx = ctx
        self.request = request
        self.done = False
        self.parts: Parts | None = None
        self.close_reason: str | None = None
        self.on_done: Callable[[], None] | None = None
        self._coroutine = coroutine
        self._parked: ParkedOperation | None = None
        self._task: asyncio.Task[Any] | None = None
        self._started_ns = started_ns

    def step(self) -> None:
        """Runs the handler up to its next wait or its end."""
        self._parked = None
        try:
            awaited = self._coroutine.send(None)
        except StopIteration as end:
            self._resolve(end.value)
        except Exception as error:
            self._fail(error)
        else:
            if type(awaited) is ParkedOperation:
                self._parked = awaited
                awaited.on_done = self.step
            else:
                loop = asyncio.get_running_loop()
                self._task = loop.create_task(_carry_on(self._coroutine, awaited))
                self._task.add_done_callback(self._on_task_done)

    def cancel(self) -> None:
        """Nobody waits for the answer any more. What is parked is dropped; what changes state
        (a topic being created) runs to its end."""
        self.on_done = None
        if self._parked is not None:
            self._parked.cancel()
            self._parked = None
            self._coroutine.close()

    def _on_task_done(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            self._fail(RuntimeError("the request's task was cancelled"))
            return
        error = task.exception()
        if error is None:
            self._resolve(task.result())
        elif isinstance(error, Exception):
            self._fail(error)
        else:
            raise error

    def _resolve(self, result: Any) -> None:
        try:
            self.parts = _encoded(self.row, self.ctx, result)
        except Exception as error:
            self._fail(error)
            return
        self._end()

    def _fail(self, error: Exception) -> None:
        try:
            self.parts = _answer_failure(self.row, self.ctx, self.request, error)
        except CloseConnection as close:
            self.close_reason = str(close)
        self._end()

    def _end(self) -> None:
        self.done = True
        self._task = None
        self.row.metrics.observe((perf_counter_ns() - self._started_ns) // 1000)
        on_done, self.on_done = self.on_done, None
        if on_done is not None:
            on_done()


async def _carry_on(coroutine: Any, awaited: Any) -> Any:
    """Lets a task take over a coroutine that has already been run up to its first wait."""
    return await _steps(coroutine, awaited)  # from Python 3.12 on a task takes no generator


@types.coroutine
def _steps(coroutine: Any, awaited: Any) -> Generator[Any, Any, Any]:
    """Gives parked operations, which a task does not know, the shape of a future."""
    while True:
        try:
            if type(awaited) is ParkedOperation:
                ended = asyncio.get_running_loop().create_future()
                awaited.on_done = lambda ended=ended: ended.done() or ended.set_result(None)
                yield from ended
            else:
                yield awaited
        except asyncio.CancelledError as cancelled:
            awaited = coroutine.throw(cancelled)
            continue
        except Exception:
            # The awaited future failed. It raises that itself, inside the coroutine, next.
            pass
        try:
            awaited = coroutine.send(None)
        except StopIteration as end:
            return end.value


def _encoded(row: Row, ctx: RequestContext, result: Any) -> Parts | None:
    if row.raw:
        if result is not None and type(result) is not list:
            raise TypeError(f"a raw handler returns a list of buffers or None, not {result!r}")
        return result
    return [messages.encode_response_frame(row.key, ctx.api_version, ctx.correlation_id, result)]


def _answer_failure(row: Row, ctx: RequestContext, request: Any, error: Exception) -> Parts | None:
    """The answer to a request whose handler raised, or CloseConnection."""
    if isinstance(error, CloseConnection):
        raise error
    if isinstance(error, BadRequest):
        raise CloseConnection(f"malformed {row.name} v{ctx.api_version}: {error}") from error
    code = _code_of(row, error)
    if not isinstance(error, errors.KafkaError):
        row.metrics.errors += 1
        log.error(
            "%s v%d from %s failed: %s",
            row.name,
            ctx.api_version,
            ctx.client_id,
            _short_traceback(error),
        )
    try:
        if row.api.on_error is not None:
            answer = row.api.on_error(ctx, request, code)
            if answer is not None:
                return _encoded(row, ctx, answer)
        elif not row.raw:
            response = messages.response_class(row.key)
            if _has_error_code(response, ctx.api_version):
                message = response()
                message.error_code = code  # type: ignore[attr-defined]
                return _encoded(row, ctx, message)
    except Exception as second:
        log.error("%s: building the error answer failed: %s", row.name, _short_traceback(second))
    raise CloseConnection(f"{row.name} failed and has no place for error {errors.name_of(code)}")


def _has_error_code(response: type[Struct], version: int) -> bool:
    """Whether that version has a top-level error code: elsewhere it would be lost in encoding."""
    for name, _, (first, last), *_ in response.FIELDS:
        if name == "error_code":
            return bool(first <= version <= last)
    return False


def _code_of(row: Row, error: Exception) -> int:
    if isinstance(error, errors.KafkaError):
        return error.code
    if isinstance(error, (CoreError, OSError)) or row.key == apis.PRODUCE:
        # UNKNOWN_SERVER_ERROR makes producers give up records for good; this one is retriable.
        return errors.KAFKA_STORAGE_ERROR
    return errors.UNKNOWN_SERVER_ERROR


def _short_traceback(error: BaseException) -> str:
    lines = traceback.format_exception(error, limit=-_TRACEBACK_FRAMES)
    return "".join(lines).rstrip()
