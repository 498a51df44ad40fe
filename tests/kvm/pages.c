/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * In the inner guest, for the test of the dirty log: waits for a line, then has half of its pages written by the CPU and half by
 * the disk (O_DIRECT), and prints the page frame number of each (Linux, Documentation/admin-guide/mm/pagemap.rst).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGES = 64, SIZE = 4096 };

int main(void)
{
    static char line[16];
    char *p = mmap(NULL, PAGES * SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    int disk = open("/dev/vda", O_RDONLY | O_DIRECT), map = open("/proc/self/pagemap", O_RDONLY);
    if (p == MAP_FAILED || mlock(p, PAGES * SIZE) || disk < 0 || map < 0)
        return printf("VT cannot start\n"), 1;
    printf("VT waiting\n");
    fflush(stdout);
    if (!fgets(line, sizeof(line), stdin))
        return 1;
    for (int i = 0; i < PAGES; i++)
        if (i % 2)
            p[i * SIZE] = 1;
        else if (pread(disk, p + i * SIZE, SIZE, i * SIZE) != SIZE)
            return printf("VT cannot read\n"), 1;
    for (int i = 0; i < PAGES; i++) {
        uint64_t entry;
        if (pread(map, &entry, 8, (uintptr_t)(p + i * SIZE) / SIZE * 8) != 8)
            return 1;
        printf("PFN %s %llx\n", i % 2 ? "cpu" : "disk", (unsigned long long)(entry & ((1ull << 55) - 1)));
    }
    printf("VT pages written\n");
    return 0;
}
