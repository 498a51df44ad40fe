/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Domains of the test driver: life cycle and settings. */
#include <string.h>

#include "manage/drivers/test/test.h"

bool test_domain_take(struct test_object *o, GError **error)
{
    struct el *root = doc_root(o->def);
    uint64_t bytes = 0, vcpus = 1;
    if (!el_get_bytes(root, "memory", "KiB", &bytes))
        return manage_fail(error, VIR_ERR_XML_ERROR, "domain '%s' has no <memory>", o->name);
    o->max_kib = o->memory_kib = bytes / 1024;
    if (el_get_bytes(root, "currentMemory", "KiB", &bytes))
        o->memory_kib = MIN(bytes / 1024, o->max_kib);
    el_get_u64(root, "vcpu", &vcpus);
    o->max_vcpus = o->vcpus = (unsigned)vcpus;
    if (el_get_u64(root, "vcpu/@current", &vcpus))
        o->vcpus = MIN((unsigned)vcpus, o->max_vcpus);
    return true;
}

static void set_state(struct manage_call *c, struct test_object *o, int state, int reason, int event, int detail)
{
    o->state = state;
    o->reason = reason;
    test_event(c, o, event, detail);
}

static void run(struct manage_call *c, struct test *t, struct test_object *o, bool paused)
{
    o->active = true;
    o->id = ++t->next_id;
    o->started = g_get_monotonic_time();
    set_state(c, o, VIR_DOMAIN_RUNNING, VIR_DOMAIN_RUNNING_BOOTED, VIR_DOMAIN_EVENT_STARTED, VIR_DOMAIN_EVENT_STARTED_BOOTED);
    if (paused)
        set_state(c, o, VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_USER, VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_PAUSED);
}

/* A transient domain is gone afterwards. */
static void halt(struct manage_call *c, struct test *t, struct test_object *o, int reason, int detail)
{
    o->active = false;
    set_state(c, o, VIR_DOMAIN_SHUTOFF, reason, VIR_DOMAIN_EVENT_STOPPED, detail);
    o->id = -1;
    if (!o->persistent)
        test_remove(t, o);
}

LOCKED(create)
{
    struct test_object *o = test_arg(c, t, TEST_DOMAIN, error);
    uint32_t flags = 0;
    if (!o || !test_want(o, TEST_DOMAIN, false, error))
        return NULL;
    if (g_variant_n_children(c->args) > 1)
        g_variant_get_child(c->args, 1, "u", &flags);
    if (!manage_check_flags(flags, VIR_DOMAIN_START_PAUSED | VIR_DOMAIN_START_AUTODESTROY | VIR_DOMAIN_START_BYPASS_CACHE | VIR_DOMAIN_START_FORCE_BOOT, error))
        return NULL;
    run(c, t, o, flags & VIR_DOMAIN_START_PAUSED);
    return *c->proc->ret ? g_variant_new("(@(sayi))", test_record(o)) : manage_void();
}

LOCKED(create_xml)
{
    const char *xml;
    uint32_t flags;
    g_variant_get(c->args, "(&su)", &xml, &flags);
    if (!manage_check_flags(flags, VIR_DOMAIN_START_PAUSED | VIR_DOMAIN_START_AUTODESTROY | VIR_DOMAIN_START_VALIDATE, error))
        return NULL;
    struct test_object *o = test_define(t, TEST_DOMAIN, xml, false, error);
    if (!o || !test_want(o, TEST_DOMAIN, false, error))
        return NULL;
    run(c, t, o, flags & VIR_DOMAIN_START_PAUSED);
    return g_variant_new("(@(sayi))", test_record(o));
}

LOCKED(define)
{
    const char *xml;
    g_variant_get_child(c->args, 0, "&s", &xml);
    unsigned before = t->objects[TEST_DOMAIN]->len;
    struct test_object *o = test_define(t, TEST_DOMAIN, xml, true, error);
    if (!o)
        return NULL;
    test_event(c, o, VIR_DOMAIN_EVENT_DEFINED, before == t->objects[TEST_DOMAIN]->len ? VIR_DOMAIN_EVENT_DEFINED_UPDATED : VIR_DOMAIN_EVENT_DEFINED_ADDED);
    return g_variant_new("(@(sayi))", test_record(o));
}

