/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * isa-serial: a 16550A UART (National Semiconductor PC16550D data sheet, section 8 "Registers") over a character back end.
 * Bytes take no time: the transmitter is empty again as soon as the back end has taken a byte, and a character timeout is
 * signalled at once. The divisor, the word length and the parity are remembered and have no effect.
 */
#include <string.h>

#include "base/error.h"
#include "vmm/core/chardev.h"
#include "vmm/core/device.h"
#include "vmm/core/machine.h"
#include "vmm/core/state.h"

enum { RBR_THR_DLL = 0, IER_DLM = 1, IIR_FCR = 2, LCR = 3, MCR = 4, LSR = 5, MSR = 6, SCR = 7 };

enum { IER_RDA = 0x01, IER_THRE = 0x02, IER_RLS = 0x04, IER_MS = 0x08 };
enum { IIR_MS = 0x00, IIR_NONE = 0x01, IIR_THRE = 0x02, IIR_RDA = 0x04, IIR_RLS = 0x06, IIR_TIMEOUT = 0x0c, IIR_FIFOS = 0xc0 };
enum { FCR_ENABLE = 0x01, FCR_CLEAR_RX = 0x02, FCR_CLEAR_TX = 0x04 };
enum { LCR_DLAB = 0x80 };
enum { MCR_DTR = 0x01, MCR_RTS = 0x02, MCR_OUT1 = 0x04, MCR_OUT2 = 0x08, MCR_LOOP = 0x10 };
enum { LSR_DR = 0x01, LSR_OE = 0x02, LSR_PE = 0x04, LSR_FE = 0x08, LSR_BI = 0x10, LSR_THRE = 0x20, LSR_TEMT = 0x40 };
enum { MSR_TERI = 0x04, MSR_CTS = 0x10, MSR_DSR = 0x20, MSR_RI = 0x40, MSR_DCD = 0x80 };
#define LSR_ERRORS (LSR_OE | LSR_PE | LSR_FE | LSR_BI)
#define FIFO_SIZE 16

struct serial {
    struct device dev;
    /* properties */
    char *chardev;
    uint64_t index, iobase, irq;
    /* state */
    uint8_t ier, fcr, lcr, mcr, lsr, msr, scr, dll, dlm;
    uint8_t rx[FIFO_SIZE], tx[FIFO_SIZE];
    uint8_t rx_count, tx_count;
    bool thre_pending; /* the transmitter has become empty and nobody has asked why yet */
    /* host */
    bool starved;      /* the back end holds input back until we ask for it */
    bool level;
    struct chardev *host;
    struct io_window window;
};

static const struct { uint16_t iobase; uint8_t irq; } ports[4] = { { 0x3f8, 4 }, { 0x2f8, 3 }, { 0x3e8, 4 }, { 0x2e8, 3 } };

static unsigned fifo_depth(const struct serial *s)
{
    return s->fcr & FCR_ENABLE ? FIFO_SIZE : 1;
}

static unsigned trigger_level(const struct serial *s)
{
    static const uint8_t levels[4] = { 1, 4, 8, 14 };
    return s->fcr & FCR_ENABLE ? levels[s->fcr >> 6] : 1;
}

/* The pending interrupt of the highest priority (data sheet, table IV). */
static uint8_t interrupt_id(const struct serial *s)
{
    if ((s->ier & IER_RLS) && (s->lsr & LSR_ERRORS))
        return IIR_RLS;
    if ((s->ier & IER_RDA) && s->rx_count)
        return s->rx_count >= trigger_level(s) ? IIR_RDA : IIR_TIMEOUT;
    if ((s->ier & IER_THRE) && s->thre_pending)
        return IIR_THRE;
    if ((s->ier & IER_MS) && (s->msr & 0x0f))
        return IIR_MS;
    return IIR_NONE;
}

/* OUT2 gates the interrupt line, as in every PC; in loopback the line is off too. */
static void update_irq(struct serial *s)
{
    bool level = interrupt_id(s) != IIR_NONE && (s->mcr & MCR_OUT2) && !(s->mcr & MCR_LOOP);
    if (level == s->level)
        return;
    s->level = level;
    irq_set(&s->dev.machine->isa_irqs[s->irq], level);
}

