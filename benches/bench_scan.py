"""Recovery after an unclean stop: opening a log whose every byte has to be checked, against one CRC
pass over the same bytes in memory (the physical limit) and the crc32c package doing that pass.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import crc32c as package
import pytest

import kcore
from benches.conftest import Row

TOTAL_BYTES = 128 << 20


@pytest.fixture(scope="module")
def log_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scan") / "t-0"
    with kcore.Log.open(path, segment_bytes=1 << 30) as log:
        data = bytearray(kcore.encode([os.urandom(1000)] * 16, timestamps=[1] * 16))
        while log.size_bytes < TOTAL_BYTES:
            log.append(data, verify=False)
    return path


@pytest.mark.parametrize("side", ["ours", "our CRC alone", "crc32c package alone"])
def test_recovery(benchmark: Any, row: Row, log_directory: Path, side: str) -> None:
    content = (log_directory / f"{0:020d}.log").read_bytes()
    row("recover a log, 16 KiB batches, warm", side, work=len(content), unit="bytes",
        target=">= 2 GB/s" if side == "ours" else None)  # fmt: skip

    def recover() -> None:
        log = kcore.Log.open(log_directory, segment_bytes=1 << 30)
        assert log.recovery.bytes_scanned == len(content)
        log.close(sync=False)

    if side == "ours":
        benchmark.pedantic(recover, rounds=9, warmup_rounds=1)
    else:
        crc = kcore.crc32c if side == "our CRC alone" else package.crc32c
        benchmark.pedantic(crc, args=(content,), rounds=9, warmup_rounds=1)
