/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtio console device (virtio 1.2, 5.3) with several ports, and the ports: virtconsole (a console) and virtserialport
 * (a named channel). The ports' state is covered by the serial device's lock; character devices call on the main thread.
 */
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "vmm/bus/virtio.h"
#include "vmm/bus/virtio_event.h"
#include "vmm/core/chardev.h"
#include "vmm/core/machine.h"
#include "vmm/core/state.h"
#include "vmm/dev/virtio_devices.h"

enum { F_MULTIPORT = 1 << 1 };
enum { Q_CTRL_IN = 2, Q_CTRL_OUT = 3, QUEUE_SIZE = 128, PORTS_MAX = 31, CONFIG_SIZE = 12, PENDING_MAX = 256, INPUT_MAX = 1 << 16 };
enum { DEVICE_READY, PORT_ADD, PORT_REMOVE, PORT_READY, CONSOLE_PORT, RESIZE, PORT_OPEN, PORT_NAME }; /* 5.3.6.2 */

struct control {
    uint32_t id;
    uint16_t event, value;
};

struct virtio_serial;

struct virtio_port {
    struct device dev;
    char *chardev_id, *port_name, *bus_name;
    uint64_t nr; /* PORTS_MAX and more: the first free one */
    bool is_console;
    struct virtio_serial *serial;
    struct chardev *chardev;
    bool guest_open, host_open;
    struct virtio_chain *out; /* being written, `out_done` bytes of it taken */
    uint64_t out_done;
    GByteArray *in; /* what the host sent and no buffer was there for */
};

struct virtio_serial {
    struct virtio_device v;
    uint64_t max_ports;
    struct virtio_port *ports[PORTS_MAX];
    GQueue control; /* GBytes for the control input queue */
};

static unsigned port_queue(unsigned nr) /* its input queue; output is the next one */
{
    return nr ? 2 * nr + 2 : 0;
}

/* ---- control messages ---- */

static void control_flush(struct virtio_serial *s)
{
    struct virtqueue *q = &s->v.queues[Q_CTRL_IN];
    struct virtio_chain *c;
    bool any = false;
    while (!g_queue_is_empty(&s->control) && (c = virtqueue_pop(q))) {
        g_autoptr(GBytes) message = g_queue_pop_head(&s->control);
        virtqueue_push(c, virtio_chain_write(c, 0, g_bytes_get_data(message, NULL), g_bytes_get_size(message)));
        any = true;
    }
    if (any)
        virtqueue_interrupt(q);
}

static void control_send(struct virtio_serial *s, unsigned nr, uint16_t event, uint16_t value, const char *text)
{
    const struct control h = { nr, event, value };
    /* A guest that asks without end and never takes the answers gets no more of them. */
    if (!virtio_has(&s->v, F_MULTIPORT) || g_queue_get_length(&s->control) >= PENDING_MAX)
        return;
    GByteArray *message = g_byte_array_new();
    g_byte_array_append(message, (const uint8_t *)&h, sizeof(h));
    if (text)
        g_byte_array_append(message, (const uint8_t *)text, strlen(text));
    g_queue_push_tail(&s->control, g_byte_array_free_to_bytes(message));
    control_flush(s);
}

static void port_ready(struct virtio_serial *s, struct virtio_port *p)
{
    if (p->is_console)
        control_send(s, p->nr, CONSOLE_PORT, 1, NULL);
    if (p->port_name)
        control_send(s, p->nr, PORT_NAME, 1, p->port_name);
    if (p->host_open)
        control_send(s, p->nr, PORT_OPEN, 1, NULL);
}

/* The guest has opened or closed the port; held: the device's lock. */
static void set_guest_open(struct virtio_port *p, bool open)
{
    if (open != p->guest_open && p->dev.id)
        machine_post_event(p->dev.machine, "VSERPORT_CHANGE",
                           json_make("open", json_object_new_boolean(open), "id", json_object_new_string(p->dev.id), NULL));
    p->guest_open = open;
}

static void control_message(struct virtio_serial *s, const struct control *h)
{
    struct virtio_port *p = h->id < PORTS_MAX ? s->ports[h->id] : NULL;
    if (h->event == DEVICE_READY && h->value) {
        for (unsigned i = 0; i < s->max_ports; i++) {
            if (s->ports[i])
                control_send(s, i, PORT_ADD, 1, NULL);
        }
    } else if (h->event == PORT_READY && h->value && p) {
        port_ready(s, p);
    } else if (h->event == PORT_OPEN && p) {
        set_guest_open(p, h->value);
        if (p->guest_open && p->chardev)
            chardev_receive_ready(p->chardev);
    }
}

