"""`kcore verify`: nothing to say about a good directory, and something about any changed byte."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from kcore import Log, encode, verify
from kcore.files import names
from kcore.files.clean_marker import store_clean_marker
from kcore.files.meta_properties import MetaProperties, store_meta_properties
from kcore.files.offset_checkpoint import store_offset_checkpoint
from tests.files.parts import START_MS, TOPIC_ID, Partition, batch

Change = Callable[[Partition], None]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data directory with one topic in two partitions, stopped cleanly."""
    data = tmp_path / "data"
    end = Partition.write(data, "orders-3").next_offset
    Partition.write(data, "orders-4")
    store_clean_marker(data / names.CLEAN_MARKER, 1)
    store_meta_properties(data / names.META_PROPERTIES, MetaProperties("c", 1, TOPIC_ID))
    offsets = {("orders", 3): end, ("orders", 4): end}
    store_offset_checkpoint(data / names.RECOVERY_POINT_CHECKPOINT, offsets)
    (data / names.LOCK_FILE).touch()
    return data


def run(path: Path, *options: str) -> tuple[int, str]:
    written: list[str] = []
    code = verify.main([str(path), *options], written.append)
    return code, "".join(written)


def messages(path: Path, level: str = "error") -> list[str]:
    found = verify.verify_dir(path).findings.items
    return [item.message for item in found if item.level == level]


def test_a_good_directory(root: Path) -> None:
    code, text = run(root, "--deep")
    assert text.endswith("0 errors, 0 notes\n") and code == 0
    assert "orders-3: 3 segments, 18 batches, 48 records, " in text
    assert "offsets 0..48" in text
    assert run(root / "orders-3")[0] == 0


def test_every_changed_byte_is_found(root: Path) -> None:
    """Of every file: there is a second source for everything that a CRC does not cover. Of the logs
    every seventh byte is changed, and every byte of a header."""
    silent: list[str] = []
    partition = root / "orders-3"
    for path in sorted(partition.iterdir()):
        good = path.read_bytes()
        positions = list(range(len(good)))
        if path.suffix == names.LOG_SUFFIX:
            positions = [*range(61), *range(61, len(good), 7)]
        # The topic id has its second source in the topic's other partitions.
        checked = root if path.name == names.PARTITION_METADATA else partition
        for at in positions:
            broken = bytearray(good)
            broken[at] ^= 0x40
            path.write_bytes(bytes(broken))
            if not verify.verify_dir(checked).findings.count("error"):
                silent.append(f"{path.name} @{at}")
        path.write_bytes(good)
    assert silent == []


def test_a_torn_tail_is_a_note_after_a_crash_only(root: Path) -> None:
    log = root / "orders-3" / f"{33:020d}.log"
    log.write_bytes(log.read_bytes() + batch(48, [b"x"])[:70])
    assert messages(root)[-1] == "70 bytes that are no batch at the end, after a clean stop"
    (root / names.CLEAN_MARKER).unlink()
    assert messages(root) == []
    assert messages(root, "note") == ["torn tail of 70 bytes, recovery cuts it"]
    log.write_bytes(log.read_bytes()[:-70] + bytes(4096))
    assert messages(root, "note") == ["4096 preallocated bytes"]
    closed = root / "orders-3" / f"{0:020d}.log"
    closed.write_bytes(closed.read_bytes() + bytes(100))
    assert messages(root) == ["100 zeros at the end of a closed segment"]


def _time_index(partition: Partition, *entries: tuple[int, int]) -> None:
    data = b"".join(struct.pack(">qi", *entry) for entry in entries)
    partition.path(0, ".timeindex").write_bytes(data)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: p.path(16, ".log").unlink(), "offsets 16..32 are missing"),
        (lambda p: p.path(16, ".log").unlink(), "stray: an index without its log"),
        (lambda p: p.path(16, ".index").unlink(), "missing, it is rebuilt at the next start"),
        (lambda p: p.path(16, ".txnindex").unlink(), "no entry for the transaction aborted at 32"),
        (lambda p: (p.directory / "notes.txt").touch(), "stray: no file of ours has such a name"),
        (
            lambda p: (p.directory / names.DAMAGED_RANGES).write_text("0\n1\n0 10 20 3 6\n"),
            "quarantined: bytes 10..20 of 00000000000000000000.log, offsets 3..6",
        ),
        (lambda p: (p.directory / f"{0:020d}.log.broken").touch(), "set aside by recovery"),
        (
            lambda p: p.path(48, ".snapshot").rename(p.path(49, ".snapshot")),
            "beyond the log's end 48",
        ),
        (
            lambda p: shutil.copy(p.path(16, ".snapshot"), p.path(33, ".snapshot")),
            "sequence 0 at offset 15, but the log has 1 at 31",
        ),
        (
            lambda p: shutil.copy(p.path(33, ".snapshot"), p.path(16, ".snapshot")),
            "offset at or above the snapshot's",
        ),
        (
            lambda p: p.path(0, ".index").write_bytes(struct.pack(">ii", 2, 150)),
            "entry for offset 2: no batch begins at 150 of the log",
        ),
        (
            lambda p: p.path(0, ".index").write_bytes(struct.pack(">ii", 2, len_batch(p))),
            "entry for offset 2 points elsewhere: the batch at 129 has offsets 3..5",
        ),
        (
            lambda p: _time_index(p, (START_MS + 1, 5)),
            "the batch's largest timestamp is 1700000000002",
        ),
        (lambda p: _time_index(p, (START_MS + 1, 4)), "no batch ends with that offset"),
        (lambda p: _time_index(p, (START_MS + 1, 99)), "beyond the last batch"),
        (lambda p: _time_index(p, (START_MS + 3, 14)), "an earlier batch has 1700000000004"),
        (
            lambda p: (p.directory / names.LEADER_EPOCH_CHECKPOINT).write_text("0\n1\n0 0\n"),
            "offset 16 has leader epoch 1, the epoch checkpoint says 0",
        ),
        (
            lambda p: (p.directory / names.LEADER_EPOCH_CHECKPOINT).write_text(
                "0\n4\n0 0\n1 16\n2 33\n3 49\n"
            ),
            "epoch 3 starts at 49, beyond the log's end 48",
        ),
    ],
)
def test_findings(root: Path, change: Change, words: str) -> None:
    partition = Partition(root / "orders-3")
    change(partition)
    assert any(words in message for message in messages(root)), messages(root)
    assert run(root)[0] == 1


