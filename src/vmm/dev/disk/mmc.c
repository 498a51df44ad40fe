/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/dev/disk/mmc.h"

#include <errno.h>
#include <string.h>

#include "block/block.h"
#include "vmm/core/device.h"

enum { EVENT_EJECT_REQUEST = 1, EVENT_NEW_MEDIA = 2, EVENT_REMOVED = 3 };
enum { PROFILE_CD_ROM = 0x0008, PROFILE_DVD_ROM = 0x0010 };
#define CD_BLOCKS_MAX 405000u /* 90 minutes: more is a DVD */
enum { ASC_LBA = 0x21, ASC_MEDIUM_CHANGED = 0x28, ASC_COMMAND = 0x20, ASC_FIELD = 0x24, ASC_NO_MEDIUM = 0x3a, ASC_REMOVAL_PREVENTED = 0x53, ASC_READ = 0x11 };

static uint16_t get16(const uint8_t *p) { return p[0] << 8 | p[1]; }
static uint32_t get32(const uint8_t *p) { return (uint32_t)get16(p) << 16 | get16(p + 2); }
static void put16(uint8_t *p, uint16_t v) { p[0] = v >> 8; p[1] = v; }
static void put32(uint8_t *p, uint32_t v) { put16(p, v >> 16); put16(p + 2, v); }

bool mmc_has_medium(const struct mmc *c)
{
    return !c->removable.open && c->removable.block && block_device_node(c->removable.block);
}

static uint32_t blocks(const struct mmc *c)
{
    return mmc_has_medium(c) ? (uint32_t)MIN(block_size(c->removable.block) / MMC_BLOCK, UINT32_MAX) : 0;
}

static unsigned profile(const struct mmc *c)
{
    return !mmc_has_medium(c) ? 0 : blocks(c) > CD_BLOCKS_MAX ? PROFILE_DVD_ROM : PROFILE_CD_ROM;
}

/* ---- sense ---- */

static void check(struct mmc *c, struct mmc_result *r, uint8_t key, uint8_t asc, uint8_t ascq)
{
    c->key = key;
    c->asc = asc;
    c->ascq = ascq;
    r->kind = MMC_CHECK;
}

static void bad_field(struct mmc *c, struct mmc_result *r)
{
    check(c, r, SENSE_ILLEGAL_REQUEST, ASC_FIELD, 0);
}

void mmc_read_failed(struct mmc *c, int err)
{
    struct mmc_result r;
    if (err == ENOMEDIUM)
        check(c, &r, SENSE_NOT_READY, ASC_NO_MEDIUM, 0);
    else
        check(c, &r, SENSE_MEDIUM_ERROR, ASC_READ, 0);
}

/* SPC-4, 4.5.3 */
void mmc_sense(struct mmc *c, uint8_t ret[18])
{
    memset(ret, 0, 18);
    ret[0] = 0x70;
    ret[2] = c->key;
    ret[7] = 10;
    ret[12] = c->asc;
    ret[13] = c->ascq;
    c->key = c->asc = c->ascq = 0;
}

/* ---- replies ---- */

static void reply(struct mmc_result *r, uint32_t length, uint32_t allowed)
{
    r->kind = MMC_REPLY;
    r->length = MIN(length, allowed);
}

static void pad(uint8_t *to, const char *text, size_t n)
{
    memset(to, ' ', n);
    memcpy(to, text, MIN(strlen(text), n));
}

/* SPC-4, 6.6 */
static void inquiry(struct mmc *c, const uint8_t *cdb, struct mmc_result *r)
{
    uint8_t *d = r->data;
    uint32_t allowed = get16(cdb + 3);
    if (cdb[1] & 1) { /* vital product data */
        d[0] = 5;
        d[1] = cdb[2];
        if (cdb[2] == 0x00) {
            d[3] = 2;
            d[5] = 0x83;
            reply(r, 6, allowed);
        } else if (cdb[2] == 0x83) { /* T10 vendor identification, in ASCII */
            d[3] = 4 + 24;
            d[4] = 2;
            d[5] = 1;
            d[7] = 24;
            pad(d + 8, "QEMU", 8);
            pad(d + 16, c->product, 16);
            reply(r, 4 + d[3], allowed);
        } else {
            bad_field(c, r);
        }
        return;
    }
    if (cdb[2]) {
        bad_field(c, r);
        return;
    }
    d[0] = 5;    /* CD/DVD device */
    d[1] = 0x80; /* removable */
    d[2] = 5;    /* SPC-3 */
    d[3] = 2;
    d[4] = 36 - 5;
    pad(d + 8, "QEMU", 8);
    pad(d + 16, c->product, 16);
    pad(d + 32, c->version, 4);
    reply(r, 36, allowed);
}

