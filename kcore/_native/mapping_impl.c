#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "mapping_impl.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>

#if defined(__linux__) && !defined(MADV_POPULATE_WRITE)
#define MADV_POPULATE_WRITE 23 /* Linux 5.14; older kernels say EINVAL */
#endif

enum { IDLE_MS = 500 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work = PTHREAD_COND_INITIALIZER;
static pthread_cond_t done = PTHREAD_COND_INITIALIZER;
static PopulateJob *queue_head, *queue_tail;
static int threads;
static unsigned generation;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* The child of a fork has the memory but not the thread: forget it and what it was doing. */
static void lock_before_fork(void) { pthread_mutex_lock(&mutex); }
static void unlock_after_fork(void) { pthread_mutex_unlock(&mutex); }
static void reset_in_child(void) {
    pthread_mutex_init(&mutex, NULL);
    pthread_cond_init(&work, NULL);
    pthread_cond_init(&done, NULL);
    queue_head = queue_tail = NULL;
    threads = 0;
    generation++;
}
static void install_fork_handlers(void) {
    pthread_atfork(lock_before_fork, unlock_after_fork, reset_in_child);
}

static int populate(uint8_t *addr, int64_t size) {
#ifdef __linux__
    int rc;
    do rc = madvise(addr, (size_t)size, MADV_POPULATE_WRITE);
    while (rc && errno == EINTR);
    return rc;
#else
    (void)addr; (void)size;
    return -1;
#endif
}

static void *populate_loop(void *unused) {
    (void)unused;
    pthread_mutex_lock(&mutex);
    for (;;) {
        if (!queue_head) {
            struct timespec until;
            clock_gettime(CLOCK_REALTIME, &until);
            until.tv_nsec += IDLE_MS * 1000000L;
            until.tv_sec += until.tv_nsec / 1000000000L;
            until.tv_nsec %= 1000000000L;
            int rc = pthread_cond_timedwait(&work, &mutex, &until);
            if (!queue_head && rc == ETIMEDOUT) break;
            continue;
        }
        PopulateJob *job = queue_head;
        queue_head = job->next;
        if (!queue_head) queue_tail = NULL;
        __atomic_store_n(&job->state, POPULATE_RUNNING, __ATOMIC_RELEASE);
        pthread_mutex_unlock(&mutex);
        int rc = populate(job->addr, job->size);
        pthread_mutex_lock(&mutex);
        __atomic_store_n(&job->state, rc ? POPULATE_REFUSED : POPULATE_DONE, __ATOMIC_RELEASE);
        pthread_cond_broadcast(&done);
    }
    threads--;
    pthread_mutex_unlock(&mutex);
    return NULL;
}

/* Called with the mutex held. Signals stay with the interpreter's threads. */
static int start_thread(void) {
    pthread_t thread;
    pthread_attr_t attr;
    sigset_t all, before;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&thread, &attr, populate_loop, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    if (rc == 0) threads++;
    return rc;
}

void populate_submit(PopulateJob *job, uint8_t *addr, int64_t size) {
    pthread_once(&once, install_fork_handlers);
    pthread_mutex_lock(&mutex);
    job->addr = addr;
    job->size = size;
    job->generation = generation;
    job->next = NULL;
    if (!threads && start_thread()) {
        __atomic_store_n(&job->state, POPULATE_REFUSED, __ATOMIC_RELEASE);
    } else {
        __atomic_store_n(&job->state, POPULATE_QUEUED, __ATOMIC_RELEASE);
        if (queue_tail) queue_tail->next = job; else queue_head = job;
        queue_tail = job;
        pthread_cond_signal(&work);
    }
    pthread_mutex_unlock(&mutex);
}

int populate_poll(PopulateJob *job) {
    int state = __atomic_load_n(&job->state, __ATOMIC_ACQUIRE);
    if (state == POPULATE_DONE || state == POPULATE_REFUSED) {
        __atomic_store_n(&job->state, POPULATE_IDLE, __ATOMIC_RELEASE);
        return state == POPULATE_DONE ? 1 : -1;
    }
    if ((state == POPULATE_QUEUED || state == POPULATE_RUNNING) && job->generation != generation) {
        job->state = POPULATE_IDLE;   /* its thread stayed in the parent of a fork */
        return -1;
    }
    return 0;
}

void populate_cancel(PopulateJob *job) {
    if (__atomic_load_n(&job->state, __ATOMIC_ACQUIRE) == POPULATE_IDLE) return;
    pthread_mutex_lock(&mutex);
    if (job->generation == generation) {
        if (job->state == POPULATE_QUEUED) {
            PopulateJob **at = &queue_head, *last = NULL;
            while (*at != job) { last = *at; at = &(*at)->next; }
            *at = job->next;
            if (queue_tail == job) queue_tail = last;
        }
        while (job->state == POPULATE_RUNNING) pthread_cond_wait(&done, &mutex);
    }
    job->state = POPULATE_IDLE;
    pthread_mutex_unlock(&mutex);
}

int populate_threads(void) {
    pthread_mutex_lock(&mutex);
    int n = threads;
    pthread_mutex_unlock(&mutex);
    return n;
}
