/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The head's picture, its files, and where keys and the pointer go. */
#include "vmm/display/display.h"

#include <linux/input-event-codes.h>
#include <string.h>
#include <zlib.h>

#include "base/bigendian.h"
#include "vmm/core/fake_accel.h" /* machine.c wants one */
#include "vmm/core/machine.h"

struct looker { unsigned resized, changed, x, y, width, height; };

static void on_resized(void *opaque) { ((struct looker *)opaque)->resized++; }
static void on_changed(void *opaque, unsigned x, unsigned y, unsigned width, unsigned height)
{
    struct looker *l = opaque;
    *l = (struct looker){ l->resized, l->changed + 1, x, y, width, height };
}

static const uint32_t red[4] = { 0xff0000, 0xff0000, 0xff0000, 0xff0000 };

static void test_draw_is_clipped(void)
{
    struct machine m = { 0 };
    struct display *d = display_of(&m);
    struct looker l = { 0 };
    display_add_listener(d, &(struct display_listener){ on_resized, on_changed, NULL, &l });
    display_draw(d, 0, 0, 2, 2, red, 8); /* nothing is shown */
    g_assert_cmpuint(l.changed, ==, 0);
    display_resize(d, 3, 3);
    g_assert_cmpuint(l.resized, ==, 1);
    display_draw(d, 2, 2, 2, 2, red, 8);
    g_assert_cmpuint(l.changed, ==, 1);
    g_assert_cmpuint(l.width, ==, 1);
    g_assert_cmpuint(l.height, ==, 1);
    display_draw(d, 3, 0, 2, 2, red, 8);
    g_assert_cmpuint(l.changed, ==, 1);
    const struct display_picture *p = display_lock(d);
    g_assert_cmphex(p->pixels[8], ==, 0xff0000);
    g_assert_cmphex(p->pixels[7], ==, 0);
    display_unlock(d);
    display_remove_listener(d, &l);
    display_resize(d, 1u << 20, 0);
    g_assert_cmpuint(l.resized, ==, 1);
    display_destroy(d);
}

static void refresh(void *opaque) { display_draw(opaque, 1, 0, 1, 1, red, 4); }

static void test_dump(void)
{
    struct machine m = { 0 };
    struct display *d = display_of(&m);
    g_autofree guint8 *ppm = NULL, *png = NULL, *black = NULL;
    gsize size;
    g_autoptr(GError) error = NULL;
    g_assert_false(display_dump(d, false, &ppm, &size, &error));
    g_assert_true(display_claim(d, "VGA", NULL));
    g_assert_false(display_claim(d, "another", NULL));
    g_assert_true(display_dump(d, false, &black, &size, NULL));
    g_assert_cmpuint(size, ==, strlen("P6\n640 480\n255\n") + 640 * 480 * 3);
    display_resize(d, 2, 1);
    display_set_refresh(d, refresh, d);
    g_assert_true(display_dump(d, false, &ppm, &size, NULL));
    g_assert_cmpmem(ppm, size, "P6\n2 1\n255\n\0\0\0\xff\0\0", 17);
    g_assert_true(display_dump(d, true, &png, &size, NULL));
    g_assert_cmpmem(png, 8, "\x89PNG\r\n\x1a\n", 8);
    guint8 row[7];
    uLongf n = sizeof(row);
    guint32 packed = be_get32(png + 33);
    g_assert_cmpmem(png + 37, 4, "IDAT", 4);
    g_assert_cmpuint(be_get32(png + 41 + packed), ==, crc32(0, png + 37, packed + 4));
    g_assert_cmpint(uncompress(row, &n, png + 41, packed), ==, Z_OK);
    g_assert_cmpmem(row, n, "\0\0\0\0\xff\0\0", 7);
    display_release(d);
    g_assert_false(display_refresh(d));
    display_destroy(d);
}

/* ---- input ---- */

struct hand { unsigned key, x, y, buttons; int dx, dy; bool down, asleep; };

static void take_key(void *opaque, unsigned code, bool down) { ((struct hand *)opaque)->key = code, ((struct hand *)opaque)->down = down; }
static void take_place(void *opaque, unsigned x, unsigned y, unsigned buttons)
{
    struct hand *h = opaque;
    h->x = x, h->y = y, h->buttons = buttons;
}
static void take_motion(void *opaque, int dx, int dy, unsigned buttons)
{
    struct hand *h = opaque;
    h->dx = dx, h->dy = dy, h->buttons = buttons;
}
static bool awake(void *opaque) { return !((struct hand *)opaque)->asleep; }

