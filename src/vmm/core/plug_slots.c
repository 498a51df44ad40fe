/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/core/plug_slots.h"

#include "base/json.h"
#include "base/log.h"
#include "vmm/core/machine.h"
#include "vmm/core/state.h"

static struct plug_slot *selected(struct plug_slots *p)
{
    return p->selected < p->n ? &p->slots[p->selected] : NULL;
}

static uint32_t next_slot(const struct plug_slots *p)
{
    for (unsigned i = 0; i < p->n; i++) {
        if (p->slots[i].events)
            return i;
    }
    return UINT32_MAX;
}

static uint64_t regs_read(void *opaque, uint64_t offset, unsigned size)
{
    struct plug_slots *p = opaque;
    const struct plug_slot *s = selected(p);
    switch (offset) {
    case PLUG_SELECT:
        return p->selected;
    case PLUG_STATUS:
        return s ? (s->present ? PLUG_PRESENT : 0u) | s->events : 0;
    case PLUG_NEXT:
        return next_slot(p);
    default:
        return offset >= PLUG_MORE && p->kind->read && s && s->dev && s->present ? p->kind->read(s, (unsigned)offset) : 0;
    }
}

static void take_ejected(void *opaque)
{
    struct plug_slots *p = opaque;
    for (unsigned i = 0; i < p->n; i++) {
        g_mutex_lock(&p->dev.lock);
        struct device *gone = p->slots[i].ejected ? p->slots[i].dev : NULL;
        p->slots[i].ejected = false;
        g_mutex_unlock(&p->dev.lock);
        if (gone)
            device_gone(gone);
    }
}

static void status_write(struct plug_slots *p, uint32_t value)
{
    struct plug_slot *s = selected(p);
    if (!s)
        return;
    s->events &= (uint8_t)~(value & (PLUG_CAME | PLUG_LEAVE));
    if (!(value & PLUG_EJECT) || !s->present)
        return;
    if (!s->dev) {
        log_at(LOG_GUEST_ERRORS, "%s: slot %u was filled from the start and cannot be ejected", p->kind->name, p->selected);
        return;
    }
    s->present = false;
    s->ejected = true;
    machine_call_later(p->dev.machine, take_ejected, p);
}

static struct json_object *ost_info(const struct plug_slots *p, unsigned index)
{
    const struct plug_slot *s = &p->slots[index];
    g_autofree char *number = g_strdup_printf("%u", index);
    struct json_object *info = json_make("slot", json_object_new_string(number), "slot-type", json_object_new_string(p->kind->type), "source",
                                         json_object_new_int64(s->ost_event), "status", json_object_new_int64(s->ost_status), NULL);
    if (s->dev && s->dev->id)
        json_object_object_add(info, "device", json_object_new_string(s->dev->id));
    return info;
}

/* ACPI 6.5, 6.3.5: source events that ask for a device to go; the status of those that did, or are about to. */
static bool refuses_to_go(uint32_t event, uint32_t status)
{
    bool eject = event == 3 || event == 0x103;
    return eject && status != 0 && status != 0x84;
}

static void ost_write(struct plug_slots *p, uint32_t status)
{
    struct plug_slot *s = selected(p);
    if (!s || (!s->present && !s->ejected))
        return;
    s->ost_status = status;
    s->reported = true;
    machine_post_event(p->dev.machine, "ACPI_DEVICE_OST", json_make("info", ost_info(p, p->selected), NULL));
    if (!s->dev || !s->leaving || !refuses_to_go(s->ost_event, status))
        return;
    s->leaving = false;
    const char *id = s->dev->id;
    g_autofree char *path = g_strdup_printf("/machine/peripheral%s%s", id ? "/" : "-anon", id ? id : "");
    struct json_object *data = json_make("path", json_object_new_string(path), NULL);
    if (id)
        json_object_object_add(data, "device", json_object_new_string(id));
    machine_post_event(p->dev.machine, "DEVICE_UNPLUG_GUEST_ERROR", data);
}

static void regs_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct plug_slots *p = opaque;
    struct plug_slot *s = selected(p);
    switch (offset) {
    case PLUG_SELECT:
        p->selected = (uint32_t)value;
        break;
    case PLUG_STATUS:
        status_write(p, (uint32_t)value);
        break;
    case PLUG_NEXT:
        if (s)
            s->ost_event = (uint32_t)value;
        break;
    case PLUG_OST:
        ost_write(p, (uint32_t)value);
        break;
    }
}

static const struct io_ops regs_ops = { regs_read, regs_write, 4, 4 };

/* A guest that starts anew finds by _STA what is there. */
static void reset(struct device *d)
{
    struct plug_slots *p = (struct plug_slots *)d;
    g_mutex_lock(&d->lock);
    p->selected = 0;
    for (unsigned i = 0; i < p->n; i++) {
        p->slots[i].events = 0;
        p->slots[i].reported = p->slots[i].leaving = false;
    }
    g_mutex_unlock(&d->lock);
}

static bool realize(struct device *d, GError **error)
{
    struct plug_slots *p = (struct plug_slots *)d;
    p->slots = g_new0(struct plug_slot, p->n);
    p->window = (struct io_window){ .name = p->kind->name, .ops = &regs_ops, .opaque = p, .lock = &d->lock, .size = p->kind->size, .port = true };
    io_window_map(d->machine->memory, &p->window, p->kind->base);
    return true;
}

