/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Devices that come, go and change: in the definition, in the running machine, or both. First everything that can be wrong is found, then the machine is
 * changed, then the documents; what was made in the machine is taken away again when a later step fails.
 */
#include "manage/drivers/domain/net/domain_bandwidth.h"
#include "manage/drivers/domain/net/domain_filter.h"
#include "manage/drivers/domain/block/domain_blockjob.h"
#include "manage/drivers/domain/device/domain_device.h"
#include "manage/drivers/domain/net/domain_move.h"
#include "manage/drivers/domain/net/domain_macvtap.h"

#include <libvirt/libvirt.h>
#include <string.h>

enum { DETACH_WAIT_MS = 8000 /* PCI Express gives the user of a slot's button 5 s to change his mind */, ASK_AGAIN_MS = 100 };

/* Does `e` stand for the same device as `asked`? By what names a device: address, alias, or what its kind is told apart by. */
static bool same_address(const struct el *a, const struct el *b)
{
    static const char *const parts[] = { "@type", "@domain", "@bus", "@slot", "@function", "@controller", "@target", "@unit", "@port" };
    const struct el *x = el_find(a, "address"), *y = el_find(b, "address");
    for (unsigned i = 0; x && y && i < G_N_ELEMENTS(parts); i++) {
        const char *v = el_get(x, parts[i]);
        if (v && !el_is(y, parts[i], v))
            return false;
    }
    return x && y;
}

bool domain_device_is(const struct el *asked, const struct el *e)
{
    static const struct { const char *element, *path; } keys[] = { { "disk", "target/@dev" }, { "interface", "mac/@address" }, { "controller", "@index" }, { "channel", "target/@name" },
        { "serial", "target/@port" }, { "filesystem", "target/@dir" }, { "shmem", "@name" }, { "memory", "target/size" }, { "rng", "backend/@model" }, { "console", "target/@port" } };
    if (!g_str_equal(el_name(asked), el_name(e)))
        return false;
    const char *alias = el_get(asked, "alias/@name");
    if (alias && el_get(e, "alias/@name"))
        return el_is(e, "alias/@name", alias);
    if (g_str_equal(el_name(e), "controller") && (!el_is(e, "@type", el_get_or(asked, "@type", "")) || (el_get(asked, "@index") && !el_is(e, "@index", el_get(asked, "@index")))))
        return false;
    if (g_str_equal(el_name(e), "input") && !el_is(asked, "@bus", el_get_or(e, "@bus", "")) && (el_get(asked, "@bus") || el_is(e, "@bus", "ps2")))
        return false;
    static const char *const character[] = { "channel", "console", "serial" };
    for (unsigned i = 0; i < G_N_ELEMENTS(character); i++)
        if (g_str_equal(el_name(e), character[i]) && el_get(asked, "source/@path") && el_get(e, "source/@path") && !el_is(e, "source/@path", el_get(asked, "source/@path")))
            return false;
    if (g_str_equal(el_name(e), "console") && el_get(asked, "target/@type") && !el_is(e, "target/@type", el_get(asked, "target/@type")))
        return false;
    for (unsigned i = 0; i < G_N_ELEMENTS(keys); i++) {
        if (!g_str_equal(keys[i].element, el_name(e)) || !el_get(asked, keys[i].path))
            continue;
        const char *mine = el_get(asked, keys[i].path), *other = el_get_or(e, keys[i].path, "");
        if (g_ascii_strcasecmp(mine, other) != 0)
            return false;
        return !el_find(asked, "address") || g_str_equal(el_name(e), "disk") || same_address(asked, e);
    }
    if (el_find(asked, "address"))
        return same_address(asked, e);
    return el_is(e, "@model", el_get_or(asked, "@model", "")) || el_is(e, "@type", el_get_or(asked, "@type", ""));
}

