/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Auto-converge. Its parameters are those of QEMU's migration (QMP reference, MigrationParameter): once in a period of a second or more the guest has written more
 * than throttle-trigger-threshold percent of what was sent, twice one after the other, its vCPUs rest cpu-throttle-initial percent of their time, and
 * cpu-throttle-increment more each time that this is not enough, up to max-cpu-throttle.
 */
#include "vmm/migrate/migrate_private.h"

enum { PERIOD_US = 1000000, RUN_MS = 10 /* that a vCPU runs between two rests */ };

/* Each time anew: how long rests are may have changed. */
static gboolean rest(void *opaque)
{
    struct converge *c = opaque;
    int64_t us = (int64_t)c->percent * RUN_MS * 1000 / (100 - c->percent);
    machine_nap(c->machine, us);
    c->timer = g_timeout_add((guint)(RUN_MS + us / 1000), rest, c);
    return G_SOURCE_REMOVE;
}

void converge_begin(struct converge *c, struct machine *m, const struct migrate_numbers *n)
{
    *c = (struct converge){ .machine = m, .numbers = n, .since = g_get_monotonic_time() };
}

static void more(struct converge *c)
{
    const struct migrate_numbers *n = c->numbers;
    c->percent = (unsigned)MIN(c->percent ? c->percent + n->throttle_increment : n->throttle_initial, n->throttle_max);
    c->high = 0;
    if (!c->timer)
        rest(c);
}

void converge_round(struct converge *c, uint64_t dirtied, uint64_t sent)
{
    int64_t now = g_get_monotonic_time();
    c->dirtied += dirtied;
    if (now - c->since < PERIOD_US)
        return;
    bool high = (double)c->dirtied * 100 > (double)(sent - c->sent) * (double)c->numbers->throttle_trigger;
    c->high = high ? c->high + 1 : 0;
    c->since = now;
    c->dirtied = 0;
    c->sent = sent;
    if (c->high >= 2)
        more(c);
}

void converge_end(struct converge *c)
{
    if (c->timer)
        g_source_remove(c->timer);
    c->timer = 0;
}
