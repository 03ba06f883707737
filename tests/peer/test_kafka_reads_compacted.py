"""Apache Kafka's DumpLogSegments reads what our cleaner left, and has nothing to complain about:
gaps, merged segments, batches written anew with every codec, headers without records, delete
horizons, transaction markers and the indexes of all that.
"""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from kbroker.log.config import PartitionConfig

import kcore
from kcore.files import names
from tests.compaction.model import headers, latest, round_over, rows, run
from tests.log.support import NOW_MS, Partitions, append, marker
from tests.peer.test_kafka_reads_us import CODECS, COMPLAINTS, dump, files_of
from tests.peer.test_kafka_serves_ours import produce_one
from tests.peers import KafkaProcess, require_peer

pytestmark = pytest.mark.peer

CONFIG = PartitionConfig(
    compacts=True, deletes=False, segment_bytes=20_000, index_interval_bytes=300
)  # fmt: skip


def clean_output(files: list[Path], *options: str) -> str:
    """The tool reports each gap between records, which are what compaction is about; and nothing
    else."""
    done = dump(files, *options)
    gaps = r"Non-consecutive offsets in \S*\.log\n(?:  -?\d+ is followed by \d+\n)*"
    assert (done.returncode, re.sub(gaps, "", done.stderr)) == (0, "")
    assert not [word for word in COMPLAINTS if word in done.stdout]
    return done.stdout


@pytest.fixture(scope="module")
def compacted(tmp_path_factory: pytest.TempPathFactory) -> Partitions:
    rng = random.Random(4)
    partitions = Partitions(tmp_path_factory.mktemp("compacted"))
    partition = partitions.open(CONFIG)
    once = {"producer_id": 10, "producer_epoch": 0, "base_sequence": 0}
    append(partition, bytearray(kcore.encode([b"x"], keys=[b"k1"], timestamps=[NOW_MS], **once)))
    sequences = {7: 0, 8: 0, 9: 0}
    for number in range(600):
        keys = [b"k%d" % rng.randrange(200) for _ in range(4)]
        values = [None if rng.randrange(9) == 0 else rng.randbytes(rng.randrange(80)) for _ in keys]
        times = [NOW_MS + rng.randrange(1000) for _ in keys]
        fields: dict[str, Any] = {}
        producer = rng.choice([-1, 7, 8, 9])
        if producer > 0:
            fields = {"producer_id": producer, "producer_epoch": 0}
            fields |= {"base_sequence": sequences[producer], "transactional": producer == 9}
            sequences[producer] += 4
        codec = CODECS[number % 5]
        data = kcore.encode(values, keys=keys, codec=codec, timestamps=times, **fields)
        append(partition, bytearray(data), txn_verified=True)
        if producer == 9:
            partition.append_marker(marker(9, 0, rng.randrange(3) > 0), now_ms=NOW_MS)
    partition.roll()
    for _ in range(2):
        run(partition, round_over(partition, now_ms=NOW_MS))
        for _ in range(3):
            append(partition, bytearray(kcore.encode([b"x"], keys=[b"k1"], timestamps=[NOW_MS])))
        partition.roll()
    append(partition, bytearray(kcore.encode([b"x"], keys=[b"k1"], timestamps=[NOW_MS])))
    partition.close()
    return partitions


def test_records_agree(compacted: Partitions) -> None:
    logs = files_of(compacted.path, ".log")
    partition = compacted.open(CONFIG, clean=True)
    ours, batches = rows(partition.log), headers(partition.log)
    partition.close()
    output = clean_output(logs, "--deep-iteration", "--print-data-log")
    kafkas = re.findall(
        r"^\| offset: (\d+) CreateTime: (\d+) keySize: (\d+) valueSize: (-?\d+)(?! endTxnMarker)",
        output, re.MULTILINE,
    )  # fmt: skip
    markers = {b.base_offset for b in batches if b.is_control}
    found = [tuple(map(int, r)) for r in kafkas if int(r[0]) not in markers]
    assert found == [
        (r.offset, r.timestamp, len(r.key or b""), -1 if r.value is None else len(r.value))
        for r in ours
    ]
    lines = re.findall(
        r"baseOffset: (\d+) lastOffset: (\d+) count: (\d+) baseSequence: (-?\d+) .*?"
        r"deleteHorizonMs: (\S+) position: .*?isvalid: (\w+)",
        output,
    )
    assert [(int(a), int(b), int(c), int(d), valid) for a, b, c, d, _, valid in lines] == [
        (b.base_offset, b.last_offset, b.record_count, b.base_sequence, "true") for b in batches
    ]
    horizons = [b.base_timestamp for b in batches if b.has_delete_horizon]
    assert [int(h) for _, _, _, _, text, _ in lines for h in re.findall(r"\[(\d+)\]", text)] == (
        horizons
    )
    # All that the cleaner can make is there.
    assert len(horizons) > 5 and any(b.record_count == 0 for b in batches)
    assert {b.codec for b in batches if 0 < b.record_count < 4} == set(CODECS)
    assert any(b.is_control for b in batches) and len(ours) < 300


