/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk on USB: Mass Storage Class, Bulk-Only Transport 1.0 (section numbers), over the SCSI unit that all buses share. A command's
 * data goes through a buffer of its own, so that the guest may cut a transfer into any pieces and give it up at any time; what it asks
 * for before the command has ended waits at its endpoint (NAK).
 */
#include <string.h>

#include "base/error.h"
#include "vmm/core/machine.h"
#include "vmm/core/state.h"
#include "vmm/dev/disk/scsi_unit.h"
#include "vmm/dev/usb/usb.h"

enum { OUT = 0x02, IN = 0x81, CBW_SIZE = 31, CSW_SIZE = 13, MAX_DATA = 16 << 20, MAX_IO = 1 << 20, MAX_RUNNING = 4 };
enum { CBW_SIGNATURE = 0x43425355, CSW_SIGNATURE = 0x53425355 };
enum { PASSED, FAILED };
enum { GET_MAX_LUN = 0xfe, MASS_STORAGE_RESET = 0xff };
enum { COMMAND, DATA_OUT, RUNNING, DATA_IN, STATUS }; /* what comes next */

struct storage;

struct run { /* a command that the unit has; it may outlive what asked for it */
    struct scsi_command c; /* first */
    struct storage *s;
    bool abandoned;        /* nobody waits for it */
    struct iovec iov;      /* owned */
};

struct storage {
    struct usb_device u;
    struct disk disk;
    struct scsi_unit unit;
    bool removable;
    uint64_t bootindex;
    struct run *run;          /* the one that is awaited */
    bool again;               /* of a loaded machine: the command begins when it runs */
    unsigned nrunning;
    uint8_t *data;            /* on its way to the unit, or to the guest */
    /* state; a command under way is begun anew by the guest */
    uint8_t phase, failed, cdb[SCSI_CDB_SIZE];
    uint32_t tag, length, there, moved, residue; /* length: what the guest wants to move; there: what can be; moved: so far */
    bool to_host;
};

