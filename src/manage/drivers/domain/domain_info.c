/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a domain is: state, document, numbers. The quick rows read memory under the domain's lock and nothing else. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "manage/drivers/domain/snapshot/domain_moment.h"

enum { XML_FLAGS = VIR_DOMAIN_XML_SECURE | VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_UPDATE_CPU | VIR_DOMAIN_XML_MIGRATABLE };

static uint32_t flags_of(struct manage_call *c)
{
    uint32_t flags;
    g_variant_get_child(c->args, 1, "u", &flags);
    return flags;
}

static GVariant *get_state(struct manage_call *c, GError **error)
{
    domain_auto *d = manage_check_flags(flags_of(c), 0, error) ? domain_of_call(c, 0, error) : NULL;
    if (!d)
        return NULL;
    g_mutex_lock(&d->lock);
    int state = d->state, reason = d->reason;
    g_mutex_unlock(&d->lock);
    return manage_reply_i32(c, 2, state, reason);
}

bool domain_process_time(pid_t pid, uint64_t *ret_user, uint64_t *ret_system)
{
    char path[64], text[1024];
    unsigned long long user = 0, system = 0;
    g_snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    const char *at = pid > 0 && manage_read_small(path, text, sizeof(text)) > 0 ? strrchr(text, ')') : NULL;
    bool ok = at && sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &system) == 2;
    uint64_t tick = 1000000000ull / (uint64_t)sysconf(_SC_CLK_TCK);
    *ret_user = ok ? user * tick : 0;
    *ret_system = ok ? system * tick : 0;
    return ok;
}

uint64_t domain_process_kib(pid_t pid)
{
    char path[64], text[256];
    unsigned long long resident;
    g_snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
    return pid > 0 && manage_read_small(path, text, sizeof(text)) > 0 && sscanf(text, "%*u %llu", &resident) == 1 ? resident * (uint64_t)sysconf(_SC_PAGESIZE) / 1024 : 0;
}

static GVariant *get_info(struct manage_call *c, GError **error)
{
    domain_auto *d = domain_of_call(c, 0, error);
    if (!d)
        return NULL;
    g_mutex_lock(&d->lock);
    uint64_t now = d->id >= 0 && d->balloon_kib ? d->balloon_kib : d->memory_kib, max = d->max_kib;
    int state = d->state;
    unsigned vcpus = d->vcpus;
    pid_t pid = d->pid;
    g_mutex_unlock(&d->lock);
    uint64_t user, system;
    domain_process_time(pid, &user, &system);
    return g_variant_new("(yttqt)", (guchar)state, max, now, (guint16)vcpus, user + system);
}

/* ---- the document ---- */

static void hide_secrets(struct doc *doc)
{
    el_each(graphics, el_find(doc_root(doc), "devices"), "graphics") {
        el_set(graphics, "@passwd", NULL);
        el_set(graphics, "@passwdValidTo", NULL);
    }
}

static GVariant *get_xml_desc(struct manage_call *c, GError **error)
{
    uint32_t flags = flags_of(c);
    domain_auto *d = manage_check_flags(flags, XML_FLAGS, error) ? domain_of_call(c, 0, error) : NULL;
    if (!d)
        return NULL;
    if (c->conn->readonly && (flags & (VIR_DOMAIN_XML_SECURE | VIR_DOMAIN_XML_MIGRATABLE)))
        return manage_null(error, VIR_ERR_OPERATION_DENIED, "operation virDomainGetXMLDesc with secure flag forbidden for read only access");
    doc_auto *doc = flags & VIR_DOMAIN_XML_INACTIVE ? NULL : domain_live(d, NULL);
    bool live = doc != NULL;
    if (!doc && !(doc = domain_definition(d, error)))
        return NULL;
    g_mutex_lock(&d->lock);
    uint64_t now = d->balloon_kib;
    g_mutex_unlock(&d->lock);
    if (live && now)
        el_setf(doc_root(doc), "currentMemory", "%llu", (unsigned long long)now), el_set(doc_root(doc), "currentMemory/@unit", "KiB");
    if (!(flags & VIR_DOMAIN_XML_SECURE))
        hide_secrets(doc);
    doc_auto *portable = live && (flags & VIR_DOMAIN_XML_MIGRATABLE) ? domain_portable(doc) : NULL;
    g_autofree char *text = doc_format(portable ? portable : doc);
    return g_variant_new("(s)", text);
}

