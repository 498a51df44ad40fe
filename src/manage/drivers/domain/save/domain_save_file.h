/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files with the state of a machine, as libvirt's QEMU driver writes them, version 2: 16 bytes of magic, 19 words of 32 bits (little-endian as written here; a file whose version
 * reads as 2 the other way round is of a big-endian host and is refused): version, length of what follows up to the stream, whether the machine ran, compression, offset of
 * the cookie in what follows (0: none). Then the domain's document with a NUL, the cookie with a NUL, padding so that a changed document fits, and the machine's stream.
 *
 * While the stream is incomplete the magic is another one.
 */
#pragma once

#include "manage/drivers/domain/domain.h"

enum save_format { SAVE_RAW, SAVE_GZIP, SAVE_BZIP2, SAVE_XZ, SAVE_LZOP, SAVE_ZSTD, SAVE_FORMATS };

struct save_image {
    char *path, *xml, *cookie; /* cookie NULL: none */
    bool ran;                  /* it is to run when it is restored */
    bool partial;              /* never completed, or being written */
    uint32_t format;           /* enum save_format */
    uint32_t length;           /* from behind the header to the stream */
};

void save_image_free(struct save_image *i);
static inline void save_image_cleanup(struct save_image **i) { save_image_free(*i); }
#define save_image_auto __attribute__((cleanup(save_image_cleanup))) struct save_image

/* Everything before the stream. A partial one is an error for whoever does not look at it himself (ret_partial NULL). */
struct save_image *save_image_read(const char *path, bool *ret_partial, GError **error);
/* A descriptor at the beginning of the stream, unpacked where it is packed: then another program feeds it. -1: *error. */
int save_image_stream(const struct save_image *i, GError **error);
/* The document is replaced, in place where it fits. */
bool save_image_rewrite(struct save_image *i, const char *xml, bool ran, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Header and document into a file that was prepared, for a stream that is to follow at the descriptor's position; partial. -1: *error. */
int save_image_begin(const char *path, const char *xml, bool ran, enum save_format format, GError **error);
/* All of it is on the disk, and says so. drop: its pages need not stay in memory. */
bool save_image_complete(int fd, const char *path, bool drop, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* What a failure leaves goes; devices stay. */
void save_image_remove(const char *path);
/* Of the file at a path: nothing that can be told (also: not there), partial, whole. */
enum save_kind { SAVE_NONE, SAVE_PARTIAL, SAVE_WHOLE };
enum save_kind save_image_kind(const char *path);

/* A file that a machine's state or memory is about to be written to: absolute path, a regular file or a device, of no running domain. What it held goes, so that nobody takes it for
 * what is to come; where there is none, none is made: whoever makes it writes down before that it does. */
bool save_file_prepare(struct manage_state *s, const char *path, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Makes or opens it. -1: *error. */
int save_file_open(const char *path, GError **error);

bool save_format_parse(const char *name, enum save_format *ret);
/* A program that packs what is written to *ret_fd into fd. finish: waits for its end. */
struct save_packer;
struct save_packer *save_packer_new(enum save_format format, int fd, int *ret_fd, GError **error);
bool save_packer_finish(struct save_packer *p, GError **error) G_GNUC_WARN_UNUSED_RESULT; /* its descriptor is closed already */