struct el *domain_device_find(const struct doc *d, const struct el *asked, const char *alias, GError **error)
{
    struct el *devices = el_find(doc_root(d), "devices"), *found = NULL;
    unsigned n = 0;
    el_each(e, devices, NULL)
        if (alias ? el_is(e, "alias/@name", alias) : domain_device_is(asked, e)) {
            found = found ? found : e;
            n++;
        }
    g_autofree char *label = asked ? domain_device_label(asked) : g_strdup_printf("device with the alias '%s'", alias);
    if (!found)
        return manage_null(error, VIR_ERR_DEVICE_MISSING, "the domain has no %s", label);
    static const char *const alike[] = { "interface", "rng", "channel", "console" };
    bool unclear = false;
    for (unsigned i = 0; n > 1 && asked && i < G_N_ELEMENTS(alike); i++)
        unclear |= g_str_equal(el_name(asked), alike[i]);
    if (unclear)
        return manage_null(error, VIR_ERR_OPERATION_FAILED, "%s stands for %u devices of the domain: give its <address> or <alias>", label, n);
    return found;
}

/* ---- a document with one device more ---- */

static void complete_init(struct domain_complete *c, struct domain_driver *dr, struct doc *d)
{
    memset(c, 0, sizeof(*c));
    c->dr = dr;
    c->doc = d;
    c->root = doc_root(d);
    c->devices = el_find(c->root, "devices");
    domain_machine_of(&c->machine, dr, c->root);
}

/* What there can be once only. A balloon that is none gives way. */
static bool check_single(struct el *devices, const struct el *device, GError **error)
{
    static const char *const single[] = { "memballoon", "vsock", "iommu", "emulator", "nvram" };
    for (unsigned i = 0; i < G_N_ELEMENTS(single); i++) {
        struct el *there = g_str_equal(single[i], el_name(device)) ? el_child(devices, single[i]) : NULL;
        if (there && i == 0 && el_is(there, "@model", "none"))
            el_remove(there);
        else if (there)
            return manage_fail(error, VIR_ERR_OPERATION_INVALID, "the domain has a <%s> already, and there can be one only", single[i]);
    }
    return true;
}

static bool check_new(struct el *devices, const struct el *device, GError **error)
{
    static const struct { const char *element, *path, *what; } keys[] = { { "disk", "target/@dev", "target" }, { "interface", "mac/@address", "MAC address" } };
    for (unsigned i = 0; i < G_N_ELEMENTS(keys); i++) {
        const char *mine = el_get(device, keys[i].path);
        if (!g_str_equal(el_name(device), keys[i].element) || !mine)
            continue;
        el_each(e, devices, keys[i].element)
            if (el_get(e, keys[i].path) && !g_ascii_strcasecmp(el_get(e, keys[i].path), mine))
                return manage_fail(error, VIR_ERR_OPERATION_INVALID, "the domain has a <%s> with the %s '%s' already", keys[i].element, keys[i].what, mine);
    }
    return check_single(devices, device, error);
}

/* Memory that comes or goes counts in <memory> and <currentMemory>. */
static void count_memory(struct el *root, const struct el *e, bool more)
{
    static const char *const names[] = { "memory", "currentMemory" };
    uint64_t size = domain_number(e, "target/size", 0);
    for (unsigned i = 0; g_str_equal(el_name(e), "memory") && i < G_N_ELEMENTS(names); i++) {
        uint64_t now = domain_number(root, names[i], 0);
        el_setf(root, names[i], "%" G_GUINT64_FORMAT, more ? now + size : now - MIN(now, size));
    }
}

