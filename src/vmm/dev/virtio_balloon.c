/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Virtio memory balloon (virtio 1.2, 5.5): pages that the guest gives or reports as free go back to the host; statistics of the
 * guest's memory. */
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "vmm/bus/virtio.h"
#include "vmm/core/machine.h"
#include "vmm/core/memory_device.h"
#include "vmm/core/state.h"
#include "vmm/dev/virtio_devices.h"

/* 5.5.2 numbers the queue for reports 4; drivers count only the queues that there are, and look at 2 or 3. Whichever of them a
 * driver takes, it means reports. */
enum { Q_INFLATE, Q_DEFLATE, Q_STATS, NQUEUES, NQUEUES_REPORTING = 5 };
enum { F_STATS_VQ = 1 << 1, F_DEFLATE_ON_OOM = 1 << 2, F_PAGE_POISON = 1 << 4, F_REPORTING = 1 << 5 };
enum { PAGE = 4096, PFN_SHIFT = 12, QUEUE_SIZE = 128, BATCH = 256, CONFIG_SIZE = 16 };

/* 5.5.6.3: tags of the statistics, by what QEMU calls them. */
static const char *const stat_names[] = { "stat-swap-in", "stat-swap-out", "stat-major-faults", "stat-minor-faults", "stat-free-memory",
                                          "stat-total-memory", "stat-available-memory", "stat-disk-caches", "stat-htlb-pgalloc",
                                          "stat-htlb-pgfail" };
enum { NSTATS = G_N_ELEMENTS(stat_names) };
struct stat_entry { uint16_t tag; uint64_t value; } __attribute__((packed));

struct virtio_balloon {
    struct virtio_device v;
    bool deflate_on_oom, free_page_reporting, page_poison, free_page_hint;
    uint32_t num_pages, actual, poison;
    bool telling; /* BALLOON_CHANGE is on its way */
    /* statistics */
    uint64_t stats[NSTATS], updated; /* ~0: not told; seconds since the epoch */
    struct virtio_chain *held;       /* the driver's buffer: giving it back asks for new numbers */
    uint64_t interval;               /* seconds; 0: nobody asks */
    guint timer;                     /* GLib source; main thread */
};

static void give_back(struct guest_memory *m, uint64_t pfn, uint64_t count)
{
    guest_memory_discard(m, pfn << PFN_SHIFT, count * PAGE);
}

static void inflate(struct virtio_balloon *s, const struct virtio_chain *c)
{
    uint32_t pfns[BATCH];
    uint64_t start = 0, count = 0, at = 0;
    size_t n;
    while ((n = virtio_chain_read(c, at, pfns, sizeof(pfns)) / 4)) {
        at += n * 4;
        for (size_t i = 0; i < n; i++) {
            if (count && pfns[i] == start + count) {
                count++;
                continue;
            }
            if (count)
                give_back(s->v.dev.machine->memory, start, count);
            start = pfns[i];
            count = 1;
        }
    }
    if (count)
        give_back(s->v.dev.machine->memory, start, count);
}

/* ---- statistics ---- */

static void stats_clear(struct virtio_balloon *s)
{
    memset(s->stats, 0xff, sizeof(s->stats));
    s->updated = 0;
}

static void stats_take(struct virtio_balloon *s, struct virtio_chain *c)
{
    struct stat_entry e[BATCH];
    size_t n = virtio_chain_read(c, 0, e, sizeof(e)) / sizeof(e[0]);
    for (size_t i = 0; i < n; i++) {
        if (e[i].tag < NSTATS)
            s->stats[e[i].tag] = e[i].value;
    }
    s->updated = (uint64_t)(g_get_real_time() / G_USEC_PER_SEC);
    if (s->held) /* the driver has one buffer; of more the last one stays */
        virtqueue_push(s->held, 0);
    s->held = c;
}

