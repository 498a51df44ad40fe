/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Control groups of machines: where the host has its controllers (v1, v2, or some of each), a group for a domain, values in it. Knows no domain.
 * Layout, as libvirt has it on a host without systemd-machined; BASE is the mount point, or the group below it that the whole daemon is confined to:
 *
 *   BASE/machine/qemu-ID-NAME.libvirt-qemu             memory, block I/O, and the processor time of all of it
 *   BASE/machine/qemu-ID-NAME.libvirt-qemu/emulator    all threads but those below (cpu, cpuacct, cpuset; threaded groups on v2)
 *   BASE/machine/qemu-ID-NAME.libvirt-qemu/vcpuN       the thread of one vCPU
 *   BASE/machine/qemu-ID-NAME.libvirt-qemu/iothreadN   the thread of one I/O thread
 *
 * A partition "/machine/a" of a document is the directory machine/a.partition, made by the administrator. Kernel documentation: admin-guide/cgroup-v1,
 * admin-guide/cgroup-v2.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum cgroup_controller { CGROUP_CPU, CGROUP_CPUACCT, CGROUP_CPUSET, CGROUP_MEMORY, CGROUP_IO, CGROUP_NCONTROLLERS };

/* Where the controllers are; constant, shared by all groups. Counted. */
struct cgroup_host {
    struct cgroup_place {
        char *base; /* directory; NULL: the controller is not there */
        bool v2;
    } at[CGROUP_NCONTROLLERS];
};

/* A domain's group; constant but for what is in the files. Counted: who reads values holds a reference while the domain may end. */
struct cgroup {
    struct cgroup_host *host;
    char *path;        /* below each base */
    unsigned have;     /* bits 1 << controller */
};

/* Reads ROOT/proc/self/mountinfo and ROOT/proc/self/cgroup; root "" is the host itself, another one is for tests. Never NULL. */
struct cgroup_host *cgroup_host_new(const char *root);
void cgroup_host_unref(struct cgroup_host *h);

/* The directory name of a machine: "qemu-1-web.libvirt-qemu". salt: tells daemons apart that number their machines each for themselves; may be NULL. Free it. */
char *cgroup_machine_name(int id, const char *name, const char *salt);
/* "machine/a.partition" for "/machine/a". Free it. */
char *cgroup_partition_path(const char *partition);

/* Makes the group in every controller that lets us. NULL without an error: none does. NULL with one: the partition is not there, or the group is another's.
 * Its child "emulator" is made with it. */
struct cgroup *cgroup_make(struct cgroup_host *h, const char *partition, const char *name, GError **error);
/* The group of a machine that was there before us; NULL: there is none. */
struct cgroup *cgroup_open(struct cgroup_host *h, const char *partition, const char *name);
struct cgroup *cgroup_ref(struct cgroup *g);
void cgroup_unref(struct cgroup *g);
static inline void cgroup_cleanup(struct cgroup **g)
{
    cgroup_unref(*g);
}
#define cgroup_auto __attribute__((cleanup(cgroup_cleanup))) struct cgroup
/* Takes the group and its children away. Its processes have ended, or are about to: waits for them for a second. */
void cgroup_remove(struct cgroup *g);

bool cgroup_has(const struct cgroup *g, enum cgroup_controller c); /* g may be NULL */
bool cgroup_is_v2(const struct cgroup *g, enum cgroup_controller c);
const char *cgroup_controller_name(enum cgroup_controller c);

/* A group for threads inside it ("vcpu0"): of cpu, cpuacct and cpuset. One that is there is fine. */
bool cgroup_make_child(struct cgroup *g, const char *child, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void cgroup_remove_child(struct cgroup *g, const char *child);
/* The process with all its threads: into the group, and into `child` where the controller has such. */
bool cgroup_add_process(struct cgroup *g, const char *child, pid_t pid, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool cgroup_add_thread(struct cgroup *g, const char *child, pid_t tid, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- values (domain_cgroup_value.c); child NULL: the domain's group ---- */

/* The text of a file without its newline; NULL where it cannot be read. Free it. */
char *cgroup_read(const struct cgroup *g, const char *child, enum cgroup_controller c, const char *file);
bool cgroup_write(const struct cgroup *g, const char *child, enum cgroup_controller c, const char *file, const char *value, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Getters: false where there is no such value. Shares: v1 2 to 262144; v2 (as weight) 1 to 10000. */
bool cgroup_set_shares(const struct cgroup *g, uint64_t shares, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool cgroup_get_shares(const struct cgroup *g, uint64_t *ret);
/* Microseconds; 0: stays as it is. quota < 0: no limit. */
bool cgroup_set_bandwidth(const struct cgroup *g, const char *child, uint64_t period, int64_t quota, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool cgroup_get_bandwidth(const struct cgroup *g, const char *child, uint64_t *ret_period, int64_t *ret_quota);

/* KiB; CGROUP_UNLIMITED: none. swap: memory and swap together (v2 counts swap alone: made into that). */
#define CGROUP_UNLIMITED UINT64_C(9007199254740991)
enum cgroup_limit { CGROUP_HARD, CGROUP_SOFT, CGROUP_SWAP };
bool cgroup_set_memory(const struct cgroup *g, enum cgroup_limit which, uint64_t kib, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool cgroup_get_memory(const struct cgroup *g, enum cgroup_limit which, uint64_t *ret_kib);

/* Block I/O. value 0: no limit of its own. `path` is a block device's. */
enum cgroup_io { CGROUP_IO_WEIGHT, CGROUP_IO_READ_IOPS, CGROUP_IO_WRITE_IOPS, CGROUP_IO_READ_BYTES, CGROUP_IO_WRITE_BYTES };
bool cgroup_set_weight(const struct cgroup *g, unsigned weight, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool cgroup_get_weight(const struct cgroup *g, unsigned *ret);
bool cgroup_set_device(const struct cgroup *g, enum cgroup_io which, const char *path, uint64_t value, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Lists as "0-3,8". */
bool cgroup_set_cpus(const struct cgroup *g, const char *child, const char *cpus, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool cgroup_set_mems(const struct cgroup *g, const char *child, const char *nodes, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Nanoseconds of processor time. */
bool cgroup_get_time(const struct cgroup *g, uint64_t *ret_all, uint64_t *ret_user, uint64_t *ret_system);
/* By processor of the host, of uint64_t; NULL: v2 does not count so. g_array_unref. */
GArray *cgroup_get_time_by_cpu(const struct cgroup *g, const char *child);
