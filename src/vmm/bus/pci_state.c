/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A function's configuration space and interrupts in a saved machine. What is loaded is hostile: only bits that a guest can write are taken. */
#include <string.h>

#include "vmm/bus/pci_private.h"
#include "vmm/core/state.h"

enum { MSIX_ENTRY = 16, MSIX_CONTROL = 12, HEADER = 64 };

void pci_device_save(struct pci_device *d, struct state_writer *w)
{
    const struct pci_msix *x = &d->msix;
    pci_lock(d->bus);
    g_mutex_lock(&d->irq_lock);
    state_put(w, "pci.config", d->config, 1, sizeof(d->config));
    state_put_u64(w, "pci.intx", d->intx_level);
    state_put(w, "pci.msix", x->table, 1, x->cap ? x->nvectors * MSIX_ENTRY : 0);
    state_put(w, "pci.msix-pending", x->pba, 1, x->cap ? x->pba_size : 0);
    g_mutex_unlock(&d->irq_lock);
    pci_unlock(d->bus);
}

/* Of the header, what tells functions apart: neither status bits nor anything the guest writes. */
static bool same_function(const struct pci_device *d, const uint8_t *config, struct state_reader *r, GError **error)
{
    for (unsigned i = 0; i < HEADER; i++) {
        bool status = i / 2 == PCI_REG_STATUS / 2 || (d->secondary && i / 2 == PCI_REG_SECONDARY_STATUS / 2);
        if (!status && (config[i] ^ d->config[i]) & ~d->wmask[i] & ~d->w1c[i])
            return state_bad(r, error, "register %#x of its configuration space is %#x there and %#x here: it is not the same function", i, config[i], d->config[i]);
    }
    return true;
}

static void take_config(struct pci_device *d, const uint8_t *config)
{
    for (unsigned i = 0; i < sizeof(d->config); i++) {
        uint8_t guest = d->wmask[i] | d->w1c[i];
        d->config[i] = (uint8_t)((d->config[i] & ~guest) | (config[i] & guest));
    }
}

static bool take_msix(struct pci_device *d, struct state_reader *r, GError **error)
{
    struct pci_msix *x = &d->msix;
    uint32_t size = x->cap ? x->nvectors * MSIX_ENTRY : 0;
    g_autofree uint8_t *table = g_malloc0(size + 1), *pba = g_malloc0((size_t)x->pba_size + 1);
    if (!state_get(r, "pci.msix", table, 1, size, error) || !state_get(r, "pci.msix-pending", pba, 1, x->cap ? x->pba_size : 0, error))
        return false;
    g_mutex_lock(&d->irq_lock);
    for (unsigned i = 0; i < size; i += MSIX_ENTRY) {
        memcpy(x->table + i, table + i, MSIX_ENTRY);
        x->table[i] &= 0xfc;
        pci_set32(x->table + i + MSIX_CONTROL, table[i + MSIX_CONTROL] & 1);
    }
    for (unsigned v = 0; size && v < x->nvectors; v++)
        x->pba[v / 8] |= (uint8_t)(pba[v / 8] & 1 << v % 8);
    g_mutex_unlock(&d->irq_lock);
    return true;
}

bool pci_device_load(struct pci_device *d, struct state_reader *r, GError **error)
{
    g_autofree uint8_t *config = g_malloc(sizeof(d->config));
    uint64_t intx;
    if (!state_get(r, "pci.config", config, 1, sizeof(d->config), error) || !state_get_u64(r, "pci.intx", 1, &intx, error) ||
        !same_function(d, config, r, error) || !take_msix(d, r, error))
        return false;
    pci_lock(d->bus);
    take_config(d, config);
    g_mutex_lock(&d->irq_lock);
    d->intx_level = intx;
    g_mutex_unlock(&d->irq_lock);
    pci_irq_config_written(d);
    pci_update_windows(d);
    if (d->changed)
        d->changed(d);
    pci_unlock(d->bus);
    return true;
}

void pci_host_save(struct pci_bus *bus, struct state_writer *w)
{
    state_put_u64(w, "address", bus->host->address);
}

bool pci_host_load(struct pci_bus *bus, struct state_reader *r, GError **error)
{
    uint64_t address;
    if (!state_get_u64(r, "address", UINT32_MAX, &address, error))
        return false;
    bus->host->address = (uint32_t)address & 0x80fffffc;
    return true;
}
