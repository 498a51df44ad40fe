/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The controller (3.3): registers, CORB and RIRB (4.4), immediate commands, interrupts; intel-hda (ICH6) and ich9-intel-hda. */
#include "vmm/dev/audio/hda.h"

#include <string.h>

#include "base/error.h"
#include "vmm/core/state.h"

enum { REGS_SIZE = 0x4000, ALIASES = 0x2000, RING = 256, STREAMS_AT = 0x80, STREAM_SIZE = 0x20, WALCLK_HZ = 24 };
/* The registers' words. */
enum { GCAP = 0x00, OUTPAY = 0x04, GCTL = 0x08, WAKEEN = 0x0c, GSTS = 0x10, STRMPAY = 0x18, INTCTL = 0x20, INTSTS = 0x24, WALCLK = 0x30, OLD_SSYNC = 0x34,
       SSYNC = 0x38, CORBBASE = 0x40, CORBWP = 0x48, CORBCTL = 0x4c, RIRBBASE = 0x50, RIRBWP = 0x58, RIRBCTL = 0x5c, ICOI = 0x60, ICII = 0x64, ICIS = 0x68, DPBASE = 0x70 };
enum { SD_CTL = 0x00, SD_LPIB = 0x04, SD_CBL = 0x08, SD_LVI = 0x0c, SD_FIFOS = 0x10, SD_BDL = 0x18 };
enum { GCTL_CRST = 1, GCTL_UNSOL = 0x100, SIZES = 0x42 /* 256 entries, the only size */, RESPONSE_BUSY = 1, RESPONSE_VALID = 2 };
#define INT_GIE (1u << 31)
#define INT_CIE (1u << 30)
#define SD_WRITABLE 0x00ff001fu

extern const struct device_class intel_hda_class, ich9_intel_hda_class;

bool hda_may_dma(const struct hda *h) { return pci_get16(h->pci.config + PCI_REG_COMMAND) & PCI_CMD_MASTER; }

struct hda *hda_of(struct device *d) { return d->class == &intel_hda_class || d->class == &ich9_intel_hda_class ? (struct hda *)d : NULL; }

/* ---- interrupts (3.3.14, 3.3.15) ---- */

static uint32_t status(const struct hda *h)
{
    uint32_t sts = 0;
    for (unsigned i = 0; i < HDA_STREAMS; i++) {
        if (h->sd_sts[i] & h->sd_ctl[i] & (HDA_STS_BCIS | HDA_STS_FIFOE | HDA_STS_DESE))
            sts |= 1u << i;
    }
    if ((h->rirb_sts & h->rirb_ctl & 5) || (h->statests & h->wakeen) || (h->corb_sts & h->corb_ctl & 1))
        sts |= INT_CIE;
    return sts & h->intctl ? sts | INT_GIE : sts;
}

void hda_update_interrupt(struct hda *h)
{
    uint32_t pending = h->intctl & INT_GIE ? status(h) & h->intctl & ~INT_GIE : 0, fresh = pending & ~h->told;
    bool msi = pci_msi_enabled(&h->pci);
    h->told = pending;
    pci_intx(&h->pci, pending && !msi);
    if (fresh && msi)
        pci_msi_send(&h->pci);
}

/* ---- commands ---- */

/* False: nobody answers. */
static bool command(struct hda *h, uint32_t word, uint32_t *ret)
{
    unsigned cad = word >> 28;
    if (cad >= HDA_CODECS || !h->codecs[cad] || word >> 27 & 1)
        return false;
    *ret = hda_codec_command(h->codecs[cad], word >> 20 & 0x7f, word & 0xfffff);
    return true;
}

static bool respond(struct hda *h, uint32_t response, uint32_t more)
{
    uint8_t raw[8];
    h->rirb_wp = (h->rirb_wp + 1) % RING;
    pci_set32(raw, response);
    pci_set32(raw + 4, more);
    return guest_memory_write(h->dev.machine->memory, h->rirb_base + h->rirb_wp * 8u, raw, sizeof(raw));
}

