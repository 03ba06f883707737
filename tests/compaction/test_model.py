"""Goal: whatever was written and however often it was cleaned, a reader of committed records ends
with the last record of each key, in order, at its offset; producers and transactions stay what they
were, also after a restart that has nothing but the log.

Method: a Hypothesis state machine on a partition in a directory, beside a list of records. What a
round leaves is predicted record by record; the reader is what clients do with the list of aborted
transactions.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from kbroker.log.config import PartitionConfig
from kbroker.log.markers import parse_marker

import kcore
from kcore.files import names
from kcore.files.offset_checkpoint import store_offset_checkpoint
from kcore.verify import verify_dir
from tests.compaction.model import Row, headers, latest, round_over, rows, run, spans
from tests.log.support import NOW_MS, Partitions, marker

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
HOUR_MS = 3_600_000
CONFIG = PartitionConfig(
    compacts=True, deletes=False, segment_bytes=3000, index_interval_bytes=150,
    delete_retention_ms=HOUR_MS,
)  # fmt: skip
PLAIN, IDEMPOTENT, TRANSACTIONAL = -1, 100, 200


class Written(NamedTuple):
    row: Row
    batch: int  # base offset
    producer: int  # of a transaction, -1 otherwise


def committed(partition: Any, start: int) -> list[Row]:
    """What a read_committed consumer that begins at `start` delivers."""
    end = partition.last_stable_offset
    aborted = sorted(partition.aborted_in(start, end), key=lambda txn: txn[1])
    hidden: set[int] = set()
    found: list[Row] = []
    for span in spans(partition.log, start):
        data, pos = bytes(span), 0
        while pos < len(data):
            info = kcore.inspect(data, pos=pos)
            batch = data[pos : pos + info.size]
            pos += info.size
            if info.last_offset >= end:
                return found
            while aborted and aborted[0][1] <= info.last_offset:
                hidden.add(aborted.pop(0)[0])
            if info.is_control:
                parsed = parse_marker(batch) if info.record_count else None
                if parsed is not None and parsed.aborted:
                    hidden.discard(info.producer_id)
            elif not (info.is_transactional and info.producer_id in hidden):
                found += [
                    Row(r.offset, r.timestamp, r.key, r.value)
                    for r in kcore.records(batch)
                    if r.offset >= start
                ]
    return found


class CompactionMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.kit = Partitions(self.root)
        self.partition = self.kit.open(CONFIG)
        self.records: list[Written] = []  # what must be in the log
        self.sequences: dict[int, int] = {}
        self.open: dict[int, int] = {}  # producer -> first offset of its transaction
        self.horizons: dict[int, int] = {}  # by batch
        self.now_ms = NOW_MS
        self.count = 0

    def teardown(self) -> None:
        cleaned = self.partition.states.cleaned_offset
        self.partition.close()
        if cleaned >= 0:
            store_offset_checkpoint(self.root / names.CLEANER_CHECKPOINT, {("topic", 0): cleaned})
        errors = [f for f in verify_dir(self.root).findings.items if f.level == "error"]
        errors = [f for f in errors if "partition.metadata" not in f.path]
        assert not errors
        shutil.rmtree(self.root)

    @rule(
        keys=st.lists(st.integers(0, 4), min_size=1, max_size=4),
        tombstones=st.sets(st.integers(0, 3)),
        codec=st.sampled_from(CODECS),
        producer=st.sampled_from(
            [PLAIN, PLAIN, IDEMPOTENT, IDEMPOTENT + 1, TRANSACTIONAL, TRANSACTIONAL + 1]
        ),
    )
    def append(self, keys: list[int], tombstones: set[int], codec: str, producer: int) -> None:
        values = []
        for i in range(len(keys)):
            self.count += 1
            values.append(None if i in tombstones else b"%d" % self.count * 9)
        times = [self.now_ms + (key * 7) % 5 for key in keys]
        fields: dict[str, Any] = {}
        if producer >= 0:
            sequence = self.sequences.get(producer, 0)
            fields = {"producer_id": producer, "producer_epoch": 1, "base_sequence": sequence}
            fields["transactional"] = producer >= TRANSACTIONAL
            self.sequences[producer] = sequence + len(keys)
        named = [b"key%d" % key for key in keys]
        data = bytearray(kcore.encode(values, keys=named, timestamps=times, codec=codec, **fields))
        outcome = self.partition.append_as_leader(data, now_ms=self.now_ms, txn_verified=True)
        assert outcome.error_code == 0, outcome.message
        base = outcome.base_offset
        if producer >= TRANSACTIONAL:
            self.open.setdefault(producer, base)
        for i, (key, value, time) in enumerate(zip(named, values, times, strict=True)):
            owner = producer if producer >= TRANSACTIONAL else -1
            self.records.append(Written(Row(base + i, time, key, value), base, owner))

    @precondition(lambda self: self.open)
    @rule(commit=st.booleans(), which=st.integers(0, 1))
    def end_transaction(self, commit: bool, which: int) -> None:
        producer = sorted(self.open)[which % len(self.open)]
        first = self.open.pop(producer)
        outcome = self.partition.append_marker(marker(producer, 1, commit), now_ms=self.now_ms)
        assert outcome.error_code == 0
        if not commit:
            self.records = [
                w for w in self.records if w.producer != producer or w.row.offset < first
            ]

    @rule()
    def roll(self) -> None:
        self.partition.roll()

    @rule(ms=st.sampled_from([1, HOUR_MS // 2, HOUR_MS]))
    def wait(self, ms: int) -> None:
        self.now_ms += ms

    @rule()
    def clean(self) -> None:
        partition = self.partition
        known = {(h.base_offset, h.last_offset, h.producer_id, h.base_sequence, h.is_control)
                 for h in headers(partition.log)}  # fmt: skip
        round_ = round_over(partition, now_ms=self.now_ms)
        if round_.span.dirty_bytes == 0:
            return
        run(partition, round_)
        self._predict(round_.span.first_dirty, round_.end_offset)
        after = headers(partition.log)
        for h in after:
            assert (h.base_offset, h.last_offset, h.producer_id, h.base_sequence,
                    h.is_control) in known  # fmt: skip
        left = [w.row for w in self.records if w.row.offset < round_.end_offset]
        assert [r for r in self._plain_rows() if r.offset < round_.end_offset] == left
        horizons = {h.base_offset: h.base_timestamp for h in after
                    if h.has_delete_horizon and not h.is_control}  # fmt: skip
        assert horizons == {b: ms for b, ms in self.horizons.items() if b in horizons}

    def _plain_rows(self) -> list[Row]:
        return [r._replace(headers=()) for r in rows(self.partition.log)]

    def _predict(self, first_dirty: int, end: int) -> None:
        dirty = [w.row for w in self.records if first_dirty <= w.row.offset < end]
        last = {row.key: row.offset for row in dirty}
        kept = []
        for w in self.records:
            row = w.row
            gone = row.offset < end and (
                last.get(row.key, -1) > row.offset
                or (row.value is None and self.horizons.get(w.batch, 1 << 62) <= self.now_ms)
            )
            if not gone:
                kept.append(w)
        for w in kept:
            if w.row.offset < end and w.row.value is None:
                self.horizons.setdefault(w.batch, self.now_ms + HOUR_MS)
        self.records = kept

    @rule(clean=st.booleans(), forget=st.booleans())
    def reopen(self, clean: bool, forget: bool) -> None:
        """`forget`: producer snapshots and transaction indexes are lost, the log alone speaks."""
        before = self.partition
        producers = sorted(before.states.producers.last_offsets())
        state = (before.next_offset, before.last_stable_offset, before.states.cleaned_offset)
        before.close()
        if forget:
            for path in self.kit.path.iterdir():
                if path.suffix in (".snapshot", ".txnindex"):
                    path.unlink()
        self.partition = self.kit.open(CONFIG, clean=clean)
        self.partition.states.cleaned_offset = state[2]
        assert sorted(self.partition.states.producers.last_offsets()) == producers
        assert (self.partition.next_offset, self.partition.last_stable_offset) == state[:2]
        assert self.partition.log.damaged == []

    @rule(share=st.floats(0, 1))
    def read_from(self, share: float) -> None:
        start = int(self.partition.next_offset * share)
        stable = self.partition.last_stable_offset
        expected = [w.row for w in self.records if start <= w.row.offset < stable]
        assert committed(self.partition, start) == expected

    @rule(ms=st.integers(-1, 8))
    def by_time(self, ms: int) -> None:
        """Like Kafka's, the search knows no difference between a marker and a record."""
        there = [
            r for span in spans(self.partition.log)
            for r in kcore.records(span, include_control=True)
        ]  # fmt: skip
        found = self.partition.log.offset_for_timestamp(NOW_MS + ms)
        expected = next((r for r in there if r.timestamp >= NOW_MS + ms), None)
        assert found == (None if expected is None else (expected.timestamp, expected.offset))
        largest = self.partition.log.max_timestamp_offset()
        newest = max(there, key=lambda r: r.timestamp, default=None)
        assert largest == (None if newest is None else (newest.timestamp, newest.offset))

    @invariant()
    def last_values_are_there(self) -> None:
        stable = self.partition.last_stable_offset
        expected = latest(w.row for w in self.records if w.row.offset < stable)
        assert latest(committed(self.partition, 0)) == expected


CompactionMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    # Explaining a failure traces every line, which takes minutes here; the steps say enough.
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
)
TestCompaction = CompactionMachine.TestCase
