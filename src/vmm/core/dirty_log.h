/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The log of guest pages that are written, by vCPUs or devices, over the accelerator's. Main thread; vCPUs may run. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct machine;

struct dirty_run { uint64_t gpa, pages; }; /* pages of 4 KiB, one beside the other */

/* QMP calc-dirty-rate. */
struct dirty_rate {
    unsigned measuring;     /* id of the timeout; 0: not now */
    bool done, ring;
    struct page_sample *sample; /* the mode page-sampling, while it measures */
    unsigned sample_pages;      /* of that mode; 0: another one */
    int64_t seconds, start; /* asked for; when, seconds since the epoch */
    int64_t began;          /* monotonic microseconds */
    int64_t mib_per_s;
};

bool dirty_log_start(struct machine *m, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* What has been written since the start or the last read: struct dirty_run, ascending. NULL with error. The caller unrefs. */
GArray *dirty_log_read(struct machine *m, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void dirty_log_stop(struct machine *m);
void dirty_log_finish(struct machine *m); /* at the machine's end */
uint64_t dirty_log_pages(const GArray *runs);