/* ---- data ---- */

static bool runs(const struct virtio_serial *s)
{
    return __atomic_load_n(&s->v.dev.machine->state, __ATOMIC_ACQUIRE) == MACHINE_RUNNING;
}

/* Sends on until the character device is full; WRITABLE continues. Without one, or without a reader, output is lost. */
static void port_output(struct virtio_serial *s, struct virtio_port *p, unsigned queue)
{
    struct virtqueue *q = &s->v.queues[queue];
    if (!runs(s)) { /* nothing of guest memory may change: later */
        virtio_queue_again(q);
        return;
    }
    bool any = false;
    for (unsigned i = 0; i < q->size; i++) {
        uint8_t bytes[4096];
        if (p && p->out) {
            /* goes on below */
        } else {
            struct virtio_chain *c = virtqueue_pop(q);
            if (!c)
                break;
            if (!p || !p->chardev) {
                virtqueue_push(c, 0);
                any = true;
                continue;
            }
            p->out = c;
            p->out_done = 0;
        }
        size_t n, taken = 0;
        while ((n = virtio_chain_read(p->out, p->out_done, bytes, sizeof(bytes)))) {
            taken = chardev_write(p->chardev, bytes, n);
            p->out_done += taken;
            if (taken < n)
                break;
        }
        if (n && taken < n)
            break;
        virtqueue_push(g_steal_pointer(&p->out), 0);
        any = true;
    }
    if (any)
        virtqueue_interrupt(q);
}

static bool port_listening(const struct virtio_port *p)
{
    const struct virtio_serial *s = p->serial;
    return s && runs(s) && virtio_running(&s->v) && (p->guest_open || !virtio_has(&s->v, F_MULTIPORT));
}

/* Lock held. What does not fit into the guest's buffers waits. */
static void port_input(struct virtio_port *p)
{
    struct virtqueue *q = &p->serial->v.queues[port_queue(p->nr)];
    struct virtio_chain *c;
    bool any = false;
    while (p->in->len && port_listening(p) && (c = virtqueue_pop(q))) {
        size_t n = virtio_chain_write(c, 0, p->in->data, p->in->len);
        virtqueue_push(c, n);
        if (n)
            g_byte_array_remove_range(p->in, 0, n);
        any = true;
    }
    if (any)
        virtqueue_interrupt(q);
}

static size_t can_receive(void *opaque)
{
    struct virtio_port *p = opaque;
    struct virtio_serial *s = p->serial;
    size_t n = 0;
    if (!s)
        return 0;
    g_mutex_lock(&s->v.dev.lock);
    if (!p->in->len && port_listening(p) && virtqueue_ready(&s->v.queues[port_queue(p->nr)]))
        n = 4096;
    g_mutex_unlock(&s->v.dev.lock);
    return n;
}

static void receive(void *opaque, const uint8_t *data, size_t n)
{
    struct virtio_port *p = opaque;
    if (!p->serial)
        return;
    g_mutex_lock(&p->serial->v.dev.lock);
    g_byte_array_append(p->in, data, n);
    port_input(p);
    g_mutex_unlock(&p->serial->v.dev.lock);
}

static void chardev_happened(void *opaque, enum chardev_event ev)
{
    struct virtio_port *p = opaque;
    struct virtio_serial *s = p->serial;
    if (!s)
        return;
    g_mutex_lock(&s->v.dev.lock);
    if (ev == CHARDEV_WRITABLE) {
        port_output(s, p, port_queue(p->nr) + 1);
    } else if (ev == CHARDEV_OPENED || ev == CHARDEV_CLOSED) {
        bool open = ev == CHARDEV_OPENED || p->is_console; /* a console stays open to the guest */
        if (open != p->host_open && s->ports[p->nr] == p && virtio_running(&s->v))
            control_send(s, p->nr, PORT_OPEN, open, NULL);
        p->host_open = open;
    }
    g_mutex_unlock(&s->v.dev.lock);
}

static const struct chardev_handlers handlers = { can_receive, receive, chardev_happened };

