"""Recovery and `kcore verify` share no code; on damaged logs they must say the same.

Goal: neither overlooks nor invents damage. Method: write a log, damage it in random ways, let
`verify` look first and recovery after it, and compare the ranges. Every record outside them must be
readable.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kcore
from kcore.errors import DamagedRange
from kcore.files.batch_walk import Batch, Gap, walk_batches
from kcore.verify import verify_dir

COUNT = 120
HEADER_OFFSETS = 8  # a batch's first bytes, its offset, lie outside the CRC


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pristine") / "t-0"
    with kcore.Log.open(directory, segment_bytes=6_000, index_interval_bytes=200) as log:
        for number in range(COUNT):
            # Values that hold whole batches of another log: debris that looks like data.
            inner = kcore.encode([b"inner"], base_offset=number)
            log.append(kcore.encode([inner if number % 3 == 0 else b"v" * (number % 40)]))
    return directory


def gaps_of(directory: Path) -> list[tuple[str, int, int]]:
    gaps = []
    for path in sorted(directory.glob("*.log")):
        data = memoryview(path.read_bytes())
        for item in walk_batches(data, base_offset=int(path.stem), path=str(path)):
            if isinstance(item, Gap):
                assert item.kind != "zeros"
                gaps.append((path.name, item.pos, item.end_pos))
    return gaps


def batch_starts(data: bytes) -> list[int]:
    items = walk_batches(memoryview(data), base_offset=0)
    return [item.pos for item in items if isinstance(item, Batch)]


def readable(log: kcore.Log) -> set[int]:
    offsets: set[int] = set()
    offset = log.log_start_offset
    while offset < log.next_offset:
        try:
            span = log.read(offset, 1 << 20)
        except DamagedRange as error:
            offset = error.next_offset
            continue
        if span is None:
            return offsets
        offsets.update(record.offset for record in kcore.records(span))
        offset = span.next_offset
    return offsets


@settings(max_examples=40, deadline=None)
@given(hits=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5_900)), min_size=1, max_size=4))
def test_the_same_ranges(pristine: Path, hits: list[tuple[int, int]]) -> None:
    """Flipped bits anywhere in the closed segments."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch, "t-0")
        shutil.copytree(pristine, directory)
        logs = sorted(directory.glob("*.log"))
        for which, at in hits:
            data = bytearray(logs[which].read_bytes())
            at %= len(data)
            start = max(
                pos for pos in batch_starts(pristine_bytes(pristine, logs[which])) if pos <= at
            )
            at += HEADER_OFFSETS if at - start < HEADER_OFFSETS else 0
            data[at] ^= 0x11
            logs[which].write_bytes(bytes(data))
        expected = gaps_of(directory)
        errors = verify_dir(directory).findings.count("error")
        with kcore.Log.open(directory) as log:
            found = [(Path(d.path).name, d.pos, d.end_pos) for d in log.damaged]
            lost = {o for d in log.damaged for o in range(d.first_offset, d.next_offset)}
            assert log.next_offset == COUNT
            assert readable(log) == set(range(COUNT)) - lost
        assert found == merged(expected)
        assert (errors > 0) == bool(expected)


def pristine_bytes(pristine: Path, path: Path) -> bytes:
    return (pristine / path.name).read_bytes()


def merged(gaps: list[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """Damage that touches is one range."""
    out: list[tuple[str, int, int]] = []
    for name, pos, end in gaps:
        if out and out[-1][0] == name and out[-1][2] == pos:
            out[-1] = (name, out[-1][1], end)
        else:
            out.append((name, pos, end))
    return out
