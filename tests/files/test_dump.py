"""`kcore dump`: every kind of file, as text and as JSON; damage is printed and what follows it
too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kcore import dump
from kcore.files import names
from kcore.files.clean_marker import store_clean_marker
from kcore.files.meta_properties import MetaProperties, store_meta_properties
from kcore.files.offset_checkpoint import store_offset_checkpoint
from tests.files.parts import START_MS, TOPIC_ID, Partition, batch


def run(*arguments: str | Path) -> tuple[int, str]:
    code, written, complaints = run_split(*arguments)
    assert not complaints
    return code, written


def run_split(*arguments: str | Path) -> tuple[int, str, str]:
    """(exit code, standard output, standard error)."""
    written: list[str] = []
    complaints: list[str] = []
    words = [str(argument) for argument in arguments]
    code = dump.main(words, written.append, complaints.append)
    return code, "".join(written), "".join(complaints)


def rows(*arguments: str | Path) -> list[dict[str, Any]]:
    code, text = run("--json", *arguments)
    assert code == 0
    return [json.loads(line) for line in text.splitlines()]


def test_log(tmp_path: Path) -> None:
    partition = Partition.write(tmp_path)
    path = partition.path(16, ".log")
    first, *batches = rows(path)
    assert first == {"kind": "file", "path": str(path), "size": path.stat().st_size}
    assert len(batches) == 7
    assert batches[0] == {
        "kind": "batch", "pos": 0, "size": 129, "base_offset": 16, "last_offset": 18,
        "record_count": 3, "codec": "none", "base_timestamp": START_MS + 1000,
        "max_timestamp": START_MS + 1000, "timestamp_type": "create", "leader_epoch": 1,
        "crc": batches[0]["crc"],
    }  # fmt: skip
    assert batches[5]["transactional"] is True and batches[5]["base_sequence"] == 1
    assert (batches[6]["control"], batches[6]["coordinator_epoch"]) == ("abort", 3)


def test_records(tmp_path: Path) -> None:
    path = tmp_path / f"{0:020d}.log"
    path.write_bytes(batch(0, [b"caf\xc3\xa9\n", None, b"\xff\x00"]) + batch(3, [b"x" * 500]))
    records = [row for row in rows("--records", path) if row["kind"] == "record"]
    assert records[0] == {
        "kind": "record", "offset": 0, "timestamp": START_MS, "key": "k", "value": "caf\u00e9\n",
        "headers": [["h", {"base64": "/w=="}]],
    }  # fmt: skip
    assert [row["value"] for row in records[1:3]] == [None, {"base64": "/wA="}]
    assert len(records[3]["value"]) == 500
    code, text = run("--records", path)
    assert code == 0 and text.isascii() and len(text.splitlines()) == 7
    assert "value='caf\\xc3\\xa9\\n' headers={h: '\\xff'}" in text
    assert "value=null" in text and "...(+380 bytes)" in text


def test_damage_and_what_follows(tmp_path: Path) -> None:
    path = tmp_path / f"{0:020d}.log"
    bad = bytearray(batch(1, [b"b"]))
    bad[-1] ^= 1
    path.write_bytes(batch(0, [b"a"]) + bytes(bad) + batch(2, [b"c"]) + bytes(100))
    code, text = run(path)
    kinds = [line.split()[0] for line in text.splitlines()]
    assert (code, kinds) == (1, ["file", "batch", "damage", "batch", "zeros"])
    index = tmp_path / f"{0:020d}.index"
    index.write_bytes(b"1234567")
    code, text = run(index, path)
    assert code == 1 and "torn entry" in text and "base_offset=2" in text


def test_every_other_kind(tmp_path: Path) -> None:
    partition = Partition.write(tmp_path)
    assert rows(partition.path(0, ".index"))[1] == {
        "kind": "index_entry", "offset": 8, "pos": 258,
    }  # fmt: skip
    assert rows(partition.path(0, ".timeindex"))[1] == {
        "kind": "time_index_entry", "timestamp": START_MS + 4, "offset": 8,
    }  # fmt: skip
    assert rows(partition.path(16, ".txnindex"))[1] == {
        "kind": "aborted_txn", "producer_id": 500, "first_offset": 15, "last_offset": 32,
        "last_stable_offset": 33,
    }  # fmt: skip
    assert rows(partition.path(33, ".snapshot"))[1]["last_sequence"] == 1
    assert len(rows(partition.directory / names.LEADER_EPOCH_CHECKPOINT)) == 4
    assert rows(partition.directory / names.PARTITION_METADATA)[1] == {
        "kind": "partition_metadata", "version": 0, "topic_id": "AAECAwQFBgcICQoLDA0ODw",
    }  # fmt: skip
    store_meta_properties(tmp_path / names.META_PROPERTIES, MetaProperties("c", 1, TOPIC_ID))
    assert rows(tmp_path / names.META_PROPERTIES)[1] == {
        "kind": "meta_properties", "cluster_id": "c", "node_id": 1,
        "directory_id": "AAECAwQFBgcICQoLDA0ODw", "version": 1,
    }  # fmt: skip
    store_clean_marker(tmp_path / names.CLEAN_MARKER, 4)
    assert rows(tmp_path / names.CLEAN_MARKER)[1]["broker_epoch"] == 4
    for name in names.OFFSET_CHECKPOINTS:
        store_offset_checkpoint(tmp_path / name, {("t", 0): 3})
        assert rows(tmp_path / name)[1:] == [
            {"kind": "offset", "topic": "t", "partition": 0, "offset": 3}
        ]


def test_what_cannot_be_read_is_a_complaint_and_no_row(tmp_path: Path) -> None:
    missing = tmp_path / f"{0:020d}.log"
    code, written, complaints = run_split(missing)
    assert (code, written) == (2, "") and "No such file" in complaints
    stranger = tmp_path / "notes.txt"
    stranger.touch()
    code, written, complaints = run_split("--json", stranger)
    assert (code, written) == (2, "") and "not a file of a data directory" in complaints
