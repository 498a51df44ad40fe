/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Calls about the host: what it is (host_node.c), what an emulator offers (host_emulator.c), and the documents that tell clients of it
 * (host_caps.c, host_domcaps.c, host_cpu.c). Only files of this folder include this one. */
#pragma once

#include "manage/core/manage.h"

/* An emulator, asked over QMP once and again when its file has changed. Constant after it was made. */
struct host_emulator {
    gint refs;
    char *path;
    gint64 mtime, size;
    uint64_t version;         /* 7002000 for 7.2.0 */
    bool is_vireo, kvm;
    char *arch;
    GPtrArray *machines;      /* of struct host_machine * */
    GPtrArray *models;        /* of struct host_model * */
    GHashTable *devices;      /* set of device names */
    GHashTable *commands;     /* set of QMP commands */
    char **max_features;      /* of the model "max", names as the emulator has them */
};
struct host_machine {
    char *name, *canonical; /* canonical: NULL, or what an alias stands for */
    unsigned max_cpus;
    bool is_default;
};
struct host_model {
    char *name;
    bool usable;
    char **lacks;    /* what is missing for it to be usable, names as the emulator has them; NULL: nothing */
    char **features; /* under libvirt's names, sorted; NULL before host_emulator_expand() */
};

/* A reference; path NULL: the state's vireo-vmm. Starts a process: not for quick rows. */
struct host_emulator *host_emulator_get(struct manage_state *s, const char *path, GError **error);
bool host_emulator_runs(const struct host_emulator *e, const char *arch); /* guests of this architecture: a 64-bit machine runs 32-bit ones too */
/* name NULL: the default one; NULL: there is none of this name. */
const struct host_machine *host_emulator_machine(const struct host_emulator *e, const char *name);
/* The models get their features; asked once, by a process of its own. */
bool host_emulator_expand(struct manage_state *s, struct host_emulator *e, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void host_emulator_unref(struct host_emulator *e);
static inline void host_emulator_cleanup(struct host_emulator **e)
{
    if (*e)
        host_emulator_unref(*e);
}
#define host_emulator_auto __attribute__((cleanup(host_emulator_cleanup))) struct host_emulator

struct host_data {
    GMutex lock;            /* emulators */
    GHashTable *emulators;  /* path -> struct host_emulator * */
    char uuid[37];
};

/* Features of the host's CPU from /proc/cpuinfo under libvirt's names; NULL-terminated, g_strfreev. */
char **host_cpu_features(char **ret_vendor);
/* libvirt's name for a feature that an emulator names. */
const char *host_cpu_feature_name(const char *name);
/* In every x86-64 CPU: not listed beside a model. */
bool host_cpu_in_baseline(const char *feature);
/* The best of an emulator's models whose features the host has, by a fixed list; "qemu64" where none fits. */
const char *host_cpu_model(char **features);
/* The <cpu> of <host>, one line a child, indented by 4. */
void host_cpu_xml(GString *out);

struct host_topology {
    unsigned cpus, sockets, cores, threads, nodes, mhz;
    uint64_t memory_kib;
};
void host_topology(struct host_topology *t);
/* A number from a small file of the kernel; `otherwise` where it cannot be read. */
uint64_t host_read_number(uint64_t otherwise, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* "0-3,7" -> number of the highest + 1; bits set in map (size bytes) where given. */
unsigned host_parse_list(const char *text, uint8_t *map, gsize size);

extern const struct manage_row host_rows[], host_node_rows[], host_tune_rows[], host_sysinfo_rows[], host_caps_rows[];
GVariant *host_capabilities(struct manage_call *c, GError **error);
GVariant *host_domain_capabilities(struct manage_call *c, GError **error);
GVariant *host_compare_cpu(struct manage_call *c, GError **error);
GVariant *host_baseline_cpu(struct manage_call *c, GError **error);
GVariant *host_cpu_model_names(struct manage_call *c, GError **error);
