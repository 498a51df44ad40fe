/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtio SCSI controller (virtio 1.2, 5.6). Commands run on the thread that is notified as far as they need not wait, and are
 * completed by the block layer's threads, with one interrupt for all that have become ready. Task management waits for the commands
 * that it is about: what a disk of the host has begun cannot be called back.
 */
#include <string.h>

#include "base/error.h"
#include "vmm/bus/virtio.h"
#include "vmm/bus/virtio_event.h"
#include "vmm/core/iothread.h"
#include "vmm/core/machine.h"
#include "vmm/core/state.h"
#include "vmm/dev/scsi/scsi_bus.h"

enum { F_HOTPLUG = 1 << 1, F_CHANGE = 1 << 2 };
enum { Q_CONTROL, Q_EVENT, Q_REQUEST };
enum { CONFIG_SIZE = 36, CONFIG_SENSE_SIZE = 20, CONFIG_CDB_SIZE = 24, DEFAULT_SENSE = 96, DEFAULT_CDB = 32, MAX_SENSE = 512, MAX_CDB = 256 };
enum { HEADER = 19, RESPONSE = 12 };
enum { RESP_OK = 0, RESP_OVERRUN = 1, RESP_ABORTED = 2, RESP_BAD_TARGET = 3, RESP_RESET = 4, RESP_FAILURE = 9, RESP_TMF_SUCCEEDED = 10, RESP_TMF_REJECTED = 11, RESP_INCORRECT_LUN = 12 };
enum { T_TMF = 0, T_AN_QUERY = 1, T_AN_SUBSCRIBE = 2 };
enum { TMF_ABORT_TASK, TMF_ABORT_TASK_SET, TMF_CLEAR_ACA, TMF_CLEAR_TASK_SET, TMF_NEXUS_RESET, TMF_LUN_RESET, TMF_QUERY_TASK, TMF_QUERY_TASK_SET };
enum { E_MISSED = 1u << 31, E_NONE = 0, E_TRANSPORT_RESET = 1, E_PARAM_CHANGE = 3 };
enum { RESET_RESCAN = 1, RESET_REMOVED = 2 };
enum { MAX_TARGET = 255, MAX_LUN = 16383, MAX_REQUEST_QUEUES = VIRTIO_MAX_QUEUES - 2, DEFAULT_VECTORS = 3 };

struct virtio_scsi {
    struct virtio_device v;
    struct scsi_bus bus;
    uint64_t num_queues, queue_size, cmd_per_lun, max_sectors;
    bool hotplug, param_change, seg_max_adjust;
    char *iothread;
    uint32_t sense_size, cdb_size; /* the driver's choice */
    bool events_missed;
    GQueue commands;               /* struct request *, at work */
    GQueue parked;                 /* struct virtio_chain *: requests of a loaded machine, which begin anew when it runs */
    uint64_t interrupts;           /* queues with answers that the driver has not been told of */
};

struct tmf {
    struct virtio_chain *c;
    unsigned left; /* commands that it waits for */
};

struct request {
    struct scsi_command cmd;
    struct virtio_scsi *s;
    struct virtio_chain *c;
    struct scsi_device *dev;   /* NULL: there is no such unit */
    uint64_t id;
    GList link;
    struct tmf *tmf;           /* somebody waits for the end of it */
    uint8_t aborted;           /* the response then */
    struct iovec iov[];
};

/* ---- answers ---- */

static void interrupt(struct scsi_bus *b)
{
    struct virtio_scsi *s = (struct virtio_scsi *)b->controller;
    for (; s->interrupts; s->interrupts &= s->interrupts - 1)
        virtqueue_interrupt(&s->v.queues[__builtin_ctzll(s->interrupts)]);
}

static void push(struct virtio_scsi *s, struct virtio_chain *c, uint64_t written)
{
    s->interrupts |= 1ull << c->queue->index;
    virtqueue_push(c, MIN(written, UINT32_MAX));
}