/* Main thread. */
static gboolean stats_ask(gpointer opaque)
{
    struct virtio_balloon *s = opaque;
    g_mutex_lock(&s->v.dev.lock);
    if (s->held && virtio_running(&s->v)) {
        struct virtqueue *q = s->held->queue;
        virtqueue_push(g_steal_pointer(&s->held), 0);
        virtqueue_interrupt(q);
    }
    g_mutex_unlock(&s->v.dev.lock);
    return G_SOURCE_CONTINUE;
}

static struct json_object *get_stats(struct device *d, GError **error)
{
    struct virtio_balloon *s = (struct virtio_balloon *)d;
    struct json_object *stats = json_object_new_object();
    g_mutex_lock(&d->lock);
    for (unsigned i = 0; i < NSTATS; i++)
        json_object_object_add(stats, stat_names[i], json_object_new_uint64(s->stats[i]));
    struct json_object *answer = json_make("stats", stats, "last-update", json_object_new_uint64(s->updated), NULL);
    g_mutex_unlock(&d->lock);
    return answer;
}

static struct json_object *get_interval(struct device *d, GError **error)
{
    return json_object_new_uint64(((struct virtio_balloon *)d)->interval);
}

static void start_polling(struct virtio_balloon *s, uint64_t seconds)
{
    if (s->timer)
        g_source_remove(s->timer);
    s->interval = seconds;
    s->timer = seconds ? g_timeout_add_seconds((guint)seconds, stats_ask, s) : 0;
}

static bool set_interval(struct device *d, struct json_object *value, GError **error)
{
    struct virtio_balloon *s = (struct virtio_balloon *)d;
    int64_t seconds = json_object_get_int64(value);
    if (!json_object_is_type(value, json_type_int) || seconds < 0 || seconds > UINT32_MAX)
        return vireo_fail(error, VIREO_ERROR_INVALID, "guest-stats-polling-interval takes seconds from 0 to %u", UINT32_MAX);
    start_polling(s, (uint64_t)seconds);
    if (seconds)
        stats_ask(s);
    return true;
}

static const struct device_attr attrs[] = {
    { "guest-stats", "guest statistics", get_stats, NULL },
    { "guest-stats-polling-interval", "int", get_interval, set_interval },
    { NULL }
};

/* ---- queues ---- */

/* 5.5.6.7: free pages. A driver that poisons its pages wants to find the poison there again. */
static void report(struct virtio_balloon *s, const struct virtio_chain *c)
{
    if (virtio_has(&s->v, F_PAGE_POISON) && s->poison)
        return;
    for (unsigned i = c->nout; i < c->nout + c->nin; i++)
        guest_memory_discard(s->v.dev.machine->memory, c->gpa[i], c->iov[i].iov_len);
}

static void pages_notify(struct virtio_balloon *s, struct virtqueue *q)
{
    struct virtio_chain *c;
    for (unsigned i = 0; i < q->size && (c = virtqueue_pop(q)); i++) {
        if (q->index > Q_DEFLATE)
            report(s, c);
        else if (c->out_len > PAGE) /* a driver sends up to 256 page numbers at a time */
            virtio_broken(&s->v, "%" G_GUINT64_FORMAT " bytes of page numbers", c->out_len);
        else if (q->index == Q_INFLATE)
            inflate(s, c);
        virtqueue_push(c, 0);
        virtqueue_interrupt(q);
    }
}

static void queue_notify(struct virtio_device *v, unsigned queue)
{
    struct virtio_balloon *s = (struct virtio_balloon *)v;
    struct virtqueue *q = &v->queues[queue];
    struct virtio_chain *c;
    if (queue == Q_STATS && virtio_has(v, F_STATS_VQ)) {
        for (unsigned i = 0; i < q->size && (c = virtqueue_pop(q)); i++)
            stats_take(s, c);
    } else if (queue <= Q_DEFLATE || virtio_has(v, F_REPORTING)) {
        pages_notify(s, q);
    }
}

static uint64_t features(struct virtio_device *v)
{
    struct virtio_balloon *s = (struct virtio_balloon *)v;
    return F_STATS_VQ | (s->deflate_on_oom ? F_DEFLATE_ON_OOM : 0) | (s->free_page_reporting ? F_REPORTING : 0) | (s->page_poison ? F_PAGE_POISON : 0);
}

