/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Some pages of the guest's memory, remembered by what was in them, to tell later how many of all have changed. Main thread; vCPUs may run. */
#pragma once

#include <glib.h>
#include <stdint.h>

struct machine;
struct page_sample;

/* per_gib pages of each GiB of memory, chosen anew each time; no more than 32768 in all. The caller frees with page_sample_free. */
struct page_sample *page_sample_take(struct machine *m, unsigned per_gib);
/* An estimate of the bytes in pages that differ from what they were then. */
uint64_t page_sample_changed(struct machine *m, const struct page_sample *s);
void page_sample_free(struct page_sample *s);