static void respond(struct virtio_scsi *s, struct virtio_chain *c, uint8_t response, const struct scsi_command *cmd, uint64_t size)
{
    uint8_t out[RESPONSE + MAX_SENSE] = { 0 };
    uint64_t in = 0, moved = 0;
    out[11] = response;
    if (cmd) {
        uint64_t there = cmd->in_len + cmd->out_len;
        uint32_t sense = cmd->status == SCSI_CHECK_CONDITION ? MIN(SCSI_SENSE_SIZE, s->sense_size) : 0;
        moved = MIN(cmd->transferred, there);
        uint32_t resid = MIN(there - moved, UINT32_MAX);
        in = cmd->in_len ? moved : 0;
        memcpy(out, &sense, 4);
        memcpy(out + 4, &resid, 4);
        out[10] = cmd->status;
        memcpy(out + RESPONSE, cmd->sense, sense);
        if (response == RESP_OK && cmd->wanted > there && cmd->status == SCSI_GOOD)
            out[11] = RESP_OVERRUN;
    }
    virtio_chain_write(c, 0, out, size);
    push(s, c, size + in);
}

static void tmf_done(struct virtio_scsi *s, struct tmf *t)
{
    if (--t->left)
        return;
    uint8_t response = RESP_OK; /* FUNCTION COMPLETE */
    virtio_chain_write(t->c, 0, &response, 1);
    push(s, t->c, 1);
    g_free(t);
}

static void finished(struct scsi_command *cmd)
{
    struct request *r = (struct request *)cmd;
    struct virtio_scsi *s = r->s;
    g_queue_unlink(&s->commands, &r->link);
    if (r->tmf)
        respond(s, r->c, r->aborted, NULL, RESPONSE + s->sense_size);
    else
        respond(s, r->c, cmd->cancelled ? RESP_RESET : RESP_OK, cmd, RESPONSE + s->sense_size);
    if (r->tmf)
        tmf_done(s, r->tmf);
    g_free(r);
}

/* ---- requests ---- */

/* 5.6.6.1: 1, target, and a LUN in one level. */
static bool parse_lun(const uint8_t *lun, unsigned *ret_target, unsigned *ret_lun)
{
    *ret_target = lun[1];
    *ret_lun = (lun[2] & 0x3f) << 8 | lun[3];
    return lun[0] == 1 && (lun[2] >> 6) < 2 && !(lun[2] < 0x40 && lun[2]);
}

static bool target_exists(const struct virtio_scsi *s, unsigned target)
{
    uint16_t lun;
    return scsi_bus_luns(&s->bus, target, &lun, 1);
}

static void execute(struct virtio_scsi *s, struct request *r, const uint8_t *header, unsigned target, unsigned lun)
{
    struct virtio_chain *c = r->c;
    struct scsi_command *cmd = &r->cmd;
    uint64_t head = HEADER + s->cdb_size, response = RESPONSE + s->sense_size;
    r->dev = scsi_bus_find(&s->bus, target, lun);
    memcpy(&r->id, header + 8, 8);
    memcpy(cmd->cdb, header + HEADER, MIN(s->cdb_size, SCSI_CDB_SIZE));
    cmd->out_len = c->out_len - head;
    cmd->in_len = c->in_len - response;
    cmd->out = r->iov;
    cmd->nout = disk_slice(c->iov, c->nout, head, cmd->out_len, r->iov);
    cmd->in = r->iov + cmd->nout;
    cmd->nin = disk_slice(c->iov + c->nout, c->nin, response, cmd->in_len, r->iov + cmd->nout);
    cmd->finished = finished;
    r->link.data = r;
    g_queue_push_tail_link(&s->commands, &r->link);
    if (r->dev) {
        cmd->unit = &r->dev->unit;
        scsi_execute(cmd);
    } else {
        uint16_t luns[256];
        scsi_execute_no_unit(cmd, luns, scsi_bus_luns(&s->bus, target, luns, G_N_ELEMENTS(luns)));
    }
}

static void handle_request(struct virtio_scsi *s, struct virtio_chain *c)
{
    uint8_t header[HEADER + MAX_CDB] = { 0 };
    uint64_t head = HEADER + s->cdb_size, response = RESPONSE + s->sense_size;
    unsigned target, lun;
    if (c->out_len < head || c->in_len < response || virtio_chain_read(c, 0, header, head) != head) {
        virtio_broken(&s->v, "a request without header or room for the response");
        virtqueue_push(c, 0);
        return;
    }
    if (c->out_len > head && c->in_len > response) { /* both ways at once is not offered */
        respond(s, c, RESP_FAILURE, NULL, response);
        return;
    }
    if (!parse_lun(header, &target, &lun) || !target_exists(s, target)) {
        respond(s, c, RESP_BAD_TARGET, NULL, response);
        return;
    }
    struct request *r = g_malloc(sizeof(*r) + (c->nout + c->nin) * sizeof(struct iovec));
    memset(r, 0, sizeof(*r));
    r->s = s;
    r->c = c;
    execute(s, r, header, target, lun);
}

