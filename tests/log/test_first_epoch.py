"""Goal: the epoch of a log's first batch is never lost, though its file is written late.

Method: copies of the directory are crashes; files are taken away as a power cut may.
"""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest
from kbroker.log import states
from kbroker.log.config import PartitionConfig

from kcore.files import names
from tests.log.support import Partitions, append, batch, sequenced


def copied(partitions: Partitions, directory: Path) -> Partitions:
    other = Partitions(directory)
    shutil.copytree(partitions.path, other.path)
    return other


def test_it_is_found_in_the_batches_after_a_crash(tmp_path: Path) -> None:
    partitions = Partitions(tmp_path / "a")
    partition = partitions.open(leader_epoch=4)
    append(partition, batch(b"a"))
    after = copied(partitions, tmp_path / "b").open(leader_epoch=5)
    assert after.states.epochs.entries() == [(4, 0), (5, 1)]
    after.close()
    partition.close()


@pytest.mark.parametrize("left", [None, b""])
def test_it_is_found_when_a_power_cut_took_the_file_but_not_the_snapshot(
    tmp_path: Path, left: bytes | None
) -> None:
    partitions = Partitions(tmp_path / "a")
    partition = partitions.open(leader_epoch=4)
    append(partition, sequenced(1, 0, 0))
    partition.close()
    path = partitions.path / names.LEADER_EPOCH_CHECKPOINT
    assert path.exists()
    path.unlink()
    if left is not None:
        path.write_bytes(left)
    after = partitions.open(leader_epoch=5, clean=True)
    assert after.states.epochs.entries() == [(4, 0), (5, 1)]
    after.close()


def test_it_survives_a_truncation_to_nothing(tmp_path: Path) -> None:
    partition = Partitions(tmp_path).open(leader_epoch=4)
    append(partition, batch(b"a"))
    partition.truncate(0)
    assert partition.states.epochs.entries() == [(4, 0)]
    partition.close()


def test_without_the_file_there_is_no_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partitions = Partitions(tmp_path)
    partition = partitions.open(PartitionConfig(segment_bytes=1024), leader_epoch=4)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(states, "write_atomic", full)
    for _ in range(3):
        append(partition, batch(b"a" * 600))
    assert partition.states.snapshot_offsets() == []
    monkeypatch.undo()
    append(partition, batch(b"a" * 600))
    assert partition.states.snapshot_offsets()
    assert (partitions.path / names.LEADER_EPOCH_CHECKPOINT).exists()
    partition.close()
