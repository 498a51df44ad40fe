/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtio GPU, the 2D part (virtio 1.2, 5.7): the guest makes resources (pictures of its own), says which RAM backs them, and has parts
 * copied to the host and shown. Resources live on the host and are bounded together; the guest's pages are looked at only while a
 * command copies from them.
 *
 * Memory: pixels and lists of backing pages of all resources together stay below max_hostmem; what is above is ERR_OUT_OF_MEMORY.
 */
#include <string.h>

#include "base/error.h"
#include "vmm/bus/virtio.h"
#include "vmm/core/machine.h"
#include "vmm/core/memory.h"
#include "vmm/core/state.h"
#include "vmm/dev/virtio_gpu.h"
#include "vmm/display/display.h"
#include "vmm/display/edid.h"

enum { CONTROL, CURSOR };
enum { QUEUE_SIZE = 64, CURSOR_QUEUE_SIZE = 16, MAX_RESOURCES = 4096, MAX_ENTRIES = 16384, CURSOR_SIDE = 64 };
#define F_EDID (1ull << 1)

/* 5.7.6.7 */
enum {
    GET_DISPLAY_INFO = 0x100, RESOURCE_CREATE_2D, RESOURCE_UNREF, SET_SCANOUT, RESOURCE_FLUSH, TRANSFER_TO_HOST_2D, RESOURCE_ATTACH_BACKING,
    RESOURCE_DETACH_BACKING, GET_CAPSET_INFO, GET_CAPSET, GET_EDID,
    UPDATE_CURSOR = 0x300, MOVE_CURSOR,
    OK_NODATA = 0x1100, OK_DISPLAY_INFO, OK_EDID = 0x1104,
    ERR_UNSPEC = 0x1200, ERR_OUT_OF_MEMORY, ERR_INVALID_SCANOUT_ID, ERR_INVALID_RESOURCE_ID, ERR_INVALID_CONTEXT_ID, ERR_INVALID_PARAMETER,
};
enum { FLAG_FENCE = 1 };

/* All fields little-endian, as the host is. */
struct header { uint32_t type, flags; uint64_t fence; uint32_t context; uint8_t ring, pad[3]; };
struct create { struct header h; uint32_t id, format, width, height; };
struct by_id { struct header h; uint32_t id, pad; };
struct scanout { struct header h; struct virtio_gpu_rect r; uint32_t scanout, id; };
struct flush { struct header h; struct virtio_gpu_rect r; uint32_t id, pad; };
struct transfer { struct header h; struct virtio_gpu_rect r; uint64_t offset; uint32_t id, pad; };
struct attach { struct header h; uint32_t id, n; };
struct entry { uint64_t gpa; uint32_t length, pad; };
struct cursor { struct header h; uint32_t scanout, x, y, pad, id, hot_x, hot_y, pad2; };
struct display_info { struct header h; struct { struct virtio_gpu_rect r; uint32_t enabled, flags; } mode[16]; };
struct edid { struct header h; uint32_t size, pad; uint8_t edid[1024]; };

struct resource {
    uint32_t id, format, width, height;
    uint32_t *pixels; /* 0xAARRGGBB */
    struct entry *backing;
    unsigned nbacking;
};

static void resource_free(gpointer opaque)
{
    struct resource *r = opaque;
    g_free(r->pixels);
    g_free(r->backing);
    g_free(r);
}

static struct resource *find(struct virtio_gpu *g, uint32_t id) { return id ? g_hash_table_lookup(g->resources, GUINT_TO_POINTER(id)) : NULL; }

/* ---- formats (5.7.6.8): where each byte of a pixel goes ---- */

