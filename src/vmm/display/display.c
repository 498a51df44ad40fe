/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/display/display.h"

#include <string.h>
#include <zlib.h>

#include "base/bigendian.h"
#include "base/error.h"
#include "vmm/core/machine.h"

struct display {
    GMutex lock, devices;
    char *device; /* who owns the head */
    struct display_picture p;
    uint32_t *pixels, *cursor;
    GArray *listeners; /* of struct display_listener */
    GArray *inputs;    /* of struct display_input */
    void (*refresh)(void *opaque);
    void *refresh_opaque;
    struct display_pointer_state pointer; /* as it was last */
    struct vnc *vnc;   /* NULL: none */
    GQueue typed;      /* of struct step: to be done on the main thread */
    guint typing;      /* timer; 0: nothing is being typed */
};

struct display *display_of(struct machine *m)
{
    if (!m->display) {
        struct display *d = g_new0(struct display, 1);
        g_mutex_init(&d->lock);
        g_mutex_init(&d->devices);
        d->listeners = g_array_new(FALSE, FALSE, sizeof(struct display_listener));
        d->inputs = g_array_new(FALSE, FALSE, sizeof(struct display_input));
        m->display = d;
        m->display_destroy = display_destroy;
    }
    return m->display;
}

void display_destroy(struct display *d)
{
    if (!d)
        return;
    vnc_destroy(d->vnc);
    if (d->typing)
        g_source_remove(d->typing);
    g_queue_clear_full(&d->typed, g_free);
    g_array_unref(d->listeners);
    g_array_unref(d->inputs);
    g_free(d->device);
    g_free(d->pixels);
    g_free(d->cursor);
    g_mutex_clear(&d->lock);
    g_mutex_clear(&d->devices);
    g_free(d);
}

bool display_claim(struct display *d, const char *device, GError **error)
{
    if (d->device)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "there is a graphics card already (%s), and a machine has one", d->device);
    d->device = g_strdup(device);
    return true;
}

void display_release(struct display *d)
{
    display_set_refresh(d, NULL, NULL);
    g_clear_pointer(&d->device, g_free);
    display_set_cursor(d, 0, 0, 0, 0, NULL);
    display_resize(d, 0, 0);
}

void display_set_refresh(struct display *d, void (*refresh)(void *opaque), void *opaque)
{
    g_mutex_lock(&d->devices);
    d->refresh = refresh;
    d->refresh_opaque = opaque;
    g_mutex_unlock(&d->devices);
}

bool display_refresh(struct display *d)
{
    g_mutex_lock(&d->devices);
    bool needs = d->refresh != NULL;
    if (needs)
        d->refresh(d->refresh_opaque);
    g_mutex_unlock(&d->devices);
    return needs;
}

bool display_claimed(const struct display *d) { return d && d->device; }
const char *display_card(const struct display *d) { return d ? d->device : NULL; }

struct vnc *display_vnc(const struct display *d) { return d ? d->vnc : NULL; }
void display_set_vnc(struct display *d, struct vnc *v) { d->vnc = v; }

/* ---- pictures ---- */

static struct display_listener *listener(struct display *d, unsigned i) { return &g_array_index(d->listeners, struct display_listener, i); }

void display_resize(struct display *d, unsigned width, unsigned height)
{
    g_mutex_lock(&d->lock);
    width = MIN(width, DISPLAY_MAX_SIZE);
    height = MIN(height, DISPLAY_MAX_SIZE);
    g_free(d->pixels);
    d->pixels = width && height ? g_new0(uint32_t, (gsize)width * height) : NULL;
    d->p.pixels = d->pixels;
    d->p.width = d->pixels ? width : 0;
    d->p.height = d->pixels ? height : 0;
    for (unsigned i = 0; i < d->listeners->len; i++)
        listener(d, i)->resized(listener(d, i)->opaque);
    g_mutex_unlock(&d->lock);
}

void display_draw(struct display *d, unsigned x, unsigned y, unsigned width, unsigned height, const void *pixels, size_t stride)
{
    g_mutex_lock(&d->lock);
    if (x < d->p.width && y < d->p.height) {
        width = MIN(width, d->p.width - x);
        height = MIN(height, d->p.height - y);
        for (unsigned row = 0; row < height; row++)
            memcpy(d->pixels + (gsize)(y + row) * d->p.width + x, (const uint8_t *)pixels + row * stride, (gsize)width * 4);
        for (unsigned i = 0; i < d->listeners->len; i++)
            listener(d, i)->changed(listener(d, i)->opaque, x, y, width, height);
    }
    g_mutex_unlock(&d->lock);
}

void display_set_cursor(struct display *d, unsigned width, unsigned height, unsigned hot_x, unsigned hot_y, const uint32_t *pixels)
{
    g_mutex_lock(&d->lock);
    g_clear_pointer(&d->cursor, g_free);
    if (pixels)
        d->cursor = g_memdup2(pixels, (gsize)width * height * 4);
    d->p.cursor = d->cursor;
    d->p.cursor_width = width;
    d->p.cursor_height = height;
    d->p.hot_x = hot_x;
    d->p.hot_y = hot_y;
    for (unsigned i = 0; i < d->listeners->len; i++)
        if (listener(d, i)->cursor)
            listener(d, i)->cursor(listener(d, i)->opaque);
    g_mutex_unlock(&d->lock);
}