/* The mode pages that a read-only drive has: MMC-6, 7.3 (read error recovery), 7.2.11 (capabilities); SPC-4: caching, power condition. */
static unsigned mode_page(const struct mmc *c, unsigned page, uint8_t *p)
{
    switch (page) {
    case 0x01:
        p[0] = 0x01;
        p[1] = 0x0a;
        p[3] = 5; /* retries */
        return 12;
    case 0x0e: /* audio control: nothing plays */
        p[0] = 0x0e;
        p[1] = 0x0e;
        return 16;
    case 0x2a:
        p[0] = 0x2a;
        p[1] = 0x14;
        p[2] = 0x3b; /* reads CD-R, CD-RW, DVD-ROM, DVD-R, DVD-RAM */
        p[4] = 0x70; /* multisession, mode 2 forms 1 and 2 */
        p[6] = 0x29 | (c->removable.locked ? 2 : 0); /* tray, eject, lock; locked */
        put16(p + 8, 706 * 4); /* kB/s */
        put16(p + 10, 2);      /* volume levels */
        put16(p + 12, 512);    /* buffer, KiB */
        put16(p + 14, 706 * 4);
        return 22;
    default:
        return 0;
    }
}

static void mode_sense(struct mmc *c, const uint8_t *cdb, struct mmc_result *r)
{
    static const uint8_t pages[] = { 0x01, 0x0e, 0x2a };
    bool ten = cdb[0] == 0x5a;
    unsigned head = ten ? 8 : 4, page = cdb[2] & 0x3f, n = head;
    if (cdb[2] >> 6 == 3 || cdb[3]) { /* saved values, subpages */
        check(c, r, SENSE_ILLEGAL_REQUEST, cdb[3] ? ASC_FIELD : 0x39, 0);
        return;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(pages); i++) {
        if (page != 0x3f && page != pages[i])
            continue;
        unsigned len = mode_page(c, pages[i], r->data + n);
        if (cdb[2] >> 6 == 1) /* changeable: none */
            memset(r->data + n + 2, 0, len - 2);
        n += len;
    }
    if (n == head) {
        bad_field(c, r);
        return;
    }
    /* Medium type of old drives (MMC-1): door open, no disc, data disc. */
    uint8_t medium = c->removable.open ? 0x71 : mmc_has_medium(c) ? 0x01 : 0x70;
    if (ten) {
        put16(r->data, n - 2);
        r->data[2] = medium;
    } else {
        r->data[0] = n - 1;
        r->data[1] = medium;
    }
    reply(r, n, ten ? get16(cdb + 7) : cdb[4]);
}

/* Minute, second, frame of a block (MMC-6, table 681); 150 frames lie before the first. */
static void put_address(uint8_t *p, uint32_t lba, bool msf)
{
    if (!msf) {
        put32(p, lba);
        return;
    }
    lba += 150;
    p[0] = 0;
    p[1] = MIN(lba / 75 / 60, 255u);
    p[2] = lba / 75 % 60;
    p[3] = lba % 75;
}

/* MMC-6, 6.25 */
static void read_toc(struct mmc *c, const uint8_t *cdb, struct mmc_result *r)
{
    bool msf = cdb[1] & 2;
    unsigned format = cdb[2] & 15, from = cdb[6], n = 4;
    uint8_t *d = r->data;
    if (!format)
        format = cdb[9] >> 6; /* where SFF-8020i had it */
    if (format > 2 || (format == 0 && from > 1 && from != 0xaa)) {
        bad_field(c, r);
        return;
    }
    d[2] = d[3] = 1; /* first and last track, or session */
    if (format == 0 && from <= 1) {
        d[n + 1] = 0x14; /* data track */
        d[n + 2] = 1;
        put_address(d + n + 4, 0, msf);
        n += 8;
    }
    if (format == 0) {
        d[n + 1] = 0x14;
        d[n + 2] = 0xaa; /* lead-out */
        put_address(d + n + 4, blocks(c), msf);
        n += 8;
    } else if (format == 1) {
        d[n + 1] = 0x14;
        d[n + 2] = 1;
        put_address(d + n + 4, 0, msf);
        n += 8;
    } else { /* the lead-in's own words: points A0, A1, A2 and the track */
        static const uint8_t points[] = { 0xa0, 0xa1, 0xa2, 0x01 };
        for (unsigned i = 0; i < 4; i++, n += 11) {
            uint8_t address[4] = { 0 };
            d[n] = 1;
            d[n + 1] = 0x14;
            d[n + 3] = points[i];
            if (points[i] == 0xa0 || points[i] == 0xa1)
                d[n + 8] = 1;
            else
                put_address(address, points[i] == 0xa2 ? blocks(c) : 0, true);
            if (address[1] || address[2] || address[3])
                memcpy(d + n + 8, address + 1, 3);
        }
    }
    put16(d, n - 2);
    reply(r, n, get16(cdb + 7));
}

