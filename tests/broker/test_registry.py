"""Goal: registering is decorating; one table says what is served and what ApiVersions tells."""

from __future__ import annotations

from types import ModuleType

import pytest
from kbroker.base.check import InvariantError
from kbroker.broker import registry
from kbroker.broker.registry import Registry, handlers_in, handles, handles_raw


@handles(3, 0, 13)
def metadata(ctx: object, req: object) -> None: ...


@handles_raw(0, 3, 13, advertise_min=0)
def produce(ctx: object, frame: object, pos: int) -> None: ...


def test_rows_come_out_by_key_with_advertised_ranges() -> None:
    table = Registry([metadata, produce])
    assert table.advertised() == [(0, 0, 13), (3, 0, 13)]
    row = table.get(0)
    assert row is not None and row.raw and row.pipelined
    assert not row.serves(2) and row.serves(3) and row.serves(13) and not row.serves(14)
    assert table.get(99) is None


def test_two_handlers_of_one_api_are_a_bug() -> None:
    @handles(3, 0, 1)
    def again(ctx: object, req: object) -> None: ...

    with pytest.raises(InvariantError, match="two handlers for API 3"):
        Registry([metadata, again])


def test_versions_out_of_order_are_a_bug() -> None:
    with pytest.raises(InvariantError, match="out of order"):
        handles(3, 5, 4)
    with pytest.raises(InvariantError, match="out of order"):
        handles(3, 1, 4, advertise_min=2)


def test_imported_handlers_are_not_registered_twice() -> None:
    module = ModuleType("k99_borrowed")
    module.metadata = metadata  # type: ignore[attr-defined]
    assert handlers_in(module) == []


def test_load_finds_every_handler_module() -> None:
    table = registry.load()
    assert table.get(18) is not None
    keys = [api.key for api in table.apis()]
    assert keys == sorted(keys)


def test_two_loads_share_nothing_mutable() -> None:
    assert registry.load() is not registry.load()
