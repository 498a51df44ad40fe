/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A program for the tests: the procedures that the drivers of a real host serve, a number and a name a line. */
#include <stdio.h>

#include "manage/core/manage_private.h"

static void print_rows(const struct manage_row *r)
{
    for (; r && r->fn; r++)
        printf("%u %s\n", r->proc, rpc_proc(r->proc) ? rpc_proc(r->proc)->name : "?");
}

int main(void)
{
    print_rows(manage_event_rows);
    for (unsigned i = 0; manage_table_host.drivers[i]; i++) {
        const struct manage_driver *d = manage_table_host.drivers[i];
        print_rows(d->rows);
        for (unsigned k = 0; d->more_rows && d->more_rows[k]; k++)
            print_rows(d->more_rows[k]);
    }
    return 0;
}
