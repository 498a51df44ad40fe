/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Weight and limits of a machine's block I/O by device of the host (virsh blkiotune). */
#include <string.h>

#include "manage/drivers/domain/tune/domain_tune.h"

enum { AFFECT = VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG, NFIELDS = 6, WEIGHT_MIN = 100, WEIGHT_MAX = 1000, DEVICES_MAX = 1024 };

static const struct tune_field fields[NFIELDS] = {
    { VIR_DOMAIN_BLKIO_WEIGHT, TUNE_U32 }, { VIR_DOMAIN_BLKIO_DEVICE_WEIGHT, TUNE_STRING }, { VIR_DOMAIN_BLKIO_DEVICE_READ_IOPS, TUNE_STRING },
    { VIR_DOMAIN_BLKIO_DEVICE_WRITE_IOPS, TUNE_STRING }, { VIR_DOMAIN_BLKIO_DEVICE_READ_BPS, TUNE_STRING }, { VIR_DOMAIN_BLKIO_DEVICE_WRITE_BPS, TUNE_STRING } };
static const struct {
    const char *element;
    enum cgroup_io what;
    uint64_t max;
} rows[NFIELDS] = { { NULL, 0, 0 }, { "weight", CGROUP_IO_WEIGHT, WEIGHT_MAX }, { "read_iops_sec", CGROUP_IO_READ_IOPS, UINT32_MAX }, { "write_iops_sec", CGROUP_IO_WRITE_IOPS, UINT32_MAX },
                    { "read_bytes_sec", CGROUP_IO_READ_BYTES, G_MAXINT64 }, { "write_bytes_sec", CGROUP_IO_WRITE_BYTES, G_MAXINT64 } };

struct device_value {
    unsigned field;
    char *path;
    uint64_t value; /* 0: none */
};

struct wish {
    bool weight_given;
    unsigned weight;
    GArray *devices; /* of struct device_value */
};

static void clear_device(void *o) { g_free(((struct device_value *)o)->path); }

/* "/dev/sda,500,/dev/sdb,600" */
static bool read_devices(struct wish *w, unsigned field, const char *text, GError **error)
{
    g_auto(GStrv) words = g_strsplit(text, ",", 2 * DEVICES_MAX);
    for (char **p = words; *p && **p; p += 2) {
        uint64_t v = 0;
        if (**p != '/' || !p[1] || !g_ascii_string_to_unsigned(p[1], 10, 0, rows[field].max, &v, NULL) || (field == 1 && v && v < WEIGHT_MIN))
            return manage_fail(error, VIR_ERR_INVALID_ARG, "unable to parse blkio device '%s' '%s'", fields[field].name, text);
        struct device_value one = { field, g_strdup(*p), v };
        g_array_append_val(w->devices, one);
    }
    return true;
}

static bool read_wish(GVariant *params, struct wish *w, GError **error)
{
    GVariant *values[NFIELDS];
    if (!tune_fields(params, fields, NFIELDS, values, error))
        return false;
    bool ok = true;
    w->weight_given = values[0] != NULL;
    w->weight = values[0] ? g_variant_get_uint32(values[0]) : 0;
    if (w->weight && (w->weight < WEIGHT_MIN || w->weight > WEIGHT_MAX))
        ok = manage_fail(error, VIR_ERR_INVALID_ARG, "weight '%u' must be in range [%d, %d]", w->weight, WEIGHT_MIN, WEIGHT_MAX);
    for (unsigned i = 1; ok && i < NFIELDS; i++)
        ok = !values[i] || read_devices(w, i, g_variant_get_string(values[i], NULL), error);
    tune_fields_clear(values, NFIELDS);
    return ok;
}

/* ---- in documents ---- */

static void edit_device(struct el *root, const struct device_value *v)
{
    struct el *tune = el_find(root, "blkiotune"), *device = NULL;
    bool empty = true;
    if (!tune)
        tune = el_add(root, "blkiotune");
    el_each(e, tune, "device")
        if (el_is(e, "path", v->path))
            device = e;
    if (!device && !v->value)
        return;
    if (!device) {
        device = el_add(tune, "device");
        el_set(device, "path", v->path);
    }
    if (v->value)
        el_setf(device, rows[v->field].element, "%" G_GUINT64_FORMAT, v->value);
    else
        el_set(device, rows[v->field].element, NULL);
    for (unsigned i = 1; i < NFIELDS; i++)
        empty &= !el_find(device, rows[i].element);
    if (empty)
        el_remove(device);
}