void display_add_listener(struct display *d, const struct display_listener *l)
{
    g_mutex_lock(&d->lock);
    g_array_append_val(d->listeners, *l);
    g_mutex_unlock(&d->lock);
}

void display_remove_listener(struct display *d, const void *opaque)
{
    g_mutex_lock(&d->lock);
    for (unsigned i = d->listeners->len; i-- > 0;)
        if (listener(d, i)->opaque == opaque)
            g_array_remove_index(d->listeners, i);
    g_mutex_unlock(&d->lock);
}

const struct display_picture *display_lock(struct display *d)
{
    g_mutex_lock(&d->lock);
    return &d->p;
}

void display_unlock(struct display *d) { g_mutex_unlock(&d->lock); }

/* ---- screendump ---- */

/* Rows of three bytes a pixel, each behind `lead` bytes of zero (PNG's filter "none"). */
static guint8 *rgb_rows(const struct display_picture *p, unsigned lead, gsize *ret_size)
{
    gsize row = lead + (gsize)p->width * 3;
    guint8 *out = g_malloc(row * p->height), *to = out;
    for (unsigned y = 0; y < p->height; y++) {
        for (unsigned i = 0; i < lead; i++)
            *to++ = 0;
        for (const uint32_t *from = p->pixels + (gsize)y * p->width, *end = from + p->width; from < end; from++) {
            *to++ = (guint8)(*from >> 16);
            *to++ = (guint8)(*from >> 8);
            *to++ = (guint8)*from;
        }
    }
    *ret_size = row * p->height;
    return out;
}

/* PNG (ISO/IEC 15948), 5.3: length, type, data, CRC of type and data. */
static void png_chunk(GByteArray *to, const char *type, const void *data, gsize size)
{
    uint8_t word[4];
    be_put(word, size, 4);
    g_byte_array_append(to, word, 4);
    guint begin = to->len;
    g_byte_array_append(to, (const guint8 *)type, 4);
    if (size)
        g_byte_array_append(to, data, (guint)size);
    be_put(word, crc32(0, to->data + begin, (uInt)(size + 4)), 4);
    g_byte_array_append(to, word, 4);
}

static GByteArray *png_of(const struct display_picture *p)
{
    GByteArray *out = g_byte_array_new();
    uint8_t header[13] = { [8] = 8, [9] = 2 }; /* 8 bits a sample, RGB */
    gsize raw_size;
    g_autofree guint8 *raw = rgb_rows(p, 1, &raw_size);
    uLongf size = compressBound((uLong)raw_size);
    g_autofree guint8 *packed = g_malloc(size);
    be_put(header, p->width, 4);
    be_put(header + 4, p->height, 4);
    compress2(packed, &size, raw, (uLong)raw_size, 1);
    g_byte_array_append(out, (const guint8 *)"\x89PNG\r\n\x1a\n", 8);
    png_chunk(out, "IHDR", header, sizeof(header));
    png_chunk(out, "IDAT", packed, size);
    png_chunk(out, "IEND", NULL, 0);
    return out;
}

static GByteArray *ppm_of(const struct display_picture *p)
{
    GByteArray *out = g_byte_array_new();
    g_autofree char *head = g_strdup_printf("P6\n%u %u\n255\n", p->width, p->height);
    gsize size;
    g_autofree guint8 *rows = rgb_rows(p, 0, &size);
    g_byte_array_append(out, (const guint8 *)head, (guint)strlen(head));
    g_byte_array_append(out, rows, (guint)size);
    return out;
}

bool display_dump(struct display *d, bool png, guint8 **ret_data, gsize *ret_size, GError **error)
{
    if (!display_claimed(d))
        return vireo_fail(error, VIREO_ERROR_FAILED, "there is no console to take a screendump from: the machine has no graphics card");
    display_refresh(d);
    g_mutex_lock(&d->lock);
    g_autofree uint32_t *black = d->pixels ? NULL : g_new0(uint32_t, 640 * 480);
    struct display_picture p = d->pixels ? d->p : (struct display_picture){ .width = 640, .height = 480, .pixels = black };
    GByteArray *file = png ? png_of(&p) : ppm_of(&p);
    g_mutex_unlock(&d->lock);
    *ret_size = file->len;
    *ret_data = g_byte_array_free(file, FALSE);
    return true;
}

/* ---- input ---- */

void display_add_input(struct display *d, const struct display_input *in)
{
    g_mutex_lock(&d->devices);
    g_array_append_val(d->inputs, *in);
    g_mutex_unlock(&d->devices);
}

