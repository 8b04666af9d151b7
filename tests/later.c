/* A process that lives BITSD_LATER seconds later than the others. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long later(void)
{
    const char *seconds = getenv("BITSD_LATER");

    return seconds == NULL ? 0 : atol(seconds);
}

time_t time(time_t *to)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    now.tv_sec += later();
    if (to != NULL)
        *to = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict to, void *restrict zone)
{
    struct timespec now;

    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    to->tv_sec = now.tv_sec + later();
    to->tv_usec = now.tv_nsec / 1000;
    return 0;
}
