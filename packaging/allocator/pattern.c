/* The proxy's pattern of allocations, for the choice of a C library: threads that each hold some hundred live blocks of the
 * sizes that messages have (fields of tens of bytes, values of some KiB, lists of a MiB), free them in another order than they
 * were made in, and hand some to another thread to free. Prints millions of pairs of malloc and free in a second. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LIVE = 512, PAIRS = 2000000, THREADS = 4 };

static void *_Atomic handed[LIVE];

static size_t size_of(uint32_t drawn)
{
    uint32_t kind = drawn % 1000;
    if (kind < 700)
        return 16 + (drawn >> 10) % 240;
    if (kind < 990)
        return 512 + (drawn >> 10) % 16384;
    return 65536 + (drawn >> 10) % 1048576;
}

static void *work(void *seed)
{
    uint32_t state = (uint32_t)(uintptr_t)seed;
    void *live[LIVE] = {0};
    for (int pair = 0; pair < PAIRS; pair++) {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        int place = (int)(state % LIVE);
        free(live[place]);
        size_t size = size_of(state);
        char *block = malloc(size);
        if (!block)
            abort();
        block[0] = block[size - 1] = 1;
        if (state % 16 == 0) {
            free(__atomic_exchange_n((void **)&handed[place], block, __ATOMIC_ACQ_REL));
            live[place] = NULL;
        } else {
            live[place] = block;
        }
    }
    for (int place = 0; place < LIVE; place++)
        free(live[place]);
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    struct timespec begun, ended;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begun);
    for (intptr_t thread = 0; thread < THREADS; thread++)
        pthread_create(&threads[thread], NULL, work, (void *)(thread * 2654435761u + 1));
    for (int thread = 0; thread < THREADS; thread++)
        pthread_join(threads[thread], NULL);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ended);
    double seconds = (double)(ended.tv_sec - begun.tv_sec) + (double)(ended.tv_nsec - begun.tv_nsec) / 1e9;
    printf("%.3f\n", (double)PAIRS * THREADS / 1e6 / seconds);
    return 0;
}
