"""The table of offered versions."""

import pytest
from kbroker.wire.versions import ApiVersionTable, VersionRange


def test_table():
    table = ApiVersionTable([(3, 0, 13), (0, 3, 9)])
    assert list(table) == [(0, 3, 9), (3, 0, 13)]
    assert len(table) == 2
    assert table.get(0) == VersionRange(3, 9)
    assert table.get(1) is None
    assert [v for v in range(-1, 12) if table.supports(0, v)] == list(range(3, 10))
    assert not table.supports(1, 0)


def test_highest_common():
    table = ApiVersionTable([(0, 3, 9)])
    assert table.highest_common(0, 0, 13) == 9
    assert table.highest_common(0, 0, 5) == 5
    assert table.highest_common(0, 10, 13) is None
    assert table.highest_common(0, 0, 2) is None
    assert table.highest_common(1, 0, 2) is None


@pytest.mark.parametrize("rows", [[(0, 2, 1)], [(0, -1, 1)], [(0, 0, 1), (0, 0, 2)]])
def test_impossible_tables_are_refused(rows):
    with pytest.raises(ValueError, match="API 0"):
        ApiVersionTable(rows)