/* ---- the control queue ---- */

/* Commands of the unit (or with this id) end with `aborted`, and t waits for them. Returns how many there are. */
static unsigned mark(struct virtio_scsi *s, const struct scsi_device *dev, unsigned target, const uint64_t *id, struct tmf *t, uint8_t aborted)
{
    unsigned n = 0;
    for (GList *l = s->commands.head; l; l = l->next) {
        struct request *r = l->data;
        if ((dev ? r->dev != dev : !r->dev || r->dev->id != target) || (id && r->id != *id))
            continue;
        n++;
        if (t && !r->tmf) {
            r->tmf = t;
            r->aborted = aborted;
            t->left++;
        }
    }
    return n;
}

static void reset_units(struct virtio_scsi *s, const struct scsi_device *dev, unsigned target)
{
    for (guint i = 0; i < s->bus.devices->len; i++) {
        struct scsi_device *d = s->bus.devices->pdata[i];
        if (d == dev || (!dev && d->id == target))
            scsi_unit_reset(&d->unit);
    }
}

static void handle_tmf(struct virtio_scsi *s, struct virtio_chain *c)
{
    struct { uint32_t type, subtype; uint8_t lun[8]; uint64_t id; } h;
    unsigned target, lun;
    uint8_t response = RESP_TMF_REJECTED;
    if (virtio_chain_read(c, 0, &h, sizeof(h)) != sizeof(h)) {
        virtio_broken(&s->v, "a task management request that is too short");
        virtqueue_push(c, 0);
        return;
    }
    struct tmf *t = g_new0(struct tmf, 1);
    t->c = c;
    t->left = 1;
    bool valid = parse_lun(h.lun, &target, &lun);
    const struct scsi_device *dev = valid ? scsi_bus_find(&s->bus, target, lun) : NULL;
    if (!valid || !target_exists(s, target)) {
        response = RESP_BAD_TARGET;
    } else if (!dev && h.subtype != TMF_NEXUS_RESET) {
        response = RESP_INCORRECT_LUN;
    } else {
        switch (h.subtype) {
        case TMF_ABORT_TASK: mark(s, dev, target, &h.id, t, RESP_ABORTED); response = RESP_OK; break;
        case TMF_ABORT_TASK_SET: case TMF_CLEAR_TASK_SET: mark(s, dev, target, NULL, t, RESP_ABORTED); response = RESP_OK; break;
        case TMF_LUN_RESET: case TMF_NEXUS_RESET:
            dev = h.subtype == TMF_LUN_RESET ? dev : NULL;
            mark(s, dev, target, NULL, t, RESP_RESET);
            reset_units(s, dev, target);
            response = RESP_OK;
            break;
        case TMF_QUERY_TASK: response = mark(s, dev, target, &h.id, NULL, 0) ? RESP_TMF_SUCCEEDED : RESP_OK; break;
        case TMF_QUERY_TASK_SET: response = mark(s, dev, target, NULL, NULL, 0) ? RESP_TMF_SUCCEEDED : RESP_OK; break;
        }
    }
    if (response == RESP_OK) {
        tmf_done(s, t);
        return;
    }
    virtio_chain_write(c, 0, &response, 1);
    push(s, c, 1);
    g_free(t);
}

static void handle_control(struct virtio_scsi *s, struct virtio_chain *c)
{
    uint32_t type;
    uint8_t out[5] = { 0 };
    if (virtio_chain_read(c, 0, &type, 4) != 4 || !c->in_len) {
        virtio_broken(&s->v, "a control request without type or room for the response");
        virtqueue_push(c, 0);
    } else if (type == T_TMF) {
        handle_tmf(s, c);
    } else if (type == T_AN_QUERY || type == T_AN_SUBSCRIBE) { /* of no event */
        push(s, c, virtio_chain_write(c, 0, out, sizeof(out)));
    } else {
        out[0] = RESP_FAILURE;
        push(s, c, virtio_chain_write(c, 0, out, 1));
    }
}

