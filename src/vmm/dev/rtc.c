/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Time of day follows the host's clock, plus what the guest or -rtc moved it by. Registers are computed when read
 * (MC146818 datasheet; ICH9 datasheet 13.6). Timers run only for interrupts that are enabled.
 */
#include "vmm/dev/rtc.h"

#include <time.h>

#include "vmm/core/irqchip.h"
#include "vmm/core/machine.h"
#include "vmm/core/state.h"

#define NSEC 1000000000ull
#define SEC_US 1000000ll
#define UIP_US 244
#define FAR_SECONDS 1000000000000ll /* no guest is further away from the host's time */

enum { R_SEC, R_SEC_ALARM, R_MIN, R_MIN_ALARM, R_HOUR, R_HOUR_ALARM, R_WDAY, R_MDAY, R_MONTH, R_YEAR, R_A, R_B, R_C, R_D, R_CENTURY = 0x32 };
#define B_SET 0x80u
#define B_PIE 0x40u
#define B_AIE 0x20u
#define B_UIE 0x10u
#define B_BINARY 0x04u
#define B_24H 0x02u
#define C_IRQ 0x80u
#define C_PF 0x40u
#define C_AF 0x20u
#define C_UF 0x10u

struct rtc {
    struct device dev;
    struct irq_line irq;
    struct io_window window;
    struct vtimer *periodic, *second;
    uint64_t periodic_next; /* virtual time */
    int64_t offset_us;      /* guest time = host time + this */
    int64_t seen_second;    /* up to which second UF and AF are accounted for */
    uint8_t index;
    uint8_t cmos[128];
};

static int64_t time_us(const struct rtc *r)
{
    return g_get_real_time() + r->offset_us;
}

static int64_t second_of(int64_t us)
{
    return us >= 0 ? us / SEC_US : -((-us + SEC_US - 1) / SEC_US);
}

static uint8_t encode(const struct rtc *r, int v)
{
    return (uint8_t)(r->cmos[R_B] & B_BINARY ? v : v / 10 << 4 | v % 10);
}

static int decode(const struct rtc *r, uint8_t v)
{
    return r->cmos[R_B] & B_BINARY ? v : (v >> 4) * 10 + (v & 15);
}

static uint8_t encode_hour(const struct rtc *r, int hour)
{
    if (r->cmos[R_B] & B_24H)
        return encode(r, hour);
    return encode(r, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? 0x80 : 0);
}

static int decode_hour(const struct rtc *r, uint8_t v)
{
    if (r->cmos[R_B] & B_24H)
        return decode(r, v);
    return decode(r, v & 0x7f) % 12 + (v & 0x80 ? 12 : 0);
}

/* Puts the current time into the registers, unless the guest holds them (SET). */
static void time_to_registers(struct rtc *r)
{
    struct tm tm;
    time_t t = (time_t)second_of(time_us(r));
    if ((r->cmos[R_B] & B_SET) || !gmtime_r(&t, &tm))
        return;
    r->cmos[R_SEC] = encode(r, tm.tm_sec);
    r->cmos[R_MIN] = encode(r, tm.tm_min);
    r->cmos[R_HOUR] = encode_hour(r, tm.tm_hour);
    r->cmos[R_WDAY] = encode(r, tm.tm_wday + 1);
    r->cmos[R_MDAY] = encode(r, tm.tm_mday);
    r->cmos[R_MONTH] = encode(r, tm.tm_mon + 1);
    r->cmos[R_YEAR] = encode(r, tm.tm_year % 100);
    int century = 19 + tm.tm_year / 100;
    r->cmos[R_CENTURY] = (uint8_t)(century / 10 << 4 | century % 10);
}

static void registers_to_time(struct rtc *r)
{
    struct tm tm = {
        .tm_sec = decode(r, r->cmos[R_SEC]), .tm_min = decode(r, r->cmos[R_MIN]), .tm_hour = decode_hour(r, r->cmos[R_HOUR]),
        .tm_mday = decode(r, r->cmos[R_MDAY]), .tm_mon = decode(r, r->cmos[R_MONTH]) - 1,
        .tm_year = decode(r, r->cmos[R_YEAR]) + ((r->cmos[R_CENTURY] >> 4) * 10 + (r->cmos[R_CENTURY] & 15) - 19) * 100,
    };
    r->offset_us = (int64_t)timegm(&tm) * SEC_US - g_get_real_time();
    r->seen_second = second_of(time_us(r));
}

