"""The small files beside a log: one module a format, pure bytes <-> values.

Every module has `encode_*` and `decode_*` (bytes only, no I/O) and `load_*`/`store_*` on top of
them; all writes go through `atomic.py`. Decoders believe nothing: each count and length is checked
against the bytes that are there, and what is wrong is an `IndexCorrupt` that says where.
"""