/* A copy of the document with the device in it, complete. grow: PCI ports may be added. */
static struct doc *with_device(struct domain_driver *dr, const struct doc *from, const struct el *device, bool grow, struct el **ret_device, GError **error)
{
    struct doc *d = doc_copy(from);
    struct domain_complete c;
    complete_init(&c, dr, d);
    c.running = !grow;
    bool good = check_new(c.devices, device, error);
    struct el *e = good ? el_copy(c.devices, device) : NULL;
    good = good && domain_complete_device(&c, e, error) && domain_address_small(&c, error) && domain_address_pci(&c, grow, error) && domain_complete_check(&c, error);
    if (good)
        count_memory(c.root, e, true);
    uint64_t max = domain_number(c.root, "maxMemory", 0);
    if (good && g_str_equal(el_name(e), "memory") && domain_number(c.root, "memory", 0) > max)
        good = manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the domain has room for %" G_GUINT64_FORMAT " KiB of memory (<maxMemory>): the module does not fit in", max);
    domain_machine_finish(&c.machine);
    if (!good) {
        doc_free(d);
        return NULL;
    }
    *ret_device = e;
    return d;
}

/* What has a way into a running machine. */
static bool check_hotplug(const struct el *e, GError **error)
{
    static const char *const can[] = { "disk", "interface", "controller", "rng", "memory", "channel", "serial", "console", "memballoon" };
    bool disk = g_str_equal(el_name(e), "disk"), known = false;
    for (unsigned i = 0; i < G_N_ELEMENTS(can); i++)
        known |= g_str_equal(can[i], el_name(e));
    known |= g_str_equal(el_name(e), "input") && (el_is(e, "@bus", "usb") || el_is(e, "@bus", "virtio"));
    if (disk && !el_is(e, "@device", "disk") && !el_is(e, "@device", "lun"))
        return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "the disk '%s': a %s drive cannot come while the machine runs; media can be changed in one that is there",
                           el_get(e, "target/@dev"), el_get(e, "@device"));
    if (disk && !el_is(e, "target/@bus", "virtio") && !el_is(e, "target/@bus", "scsi") && !el_is(e, "target/@bus", "usb"))
        return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "the disk '%s': disks on the bus '%s' cannot come while the machine runs; virtio and scsi disks can",
                           el_get(e, "target/@dev"), el_get(e, "target/@bus"));
    if (g_str_equal(el_name(e), "controller") && !el_is(e, "@type", "scsi") && !el_is(e, "@type", "virtio-serial"))
        known = false;
    if (g_str_equal(el_name(e), "serial") && el_is(e, "target/@type", "isa-serial"))
        known = false;
    if ((g_str_equal(el_name(e), "channel") || g_str_equal(el_name(e), "console")) && !el_is(e, "target/@type", "virtio"))
        known = false;
    return known || manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "this <%s> cannot come while the machine runs; with --config it is there at the next start", el_name(e));
}

/* ---- attach ---- */

/* Networks that came with a device end with the machine, as those of the start. */
static void keep_networks(struct domain *d, GPtrArray *networks)
{
    g_mutex_lock(&d->lock);
    for (unsigned i = 0; d->run && d->run->networks && i < networks->len; i++)
        g_ptr_array_add(d->run->networks, g_strdup(networks->pdata[i]));
    g_mutex_unlock(&d->lock);
    g_ptr_array_set_size(networks, 0);
}

/* The device, and the controllers that it needs: those of the copy that have no alias yet. */
static bool plan_new(struct domain_build *b, struct el *device, GPtrArray *ret_new, GError **error)
{
    el_each(c, b->devices, "controller") {
        if (el_get(c, "alias/@name") || c == device)
            continue;
        domain_alias_one(b->devices, c);
        if (!domain_plan_element(b, c, error))
            return false;
        g_ptr_array_add(ret_new, c);
    }
    domain_alias_one(b->devices, device);
    g_ptr_array_add(ret_new, device);
    return domain_plan_element(b, device, error);
}

/* New elements go into the live document as it is by now: events may have changed it. */
static bool commit_live(struct domain *d, GPtrArray *new, GError **error)
{
    g_mutex_lock(&d->lock);
    struct el *root = d->live ? doc_root(d->live) : NULL, *devices = el_find(root, "devices");
    for (unsigned i = 0; devices && i < new->len; i++) {
        const struct el *e = new->pdata[i];
        struct el *balloon = g_str_equal(el_name(e), "memballoon") ? el_child(devices, "memballoon") : NULL;
        if (balloon)
            el_remove(balloon);
        el_copy(devices, e);
        count_memory(root, e, true);
    }
    if (root)
        domain_summary_locked(d, d->live);
    g_mutex_unlock(&d->lock);
    return root ? domain_write_status(d, error) : manage_fail(error, VIR_ERR_OPERATION_FAILED, "the domain ended while a device was attached");
}