/* Shifts of blue, green, red in the guest's pixel. False: no such format. */
static bool format_shifts(uint32_t format, unsigned shift[3])
{
    static const struct { uint32_t format; uint8_t shift[3]; } all[] = {
        { 1, { 0, 8, 16 } }, { 2, { 0, 8, 16 } },     /* BGRA, BGRX in memory order */
        { 3, { 24, 16, 8 } }, { 4, { 24, 16, 8 } },   /* ARGB, XRGB */
        { 67, { 16, 8, 0 } }, { 134, { 16, 8, 0 } },  /* RGBA, RGBX */
        { 68, { 8, 16, 24 } }, { 121, { 8, 16, 24 } },/* XBGR, ABGR */
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(all); i++) {
        if (all[i].format != format)
            continue;
        for (unsigned k = 0; k < 3; k++)
            shift[k] = all[i].shift[k];
        return true;
    }
    return false;
}

static void convert(uint32_t format, uint32_t *pixels, unsigned n)
{
    unsigned s[3];
    if (!format_shifts(format, s) || (s[0] == 0 && s[2] == 16))
        return;
    unsigned alpha = 48 - s[0] - s[1] - s[2]; /* the byte that is left: the four shifts sum up to 48 */
    for (unsigned i = 0; i < n; i++) {
        uint32_t p = pixels[i];
        pixels[i] = (p >> s[0] & 0xff) | (p >> s[1] & 0xff) << 8 | (p >> s[2] & 0xff) << 16 | (p >> alpha & 0xff) << 24;
    }
}

/* ---- commands; each returns the type of the answer ---- */

static uint32_t create_2d(struct virtio_gpu *g, const struct create *c)
{
    unsigned shift[3];
    uint64_t size = (uint64_t)c->width * c->height * 4;
    if (!c->id || find(g, c->id))
        return ERR_INVALID_RESOURCE_ID;
    if (!format_shifts(c->format, shift) || !c->width || !c->height || c->width > DISPLAY_MAX_SIZE || c->height > DISPLAY_MAX_SIZE)
        return ERR_INVALID_PARAMETER;
    if (g->bytes + size > g->max_bytes || g_hash_table_size(g->resources) >= MAX_RESOURCES)
        return ERR_OUT_OF_MEMORY;
    struct resource *r = g_new0(struct resource, 1);
    *r = (struct resource){ c->id, c->format, c->width, c->height, g_try_malloc0(size), NULL, 0 };
    if (!r->pixels) {
        g_free(r);
        return ERR_OUT_OF_MEMORY;
    }
    g->bytes += size;
    g_hash_table_insert(g->resources, GUINT_TO_POINTER(c->id), r);
    return OK_NODATA;
}

static void show_nothing(struct virtio_gpu *g)
{
    if (!g->shown)
        return;
    g->shown = 0;
    display_resize(g->display, 0, 0);
    if (g->active)
        g->active(g, false);
}

static uint32_t unref(struct virtio_gpu *g, const struct by_id *c)
{
    struct resource *r = find(g, c->id);
    if (!r)
        return ERR_INVALID_RESOURCE_ID;
    if (g->shown == c->id)
        show_nothing(g);
    g->bytes -= (uint64_t)r->width * r->height * 4 + r->nbacking * sizeof(*r->backing);
    g_hash_table_remove(g->resources, GUINT_TO_POINTER(c->id));
    return OK_NODATA;
}

static bool inside(const struct virtio_gpu_rect *r, const struct resource *of)
{
    return r->width <= of->width && r->height <= of->height && r->x <= of->width - r->width && r->y <= of->height - r->height;
}

static void draw(struct virtio_gpu *g, const struct resource *r, const struct virtio_gpu_rect *part)
{
    /* the part of it that the head shows */
    uint32_t x0 = MAX(part->x, g->view.x), y0 = MAX(part->y, g->view.y);
    uint32_t x1 = MIN(part->x + part->width, g->view.x + g->view.width), y1 = MIN(part->y + part->height, g->view.y + g->view.height);
    if (x0 < x1 && y0 < y1)
        display_draw(g->display, x0 - g->view.x, y0 - g->view.y, x1 - x0, y1 - y0, r->pixels + (size_t)y0 * r->width + x0, (size_t)r->width * 4);
}