LOCKED(undefine)
{
    struct test_object *o = test_arg(c, t, TEST_DOMAIN, error);
    if (!o)
        return NULL;
    if (!o->persistent)
        return manage_null(error, VIR_ERR_OPERATION_INVALID, "cannot undefine transient domain '%s'", o->name);
    o->persistent = false;
    test_event(c, o, VIR_DOMAIN_EVENT_UNDEFINED, VIR_DOMAIN_EVENT_UNDEFINED_REMOVED);
    if (!o->active)
        test_remove(t, o);
    return manage_void();
}

LOCKED(destroy)
{
    struct test_object *o = test_arg(c, t, TEST_DOMAIN, error);
    if (!o || !test_want(o, TEST_DOMAIN, true, error))
        return NULL;
    halt(c, t, o, VIR_DOMAIN_SHUTOFF_DESTROYED, VIR_DOMAIN_EVENT_STOPPED_DESTROYED);
    return manage_void();
}

LOCKED(power_off)
{
    struct test_object *o = test_arg(c, t, TEST_DOMAIN, error);
    if (!o || !test_want(o, TEST_DOMAIN, true, error))
        return NULL;
    halt(c, t, o, VIR_DOMAIN_SHUTOFF_SHUTDOWN, VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN);
    return manage_void();
}

LOCKED(reboot)
{
    struct test_object *o = test_arg(c, t, TEST_DOMAIN, error);
    return o && test_want(o, TEST_DOMAIN, true, error) ? manage_void() : NULL;
}

LOCKED(suspend)
{
    struct test_object *o = test_arg(c, t, TEST_DOMAIN, error);
    if (!o || !test_want(o, TEST_DOMAIN, true, error))
        return NULL;
    if (o->state != VIR_DOMAIN_PAUSED)
        set_state(c, o, VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_USER, VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_PAUSED);
    return manage_void();
}

LOCKED(resume)
{
    struct test_object *o = test_arg(c, t, TEST_DOMAIN, error);
    if (!o || !test_want(o, TEST_DOMAIN, true, error))
        return NULL;
    if (o->state != VIR_DOMAIN_PAUSED)
        return manage_null(error, VIR_ERR_OPERATION_INVALID, "domain '%s' is not paused", o->name);
    set_state(c, o, VIR_DOMAIN_RUNNING, VIR_DOMAIN_RUNNING_UNPAUSED, VIR_DOMAIN_EVENT_RESUMED, VIR_DOMAIN_EVENT_RESUMED_UNPAUSED);
    return manage_void();
}

/* ---- settings ---- */

LOCKED(get_xml)
{
    struct test_object *o = test_arg(c, t, TEST_DOMAIN, error);
    uint32_t flags;
    if (!o)
        return NULL;
    g_variant_get_child(c->args, 1, "u", &flags);
    doc_auto *d = doc_copy(o->def);
    struct el *root = doc_root(d);
    if (o->active && !(flags & VIR_DOMAIN_XML_INACTIVE))
        el_setf(root, "@id", "%d", o->id);
    if (o->memory_kib != o->max_kib || el_find(root, "currentMemory")) {
        el_setf(root, "currentMemory", "%" G_GUINT64_FORMAT, o->memory_kib);
        el_set(root, "currentMemory/@unit", "KiB");
    }
    g_autofree char *xml = doc_format(d);
    return g_variant_new("(s)", xml);
}

LOCKED(set_memory)
{
    struct test_object *o = test_arg(c, t, TEST_DOMAIN, error);
    uint64_t kib;
    if (!o)
        return NULL;
    g_variant_get_child(c->args, 1, "t", &kib);
    if (kib > o->max_kib)
        return manage_null(error, VIR_ERR_INVALID_ARG, "domain '%s' has at most %" G_GUINT64_FORMAT " KiB of memory", o->name, o->max_kib);
    o->memory_kib = kib;
    return manage_void();
}

LOCKED(set_vcpus)
{
    struct test_object *o = test_arg(c, t, TEST_DOMAIN, error);
    uint32_t n;
    if (!o)
        return NULL;
    g_variant_get_child(c->args, 1, "u", &n);
    if (!n || n > o->max_vcpus)
        return manage_null(error, VIR_ERR_INVALID_ARG, "domain '%s' has at most %u vCPUs", o->name, o->max_vcpus);
    o->vcpus = n;
    return manage_void();
}

LOCKED(set_autostart)
{
    struct test_object *o = test_arg(c, t, TEST_DOMAIN, error);
    int on;
    if (!o)
        return NULL;
    g_variant_get_child(c->args, 1, "i", &on);
    o->autostart = on;
    return manage_void();
}

