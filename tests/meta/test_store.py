"""The store's contract, the same for memory and LMDB; and what only a durable one promises."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kbroker.base.check import InvariantError
from kbroker.meta.store.base import (
    Compare,
    MetadataStore,
    Put,
    StoreClosed,
    StoreDamaged,
    StoreError,
    StoreInUse,
    WatchEvent,
    absent,
    unchanged,
)
from kbroker.meta.store.lmdb import LmdbStore, decode_value, encode_value
from kbroker.meta.store.memory import MemoryStore

Opener = Callable[[], MetadataStore]


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


async def contents(store: MetadataStore, prefix: bytes = b"") -> dict[bytes, bytes]:
    return {kv.key: kv.value for kv in await store.range(prefix)}


@pytest.fixture(params=["memory", "lmdb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    opened: MetadataStore = (
        MemoryStore() if request.param == "memory" else LmdbStore.open(str(tmp_path / "m"))
    )
    yield opened
    opened.close()


def test_keys_come_in_order_and_by_prefix(store: MetadataStore) -> None:
    async def test() -> None:
        for key in (b"b/2", b"a", b"b/10", b"c", b"b/1"):
            assert (await store.txn(puts=[Put(key, b"v" + key)])).succeeded
        assert list(await contents(store)) == [b"a", b"b/1", b"b/10", b"b/2", b"c"]
        assert list(await contents(store, b"b/")) == [b"b/1", b"b/10", b"b/2"]
        assert await contents(store, b"d") == {}
        kv = await store.get(b"a")
        assert kv is not None and kv.value == b"va"
        assert await store.get(b"nothing") is None

    run(test())


def test_revisions_count_transactions_and_keys_know_theirs(store: MetadataStore) -> None:
    async def test() -> None:
        assert store.revision == 0
        await store.txn(puts=[Put(b"a", b"1"), Put(b"b", b"1")])
        await store.txn(puts=[Put(b"a", b"2")])
        a, b = await store.range(b"")
        assert (a.create_revision, a.mod_revision) == (1, 2)
        assert (b.create_revision, b.mod_revision) == (1, 1)
        await store.txn(deletes=[b"a"])
        await store.txn(puts=[Put(b"a", b"3")])
        again = await store.get(b"a")
        assert again is not None and again.create_revision == again.mod_revision == 4
        # A transaction that changes nothing is no revision.
        assert (await store.txn(deletes=[b"never there"])).revision == 4 == store.revision

    run(test())


def test_a_comparison_that_fails_leaves_everything_as_it_was(store: MetadataStore) -> None:
    async def test() -> None:
        await store.txn(puts=[Put(b"a", b"1")])
        kv = await store.get(b"a")
        assert kv is not None
        assert (await store.txn([unchanged(kv)], [Put(b"a", b"2")])).succeeded
        for compare in (
            [unchanged(kv)],
            [absent(b"a")],
            [Compare(b"a", create_revision=2)],
            [absent(b"b"), absent(b"a")],
        ):
            result = await store.txn(compare, [Put(b"b", b"!")], [b"a"])
            assert (result.succeeded, result.revision) == (False, 2)
        assert await contents(store) == {b"a": b"2"}
        assert (await store.txn([Compare(b"a", create_revision=1)], [Put(b"b", b"3")])).succeeded

    run(test())


def test_one_key_is_touched_once(store: MetadataStore) -> None:
    with pytest.raises(InvariantError):
        run(_ignore(store.txn(puts=[Put(b"a", b"1")], deletes=[b"a"])))


async def _ignore(awaitable: Any) -> None:
    await awaitable


def test_a_watch_sees_its_prefix_from_now_on(store: MetadataStore) -> None:
    async def test() -> None:
        seen: list[Sequence[WatchEvent]] = []
        await store.txn(puts=[Put(b"t/before", b"")])
        watch = store.watch(b"t/", seen.append)
        await store.txn(puts=[Put(b"t/b", b"1"), Put(b"t/a", b"2"), Put(b"u", b"3")])
        await store.txn(puts=[Put(b"u", b"4")])
        await store.txn(deletes=[b"t/a"])
        watch.cancel()
        watch.cancel()
        await store.txn(puts=[Put(b"t/after", b"")])
        assert seen == [
            [WatchEvent(b"t/a", b"2", 2), WatchEvent(b"t/b", b"1", 2)],
            [WatchEvent(b"t/a", None, 4)],
        ]

    run(test())


def test_keys_under_a_lease_go_with_it(store: MetadataStore) -> None:
    async def test() -> None:
        lease, other = await store.lease(1000), await store.lease(1000)
        await store.txn(puts=[Put(b"x", b"", lease.lease_id), Put(b"y", b"", lease.lease_id)])
        await store.txn(puts=[Put(b"z", b"", other.lease_id), Put(b"kept", b"")])
        await lease.revoke()
        assert list(await contents(store)) == [b"kept", b"z"]
        before = store.revision
        await lease.revoke()
        assert store.revision == before
        with pytest.raises(InvariantError):
            await store.txn(puts=[Put(b"kept", b"", other.lease_id)])

    run(test())


def test_a_closed_store_refuses(store: MetadataStore) -> None:
    async def test() -> None:
        store.close()
        for call in (store.get(b"a"), store.range(b""), store.txn(), store.lease(1)):
            with pytest.raises(StoreClosed):
                await call

    run(test())


KEYS = st.sampled_from([b"a", b"b", b"c/1", b"c/2", b"c/3"])
STEP = st.tuples(st.dictionaries(KEYS, st.binary(max_size=5000), max_size=3), st.sets(KEYS))


@settings(max_examples=25, deadline=None)
@given(steps=st.lists(STEP, max_size=8))
def test_lmdb_is_what_memory_is_across_restarts(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[dict[bytes, bytes], set[bytes]]]
) -> None:
    async def test() -> None:
        path = str(tmp_path_factory.mktemp("store") / "m")
        model = MemoryStore()
        for puts, deletes in steps:
            durable = LmdbStore.open(path)
            for store in (model, durable):
                await store.txn(
                    puts=[Put(key, value) for key, value in puts.items()],
                    deletes=[key for key in deletes if key not in puts],
                )
            durable.close()
        durable = LmdbStore.open(path)
        assert await durable.range(b"") == await model.range(b"")
        assert durable.revision == model.revision
        durable.close()

    run(test())


def test_revisions_do_not_go_back_when_the_last_key_is_deleted(tmp_path: Path) -> None:
    async def test() -> None:
        store = LmdbStore.open(str(tmp_path / "m"))
        await store.txn(puts=[Put(b"a", b"1")])
        await store.txn(deletes=[b"a"])
        store.close()
        store = LmdbStore.open(str(tmp_path / "m"))
        assert store.revision == 2
        store.close()

    run(test())


def test_leased_keys_are_gone_after_a_restart(tmp_path: Path) -> None:
    async def test() -> None:
        store = LmdbStore.open(str(tmp_path / "m"))
        lease = await store.lease(1000)
        await store.txn(puts=[Put(b"brokers/1", b"", lease.lease_id), Put(b"kept", b"")])
        store.close()
        store = LmdbStore.open(str(tmp_path / "m"))
        assert list(await contents(store)) == [b"kept"]
        store.close()

    run(test())


def test_a_full_map_grows(tmp_path: Path) -> None:
    async def test() -> None:
        store = LmdbStore.open(str(tmp_path / "m"), map_bytes=1 << 20)
        puts = [Put(b"%05d" % n, bytes(500)) for n in range(5000)]
        for start in range(0, len(puts), 500):
            await store.txn(puts=puts[start : start + 500])
        await store.txn(puts=[Put(b"large", bytes(5 << 20))])
        store.close()
        store = LmdbStore.open(str(tmp_path / "m"), map_bytes=1 << 20)
        assert len(await store.range(b"")) == 5001
        store.close()

    run(test())


def test_the_second_opener_is_told(tmp_path: Path) -> None:
    store = LmdbStore.open(str(tmp_path / "m"))
    try:
        with pytest.raises(StoreInUse, match="another broker"):
            LmdbStore.open(str(tmp_path / "m"))
    finally:
        store.close()
    LmdbStore.open(str(tmp_path / "m")).close()


def test_only_the_owner_may_look(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir(mode=0o755)
    LmdbStore.open(str(tmp_path / "m")).close()
    assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "m" / "data.mdb").stat().st_mode) == 0o600


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "m").symlink_to(tmp_path / "real")
    with pytest.raises(StoreError, match="symbolic link"):
        LmdbStore.open(str(tmp_path / "m"))
    LmdbStore.open(str(tmp_path / "real")).close()
    (tmp_path / "real" / "data.mdb").rename(tmp_path / "elsewhere")
    (tmp_path / "real" / "data.mdb").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreDamaged, match="plain file"):
        LmdbStore.open(str(tmp_path / "real"))


def test_a_value_is_bound_to_its_key_and_revisions(tmp_path: Path) -> None:
    store = LmdbStore.open(str(tmp_path / "m"))
    run(_ignore(store.txn(puts=[Put(b"a", b"value")])))
    (kv,) = asyncio.run(store.range(b""))
    store.close()
    stored = encode_value(kv)
    assert decode_value(b"a", stored, path="x") == kv
    with pytest.raises(StoreDamaged, match="checksum"):
        decode_value(b"b", stored, path="x")
    for pos in range(len(stored)):
        damaged = bytearray(stored)
        damaged[pos] ^= 0x10
        with pytest.raises(StoreDamaged):
            decode_value(b"a", bytes(damaged), path="x")
    for size in range(len(stored)):
        with pytest.raises(StoreDamaged):
            decode_value(b"a", stored[:size], path="x")


WRITER = """
import asyncio, os, sys
from kbroker.meta.store.base import Put
from kbroker.meta.store.lmdb import LmdbStore