static void queue_notify(struct virtio_device *v, unsigned queue)
{
    struct virtio_serial *s = (struct virtio_serial *)v;
    struct virtqueue *q = &v->queues[queue];
    struct virtio_chain *c;
    if (queue == Q_CTRL_IN) {
        control_flush(s);
        return;
    }
    if (queue == Q_CTRL_OUT) {
        for (unsigned i = 0; i < q->size && (c = virtqueue_pop(q)); i++) {
            struct control h;
            bool whole = virtio_chain_read(c, 0, &h, sizeof(h)) == sizeof(h);
            virtqueue_push(c, 0);
            if (whole)
                control_message(s, &h);
        }
        virtqueue_interrupt(q);
        return;
    }
    struct virtio_port *p = s->ports[queue < 2 ? 0 : queue / 2 - 1];
    if (queue & 1) {
        port_output(s, p, queue);
    } else if (p) {
        port_input(p);
        if (p->chardev && !p->in->len)
            chardev_receive_ready(p->chardev);
    }
}

/* ---- the serial device ---- */

static uint64_t features(struct virtio_device *v)
{
    return F_MULTIPORT;
}

static void config_read(struct virtio_device *v, uint8_t *ret)
{
    const uint32_t ports = ((struct virtio_serial *)v)->max_ports;
    memcpy(ret + 4, &ports, 4);
}

/* What has not been sent to the driver yet, or not taken by it. */
static void save(struct device *d, struct state_writer *w)
{
    struct virtio_serial *s = (struct virtio_serial *)d;
    unsigned n = 0;
    virtio_save(&s->v, w);
    state_put_u64(w, "messages", g_queue_get_length(&s->control));
    for (const GList *l = s->control.head; l; l = l->next, n++) {
        g_autofree char *name = g_strdup_printf("message%u", n);
        state_put(w, name, g_bytes_get_data(l->data, NULL), 1, (uint32_t)g_bytes_get_size(l->data));
    }
}

static bool load(struct device *d, struct state_reader *r, GError **error)
{
    struct virtio_serial *s = (struct virtio_serial *)d;
    uint64_t n;
    if (!virtio_load(&s->v, r, error) || !state_get_u64(r, "messages", PENDING_MAX, &n, error))
        return false;
    for (unsigned i = 0; i < n; i++) {
        g_autofree char *name = g_strdup_printf("message%u", i);
        uint32_t size;
        const uint8_t *data = state_get_bytes(r, name, &size, error);
        if (!data)
            return false;
        g_queue_push_tail(&s->control, g_bytes_new(data, size));
    }
    return true;
}

static void stop(struct virtio_device *v)
{
    struct virtio_serial *s = (struct virtio_serial *)v;
    g_queue_clear_full(&s->control, (GDestroyNotify)g_bytes_unref);
    for (unsigned i = 0; i < PORTS_MAX; i++) {
        struct virtio_port *p = s->ports[i];
        if (!p)
            continue;
        g_clear_pointer(&p->out, virtio_chain_free);
        g_byte_array_set_size(p->in, 0);
        set_guest_open(p, false);
    }
}

static bool realize(struct device *d, GError **error)
{
    struct virtio_serial *s = (struct virtio_serial *)d;
    uint16_t sizes[VIRTIO_MAX_QUEUES];
    g_queue_init(&s->control);
    for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++)
        sizes[i] = QUEUE_SIZE;
    return virtio_realize(&s->v, 2 * (s->max_ports + 1), sizes, error);
}

static void unrealize(struct device *d)
{
    struct virtio_serial *s = (struct virtio_serial *)d;
    virtio_unrealize(&s->v);
    for (unsigned i = 0; i < PORTS_MAX; i++) {
        if (s->ports[i])
            s->ports[i]->serial = NULL;
    }
}

#define T struct virtio_serial
#define SERIAL_PROPS { "max_ports", PROP_UINT, offsetof(T, max_ports), 1, PORTS_MAX, .def = "31", .help = "ports it has room for" }
static const struct device_prop pci_props[] = { SERIAL_PROPS, VIRTIO_PCI_PROPS(T, "2"), { NULL } };
static const struct device_prop mmio_props[] = { SERIAL_PROPS, VIRTIO_COMMON_PROPS(T), { NULL } };
static const struct device_field fields[] = { VIRTIO_FIELDS(T), { NULL } };
static const struct virtio_class serial = {
    .name = "virtio-serial", .id = VIRTIO_ID_CONSOLE, .pci_class = 0x07, .pci_subclass = 0x80, .config_size = CONFIG_SIZE, .features = features,
    .config_read = config_read, .queue_notify = queue_notify, .stop = stop,
};

