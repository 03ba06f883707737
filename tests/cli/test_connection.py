"""cli/connection: requests that succeed or fail one by one, each told in words."""

from __future__ import annotations

from concurrent.futures import Future

from confluent_kafka import KafkaError, KafkaException
from kbroker.cli.connection import Connection


def done(error: int | None = None) -> Future[None]:
    future: Future[None] = Future()
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(KafkaException(KafkaError(error)))
    return future


def test_one_that_never_answers_does_not_hide_the_others() -> None:
    connection = Connection(timeout_s=0.01)
    silent: Future[None] = Future()
    futures = {"a": done(), "b": silent, "c": done(KafkaError.TOPIC_ALREADY_EXISTS), "d": done()}
    told = [(name, code, str(why or "")) for name, code, why in connection.outcomes(futures)]
    assert told == [
        ("a", KafkaError.NO_ERROR, ""),
        ("b", KafkaError._TIMED_OUT, "b: no answer in 0.01 s (--timeout)"),
        ("c", KafkaError.TOPIC_ALREADY_EXISTS, told[2][2]),
        ("d", KafkaError.NO_ERROR, ""),
    ]
    assert told[2][2].startswith("c: ") and "TOPIC_ALREADY_EXISTS" in told[2][2]