static uint32_t set_scanout(struct virtio_gpu *g, const struct scanout *c)
{
    if (c->scanout != 0)
        return ERR_INVALID_SCANOUT_ID;
    if (!c->id) {
        show_nothing(g);
        return OK_NODATA;
    }
    struct resource *r = find(g, c->id);
    if (!r)
        return ERR_INVALID_RESOURCE_ID;
    if (!inside(&c->r, r) || !c->r.width || !c->r.height)
        return ERR_INVALID_PARAMETER;
    if (!g->shown && g->active)
        g->active(g, true);
    bool resize = !g->shown || c->r.width != g->view.width || c->r.height != g->view.height;
    g->shown = c->id;
    g->view = c->r;
    if (resize)
        display_resize(g->display, c->r.width, c->r.height);
    draw(g, r, &c->r);
    return OK_NODATA;
}

static uint32_t flush(struct virtio_gpu *g, const struct flush *c)
{
    struct resource *r = find(g, c->id);
    if (!r)
        return ERR_INVALID_RESOURCE_ID;
    if (!inside(&c->r, r))
        return ERR_INVALID_PARAMETER;
    if (g->shown == c->id)
        draw(g, r, &c->r);
    return OK_NODATA;
}

/* A place in a resource's backing: entry, and what lies before it. Places asked for only grow. */
struct place { unsigned i; uint64_t before; };

/* Copies n bytes from `offset` of the backing. False: it is too short, or not RAM. */
static bool backing_read(struct virtio_gpu *g, const struct resource *r, struct place *at, uint64_t offset, void *to, uint64_t n)
{
    for (; at->i < r->nbacking && offset - at->before >= r->backing[at->i].length; at->i++)
        at->before += r->backing[at->i].length;
    uint64_t skip = offset - at->before;
    for (unsigned i = at->i; i < r->nbacking && n; i++, skip = 0) {
        const struct entry *e = &r->backing[i];
        uint64_t part = MIN(n, e->length - skip);
        if (e->gpa > UINT64_MAX - UINT32_MAX || !guest_memory_read(g->v.dev.machine->memory, e->gpa + skip, to, part))
            return false;
        to = (uint8_t *)to + part;
        n -= part;
    }
    return n == 0;
}

static uint32_t transfer(struct virtio_gpu *g, const struct transfer *c)
{
    struct resource *r = find(g, c->id);
    struct place at = { 0 };
    if (!r)
        return ERR_INVALID_RESOURCE_ID;
    if (!inside(&c->r, r) || c->offset > UINT64_MAX / 2)
        return ERR_INVALID_PARAMETER;
    bool whole = c->r.x == 0 && c->r.width == r->width; /* rows follow each other on both sides */
    uint32_t step = whole ? MAX(c->r.height, 1u) : 1;
    for (uint32_t y = 0; y < c->r.height; y += step) {
        uint32_t *to = r->pixels + (size_t)(c->r.y + y) * r->width + c->r.x;
        uint64_t n = (uint64_t)c->r.width * step;
        if (!backing_read(g, r, &at, c->offset + (uint64_t)y * r->width * 4, to, n * 4))
            return ERR_UNSPEC;
        convert(r->format, to, (unsigned)n);
    }
    return OK_NODATA;
}

static uint32_t attach(struct virtio_gpu *g, const struct attach *c, const struct virtio_chain *chain)
{
    struct resource *r = find(g, c->id);
    if (!r)
        return ERR_INVALID_RESOURCE_ID;
    if (r->backing || !c->n || c->n > MAX_ENTRIES)
        return ERR_UNSPEC;
    size_t size = (size_t)c->n * sizeof(struct entry);
    if (g->bytes + size > g->max_bytes)
        return ERR_OUT_OF_MEMORY;
    if (chain->out_len < sizeof(*c) + size)
        return ERR_INVALID_PARAMETER;
    struct entry *e = g_malloc(size);
    if (virtio_chain_read(chain, sizeof(*c), e, size) != size) {
        g_free(e);
        return ERR_INVALID_PARAMETER;
    }
    g->bytes += size;
    r->backing = e;
    r->nbacking = c->n;
    return OK_NODATA;
}

