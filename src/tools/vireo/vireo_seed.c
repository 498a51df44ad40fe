/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A cloud-init seed (NoCloud): a CD image labelled cidata with user-data and meta-data. ECMA-119 (ISO 9660), one directory, file names
 * in capitals as level 1 has them: Linux shows them in small letters.
 */
#include "vireo_run.h"

#include <string.h>

enum { SECTOR = 2048, ROOT = 20, FIRST = 21 };

/* Both byte orders, one after the other (ECMA-119, 7.2.3 and 7.3.3). */
static void both16(guint8 *p, unsigned n)
{
    p[0] = p[3] = n;
    p[1] = p[2] = n >> 8;
}

static void both32(guint8 *p, unsigned n)
{
    for (int i = 0; i < 4; i++)
        p[i] = p[7 - i] = n >> (8 * i);
}

/* A directory record (9.1). Returns its length. */
static unsigned record(guint8 *p, const char *name, unsigned name_length, unsigned sector, unsigned size, bool folder)
{
    unsigned length = 33 + name_length + (name_length % 2 == 0);
    p[0] = length;
    both32(p + 2, sector);
    both32(p + 10, size);
    p[18] = 126; /* a date is required: 2026-01-01 */
    p[19] = p[20] = 1;
    p[25] = folder ? 2 : 0;
    both16(p + 28, 1);
    p[32] = name_length;
    memcpy(p + 33, name, name_length);
    return length;
}

static void padded(guint8 *p, const char *text, unsigned n)
{
    memset(p, ' ', n);
    memcpy(p, text, MIN(strlen(text), n));
}

static void descriptor(guint8 *p, unsigned sectors)
{
    p[0] = 1; /* primary volume descriptor (8.4) */
    memcpy(p + 1, "CD001\1", 6);
    padded(p + 8, "LINUX", 32);
    padded(p + 40, "cidata", 32);
    both32(p + 80, sectors);
    both16(p + 120, 1);
    both16(p + 124, 1);
    both16(p + 128, SECTOR);
    both32(p + 132, 10);
    p[140] = 18; /* path table, little-endian */
    p[151] = 19; /* and big-endian */
    record(p + 156, "\0", 1, ROOT, SECTOR, true);
    for (unsigned at = 190; at < 813; at++)
        p[at] = ' ';
    for (unsigned i = 0; i < 4; i++) {
        memset(p + 813 + 17 * i, '0', 16);
    }
    p[881] = 1;
}

GByteArray *seed_image(const struct seed_file *files, unsigned n)
{
    unsigned sectors = FIRST;
    for (unsigned i = 0; i < n; i++)
        sectors += (strlen(files[i].text) + SECTOR - 1) / SECTOR;
    GByteArray *image = g_byte_array_new();
    g_byte_array_set_size(image, sectors * SECTOR);
    memset(image->data, 0, image->len);
    guint8 *d = image->data;
    descriptor(d + 16 * SECTOR, sectors);
    memcpy(d + 17 * SECTOR, "\377CD001\1", 7); /* terminator (8.3) */
    d[18 * SECTOR] = d[19 * SECTOR] = 1; /* the path tables hold the root */
    d[18 * SECTOR + 2] = ROOT;
    d[19 * SECTOR + 5] = ROOT;
    d[18 * SECTOR + 6] = 1;
    d[19 * SECTOR + 7] = 1;
    guint8 *root = d + ROOT * SECTOR;
    root += record(root, "\0", 1, ROOT, SECTOR, true);
    root += record(root, "\1", 1, ROOT, SECTOR, true);
    unsigned at = FIRST;
    for (unsigned i = 0; i < n; i++) {
        unsigned size = strlen(files[i].text);
        g_autofree char *capitals = g_ascii_strup(files[i].name, -1), *name = g_strconcat(capitals, ".;1", NULL);
        root += record(root, name, strlen(name), at, size, false);
        memcpy(d + at * SECTOR, files[i].text, size);
        at += (size + SECTOR - 1) / SECTOR;
    }
    return image;
}
