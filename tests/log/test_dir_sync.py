"""Goal: no directory's name is taken for durable before it is, and a want of descriptors ends
nothing.

Method: `sync_dir` is replaced by one that notes another directory meanwhile, or that is refused.
"""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from kbroker.log import dir_sync
from kbroker.log.dir_sync import DirSync
from kbroker.log.partition_log import PartitionLog

from kcore.errors import TooManyFiles
from tests.log.support import append, batch
from tests.log.test_manager import ONE, Managed


def test_what_is_made_during_a_sync_is_the_next_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Path] = []
    names = DirSync(tmp_path)

    def sync(path: Path) -> None:
        calls.append(path)
        if len(calls) == 1:
            names.note()  # the loop makes a partition while a pool thread waits here

    monkeypatch.setattr(dir_sync, "sync_dir", sync)
    names.sync()
    assert not calls, "nothing was made"
    names.note()
    names.sync()
    names.sync()
    names.sync()
    assert calls == [tmp_path] * 2


@pytest.mark.parametrize(
    ("code", "kind"), [(errno.EMFILE, TooManyFiles), (errno.ENFILE, TooManyFiles), (5, OSError)]
)
def test_a_refused_sync_is_still_owed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[Exception]
) -> None:
    def refuse(_: Path) -> None:
        raise OSError(code, "no")

    names = DirSync(tmp_path)
    names.note()
    monkeypatch.setattr(dir_sync, "sync_dir", refuse)
    for _ in range(2):
        with pytest.raises(kind):
            names.sync()


def test_in_memory_there_is_nothing_to_sync() -> None:
    names = DirSync(None)
    names.note()
    names.sync()


@pytest.mark.parametrize("policy", ["os", "sync"])
def test_a_flush_without_descriptors_is_tried_again_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    managed = Managed(tmp_path, flush_policy=policy).open(ONE)
    tries: list[PartitionLog] = []
    flush_now = PartitionLog.flush_now

    def exhausted(partition: PartitionLog) -> None:
        tries.append(partition)
        raise TooManyFiles("Too many open files")

    monkeypatch.setattr(PartitionLog, "flush_now", exhausted)
    append(managed.partition(), batch(b"a"))
    managed.turn()
    managed.tick()
    managed.tick()
    assert 1 <= len(tries) <= 3, "once a round, not again and again"
    partition = managed.partition()
    assert partition.dirty and not partition.refuses
    monkeypatch.setattr(PartitionLog, "flush_now", flush_now)
    managed.tick()
    assert not partition.dirty and partition.high_watermark == 1
    managed.logs.close()