static void tell_added(struct domain *d, const struct el *e)
{
    manage_event(d->driver->state, MANAGE_DOMAIN, VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, d->uuid, sizeof(d->uuid),
                 g_variant_new("(@(sayi)s)", domain_variant(d), el_get_or(e, "alias/@name", "")));
}

/* What is in the machine though the device is not: the document shows it until the guest lets go. */
static void take_back(struct domain *d, struct domain_plan *plan, GPtrArray *new)
{
    for (unsigned i = new->len; i > 0; i--)
        if (!domain_plan_made(plan, el_get_or(new->pdata[i - 1], "alias/@name", "")))
            g_ptr_array_remove_index(new, i - 1);
    if (new->len)
        (void)!commit_live(d, new, NULL);
    domain_plan_undo(plan, d);
}

static void after_attach(struct domain *d, const struct el *e, struct domain_plan *plan)
{
    static const char *const character[] = { "serial", "console", "channel" };
    keep_networks(d, plan->networks);
    g_ptr_array_set_size(plan->filtered, 0);
    g_ptr_array_set_size(plan->macvtaps, 0);
    g_ptr_array_set_size(plan->sockets, 0);
    for (unsigned i = 0; i < plan->notes->len; i++)
        domain_log(d, plan->notes->pdata[i]);
    for (unsigned i = 0; i < G_N_ELEMENTS(character); i++)
        if (g_str_equal(el_name(e), character[i]))
            domain_read_ptys(d);
    tell_added(d, e);
}

/* Into the machine, and then into the live document. `live`: a copy of it, with the device. */
static bool attach_live(struct domain *d, struct doc *live, struct el *e, GError **error)
{
    struct domain_build b;
    g_autoptr(GPtrArray) new = g_ptr_array_new();
    domain_build_init(&b, d, d->driver, live);
    bool good = plan_new(&b, e, new, error);
    if (good && !(domain_plan_send(b.plan, d, error) && domain_command_after(d, b.plan->after, error))) {
        take_back(d, b.plan, new);
        good = false;
    } else if (good) {
        good = commit_live(d, new, error);
        after_attach(d, e, b.plan);
    }
    domain_build_finish(&b);
    return good;
}

static bool attach_both(struct domain *d, const struct el *device, bool live, bool config, GError **error)
{
    doc_auto *now = NULL;
    struct doc *defined = NULL;
    struct el *in_live = NULL, *in_defined = NULL;
    bool good = true;
    if (config) {
        doc_auto *old = domain_definition(d, error);
        defined = old ? with_device(d->driver, old, device, true, &in_defined, error) : NULL;
        good = defined != NULL;
    }
    /* Completed, a console without a target may be any kind. */
    if (good && live && g_str_equal(el_name(device), "console"))
        good = check_hotplug(device, error);
    if (good && live) {
        doc_auto *old = domain_live(d, error);
        now = old ? with_device(d->driver, old, device, false, &in_live, error) : NULL;
        good = now && check_hotplug(in_live, error) && attach_live(d, now, in_live, error);
    }
    if (good && config)
        good = domain_set_definition(d, g_steal_pointer(&defined), error);
    doc_free(defined);
    return good;
}

static struct doc *parse_device(const char *xml, GError **error)
{
    return doc_parse_at(&schema_domain, "devices", xml, -1, error);
}

/* A random MAC address is the same in the machine and in the definition. */
static void settle(struct el *e)
{
    if (g_str_equal(el_name(e), "interface") && !el_get(e, "mac/@address")) {
        uint32_t r = g_random_int();
        el_setf(e, "mac/@address", "52:54:00:%02x:%02x:%02x", r & 255, r >> 8 & 255, r >> 16 & 255);
    }
}

