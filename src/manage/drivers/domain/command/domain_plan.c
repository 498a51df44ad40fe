/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "manage/drivers/domain/command/domain_plan.h"

#include <string.h>
#include <unistd.h>

static void item_free(gpointer p)
{
    struct plan_item *i = p;
    for (unsigned n = 0; i->fds && n < i->fds->len; n++)
        close(g_array_index(i->fds, int, n));
    if (i->fds)
        g_array_unref(i->fds);
    json_object_put(i->json);
    g_free(i->id);
    g_free(i->option);
    g_free(i->text);
    g_free(i);
}

static void put_json(gpointer p)
{
    json_object_put(p);
}

struct domain_plan *domain_plan_new(void)
{
    struct domain_plan *p = g_new0(struct domain_plan, 1);
    p->items = g_ptr_array_new_with_free_func(item_free);
    p->networks = g_ptr_array_new_with_free_func(g_free);
    p->filtered = g_ptr_array_new_with_free_func(g_free);
    p->macvtaps = g_ptr_array_new_with_free_func(g_free);
    p->sockets = g_ptr_array_new_with_free_func(g_free);
    p->after = g_ptr_array_new_with_free_func(put_json);
    p->notes = g_ptr_array_new_with_free_func(g_free);
    return p;
}

void domain_plan_free(struct domain_plan *p)
{
    if (!p)
        return;
    g_ptr_array_unref(p->items);
    g_ptr_array_unref(p->networks);
    g_ptr_array_unref(p->filtered);
    g_ptr_array_unref(p->macvtaps);
    g_ptr_array_unref(p->sockets);
    g_ptr_array_unref(p->after);
    g_ptr_array_unref(p->notes);
    g_free(p);
}

void js_set(struct json_object *o, const char *key, const char *value)
{
    if (value)
        json_object_object_add(o, key, json_object_new_string(value));
}

void js_int(struct json_object *o, const char *key, int64_t value)
{
    json_object_object_add(o, key, json_object_new_int64(value));
}

void js_bool(struct json_object *o, const char *key, bool value)
{
    json_object_object_add(o, key, json_object_new_boolean(value));
}

char *domain_plan_escape(const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, ",", -1);
    return g_strjoinv(",,", parts);
}

struct plan_item *domain_plan_add(struct domain_build *b, enum plan_kind kind, const char *id, struct json_object *json)
{
    struct plan_item *i = g_new0(struct plan_item, 1);
    i->kind = kind;
    i->id = g_strdup(id);
    i->json = json;
    g_ptr_array_add(b->plan->items, i);
    return i;
}

void domain_plan_fd(struct plan_item *item, int fd)
{
    if (!item->fds)
        item->fds = g_array_new(FALSE, FALSE, sizeof(int));
    g_array_append_val(item->fds, fd);
}

void domain_plan_option(struct domain_build *b, const char *option, const char *format, ...)
{
    struct plan_item *i = domain_plan_add(b, PLAN_OPTION, NULL, NULL);
    i->option = g_strdup(option);
    if (!format)
        return;
    va_list args;
    va_start(args, format);
    i->text = g_strdup_vprintf(format, args);
    va_end(args);
}

struct json_object *domain_plan_object(struct domain_build *b, const char *type, const char *id)
{
    struct json_object *o = json_object_new_object();
    js_set(o, "qom-type", type);
    js_set(o, "id", id);
    domain_plan_add(b, PLAN_OBJECT, id, o);
    return o;
}

struct json_object *domain_plan_blockdev(struct domain_build *b, const char *driver, const char *node)
{
    struct json_object *o = json_object_new_object();
    js_set(o, "driver", driver);
    js_set(o, "node-name", node);
    domain_plan_add(b, PLAN_BLOCKDEV, node, o);
    return o;
}

struct json_object *domain_plan_after(struct domain_build *b, const char *command)
{
    struct json_object *o = json_object_new_object(), *args = json_object_new_object();
    js_set(o, "execute", command);
    json_object_object_add(o, "arguments", args);
    g_ptr_array_add(b->plan->after, o);
    return args;
}

void domain_plan_note(struct domain_build *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_ptr_array_add(b->plan->notes, g_strdup_vprintf(format, args));
    va_end(args);
}

void domain_plan_address(struct domain_build *b, struct json_object *o, const struct el *e)
{
    const struct el *a = el_find(e, "address");
    if (!a || !el_is(a, "@type", "pci"))
        return;
    unsigned bus = domain_number(a, "@bus", 0), slot = domain_number(a, "@slot", 0), function = domain_number(a, "@function", 0);
    g_autofree char *name = bus ? g_strdup_printf("pci.%u", bus) : g_strdup(b->m.pcie ? "pcie.0" : "pci.0");
    g_autofree char *addr = function ? g_strdup_printf("0x%x.0x%x", slot, function) : g_strdup_printf("0x%x", slot);
    struct el *controller = domain_controller(b->devices, "pci", bus);
    js_set(o, "bus", bus && controller ? el_get_or(controller, "alias/@name", name) : name);
    if (el_is(a, "@multifunction", "on"))
        js_bool(o, "multifunction", true);
    js_set(o, "addr", addr);
}

