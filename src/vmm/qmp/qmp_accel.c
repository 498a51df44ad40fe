/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The accelerator seen from outside: change of it, vCPU state that must come back as it was given, the log of written pages. */
#include <string.h>

#include "base/error.h"
#include "base/keyval.h"
#include "cpu/x86/x86_state_text.h"
#include "vmm/core/dirty_log.h"
#include "vmm/core/machine.h"
#include "vmm/core/page_sample.h"
#include "vmm/qmp/qmp.h"

const struct qmp_arg qmp_accel_switch_args[] = { { "accel", QMP_ARG_STRING }, { NULL } };
const struct qmp_arg qmp_calc_dirty_rate_args[] = { { "calc-time", QMP_ARG_INT }, { "sample-pages", QMP_ARG_INT, true }, { "mode", QMP_ARG_STRING, true },
                                                    { NULL } };

struct json_object *qmp_accel_switch(struct machine *m, struct json_object *args, GError **error)
{
    const char *name = json_object_get_string(json_object_object_get(args, "accel"));
    if (!strcmp(name, "tcg"))
        name = "jit";
    if (!machine_switch_accel(m, name, error))
        return NULL;
    return json_make("accel", json_object_new_string(m->accel_ops->name), NULL);
}

/* ---- vCPU state ---- */

static void differs(void *opaque, const char *name, uint64_t before, uint64_t after)
{
    g_autofree char *a = g_strdup_printf("%#" G_GINT64_MODIFIER "x", before), *b = g_strdup_printf("%#" G_GINT64_MODIFIER "x", after);
    json_object_array_add(opaque, json_make("field", json_object_new_string(name), "before", json_object_new_string(a), "after",
                                            json_object_new_string(b), NULL));
}

static struct json_object *check_vcpu(struct machine *m, unsigned i, struct x86_state *a, struct x86_state *b, GError **error)
{
    vcpu_get_state(m->vcpus[i], a);
    if (!vcpu_set_state(m->vcpus[i], a, error))
        return NULL;
    vcpu_get_state(m->vcpus[i], b);
    struct json_object *differences = json_object_new_array();
    x86_state_compare(a, b, differs, differences);
    return json_make("cpu-index", json_object_new_int((int)i), "differences", differences, NULL);
}

/* [{"cpu-index": 0, "differences": [{"field": "cs.base", "before": "0x0", "after": "0x10"}]}, ...] */
struct json_object *qmp_vcpu_state_check(struct machine *m, struct json_object *args, GError **error)
{
    static const size_t size = (sizeof(struct x86_state) + 63) & ~(size_t)63;
    if (m->state == MACHINE_RUNNING) {
        vireo_fail(error, VIREO_ERROR_FAILED, "the machine runs; stop it first (QMP stop)");
        return NULL;
    }
    json_auto *list = json_object_new_array();
    struct x86_state *a = aligned_alloc(64, size), *b = aligned_alloc(64, size);
    bool ok = true;
    for (unsigned i = 0; ok && i < m->max_vcpus; i++) {
        struct json_object *one = m->vcpus[i] ? check_vcpu(m, i, a, b, error) : NULL;
        ok = one || !m->vcpus[i];
        if (one)
            json_object_array_add(list, one);
    }
    free(a);
    free(b);
    return ok ? json_object_get(list) : NULL;
}

/* ---- the log ---- */

struct json_object *qmp_dirty_log_start(struct machine *m, struct json_object *args, GError **error)
{
    (void)!dirty_log_start(m, error);
    return NULL;
}

struct json_object *qmp_dirty_log_read(struct machine *m, struct json_object *args, GError **error)
{
    g_autoptr(GArray) runs = dirty_log_read(m, error);
    if (!runs)
        return NULL;
    struct json_object *list = json_object_new_array();
    for (unsigned i = 0; i < runs->len; i++) {
        const struct dirty_run *r = &g_array_index(runs, struct dirty_run, i);
        json_object_array_add(list, json_make("gpa", json_object_new_int64((int64_t)r->gpa), "pages", json_object_new_int64((int64_t)r->pages), NULL));
    }
    return list;
}

struct json_object *qmp_dirty_log_stop(struct machine *m, struct json_object *args, GError **error)
{
    if (m->dirty_rate && m->dirty_rate->measuring && !m->dirty_rate->sample)
        vireo_fail(error, VIREO_ERROR_BUSY, "calc-dirty-rate is measuring with the log");
    else
        dirty_log_stop(m);
    return NULL;
}

/* ---- calc-dirty-rate ---- */

