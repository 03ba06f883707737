"""What a partition shows of itself to those who serve it natively: see replica.pxd."""

cdef class TopicCounters:
    def took(self, int64_t records, int64_t size):
        """One produced batch."""
        self.produce_requests += 1
        self.messages_in += records
        self.bytes_in += size

    def refused(self, int64_t size):
        """One batch that is not in the log."""
        self.produce_requests += 1
        self.failed_produce_requests += 1
        self.bytes_rejected += size

    def add(self, TopicCounters other not None):
        self.messages_in += other.messages_in
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out
        self.bytes_rejected += other.bytes_rejected
        self.produce_requests += other.produce_requests
        self.fetch_requests += other.fetch_requests
        self.failed_produce_requests += other.failed_produce_requests
        self.failed_fetch_requests += other.failed_fetch_requests


cdef class Replica:
    pass
