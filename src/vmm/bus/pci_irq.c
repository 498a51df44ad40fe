/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Interrupts of a PCI function: INTx, MSI, MSI-X. A function's irq_lock covers all that is here. */
#include <string.h>

#include "vmm/bus/pci_private.h"
#include "vmm/core/machine.h"

enum { MSIX_ENTRY = 16, MSIX_CONTROL = 12 /* vector control; bit 0: masked */ };
enum { MSIX_FUNCTION_MASK = 0x4000, MSIX_ENABLE = 0x8000 };

static bool msi_enabled_locked(const struct pci_device *d)
{
    return d->msi_cap && (d->config[d->msi_cap + 2] & 1);
}

/* ---- INTx ---- */

static void drive_intx_locked(struct pci_device *d)
{
    uint16_t command = pci_get16(d->config + PCI_REG_COMMAND);
    unsigned pin = d->config[PCI_REG_INT_PIN];
    bool drive = d->intx_level && pin && !(command & PCI_CMD_INTX_OFF) && !d->msix.enabled && !msi_enabled_locked(d);
    if (drive == d->intx_driven || !d->plugged)
        return;
    d->intx_driven = drive;
    struct pci_host *host = d->bus->host;
    unsigned line = pci_intx_route(d);
    g_mutex_lock(&host->intx_lock);
    unsigned before = host->intx_count[line];
    host->intx_count[line] += drive ? 1 : -1;
    if (!before != !host->intx_count[line])
        irq_set(&host->intx[line], drive);
    g_mutex_unlock(&host->intx_lock);
}

void pci_intx(struct pci_device *d, bool level)
{
    g_mutex_lock(&d->irq_lock);
    d->intx_level = level;
    drive_intx_locked(d);
    g_mutex_unlock(&d->irq_lock);
}

void pci_irq_status(struct pci_device *d)
{
    g_mutex_lock(&d->irq_lock);
    d->config[PCI_REG_STATUS] = (d->config[PCI_REG_STATUS] & ~8) | (d->intx_level ? 8 : 0);
    g_mutex_unlock(&d->irq_lock);
}

/* ---- messages ---- */

static void send_message(struct pci_device *d, uint64_t address, uint32_t data)
{
    const struct msi_sink *sink = &d->owner->machine->msi;
    /* A message is a memory write of the function: it needs bus mastering (PCI 3.0, 6.8.1). */
    if (sink->send && (pci_get16(d->config + PCI_REG_COMMAND) & PCI_CMD_MASTER))
        sink->send(sink->opaque, address, data);
}

void pci_msi_init(struct pci_device *d)
{
    uint8_t at = pci_cap_add(d, PCI_CAP_MSI, 14);
    if (!at)
        return;
    d->msi_cap = at;
    pci_set16(d->config + at + 2, 0x80); /* 64-bit address, one vector */
    pci_set16(d->wmask + at + 2, 1);
    pci_set32(d->wmask + at + 4, ~3u);
    pci_set32(d->wmask + at + 8, ~0u);
    pci_set16(d->wmask + at + 12, 0xffff);
}

bool pci_msi_enabled(struct pci_device *d)
{
    g_mutex_lock(&d->irq_lock);
    bool on = msi_enabled_locked(d);
    g_mutex_unlock(&d->irq_lock);
    return on;
}

void pci_msi_send(struct pci_device *d)
{
    g_mutex_lock(&d->irq_lock);
    const uint8_t *cap = d->config + d->msi_cap;
    if (msi_enabled_locked(d))
        send_message(d, pci_get32(cap + 4) | (uint64_t)pci_get32(cap + 8) << 32, pci_get16(cap + 12));
    g_mutex_unlock(&d->irq_lock);
}

static bool pending(const struct pci_msix *x, unsigned vector)
{
    return x->pba[vector / 8] >> vector % 8 & 1;
}

static void deliver_locked(struct pci_device *d, unsigned vector)
{
    struct pci_msix *x = &d->msix;
    const uint8_t *entry = x->table + vector * MSIX_ENTRY;
    if (x->masked || (entry[MSIX_CONTROL] & 1)) {
        x->pba[vector / 8] |= 1 << vector % 8;
        return;
    }
    x->pba[vector / 8] &= ~(1 << vector % 8);
    send_message(d, pci_get32(entry) | (uint64_t)pci_get32(entry + 4) << 32, pci_get32(entry + 8));
}

static void deliver_pending_locked(struct pci_device *d)
{
    if (!d->msix.enabled || d->msix.masked)
        return;
    for (unsigned i = 0; i < d->msix.nvectors; i++) {
        if (pending(&d->msix, i))
            deliver_locked(d, i);
    }
}

bool pci_msix_enabled(struct pci_device *d)
{
    g_mutex_lock(&d->irq_lock);
    bool on = d->msix.enabled;
    g_mutex_unlock(&d->irq_lock);
    return on;
}

void pci_msix_send(struct pci_device *d, unsigned vector)
{
    g_mutex_lock(&d->irq_lock);
    if (d->msix.enabled && vector < d->msix.nvectors)
        deliver_locked(d, vector);
    g_mutex_unlock(&d->irq_lock);
}

