"""One request to a broker over a plain connection, for what the client library cannot say.

librdkafka refuses a resource without a name, which is how Kafka calls the defaults of all brokers.
"""

from __future__ import annotations

import socket
from typing import Any

from kbroker.base.listeners import join_host_port
from kbroker.cli.addresses import parse_bootstrap
from kbroker.cli.console import Failure
from kbroker.wire import messages
from kbroker.wire.header import encode_request_header, response_header

_CORRELATION_ID = 1
_ANSWER_BYTES_MAX = 64 << 20


def ask(bootstrap: str, key: int, version: int, request: Any, timeout_s: float) -> Any:
    """The decoded answer of the first broker that answers. Failure when there is none."""
    body = messages.encode_request(key, version, request)
    frame = encode_request_header(key, version, _CORRELATION_ID, "kcore") + body
    head = response_header(key, version, _CORRELATION_ID)
    why: OSError | None = None
    for address in parse_bootstrap(bootstrap):
        try:
            data = _exchange(address, len(frame).to_bytes(4, "big") + frame, timeout_s)
        except OSError as failed:
            why = failed
            continue
        try:
            return messages.decode_response(key, version, data, len(head))
        except ValueError:
            raise _stranger(address) from None
    raise Failure(
        f"no broker answers at {bootstrap}: {(why and why.strerror) or why} "
        "(is `kcore serve` running there?)"
    )


def _exchange(address: tuple[str, int], frame: bytes, timeout_s: float) -> bytes:
    with socket.create_connection(address, timeout_s) as sock:
        sock.sendall(frame)
        size = int.from_bytes(_take(sock, 4), "big")
        if size > _ANSWER_BYTES_MAX:
            raise _stranger(address)
        return _take(sock, size)


def _stranger(address: tuple[str, int]) -> Failure:
    return Failure(f"what answers at {join_host_port(*address)} is no Kafka broker")


def _take(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise OSError("the connection was closed")
        data += piece
    return bytes(data)
