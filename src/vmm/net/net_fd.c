/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/net/net_fd.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fdset.h"

int net_fd_take(const char *what, const char *name, GError **error)
{
    int fd = fdset_take(name, error);
    if (fd < 0)
        g_prefix_error(error, "%s: ", what);
    else
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    return fd;
}