/* ---- events ---- */

static void send_event(struct virtio_scsi *s, uint32_t event, const struct scsi_device *d, uint32_t reason)
{
    struct { uint32_t event; uint8_t lun[8]; uint32_t reason; } e = { .event = event, .reason = reason };
    struct virtio_chain *c = virtio_running(&s->v) ? virtqueue_pop(&s->v.queues[Q_EVENT]) : NULL;
    if (!c) {
        s->events_missed = virtio_running(&s->v);
        return;
    }
    if (s->events_missed)
        e.event |= E_MISSED;
    s->events_missed = false;
    if (d) {
        e.lun[0] = 1;
        e.lun[1] = d->id;
        e.lun[2] = d->lun >> 8 | (d->lun > 255 ? 0x40 : 0);
        e.lun[3] = d->lun;
    }
    size_t n = virtio_chain_write(c, 0, &e, sizeof(e));
    virtqueue_push(c, n);
    virtqueue_interrupt(&s->v.queues[Q_EVENT]);
}

static void plugged(struct scsi_bus *b, struct scsi_device *d, bool came)
{
    struct virtio_scsi *s = (struct virtio_scsi *)b->controller;
    if (virtio_has(&s->v, F_HOTPLUG))
        send_event(s, E_TRANSPORT_RESET, d, came ? RESET_RESCAN : RESET_REMOVED);
}

static void unit_changed(struct scsi_bus *b, struct scsi_device *d, uint16_t asc)
{
    struct virtio_scsi *s = (struct virtio_scsi *)b->controller;
    if (virtio_has(&s->v, F_CHANGE))
        send_event(s, E_PARAM_CHANGE, d, asc >> 8 | (asc & 0xff) << 8);
}

static void queue_notify(struct virtio_device *v, unsigned queue)
{
    struct virtio_scsi *s = (struct virtio_scsi *)v;
    struct virtqueue *q = &v->queues[queue];
    struct virtio_chain *c;
    unsigned budget = 2 * q->size;
    if (queue == Q_EVENT) {
        if (s->events_missed && virtqueue_ready(q))
            send_event(s, E_NONE, NULL, 0);
        return;
    }
    do {
        (void)virtqueue_want_notify(q, false);
        while (budget && (c = virtqueue_pop(q))) {
            if (queue == Q_CONTROL)
                handle_control(s, c);
            else
                handle_request(s, c);
            budget--;
        }
        interrupt(&s->bus);
    } while (virtqueue_want_notify(q, true) && budget);
    if (!budget && virtqueue_ready(q))
        virtio_queue_again(q);
}

/* ---- device ---- */

static uint64_t features(struct virtio_device *v)
{
    const struct virtio_scsi *s = (struct virtio_scsi *)v;
    return (s->hotplug ? F_HOTPLUG : 0) | (s->param_change ? F_CHANGE : 0);
}

static void config_read(struct virtio_device *v, uint8_t *ret)
{
    const struct virtio_scsi *s = (struct virtio_scsi *)v;
    const uint32_t numbers[] = { s->num_queues, s->seg_max_adjust ? s->queue_size - 2 : 126, s->max_sectors, s->cmd_per_lun, 16 /* of an event */,
                                 s->sense_size, s->cdb_size };
    const uint16_t max_channel = 0, max_target = MAX_TARGET;
    const uint32_t max_lun = MAX_LUN;
    memcpy(ret, numbers, sizeof(numbers));
    memcpy(ret + 28, &max_channel, 2);
    memcpy(ret + 30, &max_target, 2);
    memcpy(ret + 32, &max_lun, 4);
}

/* 5.6.4: only before the queues are used: what is in flight has the sizes of its time. */
static void config_write(struct virtio_device *v, unsigned offset, unsigned size, uint64_t value)
{
    struct virtio_scsi *s = (struct virtio_scsi *)v;
    bool sense = offset == CONFIG_SENSE_SIZE, bad = value > (sense ? MAX_SENSE : MAX_CDB) || !value;
    if (size != 4 || (!sense && offset != CONFIG_CDB_SIZE) || !g_queue_is_empty(&s->commands))
        return;
    if (bad)
        virtio_broken(v, "a size of %u for %s is not possible", (unsigned)value, sense ? "sense data" : "commands");
    else if (sense)
        s->sense_size = value;
    else
        s->cdb_size = value;
}

