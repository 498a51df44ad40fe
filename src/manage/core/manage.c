/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "manage/core/manage.h"

#include <libvirt/libvirt.h>
#include <string.h>
#include <unistd.h>

#include "manage/core/manage_private.h"
#include "manage/core/manage_services.h"
#include "manage/rpc/rpc_message.h"
#include "manage/rpc/rpc_xdr.h"

/* ---- state ---- */

void manage_dirs_find(struct manage_dirs *d, const char *root, bool privileged)
{
    if (root || privileged) {
        const char *r = root ? root : "";
        *d = (struct manage_dirs){ g_strconcat(r, "/etc/vireo", NULL), g_strconcat(r, "/run/vireo", NULL), g_strconcat(r, "/var/lib/vireo", NULL),
                                   g_strconcat(r, "/var/log/vireo", NULL), g_strconcat(r, "/var/cache/vireo", NULL) };
        return;
    }
    *d = (struct manage_dirs){ g_build_filename(g_get_user_config_dir(), "vireo", NULL), g_build_filename(g_get_user_runtime_dir(), "vireo", NULL),
                               g_build_filename(g_get_user_data_dir(), "vireo", NULL), g_build_filename(g_get_user_cache_dir(), "vireo", "log", NULL),
                               g_build_filename(g_get_user_cache_dir(), "vireo", NULL) };
}

void manage_dirs_clear(struct manage_dirs *d)
{
    g_free(d->config);
    g_free(d->state);
    g_free(d->lib);
    g_free(d->log);
    g_free(d->cache);
}

static void add_rows(struct manage_private *p, const struct manage_row *r)
{
    for (; r && r->fn; r++) {
        g_assert(r->proc < RPC_NPROCS && !p->handlers[r->proc]); /* a procedure stands in one driver */
        p->handlers[r->proc] = r->fn;
    }
}

struct manage_state *manage_state_new(const struct manage_table *table, const char *root, GMainContext *context, GError **error)
{
    struct manage_state *s = g_new0(struct manage_state, 1);
    s->table = table;
    s->privileged = geteuid() == 0;
    s->context = g_main_context_ref(context);
    s->uri = g_strdup(s->privileged ? "qemu:///system" : "qemu:///session");
    s->vmm = manage_find_vmm();
    s->events = manage_events_new();
    s->p = g_new0(struct manage_private, 1);
    s->p->services = g_new0(struct manage_services, 1);
    s->services = s->p->services;
    manage_dirs_find(&s->dirs, root, s->privileged);
    unsigned n = 0;
    while (table->drivers[n])
        n++;
    s->p->data = g_new0(void *, n + 1);
    add_rows(s->p, manage_event_rows);
    for (unsigned i = 0; i < n; i++) {
        add_rows(s->p, table->drivers[i]->rows);
        for (const struct manage_row *const *more = table->drivers[i]->more_rows; more && *more; more++)
            add_rows(s->p, *more);
    }
    for (unsigned i = 0; i < n; i++) {
        if (table->drivers[i]->start && !table->drivers[i]->start(s, &s->p->data[i], error)) {
            manage_state_free(s);
            return NULL;
        }
    }
    for (unsigned i = 0; i < n; i++)
        if (table->drivers[i]->autostart)
            table->drivers[i]->autostart(s, s->p->data[i]);
    return s;
}

void manage_state_free(struct manage_state *s)
{
    if (!s)
        return;
    unsigned n = 0;
    while (s->table->drivers[n])
        n++;
    while (n-- > 0)
        if (s->table->drivers[n]->stop && (s->p->data[n] || !s->table->drivers[n]->start))
            s->table->drivers[n]->stop(s, s->p->data[n]);
    manage_events_free(s->events);
    manage_dirs_clear(&s->dirs);
    g_free(s->uri);
    g_free(s->vmm);
    g_free(s->host_uuid);
    g_main_context_unref(s->context);
    g_free(s->p->data);
    g_free(s->p->services);
    g_free(s->p);
    g_free(s);
}

void manage_state_reload(struct manage_state *s)
{
    for (unsigned i = 0; s->table->drivers[i]; i++)
        if (s->table->drivers[i]->reload)
            s->table->drivers[i]->reload(s, s->p->data[i]);
}

void *manage_data(struct manage_state *s, const char *driver)
{
    for (unsigned i = 0; s->table->drivers[i]; i++)
        if (!strcmp(s->table->drivers[i]->name, driver))
            return s->p->data[i];
    return NULL;
}

manage_handler manage_find(const struct manage_state *s, unsigned proc)
{
    return proc < RPC_NPROCS ? s->p->handlers[proc] : NULL;
}

struct manage_services *manage_services_of(struct manage_state *s) { return s->p->services; }

/* ---- connections ---- */

struct manage_conn *manage_conn_new(struct manage_state *s)
{
    struct manage_conn *c = g_new0(struct manage_conn, 1);
    c->refs = 1;
    c->state = s;
    c->id = (uint64_t)g_atomic_int_add(&s->p->next_conn, 1) + 1;
    c->uid = (uid_t)-1;
    c->gid = (gid_t)-1;
    return c;
}