static void run_corb(struct hda *h)
{
    bool any = false;
    for (unsigned n = 0; n < RING && !(h->corb_rp & 0x8000) && (h->corb_ctl & 2) && (h->rirb_ctl & 2) && h->corb_rp != h->corb_wp && hda_may_dma(h); n++) {
        uint8_t raw[4];
        uint32_t response;
        h->corb_rp = (h->corb_rp + 1) % RING;
        if (!guest_memory_read(h->dev.machine->memory, h->corb_base + h->corb_rp * 4u, raw, sizeof(raw))) {
            h->corb_sts |= 1; /* memory error */
            h->corb_ctl &= ~2;
            break;
        }
        if (!command(h, pci_get32(raw), &response))
            continue;
        any = true;
        if (!respond(h, response, pci_get32(raw) >> 28))
            h->rirb_sts |= 4;
    }
    if (any)
        h->rirb_sts |= 1; /* all that were asked for are there */
    hda_update_interrupt(h);
}

static void immediate(struct hda *h, uint32_t value)
{
    if (!(value & RESPONSE_BUSY)) {
        h->ics &= ~(value & RESPONSE_VALID);
        return;
    }
    h->response = 0;
    h->ics = command(h, h->command, &h->response) ? RESPONSE_VALID : 0;
}

/* ---- reset ---- */

static void reset_registers(struct hda *h)
{
    vtimer_cancel(h->timer);
    h->told = h->intctl = h->ssync = h->command = h->response = 0;
    h->corb_base = h->rirb_base = h->dp_base = 0;
    h->corb_wp = h->corb_rp = h->rirb_wp = h->rint_count = h->ics = 0;
    h->corb_ctl = h->corb_sts = h->rirb_ctl = h->rirb_sts = 0;
    for (unsigned i = 0; i < HDA_STREAMS; i++)
        hda_stream_reset(h, i);
    pci_intx(&h->pci, false);
}

/* CRST (3.3.7): codecs are found again as it ends. */
static void write_gctl(struct hda *h, uint32_t value)
{
    bool was = h->gctl & GCTL_CRST, is = value & GCTL_CRST;
    h->gctl = value & (GCTL_CRST | GCTL_UNSOL);
    if (was && !is) {
        reset_registers(h);
        for (unsigned i = 0; i < HDA_CODECS; i++) {
            if (h->codecs[i])
                hda_codec_reset(h->codecs[i]);
        }
    }
    if (!was && is) {
        for (unsigned i = 0; i < HDA_CODECS; i++)
            h->statests |= h->codecs[i] ? 1u << i : 0;
        hda_update_interrupt(h);
    }
}

/* ---- registers, as words ---- */

static uint32_t stream_read(struct hda *h, unsigned i, unsigned reg)
{
    switch (reg) {
    case SD_CTL: return h->sd_ctl[i] | (uint32_t)h->sd_sts[i] << 24;
    case SD_LPIB:
        hda_stream_run(h, i);
        hda_update_interrupt(h);
        return h->sd_lpib[i];
    case SD_CBL: return h->sd_cbl[i];
    case SD_LVI: return h->sd_lvi[i] | 4u << 16;
    case SD_FIFOS: return 0xff | (uint32_t)h->sd_fmt[i] << 16;
    case SD_BDL: return (uint32_t)h->sd_bdl[i];
    case SD_BDL + 4: return (uint32_t)(h->sd_bdl[i] >> 32);
    default: return 0;
    }
}

