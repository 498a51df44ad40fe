/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Devices that change: media of drives, links, passwords, statistics, the size of virtio-mem; in the definition anything. */
#include "manage/drivers/domain/net/domain_bandwidth.h"
#include "manage/drivers/domain/net/domain_filter.h"
#include "manage/drivers/domain/net/domain_move.h"
#include "manage/drivers/domain/block/domain_chain.h"
#include "manage/drivers/domain/device/domain_device.h"

#include <libvirt/libvirt.h>
#include <string.h>

/* ---- in a document ---- */

/* `e` becomes `device`; address and alias stay where the new one has none. The order among its like stays. */
static struct el *replace(struct el *e, const struct el *device)
{
    struct el *parent = el_parent(e), *new = NULL;
    g_autoptr(GPtrArray) after = g_ptr_array_new();
    for (struct el *n = el_next(e, el_name(e)); n; n = el_next(n, el_name(e)))
        g_ptr_array_add(after, n);
    new = el_copy(parent, device);
    static const char *const kept[] = { "address", "alias" };
    for (unsigned i = 0; i < G_N_ELEMENTS(kept); i++)
        if (!el_find(new, kept[i]) && el_find(e, kept[i]))
            el_copy(new, el_find(e, kept[i]));
    el_remove(e);
    for (unsigned i = 0; i < after->len; i++) {
        el_copy(parent, after->pdata[i]);
        el_remove(after->pdata[i]);
    }
    return new;
}

static struct doc *with_change(struct domain_driver *dr, const struct doc *from, const struct el *device, struct el **ret, GError **error)
{
    struct doc *d = doc_copy(from);
    struct domain_complete c = { .dr = dr, .doc = d, .root = doc_root(d) };
    c.devices = el_find(c.root, "devices");
    domain_machine_of(&c.machine, dr, c.root);
    struct el *e = domain_device_find(d, device, NULL, error);
    bool good = e != NULL;
    if (good) {
        *ret = replace(e, device);
        good = domain_complete_device(&c, *ret, error) && domain_address_small(&c, error) && domain_address_pci(&c, true, error) && domain_complete_check(&c, error);
    }
    domain_machine_finish(&c.machine);
    if (good)
        return d;
    doc_free(d);
    return NULL;
}

/* What is as it was at the start until the end: refused where the new document says otherwise, kept where it says nothing. */
static const char *const disk_fixed[] = {
    "@device", "@model", "@rawio", "@sgio", "target/@bus", "target/@removable", "target/@rotation_rate", "geometry/@cyls", "geometry/@heads", "geometry/@secs", "geometry/@trans",
    "blockio/@logical_block_size", "blockio/@physical_block_size", "driver/@cache", "driver/@error_policy", "driver/@rerror_policy", "driver/@io", "driver/@ioeventfd",
    "driver/@event_idx", "driver/@copy_on_read", "driver/@discard", "driver/@detect_zeroes", "driver/@iothread", "driver/@queues", "driver/@queue_size",
    "iotune/total_bytes_sec", "iotune/read_bytes_sec", "iotune/write_bytes_sec", "iotune/total_iops_sec", "iotune/read_iops_sec", "iotune/write_iops_sec",
    "iotune/total_bytes_sec_max", "iotune/read_bytes_sec_max", "iotune/write_bytes_sec_max", "iotune/total_iops_sec_max", "iotune/read_iops_sec_max",
    "iotune/write_iops_sec_max", "iotune/size_iops_sec", "iotune/group_name", "boot/@order", "serial", "wwn", "vendor", "product", NULL };
static const char *const interface_fixed[] = {
    "mac/@address", "model/@type", "driver/@name", "driver/@txmode", "driver/@ioeventfd", "driver/@event_idx", "driver/@queues", "driver/@rx_queue_size", "driver/@tx_queue_size",
    "rom/@bar", "rom/@file", "rom/@enabled", "boot/@order", "mtu/@size", "script/@path", "tune/sndbuf", NULL };
static const char *const graphics_fixed[] = {
    "@type", "@port", "@tlsPort", "@autoport", "@websocket", "@socket", "@listen", "@keymap", "@sharePolicy", "@powerControl", "@defaultMode", "listen/@type", "listen/@address",
    "listen/@network", "listen/@socket", NULL };

