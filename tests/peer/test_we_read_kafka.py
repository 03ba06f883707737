"""A directory that a real Apache Kafka wrote opens in `kcore.Log` with the records its consumers
get.

One broker writes two topics: every codec, keys, headers, nulls, timestamps that go back, idempotent
and transactional producers, commits and aborts that interleave, small segments. A consumer reads
it all. Then the broker is killed and its directory copied, started again, and stopped cleanly: both
directories are read here, and `kcore verify` finds nothing wrong in either.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

import kcore
from kcore import dump, verify
from kcore.files import names
from kcore.files.clean_marker import load_clean_marker
from kcore.files.epoch_checkpoint import load_epoch_checkpoint
from kcore.files.meta_properties import load_meta_properties
from kcore.files.offset_checkpoint import load_offset_checkpoint
from kcore.files.partition_metadata import load_partition_metadata
from kcore.files.producer_snapshot import load_producer_snapshot
from kcore.files.txn_index import aborted_in, load_txn_index
from tests.peers import KafkaProcess, require_peer, run_java
from tests.support.recent import RECENT_MS

pytestmark = pytest.mark.peer

TOPIC = "orders"
SEGMENT_CONFIG = {"internal.segment.bytes": "8192", "index.interval.bytes": "512"}
START_MS = RECENT_MS  # Kafka's retention deletes what is older, 30 s after its start


class Seen(NamedTuple):
    """A record as a consumer or our log has it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True)
class Written:
    """What the broker left behind: `clean` after a stop, `killed` after SIGKILL."""

    clean: Path
    killed: Path
    all_records: list[Seen]
    committed: list[Seen]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Written]:
    require_peer("kafka")
    root = tmp_path_factory.mktemp("kafka")
    # It is killed and let in again when its old session has ended.
    with KafkaProcess(root, {"broker.session.timeout.ms": "3000"}) as kafka:
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
        topic = NewTopic(TOPIC, 1, 1, config=SEGMENT_CONFIG)
        admin.create_topics([topic])[TOPIC].result(60)
        produce_plain(kafka.bootstrap)
        produce_transactions(kafka.bootstrap)
        records = consume(kafka.bootstrap, "read_uncommitted")
        committed = consume(kafka.bootstrap, "read_committed")
        kafka.kill()
        killed = root / "killed"
        shutil.copytree(kafka.data_dir, killed)
        kafka.start()
        assert consume(kafka.bootstrap, "read_uncommitted") == records
        kafka.stop()
    yield Written(kafka.data_dir, killed, records, committed)


def produce_plain(bootstrap: str) -> None:
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "compression.type": codec,
                "batch.num.messages": 20,
                "enable.idempotence": codec in ("none", "lz4"),
                "log_level": 0,
            }
        )
        for n in range(300):
            producer.produce(
                TOPIC,
                partition=0,
                key=f"key-{n}".encode() if n % 3 else None,
                value=f"{codec}-{n}-".encode() * (1 + n % 9) if n % 11 else None,
                headers=[("first", b"1"), ("null", None)] if n % 5 == 0 else None,
                timestamp=START_MS + (n * 37) % 1000,
            )
        assert producer.flush(60) == 0


def produce_transactions(bootstrap: str) -> None:
    """Two producers whose transactions overlap; each round one commits and one aborts. The last
    transaction stays open."""
    producers = [
        Producer({"bootstrap.servers": bootstrap, "transactional.id": f"tx-{n}", "log_level": 0})
        for n in range(2)
    ]
    for producer in producers:
        producer.init_transactions(60)
    for number in range(8):
        for producer in producers:
            producer.begin_transaction()
        for index, producer in enumerate(producers):
            for n in range(5):
                producer.produce(TOPIC, partition=0, value=f"tx-{number}-{index}-{n}".encode())
        for producer in producers:
            assert producer.flush(60) == 0
        for index, producer in enumerate(producers):
            if (number + index) % 2:
                producer.abort_transaction(60)
            else:
                producer.commit_transaction(60)
    producers[0].begin_transaction()
    producers[0].produce(TOPIC, partition=0, value=b"open")
    assert producers[0].flush(60) == 0


def consume(bootstrap: str, isolation: str) -> list[Seen]:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "readers",
            "isolation.level": isolation,
            "enable.partition.eof": True,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "log_level": 0,
        }
    )
    consumer.assign([TopicPartition(TOPIC, 0, 0)])
    seen: list[Seen] = []
    try:
        while True:
            message = consumer.poll(60)
            assert message is not None, f"no end of {TOPIC} after {len(seen)} records"
            if message.error() is not None:
                return seen
            seen.append(
                Seen(
                    cast(int, message.offset()),
                    message.timestamp()[1],
                    message.key(),
                    message.value(),
                    tuple(cast("list[tuple[str, bytes | None]]", message.headers() or [])),
                )
            )
    finally:
        consumer.close()