const struct device_class virtio_serial_pci_class = {
    .name = "virtio-serial-pci", .help = "virtio console and channels; add virtconsole or virtserialport", .bus = DEV_BUS_PCI, .size = sizeof(T),
    .props = pci_props, .fields = fields, .user_creatable = true, .realize = realize, .reset = virtio_device_reset, .unrealize = unrealize, .save = save, .load = load,
    .bus_class = &serial,
};
const struct device_class virtio_serial_mmio_class = {
    .name = "virtio-serial-device", .help = "the same in an MMIO slot", .bus = DEV_BUS_VIRTIO, .size = sizeof(T), .props = mmio_props,
    .fields = fields, .user_creatable = true, .realize = realize, .reset = virtio_device_reset, .unrealize = unrealize, .save = save, .load = load, .bus_class = &serial,
};

/* ---- ports ---- */

/* "bus" is ID.0 of the serial device; without it, the last one. */
static struct virtio_serial *find_serial(const struct virtio_port *p)
{
    const GPtrArray *all = p->dev.machine->devices;
    for (unsigned i = all->len; i-- > 0;) {
        struct device *d = g_ptr_array_index(all, i);
        if (d->class->bus_class != &serial)
            continue;
        size_t n = d->id ? strlen(d->id) : 0;
        if (!p->bus_name || (n && !strncmp(p->bus_name, d->id, n) && (!p->bus_name[n] || !strcmp(p->bus_name + n, ".0"))))
            return (struct virtio_serial *)d;
    }
    return NULL;
}

static bool take_port(struct virtio_port *p, struct virtio_serial *s, GError **error)
{
    /* Port 0 is a console to drivers that know only one port: channels start at 1. */
    for (unsigned i = p->is_console ? 0 : 1; p->nr >= PORTS_MAX && i < s->max_ports; i++) {
        if (!s->ports[i])
            p->nr = i;
    }
    if (p->nr >= s->max_ports)
        return vireo_fail(error, VIREO_ERROR_FAILED, "device %s: the virtio serial device has no free port; raise max_ports", p->dev.class->name);
    if (s->ports[p->nr])
        return vireo_fail(error, VIREO_ERROR_BUSY, "device %s: port nr=%u is taken", p->dev.class->name, (unsigned)p->nr);
    if (!p->nr && !p->is_console)
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: port 0 is for a virtconsole", p->dev.class->name);
    return true;
}

static void on_hook(void *opaque, enum machine_hook_event ev)
{
    struct virtio_port *p = opaque;
    if (ev == HOOK_RUN && p->chardev)
        chardev_receive_ready(p->chardev);
}

static bool port_realize(struct device *d, GError **error)
{
    struct virtio_port *p = (struct virtio_port *)d;
    struct virtio_serial *s = find_serial(p);
    p->is_console = d->class == &virtconsole_class;
    if (!s)
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "device %s: there is no virtio serial device%s%s; put -device virtio-serial-pci before it",
                          d->class->name, p->bus_name ? " " : "", p->bus_name ? p->bus_name : "");
    if (!take_port(p, s, error))
        return false;
    if (p->chardev_id) {
        p->chardev = g_hash_table_lookup(d->machine->chardevs, p->chardev_id);
        if (!p->chardev)
            return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "device %s: there is no chardev '%s'", d->class->name, p->chardev_id);
    }
    p->in = g_byte_array_new();
    p->host_open = p->is_console; /* a channel's: once somebody is there, which chardev_attach may say at once */
    p->serial = s;
    if (p->chardev && !chardev_attach(p->chardev, &handlers, p, error)) {
        g_clear_pointer(&p->in, g_byte_array_unref);
        p->serial = NULL;
        return false;
    }
    g_mutex_lock(&s->v.dev.lock);
    d->parent = &s->v.dev;
    g_snprintf(d->unit, sizeof(d->unit), "port %u", (unsigned)p->nr);
    s->ports[p->nr] = p;
    if (d->hotplugged && virtio_running(&s->v))
        control_send(s, p->nr, PORT_ADD, 1, NULL);
    g_mutex_unlock(&s->v.dev.lock);
    machine_add_hook(d->machine, on_hook, p);
    return true;
}

static void port_save(struct device *d, struct state_writer *w)
{
    struct virtio_port *p = (struct virtio_port *)d;
    g_mutex_lock(&p->serial->v.dev.lock);
    state_put_u64(w, "number", p->nr);
    state_put_u64(w, "host_open", p->host_open);
    state_put(w, "input", p->in->data, 1, p->in->len);
    if (p->out) {
        virtio_chain_save(p->out, w, "output");
        state_put_u64(w, "output_done", p->out_done);
    }
    g_mutex_unlock(&p->serial->v.dev.lock);
}