static bool stays(struct el *e, const struct el *old, const char *const *fixed, GError **error)
{
    g_autofree char *label = domain_device_label(e);
    const struct el *now = el_find(e, "address"), *was = el_find(old, "address");
    if (now && was && !el_equal(now, was))
        return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "%s: its address cannot change while the machine runs; with --config it does at the next start", label);
    for (; *fixed; fixed++) {
        if (el_get(e, *fixed) && g_strcmp0(el_get(e, *fixed), el_get(old, *fixed)) != 0)
            return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "%s: %s cannot change while the machine runs; with --config it does at the next start", label,
                               *fixed + (**fixed == '@'));
        if (el_get(old, *fixed))
            el_set(e, *fixed, el_get(old, *fixed));
    }
    return true;
}

/* The guest has seen the disk as it is. */
static bool flags_stay(const struct el *e, const struct el *old, GError **error)
{
    static const char *const flags[] = { "readonly", "shareable", "transient" };
    for (unsigned i = 0; i < G_N_ELEMENTS(flags); i++)
        if (!el_find(e, flags[i]) != !el_find(old, flags[i]))
            return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "<disk> '%s'%s: <%s> cannot change while the machine runs; with --config it does at the next start",
                               el_get_or(old, "target/@dev", ""), domain_line(e), flags[i]);
    return true;
}

/* ---- media ---- */

static bool tray(struct domain *d, const char *command, const char *id, bool force, const char *node, GError **error)
{
    struct json_object *args = json_object_new_object();
    js_set(args, "id", id);
    if (force)
        js_bool(args, "force", true);
    js_set(args, "node-name", node);
    struct json_object *o = monitor_command(d, command, args, error);
    json_object_put(o);
    return o != NULL;
}

/* The tray may open by and by: the guest is asked. */
static bool open_tray(struct domain *d, const char *id, bool force, GError **error)
{
    for (unsigned i = 0; i < 50; i++) {
        g_autoptr(GError) why = NULL;
        if (!tray(d, "blockdev-open-tray", id, force, NULL, &why))
            return manage_fail(error, VIR_ERR_OPERATION_FAILED, "the drive '%s' does not open: %s%s", id, why->message, force ? "" : " (the guest may have locked it; --force opens it)");
        g_clear_error(&why);
        if (tray(d, "blockdev-remove-medium", id, false, NULL, &why))
            return true;
        if (i == 49)
            return manage_fail(error, VIR_ERR_OPERATION_FAILED, "the drive '%s' is locked by the guest: %s%s", id, why->message, force ? "" : "; --force opens it");
        g_usleep(100000);
    }
    return false;
}

/* New nodes first: an image that cannot be opened changes nothing. */
static bool change_medium(struct domain *d, struct doc *live, struct el *e, struct el *old, bool force, GError **error)
{
    struct domain_build b;
    g_autofree char *top = NULL, *id = g_strdup(el_get_or(old, "alias/@name", ""));
    domain_chain_forget(e);
    domain_build_init(&b, d, d->driver, live);
    bool good = domain_plan_storage(&b, e, &top, error) && domain_plan_send(b.plan, d, error) && open_tray(d, id, force, error) &&
                (!top || tray(d, "blockdev-insert-medium", id, false, top, error));
    if (!good) {
        domain_plan_undo(b.plan, d);
    } else {
        good = tray(d, "blockdev-close-tray", id, false, NULL, error);
        domain_device_backends(d, old);
    }
    domain_build_finish(&b);
    return good;
}

/* ---- the others ---- */

static bool change_bandwidth(struct domain *d, const struct el *e, const struct el *old, GError **error)
{
    if (!el_get(e, "target/@dev"))
        return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "the interface '%s' has no device on the host whose rate could be limited", el_get(old, "mac/@address"));
    if (domain_bandwidth_apply(d->id, e, error))
        return true;
    (void)!domain_bandwidth_apply(d->id, old, NULL);
    return false;
}