static void stop(struct virtio_device *v)
{
    struct virtio_scsi *s = (struct virtio_scsi *)v;
    scsi_bus_settle(&s->bus);
    scsi_bus_reset(&s->bus);
    s->interrupts = 0;
    g_queue_clear_full(&s->parked, (GDestroyNotify)virtio_chain_free);
    s->events_missed = false;
    s->sense_size = DEFAULT_SENSE;
    s->cdb_size = DEFAULT_CDB;
}

/* ---- a saved machine ---- */

static void drain(struct device *d)
{
    scsi_bus_drain(&((struct virtio_scsi *)d)->bus);
}

static void save_chain(const struct virtio_chain *c, struct state_writer *w, unsigned *n)
{
    g_autofree char *name = g_strdup_printf("request%u", (*n)++);
    virtio_chain_save(c, w, name);
}

/* Commands that wait for another try, then what waits for their end: in this order they are given again. */
static void save(struct device *d, struct state_writer *w)
{
    struct virtio_scsi *s = (struct virtio_scsi *)d;
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    unsigned n = 0;
    virtio_save(&s->v, w);
    for (const GList *l = s->parked.head; l; l = l->next)
        save_chain(l->data, w, &n);
    for (const GList *l = s->commands.head; l; l = l->next)
        save_chain(((struct request *)l->data)->c, w, &n);
    for (const GList *l = s->commands.head; l; l = l->next) {
        struct tmf *t = ((struct request *)l->data)->tmf;
        if (t && g_hash_table_add(seen, t))
            save_chain(t->c, w, &n);
    }
    state_put_u64(w, "requests", n);
}

static bool load(struct device *d, struct state_reader *r, GError **error)
{
    struct virtio_scsi *s = (struct virtio_scsi *)d;
    if (!s->sense_size || s->sense_size > MAX_SENSE || !s->cdb_size || s->cdb_size > MAX_CDB) {
        s->sense_size = DEFAULT_SENSE;
        s->cdb_size = DEFAULT_CDB;
        return state_bad(r, error, "its sizes of sense data and commands are not possible");
    }
    return virtio_load(&s->v, r, error) && virtio_chains_load(&s->v, r, VIRTIO_MAX_QUEUES * s->queue_size, &s->parked, error);
}

static void on_hook(void *opaque, enum machine_hook_event ev)
{
    struct virtio_scsi *s = opaque;
    struct virtio_chain *c;
    if (ev != HOOK_RUN)
        return;
    g_mutex_lock(&s->v.dev.lock);
    while ((c = g_queue_pop_head(&s->parked))) {
        if (c->queue->index == Q_CONTROL)
            handle_control(s, c);
        else
            handle_request(s, c);
    }
    interrupt(&s->bus);
    g_mutex_unlock(&s->v.dev.lock);
}

static bool check(struct virtio_scsi *s, GError **error)
{
    const struct device *d = &s->v.dev;
    if (s->queue_size & (s->queue_size - 1))
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: virtqueue_size=%" G_GUINT64_FORMAT " is no power of two", d->class->name, s->queue_size);
    if (s->num_queues == UINT32_MAX)
        s->num_queues = d->class->bus == DEV_BUS_PCI && d->machine->config ? CLAMP(d->machine->config->cpus, 1, MAX_REQUEST_QUEUES) : 1;
    if (s->num_queues > MAX_REQUEST_QUEUES)
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: num_queues=%" G_GUINT64_FORMAT ": 1 to %u", d->class->name, s->num_queues,
                          MAX_REQUEST_QUEUES);
    if (s->iothread && *s->iothread && !(s->v.iothread = iothread_find(d->machine, s->iothread, error)))
        return false;
    if (s->v.iothread && !s->v.ioeventfd)
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: ioeventfd is required for iothread", d->class->name);
    return true;
}

