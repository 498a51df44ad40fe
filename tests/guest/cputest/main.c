/* SPDX-License-Identifier: GPL-2.0-or-later */
/* cputest [NAME...]: runs all subtests, or those named. See cputest.h. */
#define _GNU_SOURCE
#include "cputest.h"

#include <sched.h>
#include <stdarg.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *current = "";

void say(const char *format, ...)
{
    char text[600];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    printf("CT %s: %s\n", current, text);
    fflush(stdout);
}

u64 hash_bytes(const void *data, size_t n)
{
    u64 h = 0xcbf29ce484222325ull;
    for (size_t i = 0; i < n; i++)
        h = (h ^ ((const u8 *)data)[i]) * 0x100000001b3ull;
    return h;
}

unsigned online_cpus(void)
{
    return (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
}

void pin(unsigned cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu % online_cpus(), &set);
    sched_setaffinity(0, sizeof set, &set);
}

double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void run_one(const struct subtest *test)
{
    current = test->name;
    double start = now();
    pid_t pid = fork();
    if (pid == 0) {
        alarm(200);
        arena_map();
        test->run();
        fflush(stdout);
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    if (WIFSIGNALED(status))
        say("the subtest was killed by signal %d", WTERMSIG(status));
    else
        say("end %d", WEXITSTATUS(status));
    fprintf(stderr, "TIME %s %.2f\n", test->name, now() - start);
}

static bool wanted(const char *name, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], name))
            return true;
    return argc < 2;
}

int main(int argc, char **argv)
{
    const struct subtest *const all[] = { fault_tests, step_tests, mode_tests, state_tests, atomic_tests, code_tests, memory_tests };
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        for (const struct subtest *t = all[i]; t->name; t++)
            if (wanted(t->name, argc, argv))
                run_one(t);
    printf("CT all subtests have run\n");
    return 0;
}
