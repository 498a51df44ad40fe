/* SPDX-License-Identifier: GPL-2.0-or-later */
/* For guests: cdtool DEVICE eject|load|lock|unlock|status */
#include <fcntl.h>
#include <limits.h>
#include <linux/cdrom.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

int main(int argc, char **argv)
{
    static const struct { const char *name; unsigned long request; long argument; } rows[] = {
        { "eject", CDROMEJECT, 0 }, { "load", CDROMCLOSETRAY, 0 }, { "lock", CDROM_LOCKDOOR, 1 }, { "unlock", CDROM_LOCKDOOR, 0 },
        { "status", CDROM_DRIVE_STATUS, CDSL_CURRENT }, { "changed", CDROM_MEDIA_CHANGED, CDSL_CURRENT },
    };
    int fd = argc == 3 ? open(argv[1], O_RDONLY | O_NONBLOCK) : -1;
    for (unsigned i = 0; fd >= 0 && i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (strcmp(argv[2], rows[i].name))
            continue;
        int result = ioctl(fd, rows[i].request, rows[i].argument);
        if (result < 0)
            perror(argv[2]);
        printf("%s %d\n", argv[2], result); /* status: 1 no disc, 2 tray open, 4 a disc */
        return result < 0;
    }
    return 2;
}