static uint32_t detach(struct virtio_gpu *g, const struct by_id *c)
{
    struct resource *r = find(g, c->id);
    if (!r || !r->backing)
        return ERR_INVALID_RESOURCE_ID;
    g->bytes -= r->nbacking * sizeof(*r->backing);
    g_clear_pointer(&r->backing, g_free);
    r->nbacking = 0;
    return OK_NODATA;
}

/* ---- queues ---- */

static void answer_header(struct header *h, const struct header *to, uint32_t type)
{
    *h = (struct header){ .type = type };
    if (to->flags & FLAG_FENCE) {
        h->flags = FLAG_FENCE;
        h->fence = to->fence;
        h->context = to->context;
    }
}

static size_t answer_display_info(struct virtio_gpu *g, struct virtio_chain *c, const struct header *h)
{
    struct display_info info = { 0 };
    answer_header(&info.h, h, OK_DISPLAY_INFO);
    info.mode[0].r = (struct virtio_gpu_rect){ 0, 0, (uint32_t)g->width, (uint32_t)g->height };
    info.mode[0].enabled = 1;
    return virtio_chain_write(c, 0, &info, sizeof(info));
}

static size_t answer_edid(struct virtio_gpu *g, struct virtio_chain *c, const struct header *h)
{
    struct edid e = { 0 };
    uint32_t scanout = 0;
    virtio_chain_read(c, sizeof(*h), &scanout, sizeof(scanout));
    answer_header(&e.h, h, scanout ? ERR_INVALID_SCANOUT_ID : OK_EDID);
    if (scanout)
        return virtio_chain_write(c, 0, &e.h, sizeof(e.h));
    e.size = EDID_SIZE;
    edid_make(e.edid, (unsigned)g->width, (unsigned)g->height);
    return virtio_chain_write(c, 0, &e, sizeof(e));
}

static size_t command(struct virtio_gpu *g, struct virtio_chain *c)
{
    union { struct header h; struct create create; struct by_id by_id; struct scanout scanout; struct flush flush; struct transfer transfer; struct attach attach; } u = { 0 };
    struct header answer;
    size_t n = virtio_chain_read(c, 0, &u, sizeof(u));
    uint32_t type = ERR_UNSPEC;
#define NEED(member) if (n < sizeof(u.member)) { type = ERR_INVALID_PARAMETER; break; }
    if (n >= sizeof(u.h)) {
        switch (u.h.type) {
        case GET_DISPLAY_INFO: return answer_display_info(g, c, &u.h);
        case GET_EDID: return answer_edid(g, c, &u.h);
        case RESOURCE_CREATE_2D: NEED(create) type = create_2d(g, &u.create); break;
        case RESOURCE_UNREF: NEED(by_id) type = unref(g, &u.by_id); break;
        case SET_SCANOUT: NEED(scanout) type = set_scanout(g, &u.scanout); break;
        case RESOURCE_FLUSH: NEED(flush) type = flush(g, &u.flush); break;
        case TRANSFER_TO_HOST_2D: NEED(transfer) type = transfer(g, &u.transfer); break;
        case RESOURCE_ATTACH_BACKING: NEED(attach) type = attach(g, &u.attach, c); break;
        case RESOURCE_DETACH_BACKING: NEED(by_id) type = detach(g, &u.by_id); break;
        }
    }
#undef NEED
    answer_header(&answer, &u.h, type);
    return virtio_chain_write(c, 0, &answer, sizeof(answer));
}

static void show_cursor(struct virtio_gpu *g)
{
    struct resource *r = find(g, g->cursor);
    if (r && r->width == CURSOR_SIDE && r->height == CURSOR_SIDE)
        display_set_cursor(g->display, r->width, r->height, MIN(g->hot_x, CURSOR_SIDE - 1), MIN(g->hot_y, CURSOR_SIDE - 1), r->pixels);
    else
        display_set_cursor(g->display, 0, 0, 0, 0, NULL);
}

