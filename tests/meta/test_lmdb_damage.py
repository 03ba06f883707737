"""A damaged metadata file: an error that says what to do, or the very values; never a signal.

Damages are tried in child processes, because what is feared is a process that dies: LMDB maps its
file, and a page beyond its end or a wild page number kills whoever reads it. A child opens a
damaged copy, compares every value with the undamaged ones, and commits once and opens again,
because a damaged free list only shows when pages are taken from it.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from kbroker.meta.store import lmdb_check
from kbroker.meta.store.base import Put, StoreDamaged
from kbroker.meta.store.lmdb import LmdbStore

SEED = 20261122
DAMAGES = 200

CHILD = """
import asyncio, pickle, sys
from pathlib import Path
from kbroker.meta.store import lmdb_check
from kbroker.meta.store.base import Put, StoreDamaged
from kbroker.meta.store.lmdb import LmdbStore

sound, directory, damages = pickle.loads(sys.stdin.buffer.read())
data = Path(directory, "data.mdb")
pristine = Path(directory, "pristine").read_bytes()

async def outcome():
    try:
        store = LmdbStore.open(directory)
    except StoreDamaged as damaged:
        return "refused" if "move" in str(damaged) and directory in str(damaged) else "no remedy"
    try:
        if await store.range(b"") != sound:
            return "wrong values"
        await store.txn(puts=[Put(b"new/%d" % n, bytes(3000)) for n in range(40)])
        store.close()
        store = LmdbStore.open(directory)
        found = [kv for kv in await store.range(b"") if not kv.key.startswith(b"new/")]
        return "served" if found == sound else "wrong values after a commit"
    finally:
        store.close()