def read_log(directory: Path, *, clean: bool) -> tuple[list[Seen], kcore.Log]:
    """All records of a copy of the partition, and the closed log."""
    seen: list[Seen] = []
    with kcore.Log.open(directory, clean=clean) as log:
        offset = log.log_start_offset
        while (span := log.read(offset, 4096)) is not None:
            seen += [
                Seen(r.offset, r.timestamp, r.key, r.value, tuple(r.headers))
                for r in kcore.records(span)
            ]
            offset = span.next_offset
    return seen, log


@pytest.mark.parametrize("how", ["clean", "killed"])
def test_the_same_records(written: Written, how: str, tmp_path: Path) -> None:
    source: Path = getattr(written, how)
    copy = tmp_path / f"{TOPIC}-0"
    shutil.copytree(source / f"{TOPIC}-0", copy)
    assert len(list(copy.glob("*.log"))) > 3
    seen, log = read_log(copy, clean=how == "clean")
    assert len(written.all_records) == 5 * 300 + 8 * 10 + 1
    assert seen == written.all_records
    report = log.recovery
    assert (report.torn_bytes_cut, report.damaged) == (0, [])
    # What we closed is as it was, so Kafka may have it back.
    for path in sorted((source / f"{TOPIC}-0").glob("*.log")):
        assert (copy / path.name).read_bytes() == path.read_bytes()
    assert verify.verify_dir(copy, deep=True).findings.count("error") == 0


@pytest.mark.parametrize("how", ["clean", "killed"])
def test_verify_finds_nothing_wrong(written: Written, how: str) -> None:
    report = verify.verify_dir(getattr(written, how), deep=True)
    assert [item for item in report.findings.items if item.level == "error"] == []
    assert report.is_clean == (how == "clean")
    assert f"{TOPIC}-0" in [facts.name for facts in report.partitions]
    if how == "clean":
        assert report.findings.items == []


def test_aborted_transactions_are_the_ones_consumers_skip(written: Written) -> None:
    """The transaction index, read by us, hides exactly what Kafka hides."""
    directory = written.clean / f"{TOPIC}-0"
    end = written.all_records[-1].offset + 1
    aborted = []
    for path in sorted(directory.glob("*.txnindex")):
        segment = names.parse_segment_name(path.name)
        assert segment is not None
        aborted += load_txn_index(path, base_offset=segment.base_offset)
    assert len(aborted) == 8
    found, _ = aborted_in(aborted, 0, end)
    assert found == aborted
    hidden = {offset for txn in aborted for offset in offsets_of(directory, txn)}
    visible = [record for record in written.all_records[:-1] if record.offset not in hidden]
    assert visible == written.committed


def offsets_of(directory: Path, txn: tuple[int, int, int, int]) -> set[int]:
    producer_id, first_offset, last_offset, _ = txn
    offsets: set[int] = set()
    for path in sorted(directory.glob("*.log")):
        for row in dump.dump_rows(path):
            if row["kind"] == "batch" and row.get("producer_id") == producer_id:
                offsets.update(range(row["base_offset"], row["last_offset"] + 1))
    return {offset for offset in offsets if first_offset <= offset <= last_offset}


def test_files_beside_the_log(written: Written) -> None:
    """Snapshots, checkpoints and properties decode to what Kafka's tool and consumers say."""
    directory = written.clean / f"{TOPIC}-0"
    snapshots = sorted(directory.glob("*.snapshot"))
    done = run_java(
        "org.apache.kafka.tools.DumpLogSegments",
        "--files",
        ",".join(str(path) for path in snapshots),
    )
    printed = re.findall(
        r"^producerId: (\d+) .*?lastSequence: (\d+) lastOffset: (\d+)", done.stdout, re.M
    )
    ours = []
    for path in snapshots:
        segment = names.parse_segment_name(path.name)
        assert segment is not None
        entries = load_producer_snapshot(path, next_offset=segment.base_offset)
        ours += [(e.producer_id, e.last_sequence, e.last_offset) for e in entries]
    assert len(ours) >= 4
    assert ours == [tuple(map(int, row)) for row in printed]
    end = int(snapshots[-1].name[:20])
    recovery = load_offset_checkpoint(written.clean / names.RECOVERY_POINT_CHECKPOINT)
    assert recovery[TOPIC, 0] == end
    assert load_clean_marker(written.clean / names.CLEAN_MARKER) is not None
    assert load_clean_marker(written.killed / names.CLEAN_MARKER) is None
    meta = load_meta_properties(written.clean / names.META_PROPERTIES)
    assert (meta.cluster_id, meta.node_id, meta.version) == ("AAECAwQFBgcICQoLDA0ODw", 1, 1)
    assert meta.directory_id is not None
    epochs = load_epoch_checkpoint(directory / names.LEADER_EPOCH_CHECKPOINT)
    assert epochs[0] == (0, 0)
    assert len(load_partition_metadata(directory / names.PARTITION_METADATA).topic_id) == 16


def test_dump_prints_every_file(written: Written) -> None:
    others = ("quorum-state", ".checkpoint")
    files = [
        Path(parent, name)
        for parent, _, found in os.walk(written.clean)
        for name in found
        if not name.endswith(others)
    ]
    text: list[str] = []
    assert dump.dump_files(files, text.append, text.append, records=True, as_json=True) == 0
    assert len(text) > len(written.all_records)