static void cursor(struct virtio_gpu *g, const struct cursor *c)
{
    if (c->h.type != UPDATE_CURSOR)
        return; /* the viewer knows where its pointer is */
    g->cursor = c->id;
    g->hot_x = c->hot_x;
    g->hot_y = c->hot_y;
    show_cursor(g);
}

void virtio_gpu_queue_notify(struct virtio_device *v, unsigned queue)
{
    struct virtio_gpu *g = (struct virtio_gpu *)v;
    struct virtqueue *q = &v->queues[queue];
    struct virtio_chain *c;
    bool any = false;
    for (unsigned i = 0; i < q->size && (c = virtqueue_pop(q)); i++) {
        size_t written = 0;
        if (queue == CONTROL) {
            written = command(g, c);
        } else {
            struct cursor u = { 0 };
            if (virtio_chain_read(c, 0, &u, sizeof(u)) == sizeof(u))
                cursor(g, &u);
        }
        virtqueue_push(c, (uint32_t)written);
        any = true;
    }
    if (any)
        virtqueue_interrupt(q);
}

uint64_t virtio_gpu_features(struct virtio_device *v) { return ((struct virtio_gpu *)v)->edid ? F_EDID : 0; }

void virtio_gpu_config_read(struct virtio_device *v, uint8_t *ret) { memcpy(ret, &((struct virtio_gpu *)v)->config, sizeof(struct virtio_gpu_config)); }

void virtio_gpu_config_write(struct virtio_device *v, unsigned offset, unsigned size, uint64_t value)
{
    struct virtio_gpu *g = (struct virtio_gpu *)v;
    if (offset == offsetof(struct virtio_gpu_config, events_clear) && size == 4)
        g->config.events_read &= ~(uint32_t)value;
}

void virtio_gpu_stop(struct virtio_device *v)
{
    struct virtio_gpu *g = (struct virtio_gpu *)v;
    g_hash_table_remove_all(g->resources);
    g->bytes = 0;
    g->cursor = 0;
    display_set_cursor(g->display, 0, 0, 0, 0, NULL);
    show_nothing(g);
}

/* ---- a saved machine ---- */

/* Five numbers of each resource; all backing entries as address and length; how each row of pixels is kept, and those pixels that are, one
 * resource after the other. Most rows are as in the guest's memory: those come from there. */
enum { R_ID, R_FORMAT, R_WIDTH, R_HEIGHT, R_ENTRIES, R_WORDS };
enum { ROW_ZERO, ROW_BACKED, ROW_KEPT };

struct rows { GArray *pixels; GByteArray *how; };

/* As the guest's driver lays pictures out. */
static bool row_backed(struct virtio_gpu *g, const struct resource *r, struct place *at, uint32_t y, uint32_t *ret)
{
    if (!r->nbacking || !backing_read(g, r, at, (uint64_t)y * r->width * 4, ret, (uint64_t)r->width * 4))
        return false;
    convert(r->format, ret, r->width);
    return true;
}

static bool row_zero(const uint32_t *row, uint32_t n)
{
    return !row[0] && !memcmp(row, row + 1, (n - 1) * 4ul);
}

static void save_rows(struct virtio_gpu *g, const struct resource *r, struct rows *to)
{
    g_autofree uint32_t *backed = g_new(uint32_t, r->width);
    struct place at = { 0 };
    for (uint32_t y = 0; y < r->height; y++) {
        const uint32_t *row = r->pixels + (size_t)y * r->width;
        uint8_t how = row_zero(row, r->width) ? ROW_ZERO : row_backed(g, r, &at, y, backed) && !memcmp(row, backed, r->width * 4ul) ? ROW_BACKED : ROW_KEPT;
        g_byte_array_append(to->how, &how, 1);
        if (how == ROW_KEPT)
            g_array_append_vals(to->pixels, row, r->width);
    }
}

