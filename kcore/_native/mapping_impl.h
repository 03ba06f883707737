/* The populate helper: one thread of the process that faults pages in ahead of the appends.
 *
 * A store into a fresh page of a mapped file costs a fault of about 1.5 us; into a populated one it
 * is a plain store. The thread exists only while there is work: it ends after half a second of
 * nothing to do, and is started again by the next request. It never holds the GIL.
 */
#ifndef KCORE_MAPPING_IMPL_H
#define KCORE_MAPPING_IMPL_H

#include <stdint.h>

enum { POPULATE_IDLE, POPULATE_QUEUED, POPULATE_RUNNING, POPULATE_DONE, POPULATE_REFUSED };

typedef struct PopulateJob {
    uint8_t *addr;
    int64_t size;
    int state;               /* POPULATE_*, under the helper's mutex except for atomic peeks */
    unsigned generation;     /* of the process: a fork leaves the thread behind */
    struct PopulateJob *next;
} PopulateJob;

void populate_submit(PopulateJob *job, uint8_t *addr, int64_t size);
int populate_poll(PopulateJob *job);
void populate_cancel(PopulateJob *job);
int populate_threads(void);

#endif
