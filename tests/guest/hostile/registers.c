/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Every MSR, every port, and the configuration space and BARs of every PCI function. */
#include "hostile.h"

/* ---- MSRs ---- */

enum { APIC_BASE = 0x1b, X2APIC_ICR = 0x830 };

static const struct { uint32_t first, last; } msr_ranges[] = {
    { 0, 0x3ff }, { 0x400, 0x4ff }, { 0x800, 0x8ff }, { 0xc0000000, 0xc00001ff }, { 0xc0010000, 0xc0011fff },
    { 0x4b564d00, 0x4b564d10 }, { 0x40000000, 0x400000ff },
};

/* Most MSRs have reserved high bits: three of four values are such as may be taken. An address lies at 16 MiB and above. */
static uint64_t msr_value(void)
{
    uint32_t low = rnd(), high = rnd();
    switch (rnd() & 3) {
    case 0: return (uint64_t)high << 32 | low;
    case 1: return (low & 0x1ffffff) | 0x1000000;
    case 2: return low & 0xff;
    default: return (uint64_t)(high & 15) << 32 | low;
    }
}

static void try_msr(uint32_t msr)
{
    uint64_t old, now;
    bool readable = read_msr(msr, &old);
    if (msr == X2APIC_ICR) /* may be an INIT to oneself */
        return;
    for (unsigned i = 0; i < 2; i++) {
        uint64_t value = msr_value();
        /* An APIC that lies over this guest's code or stack would be the guest's own end. */
        if (msr == APIC_BASE && value < 0x1000000)
            value |= 0x1000000;
        write_msr(msr, value);
        read_msr(msr, &now);
    }
    if (msr == APIC_BASE)
        write_msr(msr, 0); /* from x2APIC the way back leads over "off" (SDM vol. 3, 11.12.5) */
    if (readable)
        write_msr(msr, old);
}

void run_msrs(void)
{
    unsigned readable = 0;
    uint64_t value;
    for (unsigned i = 0; i < sizeof(msr_ranges) / sizeof(msr_ranges[0]); i++) {
        for (uint32_t msr = msr_ranges[i].first;; msr++) {
            readable += read_msr(msr, &value);
            try_msr(msr);
            if (msr == msr_ranges[i].last)
                break;
        }
    }
    print("readable MSRs: ");
    print_hex(readable);
    print("\n");
}

/* ---- ports ---- */

/* What ends or resets the machine by design, and the console this guest speaks on. */
static const struct { uint16_t first, last; } spared[] = {
    { 0x64, 0x64 },    /* keyboard controller: command 0xfe resets */
    { 0x92, 0x92 },    /* fast A20 and reset */
    { 0xf4, 0xf7 },    /* isa-debug-exit, where it is */
    { 0x3f8, 0x3ff },  /* COM1 */
    { 0x600, 0x605 },  /* ACPI: PM1 control has the sleep enable bit */
    { 0xb004, 0xb005 },
    { 0xcf9, 0xcf9 },  /* reset control */
};

static bool port_spared(unsigned port, unsigned size)
{
    for (unsigned i = 0; i < sizeof(spared) / sizeof(spared[0]); i++) {
        if (port <= spared[i].last && port + size > spared[i].first)
            return true;
    }
    return false;
}

void run_ports(void)
{
    for (unsigned port = 0; port < 0x10000; port++) {
        for (unsigned size = 1; size <= 4; size *= 2) {
            if (port_spared(port, size))
                continue;
            in(port, size);
            /* Through 0xcf8 and 0xcfc this guest would switch off or move what is spared above: that is run_pci's matter. */
            if (port + size > 0xcf8 && port < 0xd00)
                continue;
            out(port, size, rnd());
            in(port, size);
        }
    }
}

/* ---- PCI ---- */

enum { MAX_FUNCTIONS = 64, MAX_BARS = 256 };
static uint16_t functions[MAX_FUNCTIONS];
static unsigned nfunctions;

static void enumerate(void)
{
    nfunctions = 0;
    for (unsigned f = 0; f < 4 * 256 && nfunctions < MAX_FUNCTIONS; f++) {
        if ((pci_read(f, 0) & 0xffff) != 0xffff)
            functions[nfunctions++] = f;
    }
}

static uint32_t interesting(void)
{
    static const uint32_t places[] = { 0, 0x1000, 0xa0000, 0xf0000, 0x100000, 0x2000000, 0xb0000000, 0xc0000000, 0xe0000000, 0xfebf0000,
                                       0xfec00000, 0xfed00000, 0xfee00000, 0xfffff000, 0xffffffff, 0xc001 };
    switch (rnd() & 3) {
    case 0: return rnd();
    case 1: return places[rnd() & 15] | (rnd() & 0xf);
    case 2: return 0xc0000000 + (rnd() & 0x3ffff000);
    default: return places[rnd() & 15] + (rnd() & 0xfffff);
    }
}