def test_indexes_pass(compacted: Partitions) -> None:
    indexes = files_of(compacted.path, ".index") + files_of(compacted.path, ".timeindex")
    output = clean_output(indexes, "--index-sanity-check")
    empty = output.count("is empty.")  # a segment smaller than the index interval
    assert output.count("passed sanity check.") == len(indexes) - empty and empty < 3
    clean_output(indexes, "--verify-index-only")
    clean_output(indexes)
    txns = files_of(compacted.path, ".txnindex")
    clean_output(txns + files_of(compacted.path, ".snapshot"))


def consume_all(bootstrap: str) -> dict[bytes, bytes]:
    """What a read_committed consumer ends with."""
    from confluent_kafka import Consumer, KafkaError, TopicPartition

    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "g", "check.crcs": True, "log_level": 0,
         "enable.partition.eof": True}
    )  # fmt: skip
    consumer.assign([TopicPartition("orders", 0, 0)])
    found: dict[bytes, bytes] = {}
    while True:
        message = consumer.poll(60)
        assert message is not None
        if message.error():
            assert message.error().code() == KafkaError._PARTITION_EOF
            break
        if message.value() is None:
            found.pop(message.key(), None)
        else:
            found[message.key()] = message.value()
    consumer.close()
    return found


def test_kafka_finishes_our_swap(compacted: Partitions, tmp_path: Path) -> None:
    """The partition as a kill leaves it between "offered" and "finished": an Apache Kafka broker
    takes it over, puts the merged segment in the place of its originals, and serves it."""
    require_peer("kafka")
    partition = compacted.open(CONFIG, clean=True)
    for n in range(40):
        append(partition, bytearray(kcore.encode([b"%d" % n], keys=[b"k%d" % n],
                                                 timestamps=[NOW_MS])))  # fmt: skip
    partition.roll()
    append(partition, bytearray(kcore.encode([b"x"], keys=[b"k1"], timestamps=[NOW_MS])))
    expected = {key: row.value for key, row in latest(rows(partition.log)).items()}
    end = partition.next_offset
    round_ = round_over(partition, now_ms=NOW_MS)
    round_.build_map()
    swap = round_.clean_group(round_.groups[0])
    assert swap is not None and list(compacted.path.glob("*.log.swap"))
    partition.log.flush()
    # The records are of 2023: without this Kafka would delete them 30 s after its start.
    with KafkaProcess(tmp_path, {"log.retention.ms": "-1"}) as kafka:
        produce_one(kafka.bootstrap, b"makes the topic")
        kafka.stop()
        theirs = kafka.data_dir / "orders-0"
        topic_id = (theirs / names.PARTITION_METADATA).read_bytes()
        shutil.rmtree(theirs)
        shutil.copytree(compacted.path, theirs)
        (theirs / names.PARTITION_METADATA).write_bytes(topic_id)
        for name in (names.CLEAN_MARKER, *names.OFFSET_CHECKPOINTS):
            (kafka.data_dir / name).unlink(missing_ok=True)
        kafka.start()
        assert consume_all(kafka.bootstrap) == expected
        assert not list(theirs.glob("*.swap"))
        produce_one(kafka.bootstrap, b"one more")
        kafka.stop()
    swap.discard()
    partition.close()
    with kcore.Log.open(theirs) as log:
        assert log.next_offset == end + 1 and log.damaged == []
