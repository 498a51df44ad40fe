/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An accelerator for unit tests: keeps state and interrupt lines, runs nothing (its vCPUs halt). Included once by a test. */
#pragma once

#include <stdatomic.h>
#include <string.h>

#include "accel/accel.h"
#include "cpu/x86/x86_state.h"

#define FAKE_MAX_CPUS 8
#define FAKE_MAX_MAPS 64

struct accel_vcpu {
    struct accel *accel;
    unsigned index;
    _Atomic bool intr, kicked;
    _Atomic unsigned nmis, runs;
    struct x86_state state;
};
struct accel {
    const struct accel_bus *bus;
    void *opaque;
    struct accel_vcpu *vcpus[FAKE_MAX_CPUS];
    struct { uint64_t gpa, size; void *host; bool readonly; } maps[FAKE_MAX_MAPS];
    unsigned nmaps;
    _Atomic uint64_t written;
    enum accel_exit exit; /* what running a vCPU gives */
};

static int fake_probe(const char *device, GError **error) { return 2; }
static struct accel *fake_create(const struct accel_config *config, GError **error)
{
    struct accel *a = g_new0(struct accel, 1);
    a->bus = config->bus;
    a->opaque = config->opaque;
    a->exit = ACCEL_EXIT_HALT;
    return a;
}
static void fake_destroy(struct accel *a) { g_free(a); }
static bool fake_map_ram(struct accel *a, uint64_t gpa, uint64_t size, void *host, bool readonly, GError **error)
{
    g_assert_cmpuint(a->nmaps, <, FAKE_MAX_MAPS);
    a->maps[a->nmaps].gpa = gpa;
    a->maps[a->nmaps].size = size;
    a->maps[a->nmaps].host = host;
    a->maps[a->nmaps++].readonly = readonly;
    return true;
}
static void fake_unmap_ram(struct accel *a, uint64_t gpa, uint64_t size)
{
    for (unsigned i = 0; i < a->nmaps; i++) {
        if (a->maps[i].gpa == gpa && a->maps[i].size == size) {
            a->maps[i] = a->maps[--a->nmaps];
            return;
        }
    }
    g_error("memory that was not mapped is unmapped: %#lx", (unsigned long)gpa);
}
static void fake_ram_written(struct accel *a, uint64_t gpa, uint64_t size) { atomic_fetch_add(&a->written, size); }
static struct accel_vcpu *fake_vcpu_create(struct accel *a, unsigned index, GError **error)
{
    struct accel_vcpu *v = aligned_alloc(64, (sizeof(*v) + 63) & ~63ul);
    memset(v, 0, sizeof(*v));
    v->accel = a;
    v->index = index;
    a->vcpus[index] = v;
    return v;
}
static void fake_vcpu_destroy(struct accel_vcpu *v) { free(v); }
static enum accel_exit fake_vcpu_run(struct accel_vcpu *v)
{
    atomic_fetch_add(&v->runs, 1);
    return atomic_exchange(&v->kicked, false) ? ACCEL_EXIT_KICKED : v->accel->exit;
}
static const char *fake_vcpu_error(struct accel_vcpu *v) { return "fake"; }
static void fake_vcpu_kick(struct accel_vcpu *v) { atomic_store(&v->kicked, true); }
static void fake_vcpu_interrupt(struct accel_vcpu *v, enum accel_irq irq, bool level)
{
    if (irq == ACCEL_IRQ_INTR)
        atomic_store(&v->intr, level);
    else if (irq == ACCEL_IRQ_NMI)
        atomic_fetch_add(&v->nmis, 1);
}
static bool fake_vcpu_has_work(struct accel_vcpu *v) { return false; }
static void fake_vcpu_get_state(struct accel_vcpu *v, struct x86_state *ret) { *ret = v->state; }
static bool fake_vcpu_set_state(struct accel_vcpu *v, const struct x86_state *s, GError **error)
{
    v->state = *s;
    return true;
}

static const struct accel_ops fake_accel = {
    .name = "fake", .help = "for tests", .probe = fake_probe, .create = fake_create, .destroy = fake_destroy, .map_ram = fake_map_ram,
    .unmap_ram = fake_unmap_ram, .ram_written = fake_ram_written, .vcpu_create = fake_vcpu_create, .vcpu_destroy = fake_vcpu_destroy,
    .vcpu_run = fake_vcpu_run, .vcpu_error = fake_vcpu_error, .vcpu_kick = fake_vcpu_kick, .vcpu_interrupt = fake_vcpu_interrupt,
    .vcpu_has_work = fake_vcpu_has_work, .vcpu_get_state = fake_vcpu_get_state, .vcpu_set_state = fake_vcpu_set_state,
};

static const struct accel_ops *fake_second; /* another one, when a test has it */

/* What machine.c looks an accelerator up by. */
const struct accel_ops *accel_find(const char *name, const char *device, char **ret_why, GError **error)
{
    *ret_why = NULL;
    return fake_second && !strcmp(name, fake_second->name) ? fake_second : &fake_accel;
}