static unsigned feature(uint8_t *d, unsigned code, uint8_t flags, const uint8_t *data, unsigned n)
{
    put16(d, code);
    d[2] = flags; /* version, persistent (2), current (1) */
    d[3] = n;
    memcpy(d + 4, data, n);
    return 4 + n;
}

/* MMC-6, 6.5 */
static void get_configuration(struct mmc *c, const uint8_t *cdb, struct mmc_result *r)
{
    unsigned now = profile(c), n = 8, type = cdb[1] & 3, start = get16(cdb + 2);
    const uint8_t profiles[] = { 0, PROFILE_DVD_ROM, now == PROFILE_DVD_ROM, 0, 0, PROFILE_CD_ROM, now == PROFILE_CD_ROM, 0 };
    static const uint8_t core[] = { 0, 0, 0, 2, 1, 0, 0, 0 }, morphing[] = { 2, 0, 0, 0 }, removable[] = { 0x29, 0, 0, 0 },
                         readable[] = { 0, 0, 8, 0, 0, 1, 1, 0 }, cd_read[] = { 0, 0, 0, 0 }, dvd_read[] = { 0, 0, 0, 0 };
    const struct { uint16_t code; uint8_t flags; const uint8_t *data; uint8_t n; } rows[] = {
        { 0x0000, 0x03, profiles, sizeof(profiles) }, { 0x0001, 0x0b, core, sizeof(core) }, { 0x0002, 0x07, morphing, sizeof(morphing) },
        { 0x0003, 0x03, removable, sizeof(removable) }, { 0x0010, now ? 1 : 0, readable, sizeof(readable) },
        { 0x001e, now == PROFILE_CD_ROM ? 9 : 8, cd_read, sizeof(cd_read) }, { 0x001f, now == PROFILE_DVD_ROM ? 1 : 0, dvd_read, sizeof(dvd_read) },
    };
    if (type == 3) {
        bad_field(c, r);
        return;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        bool wanted = type == 2 ? rows[i].code == start : rows[i].code >= start && (type == 0 || (rows[i].flags & 1));
        if (wanted)
            n += feature(r->data + n, rows[i].code, rows[i].flags, rows[i].data, rows[i].n);
    }
    put32(r->data, n - 4);
    put16(r->data + 6, now);
    reply(r, n, get16(cdb + 7));
}

/* MMC-6, 6.6: polled; of the classes only media events (bit 4). */
static void get_event(struct mmc *c, const uint8_t *cdb, struct mmc_result *r)
{
    if (!(cdb[1] & 1)) { /* asynchronous */
        bad_field(c, r);
        return;
    }
    r->data[3] = 0x10;
    if (!(cdb[4] & 0x10)) {
        put16(r->data, 2);
        r->data[2] = 0x80; /* none of those that are asked for */
        reply(r, 4, get16(cdb + 7));
        return;
    }
    put16(r->data, 6);
    r->data[2] = 4;
    r->data[4] = c->event;
    r->data[5] = (c->removable.open ? 1 : 0) | (mmc_has_medium(c) ? 2 : 0);
    c->event = 0;
    reply(r, 8, get16(cdb + 7));
}

/* MMC-6, 6.21 and 6.26: one finalised session of one data track. */
static void disc_information(struct mmc *c, const uint8_t *cdb, struct mmc_result *r)
{
    if (cdb[1] & 7) {
        bad_field(c, r);
        return;
    }
    put16(r->data, 32);
    r->data[2] = 0x0e; /* last session complete, disc finalised */
    r->data[3] = r->data[4] = r->data[5] = r->data[6] = 1;
    r->data[7] = 0x20; /* unrestricted use */
    memset(r->data + 16, 0xff, 8);
    reply(r, 34, get16(cdb + 7));
}