void virtio_gpu_save(struct device *d, struct state_writer *w)
{
    struct virtio_gpu *g = (struct virtio_gpu *)d;
    g_autoptr(GArray) all = g_array_new(FALSE, FALSE, 4), pixels = g_array_new(FALSE, FALSE, 4), backing = g_array_new(FALSE, FALSE, 8);
    g_autoptr(GByteArray) how = g_byte_array_new();
    struct rows rows = { pixels, how };
    GHashTableIter it;
    void *value;
    virtio_save(&g->v, w);
    g_hash_table_iter_init(&it, g->resources);
    while (g_hash_table_iter_next(&it, NULL, &value)) {
        const struct resource *r = value;
        const uint32_t row[R_WORDS] = { r->id, r->format, r->width, r->height, r->nbacking };
        g_array_append_vals(all, row, R_WORDS);
        save_rows(g, r, &rows);
        for (unsigned i = 0; i < r->nbacking; i++) {
            const uint64_t entry[2] = { r->backing[i].gpa, r->backing[i].length };
            g_array_append_vals(backing, entry, 2);
        }
    }
    state_put(w, "resources", all->data, 4, all->len);
    state_put(w, "rows", how->data, 1, how->len);
    state_put(w, "pixels", pixels->data, 4, pixels->len);
    state_put(w, "backing", backing->data, 8, backing->len);
}

/* What has been read of the saved arrays. */
struct gpu_loading {
    struct virtio_gpu *g;
    GArray *pixels, *backing;
    const uint8_t *how;
    uint32_t nhow, row;
    unsigned pixel, entry;
};

static bool load_row(struct gpu_loading *l, struct resource *r, struct place *at, uint32_t y)
{
    uint32_t *row = r->pixels + (size_t)y * r->width;
    if (l->row == l->nhow)
        return false;
    switch (l->how[l->row++]) {
    case ROW_ZERO:
        return true; /* it is new */
    case ROW_BACKED:
        return row_backed(l->g, r, at, y, row);
    case ROW_KEPT:
        if (r->width > l->pixels->len - l->pixel)
            return false;
        memcpy(row, &g_array_index(l->pixels, uint32_t, l->pixel), r->width * 4ul);
        l->pixel += r->width;
        return true;
    default:
        return false;
    }
}

/* False: no resource that the guest could have made. */
static bool load_resource(struct gpu_loading *l, const uint32_t *row)
{
    struct virtio_gpu *g = l->g;
    const struct create c = { .id = row[R_ID], .format = row[R_FORMAT], .width = row[R_WIDTH], .height = row[R_HEIGHT] };
    unsigned n = row[R_ENTRIES];
    struct place at = { 0 };
    if (create_2d(g, &c) != OK_NODATA || n > MAX_ENTRIES || n > (l->backing->len - l->entry) / 2 || g->bytes + n * sizeof(struct entry) > g->max_bytes)
        return false;
    struct resource *r = find(g, c.id);
    g->bytes += n * sizeof(struct entry);
    r->backing = n ? g_new0(struct entry, n) : NULL;
    r->nbacking = n;
    for (unsigned i = 0; i < n; i++, l->entry += 2) {
        const uint64_t *e = &g_array_index(l->backing, uint64_t, l->entry);
        r->backing[i] = (struct entry){ .gpa = e[0], .length = (uint32_t)e[1] };
    }
    for (uint32_t y = 0; y < r->height; y++) {
        if (!load_row(l, r, &at, y))
            return false;
    }
    return true;
}

static GArray *get_numbers(struct state_reader *r, const char *name, unsigned size, uint64_t max, GError **error)
{
    uint32_t n;
    if (!state_get_count(r, name, size, (uint32_t)MIN(max, (uint64_t)UINT32_MAX / size), &n, error))
        return NULL;
    GArray *a = g_array_new(FALSE, FALSE, size);
    g_array_set_size(a, n);
    if (state_get_some(r, name, a->data, size, n, &n, error))
        return a;
    g_array_unref(a);
    return NULL;
}

