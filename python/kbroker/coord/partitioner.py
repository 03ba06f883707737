"""Which partition of an internal topic a group or a transaction belongs to."""

from __future__ import annotations


def partition_of(key: str, partition_count: int) -> int:
    """Java's String.hashCode without its sign, as every client and tool of Kafka computes it."""
    code = 0
    units = memoryview(key.encode("utf-16-le", "surrogatepass")).cast("H")
    for unit in units:
        code = (code * 31 + unit) & 0xFFFFFFFF
    return (code & 0x7FFFFFFF) % partition_count
