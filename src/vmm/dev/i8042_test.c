/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Keyboard controller, PS/2 keyboard and mouse by their ports, as drivers use them. */
#include "vmm/dev/i8042.h"

#include <linux/input-event-codes.h>
#include <string.h>

#include "vmm/core/fake_accel.h"
#include "vmm/core/machine.h"
#include "vmm/display/display.h"

struct fixture {
    struct machine m;
    struct device *d;
    bool irq[2];
};

static void set_irq(void *opaque, unsigned input, bool level) { ((struct fixture *)opaque)->irq[input == 12] = level; }

static void set_up(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    f->m.memory = guest_memory_create();
    f->m.devices = g_ptr_array_new();
    f->d = i8042_create(&f->m, (struct irq_line){ set_irq, f, 1 }, (struct irq_line){ set_irq, f, 12 }, NULL);
    g_assert_nonnull(f->d);
}

static void tear_down(struct fixture *f)
{
    device_destroy(f->d);
    display_destroy(f->m.display);
    guest_memory_destroy(f->m.memory);
    g_ptr_array_free(f->m.devices, TRUE);
}

static uint8_t in(struct fixture *f, unsigned port) { return (uint8_t)guest_io_read(f->m.memory, true, port, 1); }
static void out(struct fixture *f, unsigned port, uint8_t value) { guest_io_write(f->m.memory, true, port, 1, value); }
static void mode(struct fixture *f, uint8_t value) { out(f, 0x64, 0x60), out(f, 0x60, value); }
static void to_mouse(struct fixture *f, uint8_t value) { out(f, 0x64, 0xd4), out(f, 0x60, value); }

/* All that waits, in hexadecimal; what the mouse sent stands behind a +. */
static char *take(struct fixture *f)
{
    GString *s = g_string_new(NULL);
    uint8_t status;
    while ((status = in(f, 0x64)) & 1) {
        g_assert_cmpint(f->irq[!!(status & 0x20)], ==, true);
        g_string_append_printf(s, "%s%02x", status & 0x20 ? "+" : s->len ? " " : "", in(f, 0x60));
    }
    return g_string_free(s, FALSE);
}

static void expect(struct fixture *f, const char *wanted)
{
    g_autofree char *got = take(f);
    g_assert_cmpstr(got, ==, wanted);
}

static void key(struct fixture *f, unsigned code)
{
    display_key(f->m.display, code, true);
    display_key(f->m.display, code, false);
}

static void test_scan_codes(void)
{
    static const struct { unsigned code; const char *first, *second; } all[] = {
        { KEY_A, "1e 9e", "1c f0 1c" }, { KEY_F7, "41 c1", "83 f0 83" }, { KEY_F12, "58 d8", "07 f0 07" }, { KEY_102ND, "56 d6", "61 f0 61" },
        { KEY_UP, "e0 48 e0 c8", "e0 75 e0 f0 75" }, { KEY_RIGHTCTRL, "e0 1d e0 9d", "e0 14 e0 f0 14" }, { KEY_KPENTER, "e0 1c e0 9c", "e0 5a e0 f0 5a" },
        { KEY_KPDOT, "53 d3", "71 f0 71" }, { KEY_LEFTMETA, "e0 5b e0 db", "e0 1f e0 f0 1f" }, { KEY_YEN, "7d fd", "6a f0 6a" },
        { KEY_PAUSE, "e1 1d 45 e1 9d c5", "e1 14 77 e1 f0 14 f0 77" }, { KEY_BATTERY, "", "" }, { 0x2ff, "", "" },
    };
    struct fixture f;
    set_up(&f);
    for (unsigned i = 0; i < G_N_ELEMENTS(all); i++) {
        mode(&f, 0x43);
        key(&f, all[i].code);
        expect(&f, all[i].first);
        mode(&f, 0x03);
        key(&f, all[i].code);
        expect(&f, all[i].second);
    }
    out(&f, 0x60, 0xf0), out(&f, 0x60, 1); /* set 1, not translated */
    expect(&f, "fa fa");
    key(&f, KEY_A);
    expect(&f, "1e 9e");
    tear_down(&f);
}

