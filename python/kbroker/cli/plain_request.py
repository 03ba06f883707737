"""One request to a broker over a plain connection, for what the client library cannot say.

librdkafka refuses a resource without a name, which is how Kafka calls the defaults of all brokers.
"""

from __future__ import annotations

import socket
from typing import Any

from kbroker.base.listeners import split_host_port
from kbroker.cli.console import Failure
from kbroker.wire import messages
from kbroker.wire.header import encode_request_header, response_header

_CORRELATION_ID = 1
_ANSWER_BYTES_MAX = 64 << 20


def ask(bootstrap: str, key: int, version: int, request: Any, timeout_s: float) -> Any:
    """The decoded answer. Failure when there is none."""
    host, port = split_host_port(bootstrap.split(",")[0].strip())
    body = messages.encode_request(key, version, request)
    frame = encode_request_header(key, version, _CORRELATION_ID, "kcore") + body
    try:
        with socket.create_connection((host, port), timeout_s) as sock:
            sock.sendall(len(frame).to_bytes(4, "big") + frame)
            size = int.from_bytes(_take(sock, 4), "big")
            if size > _ANSWER_BYTES_MAX:
                raise Failure(f"{bootstrap} answers with {size} bytes: that is no Kafka broker")
            data = _take(sock, size)
    except OSError as failed:
        raise Failure(
            f"no broker answers at {bootstrap}: {failed.strerror or failed} "
            "(is `kcore serve` running there?)"
        ) from None
    head = response_header(key, version, _CORRELATION_ID)
    return messages.decode_response(key, version, data, len(head))


def _take(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise OSError("the connection was closed")
        data += piece
    return bytes(data)