static bool realize(struct device *d, GError **error)
{
    struct virtio_scsi *s = (struct virtio_scsi *)d;
    uint16_t sizes[VIRTIO_MAX_QUEUES];
    if (!check(s, error))
        return false;
    unsigned n = Q_REQUEST + s->num_queues;
    for (unsigned i = 0; i < n; i++)
        sizes[i] = s->queue_size;
    if (s->v.pci_vectors == DEFAULT_VECTORS)
        s->v.pci_vectors = n + 1;
    s->sense_size = DEFAULT_SENSE;
    s->cdb_size = DEFAULT_CDB;
    g_queue_init(&s->commands);
    g_queue_init(&s->parked);
    scsi_bus_init(&s->bus, d, MAX_TARGET, MAX_LUN);
    s->bus.plugged = plugged;
    s->bus.changed = unit_changed;
    s->bus.batch_done = interrupt;
    if (!virtio_realize(&s->v, n, sizes, error)) {
        scsi_bus_finish(&s->bus);
        return false;
    }
    machine_add_hook(d->machine, on_hook, s);
    return true;
}

static void unrealize(struct device *d)
{
    struct virtio_scsi *s = (struct virtio_scsi *)d;
    machine_remove_hook(d->machine, on_hook, s);
    virtio_unrealize(&s->v);
    scsi_bus_finish(&s->bus);
}

#define T struct virtio_scsi
#define SCSI_PROPS                                                                                                            \
    { "num_queues", PROP_UINT, offsetof(T, num_queues), 1, UINT32_MAX, .def = "4294967295", .help = "request queues; 4294967295: as many as vCPUs (PCI)" }, \
    { "virtqueue_size", PROP_UINT, offsetof(T, queue_size), 4, 1024, .def = "256", .help = "requests of a queue, a power of two" }, \
    { "cmd_per_lun", PROP_UINT, offsetof(T, cmd_per_lun), 1, UINT32_MAX, .def = "128", .help = "commands that a driver should give a unit at once" }, \
    { "max_sectors", PROP_UINT, offsetof(T, max_sectors), 1, UINT32_MAX, .def = "65535", .help = "sectors of a command" },    \
    { "seg_max_adjust", PROP_BOOL, offsetof(T, seg_max_adjust), .def = "on", .help = "pieces of a command: as many as the queue has room for" }, \
    { "hotplug", PROP_BOOL, offsetof(T, hotplug), .def = "on", .help = "tell the guest of devices that come and go" },        \
    { "param_change", PROP_BOOL, offsetof(T, param_change), .def = "on", .help = "tell the guest of new sizes" },             \
    { "iothread", PROP_STRING, offsetof(T, iothread), .help = "id of the -object iothread that serves the queues" }

static const struct device_prop pci_props[] = { SCSI_PROPS, VIRTIO_PCI_PROPS(T, "3"), { NULL } };
static const struct device_prop mmio_props[] = { SCSI_PROPS, VIRTIO_COMMON_PROPS(T), { NULL } };
static const struct device_field fields[] = { VIRTIO_FIELDS(T), DEVICE_FIELD(T, sense_size), DEVICE_FIELD(T, cdb_size), DEVICE_FIELD(T, events_missed), { NULL } };
static const struct virtio_class scsi = {
    .name = "virtio-scsi", .id = VIRTIO_ID_SCSI, .pci_class = 0x01, .pci_subclass = 0x00, .config_size = CONFIG_SIZE, .features = features,
    .config_read = config_read, .config_write = config_write, .queue_notify = queue_notify, .stop = stop,
};

struct scsi_bus *scsi_bus_of(struct device *d)
{
    return d->class->bus_class == &scsi ? &((struct virtio_scsi *)d)->bus : NULL;
}

const struct device_class virtio_scsi_pci_class = {
    .name = "virtio-scsi-pci", .help = "virtio SCSI controller", .bus = DEV_BUS_PCI, .size = sizeof(T), .props = pci_props, .fields = fields,
    .user_creatable = true, .realize = realize, .reset = virtio_device_reset, .unrealize = unrealize, .drain = drain, .save = save,
    .load = load, .bus_class = &scsi,
};
const struct device_class virtio_scsi_mmio_class = {
    .name = "virtio-scsi-device", .help = "virtio SCSI controller in an MMIO slot", .bus = DEV_BUS_VIRTIO, .size = sizeof(T), .props = mmio_props,
    .fields = fields, .user_creatable = true, .realize = realize, .reset = virtio_device_reset, .unrealize = unrealize, .drain = drain, .save = save,
    .load = load, .bus_class = &scsi,
};