for damage in damages:
    damaged = bytearray(pristine)
    kind, pos, value = damage
    if kind == "cut":
        del damaged[pos:]
    elif kind == "flip":
        damaged[pos] ^= 1 << value
    elif kind == "zero":
        damaged[pos : pos + value] = bytes(len(damaged[pos : pos + value]))
    elif kind == "garbage":
        damaged[pos : pos + len(value)] = value[: len(damaged) - pos]
    data.write_bytes(damaged)
    print(damage[:2], asyncio.run(outcome()), sep="|", flush=True)
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A store with both trees several pages large, overflow pages, and a free list."""

    async def fill() -> None:
        store = LmdbStore.open(str(tmp_path / "m"), map_bytes=1 << 20)
        for n in range(3):
            puts = [Put(b"topics/%d-%03d" % (n, m), b"v%03d" % m * 30) for m in range(300)]
            await store.txn(puts=puts)
        await store.txn(puts=[Put(b"large/%d" % n, bytes([n]) * 9000) for n in range(4)])
        await store.txn(deletes=[b"topics/1-%03d" % m for m in range(300)])
        await store.txn(deletes=[b"large/1"])
        store.close()

    asyncio.run(fill())
    path = tmp_path / "m"
    shutil.copy(path / "data.mdb", path / "pristine")
    return path


def outcomes(directory: Path, damages: list[tuple[str, int, object]]) -> Counter[str]:
    import pickle

    store = LmdbStore.open(str(directory))
    sound = asyncio.run(store.range(b""))
    store.close()
    child = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=pickle.dumps((sound, str(directory), damages)),
        capture_output=True,
        timeout=400,
        check=False,
    )
    lines = child.stdout.decode().splitlines()
    assert child.returncode == 0, (
        f"died with {child.returncode} after {lines[-1:]}, seed {SEED}: {child.stderr.decode()}"
    )
    assert len(lines) == len(damages)
    wrong = [line for line in lines if line.rpartition("|")[2] not in ("refused", "served")]
    assert not wrong, f"seed {SEED}: {wrong}"
    return Counter(line.rpartition("|")[2] for line in lines)


def test_truncation_anywhere_is_refused(directory: Path) -> None:
    size = (directory / "pristine").stat().st_size
    rng = random.Random(SEED)
    cuts = {1, 100, 4095, 4096, 8191, 8192, size - 1, size - 4096}
    cuts |= {rng.randrange(1, size) for _ in range(40)}
    found = outcomes(directory, [("cut", cut, None) for cut in sorted(cuts)])
    assert found["refused"] > len(cuts) * 3 // 4  # the others only lost pages that were free


def test_flips_zeros_and_garbage_are_refused_or_do_not_matter(directory: Path) -> None:
    size = (directory / "pristine").stat().st_size
    rng = random.Random(SEED)
    damages: list[tuple[str, int, object]] = []
    for _ in range(DAMAGES):
        kind = rng.choice(["flip", "flip", "zero", "garbage"])
        # Half of the damage where it hurts most: the meta pages and the first tree pages.
        pos = rng.randrange(size) if rng.random() < 0.5 else rng.randrange(min(size, 6 * 4096))
        value: object = rng.randrange(8)
        if kind == "zero":
            value = rng.choice([1, 8, 64, 4096])
        elif kind == "garbage":
            value = rng.randbytes(rng.choice([1, 8, 64, 4096]))
        damages.append((kind, pos, value))
    found = outcomes(directory, damages)
    assert found["refused"] > DAMAGES // 4 and found["served"] > DAMAGES // 10


def test_every_bit_of_the_newest_meta_page(directory: Path) -> None:
    pages = (directory / "pristine").read_bytes()
    newest = max((0, 4096), key=lambda pos: int.from_bytes(pages[pos + 144 : pos + 152], "little"))
    damages: list[tuple[str, int, object]] = [
        ("flip", pos, bit) for pos in range(newest + 10, newest + 152) for bit in (0, 3, 7)
    ]
    found = outcomes(directory, damages)
    assert found["refused"] > len(damages) // 2


def test_a_missing_or_garbled_lock_file_does_not_matter(directory: Path) -> None:
    for damage in (None, b"", b"garbage" * 3000):
        lock = directory / "lock.mdb"
        lock.unlink(missing_ok=True)
        if damage is not None:
            lock.write_bytes(damage)
        store = LmdbStore.open(str(directory))
        assert len(asyncio.run(store.range(b"topics/"))) == 600
        store.close()


def test_an_empty_file_is_a_store_that_never_was(directory: Path) -> None:
    """A kill between the creation of the file and its first write."""
    (directory / "data.mdb").write_bytes(b"")
    store = LmdbStore.open(str(directory))
    assert asyncio.run(store.range(b"")) == []
    store.close()


def test_the_older_state_of_the_file_is_told_from_the_newer(directory: Path) -> None:
    """Damage to the newest meta page must not bring back the state before the last commit."""
    pages = bytearray((directory / "pristine").read_bytes())
    older = min((0, 4096), key=lambda pos: int.from_bytes(pages[pos + 144 : pos + 152], "little"))
    newer = 4096 - older
    pages[newer : newer + 4096] = pages[older : older + 4096]
    (directory / "data.mdb").write_bytes(pages)
    with pytest.raises(StoreDamaged, match="meta pages"):
        LmdbStore.open(str(directory))


def test_a_free_list_that_names_a_page_in_use_is_refused(directory: Path) -> None:
    """The quietest damage of all: everything reads well until a commit takes that page."""
    pages = bytearray((directory / "pristine").read_bytes())
    checker = lmdb_check._Checker(bytes(pages), "data.mdb", "")
    meta = checker._newest_meta()
    entries = checker._walk(meta.free, "free list", integer_keys=True)
    value = max((value for _, value in entries), key=len)
    assert len(value) > 16
    checker._walk(meta.main, "data", integer_keys=False)
    in_use = max(checker._used)
    pos = bytes(pages).find(value) + len(value) - 8
    pages[pos : pos + 8] = in_use.to_bytes(8, "little")
    (directory / "data.mdb").write_bytes(pages)
    with pytest.raises(StoreDamaged, match=f"page {in_use} is free and in use"):
        LmdbStore.open(str(directory))