/* ---- quick ones ---- */

enum what { ACTIVE, PERSISTENT, UPDATED };

static GVariant *is(struct manage_call *c, enum what what, GError **error)
{
    domain_auto *d = domain_of_call(c, 0, error);
    if (!d)
        return NULL;
    g_mutex_lock(&d->lock);
    int yes = what == ACTIVE ? d->id >= 0 : what == PERSISTENT ? d->persistent : d->updated;
    g_mutex_unlock(&d->lock);
    return manage_reply_i32(c, 1, yes);
}

static GVariant *is_active(struct manage_call *c, GError **error) { return is(c, ACTIVE, error); }
static GVariant *is_persistent(struct manage_call *c, GError **error) { return is(c, PERSISTENT, error); }
static GVariant *is_updated(struct manage_call *c, GError **error) { return is(c, UPDATED, error); }

static GVariant *get_os_type(struct manage_call *c, GError **error)
{
    domain_auto *d = domain_of_call(c, 0, error);
    return d ? g_variant_new("(s)", d->os_type) : NULL;
}

static GVariant *get_max_memory(struct manage_call *c, GError **error)
{
    domain_auto *d = domain_of_call(c, 0, error);
    return d ? g_variant_new("(t)", d->max_kib) : NULL;
}

/* Nothing is labelled: there is no security driver. */
static GVariant *get_security_label(struct manage_call *c, GError **error)
{
    domain_auto *d = domain_of_call(c, 0, error);
    return d ? g_variant_new("(@ayi)", g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, "", 1, 1), 0) : NULL;
}

static GVariant *get_security_labels(struct manage_call *c, GError **error)
{
    domain_auto *d = domain_of_call(c, 0, error);
    return d ? g_variant_new("(@a(ayi)i)", g_variant_new_array(G_VARIANT_TYPE("(ayi)"), NULL, 0), 0) : NULL;
}

/* Deprecation and taint notes. */
static GVariant *get_messages(struct manage_call *c, GError **error)
{
    domain_auto *d = manage_check_flags(flags_of(c), 3, error) ? domain_of_call(c, 0, error) : NULL;
    return d ? g_variant_new("(@as)", g_variant_new_strv(NULL, 0)) : NULL;
}

static GVariant *get_control_info(struct manage_call *c, GError **error)
{
    domain_auto *d = manage_check_flags(flags_of(c), 0, error) ? domain_of_call(c, 0, error) : NULL;
    if (!d)
        return NULL;
    g_mutex_lock(&d->lock);
    bool running = d->id >= 0, busy = d->busy;
    uint64_t ms = busy ? (uint64_t)(g_get_monotonic_time() - d->job_started) / 1000 : 0;
    bool ok = !running || d->monitor;
    g_mutex_unlock(&d->lock);
    if (!running)
        return manage_null(error, VIR_ERR_OPERATION_INVALID, "domain is not running");
    return g_variant_new("(uut)", !ok ? VIR_DOMAIN_CONTROL_ERROR : busy ? VIR_DOMAIN_CONTROL_JOB : VIR_DOMAIN_CONTROL_OK, 0, ms);
}

/* ---- jobs: none that a client could follow or end ---- */

const struct manage_row domain_rows_info[] = {
    { RPC_DOMAIN_GET_STATE, get_state },
    { RPC_DOMAIN_GET_INFO, get_info },
    { RPC_DOMAIN_GET_XML_DESC, get_xml_desc },
    { RPC_DOMAIN_IS_ACTIVE, is_active },
    { RPC_DOMAIN_IS_PERSISTENT, is_persistent },
    { RPC_DOMAIN_IS_UPDATED, is_updated },
    { RPC_DOMAIN_GET_OS_TYPE, get_os_type },
    { RPC_DOMAIN_GET_MAX_MEMORY, get_max_memory },
    { RPC_DOMAIN_GET_SECURITY_LABEL, get_security_label },
    { RPC_DOMAIN_GET_SECURITY_LABEL_LIST, get_security_labels },
    { RPC_DOMAIN_GET_MESSAGES, get_messages },
    { RPC_DOMAIN_GET_CONTROL_INFO, get_control_info },
    { 0, NULL },
};