static void test_keyboard_commands(void)
{
    struct fixture f;
    set_up(&f);
    out(&f, 0x60, 0xff);
    expect(&f, "fa aa");
    out(&f, 0x60, 0xf2);
    expect(&f, "fa ab 41");
    mode(&f, 0x03);
    out(&f, 0x60, 0xf2);
    expect(&f, "fa ab 83");
    out(&f, 0x60, 0xf0), out(&f, 0x60, 3);
    expect(&f, "fa fe");
    out(&f, 0x60, 0xed), out(&f, 0x60, 7);
    expect(&f, "fa fa");
    out(&f, 0x60, 0x12);
    expect(&f, "fe");
    out(&f, 0x60, 0xf5);
    key(&f, KEY_A);
    expect(&f, "fa");
    out(&f, 0x60, 0xf4);
    key(&f, KEY_A);
    expect(&f, "fa 1c f0 1c");
    out(&f, 0x64, 0xad); /* the interface off: keys wait */
    key(&f, KEY_A);
    expect(&f, "");
    out(&f, 0x64, 0x20); /* and the controller itself answers */
    expect(&f, "13");
    out(&f, 0x64, 0xae);
    expect(&f, "1c f0 1c");
    for (unsigned i = 0; i < 1000; i++)
        key(&f, KEY_RIGHT); /* nobody reads: bounded, and what is there is whole */
    g_autofree char *much = take(&f);
    g_assert_cmpuint(strlen(much), <, 3 * 140);
    g_assert_true(g_str_has_prefix(much, "e0 74 e0 f0 74 e0 74"));
    tear_down(&f);
}

static void with_wheel(struct fixture *f)
{
    static const uint8_t knock[] = { 0xff, 0xf3, 200, 0xf3, 100, 0xf3, 80 };
    for (unsigned i = 0; i < sizeof(knock); i++)
        to_mouse(f, knock[i]);
    g_free(take(f));
}

static void test_mouse(void)
{
    struct fixture f;
    set_up(&f);
    to_mouse(&f, 0xff);
    expect(&f, "+fa+aa+00");
    to_mouse(&f, 0xf2);
    expect(&f, "+fa+00");
    display_motion(f.m.display, 5, 5, 0);
    expect(&f, ""); /* not asked for */
    to_mouse(&f, 0xf4);
    expect(&f, "+fa");
    display_motion(f.m.display, 5, 3, DISPLAY_BUTTON_LEFT);
    expect(&f, "+29+05+fd");
    display_motion(f.m.display, -300, 0, DISPLAY_BUTTON_RIGHT | DISPLAY_BUTTON_WHEEL_UP);
    expect(&f, "+1a+81+00+1a+81+00+1a+d2+00");
    to_mouse(&f, 0xe9);
    expect(&f, "+fa+21+02+64");
    with_wheel(&f);
    to_mouse(&f, 0xf2);
    expect(&f, "+fa+03");
    to_mouse(&f, 0xf4);
    g_free(take(&f));
    display_motion(f.m.display, 0, 0, DISPLAY_BUTTON_WHEEL_UP);
    display_motion(f.m.display, 0, 0, DISPLAY_BUTTON_WHEEL_DOWN);
    expect(&f, "+08+00+00+ff+08+00+00+01");
    to_mouse(&f, 0xf0); /* remote: when asked */
    display_motion(f.m.display, 7, 0, 0);
    expect(&f, "+fa");
    to_mouse(&f, 0xeb);
    expect(&f, "+fa+08+07+00+00");
    to_mouse(&f, 0xee), to_mouse(&f, 0x55), to_mouse(&f, 0xec); /* wrap */
    expect(&f, "+fa+55+fa");
    to_mouse(&f, 0x10);
    expect(&f, "+fe");
    tear_down(&f);
}

/* Clicks are not lost while the guest is slow, and motions add up. */
static void test_slow_guest(void)
{
    struct fixture f;
    unsigned packets = 0, clicks = 0, x = 0;
    set_up(&f);
    with_wheel(&f);
    to_mouse(&f, 0xf4);
    g_free(take(&f));
    for (unsigned i = 0; i < 500; i++)
        display_motion(f.m.display, 1, 0, 0);
    for (unsigned i = 0; i < 5; i++) {
        display_motion(f.m.display, 0, 0, DISPLAY_BUTTON_LEFT);
        display_motion(f.m.display, 0, 0, 0);
    }
    for (bool before = false; in(&f, 0x64) & 1; packets++) {
        uint8_t p[4];
        for (unsigned i = 0; i < 4; i++)
            p[i] = in(&f, 0x60);
        g_assert_cmphex(p[0] & 0x08, ==, 0x08);
        clicks += (p[0] & 1) && !before;
        before = p[0] & 1;
        x += p[1];
    }
    g_assert_cmpuint(x, ==, 500);
    g_assert_cmpuint(clicks, ==, 5);
    g_assert_cmpuint(packets, <, 33);
    tear_down(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/i8042/scan-codes", test_scan_codes);
    g_test_add_func("/i8042/keyboard-commands", test_keyboard_commands);
    g_test_add_func("/i8042/mouse", test_mouse);
    g_test_add_func("/i8042/slow-guest", test_slow_guest);
    return g_test_run();
}