/* Table first, pending bits at pba_offset; both in whole 4-byte registers. */
static uint64_t msix_read(void *opaque, uint64_t offset, unsigned size)
{
    struct pci_device *d = opaque;
    struct pci_msix *x = &d->msix;
    uint32_t value = 0;
    offset &= ~3ull;
    g_mutex_lock(&d->irq_lock);
    if (offset < x->nvectors * (unsigned)MSIX_ENTRY)
        value = pci_get32(x->table + offset);
    else if (offset - x->pba_offset < x->pba_size)
        value = pci_get32(x->pba + (offset - x->pba_offset));
    g_mutex_unlock(&d->irq_lock);
    return value;
}

static void msix_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct pci_device *d = opaque;
    struct pci_msix *x = &d->msix;
    offset &= ~3ull;
    if (offset >= x->nvectors * (unsigned)MSIX_ENTRY)
        return; /* the pending bits are read only */
    unsigned vector = offset / MSIX_ENTRY;
    if (offset % MSIX_ENTRY == MSIX_CONTROL)
        value &= 1;
    else if (offset % MSIX_ENTRY == 0)
        value &= ~3u;
    g_mutex_lock(&d->irq_lock);
    pci_set32(x->table + offset, value);
    if (x->enabled && !x->masked && pending(x, vector))
        deliver_locked(d, vector);
    g_mutex_unlock(&d->irq_lock);
    if (d->changed)
        d->changed(d);
}

bool pci_msix_message(struct pci_device *d, unsigned vector, uint64_t *ret_address, uint32_t *ret_data)
{
    struct pci_msix *x = &d->msix;
    g_mutex_lock(&d->irq_lock);
    const uint8_t *entry = x->table + vector * (size_t)MSIX_ENTRY;
    bool sends = x->enabled && !x->masked && vector < x->nvectors && !(entry[MSIX_CONTROL] & 1) && !pending(x, vector) &&
                 (pci_get16(d->config + PCI_REG_COMMAND) & PCI_CMD_MASTER);
    if (sends) {
        *ret_address = pci_get32(entry) | (uint64_t)pci_get32(entry + 4) << 32;
        *ret_data = pci_get32(entry + 8);
    }
    g_mutex_unlock(&d->irq_lock);
    return sends;
}

static const struct io_ops msix_ops = { msix_read, msix_write, 4, 4 };

static void mask_all(struct pci_msix *x)
{
    memset(x->table, 0, x->nvectors * (size_t)MSIX_ENTRY);
    memset(x->pba, 0, x->pba_size);
    for (unsigned i = 0; i < x->nvectors; i++)
        x->table[i * MSIX_ENTRY + MSIX_CONTROL] = 1;
}

void pci_msix_init(struct pci_device *d, unsigned nvectors, unsigned bar)
{
    struct pci_msix *x = &d->msix;
    uint8_t at = nvectors >= 1 && nvectors <= 2048 ? pci_cap_add(d, PCI_CAP_MSIX, 12) : 0;
    if (!at)
        return;
    x->cap = at;
    x->nvectors = nvectors;
    x->pba_offset = MAX(nvectors * MSIX_ENTRY, 0x800);
    x->pba_size = (nvectors + 63) / 64 * 8;
    x->table = g_malloc0(nvectors * (size_t)MSIX_ENTRY);
    x->pba = g_malloc0(x->pba_size);
    mask_all(x);
    uint64_t size = 4096;
    while (size < x->pba_offset + x->pba_size)
        size *= 2;
    pci_bar_init(d, bar, PCI_BAR_MEM32, size, &msix_ops, d, NULL);
    pci_set16(d->config + at + 2, nvectors - 1);
    pci_set16(d->wmask + at + 2, MSIX_FUNCTION_MASK | MSIX_ENABLE);
    pci_set32(d->config + at + 4, bar);
    pci_set32(d->config + at + 8, x->pba_offset | bar);
}

/* ---- configuration space ---- */

void pci_irq_config_written(struct pci_device *d)
{
    g_mutex_lock(&d->irq_lock);
    if (d->msix.cap) {
        uint16_t control = pci_get16(d->config + d->msix.cap + 2);
        d->msix.enabled = control & MSIX_ENABLE;
        d->msix.masked = control & MSIX_FUNCTION_MASK;
        deliver_pending_locked(d);
    }
    drive_intx_locked(d);
    g_mutex_unlock(&d->irq_lock);
}

void pci_irq_reset(struct pci_device *d)
{
    g_mutex_lock(&d->irq_lock);
    d->msix.enabled = d->msix.masked = false;
    if (d->msix.cap)
        mask_all(&d->msix);
    d->intx_level = false;
    drive_intx_locked(d);
    g_mutex_unlock(&d->irq_lock);
}

void pci_irq_finish(struct pci_device *d)
{
    g_clear_pointer(&d->msix.table, g_free);
    g_clear_pointer(&d->msix.pba, g_free);
}