static void edit(struct el *root, void *opaque)
{
    const struct wish *w = opaque;
    if (w->weight_given && w->weight)
        el_setf(root, "blkiotune/weight", "%u", w->weight);
    else if (w->weight_given)
        el_set(root, "blkiotune/weight", NULL);
    for (unsigned i = 0; i < w->devices->len; i++)
        edit_device(root, &g_array_index(w->devices, struct device_value, i));
    tune_prune(root, "blkiotune");
}

/* ---- calls ---- */

static bool set_live(struct domain *d, const struct wish *w, GError **error)
{
    cgroup_auto *g = domain_cgroup_need(d, CGROUP_IO, error);
    if (!g || (w->weight_given && w->weight && !cgroup_set_weight(g, w->weight, error)))
        return false;
    for (unsigned i = 0; i < w->devices->len; i++) {
        const struct device_value *v = &g_array_index(w->devices, struct device_value, i);
        if (!cgroup_set_device(g, rows[v->field].what, v->path, v->value, error))
            return false;
    }
    return true;
}

static GVariant *set_blkio(struct manage_call *c, GError **error)
{
    uint32_t flags = tune_u32(c, 2), which;
    g_autoptr(GVariant) params = g_variant_get_child_value(c->args, 1);
    g_autoptr(GArray) devices = g_array_new(FALSE, FALSE, sizeof(struct device_value));
    g_array_set_clear_func(devices, clear_device);
    struct wish w = { .devices = devices };
    if (!manage_check_flags(flags, AFFECT, error) || !read_wish(params, &w, error))
        return NULL;
    struct domain *d = tune_begin(c, "set blkio parameters", flags, &which, error);
    if (!d)
        return NULL;
    bool ok = tune_privileged(d, "Block I/O", error) && (!(which & VIR_DOMAIN_AFFECT_LIVE) || set_live(d, &w, error));
    return tune_end(d, ok && domain_edit(d, which, edit, &w, error));
}

static char *device_list(const struct el *root, const char *element)
{
    GString *s = g_string_new(NULL);
    el_each(e, el_find(root, "blkiotune"), "device") {
        uint64_t v = 0;
        if (el_get_u64(e, element, &v) && v)
            g_string_append_printf(s, "%s%s,%" G_GUINT64_FORMAT, s->len ? "," : "", el_get_or(e, "path", ""), v);
    }
    return g_string_free(s, FALSE);
}

static GVariant *get_blkio(struct manage_call *c, GError **error)
{
    int asked;
    bool live;
    uint64_t weight = 0;
    unsigned now;
    uint32_t flags = tune_u32(c, 2);
    g_variant_get_child(c->args, 1, "i", &asked);
    domain_auto *d = manage_check_flags(flags, AFFECT | VIR_TYPED_PARAM_STRING_OKAY, error) ? domain_of_call(c, 0, error) : NULL;
    if (!d || !tune_privileged(d, "Block I/O", error))
        return NULL;
    doc_auto *doc = tune_document(d, flags, &live, error);
    cgroup_auto *g = doc && live ? domain_cgroup_need(d, CGROUP_IO, error) : NULL;
    if (!doc || (live && !g))
        return NULL;
    el_get_u64(doc_root(doc), "blkiotune/weight", &weight);
    if (g && cgroup_get_weight(g, &now))
        weight = now;
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(sv)"));
    manage_param_u32(&b, fields[0].name, (uint32_t)weight);
    for (unsigned i = 1; i < NFIELDS && (!asked || (int)i < asked); i++) {
        g_autofree char *list = device_list(doc_root(doc), rows[i].element);
        manage_param_string(&b, fields[i].name, list);
    }
    return manage_params_reply(&b, asked);
}

const struct manage_row domain_rows_blkio[] = {
    { RPC_DOMAIN_SET_BLKIO_PARAMETERS, set_blkio },
    { RPC_DOMAIN_GET_BLKIO_PARAMETERS, get_blkio },
    { 0, NULL },
};
