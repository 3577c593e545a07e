/* For LD_PRELOAD: flock fails with the error FLOCK_ERRNO for the files below FLOCK_BELOW. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int flock(int file, int operation)
{
    const char *number = getenv("FLOCK_ERRNO"), *below = getenv("FLOCK_BELOW");
    char link[64], path[4096] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    if (number && readlink(link, path, sizeof path - 1) > 0
        && strncmp(path, below, strlen(below)) == 0) {
        errno = atoi(number);
        return -1;
    }
    return ((int (*)(int, int)) dlsym(RTLD_NEXT, "flock"))(file, operation);
}
