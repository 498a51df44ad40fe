/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a machine's sound goes (-audiodev): nowhere ("none"), or into a WAV file ("wav"). Samples come at the pace of the virtual clock;
 * keeping it is the device's matter. Locks: each has one of its own, a leaf.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

struct audiodev;
struct keyval;
struct machine;

struct audio_format {
    unsigned rate, channels, bits; /* Hz; 1 to 16; 8 (unsigned), 16 or 32 (signed, little-endian) */
};

/* Makes it from the option's keys and puts it into machine->audiodevs, which owns it. */
bool audiodev_open(struct machine *m, const struct keyval *kv, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Of that id; id NULL: the first one. NULL without an error: there is none at all. */
struct audiodev *audiodev_find(struct machine *m, const char *id, GError **error);
/* Whole frames in this format. Any thread; they are kept until audiodev_flush, a bounded amount of them. NULL is allowed. */
void audiodev_write(struct audiodev *a, const struct audio_format *f, const void *frames, size_t bytes);
/* Writes what was kept into the file; may wait for it. */
void audiodev_flush(struct audiodev *a);
