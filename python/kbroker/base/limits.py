"""Bounds of frames, queues, tables and times of the broker, and the relations between them.

`kcore/limits.py` bounds the file format. A configuration may tighten what is here, not loosen it.
"""

from __future__ import annotations

from kbroker.base.check import invariant

KIB = 1024
MIB = 1024 * KIB

# Frames
FRAME_BYTES_HARD_MAX = 100 * MIB  # socket.request.max.bytes
FRAME_BYTES_FLOOR = 8 * MIB  # what a listener takes at least, however small message.max.bytes is
FRAME_BYTES_FIRST_MAX = 64 * KIB  # a connection's first frame: nobody has introduced himself yet
RECEIVE_BUFFER_BYTES = 256 * KIB

# One connection
REQUESTS_AHEAD_MAX = 16  # parsed and unanswered; then reading pauses
OUTPUT_BYTES_MAX = 64 * MIB  # queued for a slow reader; then reading pauses
OUTPUT_BYTES_RESUME = OUTPUT_BYTES_MAX // 4
HEADER_TAGS_MAX = 64
CLIENT_ID_BYTES_MAX = 32 * KIB - 1  # what an int16 length can say

# Deadlines, all in one sweep per second
FIRST_FRAME_MS_MAX = 10_000
PARTIAL_FRAME_MS_MAX = 30_000
WRITE_STALL_MS_MAX = 60_000
SWEEP_INTERVAL_MS = 1_000
STOP_GRACE_MS_MAX = 1_500  # of the two seconds a stop may take

# All connections together
CONNECTIONS_MAX = 10_000
CONNECTIONS_PER_IP_MAX = 1_000
FDS_RESERVED = 64  # kept free for segments, indexes and the metadata store
RECEIVED_BYTES_MAX = 256 * MIB  # buffers of all connections; then reading pauses everywhere
ACCEPT_PAUSE_MS = 500  # after running out of descriptors

# Tables
PARTITIONS_PER_REQUEST_MAX = 10_000
PARKED_MAX = 100_000
CLIENT_SOFTWARE_MAX = 256  # distinct (name, version) pairs kept for metrics
HTTP_REQUEST_BYTES_MAX = 8 * KIB
HTTP_CONNECTIONS_MAX = 32

invariant(
    FRAME_BYTES_FIRST_MAX < RECEIVE_BUFFER_BYTES < FRAME_BYTES_FLOOR <= FRAME_BYTES_HARD_MAX,
    "frame bounds are out of order",
)
invariant(OUTPUT_BYTES_RESUME < OUTPUT_BYTES_MAX, "output marks are out of order")
invariant(FIRST_FRAME_MS_MAX <= PARTIAL_FRAME_MS_MAX <= WRITE_STALL_MS_MAX, "deadlines disagree")
invariant(FRAME_BYTES_HARD_MAX < RECEIVED_BYTES_MAX, "one frame must fit the memory budget")
