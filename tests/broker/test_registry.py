"""Goal: registering is decorating; one table says what is served and what ApiVersions tells."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from kbroker.base.check import InvariantError
from kbroker.broker import registry
from kbroker.broker.registry import Registry, handlers_in, handles, handles_raw

ROOT = Path(__file__).resolve().parents[2]


@handles(3, 0, 13)
def metadata(ctx: object, req: object) -> None: ...


@handles_raw(0, 3, 13, advertise_min=0)
def produce(ctx: object, frame: object, pos: int) -> None: ...


def test_rows_come_out_by_key_with_advertised_ranges() -> None:
    table = Registry.of([metadata, produce])
    assert table.advertised() == [(0, 0, 13), (3, 0, 13)]
    row = table.get(0)
    assert row is not None and row.raw and row.pipelined
    assert not row.serves(2) and row.serves(3) and row.serves(13) and not row.serves(14)
    assert table.get(99) is None


def test_two_handlers_of_one_api_are_a_bug() -> None:
    @handles(3, 0, 1)
    def again(ctx: object, req: object) -> None: ...

    with pytest.raises(InvariantError, match="two handlers for API 3"):
        Registry.of([metadata, again])


def test_versions_out_of_order_are_a_bug() -> None:
    with pytest.raises(InvariantError, match="out of order"):
        handles(3, 5, 4)
    with pytest.raises(InvariantError, match="out of order"):
        handles(3, 1, 4, advertise_min=2)


def test_imported_handlers_are_not_registered_twice() -> None:
    module = ModuleType("k99_borrowed")
    module.metadata = metadata  # type: ignore[attr-defined]
    assert handlers_in(module) == []


def test_the_table_is_what_the_handler_modules_register() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "ci" / "gen_handlers.py"), "--check"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for api in registry.load().apis():
        loaded = api.loaded()
        assert loaded[:6] == api[:6] and callable(loaded.handler)
        assert api.handler.load() is loaded


def test_a_start_imports_no_handler() -> None:
    script = (
        "import sys; from kbroker.broker import node, registry; registry.load()\n"
        "sys.exit(sum('kbroker.broker.handlers.k' in name for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_two_loads_share_nothing_mutable() -> None:
    assert registry.load() is not registry.load()