static void track_information(struct mmc *c, const uint8_t *cdb, struct mmc_result *r)
{
    put16(r->data, 34);
    r->data[2] = r->data[3] = 1;
    r->data[5] = 4; /* data track */
    r->data[6] = 1; /* mode 1 */
    put32(r->data + 24, blocks(c));
    reply(r, 36, get16(cdb + 7));
}

/* MMC-6, 6.22.3.2.1: the physical format. */
static void dvd_structure(struct mmc *c, const uint8_t *cdb, struct mmc_result *r)
{
    if (profile(c) != PROFILE_DVD_ROM || (cdb[1] & 15)) {
        check(c, r, SENSE_ILLEGAL_REQUEST, profile(c) == PROFILE_DVD_ROM ? ASC_FIELD : 0x30, profile(c) == PROFILE_DVD_ROM ? 0 : 2);
        return;
    }
    uint32_t last = blocks(c) - 1;
    switch (cdb[7]) {
    case 0x00:
        put16(r->data, 2048 + 2);
        r->data[4] = 1;    /* DVD-ROM, version 1 */
        r->data[5] = 0x0f; /* 120 mm, no maximum rate */
        r->data[6] = 1;    /* one layer, embossed */
        put32(r->data + 8, 0x30000);
        put32(r->data + 12, 0x30000 + last);
        put32(r->data + 16, 0);
        reply(r, MMC_REPLY_MAX, get16(cdb + 8));
        break;
    case 0x01: /* copyright: none */
        put16(r->data, 6);
        reply(r, 8, get16(cdb + 8));
        break;
    default:
        bad_field(c, r);
    }
}

/* ---- the tray ---- */

static bool set_tray(struct mmc *c, bool open)
{
    if (open && c->removable.locked)
        return false;
    if (c->removable.open != open) {
        removable_guest_moved(&c->removable, open);
        if (!open)
            mmc_medium_changed(c);
    }
    return true;
}

static void start_stop(struct mmc *c, const uint8_t *cdb, struct mmc_result *r)
{
    if (!(cdb[4] & 2) || cdb[4] >> 4) /* only LoEj moves it; power conditions have no effect */
        return;
    if (!set_tray(c, !(cdb[4] & 1)))
        check(c, r, mmc_has_medium(c) ? SENSE_ILLEGAL_REQUEST : SENSE_NOT_READY, ASC_REMOVAL_PREVENTED, 2);
}

static void eject_request(struct removable *removable)
{
    ((struct mmc *)removable)->event = EVENT_EJECT_REQUEST;
}

static void moved(struct removable *removable)
{
    struct mmc *c = (struct mmc *)removable;
    if (removable->open)
        c->event = EVENT_REMOVED;
    else
        mmc_medium_changed(c);
}

static const struct removable_ops ops = { eject_request, moved };

void mmc_medium_changed(struct mmc *c)
{
    if (mmc_has_medium(c)) {
        c->event = EVENT_NEW_MEDIA;
        c->attention = true;
    } else if (c->event == EVENT_NEW_MEDIA || !c->event) {
        c->event = EVENT_REMOVED;
        c->attention = false;
    }
}

/* ---- commands ---- */

static void read_blocks(struct mmc *c, struct mmc_result *r, uint64_t lba, uint64_t n)
{
    uint64_t all = blocks(c);
    if (lba > all || n > all - lba) {
        check(c, r, SENSE_ILLEGAL_REQUEST, ASC_LBA, 0);
        return;
    }
    r->kind = n ? MMC_READ : MMC_GOOD;
    r->offset = lba * MMC_BLOCK;
    r->bytes = n * MMC_BLOCK;
}

/* MMC-6, 6.19: user data alone; headers and subchannels are not in an image. */
static void read_cd(struct mmc *c, const uint8_t *cdb, struct mmc_result *r)
{
    unsigned n = cdb[6] << 16 | get16(cdb + 7);
    if (n && (cdb[9] & 0xf8) != 0x10 && (cdb[9] & 0xf8)) {
        bad_field(c, r);
        return;
    }
    read_blocks(c, r, get32(cdb + 2), cdb[9] & 0xf8 ? n : 0);
}

static void read_capacity(struct mmc *c, const uint8_t *cdb, struct mmc_result *r)
{
    put32(r->data, blocks(c) ? blocks(c) - 1 : 0);
    put32(r->data + 4, MMC_BLOCK);
    reply(r, 8, 8);
}

static void mechanism_status(struct mmc *c, const uint8_t *cdb, struct mmc_result *r)
{
    r->data[1] = c->removable.open ? 0x10 : 0;
    r->data[5] = 1;
    reply(r, 8, get16(cdb + 8));
}