static void receive_byte(struct serial *s, uint8_t byte)
{
    if (s->rx_count == fifo_depth(s)) {
        s->lsr |= LSR_OE;
        if (!(s->fcr & FCR_ENABLE))
            s->rx[0] = byte; /* without FIFO the newer character overwrites */
        return;
    }
    s->rx[s->rx_count++] = byte;
    s->lsr |= LSR_DR;
}

static void transmit(struct serial *s)
{
    size_t n = s->host ? chardev_write(s->host, s->tx, s->tx_count) : s->tx_count;
    s->tx_count -= (uint8_t)n;
    memmove(s->tx, s->tx + n, s->tx_count);
    if (s->tx_count) {
        s->lsr &= (uint8_t)~(LSR_THRE | LSR_TEMT);
        chardev_can_write(s->host); /* asks to be told */
        return;
    }
    s->lsr |= LSR_THRE | LSR_TEMT;
    s->thre_pending = true;
}

static void write_thr(struct serial *s, uint8_t byte)
{
    s->thre_pending = false;
    if (s->mcr & MCR_LOOP) {
        receive_byte(s, byte);
        s->thre_pending = true;
        return;
    }
    if (s->tx_count == fifo_depth(s))
        s->tx[s->tx_count - 1] = byte; /* overrun of a transmitter that said it was full */
    else
        s->tx[s->tx_count++] = byte;
    transmit(s);
}

static uint8_t read_rbr(struct serial *s)
{
    uint8_t byte = s->rx[0];
    if (!s->rx_count)
        return byte;
    memmove(s->rx, s->rx + 1, --s->rx_count);
    if (!s->rx_count)
        s->lsr &= (uint8_t)~LSR_DR;
    if (s->starved && s->rx_count <= FIFO_SIZE / 4) {
        s->starved = false;
        chardev_receive_ready(s->host);
    }
    return byte;
}

/* The modem's lines: a peer that is always ready, or our own outputs in loopback. */
static void update_modem(struct serial *s)
{
    uint8_t lines = MSR_CTS | MSR_DSR | MSR_DCD, before = s->msr & 0xf0;
    if (s->mcr & MCR_LOOP) {
        lines = (uint8_t)((s->mcr & MCR_RTS ? MSR_CTS : 0) | (s->mcr & MCR_DTR ? MSR_DSR : 0) | (s->mcr & MCR_OUT1 ? MSR_RI : 0) |
                          (s->mcr & MCR_OUT2 ? MSR_DCD : 0));
    }
    uint8_t changed = before ^ lines, delta = (uint8_t)(changed >> 4 & 0x0b);
    if (changed & before & MSR_RI)
        delta |= MSR_TERI; /* trailing edge only */
    s->msr = (uint8_t)(lines | (s->msr & 0x0f) | delta);
}

static void clear_rx(struct serial *s)
{
    s->rx_count = 0;
    s->lsr &= (uint8_t)~(LSR_DR | LSR_BI);
    if (s->starved) {
        s->starved = false;
        chardev_receive_ready(s->host);
    }
}

static void write_fcr(struct serial *s, uint8_t v)
{
    bool toggled = (s->fcr ^ v) & FCR_ENABLE;
    if (toggled || (v & FCR_CLEAR_RX))
        clear_rx(s);
    if (toggled || (v & FCR_CLEAR_TX)) {
        s->tx_count = 0;
        s->lsr |= LSR_THRE | LSR_TEMT;
    }
    s->fcr = v & FCR_ENABLE ? v & 0xc9 : 0;
}

static uint8_t read_iir(struct serial *s)
{
    uint8_t id = interrupt_id(s);
    if (id == IIR_THRE)
        s->thre_pending = false;
    return (uint8_t)(id | (s->fcr & FCR_ENABLE ? IIR_FIFOS : 0));
}