struct manage_conn *manage_conn_ref(struct manage_conn *c)
{
    g_atomic_int_inc(&c->refs);
    return c;
}

void manage_conn_unref(struct manage_conn *c)
{
    if (!c || !g_atomic_int_dec_and_test(&c->refs))
        return;
    if (c->destroy)
        c->destroy(c);
    g_free(c->uri);
    g_free(c);
}

void manage_conn_close(struct manage_conn *c)
{
    struct manage_state *s = c->state;
    c->open = false;
    manage_events_forget(s->events, c);
    for (unsigned i = 0; s->table->drivers[i]; i++)
        if (s->table->drivers[i]->conn_closed)
            s->table->drivers[i]->conn_closed(c, s->p->data[i]);
}

/* ---- calls ---- */

bool manage_check_flags(uint32_t flags, uint32_t known, GError **error)
{
    if (flags & ~known)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "unsupported flags (0x%x)", flags & ~known);
    return true;
}

/* Calls that read, except with these flags: they show secrets, or have the guest's agent work. `index`: the argument. */
static bool needs_write(const struct manage_call *c)
{
    static const struct { uint16_t proc; uint8_t index; uint32_t flags; } rows[] = {
        { RPC_DOMAIN_GET_XML_DESC, 1, VIR_DOMAIN_XML_SECURE | VIR_DOMAIN_XML_MIGRATABLE },
        { RPC_DOMAIN_SNAPSHOT_GET_XML_DESC, 1, VIR_DOMAIN_XML_SECURE },
        { RPC_DOMAIN_CHECKPOINT_GET_XML_DESC, 1, VIR_DOMAIN_XML_SECURE },
        { RPC_DOMAIN_MANAGED_SAVE_GET_XML_DESC, 1, VIR_DOMAIN_XML_SECURE },
        { RPC_DOMAIN_GET_VCPUS_FLAGS, 1, VIR_DOMAIN_VCPU_GUEST },
    };
    uint32_t value;
    if (c->proc->number == RPC_DOMAIN_INTERFACE_ADDRESSES) {
        g_variant_get_child(c->args, 1, "u", &value);
        return value == VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (rows[i].proc != c->proc->number)
            continue;
        g_variant_get_child(c->args, rows[i].index, "u", &value);
        return (value & rows[i].flags) != 0;
    }
    return false;
}

GVariant *manage_reply_encoded(struct manage_call *c, GByteArray *m)
{
    c->encoded = m;
    return manage_void();
}

GVariant *manage_reply_i32(struct manage_call *c, unsigned n, ...)
{
    GByteArray *m = rpc_message_blank();
    va_list numbers;
    va_start(numbers, n);
    while (n-- > 0)
        rpc_put_u32(m, (uint32_t)va_arg(numbers, int));
    va_end(numbers);
    return manage_reply_encoded(c, m);
}

GVariant *manage_dispatch(struct manage_call *c, GError **error)
{
    const struct rpc_proc *p = c->proc;
    manage_handler fn = manage_find(c->conn->state, p->number);
    if (!fn || (p->flags & RPC_EVENT))
        return manage_null(error, VIR_ERR_NO_SUPPORT, "this function is not supported by the connection driver: %s", p->name);
    if (!c->conn->open && !(p->flags & RPC_FREE))
        return manage_null(error, VIR_ERR_INTERNAL_ERROR, "connection not open");
    if (c->conn->readonly && (p->flags & RPC_WRITE))
        return manage_null(error, VIR_ERR_OPERATION_DENIED, "operation %s forbidden for read only access", p->name);
    if (!g_variant_is_of_type(c->args, G_VARIANT_TYPE(p->args_type)))
        return manage_null(error, VIR_ERR_INTERNAL_ERROR, "%s: arguments of type %s instead of %s", p->name, g_variant_get_type_string(c->args), p->args_type);
    if (c->conn->readonly && needs_write(c))
        return manage_null(error, VIR_ERR_OPERATION_DENIED, "operation %s with these flags forbidden for read only access", p->name);
    GVariant *ret = fn(c, error);
    if (!ret)
        return NULL;
    ret = g_variant_take_ref(ret);
    if (c->encoded && c->encodes)
        return ret;
    if (c->encoded) {
        g_autoptr(GByteArray) m = g_steal_pointer(&c->encoded);
        g_variant_unref(ret);
        return rpc_decode_as(p->ret, p->ret_type, m->data + RPC_HEADER, m->len - RPC_HEADER, NULL, error);
    }
    if (g_variant_is_of_type(ret, G_VARIANT_TYPE(p->ret_type)))
        return ret;
    g_critical("%s: the driver answered %s instead of %s", p->name, g_variant_get_type_string(ret), p->ret_type);
    g_variant_unref(ret);
    return manage_null(error, VIR_ERR_INTERNAL_ERROR, "%s: the driver's answer has the wrong type", p->name);
}

void manage_call_stream(struct manage_call *c, const struct manage_stream_ops *ops, void *opaque, bool sparse)
{
    c->stream = g_new0(struct manage_stream, 1);
    *c->stream = (struct manage_stream){ ops, opaque, sparse };
}
