"""`kcore serve`: the life of a broker process, from its configuration to its exit code.

0: it was asked to stop and did. 1: it could not start or did not stop well. 2: it was called
wrongly. The first SIGTERM or Ctrl-C stops cleanly, a second Ctrl-C at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Coroutine, Mapping
from typing import Any

from kbroker.base.config import BrokerConfig, ConfigError
from kbroker.broker.data_dir import DataDirInUse
from kbroker.broker.node import Node
from kcore.errors import CoreError

log = logging.getLogger("kbroker.app")

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
_FDS_WANTED_MAX = 1 << 20


def serve(*, config_file: str | None, overrides: Mapping[str, str], ready_file: str | None) -> int:
    """Runs a broker until it is told to stop. Returns the exit code."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    try:
        config = BrokerConfig.load(config_file, overrides, os.environ)
    except ConfigError as error:
        _say(f"kcore: {error}")
        return EXIT_USAGE
    for warning in config.warnings:
        log.warning("%s", warning)
    _raise_fd_limit()
    try:
        return run_loop(_serve(config, ready_file))
    except KeyboardInterrupt:
        return EXIT_FAILED


async def _serve(config: BrokerConfig, ready_file: str | None) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(name: str) -> None:
        if stop.is_set() and name == "SIGINT":
            _say("kcore: stopped at once")
            os._exit(EXIT_FAILED)
        log.info("%s: stopping", name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number.name)
    node = Node(config)
    try:
        await node.start()
    except (OSError, CoreError, ConfigError, DataDirInUse) as error:
        _say(f"kcore: cannot start: {error}")
        return EXIT_FAILED
    gc.freeze()  # all that is there now lives as long as the broker
    gc.enable()  # `kcore serve` has turned it off
    try:
        if ready_file is not None:
            write_ready_file(ready_file, node.bootstrap)
        sys.stdout.write(f"kcore is ready: bootstrap.servers={node.bootstrap}\n")
        sys.stdout.flush()
        await stop.wait()
    except OSError as error:
        _say(f"kcore: {error}")
        return EXIT_FAILED
    finally:
        await node.stop()
        if ready_file is not None:
            with contextlib.suppress(OSError):
                os.unlink(ready_file)
    return EXIT_OK if node.stopped_cleanly else EXIT_FAILED


def run_loop(main: Coroutine[Any, Any, int]) -> int:
    """uvloop where there is one; asyncio's own loop does the same, slower."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def write_ready_file(path: str, bootstrap: str) -> None:
    """Whole or not at all: whoever waits for the file may read it the moment it is there."""
    part = f"{path}.part"
    with open(part, "w", encoding="ascii") as file:
        file.write(bootstrap + "\n")
    os.replace(part, path)


def _raise_fd_limit() -> None:
    """A descriptor per connection and several per partition: take what this process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FDS_WANTED_MAX if hard == resource.RLIM_INFINITY else min(hard, _FDS_WANTED_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
