"""The public classes: a broker inside your program.

    async with kbroker.Broker({"listeners": "PLAINTEXT://127.0.0.1:0"}) as broker:
        print(broker.bootstrap)                 # in a running asyncio loop

    with kbroker.BrokerThread({"kcore.storage": "memory"}) as broker:
        print(broker.bootstrap)                 # from plain code, a notebook, a test

The configuration is a `BrokerConfig` or a dict of Kafka's property names. Unlike `kcore serve` a
dict without `listeners` gets a free loopback port, and one without
`group.initial.rebalance.delay.ms` lets a new consumer group begin at once. Several brokers in one
process share nothing.

A broker in a thread shares the interpreter's lock with your code: beside a thread that computes in
Python its answers may take as long as the switch interval (`sys.setswitchinterval`, 5 ms). A broker
that must answer fast beside such code belongs in a process of its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from kbroker.base.config import BrokerConfig
from kbroker.broker.node import Node

_ANY_PORT = "PLAINTEXT://127.0.0.1:0"

ConfigLike = BrokerConfig | Mapping[str, object] | None


class Broker:
    """A broker on the running loop. Starts once: a stopped one stays stopped."""

    def __init__(self, config: ConfigLike = None) -> None:
        """Raises ConfigError for a wrong value or an unknown key."""
        self._node = Node(as_config(config))

    @property
    def bootstrap(self) -> str:
        """What clients take as bootstrap.servers, host:port. RuntimeError before it is known."""
        return _started(self._node.bootstrap)

    async def start(self) -> None:
        """Returns when clients can connect. OSError, DataDirInUse, CoreError or ConfigError when it
        cannot start; what was taken has been given back then."""
        await self._node.start()

    async def stop(self) -> None:
        """Answers what waits, closes all connections, makes everything durable. Harmless twice."""
        await self._node.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()


class BrokerThread:
    """A broker on a loop and a thread of its own. `start` returns when clients can connect."""

    def __init__(self, config: ConfigLike = None) -> None:
        self._config = as_config(config)
        self._bootstrap = ""
        self._failure: BaseException | None = None
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="kcore-broker", daemon=True)

    @property
    def bootstrap(self) -> str:
        """What clients take as bootstrap.servers, host:port. RuntimeError before it is known."""
        return _started(self._bootstrap)

    def start(self) -> None:
        """Raises what kept the broker from starting: OSError, DataDirInUse, CoreError or
        ConfigError. Once only: a stopped broker stays stopped, make another one."""
        if self._thread.ident is not None:
            raise RuntimeError("a BrokerThread starts once: make another one")
        self._thread.start()
        self._started.wait()
        if not self._bootstrap:
            self._thread.join()
            self._reraise()

    def stop(self) -> None:
        """Stops cleanly and waits for it. Raises what the broker died of, if it did."""
        loop, stop = self._loop, self._stop
        if loop is not None and stop is not None and self._thread.is_alive():
            loop.call_soon_threadsafe(stop.set)
        if self._thread.ident is not None:
            self._thread.join()
        self._reraise()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _reraise(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _run(self) -> None:
        from kbroker.broker.app import run_loop

        try:
            run_loop(self._main())
        except BaseException as error:
            self._failure = error
        finally:
            self._started.set()

    async def _main(self) -> int:
        self._stop = asyncio.Event()
        async with Broker(self._config) as broker:
            self._loop = asyncio.get_running_loop()
            self._bootstrap = broker.bootstrap
            self._started.set()
            await self._stop.wait()
        return 0


def as_config(config: ConfigLike) -> BrokerConfig:
    """Kafka's names to text, as a properties file would have them; None is the default."""
    if isinstance(config, BrokerConfig):
        return config
    static = {name: _text(value) for name, value in (config or {}).items() if value is not None}
    static.setdefault("listeners", _ANY_PORT)
    # Kafka's 3 seconds are for a fleet that starts; here a test or a notebook would wait for them.
    static.setdefault("group.initial.rebalance.delay.ms", "0")
    return BrokerConfig(static)


def _started(bootstrap: str) -> str:
    if not bootstrap:
        raise RuntimeError("the broker has not been started")
    return bootstrap


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ",".join(_text(item) for item in value)
    return str(value)
