/* SPDX-License-Identifier: GPL-2.0-or-later */
/* usage: spawn STATUS PROGRAM [ARGUMENT]...
 * Runs the program once with its output thrown away and prints "NANOSECONDS PEAK_KIB CPU_MICROSECONDS", from fork to the end of the process.
 * A program of its own and not Python's subprocess, because the peak memory of a process counts from its fork: a child of
 * a big parent starts with the parent's pages. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    long long start = now();
    pid_t pid = fork();
    if (pid < 0)
        return 2;
    if (!pid) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, 0);
        dup2(null, 1);
        alarm(60);
        execv(argv[2], argv + 2);
        _exit(127);
    }
    int status;
    struct rusage used;
    if (wait4(pid, &status, 0, &used) != pid)
        return 2;
    long long took = now() - start;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != atoi(argv[1])) {
        fprintf(stderr, "spawn: %s ended with wait status %#x\n", argv[2], (unsigned)status);
        return 1;
    }
    printf("%lld %ld %lld\n", took, used.ru_maxrss, (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000LL + used.ru_utime.tv_usec +
           used.ru_stime.tv_usec);
    return 0;
}