static void raise_locked(struct rtc *r, uint8_t flags)
{
    r->cmos[R_C] |= flags;
    if (r->cmos[R_C] & r->cmos[R_B] & (B_PIE | B_AIE | B_UIE)) {
        r->cmos[R_C] |= C_IRQ;
        irq_set(&r->irq, true);
    }
}

static bool alarm_matches(struct rtc *r)
{
    static const uint8_t now[3] = { R_SEC, R_MIN, R_HOUR }, alarm[3] = { R_SEC_ALARM, R_MIN_ALARM, R_HOUR_ALARM };
    for (unsigned i = 0; i < 3; i++) {
        uint8_t a = r->cmos[alarm[i]];
        if ((a & 0xc0) != 0xc0 && a != r->cmos[now[i]]) /* 11xxxxxx: don't care */
            return false;
    }
    return true;
}

/* Accounts for a second that began: update-ended and alarm flags. */
static void account_locked(struct rtc *r)
{
    int64_t s = second_of(time_us(r));
    if (s == r->seen_second || (r->cmos[R_B] & B_SET))
        return;
    r->seen_second = s;
    time_to_registers(r);
    raise_locked(r, C_UF | (alarm_matches(r) ? C_AF : 0));
}

static void arm_locked(struct rtc *r)
{
    uint64_t now = vclock_now(r->dev.machine->clock);
    if ((r->cmos[R_B] & (B_AIE | B_UIE)) && !(r->cmos[R_B] & B_SET)) {
        int64_t us = time_us(r), left = (second_of(us) + 1) * SEC_US - us;
        vtimer_set(r->second, now + (uint64_t)left * 1000 + 1000);
    } else {
        vtimer_cancel(r->second);
    }
    unsigned rate = r->cmos[R_A] & 15;
    if ((r->cmos[R_B] & B_PIE) && rate) {
        if (!r->periodic_next) {
            unsigned shift = rate < 3 ? rate + 6 : rate - 1; /* rates 1 and 2 equal 8 and 9 */
            r->periodic_next = now + (NSEC << shift) / 32768;
        }
        vtimer_set(r->periodic, r->periodic_next);
    } else {
        r->periodic_next = 0;
        vtimer_cancel(r->periodic);
    }
}

static void second_expired(void *opaque)
{
    struct rtc *r = opaque;
    g_mutex_lock(&r->dev.lock);
    account_locked(r);
    arm_locked(r);
    g_mutex_unlock(&r->dev.lock);
}

static void periodic_expired(void *opaque)
{
    struct rtc *r = opaque;
    g_mutex_lock(&r->dev.lock);
    uint64_t now = vclock_now(r->dev.machine->clock);
    if (r->periodic_next && now >= r->periodic_next) {
        raise_locked(r, C_PF);
        r->periodic_next = 0;
        arm_locked(r);
    }
    g_mutex_unlock(&r->dev.lock);
}

static uint8_t data_read(struct rtc *r)
{
    uint8_t v;
    switch (r->index) {
    case R_SEC: case R_MIN: case R_HOUR: case R_WDAY: case R_MDAY: case R_MONTH: case R_YEAR: case R_CENTURY:
        time_to_registers(r);
        return r->cmos[r->index];
    case R_A: {
        int64_t us = time_us(r), in = us - second_of(us) * SEC_US;
        bool uip = !(r->cmos[R_B] & B_SET) && in >= SEC_US - UIP_US;
        return (r->cmos[R_A] & 0x7f) | (uip ? 0x80 : 0);
    }
    case R_C:
        account_locked(r);
        v = r->cmos[R_C];
        r->cmos[R_C] = 0;
        irq_set(&r->irq, false);
        return v;
    case R_D:
        return 0x80; /* the battery is good */
    default:
        return r->cmos[r->index];
    }
}

static void data_write(struct rtc *r, uint8_t value)
{
    uint8_t old = r->cmos[r->index];
    switch (r->index) {
    case R_SEC: case R_MIN: case R_HOUR: case R_WDAY: case R_MDAY: case R_MONTH: case R_YEAR: case R_CENTURY:
        time_to_registers(r);
        r->cmos[r->index] = value;
        if (!(r->cmos[R_B] & B_SET))
            registers_to_time(r);
        break;
    case R_A:
        r->cmos[R_A] = value & 0x7f;
        if ((old ^ value) & 15)
            r->periodic_next = 0;
        arm_locked(r);
        break;
    case R_B:
        if ((value & B_SET) && !(old & B_SET)) {
            time_to_registers(r);
            value &= (uint8_t)~B_UIE; /* SET clears UIE */
        }
        r->cmos[R_B] = value;
        if ((old & B_SET) && !(value & B_SET))
            registers_to_time(r);
        account_locked(r);
        raise_locked(r, 0);
        arm_locked(r);
        break;
    case R_C:
    case R_D:
        break;
    default:
        r->cmos[r->index] = value;
    }
}

