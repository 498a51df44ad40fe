/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vireo-img: makes, shows, checks and converts disk images. Each subcommand is one file, img_NAME.c, with one description: its
 * options as rows, and a function that does it with the calls of src/block. Arguments, output and exit status are those of
 * qemu-img, for people and scripts that know it.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/json.h"
#include "base/keyval.h"
#include "block/node.h"

#ifndef VIREO_VERSION
#define VIREO_VERSION "0.1.0"
#endif

/* ---- a subcommand ---- */

enum img_type {
    IMG_FLAG,   /* bool */
    IMG_STRING, /* char * */
    IMG_LIST,   /* GPtrArray * of char *, all that were given */
    IMG_SIZE,   /* uint64_t: bytes, with a suffix; the field's value before is the default */
    IMG_ACTION, /* GPtrArray * of struct img_action *, in the order given */
    IMG_IGNORED
};
struct img_option {
    char letter;      /* 0: none */
    const char *name; /* NULL: none */
    enum img_type type;
    size_t offset;    /* in the command's arguments */
    const char *arg;  /* what help calls its value; NULL: it has none */
    const char *help; /* what it is for; of IMG_SIZE the message says "Invalid HELP specified" */
};
struct img_action {
    const struct img_option *option;
    char *value; /* NULL: none */
};

/* What most commands have, at the beginning of their arguments. */
struct img_common {
    char *format, *cache, *src_cache, *output;
    GPtrArray *objects;
    bool image_opts, quiet, progress, force_share;
};
#define IMG_COMMON(member) offsetof(struct img_common, member)
#define IMG_OBJECT { 0, "object", IMG_LIST, IMG_COMMON(objects), "OBJECT", "a secret: secret,id=ID,data=TEXT or file=FILE" }
#define IMG_IMAGE_OPTS { 0, "image-opts", IMG_FLAG, IMG_COMMON(image_opts), NULL, "file names are options: driver=...,file.filename=..." }
#define IMG_FORMAT { 'f', NULL, IMG_STRING, IMG_COMMON(format), "FORMAT", "format of the image; without it the image's beginning is looked at" }
#define IMG_CACHE { 't', NULL, IMG_STRING, IMG_COMMON(cache), "CACHE", "how it is written: writeback (default), none, writethrough, directsync, unsafe" }
#define IMG_SRC_CACHE { 'T', NULL, IMG_STRING, IMG_COMMON(src_cache), "CACHE", "how it is read: writeback (default), none, ..." }
#define IMG_QUIET { 'q', NULL, IMG_FLAG, IMG_COMMON(quiet), NULL, "say nothing but errors" }
#define IMG_PROGRESS { 'p', NULL, IMG_FLAG, IMG_COMMON(progress), NULL, "show progress (SIGUSR1 shows it once)" }
#define IMG_SHARE { 'U', "force-share", IMG_FLAG, IMG_COMMON(force_share), NULL, "read it although a process is writing it" }
#define IMG_OUTPUT { 0, "output", IMG_STRING, IMG_COMMON(output), "human|json", "form of the output" }
#define IMG_END { 0, NULL, IMG_FLAG, 0, NULL, NULL }

struct img;
struct img_command {
    const char *name, *operands, *summary;
    const struct img_option *options; /* ends with IMG_END */
    size_t args_size;
    unsigned min, max;    /* operands */
    const char *expect;   /* said when it is another number */
    void (*defaults)(void *args); /* NULL: all zero */
    /* Returns the exit status, or a negative number (1 for the program) with *error. */
    int (*run)(struct img *img, void *args, char **operands, unsigned n, GError **error);
    int open_status;      /* of compare: exit status of an error */
    bool last_word;       /* of resize: the last word is no option, even if it begins with '-' */
};
extern const struct img_command *const img_commands[]; /* main.c; ends with NULL */

/* One run of the program. */
struct img {
    const struct img_command *command;
    struct block_graph *graph;
    struct secrets *secrets;
    struct img_watch *watch; /* img_watch.c; NULL: the command is short */
    bool quiet;
};

/* img_options.c: fills args (zeroed, or with defaults) from argv[1..]; *ret_operands is what remains. */
enum img_parsed { IMG_RUN, IMG_HELP, IMG_BAD };
enum img_parsed img_parse(const struct img_command *c, int argc, char **argv, void *args, GPtrArray *ret_operands, GError **error);
void img_args_clear(const struct img_command *c, void *args);
bool img_parse_size(const char *what, const char *text, uint64_t *ret, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* img_help.c */
char *img_help(void);
char *img_help_command(const struct img_command *c);
char *img_man(void);
/* What -o help prints: options of `format`, and of the protocol of filename when that is not NULL. */
bool img_help_options(const char *format, const char *filename, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* All keys are options of the format. */
bool img_check_options(const struct block_driver *d, const struct keyval *kv, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The options of `format` that amend takes. */
bool img_help_amend(const char *format, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- images ---- */

/* img_open.c. --output: true means JSON. */
bool img_output_json(const struct img_common *c, bool *ret, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* cache NULL: writeback. *flags gets BLOCK_DIRECT, BLOCK_NO_FLUSH. what: "cache" or "source cache". */
bool img_cache(const char *what, const char *cache, unsigned *flags, bool *ret_write_through, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Opens a file name or, with c->image_opts, options. flags: BLOCK_...; -U is added. */
struct block_node *img_open(struct img *img, const struct img_common *c, const char *name, unsigned flags, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
struct block_node *img_open_as(struct img *img, const char *name, const char *format, bool image_opts, unsigned flags, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* "snapshot.id=ID", "snapshot.name=NAME" or either alone: reads come from that snapshot from then on. */
bool img_load_snapshot(struct block_node *n, const char *text, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* All -o texts as options; *ret_help: one of them is "help". NULL with error. */
struct keyval *img_join_options(const GPtrArray *texts, bool *ret_help, GError **error);
/* Reads [offset, offset + bytes) of an image; what lies beyond its end is zero. */
int img_read_padded(struct block_node *n, uint64_t offset, uint64_t bytes, void *buffer);
/* Beginning at p: how many bytes (a multiple of unit, or all) are zero (*ret_zero) or are not. */
uint64_t img_zero_run(const uint8_t *p, uint64_t bytes, uint64_t unit, bool *ret_zero);
void *img_buffer(size_t bytes); /* aligned for O_DIRECT; free() */

/* ---- watching a long command ---- */

/* img_watch.c. From now on SIGINT, SIGTERM and SIGHUP cancel, SIGUSR1 prints the progress. To be called before other threads start. */
void img_watch_start(struct img *img, bool progress);
void img_watch_end(struct img *img);
/* The file is new: it is removed when the command does not reach img_keep. NULL: none. */
void img_watch_target(struct img *img, const char *filename);
void img_watch_keep(struct img *img);
/* The work that follows does not look at img_canceled: a signal removes the target and ends the process. */
void img_watch_at_once(struct img *img);
/* 0..1; any thread. */
void img_progress(struct img *img, double part);
/* What block_amend and block_check want: opaque is the struct img. */
void img_progress_cb(void *opaque, double part);
bool img_canceled(struct img *img);
const bool *img_cancel_flag(struct img *img);
/* Sets *error: "interrupted". Returns false. */
bool img_interrupted(struct img *img, GError **error);

/* ---- text ---- */

/* img_text.c: "1.38 MiB", as qemu-img rounds. The caller frees. */
char *img_size_text(uint64_t bytes);
void img_print_json(struct json_object *o);
void img_print_snapshots(const GPtrArray *snapshots);
