"""Looking an offset up in an index of 10,000 entries, random keys: ours (branchless, big-endian
entries as in the file) against NumPy's binary search (branchy, native integers) and an LMDB get.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest

from benches.conftest import Row
from kcore._native.index import OffsetIndex
from kcore._native.posixops import POSIX

ENTRIES = 10_000
KEYS = np.random.default_rng(1).integers(0, ENTRIES * 16, 100_000).astype(np.int64)
NAME = "look an offset up, 10,000 index entries"


@pytest.mark.parametrize("side", ["ours", "numpy searchsorted"])
def test_lookup(benchmark: Any, row: Row, tmp_path: Path, side: str) -> None:
    row(NAME, side, work=len(KEYS), unit="lookups",
        target="<= 30 ns" if side == "ours" else None)  # fmt: skip
    offsets = np.arange(1, ENTRIES + 1, dtype=np.int64) * 16
    positions = np.empty(len(KEYS), dtype=np.int64)
    if side == "ours":
        path = tmp_path / f"{0:020d}.index"
        path.write_bytes(b"".join(struct.pack(">ii", o, o * 300) for o in offsets.tolist()))
        index = OffsetIndex.new(POSIX, str(path), 0)
        benchmark(index.floor_many, KEYS, positions)
        expected = np.searchsorted(offsets, KEYS, side="right")
        assert (positions == expected * 16 * 300).all()
    else:
        benchmark(np.searchsorted, offsets, KEYS, side="right")


def test_lmdb(benchmark: Any, row: Row, tmp_path: Path) -> None:
    keys = [struct.pack(">q", k // 16 * 16) for k in KEYS[:5000].tolist()]
    row(NAME, "LMDB get", work=len(keys), unit="lookups")
    with lmdb.open(str(tmp_path / "db"), map_size=1 << 26) as env:
        with env.begin(write=True) as txn:
            for i in range(ENTRIES + 1):
                txn.put(struct.pack(">q", i * 16), b"position")
        with env.begin(buffers=True) as txn:
            benchmark(lambda: [txn.get(key) for key in keys])