bool domain_attach(struct domain *d, const char *xml, uint32_t flags, GError **error)
{
    bool live, config;
    doc_auto *device = parse_device(xml, error);
    if (!device || !domain_begin(d, "attach", false, error))
        return false;
    bool good = domain_affect(d, flags, &live, &config, error);
    struct el *e = doc_root(device);
    domain_forget_live(e);
    settle(e);
    /* A drive that is there and gets a medium: old clients attach a CD for that. */
    bool medium = g_str_equal(el_name(e), "disk") && (el_is(e, "@device", "cdrom") || el_is(e, "@device", "floppy"));
    if (good && medium && live)
        good = domain_update_device(d, e, live, config, false, error);
    else if (good)
        good = attach_both(d, e, live, config, error);
    domain_end(d);
    return good;
}

/* ---- detach ---- */

static bool detach_config(struct domain *d, const struct el *asked, const char *alias, struct doc **ret, GError **error)
{
    *ret = domain_definition(d, error);
    struct el *e = *ret ? domain_device_find(*ret, asked, alias, error) : NULL;
    if (!e)
        return false;
    count_memory(doc_root(*ret), e, false);
    el_remove(e);
    return true;
}

static bool check_removable(const struct el *e, GError **error)
{
    static const char *const never[] = { "input", "graphics", "video", "emulator", "parallel", "panic", "audio" };
    bool isa = (g_str_equal(el_name(e), "serial") && el_is(e, "target/@type", "isa-serial")) || (g_str_equal(el_name(e), "console") && !el_is(e, "target/@type", "virtio"));
    bool disk = g_str_equal(el_name(e), "disk") && !el_is(e, "target/@bus", "virtio") && !el_is(e, "target/@bus", "scsi") && !el_is(e, "target/@bus", "usb");
    bool bridge = g_str_equal(el_name(e), "controller") && (el_is(e, "@model", "pcie-root") || el_is(e, "@model", "pci-root") || el_is(e, "@type", "sata") || el_is(e, "@type", "ide"));
    for (unsigned i = 0; i < G_N_ELEMENTS(never); i++)
        isa |= g_str_equal(never[i], el_name(e)) && !(i == 0 && !el_is(e, "@bus", "ps2"));
    if (isa || disk || bridge) {
        g_autofree char *label = domain_device_label(e);
        return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "%s cannot be taken away while the machine runs; with --config it is gone at the next start", label);
    }
    return true;
}

static bool still_there(struct domain *d, const char *alias)
{
    bool there = false;
    g_mutex_lock(&d->lock);
    el_each(e, d->live ? el_find(doc_root(d->live), "devices") : NULL, NULL)
        there |= el_is(e, "alias/@name", alias);
    g_mutex_unlock(&d->lock);
    return there;
}

/* device_del. A guest that was given the card just now blinks with the light of its slot until it has it (PCI Express base specification,
 * 6.7.1.1.2), and takes no other request that long; that is waited for. */
static bool ask_guest(struct domain *d, const char *id, GError **error)
{
    for (unsigned i = 0; ; i++) {
        GError *e = NULL;
        struct json_object *args = json_object_new_object();
        js_set(args, "id", id);
        struct json_object *o = monitor_command(d, "device_del", args, &e);
        if (o) {
            json_object_put(o);
            return true;
        }
        if (i == DETACH_WAIT_MS / ASK_AGAIN_MS || !strstr(e->message, "power indicator blinking")) {
            g_propagate_error(error, e);
            return false;
        }
        g_error_free(e);
        g_usleep(ASK_AGAIN_MS * 1000);
    }
}