static void config_read(struct virtio_device *v, uint8_t *ret)
{
    struct virtio_balloon *s = (struct virtio_balloon *)v;
    memcpy(ret, &s->num_pages, 4);
    memcpy(ret + 4, &s->actual, 4);
    memset(ret + 8, 0, 4); /* there are no hints */
    memcpy(ret + 12, &s->poison, 4);
}

/* What the guest has without what is in the balloon. */
static uint64_t all_memory(const struct machine *m)
{
    return m->config->ram_size + memory_device_dimms(m);
}

static uint64_t actual_bytes(const struct virtio_balloon *s)
{
    uint64_t all = all_memory(s->v.dev.machine), taken = (uint64_t)s->actual << PFN_SHIFT;
    return all - MIN(taken, all);
}

static void tell_change(void *opaque)
{
    struct virtio_balloon *s = opaque;
    g_mutex_lock(&s->v.dev.lock);
    s->telling = false;
    uint64_t actual = actual_bytes(s);
    g_mutex_unlock(&s->v.dev.lock);
    machine_event(s->v.dev.machine, "BALLOON_CHANGE", json_make("actual", json_object_new_uint64(actual), NULL));
}

static void config_write(struct virtio_device *v, unsigned offset, unsigned size, uint64_t value)
{
    struct virtio_balloon *s = (struct virtio_balloon *)v;
    uint32_t old = s->actual;
    if (offset == 4 && size == 4)
        s->actual = (uint32_t)value;
    if (offset == 12 && size == 4)
        s->poison = (uint32_t)value;
    if (s->actual != old && !s->telling) {
        s->telling = true; /* one call waits at most, whatever the guest writes meanwhile */
        machine_call_later(v->dev.machine, tell_change, s);
    }
}

static void stop(struct virtio_device *v)
{
    struct virtio_balloon *s = (struct virtio_balloon *)v;
    s->actual = 0; /* the guest has all its memory again; the target stays */
    s->poison = 0;
    if (s->held)
        virtqueue_push(g_steal_pointer(&s->held), 0);
    stats_clear(s);
}

/* ---- a saved machine ---- */

static void save(struct device *d, struct state_writer *w)
{
    struct virtio_balloon *s = (struct virtio_balloon *)d;
    virtio_save(&s->v, w);
    if (s->held)
        virtio_chain_save(s->held, w, "held");
}

static bool load(struct device *d, struct state_reader *r, GError **error)
{
    struct virtio_balloon *s = (struct virtio_balloon *)d;
    return virtio_load(&s->v, r, error) && (!state_has(r, "held") || (s->held = virtio_chain_load(&s->v, r, "held", error)));
}

static bool other_balloon(const struct virtio_balloon *s)
{
    const GPtrArray *devices = s->v.dev.machine->devices;
    for (guint i = 0; i < devices->len; i++) {
        const struct device *d = devices->pdata[i];
        if (d != &s->v.dev && (d->class == &virtio_balloon_pci_class || d->class == &virtio_balloon_mmio_class))
            return true;
    }
    return false;
}

static bool realize(struct device *d, GError **error)
{
    static const uint16_t sizes[NQUEUES_REPORTING] = { QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE };
    struct virtio_balloon *s = (struct virtio_balloon *)d;
    if (s->free_page_hint)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "device %s: free-page-hint=on is not available: hints are for migration, which is not there yet",
                          d->class->name);
    if (other_balloon(s)) /* `balloon` and `query-balloon` name none */
        return vireo_fail(error, VIREO_ERROR_INVALID, "Only one balloon device is supported");
    stats_clear(s);
    if (!virtio_realize(&s->v, s->free_page_reporting ? NQUEUES_REPORTING : NQUEUES, sizes, error))
        return false;
    start_polling(s, s->interval);
    return true;
}

static void unrealize(struct device *d)
{
    struct virtio_balloon *s = (struct virtio_balloon *)d;
    if (s->timer)
        g_source_remove(s->timer);
    virtio_unrealize(&s->v);
}