void display_remove_input(struct display *d, const void *opaque)
{
    g_mutex_lock(&d->devices);
    for (unsigned i = d->inputs->len; i-- > 0;)
        if (g_array_index(d->inputs, struct display_input, i).opaque == opaque)
            g_array_remove_index(d->inputs, i);
    g_mutex_unlock(&d->devices);
}

/* The device that came last, listens, and has that member; NULL: none. `devices` held. */
static const struct display_input *last_with(const struct display *d, size_t member)
{
    for (unsigned i = d->inputs->len; i-- > 0;) {
        const struct display_input *in = &g_array_index(d->inputs, struct display_input, i);
        if (*(void *const *)((const char *)in + member) && (!in->ready || in->ready(in->opaque)))
            return in;
    }
    return NULL;
}

static const struct display_input *absolute_pointer(const struct display *d) { return last_with(d, offsetof(struct display_input, pointer)); }
static const struct display_input *relative_pointer(const struct display *d) { return last_with(d, offsetof(struct display_input, motion)); }

void display_key(struct display *d, unsigned code, bool down)
{
    g_mutex_lock(&d->devices);
    const struct display_input *in = code ? last_with(d, offsetof(struct display_input, key)) : NULL;
    if (in)
        in->key(in->opaque, code, down);
    g_mutex_unlock(&d->devices);
}

/* From one place to another, in pixels of the head. */
static int distance(unsigned from, unsigned to, unsigned size)
{
    return (int)((uint64_t)to * size / DISPLAY_POINTER_MAX) - (int)((uint64_t)from * size / DISPLAY_POINTER_MAX);
}

void display_pointer(struct display *d, unsigned x, unsigned y, unsigned buttons)
{
    x = MIN(x, DISPLAY_POINTER_MAX);
    y = MIN(y, DISPLAY_POINTER_MAX);
    g_mutex_lock(&d->lock);
    unsigned width = MAX(d->p.width, 1u), height = MAX(d->p.height, 1u);
    g_mutex_unlock(&d->lock);
    g_mutex_lock(&d->devices);
    const struct display_input *in = absolute_pointer(d);
    if (in)
        in->pointer(in->opaque, x, y, buttons);
    else if ((in = relative_pointer(d)))
        in->motion(in->opaque, distance(d->pointer.x, x, width), distance(d->pointer.y, y, height), buttons);
    d->pointer = (struct display_pointer_state){ x, y, buttons };
    g_mutex_unlock(&d->devices);
}

void display_motion(struct display *d, int dx, int dy, unsigned buttons)
{
    g_mutex_lock(&d->devices);
    const struct display_input *in = relative_pointer(d);
    if (in)
        in->motion(in->opaque, dx, dy, buttons);
    d->pointer.buttons = buttons;
    g_mutex_unlock(&d->devices);
}

struct display_pointer_state display_pointer_state(struct display *d)
{
    g_mutex_lock(&d->devices);
    struct display_pointer_state now = d->pointer;
    g_mutex_unlock(&d->devices);
    return now;
}

bool display_has_absolute_pointer(struct display *d)
{
    g_mutex_lock(&d->devices);
    bool has = absolute_pointer(d) != NULL;
    g_mutex_unlock(&d->devices);
    return has;
}

bool display_mouse(struct display *d, unsigned n, struct display_mouse *ret)
{
    bool found = false;
    g_mutex_lock(&d->devices);
    const struct display_input *current = absolute_pointer(d) ? absolute_pointer(d) : relative_pointer(d);
    for (unsigned i = d->inputs->len; !found && i-- > 0;) {
        const struct display_input *in = &g_array_index(d->inputs, struct display_input, i);
        found = (in->pointer || in->motion) && n-- == 0;
        if (found)
            *ret = (struct display_mouse){ in->name ? in->name : "mouse", in->pointer != NULL, in == current };
    }
    g_mutex_unlock(&d->devices);
    return found;
}

/* ---- typing ---- */

struct step { unsigned code, delay_ms; bool down; }; /* the delay follows it */

/* Does steps up to the first that is followed by a delay. */
static gboolean type(gpointer opaque)
{
    struct display *d = opaque;
    d->typing = 0;
    while (!d->typing && d->typed.length) {
        g_autofree struct step *s = g_queue_pop_head(&d->typed);
        display_key(d, s->code, s->down);
        if (s->delay_ms)
            d->typing = g_timeout_add(s->delay_ms, type, d);
    }
    return G_SOURCE_REMOVE;
}

static void add_step(struct display *d, unsigned code, bool down, unsigned delay_ms)
{
    struct step *s = g_new(struct step, 1);
    *s = (struct step){ code, delay_ms, down };
    g_queue_push_tail(&d->typed, s);
}

void display_type(struct display *d, const unsigned *codes, unsigned n, unsigned hold_ms)
{
    for (unsigned i = 0; i < n; i++)
        add_step(d, codes[i], true, i + 1 == n ? hold_ms : 0);
    for (unsigned i = n; i-- > 0;)
        add_step(d, codes[i], false, i == 0 ? hold_ms : 0);
    if (!d->typing)
        type(d);
}