static bool change_filter(struct domain *d, const struct el *e, const struct el *old, GError **error)
{
    if (!el_get(e, "target/@dev") || !domain_filter_refuse(old, error))
        return !el_get(e, "target/@dev") ? manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "the interface '%s' has no device on the host that could be filtered", el_get(old, "mac/@address")) : false;
    return domain_filter_apply(d, e, el_get_or(e, "source/@bridge", el_get(old, "source/@bridge")), error);
}

static bool change_link(struct domain *d, struct el *e, const struct el *old, GError **error)
{
    bool up = !el_is(e, "link/@state", "down");
    struct json_object *args = json_object_new_object();
    js_set(args, "name", el_get_or(old, "alias/@name", ""));
    js_bool(args, "up", up);
    struct json_object *o = monitor_command(d, "set_link", args, error);
    json_object_put(o);
    return o && (domain_bandwidth_same(e, old) || change_bandwidth(d, e, old, error));
}

/* Rules of filters name the bridge. */
static bool change_source(struct domain *d, struct el *e, const struct el *old, GError **error)
{
    if (!domain_interface_move(d, e, old, error))
        return false;
    bool filtered = el_find(e, "filterref") || el_find(old, "filterref");
    if (change_link(d, e, old, error) && (!filtered || change_filter(d, e, old, error))) {
        domain_interface_leave(d, old);
        return true;
    }
    domain_interface_move_back(d, e, old);
    return false;
}

static bool change_interface(struct domain *d, struct el *e, const struct el *old, GError **error)
{
    if (el_get(old, "target/@dev"))
        el_set(e, "target/@dev", el_get(old, "target/@dev"));
    if (!stays(e, old, interface_fixed, error))
        return false;
    if (domain_interface_moves(e, old))
        return change_source(d, e, old, error);
    if (el_is(e, "@type", "network"))
        domain_interface_place(e, el_get(old, "@type"), el_get(old, "source/@bridge"), el_get(old, "source/@dev"), el_get(old, "source/@mode"));
    static const char *const fixed[] = { "@type", "source/@network", "source/@bridge", "source/@dev" };
    for (unsigned i = 0; i < G_N_ELEMENTS(fixed); i++)
        if (el_get(e, fixed[i]) && !el_is(old, fixed[i], el_get(e, fixed[i])) && !(el_is(e, "@type", "network") && el_get(old, "source/@network") && (i == 0 || i > 1)))
            return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "the interface '%s': %s cannot change while the machine runs; the state of the link can", el_get(old, "mac/@address"),
                               fixed[i] + (fixed[i][0] == '@'));
    return change_link(d, e, old, error) && (domain_filter_same(e, old) || change_filter(d, e, old, error));
}

static bool set_property(struct domain *d, const struct el *e, const char *property, uint64_t value, GError **error)
{
    struct json_object *args = json_object_new_object();
    g_autofree char *path = g_strdup_printf("/machine/peripheral/%s", el_get_or(e, "alias/@name", ""));
    js_set(args, "path", path);
    js_set(args, "property", property);
    js_int(args, "value", (int64_t)value);
    struct json_object *o = monitor_command(d, "qom-set", args, error);
    json_object_put(o);
    return o != NULL;
}

static bool change_password(struct domain *d, const struct el *e, GError **error)
{
    struct json_object *args = json_object_new_object();
    js_set(args, "protocol", el_get_or(e, "@type", "vnc"));
    js_set(args, "password", el_get_or(e, "@passwd", ""));
    js_set(args, "connected", el_get(e, "@connected"));
    struct json_object *o = monitor_command(d, "set_password", args, error);
    json_object_put(o);
    if (!o)
        return false;
    g_autofree char *end = domain_password_end(e, error);
    if (!end)
        return false;
    args = json_object_new_object();
    js_set(args, "protocol", el_get_or(e, "@type", "vnc"));
    js_set(args, "time", *el_get_or(e, "@passwd", "") ? end : "now");
    o = monitor_command(d, "expire_password", args, error);
    json_object_put(o);
    return o != NULL;
}