static void request_sense(struct mmc *c, const uint8_t *cdb, struct mmc_result *r)
{
    mmc_sense(c, r->data);
    reply(r, 18, cdb[4]);
}

static void read10(struct mmc *c, const uint8_t *cdb, struct mmc_result *r) { read_blocks(c, r, get32(cdb + 2), get16(cdb + 7)); }
static void read12(struct mmc *c, const uint8_t *cdb, struct mmc_result *r) { read_blocks(c, r, get32(cdb + 2), get32(cdb + 6)); }
static void nothing(struct mmc *c, const uint8_t *cdb, struct mmc_result *r) { }

static void seek10(struct mmc *c, const uint8_t *cdb, struct mmc_result *r)
{
    if (get32(cdb + 2) >= blocks(c))
        check(c, r, SENSE_ILLEGAL_REQUEST, ASC_LBA, 0);
}

static void prevent_removal(struct mmc *c, const uint8_t *cdb, struct mmc_result *r)
{
    c->removable.locked = cdb[4] & 1;
}

static void mode_select(struct mmc *c, const uint8_t *cdb, struct mmc_result *r)
{
    r->kind = MMC_TAKE; /* nothing can be changed */
    r->length = cdb[0] == 0x55 ? get16(cdb + 7) : cdb[4];
}

enum { NEEDS_MEDIUM = 1, HIDES_ATTENTION = 2 /* carried out even so (SPC-4, 5.8.7) */ };
static const struct { uint8_t code, flags; void (*run)(struct mmc *c, const uint8_t *cdb, struct mmc_result *r); } commands[] = {
    { 0x00, NEEDS_MEDIUM, nothing },           /* TEST UNIT READY */
    { 0x03, HIDES_ATTENTION, request_sense },
    { 0x12, HIDES_ATTENTION, inquiry },
    { 0x15, 0, mode_select },
    { 0x1a, 0, mode_sense },
    { 0x1b, 0, start_stop },
    { 0x1e, 0, prevent_removal },
    { 0x25, NEEDS_MEDIUM, read_capacity },
    { 0x28, NEEDS_MEDIUM, read10 },
    { 0x2b, NEEDS_MEDIUM, seek10 },
    { 0x35, 0, nothing },                      /* SYNCHRONIZE CACHE */
    { 0x43, NEEDS_MEDIUM, read_toc },
    { 0x46, HIDES_ATTENTION, get_configuration },
    { 0x4a, HIDES_ATTENTION, get_event },
    { 0x51, NEEDS_MEDIUM, disc_information },
    { 0x52, NEEDS_MEDIUM, track_information },
    { 0x55, 0, mode_select },
    { 0x5a, 0, mode_sense },
    { 0xa8, NEEDS_MEDIUM, read12 },
    { 0xad, NEEDS_MEDIUM, dvd_structure },
    { 0xbb, 0, nothing },                      /* SET CD SPEED */
    { 0xbd, 0, mechanism_status },
    { 0xbe, NEEDS_MEDIUM, read_cd },
};

void mmc_command(struct mmc *c, const uint8_t *cdb, struct mmc_result *r)
{
    *r = (struct mmc_result){ .kind = MMC_GOOD };
    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (commands[i].code != cdb[0])
            continue;
        if (c->attention && !(commands[i].flags & HIDES_ATTENTION)) {
            c->attention = false;
            check(c, r, SENSE_UNIT_ATTENTION, ASC_MEDIUM_CHANGED, 0);
        } else if ((commands[i].flags & NEEDS_MEDIUM) && !mmc_has_medium(c)) {
            check(c, r, SENSE_NOT_READY, ASC_NO_MEDIUM, c->removable.open ? 2 : 1);
        } else {
            if (commands[i].code != 0x03)
                c->key = c->asc = c->ascq = 0;
            commands[i].run(c, cdb, r);
        }
        return;
    }
    check(c, r, SENSE_ILLEGAL_REQUEST, ASC_COMMAND, 0);
}

/* ---- life ---- */

void mmc_init(struct mmc *c, struct device *dev, GMutex *lock, struct block_device *block, const char *product, const char *version)
{
    *c = (struct mmc){ 0 };
    removable_init(&c->removable, dev, lock, block, &ops);
    g_strlcpy(c->product, product, sizeof(c->product));
    g_strlcpy(c->version, version, sizeof(c->version));
}

void mmc_reset(struct mmc *c)
{
    c->key = c->asc = c->ascq = 0;
    c->removable.locked = false;
    c->attention = false;
    c->event = 0;
}
