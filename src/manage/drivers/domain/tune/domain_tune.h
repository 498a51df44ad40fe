/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a machine may take of its host, and where it runs: <cputune>, <memtune>, <blkiotune>, <numatune>, <resource>, by control groups (domain_cgroup.h) and
 * the affinity of threads. domain_tune.c puts a document's settings in force at the start; domain_pin.c, domain_sched.c, domain_limits.c,
 * domain_blkio.c and domain_iothread.c are the calls that change them.
 */
#pragma once

#include <json-c/json.h>

#include "manage/drivers/domain/domain.h"
#include "manage/drivers/domain/tune/domain_cgroup.h"

/* ---- processors (domain_cpumap.c) ---- */

/* A set of processors or nodes of the host: bit n % 8 of bits[n / 8], as in the API's maps. */
enum { CPU_MAP_BITS = 16384 };
struct cpu_map {
    uint8_t bits[CPU_MAP_BITS / 8];
};

bool cpu_map_parse(struct cpu_map *ret, const char *text); /* "0-3,^2,8"; false: it is not such a list, or empty */
char *cpu_map_format(const struct cpu_map *m);             /* "0-1,3,8"; free it */
bool cpu_map_test(const struct cpu_map *m, unsigned n);
bool cpu_map_empty(const struct cpu_map *m);
bool cpu_map_subset(const struct cpu_map *m, const struct cpu_map *of);
void cpu_map_online(struct cpu_map *ret); /* the host's processors */
void cpu_map_nodes(struct cpu_map *ret);  /* the host's memory nodes */
/* An argument "ay" of a call; VIR_ERR_INVALID_ARG "Empty cpu list for pinning". */
bool cpu_map_argument(struct cpu_map *ret, GVariant *args, unsigned i, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool cpu_map_apply(const struct cpu_map *m, pid_t tid, GError **error) G_GNUC_WARN_UNUSED_RESULT; /* sched_setaffinity(2) */
void cpu_map_of_thread(struct cpu_map *ret, pid_t tid);

/* ---- typed parameters of setters ---- */

enum tune_type { TUNE_U64, TUNE_I64, TUNE_U32, TUNE_I32, TUNE_STRING };
struct tune_field {
    const char *name;
    enum tune_type type;
};
/* The value of each field as a GVariant (owned; NULL: not given), in `ret` of n places. VIR_ERR_ARGUMENT_UNSUPPORTED for others, VIR_ERR_INVALID_ARG for a
 * wrong type or a field that is there twice. */
bool tune_fields(GVariant *params, const struct tune_field *fields, unsigned n, GVariant **ret, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void tune_fields_clear(GVariant **values, unsigned n);

/* ---- calls ---- */

/* The domain of a setter inside a job, and VIR_DOMAIN_AFFECT_* that it means; NULL: error. tune_end() must follow. */
struct domain *tune_begin(struct manage_call *c, const char *job, uint32_t flags, uint32_t *ret_which, GError **error);
GVariant *tune_end(struct domain *d, bool ok);
uint32_t tune_u32(struct manage_call *c, unsigned i);
/* The document that a getter reads: of the running machine or the definition (VIR_DOMAIN_AFFECT_*), a copy. NULL: error. */
struct doc *tune_document(struct domain *d, uint32_t flags, bool *ret_live, GError **error);
/* VIR_ERR_OPERATION_UNSUPPORTED "CPU tuning is not available in session mode"; what: "CPU", "Memory". */
bool tune_privileged(struct domain *d, const char *what, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Takes out an element that has nothing in it any more. */
void tune_prune(struct el *root, const char *name);
/* Event TUNABLE; takes the builder of a(sv). Nothing where it is empty. */
void tune_event(struct domain *d, GVariantBuilder *b);

/* ---- a running machine (domain_tune.c) ---- */

/* Its group; NULL: it has none. cgroup_unref. */
struct cgroup *domain_cgroup(struct domain *d);
/* The group with a controller in it, for a setter; else VIR_ERR_OPERATION_INVALID "cgroup CPU controller is not mounted". */
struct cgroup *domain_cgroup_need(struct domain *d, enum cgroup_controller c, GError **error);
/* The process exists: into its group with the limits of the document. */
bool domain_tune_process(struct domain *d, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Its monitor is there: vCPUs and I/O threads into their groups, on their processors. Again when vCPUs have come. */
bool domain_tune_threads(struct domain *d, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* After a restart of the daemon. */
void domain_tune_found(struct domain *d);

/* Nanoseconds of the whole machine: of its group where it has one, else of its process (domain_stats_cpu.c). */
bool domain_cpu_time(struct domain *d, uint64_t *ret_all, uint64_t *ret_user, uint64_t *ret_system);
bool domain_owns_thread(struct domain *d, pid_t tid);
/* Threads of I/O threads as the machine tells them: of struct domain_vcpu, index is the number in "iothreadN". */
GArray *domain_iothreads(struct domain *d, GError **error);
/* Fills the list of ids up to the number of <iothreads>: 1, 2, ... (domain_iothread.c). */
void domain_iothread_ids(struct el *root);
/* Where the document wants a thread to run: the pin, else <vcpu cpuset>; false: anywhere (*ret is all). */
bool domain_cpus_of(const struct el *root, const char *element, const char *key, unsigned index, struct cpu_map *ret);
/* The child group of a vCPU's or I/O thread's thread: makes it, moves the thread, sets processors, nodes, quota and scheduler. */
bool domain_tune_thread(struct domain *d, struct cgroup *g, const struct el *root, bool vcpu, const struct domain_vcpu *t, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Moves threads of the emulator (all but vCPUs and I/O threads) to these processors. */
bool domain_tune_emulator(struct domain *d, const struct cpu_map *cpus, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- vCPUs (domain_vcpu.c) ---- */

/* Plugs in or takes out until n are there. Inside a job. */
bool domain_vcpus_hotplug(struct domain *d, unsigned n, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* A document with <vcpus>: how many are there before those that are plugged in; is it in order; the others are plugged in. */
/* The live document says which of n vCPUs came after the start: a machine that goes on from this one's state gets them in the same way. */
bool domain_vcpus_list(struct domain *d, unsigned n, GError **error) G_GNUC_WARN_UNUSED_RESULT;
unsigned domain_vcpus_cold(const struct el *root);
bool domain_vcpus_check(const struct el *root, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool domain_vcpus_start(struct domain *d, GError **error) G_GNUC_WARN_UNUSED_RESULT;
