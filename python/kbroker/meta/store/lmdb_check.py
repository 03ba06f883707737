"""Proves the structure of an LMDB data file before LMDB maps it.

LMDB trusts its file: a page number past the end is a SIGBUS, a wrong one a wild read, and neither
pages nor meta pages have a checksum. So the file is read once, as bytes, and its two trees (the
free list and the data) are walked with every length, page number and count checked. In a sound
file each page after the two meta pages is either reachable once or free once, and the trees have
exactly the pages and entries that the newest meta page says; a flipped bit that keeps all of this
true can only be inside a key or a value, which the CRC of each value covers, or in bytes nobody
reads.

The format is LMDB 0.9's on a 64-bit little-endian machine. Page: number u64, pad u16, flags u16,
then lower u16 and upper u16 (or, on an overflow page, the page count u32), then u16 positions of
nodes. Node: size or child page number low, high and flags u16 each, key size u16, key, data.
"""

from __future__ import annotations

import os
import struct
from itertools import pairwise
from typing import NamedTuple, NoReturn

from kbroker.meta.store.base import StoreDamaged

_PAGE_HEADER_BYTES = 16
_NODE_HEADER_BYTES = 8
_MAGIC = 0xBEEFC0DE
_DATA_VERSION = 1
_NO_PAGE = (1 << 64) - 1
_BRANCH, _LEAF, _OVERFLOW, _META = 0x01, 0x02, 0x04, 0x08
_KIND = _BRANCH | _LEAF | _OVERFLOW | _META | 0x20 | 0x40
_BIG_DATA = 0x01
_INTEGER_KEY = 0x08
_DEPTH_MAX = 32
_KEY_BYTES_MAX = 511

_HEADER = struct.Struct("<QHHHH")
_OVERFLOW_HEADER = struct.Struct("<QHHI")
_NODE = struct.Struct("<HHHH")
_META_HEAD = struct.Struct("<IIQQ")
_TREE = struct.Struct("<IHHQQQQQ")
_META_TAIL = struct.Struct("<QQ")
_U64 = struct.Struct("<Q")
_META_BYTES = _META_HEAD.size + 2 * _TREE.size + _META_TAIL.size


class _Tree(NamedTuple):
    pad: int
    flags: int
    depth: int
    branch_pages: int
    leaf_pages: int
    overflow_pages: int
    entries: int
    root: int


class _Meta(NamedTuple):
    free: _Tree
    main: _Tree
    last_page: int
    txn_id: int


def check_file(path: str, *, remedy: str) -> None:
    """StoreDamaged, saying what is wrong and `remedy`, unless LMDB can use the file safely."""
    if os.path.islink(path) or not os.path.isfile(path):
        raise StoreDamaged(f"the metadata store is not a plain file; {remedy}", path=path)
    with open(path, "rb") as file:
        data = file.read()
    # A crash between making the file and its first write leaves it empty: LMDB starts it afresh.
    if data:
        _Checker(data, path, remedy).run()


