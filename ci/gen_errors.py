"""Renders `kbroker/base/errors.py` from kio's table of error codes; a part of ci/gen.py."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from itertools import pairwise

from kio.schema.errors import ErrorCode

ERRORS_HEAD = '''"""Kafka's error codes and the exception that carries one. {mark}

Codes are plain integers: they go into messages as they are. `KafkaError` means that a client or a
peer is at fault; a handler that raises one answers the request with its code.
"""

from __future__ import annotations

from typing import Final

'''

ERRORS_TABLE = """

# code: (name, may the client retry, what it means)
_TABLE: Final[dict[int, tuple[str, bool, str]]] = {
"""

ERRORS_TAIL = '''
}


class KafkaError(Exception):
    """Answer with `code`; `message` says what was wrong with this very request."""

    def __init__(self, code: int, message: str | None = None) -> None:
        self.code = code
        self.message = message_of(code) if message is None else message
        super().__init__(f"{name_of(code)}: {self.message}")


def name_of(code: int) -> str:
    """Kafka's name of a code, for logs and metrics; an unknown code is shown as a number."""
    row = _TABLE.get(code)
    return f"ERROR_{code}" if row is None else row[0]


def message_of(code: int) -> str:
    row = _TABLE.get(code)
    return "" if row is None else row[2]


def is_retriable(code: int) -> bool:
    row = _TABLE.get(code)
    return row is not None and row[1]
'''


def render_errors(mark: str) -> str:
    texts = error_texts()
    constants = [f"{code.name.upper()}: Final = {code.value}" for code in ErrorCode]
    rows = []
    for code in ErrorCode:
        text = texts.get(code.name, "")
        rows.append(f'    {code.value}: ("{code.name.upper()}", {code.retriable},')
        wrapped = textwrap.wrap(text, 80) or [""]
        parts = [part + (" " if i + 1 < len(wrapped) else "") for i, part in enumerate(wrapped)]
        rows += [f'        "{part}"' for part in parts]
        rows[-1] += "),"
    return (
        ERRORS_HEAD.format(mark=mark)
        + "\n".join(constants)
        + ERRORS_TABLE
        + "\n".join(rows)
        + ERRORS_TAIL
    )


def error_texts() -> dict[str, str]:
    """The string that follows each member of the enumeration is its text."""
    tree = ast.parse(inspect.getsource(sys.modules[ErrorCode.__module__]))
    (cls,) = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "ErrorCode")
    texts: dict[str, str] = {}
    for member, after in pairwise(cls.body):
        if isinstance(member, ast.Assign) and isinstance(after, ast.Expr):
            target, value = member.targets[0], after.value
            if isinstance(target, ast.Name) and isinstance(value, ast.Constant):
                texts[target.id] = " ".join(str(value.value).split()).replace('"', "'")
    return texts