#define T struct virtio_balloon
#define BALLOON_PROPS                                                                                                                      \
    { "deflate-on-oom", PROP_BOOL, offsetof(T, deflate_on_oom), .def = "off", .help = "the guest may take pages when it runs out" },       \
    { "free-page-reporting", PROP_BOOL, offsetof(T, free_page_reporting), .def = "off", .help = "free pages of the guest go back to the host" }, \
    { "page-poison", PROP_BOOL, offsetof(T, page_poison), .def = "on", .help = "the guest may say what it fills free pages with" },        \
    { "guest-stats-polling-interval", PROP_UINT, offsetof(T, interval), .max = UINT32_MAX, .def = "0", .help = "seconds between questions for statistics; 0: none" }, \
    { "free-page-hint", PROP_BOOL, offsetof(T, free_page_hint), .def = "off", .help = "only off: hints are for migration" }
static const struct device_prop pci_props[] = { BALLOON_PROPS, VIRTIO_PCI_PROPS(T, "3"), { NULL } };
static const struct device_prop mmio_props[] = { BALLOON_PROPS, VIRTIO_COMMON_PROPS(T), { NULL } };
static const struct device_field fields[] = { VIRTIO_FIELDS(T), DEVICE_FIELD(T, num_pages), DEVICE_FIELD(T, actual), DEVICE_FIELD(T, poison),
                                              DEVICE_ARRAY(T, stats), DEVICE_FIELD(T, updated), { NULL } };
static const struct virtio_class balloon = {
    .name = "virtio-balloon", .id = VIRTIO_ID_BALLOON, .pci_class = 0xff, .config_size = CONFIG_SIZE, .features = features,
    .config_read = config_read, .config_write = config_write, .queue_notify = queue_notify, .stop = stop,
};

static struct virtio_balloon *find(struct machine *m, GError **error)
{
    for (unsigned i = 0; i < m->devices->len; i++) {
        struct device *d = g_ptr_array_index(m->devices, i);
        if (d->class->bus_class == &balloon)
            return (struct virtio_balloon *)d;
    }
    vireo_fail(error, VIREO_ERROR_NOT_FOUND, "there is no balloon device; add -device virtio-balloon-pci");
    return NULL;
}

bool virtio_balloon_set_target(struct machine *m, uint64_t bytes, GError **error)
{
    struct virtio_balloon *s = find(m, error);
    if (!s)
        return false;
    if (!bytes)
        return vireo_fail(error, VIREO_ERROR_INVALID, "a balloon target of 0 bytes is not possible");
    g_mutex_lock(&s->v.dev.lock);
    uint64_t all = all_memory(m);
    s->num_pages = (uint32_t)((all - MIN(bytes, all)) >> PFN_SHIFT);
    virtio_config_changed(&s->v);
    g_mutex_unlock(&s->v.dev.lock);
    return true;
}

bool virtio_balloon_actual(struct machine *m, uint64_t *ret_bytes, GError **error)
{
    struct virtio_balloon *s = find(m, error);
    if (!s)
        return false;
    g_mutex_lock(&s->v.dev.lock);
    *ret_bytes = actual_bytes(s);
    g_mutex_unlock(&s->v.dev.lock);
    return true;
}

const struct device_class virtio_balloon_pci_class = {
    .name = "virtio-balloon-pci", .help = "memory balloon", .bus = DEV_BUS_PCI, .size = sizeof(T), .props = pci_props, .fields = fields,
    .user_creatable = true, .realize = realize, .reset = virtio_device_reset, .unrealize = unrealize, .attrs = attrs, .save = save,
    .load = load, .bus_class = &balloon,
};
const struct device_class virtio_balloon_mmio_class = {
    .name = "virtio-balloon-device", .help = "memory balloon in an MMIO slot", .bus = DEV_BUS_VIRTIO, .size = sizeof(T), .props = mmio_props,
    .fields = fields, .user_creatable = true, .realize = realize, .reset = virtio_device_reset, .unrealize = unrealize, .attrs = attrs, .save = save,
    .load = load, .bus_class = &balloon,
};
