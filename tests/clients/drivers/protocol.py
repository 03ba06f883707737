"""How a test talks to a client driver: one JSON object a line, in and out.

A request is `{"op": name, **arguments}`; the answer is `{"result": ...}` or `{"error": text}`.
Before its answer an operation may say `{"event": name}`. Bytes are base64; a record is
`{"k", "v", "h", "t"}` (key, value, headers as pairs, timestamp in ms), and `"o"`, its offset, when
it was read.
"""

from __future__ import annotations

import base64
import json
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

Record = dict[str, Any]

_writing = threading.Lock()


def to_text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def to_bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def to_headers(pairs: list[tuple[str, bytes | None]]) -> list[list[str | None]]:
    return [[name, to_text(value)] for name, value in pairs]


def from_headers(pairs: list[list[Any]]) -> list[tuple[str, bytes | None]]:
    return [(name, to_bytes(value)) for name, value in pairs]


def say(message: dict[str, Any]) -> None:
    with _writing:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


def event(name: str) -> None:
    say({"event": name})


def serve(operations: Callable[[str], Callable[..., Any]]) -> None:
    """Answers requests until standard input ends."""
    for line in sys.stdin:
        request = json.loads(line)
        try:
            say({"result": operations(request.pop("op"))(**request)})
        except Exception as error:
            say({"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()})