static uint64_t port_read(void *opaque, uint64_t offset, unsigned size)
{
    return offset ? data_read(opaque) : 0xff; /* the index port is write only */
}

static void port_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct rtc *r = opaque;
    if (offset)
        data_write(r, (uint8_t)value);
    else
        r->index = value & 0x7f;
}

static const struct io_ops ops = { port_read, port_write, 1, 1 };

static void rtc_reset(struct device *d)
{
    struct rtc *r = (struct rtc *)d;
    g_mutex_lock(&d->lock);
    r->cmos[R_B] &= (uint8_t)~(B_PIE | B_AIE | B_UIE | 8 | B_SET);
    r->cmos[R_C] = 0;
    r->periodic_next = 0;
    irq_set(&r->irq, false);
    arm_locked(r);
    g_mutex_unlock(&d->lock);
}

/* Where -rtc base puts the time, against the host's. */
static int64_t initial_offset(const struct machine_config *c)
{
    if (c && c->rtc_base >= 0)
        return c->rtc_base * SEC_US - g_get_real_time();
    if (!c || !c->rtc_localtime)
        return 0;
    g_autoptr(GDateTime) now = g_date_time_new_now_local();
    return now ? g_date_time_get_utc_offset(now) : 0;
}

static bool rtc_load(struct device *d, struct state_reader *r, GError **error)
{
    struct rtc *s = (struct rtc *)d;
    if (s->index > 127 || ABS(s->offset_us / SEC_US) > FAR_SECONDS || ABS(s->seen_second) > 2 * FAR_SECONDS)
        return state_bad(r, error, "its time or index is out of bounds");
    irq_set(&s->irq, s->cmos[R_C] & C_IRQ);
    arm_locked(s);
    return true;
}

static bool rtc_realize(struct device *d, GError **error)
{
    struct rtc *r = (struct rtc *)d;
    r->periodic = vtimer_create(d->machine->clock, periodic_expired, r);
    r->second = vtimer_create(d->machine->clock, second_expired, r);
    r->offset_us = initial_offset(d->machine->config);
    r->seen_second = second_of(time_us(r));
    r->cmos[R_A] = 0x26;
    r->cmos[R_B] = B_24H;
    r->window = (struct io_window){ .name = "rtc", .ops = &ops, .opaque = r, .lock = &d->lock, .size = 2, .port = true };
    io_window_map(d->machine->memory, &r->window, 0x70);
    machine_coalesce(d->machine, true, 0x70, 1); /* the index does nothing by itself */
    return true;
}

static void rtc_unrealize(struct device *d)
{
    struct rtc *r = (struct rtc *)d;
    io_window_unmap(d->machine->memory, &r->window);
    vtimer_destroy(r->periodic);
    vtimer_destroy(r->second);
}

static const struct device_field rtc_fields[] = {
    DEVICE_FIELD(struct rtc, periodic_next), DEVICE_FIELD(struct rtc, offset_us), DEVICE_FIELD(struct rtc, seen_second),
    DEVICE_FIELD(struct rtc, index), DEVICE_ARRAY(struct rtc, cmos), { 0 }
};

static const struct device_class rtc_class = {
    .name = "mc146818rtc", .help = "real-time clock", .size = sizeof(struct rtc), .fields = rtc_fields,
    .realize = rtc_realize, .reset = rtc_reset, .load = rtc_load, .unrealize = rtc_unrealize,
};

struct device *rtc_create(struct machine *m, struct irq_line irq8, GError **error)
{
    struct device *d = device_create(m, &rtc_class);
    ((struct rtc *)d)->irq = irq8;
    if (!device_realize(d, error)) {
        device_destroy(d);
        return NULL;
    }
    rtc_reset(d);
    return d;
}

void rtc_set_cmos(struct device *d, unsigned index, uint8_t value)
{
    struct rtc *r = (struct rtc *)d;
    g_mutex_lock(&d->lock);
    r->cmos[index & 127] = value;
    g_mutex_unlock(&d->lock);
}