class _Checker:
    def __init__(self, data: bytes, path: str, remedy: str) -> None:
        self._data = data
        self._path = path
        self._remedy = remedy
        self._page_bytes = 0
        self._used: set[int] = {0, 1}  # the meta pages

    def run(self) -> None:
        meta = self._newest_meta()
        free: set[int] = set()
        for key, value in self._walk(meta.free, "free list", integer_keys=True):
            self._collect_free(key, value, meta, free)
        for _ in self._walk(meta.main, "data", integer_keys=False):
            pass
        if free & self._used:
            self._fail(0, f"page {min(free & self._used)} is free and in use")
        if self._used and max(self._used) > meta.last_page:
            self._fail(0, f"page {max(self._used)} is above the last one, {meta.last_page}")
        missing = meta.last_page + 1 - len(free) - len(self._used)
        if missing:
            self._fail(0, f"{missing} pages are neither free nor in use")

    def _newest_meta(self) -> _Meta:
        first = self._meta_at(0)
        self._page_bytes = first.free.pad
        page_bytes = self._page_bytes
        if page_bytes & (page_bytes - 1) or not 512 <= page_bytes <= 65536:
            self._fail(0, f"a page size of {page_bytes} bytes")
        second = self._meta_at(page_bytes)
        if second.free.pad != page_bytes:
            self._fail(page_bytes, "the two meta pages differ in page size")
        # Commits write the two in turn, so they are one transaction apart, except in a new file.
        ids = (first.txn_id, second.txn_id)
        if ids != (0, 0) and not (abs(ids[0] - ids[1]) == 1 and ids[0] % 2 == 0):
            self._fail(0, f"meta pages of transactions {ids[0]} and {ids[1]}")
        return max(first, second, key=lambda meta: meta.txn_id)

    def _meta_at(self, pos: int) -> _Meta:
        self._need(pos, _PAGE_HEADER_BYTES + _META_BYTES, "meta page")
        flags = _HEADER.unpack_from(self._data, pos)[2]
        pos += _PAGE_HEADER_BYTES
        magic, version, _, _ = _META_HEAD.unpack_from(self._data, pos)
        if (flags & _KIND, magic, version) != (_META, _MAGIC, _DATA_VERSION):
            self._fail(pos, "no meta page of LMDB 0.9 on this kind of machine")
        pos += _META_HEAD.size
        free = _Tree(*_TREE.unpack_from(self._data, pos))
        main = _Tree(*_TREE.unpack_from(self._data, pos + _TREE.size))
        return _Meta(free, main, *_META_TAIL.unpack_from(self._data, pos + 2 * _TREE.size))

    def _walk(self, tree: _Tree, name: str, *, integer_keys: bool) -> list[tuple[bytes, bytes]]:
        """Every (key, value) of a tree, after checking that the tree is what its record says."""
        if tree.flags != (_INTEGER_KEY if integer_keys else 0):
            self._fail(0, f"the {name} tree has flags {tree.flags:#x}")
        found: list[tuple[bytes, bytes]] = []
        pages = [0, 0, 0]  # branch, leaf, overflow
        if tree.root != _NO_PAGE:
            if not 1 <= tree.depth <= _DEPTH_MAX:
                self._fail(0, f"the {name} tree is {tree.depth} levels deep")
            self._walk_page(tree.root, tree.depth, found, pages)
        elif tree.depth:
            self._fail(0, f"the {name} tree has {tree.depth} levels and no root")
        said = [tree.branch_pages, tree.leaf_pages, tree.overflow_pages, tree.entries]
        if said != [*pages, len(found)]:
            self._fail(
                0, f"the {name} tree has {[*pages, len(found)]} pages and entries, not {said}"
            )
        keys = [_U64.unpack(key)[0] if integer_keys else key for key, _ in found]
        if any(left >= right for left, right in pairwise(keys)):
            self._fail(0, f"keys of the {name} tree are out of order")
        return found

    def _walk_page(
        self, page: int, levels: int, found: list[tuple[bytes, bytes]], pages: list[int]
    ) -> None:
        pos = self._claim(page, 1)
        number, _, flags, lower, upper = _HEADER.unpack_from(self._data, pos)
        kind = _LEAF if levels == 1 else _BRANCH
        if number != page or flags & _KIND != kind:
            self._fail(pos, f"page {page} says it is page {number} with flags {flags:#x}")
        if not _PAGE_HEADER_BYTES <= lower <= upper <= self._page_bytes or lower % 2:
            self._fail(pos, f"page {page} has its free space from {lower} to {upper}")
        count = (lower - _PAGE_HEADER_BYTES) // 2
        pages[0 if kind == _BRANCH else 1] += 1
        if count < (1 if kind == _LEAF else 2):
            self._fail(pos, f"page {page} has {count} nodes")
        for node in struct.unpack_from(f"<{count}H", self._data, pos + _PAGE_HEADER_BYTES):
            if not upper <= node <= self._page_bytes - _NODE_HEADER_BYTES:
                self._fail(pos, f"page {page} has a node at {node}")
            if kind == _BRANCH:
                low, high, top, key_size = _NODE.unpack_from(self._data, pos + node)
                if node + _NODE_HEADER_BYTES + key_size > self._page_bytes:
                    self._fail(pos, f"a key of page {page} passes its end")
                self._walk_page(low | high << 16 | top << 32, levels - 1, found, pages)
            else:
                found.append(self._leaf_node(page, pos, node, pages))

    def _leaf_node(self, page: int, pos: int, node: int, pages: list[int]) -> tuple[bytes, bytes]:
        low, high, flags, key_size = _NODE.unpack_from(self._data, pos + node)
        size = low | high << 16
        key_pos = node + _NODE_HEADER_BYTES
        value_pos = key_pos + key_size
        inline_size = _U64.size if flags & _BIG_DATA else size
        if flags & ~_BIG_DATA or not 0 < key_size <= _KEY_BYTES_MAX:
            self._fail(
                pos, f"a node of page {page} has flags {flags:#x}, a key of {key_size} bytes"
            )
        if value_pos + inline_size > self._page_bytes:
            self._fail(pos, f"a node of page {page} passes its end")
        key = self._data[pos + key_pos : pos + value_pos]
        start = pos + value_pos
        if flags & _BIG_DATA:
            first = _U64.unpack_from(self._data, start)[0]
            count = (_PAGE_HEADER_BYTES - 1 + size) // self._page_bytes + 1
            start = self._claim(first, count)
            number, _, page_flags, said = _OVERFLOW_HEADER.unpack_from(self._data, start)
            if (number, page_flags & _KIND, said) != (first, _OVERFLOW, count):
                self._fail(start, f"page {first} is not the start of {count} overflow pages")
            pages[2] += count
            start += _PAGE_HEADER_BYTES
        return key, self._data[start : start + size]

    def _claim(self, page: int, count: int) -> int:
        """The byte position of `count` pages that are in the file and not in use yet."""
        if page < 2 or (page + count) * self._page_bytes > len(self._data):
            self._fail(len(self._data), f"page {page} (of {count}) is not in the file")
        for number in range(page, page + count):
            if number in self._used:
                self._fail(number * self._page_bytes, f"page {number} is used twice")
            self._used.add(number)
        return page * self._page_bytes

    def _collect_free(self, key: bytes, value: bytes, meta: _Meta, free: set[int]) -> None:
        """Adds one free list entry: the pages a transaction freed. They may lie past the end of the
        file: a page taken and dropped in one transaction is never written."""
        if len(key) != _U64.size or len(value) < _U64.size or len(value) % _U64.size:
            self._fail(0, "a free list entry of a wrong size")
        numbers = [number for (number,) in _U64.iter_unpack(value)]
        count, numbers = numbers[0], numbers[1:]
        if count > len(numbers) or _U64.unpack(key)[0] > meta.txn_id:
            self._fail(0, f"a free list entry with {count} pages in {len(numbers)} places")
        for number in numbers[:count]:
            if not 2 <= number <= meta.last_page or number in free:
                self._fail(0, f"page {number} is free twice or beyond the last page")
            free.add(number)

    def _need(self, pos: int, size: int, what: str) -> None:
        if pos + size > len(self._data):
            self._fail(len(self._data), f"the file ends inside a {what}")

    def _fail(self, pos: int, what: str) -> NoReturn:
        raise StoreDamaged(
            f"the metadata store is damaged: {what}; {self._remedy}", path=self._path, pos=pos
        )