async def main():
    store = LmdbStore.open(sys.argv[1], map_bytes=1 << 20)
    n = store.revision
    while True:
        n += 1
        value = b"%d" % n * 700
        await store.txn(puts=[Put(b"x%d" % (n % 7), value), Put(b"y%d" % (n % 7), value)])
        os.write(1, b"%d\\n" % n)

asyncio.run(main())
"""


def test_a_kill_during_commits_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    last = 0
    for round_number in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "m")], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        for _ in range(40 + 7 * round_number):
            last = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split()
        last = int(rest[-1]) if rest else last
        process.stdout.close()
        process.wait()
        store = LmdbStore.open(str(tmp_path / "m"))
        assert store.revision in (last, last + 1)
        found = asyncio.run(contents(store))
        for n in range(store.revision - 6, store.revision + 1):
            value = b"%d" % n * 700
            assert found[b"x%d" % (n % 7)] == found[b"y%d" % (n % 7)] == value
        store.close()


def test_a_full_disk_refuses_the_transaction_and_nothing_else(tmp_path: Path) -> None:
    """A limit on file sizes stands in for the full disk: the same failing write, and no mount."""

    async def test() -> None:
        store = LmdbStore.open(str(tmp_path / "m"))
        await store.txn(puts=[Put(b"a", b"before")])
        size = (tmp_path / "m" / "data.mdb").stat().st_size
        old_limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 8192, old_limits[1]))
        try:
            with pytest.raises(StoreError, match="metadata store failed"):
                await store.txn(puts=[Put(b"a", b"lost"), Put(b"large", os.urandom(200_000))])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old_limits)
            signal.signal(signal.SIGXFSZ, old_handler)
        assert await contents(store) == {b"a": b"before"}
        await store.txn(puts=[Put(b"b", b"after")])
        store.close()
        store = LmdbStore.open(str(tmp_path / "m"))
        assert await contents(store) == {b"a": b"before", b"b": b"after"}
        store.close()

    run(test())


def test_commits_are_synced_and_the_map_is_never_written_through(tmp_path: Path) -> None:
    """What a test cannot see without a power cut, and a full disk would turn into a signal."""
    store = LmdbStore.open(str(tmp_path / "m"))
    flags = store._env.flags()
    store.close()
    assert (flags["sync"], flags["metasync"], flags["writemap"]) == (True, True, False)
