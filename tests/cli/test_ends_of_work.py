"""What is not lost when a command ends early: records read, records printed, values as given."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kbroker.cli import consume, produce
from kbroker.cli.connection import pairs
from kbroker.cli.console import Failure
from kbroker.cli.formats import FormatError, parse_json_line


class FakeSender:
    def __init__(self) -> None:
        self.did: list[str] = []

    def flush(self) -> None:
        self.did.append("flush")

    def report(self, quiet: bool) -> None:
        self.did.append("report")

    def raise_refused(self) -> None:
        self.did.append("refused")


def ends_with(monkeypatch: pytest.MonkeyPatch, error: BaseException, paths: list[Path]) -> Any:
    sender: Any = FakeSender()

    def send_all(*_: Any) -> None:
        raise error

    monkeypatch.setattr(produce, "_send_all", send_all)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    with pytest.raises((Failure, SystemExit)) as caught:
        produce._run(sender, None, paths, False)  # type: ignore[arg-type]
    assert sender.did == ["flush", "report", "refused"]
    return caught.value


def test_a_file_that_cannot_be_read_loses_nothing_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = PermissionError(13, "Permission denied", "b.txt")
    assert str(ends_with(monkeypatch, error, [])) == "b.txt: Permission denied"


def test_a_file_that_was_cut_short_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ends_with(monkeypatch, KeyboardInterrupt(), [Path("a.txt")]).code == 130


def test_what_came_before_an_error_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    def message(offset: int, error: object = None) -> Any:
        return SimpleNamespace(
            topic=lambda: "t", partition=lambda: 0, offset=lambda: offset, error=lambda: error
        )

    def fail(*_: Any) -> None:
        raise Failure("there is no topic 't' any more")

    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=out))
    monkeypatch.setattr(consume, "_next", lambda *_: [message(0), message(1), message(2, "gone")])
    monkeypatch.setattr(consume, "_on_error", fail)
    monkeypatch.setattr(consume, "as_record", lambda message: message)
    ends: Any = SimpleNamespace(reached=False, on_record=lambda *_: True)
    with pytest.raises(Failure):
        consume.pump(
            None, lambda record: b"%d\n" % record.offset(), ends,  # type: ignore[arg-type]
            SimpleNamespace(asked=False), None, store=False,  # type: ignore[arg-type]
        )  # fmt: skip
    assert out.getvalue() == b"0\n1\n"


def test_values_keep_their_blanks() -> None:
    assert pairs([" key = a b "], "-X") == [("key", " a b ")]


def test_a_misspelt_field_of_a_header_is_refused() -> None:
    with pytest.raises(FormatError, match="no field 'val'"):
        parse_json_line(b'{"value": "v", "headers": [{"key": "a", "val": "x"}]}')