def len_batch(partition: Partition) -> int:
    """Size of the first batch, which is where the second begins."""
    data = partition.path(0, ".log").read_bytes()
    return int(struct.unpack_from(">i", data, 8)[0]) + 12


def test_an_old_index_entry_is_only_noted(root: Path) -> None:
    """Kafka before 4.0 indexed appends, not batches; a search from there works."""
    partition = Partition(root / "orders-3")
    partition.path(0, ".index").write_bytes(struct.pack(">ii", 8, len_batch(partition)))
    assert messages(root) == []
    assert "an append began at 129" in messages(root, "note")[0]


def test_root_findings(root: Path) -> None:
    (root / "what").touch()
    (root / "x.tmp").touch()
    (root / f"orders-9.{'0' * 32}-delete").mkdir()
    offsets = {("orders", 3): 49, ("gone", 0): 5}
    store_offset_checkpoint(root / names.HIGH_WATERMARK_CHECKPOINT, offsets)
    (root / names.META_PROPERTIES).write_bytes(b"version=3\n")
    metadata = root / "orders-4" / names.PARTITION_METADATA
    metadata.write_text("version: 0\ntopic_id: BBECAwQFBgcICQoLDA0ODw")
    assert messages(root) == [
        "meta.properties: unknown version: expected 0 or 1, found 3",
        "orders-3: offset 49 is beyond the log's end 48",
        "stray: nothing of ours has such a name",
        "topic id BBECAwQFBgcICQoLDA0ODw, other partitions AAECAwQFBgcICQoLDA0ODw",
    ]
    assert messages(root, "note") == [
        "marked -delete, not checked",
        "left by a write that did not finish, never read",
        "gone-0 is not in this directory",
    ]


def test_two_topics_with_one_id(root: Path) -> None:
    Partition.write(root, "other-0")
    assert "share the id" in messages(root)[0]


def test_compaction_leaves_gaps(root: Path) -> None:
    partition = Partition(root / "orders-3")
    log = partition.path(33, ".log")
    log.write_bytes(log.read_bytes() + batch(60, [b"x"], leader_epoch=2))
    assert messages(root) == ["offsets 48..59 are missing"]
    log.write_bytes(log.read_bytes() + batch(61, [b"x"], leader_epoch=2, offset_count=3))
    assert messages(root) == []


def test_a_file_full_of_garbage_is_one_fact(root: Path) -> None:
    log = root / "orders-3" / f"{33:020d}.log"
    log.write_bytes(b"".join(batch(33, [b"x"], leader_epoch=2) for _ in range(300)))
    report = verify.verify_dir(root)
    listed = [item for item in report.findings.items if item.path == str(log)]
    assert listed[0].message == "offsets go back: 33 after 33"
    assert len(listed) == 21 and report.findings.count("error") > 299


def test_json_and_usage(root: Path, tmp_path: Path) -> None:
    code, text = run(root, "--json")
    document = json.loads(text)
    assert (code, document["errors"], document["stopped_cleanly"]) == (0, 0, True)
    assert document["partitions"][0]["next_offset"] == 48
    complaints: list[str] = []
    code = verify.main([str(tmp_path / "nothing")], pytest.fail, complaints.append)
    assert code == 2 and "No such file" in complaints[0]
    with pytest.raises(SystemExit) as caught:
        verify.main([], lambda text: None)
    assert caught.value.code == 2


def test_a_small_log_is_closed_without_indexes(tmp_path: Path) -> None:
    """As nothing is due in them; a log of some size without any has lost them."""
    with Log.open(tmp_path / "few-0") as log:
        for _ in range(3):
            log.append(encode([b"v"]))
    with Log.open(tmp_path / "many-0") as log:
        for _ in range(100):
            log.append(encode([bytes(1_000)]))
    assert list((tmp_path / "few-0").glob("*index")) == []
    for path in (tmp_path / "many-0").glob("*index"):
        path.unlink()
    store_clean_marker(tmp_path / names.CLEAN_MARKER, 1)
    found = [f for f in verify.verify_dir(tmp_path).findings.items if f.path.endswith(".index")]
    assert [(f.level, Path(f.path).parent.name) for f in found] == [("error", "many-0")]
