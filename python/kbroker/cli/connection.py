"""How commands reach a broker: their common options, the client, errors in words.

The client is confluent-kafka, imported when a command connects and not for its --help.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from kbroker.cli.addresses import parse_bootstrap
from kbroker.cli.console import Failure, usage

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

R = TypeVar("R")

BOOTSTRAP = "127.0.0.1:9092"

BootstrapOption = Annotated[
    str,
    typer.Option("--bootstrap", "-b", envvar="KCORE_BOOTSTRAP", help="HOST:PORT of a broker."),
]
PropertyOption = Annotated[
    list[str],
    typer.Option("-X", "--property", metavar="KEY=VALUE", help="A property of the client."),
]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", help="How long to wait for the broker.")
]
TIMEOUT_S = 10.0


class Connection:
    """What the common options say, and clients made of it."""

    def __init__(
        self, bootstrap: str = BOOTSTRAP, properties: Iterable[str] = (), timeout_s: float = 10.0
    ) -> None:
        try:
            parse_bootstrap(bootstrap)
        except ValueError as wrong:
            raise usage(f"--bootstrap: {wrong}") from None
        if not timeout_s > 0:
            raise usage("--timeout must be above 0")
        self.bootstrap = bootstrap
        self.timeout_s = timeout_s
        self._properties = dict(pairs(properties, "-X"))
        self._admin: AdminClient | None = None

    def config(self, **defaults: Any) -> dict[str, Any]:
        """A client's configuration; `group_id` means group.id. What -X says wins. Errors of a
        broker that cannot be reached are told once, by us."""
        named = {name.replace("_", "."): value for name, value in defaults.items()}
        return {
            "bootstrap.servers": self.bootstrap,
            "client.id": "kcore",
            "log_level": 0,
            **named,
            **self._properties,
        }

    def admin(self) -> AdminClient:
        """An administrator's client on a broker that answers. Kept: one that is collected while
        an answer is on its way takes the answer with it."""
        from confluent_kafka.admin import AdminClient

        if self._admin is None:
            client = self.made(lambda: AdminClient(self.config()))
            self.cluster(client)
            self._admin = client
        return self._admin

    def made(self, make: Callable[[], R]) -> R:
        """A client; a wrong property is the caller's mistake."""
        from confluent_kafka import KafkaException

        try:
            return make()
        except KafkaException as refused:
            raise usage(f"-X: {refused.args[0].str()}") from None
        except TypeError as refused:
            raise usage(f"-X: {refused}") from None

    def cluster(self, client: Any, topic: str | None = None) -> Any:
        """Metadata; Failure when no broker answers."""
        from confluent_kafka import KafkaException

        asked = () if topic is None else (topic,)
        try:
            return interruptible(lambda: client.list_topics(*asked, timeout=self.timeout_s))
        except KafkaException as failed:
            raise self.failure(failed, "reaching the broker") from None

    def wait(self, what: str, future: Any) -> Any:
        """The result of an administrator's request; `what` says in words what it was for."""
        from confluent_kafka import KafkaException

        try:
            return future.result(self.timeout_s)
        except KafkaException as failed:
            raise self.failure(failed, what) from None
        except TimeoutError:
            raise Failure(f"{what}: no answer in {self.timeout_s:g} s (--timeout)") from None

    def outcomes(self, futures: Mapping[str, Any]) -> Iterator[tuple[str, int, Failure | None]]:
        """(name, error code, why) of requests that succeed or fail one by one; why None: done."""
        from confluent_kafka import KafkaError, KafkaException

        for name, future in futures.items():
            try:
                future.result(self.timeout_s)
            except KafkaException as failed:
                yield name, failed.args[0].code(), self.failure(failed, name)
            except TimeoutError:
                why = Failure(f"{name}: no answer in {self.timeout_s:g} s (--timeout)")
                yield name, KafkaError._TIMED_OUT, why
            else:
                yield name, KafkaError.NO_ERROR, None

    def failure(self, failed: Exception, what: str) -> Failure:
        from confluent_kafka import KafkaError

        error = failed.args[0]
        if error.code() in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN,
                            KafkaError._TIMED_OUT, KafkaError._RESOLVE):  # fmt: skip
            return Failure(
                f"no broker answers at {self.bootstrap}: is `kcore serve` running there? "
                "(--bootstrap HOST:PORT or KCORE_BOOTSTRAP names another)"
            )
        if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return Failure(f"{what}: there is no such topic (kcore topic list shows all)")
        return Failure(f"{what}: {error.str().removeprefix('Broker: ')} ({error.name()})")


def interruptible(call: Callable[[], R]) -> R:
    """The result of a call that waits in C, where Python hears of no Ctrl-C: a thread waits."""
    from concurrent.futures import Future
    from threading import Thread

    future: Future[R] = Future()

    def wait() -> None:
        try:
            future.set_result(call())
        except Exception as failed:
            future.set_exception(failed)

    Thread(target=wait, daemon=True).start()
    return future.result()


def pairs(words: Iterable[str], option: str) -> list[tuple[str, str]]:
    """KEY=VALUE words."""
    found = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.strip():
            raise usage(f"{option} {word}: must be KEY=VALUE".strip())
        found.append((key.strip(), value))
    return found
