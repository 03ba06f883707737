/* Assertions of a debug build (KCORE_DEBUG=1): preconditions that a caller inside the engine must
 * keep. Whatever comes from a disk or a peer is checked by ordinary code in every build instead. */
#ifndef KCORE_DEBUG_H
#define KCORE_DEBUG_H

#ifndef KCORE_DEBUG
#define KCORE_DEBUG 0
#endif

#if KCORE_DEBUG
#include <stdio.h>
#include <stdlib.h>
#define KCORE_ASSERT(condition)                                                                  \
    do {                                                                                         \
        if (!(condition)) {                                                                      \
            fprintf(stderr, "%s:%d: broken precondition: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                             \
        }                                                                                        \
    } while (0)
#else
#define KCORE_ASSERT(condition) ((void)0)
#endif

#endif