/* Main thread; the time is over. */
static gboolean measured(gpointer opaque)
{
    struct machine *m = opaque;
    struct dirty_rate *d = m->dirty_rate;
    g_autoptr(GArray) runs = d->sample ? NULL : dirty_log_read(m, NULL);
    gint64 us = MAX(g_get_monotonic_time() - d->began, 1);
    uint64_t bytes = d->sample ? page_sample_changed(m, d->sample) : runs ? dirty_log_pages(runs) * 4096 : 0;
    d->measuring = 0;
    d->done = runs || d->sample;
    d->mib_per_s = (int64_t)(((uint64_t)((unsigned __int128)bytes * G_USEC_PER_SEC / (uint64_t)us) + (1 << 20) - 1) >> 20); /* rounded up */
    if (d->sample)
        page_sample_free(g_steal_pointer(&d->sample));
    else
        dirty_log_stop(m);
    return G_SOURCE_REMOVE;
}

enum rate_mode { RATE_SAMPLING, RATE_BITMAP, RATE_RING };
enum { SAMPLES_MIN = 128, SAMPLES_DEFAULT = 512, SAMPLES_MAX = 4096 };

static bool check_rate(const struct machine *m, int64_t seconds, enum rate_mode mode, const int64_t *pages, GError **error)
{
    bool ring = m->config->dirty_ring > 0;
    if (m->dirty_rate && m->dirty_rate->measuring)
        return vireo_fail(error, VIREO_ERROR_BUSY, "the dirty rate is already being measured");
    if (seconds < 1 || seconds > 60)
        return vireo_fail(error, VIREO_ERROR_INVALID, "calc-time is out of range [1, 60]: %" G_GINT64_FORMAT " seconds", seconds);
    if (mode != RATE_SAMPLING && (mode == RATE_RING) != ring)
        return vireo_fail(error, VIREO_ERROR_INVALID, "mode %s: this machine logs pages in a %s (-accel kvm,dirty-ring-size=N)",
                          ring ? "dirty-bitmap" : "dirty-ring", ring ? "ring" : "bitmap");
    if (pages && mode != RATE_SAMPLING)
        return vireo_fail(error, VIREO_ERROR_INVALID, "sample-pages is used only in page-sampling mode");
    if (pages && (*pages < SAMPLES_MIN || *pages > SAMPLES_MAX))
        return vireo_fail(error, VIREO_ERROR_INVALID, "sample-pages is out of range [%d, %d]: %" G_GINT64_FORMAT, SAMPLES_MIN, SAMPLES_MAX, *pages);
    return true;
}

struct json_object *qmp_calc_dirty_rate(struct machine *m, struct json_object *args, GError **error)
{
    static const char *const modes[] = { "page-sampling", "dirty-bitmap", "dirty-ring", NULL }; /* enum rate_mode */
    struct json_object *v;
    int64_t seconds = json_object_get_int64(json_object_object_get(args, "calc-time")), pages = 0;
    int mode = RATE_SAMPLING;
    bool given = json_object_object_get_ex(args, "sample-pages", &v);
    if (given)
        pages = json_object_get_int64(v);
    if (json_object_object_get_ex(args, "mode", &v) && !keyval_enum("mode", json_object_get_string(v), modes, &mode, error))
        return NULL;
    if (!check_rate(m, seconds, (enum rate_mode)mode, given ? &pages : NULL, error) || (mode != RATE_SAMPLING && !dirty_log_start(m, error)))
        return NULL;
    if (!m->dirty_rate)
        m->dirty_rate = g_new0(struct dirty_rate, 1);
    *m->dirty_rate = (struct dirty_rate){ .seconds = seconds, .start = g_get_real_time() / G_USEC_PER_SEC, .began = g_get_monotonic_time(),
                                          .ring = mode == RATE_RING };
    if (mode == RATE_SAMPLING) {
        m->dirty_rate->sample_pages = given ? (unsigned)pages : SAMPLES_DEFAULT;
        m->dirty_rate->sample = page_sample_take(m, m->dirty_rate->sample_pages);
    }
    m->dirty_rate->measuring = g_timeout_add_seconds((guint)seconds, measured, m);
    return NULL;
}

struct json_object *qmp_query_dirty_rate(struct machine *m, struct json_object *args, GError **error)
{
    const struct dirty_rate *d = m->dirty_rate;
    const char *status = !d ? "unstarted" : d->measuring ? "measuring" : d->done ? "measured" : "unstarted";
    struct json_object *o = json_make("status", json_object_new_string(status), "start-time", json_object_new_int64(d ? d->start : 0), "calc-time",
                                      json_object_new_int64(d ? d->seconds : 0), "sample-pages",
                                      json_object_new_int64(d ? d->sample_pages : 0), "mode",
                                      json_object_new_string(!d || d->sample_pages ? "page-sampling" : d->ring ? "dirty-ring" : "dirty-bitmap"), NULL);
    if (d && d->done)
        json_object_object_add(o, "dirty-rate", json_object_new_int64(d->mib_per_s));
    return o;
}
