"""S16. Goal: a Log is a list of batches with a start, whatever is done to it in whatever order.

Method: a Hypothesis state machine runs the same operations on a Log and on a list; after each step
both give the same records, offsets and answers. Once on MemoryOps with power cuts, once on files.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import kcore
from kcore import Log, MemoryOps
from kcore._native.swap import Swap
from tests.native.storage_kit import batch

SETTINGS: dict[str, Any] = {"segment_bytes": 2048, "index_interval_bytes": 200}


class LogMachine(RuleBasedStateMachine):
    """`model`: the batches in the log as (base offset, last offset, max timestamp, bytes)."""

    memory = True

    def __init__(self) -> None:
        super().__init__()
        self.model: list[tuple[int, int, int, bytes]] = []
        self.start = self.end = self.flushed = 0
        self.directory = "/m/t-0" if self.memory else tempfile.mkdtemp()
        self.ops = MemoryOps(crashes=True) if self.memory else None
        self.log = Log.open(self.directory, ops=self.ops, **SETTINGS)
        self.spans: list[tuple[memoryview, bytes]] = []

    def teardown(self) -> None:
        for view, content in self.spans:
            assert bytes(view) == content
        self.spans.clear()
        self.log.close()
        if not self.memory:
            shutil.rmtree(self.directory)

    @rule(count=st.integers(1, 4), size=st.integers(0, 400), ms=st.integers(0, 500))
    def append(self, count: int, size: int, ms: int) -> None:
        data = batch(count, size, timestamp=ms, fill=bytes([65 + self.end % 26]))
        result = self.log.append(data)
        assert (result.base_offset, result.last_offset) == (self.end, self.end + count - 1)
        self.model.append((self.end, self.end + count - 1, ms + count - 1, bytes(data)))
        self.end += count

    @rule(gap=st.integers(0, 5), count=st.integers(1, 3))
    def append_verbatim(self, gap: int, count: int) -> None:
        data = batch(count, 30, base_offset=self.end + gap, timestamp=250, leader_epoch=9)
        self.log.append_verbatim(bytes(data))
        last = self.end + gap + count - 1
        self.model.append((self.end + gap, last, 250 + count - 1, bytes(data)))
        self.end = last + 1

    @rule()
    def roll(self) -> None:
        self.log.roll()

    @rule()
    def flush(self) -> None:
        assert self.log.flush() == self.end
        self.flushed = self.end

    @rule(share=st.floats(0, 1))
    def truncate(self, share: float) -> None:
        offset = self.start + int((self.end - self.start) * share)
        self.log.truncate(offset)
        self.model = [b for b in self.model if b[1] < offset]
        if offset < self.end:
            # A cut inside a batch ends where that batch began, one in a gap where it was made.
            assert self.log.next_offset <= offset
            assert not self.model or self.log.next_offset > self.model[-1][1]
            self.end = self.log.next_offset
            self.start = min(self.start, self.end)
            self.start = self.log.log_start_offset
        self.flushed = min(self.flushed, self.end)

    @rule(share=st.floats(0, 1))
    def truncate_prefix(self, share: float) -> None:
        self.start += int((self.end - self.start) * share)
        self.log.truncate_prefix(self.start)
        self.flushed = max(self.flushed, self.start)
        if share > 0.5:
            self.log.purge_deleted()

    @rule(share=st.floats(0, 1), count=st.integers(1, 3), keep=st.integers(0, 255))
    def compact(self, share: float, count: int, keep: int) -> None:
        """Some neighbours become one segment without some of their batches; the last one stays."""
        bases = [base for base, _, _ in self.log.sizes()]
        at = int((len(bases) - 1) * share)
        group = bases[at : min(at + count, len(bases) - 1)]
        if not group:
            return
        bound = bases[at + len(group)]
        members = [b for b in self.model if b[0] >= group[0] and b[1] < bound]
        alive = [b for b in members if b[1] >= self.start]
        if not alive:
            return
        kept = [b for i, b in enumerate(alive) if keep >> i % 8 & 1 or b is alive[-1]]
        swap = Swap.begin(self.log, group, bound)
        assert swap is not None
        for b in kept:
            swap.append(b[3])
        assert swap.offer() and swap.finish() is not None
        self.model = [b for b in self.model if b not in members or b in kept]
        if keep & 1:
            self.log.purge_deleted()

    @rule(clean=st.booleans())
    def reopen(self, clean: bool) -> None:
        if clean:
            self.log.close()
            self.flushed = self.end
        self.log = Log.open(
            self.directory,
            ops=self.ops,
            clean=clean,
            recovery_point=self.flushed,
            log_start_offset=self.start,
            **SETTINGS,
        )
        assert self.log.damaged == [] and self.log.recovery.torn_bytes_cut == 0

    @rule(seed=st.integers(0, 1 << 16))
    def power_cut(self, seed: int) -> None:
        if self.ops is None:
            return
        self.ops = self.ops.crash(random.Random(seed).randrange)
        self.log = Log.open(
            self.directory,
            ops=self.ops,
            recovery_point=self.flushed,
            log_start_offset=self.start,
            **SETTINGS,
        )
        # All that was flushed is there; of the rest some batches may have survived.
        offset, kept = self.start, []
        known = {b[3]: b for b in self.model}
        while offset < self.log.next_offset:
            try:
                span = self.log.read(offset, 1)
            except kcore.DamagedRange as error:
                assert max(error.first_offset, self.start) >= self.flushed
                offset = error.next_offset
                continue
            if span is None:
                break
            kept.append(known[bytes(span)])
            offset = span.next_offset
        live = [b for b in self.model if b[1] >= self.start]
        assert [b for b in live if b[1] < self.flushed] == [b for b in kept if b[1] < self.flushed]
        # The model goes on from a log without holes.
        hole = min((d.first_offset for d in self.log.damaged), default=self.log.next_offset)
        self.log.truncate(max(hole, self.log.log_start_offset))
        self.model = [b for b in kept if b[1] < self.log.next_offset]
        self.end = self.log.next_offset
        self.start = self.log.log_start_offset
        self.flushed = min(max(self.flushed, self.start), self.end)

    @rule(share=st.floats(0, 1), max_bytes=st.integers(1, 3000), keep=st.booleans())
    def read(self, share: float, max_bytes: int, keep: bool) -> None:
        offset = self.start + int((self.end - self.start) * share)
        span = self.log.read(offset, max_bytes)
        after = [b for b in self.model if b[1] >= offset]
        if not after or offset == self.end:
            assert span is None
            return
        content = bytes(span)
        assert span.base_offset == after[0][0]
        assert b"".join(b[3] for b in after).startswith(content)
        assert len(content) <= max_bytes or len(content) == len(after[0][3])
        if keep:
            self.spans.append((memoryview(span), content))

    @rule(ms=st.integers(-1, 510))
    def by_time(self, ms: int) -> None:
        found = self.log.offset_for_timestamp(ms)
        expected = None
        for base, last, _, data in self.model:
            first_ms = kcore.inspect(data).base_timestamp
            for i in range(last - base + 1):
                if expected is None and base + i >= self.start and first_ms + i >= ms:
                    expected = (first_ms + i, base + i)
        assert found == expected

    @invariant()
    def same_records(self) -> None:
        assert (self.log.log_start_offset, self.log.next_offset) == (self.start, self.end)
        offset, found = self.start, b""
        while (span := self.log.read(offset, 1 << 20)) is not None:
            found += bytes(span)
            offset = span.next_offset
        assert found == b"".join(b[3] for b in self.model if b[1] >= self.start)


class LogMachineOnFiles(LogMachine):
    memory = False


QUICK = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    # Explaining a failure traces every line, which takes minutes here; the steps say enough.
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
)
TestLogInMemory = LogMachine.TestCase
TestLogInMemory.settings = QUICK
TestLogOnFiles = LogMachineOnFiles.TestCase
TestLogOnFiles.settings = settings(QUICK, max_examples=15)