static bool port_load_locked(struct virtio_port *p, struct state_reader *r, GError **error)
{
    struct virtio_serial *s = p->serial;
    bool open = p->guest_open;
    uint64_t number, host_open;
    uint32_t size;
    const uint8_t *in;
    if (!state_get_u64(r, "number", PORTS_MAX, &number, error) || !state_get_u64(r, "host_open", 1, &host_open, error) ||
        !(in = state_get_bytes(r, "input", &size, error)))
        return false;
    if (number != p->nr || size > INPUT_MAX)
        return state_bad(r, error, "it is port %u, with %u bytes of input; here it is port %u", (unsigned)number, size, (unsigned)p->nr);
    if (state_has(r, "output") && (!state_get_u64(r, "output_done", UINT64_MAX, &p->out_done, error) || !(p->out = virtio_chain_load(&s->v, r, "output", error))))
        return false;
    if (p->out && p->out->queue->index != port_queue(p->nr) + 1)
        return state_bad(r, error, "its output is in the queue of another port");
    g_byte_array_append(p->in, in, size);
    p->guest_open = false;
    set_guest_open(p, open);
    if (host_open != p->host_open) { /* taken when the queue is looked at */
        const struct control h = { (uint32_t)p->nr, PORT_OPEN, p->host_open };
        g_queue_push_tail(&s->control, g_bytes_new(&h, sizeof(h)));
    }
    return true;
}

static bool port_load(struct device *d, struct state_reader *r, GError **error)
{
    struct virtio_port *p = (struct virtio_port *)d;
    g_mutex_lock(&p->serial->v.dev.lock);
    bool ok = port_load_locked(p, r, error);
    g_mutex_unlock(&p->serial->v.dev.lock);
    return ok;
}

/* As QEMU: the port goes at once, and the guest is told. */
static bool port_unplug(struct device *d, GError **error)
{
    struct virtio_port *p = (struct virtio_port *)d;
    struct virtio_serial *s = p->serial;
    if (!device_gone_soon(d, error))
        return false;
    g_mutex_lock(&s->v.dev.lock);
    if (p->out) { /* what the host has not taken is lost, the guest's buffer is not */
        struct virtqueue *q = p->out->queue;
        virtqueue_push(g_steal_pointer(&p->out), 0);
        virtqueue_interrupt(q);
    }
    if (virtio_running(&s->v))
        control_send(s, p->nr, PORT_REMOVE, 1, NULL);
    s->ports[p->nr] = NULL;
    p->guest_open = false;
    g_mutex_unlock(&s->v.dev.lock);
    return true;
}

static void port_unrealize(struct device *d)
{
    struct virtio_port *p = (struct virtio_port *)d;
    machine_remove_hook(d->machine, on_hook, p);
    if (p->chardev)
        chardev_detach(p->chardev);
    if (p->serial) {
        g_mutex_lock(&p->serial->v.dev.lock);
        if (p->serial->ports[p->nr] == p)
            p->serial->ports[p->nr] = NULL;
        g_clear_pointer(&p->out, virtio_chain_free);
        g_mutex_unlock(&p->serial->v.dev.lock);
    }
    g_byte_array_unref(p->in);
}

#undef T
#define T struct virtio_port
#define PORT_PROPS                                                                                           \
    { "chardev", PROP_CHARDEV, offsetof(T, chardev_id), .help = "where it leads" },                           \
    { "nr", PROP_UINT, offsetof(T, nr), 0, 0xffff, .def = "65535", .help = "port number; default: a free one" }, \
    { "bus", PROP_STRING, offsetof(T, bus_name), .help = "ID.0 of the virtio serial device" },                \
    { "name", PROP_STRING, offsetof(T, port_name), .help = "name of the channel in the guest" }
static const struct device_prop port_props[] = { PORT_PROPS, { NULL } };
static const struct device_field port_fields[] = { DEVICE_FIELD(T, guest_open), { NULL } };

const struct device_class virtconsole_class = {
    .name = "virtconsole", .help = "console of a virtio serial device (hvc0)", .bus = DEV_BUS_VIRTIO, .size = sizeof(T), .props = port_props,
    .fields = port_fields, .user_creatable = true, .realize = port_realize, .unrealize = port_unrealize, .hotplug = true, .unplug = port_unplug, .save = port_save, .load = port_load,
};
const struct device_class virtserialport_class = {
    .name = "virtserialport", .help = "named channel of a virtio serial device", .bus = DEV_BUS_VIRTIO, .size = sizeof(T), .props = port_props,
    .fields = port_fields, .user_creatable = true, .realize = port_realize, .unrealize = port_unrealize, .hotplug = true, .unplug = port_unplug, .save = port_save, .load = port_load,
};
