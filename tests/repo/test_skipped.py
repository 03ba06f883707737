"""docs/skipped.md names every API that is not served, and none that is."""

from __future__ import annotations

import re
from pathlib import Path

from kbroker.broker import registry
from kbroker.wire import apis

ROOT = Path(__file__).resolve().parents[2]


def test_the_first_table_is_what_is_registered() -> None:
    text = (ROOT / "docs" / "skipped.md").read_text(encoding="ascii")
    listed = {int(key): name for key, name in re.findall(r"^\| (\d+) \| (\w+) \|", text, re.M)}
    served = {key for key, _, _ in registry.load().advertised()}
    missing = {key: api.name for key, api in apis.APIS.items() if key not in served}
    assert listed == missing