/* What <driver> says of a virtio device of any kind. */
static void add_virtio(const struct domain_build *b, struct json_object *o, const struct el *e)
{
    static const struct { const char *path, *key; } rows[] = { { "driver/@iommu", "iommu_platform" }, { "driver/@ats", "ats" }, { "driver/@packed", "packed" },
                                                               { "driver/@page_per_vq", "page-per-vq" } };
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
        if (el_get(e, rows[i].path) && (!b->m.is_vireo || el_is(e, rows[i].path, "on"))) /* vireo-vmm does not know all; off they are in any case */
            js_bool(o, rows[i].key, el_is(e, rows[i].path, "on"));
}

struct json_object *domain_plan_device(struct domain_build *b, const char *driver, const struct el *e)
{
    struct json_object *o = json_object_new_object();
    const char *id = e ? el_get(e, "alias/@name") : NULL;
    js_set(o, "driver", driver);
    if (id)
        js_set(o, "id", id);
    if (e)
        domain_plan_address(b, o, e);
    if (e && g_str_has_prefix(driver, "virtio-"))
        add_virtio(b, o, e);
    domain_plan_add(b, PLAN_DEVICE, id, o);
    return o;
}

/* ---- command line ---- */

static const char *text_of(struct json_object *o)
{
    return json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
}

static void hand_over(struct plan_item *i, GArray *fds)
{
    if (!i->fds)
        return;
    g_array_append_vals(fds, i->fds->data, i->fds->len);
    g_array_set_size(i->fds, 0);
}

/* "fds": "4:5" for those of the tap, "vhostfds" for the others. */
static void name_net_fds(struct plan_item *i, char *(*name)(const struct plan_item *i, unsigned n))
{
    unsigned n = i->fds ? i->fds->len : 0, taps = i->vhost ? n / 2 : n;
    for (unsigned half = 0; half < 2; half++) {
        unsigned from = half ? taps : 0, to = half ? n : taps;
        g_autoptr(GString) all = g_string_new(NULL);
        for (unsigned k = from; k < to; k++) {
            g_autofree char *one = name(i, k);
            g_string_append_printf(all, "%s%s", k > from ? ":" : "", one);
        }
        if (to > from)
            js_set(i->json, half ? (to - from > 1 ? "vhostfds" : "vhostfd") : (to - from > 1 ? "fds" : "fd"), all->str);
    }
}

static char *number_of_fd(const struct plan_item *i, unsigned n)
{
    return g_strdup_printf("%d", g_array_index(i->fds, int, n));
}

static struct json_object *member(struct json_object *o, const char *key)
{
    struct json_object *v = NULL;
    return o && json_object_object_get_ex(o, key, &v) ? v : NULL;
}

static const char *string_of(struct json_object *o, const char *key)
{
    struct json_object *v = member(o, key);
    return v ? json_object_get_string(v) : NULL;
}

static bool true_of(struct json_object *o, const char *key)
{
    struct json_object *v = member(o, key);
    return v && json_object_get_boolean(v);
}

static void add_key(GString *s, const char *key, const char *value)
{
    if (!value)
        return;
    g_autofree char *escaped = domain_plan_escape(value);
    g_string_append_printf(s, ",%s=%s", key, escaped);
}

/* -chardev has no JSON form everywhere: its text from that of chardev-add. */
static char *chardev_text(const struct plan_item *i)
{
    struct json_object *backend = member(i->json, "backend"), *data = member(backend, "data"), *addr = member(data, "addr"), *where = member(addr, "data");
    const char *type = string_of(backend, "type");
    GString *s = g_string_new(type);
    add_key(s, "id", i->id);
    if (g_str_equal(type, "socket")) {
        if (i->fds && i->fds->len) {
            g_autofree char *fd = number_of_fd(i, 0);
            add_key(s, "fd", fd);
        } else {
            add_key(s, "path", string_of(where, "path"));
            add_key(s, "host", string_of(where, "host"));
            add_key(s, "port", string_of(where, "port"));
        }
        g_string_append(s, true_of(data, "server") ? ",server=on,wait=off" : "");
        g_string_append(s, true_of(data, "telnet") ? ",telnet=on" : "");
        struct json_object *again = member(data, "reconnect");
        if (again)
            g_string_append_printf(s, ",reconnect=%d", json_object_get_int(again));
    } else if (g_str_equal(type, "udp")) {
        struct json_object *remote = member(member(data, "remote"), "data");
        add_key(s, "host", string_of(remote, "host"));
        add_key(s, "port", string_of(remote, "port"));
    } else if (g_str_equal(type, "spicevmc")) {
        add_key(s, "name", string_of(data, "type"));
    } else {
        add_key(s, "path", string_of(data, g_str_equal(type, "file") ? "out" : "device"));
        g_string_append(s, true_of(data, "append") ? ",append=on" : "");
    }
    return g_string_free(s, FALSE);
}