static uint32_t word_read(struct hda *h, unsigned reg)
{
    unsigned stream = (reg - STREAMS_AT) / STREAM_SIZE;
    if (reg >= STREAMS_AT)
        return stream < HDA_STREAMS ? stream_read(h, stream, reg % STREAM_SIZE) : 0;
    switch (reg) {
    case GCAP: return 1u << 24 | HDA_OUTPUTS << 12 | HDA_INPUTS << 8 | 1; /* version 1.0, 64-bit addresses */
    case OUTPAY: return 0x1d003c;
    case GCTL: return h->gctl;
    case WAKEEN: return h->wakeen | (uint32_t)h->statests << 16;
    case STRMPAY: return 0x00180030;
    case INTCTL: return h->intctl;
    case INTSTS: return status(h);
    case WALCLK: return (uint32_t)(vclock_now(h->dev.machine->clock) * WALCLK_HZ / 1000);
    case OLD_SSYNC: case SSYNC: return h->ssync;
    case CORBBASE: return (uint32_t)h->corb_base;
    case CORBBASE + 4: return (uint32_t)(h->corb_base >> 32);
    case CORBWP: return h->corb_wp | (uint32_t)h->corb_rp << 16;
    case CORBCTL: return h->corb_ctl | (uint32_t)h->corb_sts << 8 | SIZES << 16;
    case RIRBBASE: return (uint32_t)h->rirb_base;
    case RIRBBASE + 4: return (uint32_t)(h->rirb_base >> 32);
    case RIRBWP: return h->rirb_wp | (uint32_t)h->rint_count << 16;
    case RIRBCTL: return h->rirb_ctl | (uint32_t)h->rirb_sts << 8 | SIZES << 16;
    case ICOI: return h->command;
    case ICII: return h->response;
    case ICIS: return h->ics;
    case DPBASE: return (uint32_t)h->dp_base;
    case DPBASE + 4: return (uint32_t)(h->dp_base >> 32);
    default: return 0;
    }
}

static void write_ctl(struct hda *h, unsigned i, uint32_t value, uint32_t set)
{
    bool was = h->sd_ctl[i] & HDA_RUN;
    h->sd_sts[i] &= ~(set >> 24 & (HDA_STS_BCIS | HDA_STS_FIFOE | HDA_STS_DESE));
    if (value & 1) {
        hda_stream_reset(h, i);
        h->sd_ctl[i] = 1;
    } else {
        if (was && !(value & HDA_RUN))
            hda_stream_run(h, i);
        h->sd_ctl[i] = value & SD_WRITABLE;
        if (!was && (value & HDA_RUN))
            hda_stream_start(h, i);
        if (!(value & HDA_RUN))
            h->sd_sts[i] &= ~HDA_STS_READY;
    }
    hda_update_interrupt(h);
}

static void set_half(uint64_t *field, bool high, uint32_t value)
{
    *field = high ? (uint32_t)*field | (uint64_t)value << 32 : (*field & ~0xffffffffull) | value;
}

static void stream_write(struct hda *h, unsigned i, unsigned reg, uint32_t value, uint32_t set)
{
    bool idle = !(h->sd_ctl[i] & HDA_RUN);
    switch (reg) {
    case SD_CTL: write_ctl(h, i, value, set); return;
    case SD_CBL: h->sd_cbl[i] = idle ? value : h->sd_cbl[i]; return;
    case SD_LVI: h->sd_lvi[i] = idle ? value & 0xff : h->sd_lvi[i]; return;
    case SD_FIFOS: h->sd_fmt[i] = idle ? (value >> 16) & 0x7f7f : h->sd_fmt[i]; return;
    case SD_BDL: case SD_BDL + 4:
        if (idle)
            set_half(&h->sd_bdl[i], reg & 4, reg & 4 ? value : value & ~127u);
        return;
    }
}

