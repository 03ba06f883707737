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
RECEIVE_BUFFER_BYTES = 256 * KIB

# One connection
REQUESTS_AHEAD_MAX = 16  # parsed and unanswered; then reading pauses
OUTPUT_BYTES_PAUSE = 1 * MIB  # answers a client has not taken; then nothing more is read
OUTPUT_BYTES_RESUME = OUTPUT_BYTES_PAUSE // 4

# Deadlines, all in one sweep per second
FIRST_FRAME_MS_MAX = 10_000
PARTIAL_FRAME_MS_MAX = 30_000
WRITE_STALL_MS_MAX = 60_000
SWEEP_INTERVAL_MS = 1_000
STOP_GRACE_MS_MAX = 1_000  # of the two seconds a stop may take; syncs need the rest

# All connections together
CONNECTIONS_MAX = (1 << 31) - 1  # max.connections: half of the descriptors decide
CONNECTIONS_PER_IP_MAX = (1 << 31) - 1
ACCEPTS_PER_SWEEP_MAX = 5_000  # about a second's; what is more waits in the backlog
FDS_RESERVED = 64  # kept free for segments, indexes and the metadata store
RECEIVED_BYTES_MAX = 256 * MIB  # unfinished requests; then reading pauses everywhere
RECEIVED_BYTES_RESUME = RECEIVED_BYTES_MAX // 2
ACCEPT_PAUSE_MS = 500  # after running out of descriptors, or after too many newcomers

# Tables
PARTITIONS_PER_REQUEST_MAX = 10_000
PARKED_MAX = 100_000
CLIENT_SOFTWARE_MAX = 256  # distinct (name, version) pairs kept for metrics
HTTP_REQUEST_BYTES_MAX = 8 * KIB
HTTP_CONNECTIONS_MAX = 32

invariant(
    RECEIVE_BUFFER_BYTES < FRAME_BYTES_FLOOR <= FRAME_BYTES_HARD_MAX,
    "frame bounds are out of order",
)
invariant(OUTPUT_BYTES_RESUME < OUTPUT_BYTES_PAUSE, "output marks are out of order")
invariant(FIRST_FRAME_MS_MAX <= PARTIAL_FRAME_MS_MAX <= WRITE_STALL_MS_MAX, "deadlines disagree")
invariant(FRAME_BYTES_HARD_MAX < RECEIVED_BYTES_MAX, "one frame must fit the memory budget")
