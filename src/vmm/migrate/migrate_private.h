/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between the files of this room. */
#pragma once

#include "vmm/core/machine.h"
#include "vmm/migrate/migrate.h"
#include "vmm/migrate/migrate_stream.h"

/* ---- migrate_ram.c: what RAM there is, in pieces of the guest's address space. ROM and memory of cards are none of it ---- */

struct ram_run { uint64_t gpa, size; uint8_t *host; int fd /* of shared memory; -1 */; uint64_t fd_offset; bool anonymous; };
struct ram_map { struct ram_run *runs; unsigned n; uint64_t pages; };

/* Main thread, machine not running or its memory not changing. */
struct ram_map *ram_map_new(struct machine *m);
void ram_map_free(struct ram_map *r);
struct ram_stats { uint64_t normal, zero; /* pages sent; found to be zero */ };
/* All pages that may hold something, `step` after each piece of work: false ends it. Any thread. */
bool ram_send_all(const struct ram_map *r, const struct migrate_sink *k, struct ram_stats *st, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Pages of dirty_log_read: what is zero now is said to be. */
bool ram_send_runs(const struct ram_map *r, const struct migrate_sink *k, const GArray *runs, struct ram_stats *st, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* For loading: all pages read as zeroes. */
void ram_discard(struct machine *m, const struct ram_map *r);
bool ram_in_bounds(const struct ram_map *r, uint32_t piece, uint64_t first, uint64_t count, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- migrate_state.c ---- */

/* What the machine is, in lines; the caller frees. */
char *state_describe(struct machine *m, const struct ram_map *r);
/* Whether a saved machine of this description fits the machine here; an error names what differs. */
bool state_compare(const char *saved, const char *here, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Ends what devices have under way. Machine not running; main thread. */
void state_drain(struct machine *m);
struct named_state { char *name; GBytes *values; };
/* vCPUs, clocks, controllers, devices, in the order of the table: array of struct named_state, freed by g_ptr_array_unref. NULL with error. ran: the
 * machine was running before it was stopped for this. */
GPtrArray *state_collect(struct machine *m, enum machine_state was, GError **error);
/* states: name (char *) -> GBytes. The machine has been reset. */
bool state_apply(struct machine *m, GHashTable *states, bool *ret_ran, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- migrate_load.c ---- */

struct loader; /* what a stream has had so far */
/* Main thread. discard: pages of this machine that hold something already are cleared when the description fits. */
struct loader *loader_new(struct machine *m);
void loader_free(struct loader *l);
/* Any thread, as long as nothing of the machine changes. */
bool loader_read(struct loader *l, const struct migrate_source *s, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Main thread, after loader_read. */
bool loader_apply(struct loader *l, bool *ret_ran, GError **error) G_GNUC_WARN_UNUSED_RESULT;
uint64_t loader_bytes(const struct loader *l); /* of RAM, so far */

/* ---- migrate_channel.c ---- */

/* A connection: a descriptor that does not wait, with another that ends whoever waits. */
struct channel { int fd, cancel; uint64_t bytes /* atomic */; bool regular; uint64_t limit /* bytes a second, atomic; 0: none */; int64_t window; uint64_t in_window;
                 uint8_t *buffer; size_t buffered, at; };
/* fd is the channel's from now on. */
void channel_init(struct channel *c, int fd);
void channel_clear(struct channel *c);
void channel_cancel(struct channel *c); /* any thread: what waits fails soon, and what comes after */
bool channel_write(void *channel, const void *data, size_t size, GError **error);
bool channel_read(void *channel, void *ret, size_t size, GError **error);
bool channel_flush(struct channel *c, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* "fd:", "unix:", "tcp:", "exec:"; -1 with error. */
int channel_connect(const char *uri, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The same of the other side. *ret_listens: connections are to be accepted. */
int channel_listen(const char *uri, bool *ret_listens, GError **error) G_GNUC_WARN_UNUSED_RESULT;
int channel_accept(int fd, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Whether the form of it is one that there is. */
bool channel_check(const char *uri, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- migrate.c: what both directions share ---- */

enum migrate_status { MIGRATE_NONE, MIGRATE_SETUP, MIGRATE_ACTIVE, MIGRATE_PRE_SWITCHOVER, MIGRATE_DEVICE, MIGRATE_CANCELLING, MIGRATE_CANCELLED, MIGRATE_COMPLETED,
                      MIGRATE_FAILED };
enum migrate_capability { CAP_EVENTS, CAP_RETURN_PATH, CAP_PAUSE_BEFORE_SWITCHOVER, CAP_LATE_BLOCK_ACTIVATE, CAP_XBZRLE, CAP_RDMA_PIN_ALL, CAP_AUTO_CONVERGE,
                          CAP_ZERO_BLOCKS, CAP_COMPRESS, CAP_POSTCOPY_RAM, CAP_X_COLO, CAP_RELEASE_RAM, CAP_BLOCK, CAP_MULTIFD, CAP_DIRTY_BITMAPS,
                          CAP_POSTCOPY_BLOCKTIME, CAP_X_IGNORE_SHARED, CAP_VALIDATE_UUID, CAP_BACKGROUND_SNAPSHOT, CAP_ZERO_COPY_SEND, CAP_POSTCOPY_PREEMPT, NCAPS };

/* What clients set by numbers; migrate.c has the table. */
struct migrate_numbers { int64_t max_bandwidth /* bytes a second; 0: no limit */, downtime_limit /* ms */, throttle_trigger, throttle_initial, throttle_increment, throttle_max /* percent */; };

struct migrate_out;
struct migrate_in;

struct migration {
    struct machine *machine;
    bool caps[NCAPS];
    struct migrate_numbers numbers;         /* the thread that sends reads downtime_limit */
    struct json_object *other_params;       /* remembered, without effect */
    enum migrate_status status;
    struct migrate_out *out;                /* under way, or the last one */
    struct migrate_in *in;
    char *failure;                          /* of the last one, in words */
    bool left;                              /* it was migrated away: the disks are another process's */
};
void migration_set_status(struct migration *g, enum migrate_status s);
const char *migrate_status_name(enum migrate_status s);
struct migration *migration_of(struct machine *m);

/* Runs fn on the main thread and waits for it; false: cancelled meanwhile, fn was not run, or not to its end. */
struct errand_place { GMutex lock; GCond done; bool cancelled; };
void errand_place_init(struct errand_place *p);
void errand_place_clear(struct errand_place *p);
void errand_cancel(struct errand_place *p); /* main thread */
bool errand_run(struct machine *m, struct errand_place *p, bool (*fn)(void *opaque, GError **error), void *opaque, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- migrate_converge.c: capability auto-converge. Main thread ---- */

/* A guest that writes faster than its memory is sent would never be let go: its vCPUs rest for a part of the time that grows. */
struct converge {
    struct machine *machine;
    const struct migrate_numbers *numbers;
    int64_t since;          /* when the period began that is looked at */
    uint64_t dirtied, sent; /* bytes written in it; sent before it */
    unsigned high;          /* periods one after the other in which too much was written */
    unsigned percent;       /* of its time in which a vCPU rests */
    guint timer;
};
void converge_begin(struct converge *c, struct machine *m, const struct migrate_numbers *n);
/* The guest has written so many bytes since the last call; so many have been sent in all. */
void converge_round(struct converge *c, uint64_t dirtied, uint64_t sent);
void converge_end(struct converge *c); /* percent stays */

/* migrate_out.c */
void migrate_out_cancel(struct migrate_out *o);
void migrate_out_free(struct migrate_out *o);
void migrate_out_limits(struct migration *g); /* they have changed */
struct json_object *migrate_out_query(struct migration *g);
/* migrate_in.c */
bool migrate_in_begin(struct migration *g, const char *uri, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void migrate_in_free(struct migrate_in *in);
