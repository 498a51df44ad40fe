/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/dev/nic/nic.h"

#include <string.h>

#include "base/error.h"
#include "vmm/core/machine.h"

/* ---- between card and back end ---- */

/* Also one that waits for a saved machine, or has loaded one and does not run yet. */
static bool stands_still(const struct nic *n)
{
    enum machine_state s = __atomic_load_n(&n->dev.machine->state, __ATOMIC_ACQUIRE);
    return n->paused || (s != MACHINE_RUNNING && s != MACHINE_PRELAUNCH);
}

static bool can_receive(void *opaque)
{
    struct nic *n = opaque;
    g_mutex_lock(&n->dev.lock);
    bool ok = !stands_still(n) && n->ops->can_receive(n);
    g_mutex_unlock(&n->dev.lock);
    return ok;
}

static void receive(void *opaque, const uint8_t *frame, size_t size)
{
    struct nic *n = opaque;
    g_mutex_lock(&n->dev.lock);
    if (!stands_still(n))
        n->ops->receive(n, frame, size);
    g_mutex_unlock(&n->dev.lock);
}

static void link_changed(void *opaque)
{
    struct nic *n = opaque;
    g_mutex_lock(&n->dev.lock);
    n->ops->link_changed(n);
    g_mutex_unlock(&n->dev.lock);
}

static const struct net_frontend frontend = { .can_receive = can_receive, .receive = receive, .link_changed = link_changed };

static void on_machine_event(void *opaque, enum machine_event ev, enum machine_cause cause, const struct block_io_error *io)
{
    struct nic *n = opaque;
    if (ev != EVENT_STOP && ev != EVENT_RESUME)
        return;
    g_mutex_lock(&n->dev.lock);
    n->paused = ev == EVENT_STOP;
    if (!n->paused) {
        n->ops->send_more(n);
        nic_ready(n);
    }
    g_mutex_unlock(&n->dev.lock);
}

bool nic_check(struct nic *n, const struct nic_ops *ops, GError **error)
{
    struct machine *m = n->dev.machine;
    const char *name = n->dev.class->name;
    device_default_mac(m, n->mac);
    n->ops = ops;
    if (n->mac[0] & 1)
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: mac is a multicast address; its first byte must be even", name);
    if (!n->netdev)
        return true;
    struct net_backend *b = g_hash_table_lookup(m->netdevs, n->netdev);
    if (!b)
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "device %s: there is no netdev '%s'", name, n->netdev);
    if (net_attached(b))
        return vireo_fail(error, VIREO_ERROR_BUSY, "device %s: netdev '%s' is already used by another device", name, n->netdev);
    return true;
}

bool nic_plug(struct nic *n, GError **error)
{
    if (!pci_device_plug(&n->pci, n->dev.machine, n->addr, error))
        return false;
    if (!n->netdev)
        return true;
    struct net_backend *b = g_hash_table_lookup(n->dev.machine->netdevs, n->netdev);
    machine_add_listener(n->dev.machine, (struct machine_listener){ on_machine_event, n });
    n->backend = b;
    if (net_backend_attach(b, &frontend, n, error))
        return true;
    n->backend = NULL;
    return false;
}

void nic_unplug(struct nic *n)
{
    struct net_backend *b = n->backend;
    machine_remove_listener(n->dev.machine, n);
    if (b)
        net_backend_detach(b);
    pci_device_detach(&n->pci);
    g_mutex_lock(&n->dev.lock);
    n->backend = NULL;
    if (n->later)
        g_source_remove(n->later);
    n->later = 0;
    g_mutex_unlock(&n->dev.lock);
}

void nic_send(struct nic *n, const uint8_t *frame, size_t size)
{
    if (n->backend)
        net_send(n->backend, frame, size);
}

static gboolean send_more(gpointer opaque)
{
    struct nic *n = opaque;
    g_mutex_lock(&n->dev.lock);
    n->later = 0;
    if (!stands_still(n))
        n->ops->send_more(n);
    g_mutex_unlock(&n->dev.lock);
    return G_SOURCE_REMOVE;
}

void nic_send_later(struct nic *n)
{
    if (!n->later)
        n->later = g_idle_add(send_more, n);
}

void nic_ready(struct nic *n)
{
    if (n->backend)
        net_receive_ready(n->backend);
}

bool nic_read(struct nic *n, uint64_t gpa, void *ret, uint64_t size)
{
    return nic_dma(n) && guest_memory_read(n->dev.machine->memory, gpa, ret, size);
}

void nic_write(struct nic *n, uint64_t gpa, const void *data, uint64_t size)
{
    if (nic_dma(n) && !guest_memory_write(n->dev.machine->memory, gpa, data, size))
        return;
}

/* ---- EEPROM: start bit, two bits of opcode, six of address, then sixteen of data ---- */

enum { OP_EXTEND = 0, OP_WRITE = 1, OP_READ = 2, OP_ERASE = 3, COMMAND_BITS = 8, WRITE_BITS = 24 };

static void command(struct eeprom93 *e)
{
    unsigned op = e->in >> 6 & 3, address = e->in & 63;
    if (op == OP_READ) {
        e->shift = e->word[address];
        e->out = false; /* a zero comes before the data */
    } else if (op == OP_ERASE && e->writable) {
        e->word[address] = 0xffff;
    } else if (op == OP_EXTEND && (address >> 4 == 3 || address >> 4 == 0)) {
        e->writable = address >> 4;
    }
}

static void clock_in(struct eeprom93 *e, bool in)
{
    if (!e->started) {
        e->started = in;
        e->bits = 0;
        e->in = 0;
        return;
    }
    if (e->bits < COMMAND_BITS) {
        e->in = e->in << 1 | in;
        if (++e->bits == COMMAND_BITS)
            command(e);
        return;
    }
    unsigned op = e->in >> 6 & 3;
    if (op == OP_READ) {
        e->out = e->shift >> 15;
        e->shift <<= 1;
        if (++e->bits == WRITE_BITS) { /* the next word follows by itself */
            e->in = (e->in & 0xc0) | ((e->in + 1) & 63);
            e->shift = e->word[e->in & 63];
            e->bits = COMMAND_BITS;
        }
    } else if (op == OP_WRITE && e->bits < WRITE_BITS) {
        e->shift = e->shift << 1 | in;
        if (++e->bits == WRITE_BITS && e->writable)
            e->word[e->in & 63] = e->shift;
    }
}

void eeprom93_wires(struct eeprom93 *e, bool select, bool clock, bool in)
{
    if (!select || !e->select) {
        e->started = false;
        e->out = true; /* ready */
    }
    if (select && clock && !e->clock)
        clock_in(e, in);
    e->select = select;
    e->clock = clock;
}