/* The password alone changes; where the new document has none, it stays too. */
static bool change_graphics(struct domain *d, struct el *e, const struct el *old, GError **error)
{
    if (el_is(e, "@autoport", "yes")) /* whatever number came with it */
        el_set(e, "@port", NULL);
    if (!stays(e, old, graphics_fixed, error))
        return false;
    if (el_get(e, "@passwd"))
        return change_password(d, e, error);
    el_set(e, "@passwd", el_get(old, "@passwd"));
    el_set(e, "@passwdValidTo", el_get(old, "@passwdValidTo"));
    return true;
}

static bool same_source(const struct el *a, const struct el *b)
{
    static const char *const paths[] = { "source/@file", "source/@dev", "source/@pool", "source/@volume", "source/@name" };
    for (unsigned i = 0; i < G_N_ELEMENTS(paths); i++)
        if (g_strcmp0(el_get(a, paths[i]), el_get(b, paths[i])) != 0)
            return false;
    return true;
}

static bool change(struct domain *d, struct doc *live, struct el *e, struct el *old, bool force, GError **error)
{
    const char *name = el_name(e);
    if (g_str_equal(name, "disk")) {
        bool medium = el_is(old, "@device", "cdrom") || el_is(old, "@device", "floppy");
        if (!stays(e, old, disk_fixed, error) || !flags_stay(e, old, error))
            return false;
        if (el_get(old, "source/@index") && same_source(e, old)) {
            el_set(e, "source/@index", el_get(old, "source/@index"));
            return true;
        }
        if (medium)
            return change_medium(d, live, e, old, force, error);
        return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "the disk '%s': the image of a disk cannot change while the machine runs; media of CD-ROM and floppy drives can",
                           el_get(old, "target/@dev"));
    }
    if (g_str_equal(name, "interface"))
        return change_interface(d, e, old, error);
    if (g_str_equal(name, "graphics"))
        return change_graphics(d, e, old, error);
    if (g_str_equal(name, "memballoon"))
        return set_property(d, old, "guest-stats-polling-interval", domain_number(e, "stats/@period", 0), error);
    if (g_str_equal(name, "memory") && el_is(old, "@model", "virtio-mem"))
        return set_property(d, old, "requested-size", domain_number(e, "target/requested", 0) << 10, error);
    return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "a <%s> cannot change while the machine runs; with --config it does at the next start", name);
}

static bool update_live(struct domain *d, const struct el *device, bool force, GError **error)
{
    doc_auto *before = domain_live(d, error);
    struct el *old = before ? domain_device_find(before, device, NULL, error) : NULL, *e = NULL;
    doc_auto *after = old ? with_change(d->driver, before, device, &e, error) : NULL;
    if (!after || !change(d, after, e, old, force, error))
        return false;
    g_mutex_lock(&d->lock);
    const char *alias = el_get(old, "alias/@name"); /* displays have none */
    struct el *there = d->live ? domain_device_find(d->live, alias ? NULL : device, alias, NULL) : NULL;
    if (there)
        replace(there, e);
    g_mutex_unlock(&d->lock);
    return domain_write_status(d, error);
}

bool domain_update_device(struct domain *d, const struct el *device, bool live, bool config, bool force, GError **error)
{
    struct doc *defined = NULL;
    struct el *e = NULL;
    bool good = true;
    if (config) {
        doc_auto *old = domain_definition(d, error);
        defined = old ? with_change(d->driver, old, device, &e, error) : NULL;
        good = defined != NULL;
        if (good)
            domain_forget_live(e);
    }
    if (good && live)
        good = update_live(d, device, force, error);
    if (good && config)
        good = domain_set_definition(d, g_steal_pointer(&defined), error);
    doc_free(defined);
    return good;
}

bool domain_update(struct domain *d, const char *xml, uint32_t flags, GError **error)
{
    bool live, config;
    doc_auto *device = doc_parse_at(&schema_domain, "devices", xml, -1, error);
    if (!device || !domain_begin(d, "update", false, error))
        return false;
    bool good = domain_affect(d, flags, &live, &config, error) &&
                domain_update_device(d, doc_root(device), live, config, flags & VIR_DOMAIN_DEVICE_MODIFY_FORCE, error);
    domain_end(d);
    return good;
}