void domain_plan_argv(struct domain_plan *p, GPtrArray *argv, GArray *fds)
{
    static const char *const options[] = { [PLAN_OBJECT] = "-object", [PLAN_CHARDEV] = "-chardev", [PLAN_BLOCKDEV] = "-blockdev", [PLAN_NETDEV] = "-netdev", [PLAN_DEVICE] = "-device" };
    for (unsigned n = 0; n < p->items->len; n++) {
        struct plan_item *i = p->items->pdata[n];
        if (i->kind == PLAN_OPTION) {
            g_ptr_array_add(argv, g_strdup(i->option));
            if (i->text)
                g_ptr_array_add(argv, g_strdup(i->text));
            hand_over(i, fds);
            continue;
        }
        if (i->kind == PLAN_NETDEV)
            name_net_fds(i, number_of_fd);
        g_ptr_array_add(argv, g_strdup(options[i->kind]));
        g_ptr_array_add(argv, i->kind == PLAN_CHARDEV ? chardev_text(i) : g_strdup(text_of(i->json)));
        hand_over(i, fds);
    }
}

/* ---- run time ---- */

static char *name_of_fd(const struct plan_item *i, unsigned n)
{
    return g_strdup_printf("fd-%s-%u", i->id, n);
}

/* The socket, or (vireo-vmm) the master of a terminal that getfd has passed. */
static void name_char_fd(struct plan_item *i)
{
    struct json_object *data = member(member(i->json, "backend"), "data");
    if (!i->fds || !i->fds->len)
        return;
    g_autofree char *name = name_of_fd(i, 0);
    if (!g_str_equal(string_of(member(i->json, "backend"), "type"), "socket")) {
        js_set(data, "x-fd", name);
        return;
    }
    struct json_object *addr = json_object_new_object(), *where = json_object_new_object();
    js_set(addr, "type", "fd");
    js_set(where, "str", name);
    json_object_object_add(addr, "data", where);
    json_object_object_add(data, "addr", addr);
}

static bool send_fds(struct plan_item *i, struct domain *d, GError **error)
{
    for (unsigned n = 0; i->fds && n < i->fds->len; n++) {
        struct json_object *args = json_object_new_object();
        g_autofree char *name = name_of_fd(i, n);
        js_set(args, "fdname", name);
        struct json_object *o = monitor_command_fds(d, "getfd", args, &g_array_index(i->fds, int, n), 1, error);
        if (!o)
            return false;
        json_object_put(o);
    }
    return true;
}

static bool send_item(struct plan_item *i, struct domain *d, GError **error)
{
    static const char *const commands[] = { [PLAN_OBJECT] = "object-add", [PLAN_CHARDEV] = "chardev-add", [PLAN_BLOCKDEV] = "blockdev-add", [PLAN_NETDEV] = "netdev_add",
                                            [PLAN_DEVICE] = "device_add" };
    if (i->kind == PLAN_OPTION)
        return true;
    if (!send_fds(i, d, error))
        return false;
    if (i->kind == PLAN_NETDEV)
        name_net_fds(i, name_of_fd);
    if (i->kind == PLAN_CHARDEV)
        name_char_fd(i);
    struct json_object *o = monitor_command(d, commands[i->kind], json_object_get(i->json), error);
    json_object_put(o);
    return o != NULL;
}

static void take_back(struct plan_item *i, struct domain *d)
{
    static const struct { const char *command, *key; } undo[] = { [PLAN_OBJECT] = { "object-del", "id" }, [PLAN_CHARDEV] = { "chardev-remove", "id" },
        [PLAN_BLOCKDEV] = { "blockdev-del", "node-name" }, [PLAN_NETDEV] = { "netdev_del", "id" }, [PLAN_DEVICE] = { "device_del", "id" } };
    if (i->kind == PLAN_OPTION)
        return;
    struct json_object *args = json_object_new_object();
    js_set(args, undo[i->kind].key, i->id);
    struct json_object *o = monitor_command(d, undo[i->kind].command, args, NULL);
    json_object_put(o);
}

void domain_plan_undo(struct domain_plan *p, struct domain *d)
{
    while (p->done)
        take_back(p->items->pdata[--p->done], d);
}

/* Back ends first, in their order: most of what can fail fails there, where it can be taken back at once. */
static void devices_last(struct domain_plan *p)
{
    g_autoptr(GPtrArray) old = p->items;
    p->items = g_ptr_array_new_with_free_func(item_free);
    g_ptr_array_set_free_func(old, NULL);
    for (unsigned turn = 0; turn < 2; turn++)
        for (unsigned i = 0; i < old->len; i++)
            if ((((struct plan_item *)old->pdata[i])->kind == PLAN_DEVICE) == turn)
                g_ptr_array_add(p->items, old->pdata[i]);
}

bool domain_plan_send(struct domain_plan *p, struct domain *d, GError **error)
{
    devices_last(p);
    p->done = 0;
    while (p->done < p->items->len && send_item(p->items->pdata[p->done], d, error))
        p->done++;
    return p->done == p->items->len;
}

bool domain_plan_made(const struct domain_plan *p, const char *device)
{
    for (unsigned i = 0; i < p->done; i++) {
        const struct plan_item *item = p->items->pdata[i];
        if (item->kind == PLAN_DEVICE && !g_strcmp0(item->id, device))
            return true;
    }
    return false;
}
