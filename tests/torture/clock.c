/* The wall clock of the process that this is preloaded into, with milliseconds added to it that another process may change at any
 * time. They lie in the file that TORTURE_CLOCK names: eight bytes, in this machine's order. Every other clock is the true one. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static _Atomic(int64_t) *step;
static int (*true_gettime)(clockid_t, struct timespec *);

/* Before main, and so before there is a second thread. A process that cannot have what it was given must not run as if it had. */
__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("TORTURE_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *at = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *step, PROT_READ, MAP_SHARED, file, 0);
    *(void **)&true_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    if (at == MAP_FAILED || !true_gettime) {
        static const char said[] = "clock.c: TORTURE_CLOCK names no file with eight bytes\n";
        (void)!write(STDERR_FILENO, said, sizeof said - 1);
        _exit(99);
    }
    close(file);
    step = at;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = true_gettime ? true_gettime(clock, time) : -1;
    if (result == 0 && step && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t milliseconds = atomic_load(step);
        time->tv_sec += milliseconds / 1000;
        time->tv_nsec += milliseconds % 1000 * 1000000;
        if (time->tv_nsec >= 1000000000) {
            time->tv_sec++;
            time->tv_nsec -= 1000000000;
        } else if (time->tv_nsec < 0) {
            time->tv_sec--;
            time->tv_nsec += 1000000000;
        }
    }
    return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0)
        return -1;
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *where) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0)
        return -1;
    if (where)
        *where = now.tv_sec;
    return now.tv_sec;
}