static uint32_t get32(const uint8_t *p) { return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24; }
static void put32(uint8_t *p, uint32_t v)
{
    for (unsigned i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}

/* ---- commands ---- */

/* To the guest's next piece: data that it expects, however little there is, then the status. */
static void conclude(struct storage *s, bool failed, uint64_t did)
{
    s->failed = failed;
    s->there = (uint32_t)MIN(did, s->length);
    s->residue = s->length - s->there;
    s->moved = 0;
    s->phase = s->to_host && s->length ? DATA_IN : STATUS;
    usb_wakeup(&s->u, IN);
}

static void finished(struct scsi_command *c)
{
    struct run *r = (struct run *)c;
    struct storage *s = r->s;
    s->nrunning--;
    if (!r->abandoned) {
        s->run = NULL;
        if (s->to_host)
            s->data = g_steal_pointer(&r->iov.iov_base);
        conclude(s, c->cancelled || c->status != SCSI_GOOD, c->cancelled ? 0 : c->transferred);
    }
    g_free(r->iov.iov_base);
    g_free(r);
}

static void execute(struct storage *s)
{
    struct run *r = g_new0(struct run, 1);
    r->s = s;
    r->iov = (struct iovec){ g_steal_pointer(&s->data), s->length };
    r->c.unit = &s->unit;
    memcpy(r->c.cdb, s->cdb, sizeof(s->cdb));
    r->c.finished = finished;
    if (s->to_host) {
        r->c.in = &r->iov;
        r->c.nin = s->length ? 1 : 0;
        r->c.in_len = s->length;
    } else {
        r->c.out = &r->iov;
        r->c.nout = s->length ? 1 : 0;
        r->c.out_len = s->length;
    }
    s->run = r;
    s->phase = RUNNING;
    s->nrunning++;
    scsi_execute(&r->c);
}

static void abandon(struct storage *s)
{
    if (s->run)
        s->run->abandoned = true;
    s->run = NULL;
    g_clear_pointer(&s->data, g_free);
    s->phase = COMMAND;
    s->again = false;
}

/* ---- the two pipes ---- */

/* Command Block Wrapper (5.1, 6.2). */
static enum usb_status take_command(struct storage *s, struct usb_packet *p)
{
    uint8_t cbw[CBW_SIZE];
    if (p->length != CBW_SIZE || usb_packet_read(p, cbw, CBW_SIZE) != CBW_SIZE || get32(cbw) != CBW_SIGNATURE || cbw[13] & 15 || !(cbw[14] & 31) || (cbw[14] & 31) > 16)
        return USB_STALL;
    g_clear_pointer(&s->data, g_free);
    s->tag = get32(cbw + 4);
    s->length = get32(cbw + 8);
    s->to_host = cbw[12] & 0x80;
    s->moved = 0;
    memset(s->cdb, 0, sizeof(s->cdb));
    memcpy(s->cdb, cbw + 15, cbw[14] & 31);
    bool possible = s->length <= MAX_DATA && s->nrunning < MAX_RUNNING && (!s->length || (s->data = g_try_malloc0(s->length)));
    if (!possible && (s->to_host || !s->length))
        conclude(s, true, 0);
    else if (!s->to_host && s->length)
        s->phase = DATA_OUT; /* without a buffer it is taken and forgotten */
    else
        execute(s);
    return USB_DONE;
}

static enum usb_status take_data(struct storage *s, struct usb_packet *p)
{
    if (p->length > s->length - s->moved)
        return USB_STALL; /* 6.7: more than was announced */
    if (s->data)
        usb_packet_read(p, s->data + s->moved, p->length);
    p->actual = p->length;
    s->moved += (uint32_t)p->length;
    if (s->moved == s->length && s->data)
        execute(s);
    else if (s->moved == s->length)
        conclude(s, true, 0);
    return USB_DONE;
}

static enum usb_status give_data(struct storage *s, struct usb_packet *p)
{
    uint32_t n = (uint32_t)MIN(p->length, s->there - s->moved);
    if (n && s->data)
        usb_packet_write(p, s->data + s->moved, n);
    s->moved += n;
    if (n < p->length || s->moved == s->length) { /* a short piece ends the data */
        g_clear_pointer(&s->data, g_free);
        s->phase = STATUS;
    }
    return USB_DONE;
}

/* Command Status Wrapper (5.2). */
static enum usb_status give_status(struct storage *s, struct usb_packet *p)
{
    uint8_t csw[CSW_SIZE];
    if (p->length < CSW_SIZE)
        return USB_STALL;
    put32(csw, CSW_SIGNATURE);
    put32(csw + 4, s->tag);
    put32(csw + 8, s->residue);
    csw[12] = s->failed ? FAILED : PASSED;
    usb_packet_write(p, csw, sizeof(csw));
    s->phase = COMMAND;
    return USB_DONE;
}

static enum usb_status data(struct usb_device *u, struct usb_packet *p)
{
    struct storage *s = (struct storage *)u;
    if (p->endpoint == OUT)
        return s->phase == COMMAND ? take_command(s, p) : s->phase == DATA_OUT ? take_data(s, p) : USB_STALL;
    return s->phase == DATA_IN ? give_data(s, p) : s->phase == STATUS ? give_status(s, p) : USB_NAK;
}

static bool control(struct usb_device *u, const uint8_t setup[8], uint8_t *to, unsigned *length)
{
    switch (setup[0] << 8 | setup[1]) {
    case 0xa100 | GET_MAX_LUN:
        *to = 0;
        *length = 1;
        return true;
    case 0x2100 | MASS_STORAGE_RESET:
        abandon((struct storage *)u);
        return true;
    default:
        return false;
    }
}

static void bus_reset(struct usb_device *u) { abandon((struct storage *)u); }

/* ---- a saved machine: a command that waits for another try begins anew, with the data that it came with ---- */

static void drain(struct device *d)
{
    struct storage *s = (struct storage *)d;
    g_mutex_lock(s->disk.lock);
    disk_drain(&s->disk);
    g_mutex_unlock(s->disk.lock);
}

static void save(struct device *d, struct state_writer *w)
{
    struct storage *s = (struct storage *)d;
    g_mutex_lock(s->disk.lock);
    const uint8_t *data = s->run && !s->to_host ? s->run->iov.iov_base : s->data;
    disk_save(&s->disk, w);
    state_put(w, "data", data, 1, data ? s->length : 0);
    g_mutex_unlock(s->disk.lock);
}

static bool phase_ok(const struct storage *s, bool has_data)
{
    bool possible = s->phase <= STATUS && s->failed <= 1 && s->there <= s->length && s->moved <= s->length && s->residue <= s->length;
    switch (s->phase) {
    case RUNNING: return possible && s->length <= MAX_DATA && (s->to_host || !s->length || has_data);
    case DATA_IN: return possible && s->moved <= s->there && (!s->there || has_data);
    case DATA_OUT: return possible && !s->to_host;
    default: return possible;
    }
}

static bool load(struct device *d, struct state_reader *r, GError **error)
{
    struct storage *s = (struct storage *)d;
    uint32_t n = 0;
    g_mutex_lock(s->disk.lock);
    g_clear_pointer(&s->data, g_free);
    const uint8_t *data = usb_device_loaded(&s->u, r, error) && disk_load(&s->disk, r, error) ? state_get_bytes(r, "data", &n, error) : NULL;
    bool ok = data && (((!n || n == s->length) && n <= MAX_DATA && phase_ok(s, n)) || state_bad(r, error, "the state of its command is not possible"));
    if (ok) {
        s->data = n ? g_memdup2(data, n) : NULL;
        s->again = s->phase == RUNNING;
    } else {
        abandon(s);
    }
    g_mutex_unlock(s->disk.lock);
    return ok;
}

static void on_hook(void *opaque, enum machine_hook_event ev)
{
    struct storage *s = opaque;
    if (ev != HOOK_RUN)
        return;
    g_mutex_lock(s->disk.lock);
    if (s->again) {
        s->again = false;
        s->data = s->data || !s->length ? s->data : g_malloc0(s->length);
        execute(s);
    }
    g_mutex_unlock(s->disk.lock);
}

/* ---- life ---- */

static void changed(void *opaque, bool resized)
{
    struct storage *s = opaque;
    scsi_unit_changed(&s->unit, resized);
}

static void fill_unit(struct storage *s)
{
    struct scsi_unit *u = &s->unit;
    scsi_unit_init(u, &s->disk, false);
    u->vendor = "VIREO";
    u->product = "USB DISK";
    u->version = "1.0";
    u->serial = s->u.serial;
    u->device_id = s->u.serial ? NULL : block_device_options(s->disk.block)->id;
    u->removable_medium = s->removable;
    u->max_io = MAX_IO;
    s->disk.changed = changed;
    s->disk.opaque = s;
}

static bool realize(struct device *d, GError **error)
{
    struct storage *s = (struct storage *)d;
    if (!s->disk.drive)
        return vireo_fail(error, VIREO_ERROR_INVALID, "device usb-storage: drive property not set; give drive=ID of a -drive or -blockdev");
    if (!usb_device_find_port(&s->u, error))
        return false;
    if (!disk_open(&s->disk, d, usb_lock(&s->u), false, error))
        return false;
    fill_unit(s);
    d->boot_controller = s->u.bus->controller;
    g_snprintf(d->boot_unit, sizeof(d->boot_unit), "/storage@%x/channel@0/disk@0,0", (s->u.port < s->u.bus->n2 ? s->u.port : s->u.port - s->u.bus->n2) + 1);
    usb_device_show(&s->u);
    machine_add_hook(d->machine, on_hook, s);
    return true;
}

static void unrealize(struct device *d)
{
    struct storage *s = (struct storage *)d;
    if (!s->disk.lock)
        return;
    machine_remove_hook(d->machine, on_hook, s);
    usb_device_detach(&s->u);
    g_mutex_lock(s->disk.lock);
    abandon(s);
    disk_settle(&s->disk);
    g_mutex_unlock(s->disk.lock);
    disk_close(&s->disk);
}

static void reset(struct device *d)
{
    struct storage *s = (struct storage *)d;
    if (!s->u.bus)
        return;
    g_mutex_lock(usb_lock(&s->u));
    abandon(s);
    disk_settle(&s->disk);
    scsi_unit_reset(&s->unit);
    usb_reset(&s->u);
    g_mutex_unlock(usb_lock(&s->u));
}

#define T struct storage
static const struct usb_class storage_class = {
    .product = "Vireo USB Disk", .vendor_id = 0x46f4, .product_id = 0x0001, .class = 8, .subclass = 6, .protocol = 0x50, .speed = USB_SPEED_HIGH,
    .max_speed = USB_SPEED_SUPER, .nendpoints = 2, .endpoints = { { IN, 2, 512, 0 }, { OUT, 2, 512, 0 } }, .control = control, .data = data, .reset = bus_reset,
};
static const struct device_prop props[] = {
    USB_PROPS(T, u), DISK_PROPS(T, disk), DISK_ERROR_PROPS(T, disk),
    { "removable", PROP_BOOL, offsetof(T, removable), .def = "off", .help = "the guest is told that its medium can be taken out" },
    { "bootindex", PROP_UINT, offsetof(T, bootindex), 0, UINT32_MAX, .def = "4294967295", .help = "place in the firmware\'s boot order; 4294967295: none" },
    { NULL }
};
static const struct device_field fields[] = {
    USB_FIELDS(T, u), DEVICE_FIELD(T, phase), DEVICE_FIELD(T, failed), DEVICE_ARRAY(T, cdb), DEVICE_FIELD(T, tag), DEVICE_FIELD(T, length), DEVICE_FIELD(T, there),
    DEVICE_FIELD(T, moved), DEVICE_FIELD(T, residue), DEVICE_FIELD(T, to_host),
    SCSI_UNIT_FIELDS(T, unit), { NULL }
};
const struct device_class usb_storage_class = {
    .name = "usb-storage", .help = "USB disk", .size = sizeof(T), .props = props, .fields = fields, .user_creatable = true, .realize = realize, .reset = reset,
    .unrealize = unrealize, .hotplug = true, .unplug = usb_device_unplug, .drain = drain, .save = save, .load = load,
    .bus_class = &storage_class,
};