static bool load_resources(struct virtio_gpu *g, struct state_reader *r, GError **error)
{
    g_autoptr(GArray) rows = get_numbers(r, "resources", 4, MAX_RESOURCES * R_WORDS, error);
    g_autoptr(GArray) pixels = rows ? get_numbers(r, "pixels", 4, g->max_bytes / 4, error) : NULL;
    g_autoptr(GArray) backing = pixels ? get_numbers(r, "backing", 8, g->max_bytes / 8, error) : NULL;
    struct gpu_loading l = { .g = g, .pixels = pixels, .backing = backing };
    l.how = backing ? state_get_bytes(r, "rows", &l.nhow, error) : NULL;
    for (unsigned i = 0; l.how && i + R_WORDS <= rows->len; i += R_WORDS) {
        const uint32_t *row = &g_array_index(rows, uint32_t, i);
        if (!load_resource(&l, row))
            return state_bad(r, error, "its resource %u is not possible, or more than max_hostmem=%" G_GUINT64_FORMAT " allows", row[R_ID], g->max_bytes);
    }
    return l.how != NULL;
}

bool virtio_gpu_load(struct device *d, struct state_reader *r, GError **error)
{
    struct virtio_gpu *g = (struct virtio_gpu *)d;
    const struct virtio_gpu_rect view = g->view;
    uint32_t shown = g->shown;
    g->shown = 0;
    g_hash_table_remove_all(g->resources);
    g->bytes = 0;
    if (!virtio_load(&g->v, r, error) || !load_resources(g, r, error))
        return false;
    const struct scanout c = { .id = shown, .r = view };
    if (shown && set_scanout(g, &c) != OK_NODATA)
        return state_bad(r, error, "what it shows is no part of a resource");
    show_cursor(g);
    return true;
}

bool virtio_gpu_realize(struct device *d, GError **error)
{
    static const uint16_t sizes[] = { QUEUE_SIZE, CURSOR_QUEUE_SIZE };
    struct virtio_gpu *g = (struct virtio_gpu *)d;
    if (g->blob)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "blob=on: resources in shared memory are not there; leave it out");
    g->display = display_of(d->machine);
    if (!display_claim(g->display, d->class->name, error))
        return false;
    g->resources = g_hash_table_new_full(NULL, NULL, NULL, resource_free);
    g->config.scanouts = 1;
    if (virtio_realize(&g->v, 2, sizes, error))
        return true;
    g_clear_pointer(&g->resources, g_hash_table_unref);
    display_release(g->display);
    return false;
}

void virtio_gpu_unrealize(struct device *d)
{
    struct virtio_gpu *g = (struct virtio_gpu *)d;
    virtio_unrealize(&g->v);
    g_clear_pointer(&g->resources, g_hash_table_unref);
    display_release(g->display);
}

#define T struct virtio_gpu
static const struct device_prop props[] = { VIRTIO_GPU_PROPS(T), VIRTIO_PCI_PROPS(T, "3"), { NULL } };
static const struct device_field fields[] = { VIRTIO_FIELDS(T), DEVICE_FIELD(T, shown), DEVICE_FIELD(T, view.x), DEVICE_FIELD(T, view.y), DEVICE_FIELD(T, view.width),
                                              DEVICE_FIELD(T, view.height), DEVICE_FIELD(T, config.events_read), DEVICE_FIELD(T, cursor), DEVICE_FIELD(T, hot_x),
                                              DEVICE_FIELD(T, hot_y), { NULL } };
static const struct virtio_class gpu = VIRTIO_GPU_CLASS("virtio-gpu", 0x80, virtio_gpu_stop, NULL);

const struct device_class virtio_gpu_pci_class = {
    .name = "virtio-gpu-pci", .help = "virtio graphics card, 2D, one head", .bus = DEV_BUS_PCI, .size = sizeof(T), .props = props, .fields = fields,
    .user_creatable = true, .realize = virtio_gpu_realize, .reset = virtio_device_reset, .unrealize = virtio_gpu_unrealize, .save = virtio_gpu_save,
    .load = virtio_gpu_load, .bus_class = &gpu,
};