static void test_input_goes_to_who_listens(void)
{
    struct machine m = { 0 };
    struct display *d = display_of(&m);
    struct hand ps2 = { 0 }, usb = { .asleep = true }, none = { 0 };
    struct display_mouse mouse;
    display_key(d, KEY_A, true);
    display_pointer(d, 1, 1, 0);
    g_assert_false(display_mouse(d, 0, &mouse));
    display_resize(d, 1000, 500);
    display_add_input(d, &(struct display_input){ take_key, NULL, take_motion, &ps2, "PS/2" });
    display_add_input(d, &(struct display_input){ take_key, take_place, NULL, &usb, "USB", awake });
    display_add_input(d, &(struct display_input){ .opaque = &none });
    g_assert_false(display_has_absolute_pointer(d));
    display_key(d, KEY_A, true);
    g_assert_cmpuint(ps2.key, ==, KEY_A);
    display_pointer(d, 0, 0, 0);
    display_pointer(d, DISPLAY_POINTER_MAX, DISPLAY_POINTER_MAX * 2, DISPLAY_BUTTON_LEFT); /* the last place of the head */
    g_assert_cmpint(ps2.dx, ==, 1000);
    g_assert_cmpint(ps2.dy, ==, 500);
    g_assert_cmpuint(ps2.buttons, ==, DISPLAY_BUTTON_LEFT);
    g_assert_true(display_mouse(d, 1, &mouse));
    g_assert_cmpstr(mouse.name, ==, "PS/2");
    g_assert_true(mouse.current && !mouse.absolute);

    usb.asleep = false;
    g_assert_true(display_has_absolute_pointer(d));
    display_key(d, KEY_B, false);
    g_assert_cmpuint(ps2.key, ==, KEY_A);
    g_assert_cmpuint(usb.key, ==, KEY_B);
    display_pointer(d, 5, 6, DISPLAY_BUTTON_RIGHT);
    g_assert_cmpuint(usb.x, ==, 5);
    g_assert_cmpuint(usb.y, ==, 6);
    g_assert_cmpuint(ps2.buttons, ==, DISPLAY_BUTTON_LEFT);
    display_motion(d, -3, 4, 0);
    g_assert_cmpint(ps2.dx, ==, -3);
    g_assert_true(display_mouse(d, 0, &mouse));
    g_assert_true(mouse.current && mouse.absolute);
    g_assert_false(display_mouse(d, 2, &mouse));

    display_remove_input(d, &usb);
    display_key(d, KEY_C, true);
    g_assert_cmpuint(ps2.key, ==, KEY_C);
    display_destroy(d);
}

static void test_keys(void)
{
    static const struct { uint32_t keysym; const char *qcode; unsigned code; } all[] = {
        { 'a', "a", KEY_A }, { 'A', "a", KEY_A }, { '!', "1", KEY_1 }, { 0xff0d, "ret", KEY_ENTER }, { 0xffe1, "shift", KEY_LEFTSHIFT },
        { 0xffea, "alt_r", KEY_RIGHTALT }, { 0xfe03, "alt_r", KEY_RIGHTALT }, { 0xffff, "delete", KEY_DELETE }, { 0xffc9, "f12", KEY_F12 },
        { 0xff95, "kp_7", KEY_KP7 }, { ' ', "spc", KEY_SPACE }, { '\\', "backslash", KEY_BACKSLASH },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(all); i++) {
        g_assert_cmpuint(display_code_of_keysym(all[i].keysym), ==, all[i].code);
        g_assert_cmpuint(display_code_of_qcode(all[i].qcode), ==, all[i].code);
    }
    for (uint32_t c = ' '; c < 0x7f; c++)
        g_assert_cmpuint(display_code_of_keysym(c), !=, 0);
    g_assert_cmpuint(display_code_of_number(0x1e), ==, KEY_A);
    g_assert_cmpuint(display_code_of_number(0x9c), ==, KEY_KPENTER);
    g_assert_cmpuint(display_code_of_number(0xd3), ==, KEY_DELETE);
    g_assert_cmpuint(display_code_of_number(0x55), ==, 0);
    g_assert_cmpuint(display_code_of_number(1000), ==, 0);
    g_assert_cmpuint(display_code_of_keysym(0), ==, 0);
    g_assert_cmpuint(display_code_of_keysym(0x12345678), ==, 0);
    g_assert_cmpuint(display_code_of_qcode("no such key"), ==, 0);
}

static void note_key(void *opaque, unsigned code, bool down) { g_string_append_printf(opaque, "%u%c ", code, down ? '+' : '-'); }

static void test_typing_in_turn(void)
{
    struct machine m = { 0 };
    struct display *d = display_of(&m);
    g_autoptr(GString) seen = g_string_new(NULL);
    const unsigned upper[] = { KEY_LEFTSHIFT, KEY_A }, one[] = { KEY_1 };
    display_add_input(d, &(struct display_input){ .key = note_key, .opaque = seen });
    display_type(d, upper, 2, 5);
    display_type(d, one, 1, 0);
    g_assert_cmpstr(seen->str, ==, "42+ 30+ ");
    while (!strchr(seen->str, '2') || !g_str_has_suffix(seen->str, "2- "))
        g_main_context_iteration(NULL, TRUE);
    while (seen->len < strlen("42+ 30+ 30- 42- 2+ 2- "))
        g_main_context_iteration(NULL, TRUE);
    g_assert_cmpstr(seen->str, ==, "42+ 30+ 30- 42- 2+ 2- ");
    display_type(d, upper, 2, 100000); /* ends with the machine */
    display_destroy(d);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/display/draw-is-clipped", test_draw_is_clipped);
    g_test_add_func("/display/dump", test_dump);
    g_test_add_func("/display/input-goes-to-who-listens", test_input_goes_to_who_listens);
    g_test_add_func("/display/keys", test_keys);
    g_test_add_func("/display/typing-in-turn", test_typing_in_turn);
    return g_test_run();
}