static uint64_t serial_read(void *opaque, uint64_t offset, unsigned size)
{
    struct serial *s = opaque;
    uint8_t v = 0xff;
    switch (offset) {
    case RBR_THR_DLL:
        v = s->lcr & LCR_DLAB ? s->dll : read_rbr(s);
        break;
    case IER_DLM:
        v = s->lcr & LCR_DLAB ? s->dlm : s->ier;
        break;
    case IIR_FCR:
        v = read_iir(s);
        break;
    case LCR:
        v = s->lcr;
        break;
    case MCR:
        v = s->mcr;
        break;
    case LSR:
        v = s->lsr;
        s->lsr &= (uint8_t)~LSR_ERRORS;
        break;
    case MSR:
        v = s->msr;
        s->msr &= 0xf0;
        break;
    case SCR:
        v = s->scr;
        break;
    }
    update_irq(s);
    return v;
}

static void serial_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct serial *s = opaque;
    uint8_t v = (uint8_t)value;
    switch (offset) {
    case RBR_THR_DLL:
        if (s->lcr & LCR_DLAB)
            s->dll = v;
        else
            write_thr(s, v);
        break;
    case IER_DLM:
        if (s->lcr & LCR_DLAB) {
            s->dlm = v;
            break;
        }
        if ((v & IER_THRE) && !(s->ier & IER_THRE) && (s->lsr & LSR_THRE))
            s->thre_pending = true;
        s->ier = v & 0x0f;
        break;
    case IIR_FCR:
        write_fcr(s, v);
        break;
    case LCR:
        s->lcr = v;
        break;
    case MCR:
        s->mcr = v & 0x1f;
        update_modem(s);
        break;
    case SCR:
        s->scr = v;
        break;
    default: /* LSR and MSR are read only */
        break;
    }
    update_irq(s);
}

static const struct io_ops serial_ops = { serial_read, serial_write, 1, 1 };

/* ---- the back end, on the main thread ---- */

static size_t host_room(void *opaque)
{
    struct serial *s = opaque;
    g_mutex_lock(&s->dev.lock);
    size_t room = s->mcr & MCR_LOOP ? 0 : fifo_depth(s) - MIN(s->rx_count, fifo_depth(s));
    if (!room)
        s->starved = true;
    g_mutex_unlock(&s->dev.lock);
    return room;
}

static void host_receive(void *opaque, const uint8_t *data, size_t n)
{
    struct serial *s = opaque;
    g_mutex_lock(&s->dev.lock);
    for (size_t i = 0; i < n; i++)
        receive_byte(s, data[i]);
    update_irq(s);
    g_mutex_unlock(&s->dev.lock);
}

static void host_event(void *opaque, enum chardev_event ev)
{
    struct serial *s = opaque;
    g_mutex_lock(&s->dev.lock);
    if (ev == CHARDEV_BREAK) {
        receive_byte(s, 0);
        s->lsr |= LSR_BI;
    } else if ((ev == CHARDEV_WRITABLE || ev == CHARDEV_CLOSED) && s->tx_count) {
        transmit(s);
    }
    update_irq(s);
    g_mutex_unlock(&s->dev.lock);
}

static const struct chardev_handlers host_handlers = { host_room, host_receive, host_event };

/* ---- the device ---- */

static void serial_reset(struct device *d)
{
    struct serial *s = (struct serial *)d;
    bool starved;
    g_mutex_lock(&d->lock);
    s->ier = s->fcr = s->lcr = s->scr = s->dlm = 0;
    s->mcr = MCR_OUT2; /* as firmware leaves it, so that a guest that never writes MCR has interrupts */
    s->dll = 12; /* 9600 baud, likewise */
    s->lsr = LSR_THRE | LSR_TEMT;
    s->msr = MSR_CTS | MSR_DSR | MSR_DCD;
    s->rx_count = s->tx_count = 0;
    s->thre_pending = false;
    starved = s->starved;
    s->starved = false;
    update_irq(s);
    g_mutex_unlock(&d->lock);
    if (starved)
        chardev_receive_ready(s->host);
}

