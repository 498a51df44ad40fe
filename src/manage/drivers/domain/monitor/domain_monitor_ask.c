/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Commands to machines: one and its answer, or several on their way at once. */
#include <fcntl.h>
#include <json-c/json.h>
#include <string.h>

#include "manage/drivers/domain/monitor/domain_monitor.h"

enum { COMMAND_SECONDS = 60 };

/* Takes args over. */
static void command_text(GString *text, const struct monitor_question *q, uint64_t id)
{
    struct json_object *o = json_object_new_object();
    json_object_object_add(o, "execute", json_object_new_string(q->name));
    if (q->args)
        json_object_object_add(o, "arguments", q->args);
    json_object_object_add(o, "id", json_object_new_int64((int64_t)id));
    g_string_append(text, json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
    g_string_append(text, "\r\n");
    json_object_put(o);
}

static struct json_object *result(struct json_object *o, const char *name, GError **error)
{
    struct json_object *e = json_object_object_get(o, "error"), *ret = NULL;
    if (e) {
        const char *desc = json_object_get_string(json_object_object_get(e, "desc"));
        const char *class = json_object_get_string(json_object_object_get(e, "class"));
        int code = class && !strcmp(class, "CommandNotFound") ? VIR_ERR_OPERATION_UNSUPPORTED : VIR_ERR_OPERATION_FAILED;
        manage_fail(error, code, "the machine refuses '%s': %s", name, desc ? desc : "no reason given");
    } else {
        ret = json_object_get(json_object_object_get(o, "return"));
        if (!ret)
            ret = json_object_new_object();
    }
    json_object_put(o);
    return ret;
}

static struct monitor *monitor_of(struct domain *d)
{
    g_mutex_lock(&d->lock);
    struct monitor *m = d->monitor ? monitor_ref(d->monitor) : NULL;
    g_mutex_unlock(&d->lock);
    return m;
}

static void send_batch_locked(struct monitor_batch *b, const struct monitor_question *all, const int *fds, unsigned nfds)
{
    struct outgoing *o = g_new0(struct outgoing, 1);
    GString *text = g_string_new(NULL);
    for (; o->nfds < nfds; o->nfds++)
        o->fds[o->nfds] = fcntl(fds[o->nfds], F_DUPFD_CLOEXEC, 0);
    for (unsigned i = 0; i < b->n; i++) {
        b->p[i] = (struct pending){ .id = ++b->m->next_id, .name = all[i].name, .batch = b };
        command_text(text, &all[i], b->p[i].id);
        g_ptr_array_add(b->m->pending, &b->p[i]);
    }
    o->size = text->len;
    o->text = g_string_free(text, FALSE);
    monitor_send_locked(b->m, o);
}

static struct monitor_batch *ask(struct domain *d, const struct monitor_question *all, unsigned n, const int *fds, unsigned nfds, GError **error)
{
    struct monitor *m = nfds <= MONITOR_FDS ? monitor_of(d) : NULL;
    struct monitor_batch *b = NULL;
    if (m) {
        g_mutex_lock(&m->lock);
        if (!m->ended) {
            b = g_malloc0(sizeof(*b) + n * sizeof(b->p[0]));
            *b = (struct monitor_batch){ .m = monitor_ref(m), .until = g_get_monotonic_time() + COMMAND_SECONDS * G_TIME_SPAN_SECOND, .n = n, .left = n };
            g_cond_init(&b->answered);
            send_batch_locked(b, all, fds, nfds);
        }
        g_mutex_unlock(&m->lock);
        monitor_unref(m);
    }
    for (unsigned i = 0; !b && i < n; i++)
        json_object_put(all[i].args);
    return b ? b : manage_null(error, VIR_ERR_OPERATION_INVALID, nfds > MONITOR_FDS ? "too many descriptors" : "Requested operation is not valid: domain is not running");
}

struct monitor_batch *monitor_ask(struct domain *d, const struct monitor_question *all, unsigned n, GError **error) { return ask(d, all, n, NULL, 0, error); }

/* Nothing of the batch is known to the monitor any more. */
static void forget_locked(struct monitor_batch *b)
{
    for (unsigned i = 0; b->left && i < b->n; i++)
        if (!b->p[i].done)
            g_ptr_array_remove(b->m->pending, &b->p[i]);
    b->left = 0;
}

/* The whole answer, an error of the machine's too; the caller's. */
static struct json_object *collect(struct monitor_batch *b, unsigned i, GError **error)
{
    struct pending *p = &b->p[i];
    g_mutex_lock(&b->m->lock);
    while (b->left && g_cond_wait_until(&b->answered, &b->m->lock, b->until))
        ;
    forget_locked(b);
    g_mutex_unlock(&b->m->lock);
    if (!p->done)
        manage_fail(error, VIR_ERR_OPERATION_TIMEOUT, "the machine did not answer '%s' within %d s", p->name, COMMAND_SECONDS);
    else if (p->large)
        manage_fail(error, VIR_ERR_OPERATION_FAILED, "the machine's answers are larger than %d MiB together, that to '%s' was dropped", MONITOR_BATCH_BYTES >> 20, p->name);
    else if (!p->answer)
        manage_fail(error, VIR_ERR_OPERATION_FAILED, "the machine ended before it answered '%s'", p->name);
    return g_steal_pointer(&p->answer);
}

struct json_object *monitor_batch_answer(struct monitor_batch *b, unsigned i, GError **error)
{
    struct json_object *o = collect(b, i, error);
    return o ? result(o, b->p[i].name, error) : NULL;
}

void monitor_batch_free(struct monitor_batch *b)
{
    if (!b)
        return;
    g_mutex_lock(&b->m->lock);
    forget_locked(b);
    g_mutex_unlock(&b->m->lock);
    for (unsigned i = 0; i < b->n; i++)
        json_object_put(b->p[i].answer);
    g_cond_clear(&b->answered);
    monitor_unref(b->m);
    g_free(b);
}

struct json_object *monitor_answer(struct domain *d, const char *name, struct json_object *args, const int *fds, unsigned nfds, GError **error)
{
    const struct monitor_question one = { name, args };
    struct monitor_batch *b = ask(d, &one, 1, fds, nfds, error);
    struct json_object *ret = b ? collect(b, 0, error) : NULL;
    monitor_batch_free(b);
    return ret;
}

struct json_object *monitor_command_fds(struct domain *d, const char *name, struct json_object *args, const int *fds, unsigned nfds, GError **error)
{
    struct json_object *o = monitor_answer(d, name, args, fds, nfds, error);
    return o ? result(o, name, error) : NULL;
}

struct json_object *monitor_command(struct domain *d, const char *name, struct json_object *args, GError **error)
{
    return monitor_command_fds(d, name, args, NULL, 0, error);
}
