"""The table of APIs: what dispatch looks up and what ApiVersions answers.

A handler module is `broker/handlers/kNN_name.py`; decorating its function (and `make gen`, which
writes that down in handler_table.py) is all there is to registering it. The decorators keep
nothing: they mark the function. `load()` makes a `Registry` of the table; a module is imported by
the first request for its API, because all of them take longer than the rest of a start.

    @handles(apis.METADATA, 0, 13)
    def handle(ctx, req): ...            # -> response message, or a coroutine that returns one

    @handles_raw(apis.PRODUCE, 3, 13, advertise_min=0)
    def handle(ctx, frame, pos): ...     # -> None (no answer), list of buffers (whole response
                                         #    frame with its length prefix), or a coroutine of these

`frame` (a writable memoryview of the whole request, header included; the body starts at `pos`) is
only valid until the handler returns or first awaits: copy or use up what must live longer.
A coroutine runs at once up to its first await, inside the call that dispatches it and outside of
any asyncio task: what needs a current task (`asyncio.timeout`) must not come before that await.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from kbroker.base.check import invariant

if TYPE_CHECKING:
    from kcore._native.request import RunHandler

Handler = Callable[..., Any]
H = TypeVar("H", bound=Handler)

_MARK = "__kafka_api__"


class Api(NamedTuple):
    """One row: the versions a handler serves and how it wants to be called.

    `advertise_min` may be below `min_version`: some clients switch features on only if an old
    version is offered, which they then never send. A request in that gap closes its connection.
    `pipelined`: later requests of the connection go on while this one waits.
    `on_error(ctx, req, error_code)` builds the answer to a request whose handler failed.
    `make_runs(services)`: what takes plain requests, several at once, before `handler` is asked.
    """

    key: int
    min_version: int
    max_version: int
    advertise_min: int
    raw: bool
    pipelined: bool
    handler: Handler
    on_error: Callable[..., Any] | None
    make_runs: Callable[..., RunHandler] | None = None

    def loaded(self) -> Api:
        """The same row with its module imported."""
        return self.handler.load() if type(self.handler) is LazyHandler else self

    def serves(self, version: int) -> bool:
        return self.min_version <= version <= self.max_version


def handles(
    key: int,
    min_version: int,
    max_version: int,
    *,
    advertise_min: int | None = None,
    pipelined: bool = False,
    on_error: Callable[..., Any] | None = None,
) -> Callable[[H], H]:
    """Marks `handle(ctx, req)`: the request arrives decoded, the returned message is encoded."""
    return _marker(key, min_version, max_version, advertise_min, False, pipelined, on_error)


def handles_raw(
    key: int,
    min_version: int,
    max_version: int,
    *,
    advertise_min: int | None = None,
    pipelined: bool = True,
    on_error: Callable[..., Any] | None = None,
    make_runs: Callable[..., RunHandler] | None = None,
) -> Callable[[H], H]:
    """Marks `handle(ctx, frame, pos)`: the handler parses the frame and builds the answer itself.

    `on_error(ctx, frame_or_none, error_code)` answers None to have the connection closed.
    """
    return _marker(
        key, min_version, max_version, advertise_min, True, pipelined, on_error, make_runs
    )


def _marker(
    key: int,
    min_version: int,
    max_version: int,
    advertise_min: int | None,
    raw: bool,
    pipelined: bool,
    on_error: Callable[..., Any] | None,
    make_runs: Callable[..., RunHandler] | None = None,
) -> Callable[[H], H]:
    lowest = min_version if advertise_min is None else advertise_min
    invariant(0 <= lowest <= min_version <= max_version, f"API {key}: versions are out of order")

    def mark(handler: H) -> H:
        api = Api(
            key, min_version, max_version, lowest, raw, pipelined, handler, on_error, make_runs
        )
        setattr(handler, _MARK, api)
        return handler

    return mark


class LazyHandler:
    """A handler whose module is imported when it is first called."""

    __slots__ = ("_key", "_loaded", "_module")

    def __init__(self, key: int, module: str) -> None:
        self._key = key
        self._module = module
        self._loaded: Api | None = None

    def load(self) -> Api:
        if self._loaded is None:
            module = import_module(f"kbroker.broker.handlers.{self._module}")
            rows = [api_of(handler) for handler in handlers_in(module)]
            self._loaded = next(row for row in rows if row.key == self._key)
        return self._loaded

    def __call__(self, *args: Any) -> Any:
        return self.load().handler(*args)


class Registry:
    """The APIs of one broker, by key. Immutable once built."""

    __slots__ = ("_by_key",)

    def __init__(self, rows: Iterable[Api]) -> None:
        by_key: dict[int, Api] = {}
        for api in rows:
            invariant(api.key not in by_key, f"two handlers for API {api.key}")
            by_key[api.key] = api
        self._by_key = dict(sorted(by_key.items()))

    @classmethod
    def of(cls, handlers: Iterable[Handler]) -> Registry:
        """Of marked functions."""
        return cls(api_of(handler) for handler in handlers)

    def get(self, key: int) -> Api | None:
        return self._by_key.get(key)

    def apis(self) -> list[Api]:
        """In order of key."""
        return list(self._by_key.values())

    def advertised(self) -> list[tuple[int, int, int]]:
        """(key, min, max) as ApiVersions tells them."""
        return [(api.key, api.advertise_min, api.max_version) for api in self._by_key.values()]


def api_of(handler: Handler) -> Api:
    """The row of a marked function."""
    api: Api = getattr(handler, _MARK)
    return api


def handlers_in(module: ModuleType) -> list[Handler]:
    """The marked functions that `module` itself defines."""
    return [
        value
        for value in vars(module).values()
        if hasattr(value, _MARK) and getattr(value, "__module__", None) == module.__name__
    ]


def load() -> Registry:
    """Every API that there is a handler module for; none is imported yet."""
    from kbroker.broker.handler_table import HANDLERS

    return Registry(
        Api(key, first, last, lowest, raw, pipelined, LazyHandler(key, module), None)
        for key, module, first, last, lowest, raw, pipelined in HANDLERS
    )