LOCKED(rename_domain)
{
    struct test_object *o = test_arg(c, t, TEST_DOMAIN, error);
    const char *name;
    if (!o)
        return NULL;
    if (o->active)
        return manage_null(error, VIR_ERR_OPERATION_INVALID, "cannot rename active domain");
    g_variant_get_child(c->args, 1, "m&s", &name);
    if (!name || !*name || test_find(t, TEST_DOMAIN, name))
        return manage_null(error, VIR_ERR_OPERATION_INVALID, "domain with name '%s' already exists", name ? name : "");
    test_event(c, o, VIR_DOMAIN_EVENT_UNDEFINED, VIR_DOMAIN_EVENT_UNDEFINED_RENAMED);
    g_free(o->name);
    o->name = g_strdup(name);
    el_set(doc_root(o->def), "name", name);
    test_event(c, o, VIR_DOMAIN_EVENT_DEFINED, VIR_DOMAIN_EVENT_DEFINED_RENAMED);
    return g_variant_new("(i)", 0);
}

/* Title and description; elements of other namespaces are refused by name. */
static const char *metadata_path(int type, GError **error)
{
    if (type == VIR_DOMAIN_METADATA_TITLE || type == VIR_DOMAIN_METADATA_DESCRIPTION)
        return type == VIR_DOMAIN_METADATA_TITLE ? "title" : "description";
    return manage_null(error, VIR_ERR_ARGUMENT_UNSUPPORTED, "the test driver keeps titles and descriptions, no other metadata");
}

LOCKED(set_metadata)
{
    struct test_object *o = test_arg(c, t, TEST_DOMAIN, error);
    int type;
    const char *text, *path;
    if (!o)
        return NULL;
    g_variant_get_child(c->args, 1, "i", &type);
    g_variant_get_child(c->args, 2, "m&s", &text);
    if (!(path = metadata_path(type, error)))
        return NULL;
    el_set(doc_root(o->def), path, text && *text ? text : NULL);
    return manage_void();
}

LOCKED(get_metadata)
{
    struct test_object *o = test_arg(c, t, TEST_DOMAIN, error);
    int type;
    const char *path, *text;
    if (!o)
        return NULL;
    g_variant_get_child(c->args, 1, "i", &type);
    if (!(path = metadata_path(type, error)))
        return NULL;
    text = el_get(doc_root(o->def), path);
    return text ? g_variant_new("(s)", text) : manage_null(error, VIR_ERR_NO_DOMAIN_METADATA, "Requested metadata element is not present");
}

const struct manage_row test_domain_rows[] = {
    { RPC_DOMAIN_CREATE, create },
    { RPC_DOMAIN_CREATE_WITH_FLAGS, create },
    { RPC_DOMAIN_CREATE_XML, create_xml },
    { RPC_DOMAIN_DEFINE_XML, define },
    { RPC_DOMAIN_DEFINE_XML_FLAGS, define },
    { RPC_DOMAIN_UNDEFINE, undefine },
    { RPC_DOMAIN_UNDEFINE_FLAGS, undefine },
    { RPC_DOMAIN_DESTROY, destroy },
    { RPC_DOMAIN_DESTROY_FLAGS, destroy },
    { RPC_DOMAIN_SHUTDOWN, power_off },
    { RPC_DOMAIN_SHUTDOWN_FLAGS, power_off },
    { RPC_DOMAIN_REBOOT, reboot },
    { RPC_DOMAIN_RESET, reboot },
    { RPC_DOMAIN_SUSPEND, suspend },
    { RPC_DOMAIN_RESUME, resume },
    { RPC_DOMAIN_GET_XML_DESC, get_xml },
    { RPC_DOMAIN_SET_MEMORY, set_memory },
    { RPC_DOMAIN_SET_MEMORY_FLAGS, set_memory },
    { RPC_DOMAIN_SET_VCPUS, set_vcpus },
    { RPC_DOMAIN_SET_VCPUS_FLAGS, set_vcpus },
    { RPC_DOMAIN_SET_AUTOSTART, set_autostart },
    { RPC_DOMAIN_RENAME, rename_domain },
    { RPC_DOMAIN_SET_METADATA, set_metadata },
    { RPC_DOMAIN_GET_METADATA, get_metadata },
    { 0, NULL },
};