/* What the back end had not taken goes to the one here; it is then asked for input anew. */
static bool serial_load(struct device *d, struct state_reader *r, GError **error)
{
    struct serial *s = (struct serial *)d;
    if (s->rx_count > fifo_depth(s) || s->tx_count > FIFO_SIZE)
        return state_bad(r, error, "it has more characters than its FIFO holds");
    if (s->tx_count)
        transmit(s);
    s->level = false;
    update_irq(s);
    return true;
}

/* Bit per index that another serial port has. */
static unsigned used_indices(const struct machine *m)
{
    unsigned used = 0;
    for (guint n = 0; n < m->devices->len; n++) {
        const struct device *d = g_ptr_array_index(m->devices, n);
        if (d->class->realize && !strcmp(d->class->name, "isa-serial"))
            used |= 1u << ((const struct serial *)d)->index;
    }
    return used;
}

static bool serial_realize(struct device *d, GError **error)
{
    struct serial *s = (struct serial *)d;
    unsigned used = used_indices(d->machine);
    bool any = s->index == G_N_ELEMENTS(ports);
    for (s->index = any ? 0 : s->index; any && used >> s->index & 1; s->index++)
        ;
    if (s->index >= G_N_ELEMENTS(ports))
        return vireo_fail(error, VIREO_ERROR_INVALID, "isa-serial: there are only %zu serial ports", G_N_ELEMENTS(ports));
    if (used >> s->index & 1)
        return vireo_fail(error, VIREO_ERROR_BUSY, "isa-serial: there is already a serial port of index %u; leave index= out", (unsigned)s->index);
    if (!s->iobase)
        s->iobase = ports[s->index].iobase;
    if (!s->irq)
        s->irq = ports[s->index].irq;
    if (s->chardev) {
        s->host = g_hash_table_lookup(d->machine->chardevs, s->chardev);
        if (!s->host)
            return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "isa-serial: there is no chardev '%s'", s->chardev);
    }
    serial_reset(d);
    if (s->host && !chardev_attach(s->host, &host_handlers, s, error))
        return false;
    s->window = (struct io_window){ .name = "serial", .ops = &serial_ops, .opaque = s, .lock = &d->lock, .size = 8, .port = true };
    io_window_map(d->machine->memory, &s->window, s->iobase);
    return true;
}

static void serial_unrealize(struct device *d)
{
    struct serial *s = (struct serial *)d;
    io_window_unmap(d->machine->memory, &s->window);
    if (s->host)
        chardev_detach(s->host);
}

static const struct device_prop props[] = {
    { "chardev", PROP_CHARDEV, offsetof(struct serial, chardev), .help = "character back end" },
    { "index", PROP_UINT, offsetof(struct serial, index), 0, 4, .def = "4", .help = "0 to 3: COM1 to COM4; 4: the first free one" },
    { "iobase", PROP_UINT, offsetof(struct serial, iobase), 0, 0xfff8, .def = "0", .help = "first I/O port; 0: by index" },
    { "irq", PROP_UINT, offsetof(struct serial, irq), 0, 15, .def = "0", .help = "ISA interrupt; 0: by index" },
    { NULL }
};

static const struct device_field fields[] = {
    DEVICE_FIELD(struct serial, ier), DEVICE_FIELD(struct serial, fcr), DEVICE_FIELD(struct serial, lcr), DEVICE_FIELD(struct serial, mcr),
    DEVICE_FIELD(struct serial, lsr), DEVICE_FIELD(struct serial, msr), DEVICE_FIELD(struct serial, scr), DEVICE_FIELD(struct serial, dll),
    DEVICE_FIELD(struct serial, dlm), DEVICE_ARRAY(struct serial, rx), DEVICE_ARRAY(struct serial, tx), DEVICE_FIELD(struct serial, rx_count),
    DEVICE_FIELD(struct serial, tx_count), DEVICE_FIELD(struct serial, thre_pending),
    { NULL }
};

extern const struct device_class isa_serial_class;
const struct device_class isa_serial_class = {
    .name = "isa-serial", .help = "16550A serial port", .bus = DEV_BUS_ISA, .size = sizeof(struct serial), .props = props, .fields = fields,
    .user_creatable = true, .realize = serial_realize, .reset = serial_reset, .load = serial_load, .unrealize = serial_unrealize,
};
