"""docs/configuration.md says what the declarations say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("config_docs", ROOT / "ci" / "config_docs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_document_is_up_to_date() -> None:
    assert generator().main(["--check"]) == 0, "run: python ci/config_docs.py"


def test_a_stale_document_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docs = generator()
    monkeypatch.setattr(docs, "TARGET", tmp_path / "configuration.md")
    monkeypatch.setattr(docs, "ROOT", tmp_path)
    assert docs.main(["--check"]) == 1
    docs.main([])
    assert docs.main(["--check"]) == 0
    text = docs.TARGET.read_text()
    docs.TARGET.write_text(text.replace("`604800000`", "`604800001`", 1))
    assert docs.main(["--check"]) == 1
