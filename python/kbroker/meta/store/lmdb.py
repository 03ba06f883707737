"""The metadata store of a single node: LMDB, used as a durable log of transactions.

All reads come from memory (`memory.py`); LMDB is read once, at open, and written at each commit,
which fsyncs. What LMDB does not protect against is done here:

* It has no checksums: every value carries a CRC-32C over its key, its revisions and itself, and
  `lmdb_check.py` proves the file's structure before LMDB maps it, so that a short or altered file
  is an error with a remedy and never a signal.
* With WRITEMAP a full disk kills the process; without fsync a crash can lose the file. So no
  WRITEMAP, and an fsync for each commit.
* It stops at its map size: the map is grown and the transaction repeated.
* Two processes could share it: a lock on a file of ours makes the second one fail.

Layout of a value: crc u32, version u8, create revision u64, mod revision u64 (big-endian), then the
bytes. The CRC covers the key and everything after itself. The key `\\0revision` holds the last
revision as its mod revision, which no key of a caller could after a delete.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable
from typing import TypeVar

import lmdb

from kbroker.meta.store.base import KeyValue, StoreClosed, StoreDamaged, StoreError, StoreInUse
from kbroker.meta.store.memory import Changes, MemoryStore
from kcore._native.crc32c import crc32c

T = TypeVar("T")

DATA_FILE = "data.mdb"
OWNER_FILE = "owner.lock"
MAP_BYTES = 64 << 20
MAP_BYTES_MAX = 64 << 30
_VALUE_VERSION = 1
_HEADER = struct.Struct(">IBQQ")
_AFTER_CRC = 4
_REVISION_KEY = b"\0revision"


def encode_value(kv: KeyValue) -> bytes:
    body = _HEADER.pack(0, _VALUE_VERSION, kv.create_revision, kv.mod_revision)[_AFTER_CRC:]
    body += kv.value
    return crc32c(body, crc32c(kv.key)).to_bytes(_AFTER_CRC, "big") + body


def decode_value(key: bytes, stored: bytes, *, path: str) -> KeyValue:
    """StoreDamaged unless these are the bytes that encode_value made for this key."""
    if len(stored) < _HEADER.size:
        raise _damaged(path, f"the value of {key!r} is {len(stored)} bytes")
    crc, version, created, modified = _HEADER.unpack_from(stored)
    if crc32c(stored[_AFTER_CRC:], crc32c(key)) != crc:
        raise _damaged(path, f"the checksum of {key!r} does not match its value")
    if version != _VALUE_VERSION:
        raise StoreError(
            "the metadata was written by a newer version",
            path=path,
            expected=f"value version {_VALUE_VERSION}",
            found=version,
        )
    return KeyValue(key, stored[_HEADER.size :], created, modified)


class LmdbStore(MemoryStore):
    """`LmdbStore.open(directory)`; the directory is made with mode 0700 when it is not there."""

    def __init__(self, path: str, env: lmdb.Environment, owner: int) -> None:
        super().__init__()
        self._path = path
        self._env = env
        self._owner = owner

    @classmethod
    def open(cls, directory: str, *, map_bytes: int = MAP_BYTES) -> LmdbStore:
        _make_private_directory(directory)
        owner = _take_ownership(directory)
        try:
            data_file = os.path.join(directory, DATA_FILE)
            if os.path.lexists(data_file):
                from kbroker.meta.store.lmdb_check import check_file  # not for a first start

                check_file(data_file, remedy=remedy(directory))
            env = _open_env(directory, map_bytes)
            store = cls(directory, env, owner)
        except BaseException:
            os.close(owner)
            raise
        try:
            store._load()
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        if not self._closed:
            super().close()
            self._env.close()
            os.close(self._owner)

    def _load(self) -> None:
        file = os.path.join(self._path, DATA_FILE)

        def read_all() -> list[tuple[bytes, bytes]]:
            with self._env.begin() as txn:
                return list(txn.cursor())

        highest = 0
        for key, stored in self._guard(read_all):
            kv = decode_value(key, stored, path=file)
            highest = max(highest, kv.mod_revision)
            if key == _REVISION_KEY:
                self._revision = kv.mod_revision
            else:
                self._by_key[key] = kv
        self._keys = sorted(self._by_key)
        if highest != self._revision:
            raise _damaged(file, f"revision {highest} is above the last one, {self._revision}")

    def _persist(self, changes: Changes, revision: int) -> None:
        writes = [(key, kv and encode_value(kv)) for key, kv in changes.items()]
        writes.append((_REVISION_KEY, encode_value(KeyValue(_REVISION_KEY, b"", 1, revision))))

        def write_all() -> None:
            with self._env.begin(write=True) as txn:
                for key, stored in writes:
                    if stored is None:
                        txn.delete(key)
                    else:
                        txn.put(key, stored)

        while True:
            try:
                self._guard(write_all)
                return
            except lmdb.MapFullError:
                self._grow()

    def _grow(self) -> None:
        map_bytes = self._env.info()["map_size"] * 2
        if map_bytes > MAP_BYTES_MAX:
            raise StoreError(
                "the metadata store is full", path=self._path, found=f"{map_bytes} bytes"
            )
        self._env.set_mapsize(map_bytes)

    def _guard(self, call: Callable[[], T]) -> T:
        """Runs `call`, with LMDB's errors turned into ours except the one that has a cure."""
        if self._closed:
            raise StoreClosed("the metadata store is closed")
        path = os.path.join(self._path, DATA_FILE)
        try:
            return call()
        except lmdb.MapFullError:
            raise
        except (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError) as failed:
            raise _damaged(path, str(failed)) from failed
        except lmdb.Error as failed:
            raise StoreError(f"the metadata store failed: {failed}", path=path) from failed


def remedy(directory: str) -> str:
    """What an operator does about a damaged store; part of every such error."""
    return (
        f"move {directory} away and start again: topics are then rebuilt from the log "
        "directories, with default configurations"
    )


def _damaged(file: str, what: str) -> StoreDamaged:
    return StoreDamaged(
        f"the metadata store is damaged: {what}; {remedy(os.path.dirname(file))}", path=file
    )


def _make_private_directory(path: str) -> None:
    try:
        if os.path.islink(path):
            raise StoreError("the metadata directory is a symbolic link", path=path)
        if not os.path.isdir(path):
            os.mkdir(path, mode=0o700)
        if os.stat(path).st_mode & 0o077:
            os.chmod(path, 0o700)
    except OSError as failed:
        raise StoreError(
            f"cannot make the metadata directory: {failed.strerror}", path=path
        ) from failed


def _take_ownership(path: str) -> int:
    """Holds a lock while the returned descriptor is open, so at most as long as the process."""
    lock_path = os.path.join(path, OWNER_FILE)
    try:
        owner = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as failed:
        raise StoreError(f"cannot open: {failed.strerror}", path=lock_path) from failed
    try:
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(owner)
        raise StoreInUse("another broker uses this metadata store", path=path) from None
    return owner


def _open_env(path: str, map_bytes: int) -> lmdb.Environment:
    try:
        return lmdb.open(
            path,
            map_size=map_bytes,
            mode=0o600,
            writemap=False,
            sync=True,
            metasync=True,
            readahead=False,
            max_readers=8,
            max_dbs=0,
        )
    except lmdb.Error as failed:
        raise _damaged(os.path.join(path, DATA_FILE), str(failed)) from failed