/* value: the word as it would be; set: only the bits that were written as 1. */
static void word_write(struct hda *h, unsigned reg, uint32_t value, uint32_t mask)
{
    uint32_t set = value & mask;
    unsigned stream = (reg - STREAMS_AT) / STREAM_SIZE;
    if (reg == GCTL) {
        write_gctl(h, value);
        return;
    }
    if (reg == WAKEEN) {
        h->wakeen = value & 0x7fff;
        h->statests &= ~(set >> 16);
        hda_update_interrupt(h);
        return;
    }
    if (!(h->gctl & GCTL_CRST))
        return;
    if (reg >= STREAMS_AT) {
        if (stream < HDA_STREAMS)
            stream_write(h, stream, reg % STREAM_SIZE, value, set);
        return;
    }
    switch (reg) {
    case INTCTL:
        h->intctl = value & (INT_GIE | INT_CIE | ((1u << HDA_STREAMS) - 1));
        hda_update_interrupt(h);
        break;
    case OLD_SSYNC: case SSYNC: h->ssync = value & ((1u << HDA_STREAMS) - 1); break;
    case CORBBASE: set_half(&h->corb_base, false, value & ~127u); break;
    case CORBBASE + 4: set_half(&h->corb_base, true, value); break;
    case CORBWP:
        h->corb_wp = value & 0xff;
        if (mask >> 16)
            h->corb_rp = value >> 16 & 0x8000 ? 0x8000 : h->corb_rp & 0xff; /* reset: until 0 is written */
        run_corb(h);
        break;
    case CORBCTL:
        h->corb_ctl = value & 3;
        h->corb_sts &= ~(set >> 8 & 1);
        run_corb(h);
        break;
    case RIRBBASE: set_half(&h->rirb_base, false, value & ~127u); break;
    case RIRBBASE + 4: set_half(&h->rirb_base, true, value); break;
    case RIRBWP:
        if (set & 0x8000)
            h->rirb_wp = 0;
        h->rint_count = value >> 16 & 0xff;
        break;
    case RIRBCTL:
        h->rirb_ctl = value & 7;
        h->rirb_sts &= ~(set >> 8 & 5);
        run_corb(h);
        break;
    case ICOI: h->command = value; break;
    case ICIS: immediate(h, set); break;
    case DPBASE: set_half(&h->dp_base, false, value & ~126u); break;
    case DPBASE + 4: set_half(&h->dp_base, true, value); break;
    }
}

static uint64_t regs_read(void *opaque, uint64_t offset, unsigned size)
{
    offset -= offset >= ALIASES ? ALIASES : 0;
    uint32_t word = word_read(opaque, (unsigned)offset & ~3u) >> (offset & 3) * 8;
    return size == 4 ? word : word & ((1u << 8 * size) - 1);
}

static void regs_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct hda *h = opaque;
    unsigned shift = (unsigned)(offset & 3) * 8, reg = (unsigned)offset & ~3u;
    uint32_t mask = (size == 4 ? 0xffffffffu : (1u << 8 * size) - 1) << shift;
    if (offset >= ALIASES)
        return;
    /* What is cleared by writing 1 stands beside what is kept: only the bytes that were written count. */
    uint32_t old = mask == 0xffffffffu || reg == STREAMS_AT + SD_LPIB ? 0 : word_read(h, reg);
    word_write(h, reg, (old & ~mask) | ((uint32_t)value << shift & mask), mask);
}

static const struct io_ops regs_ops = { regs_read, regs_write, 1, 4 };

/* ---- time ---- */

static void tick(void *opaque)
{
    struct hda *h = opaque;
    struct audiodev *sinks[HDA_CODECS] = { NULL };
    g_mutex_lock(&h->dev.lock);
    for (unsigned i = 0; i < HDA_STREAMS; i++)
        hda_stream_run(h, i);
    hda_update_interrupt(h);
    uint64_t next = hda_stream_deadline(h);
    if (next)
        vtimer_set(h->timer, next);
    for (unsigned i = 0; i < HDA_CODECS; i++)
        sinks[i] = h->codecs[i] ? h->codecs[i]->audio : NULL;
    g_mutex_unlock(&h->dev.lock);
    for (unsigned i = 0; i < HDA_CODECS; i++)
        audiodev_flush(sinks[i]); /* they outlive the devices */
}

/* Positions are worked out from the list and the virtual clock each time, whatever the registers hold. */
static bool load(struct device *d, struct state_reader *r, GError **error)
{
    struct hda *h = (struct hda *)d;
    bool any = false;
    for (unsigned i = 0; i < HDA_STREAMS; i++)
        any |= h->sd_ctl[i] & HDA_RUN;
    if (any)
        vtimer_set(h->timer, vclock_now(d->machine->clock));
    return true;
}

/* ---- life ---- */

static void reset(struct device *d)
{
    struct hda *h = (struct hda *)d;
    g_mutex_lock(&d->lock);
    reset_registers(h);
    h->gctl = h->wakeen = h->statests = 0;
    g_mutex_unlock(&d->lock);
    pci_device_reset(&h->pci);
}

