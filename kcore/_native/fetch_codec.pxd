"""Fetch on the wire, for those who have the parts of an answer at hand without a FetchResult each."""

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t

from kcore._native.wirebuf cimport Writer


cdef class FetchPartition:
    cdef public int32_t index
    cdef public int32_t current_leader_epoch
    cdef public int64_t fetch_offset
    cdef public int32_t last_fetched_epoch
    cdef public int64_t log_start_offset
    cdef public int32_t max_bytes
    cdef public bytes replica_directory_id
    cdef public int64_t high_watermark


cdef class FetchRequest:
    cdef readonly int32_t replica_id
    cdef readonly int64_t replica_epoch
    cdef readonly object cluster_id
    cdef readonly int32_t max_wait_ms
    cdef readonly int32_t min_bytes
    cdef readonly int32_t max_bytes
    cdef readonly int8_t isolation_level
    cdef readonly int32_t session_id
    cdef readonly int32_t session_epoch
    cdef readonly list topics
    cdef readonly list forgotten
    cdef readonly str rack_id


# A response, in this order: the head up to the count of topics; for each partition what stands
# before its records, their length and bytes, and the tags behind; the end, which fills in the
# length of the whole. `pieces` are the buffers so far, the writer holds what comes after them.
cdef int put_head(Writer* w, int version, int32_t correlation_id, int32_t throttle_ms,
                  int16_t error_code, int32_t session_id) except -1
cdef int put_partition(Writer* w, int version, int32_t index, int16_t error_code,
                       int64_t high_watermark, int64_t last_stable_offset,
                       int64_t log_start_offset, object aborted,
                       int32_t preferred_read_replica) except -1
cdef int put_partition_tags(Writer* w, object diverging_epoch, object current_leader,
                            object snapshot_id) except -1
# Moves what was written into a piece of its own; returns its size.
cdef int64_t flush_piece(Writer* w, list pieces) except -1
cdef list finish(Writer* w, int version, object node_endpoints, list pieces, int64_t flushed_bytes)