static void unrealize(struct device *d)
{
    struct plug_slots *p = (struct plug_slots *)d, **known[] = { &d->machine->cpu_slots, &d->machine->mem_slots };
    io_window_unmap(d->machine->memory, &p->window);
    for (unsigned i = 0; i < G_N_ELEMENTS(known); i++) {
        if (*known[i] == p)
            *known[i] = NULL;
    }
    g_free(p->slots);
}

/* A row: events, flags, code and status of _OST. */
enum { ROW_WORDS = 4, ROW_PRESENT = 1, ROW_LEAVING = 2, ROW_EJECTED = 4, ROW_REPORTED = 8 };

static void save(struct device *d, struct state_writer *w)
{
    const struct plug_slots *p = (struct plug_slots *)d;
    g_autofree uint32_t *rows = g_new0(uint32_t, p->n * ROW_WORDS);
    for (unsigned i = 0; i < p->n; i++) {
        const struct plug_slot *s = &p->slots[i];
        uint32_t *row = rows + i * ROW_WORDS;
        row[0] = s->events;
        row[1] = (s->present ? ROW_PRESENT : 0) | (s->leaving ? ROW_LEAVING : 0) | (s->ejected ? ROW_EJECTED : 0) | (s->reported ? ROW_REPORTED : 0);
        row[2] = s->ost_event;
        row[3] = s->ost_status;
    }
    state_put(w, "slots", rows, 4, p->n * ROW_WORDS);
}

/* What is in the slots is the machine's that is loaded into: it must be the same. */
static bool load(struct device *d, struct state_reader *r, GError **error)
{
    struct plug_slots *p = (struct plug_slots *)d;
    g_autofree uint32_t *rows = g_new0(uint32_t, p->n * ROW_WORDS);
    if (!state_get(r, "slots", rows, 4, p->n * ROW_WORDS, error))
        return false;
    for (unsigned i = 0; i < p->n; i++) {
        struct plug_slot *s = &p->slots[i];
        const uint32_t *row = rows + i * ROW_WORDS;
        bool full = row[1] & (ROW_PRESENT | ROW_EJECTED), here = s->present || s->ejected;
        if (full != here || (!s->dev && !(row[1] & ROW_PRESENT) && full))
            return state_bad(r, error, "slot %u is %s there and %s here", i, full ? "full" : "empty", here ? "full" : "empty");
        s->events = row[0] & (PLUG_CAME | PLUG_LEAVE);
        s->present = row[1] & ROW_PRESENT;
        s->leaving = s->dev && (row[1] & ROW_LEAVING);
        s->ejected = s->dev && (row[1] & ROW_EJECTED);
        s->reported = row[1] & ROW_REPORTED;
        s->ost_event = row[2];
        s->ost_status = row[3];
        if (s->ejected)
            machine_call_later(d->machine, take_ejected, p);
    }
    return true;
}

static const struct device_field fields[] = { DEVICE_FIELD(struct plug_slots, selected), { 0 } };
static const struct device_class class = {
    .name = "plug-slots", .help = "registers of what is plugged at run time", .size = sizeof(struct plug_slots), .fields = fields,
    .realize = realize, .reset = reset, .unrealize = unrealize, .save = save, .load = load,
};

struct plug_slots *plug_slots_create(struct machine *m, const struct plug_kind *kind, unsigned n, struct irq_line gpe, GError **error)
{
    struct plug_slots *p = (struct plug_slots *)device_create(m, &class);
    p->kind = kind;
    p->n = n;
    p->gpe = gpe;
    if (device_realize(&p->dev, error))
        return p;
    device_destroy(&p->dev);
    return NULL;
}

void plug_slot_fill(struct plug_slots *p, unsigned index, struct device *d)
{
    bool live = p->dev.machine->live;
    g_mutex_lock(&p->dev.lock);
    p->slots[index] = (struct plug_slot){ .dev = d, .present = true, .events = live ? PLUG_CAME : 0 };
    g_mutex_unlock(&p->dev.lock);
    if (live)
        irq_pulse(&p->gpe);
}

void plug_slot_ask(struct plug_slots *p, unsigned index)
{
    g_mutex_lock(&p->dev.lock);
    p->slots[index].events |= PLUG_LEAVE;
    p->slots[index].leaving = true;
    g_mutex_unlock(&p->dev.lock);
    irq_pulse(&p->gpe);
}

void plug_slot_clear(struct plug_slots *p, unsigned index)
{
    g_mutex_lock(&p->dev.lock);
    p->slots[index] = (struct plug_slot){ 0 };
    g_mutex_unlock(&p->dev.lock);
}

bool plug_slot_ost(struct plug_slots *p, unsigned index, uint32_t *ret_event, uint32_t *ret_status)
{
    if (index >= p->n)
        return false;
    g_mutex_lock(&p->dev.lock);
    *ret_event = p->slots[index].ost_event;
    *ret_status = p->slots[index].ost_status;
    bool reported = p->slots[index].reported;
    g_mutex_unlock(&p->dev.lock);
    return reported;
}