/* device_del, and waits for the guest: it lets go within seconds or not at all. What comes later, the event brings (domain_device_deleted). */
static bool detach_live(struct domain *d, const struct el *asked, const char *alias, GError **error)
{
    doc_auto *live = domain_live(d, error);
    struct el *e = live ? domain_device_find(live, asked, alias, error) : NULL;
    if (!e || !check_removable(e, error) || (g_str_equal(el_name(e), "disk") && !domain_blockjob_none(d, el_get_or(e, "target/@dev", ""), error)))
        return false;
    g_autofree char *id = g_strdup(el_get_or(e, "alias/@name", ""));
    if (!ask_guest(d, id, error))
        return false;
    for (unsigned i = 0; i < DETACH_WAIT_MS / 10 && still_there(d, id); i++)
        g_usleep(10000);
    return true;
}

bool domain_detach(struct domain *d, const char *xml, const char *alias, uint32_t flags, GError **error)
{
    bool live, config;
    struct doc *defined = NULL;
    doc_auto *device = xml ? parse_device(xml, error) : NULL;
    if ((xml && !device) || !domain_begin(d, "detach", false, error))
        return false;
    const struct el *asked = device ? doc_root(device) : NULL;
    bool good = domain_affect(d, flags, &live, &config, error);
    if (good && config)
        good = detach_config(d, asked, alias, &defined, error);
    if (good && live)
        good = detach_live(d, asked, alias, error);
    if (good && config)
        good = domain_set_definition(d, g_steal_pointer(&defined), error);
    doc_free(defined);
    domain_end(d);
    return good;
}

/* ---- after the machine let go ---- */

void domain_device_command(struct domain *d, const char *command, const char *key, const char *value)
{
    struct json_object *args = json_object_new_object();
    js_set(args, key, value);
    json_object_put(monitor_command(d, command, args, NULL));
}

void domain_device_backends(struct domain *d, const struct el *e)
{
    static const struct { const char *element, *command, *key, *format; } rows[] = { { "interface", "netdev_del", "id", "host%s" }, { "rng", "object-del", "id", "obj%s" },
        { "memory", "object-del", "id", "mem%s" }, { "channel", "chardev-remove", "id", "char%s" }, { "console", "chardev-remove", "id", "char%s" },
        { "serial", "chardev-remove", "id", "char%s" } };
    const char *name = el_name(e), *alias = el_get_or(e, "alias/@name", ""), *index = el_get(e, "source/@index");
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
        if (g_str_equal(rows[i].element, name)) {
            g_auto(GStrv) parts = g_strsplit(rows[i].format, "%s", 2);
            g_autofree char *id = g_strconcat(parts[0], alias, NULL);
            domain_device_command(d, rows[i].command, rows[i].key, id);
        }
    domain_char_gone(e);
    if (!g_str_equal(name, "disk") || !index)
        return;
    g_autofree char *secret = g_strdup_printf("libvirt-%s-format-encryption-secret0", index);
    g_autoptr(GArray) nodes = domain_chain_indexes(e, NULL);
    domain_chain_delete(d, nodes);
    if (el_find(e, "encryption") || el_find(e, "source/encryption"))
        domain_device_command(d, "object-del", "id", secret);
}

bool domain_device_deleted(struct domain *d, const char *alias)
{
    doc_auto *copy = domain_live(d, NULL);
    struct el *e = copy ? domain_device_find(copy, NULL, alias, NULL) : NULL;
    if (!e)
        return false;
    domain_device_backends(d, e);
    domain_interface_leave(d, e);
    if (g_str_equal(el_name(e), "interface")) {
        domain_bandwidth_gone(d->id, e);
        domain_filter_gone(d, e);
    }
    if (g_str_equal(el_name(e), "interface") && el_is(e, "@type", "direct"))
        domain_macvtap_remove(d->dir, el_get_or(e, "target/@dev", ""));
    g_mutex_lock(&d->lock);
    struct el *there = d->live ? domain_device_find(d->live, NULL, alias, NULL) : NULL;
    if (there) {
        count_memory(doc_root(d->live), there, false);
        el_remove(there);
        domain_summary_locked(d, d->live);
    }
    g_mutex_unlock(&d->lock);
    return domain_write_status(d, NULL);
}