static bool realize(struct device *d, GError **error)
{
    struct hda *h = (struct hda *)d;
    bool ich9 = d->class == &ich9_intel_hda_class;
    const struct pci_id id = { .vendor = 0x8086, .device = ich9 ? 0x293e : 0x2668, .subsys_vendor = 0x1af4, .subsys = 0x1100, .revision = ich9 ? 3 : 1,
                               .class_code = 0x04, .subclass = 0x03, .int_pin = 1 };
    pci_device_init(&h->pci, d, d->class->name, &id);
    h->pci.config[0x40] = 1; /* HDCTL of the chipset: this interface */
    h->pci.cap_end = 0x50;
    pci_bar_init(&h->pci, 0, PCI_BAR_MEM32, REGS_SIZE, &regs_ops, h, &d->lock);
    if (h->msi_wanted)
        pci_msi_init(&h->pci);
    h->timer = vtimer_create(d->machine->clock, tick, h);
    if (pci_device_plug(&h->pci, d->machine, h->addr, error))
        return true;
    pci_device_unplug(&h->pci);
    vtimer_destroy(h->timer);
    return false;
}

static void unrealize(struct device *d)
{
    struct hda *h = (struct hda *)d;
    pci_device_detach(&h->pci);
    vtimer_destroy(h->timer);
    pci_device_unplug(&h->pci);
    for (unsigned i = 0; i < HDA_CODECS; i++) {
        if (h->codecs[i])
            h->codecs[i]->hda = NULL;
    }
}

#define T struct hda
static const char *const off_on_auto[] = { "off", "on", "auto", NULL };
static const struct device_prop props[] = {
    { "addr", PROP_PCI_ADDR, offsetof(T, addr), .def = "-1", .help = "slot[.function]" },
    { "msi", PROP_ENUM, offsetof(T, msi_wanted), .values = off_on_auto, .def = "auto", .help = "message signalled interrupts" },
    { "old_msi_addr", PROP_BOOL, offsetof(T, old_msi_addr), .def = "off", .help = "accepted, without effect" },
    { "debug", PROP_UINT, offsetof(T, debug), 0, UINT32_MAX, .def = "0", .help = "accepted, without effect" },
    { NULL }
};
static const struct device_field fields[] = {
    DEVICE_FIELD(T, gctl), DEVICE_FIELD(T, intctl), DEVICE_FIELD(T, told), DEVICE_FIELD(T, wakeen), DEVICE_FIELD(T, statests), DEVICE_FIELD(T, corb_base), DEVICE_FIELD(T, rirb_base),
    DEVICE_FIELD(T, dp_base), DEVICE_FIELD(T, corb_wp), DEVICE_FIELD(T, corb_rp), DEVICE_FIELD(T, rirb_wp), DEVICE_FIELD(T, rint_count), DEVICE_FIELD(T, corb_ctl),
    DEVICE_FIELD(T, corb_sts), DEVICE_FIELD(T, rirb_ctl), DEVICE_FIELD(T, rirb_sts), DEVICE_FIELD(T, ssync), DEVICE_FIELD(T, command), DEVICE_FIELD(T, response),
    DEVICE_FIELD(T, ics), DEVICE_ARRAY(T, sd_ctl), DEVICE_ARRAY(T, sd_lpib), DEVICE_ARRAY(T, sd_cbl), DEVICE_ARRAY(T, sd_sts), DEVICE_ARRAY(T, sd_lvi),
    DEVICE_ARRAY(T, sd_fmt), DEVICE_ARRAY(T, sd_bdl), DEVICE_ARRAY(T, sd_entry), DEVICE_ARRAY(T, sd_at), DEVICE_ARRAY(T, sd_begin), DEVICE_ARRAY(T, sd_frames),
    { NULL }
};
#define CONTROLLER(id, kind, text)                                                                                                                       \
    const struct device_class id = { .name = kind, .help = text, .bus = DEV_BUS_PCI, .size = sizeof(T), .props = props, .fields = fields,               \
                                     .user_creatable = true, .realize = realize, .reset = reset, .unrealize = unrealize, .load = load }
CONTROLLER(intel_hda_class, "intel-hda", "Intel HD Audio controller (ICH6)");
CONTROLLER(ich9_intel_hda_class, "ich9-intel-hda", "Intel HD Audio controller (ICH9)");