/* The 32 bits below a device's first 64 bytes with a mask for the command register: with bus mastering the devices may write
 * over this guest, which is then lost; the caller of "master" expects no "alive". */
static void write_config(unsigned f, bool master)
{
    unsigned offset = rnd() & 1 ? 0x10 + (rnd() & 0x1c) : rnd() & (rnd() & 1 ? 0xfc : 0xffc);
    uint32_t value = interesting();
    /* Bus 0, device 0 and the last device are the chipset: its windows move, its functions stay. */
    if (offset == 4)
        value = master ? value | 7 : (value & ~4u) | 3;
    switch (rnd_below(5)) {
    case 0: poke(ECAM + f * 4096 + offset, 2, value); break;
    case 1:
        if (offset == 4)
            value |= 3;
        poke(ECAM + f * 4096 + (offset & 0xffc) + (offset == 4 ? 0 : rnd() & 3), 0, offset == 4 && !master ? value & ~4u : value);
        break;
    case 2: poke(ECAM + f * 4096 + offset, 5, 0); break;
    case 3:
        out(0xcf8, 4, 0x80000000 | f << 8 | (offset & 0xfc));
        out(0xcfc, 4, offset >= 0x100 && (offset & 0xfc) == 4 && !master ? value & ~4u : value);
        break;
    default: pci_read(f, offset);
    }
}

static void access_bars(unsigned f, unsigned n)
{
    unsigned end = pci_read(f, 0x0c) >> 16 & 1 ? 0x18 : 0x28; /* of a bridge what follows are buses and windows */
    for (unsigned bar = 0x10; bar < end; bar += 4) {
        uint32_t at = pci_read(f, bar);
        if (!at || at == 0xffffffff) /* the second: its bus is somewhere else now */
            continue;
        for (unsigned i = 0; i < n; i++) {
            uint32_t offset = rnd() & (rnd() & 1 ? 0xff : 0x3fff), size = 1u << rnd_below(3);
            if (at & 1) {
                unsigned port = (at & 0xfffc) + (offset & 0xff);
                if (!port_spared(port, size) && (port < 0xcf0 || port >= 0xd00) && rnd() & 1)
                    out(port, size, rnd());
                else if (!port_spared(port, size))
                    in(port, size);
            } else if ((at & ~15u) >= 0x4000000) { /* what lies in RAM is RAM: not this guest's to destroy */
                poke((at & ~15u) + offset, rnd() & 7, interesting());
            }
        }
    }
}

/* Places that a firmware would give: BARs that do not lie over each other, all devices answer. */
static void place_bars(bool master)
{
    uint32_t memory = 0xc0000000;
    unsigned port = 0xc000, bus = 0;
    for (unsigned i = 0; i < nfunctions; i++) {
        unsigned f = functions[i];
        if (pci_read(f, 0x0c) >> 16 & 1) { /* a bridge: a bus of its own, all of memory and I/O goes through */
            bus++;
            pci_write(f, 0x18, bus << 16 | bus << 8 | f >> 8);
            pci_write(f, 0x1c, 0xf0c0);
            pci_write(f, 0x20, 0xfeb0c000);
            pci_write(f, 0x24, 0x0000fff0);
            pci_write(f, 4, master ? 7 : 3);
            continue;
        }
        for (unsigned bar = 0x10; bar < 0x28; bar += 4) {
            pci_write(f, bar, 0xffffffff);
            uint32_t mask = pci_read(f, bar);
            if (!mask)
                continue;
            if (mask & 1) {
                pci_write(f, bar, port);
                port += 0x100;
            } else {
                pci_write(f, bar, memory);
                memory += 0x100000;
                if (mask & 4) {
                    bar += 4;
                    pci_write(f, bar, 0);
                }
            }
        }
        pci_write(f, 4, master ? 7 : 3);
    }
}

void run_pci(void)
{
    bool master = argument("master");
    enumerate();
    print("functions: ");
    print_hex(nfunctions);
    print("\n");
    for (unsigned round = 0; round < 6; round++) {
        place_bars(master);
        for (unsigned i = 0; i < nfunctions; i++)
            access_bars(functions[i], 40);
        for (unsigned n = 0; n < 1500; n++) {
            unsigned f = functions[rnd_below(nfunctions)];
            write_config(f, master);
            if (!(n & 15))
                access_bars(f, 3);
        }
        for (unsigned i = 0; i < nfunctions; i++)
            access_bars(functions[i], 20);
    }
    for (unsigned i = 0; i < nfunctions; i++)
        pci_write(functions[i], 4, 0);
}
