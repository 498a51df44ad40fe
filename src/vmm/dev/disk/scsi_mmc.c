/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What only CD and DVD drives have (MMC-5, 6): table of contents, features, events, the tray. The medium is one data track. */
#include <string.h>

#include "vmm/dev/disk/scsi_private.h"

enum { BLOCK = 2048, CD_MAX_BLOCKS = 450000 /* 100 minutes; what is larger is a DVD */, LEAD_IN = 150 };
enum { PROFILE_NONE = 0, PROFILE_CD = 8, PROFILE_DVD = 0x10 };
enum { EVENT_NONE = 0, EVENT_EJECT = 1, EVENT_NEW = 2, EVENT_REMOVED = 3 }; /* 6.7.2.3, media events */

static bool medium(const struct scsi_unit *u)
{
    return !u->tray.open && disk_has_medium(u->disk);
}

static unsigned profile(const struct scsi_unit *u)
{
    return !medium(u) ? PROFILE_NONE : scsi_blocks(u) > CD_MAX_BLOCKS ? PROFILE_DVD : PROFILE_CD;
}

static void put_address(uint8_t *p, uint32_t lba, bool msf)
{
    if (!msf) {
        put32(p, lba);
        return;
    }
    lba += LEAD_IN;
    p[0] = 0;
    p[1] = lba / 75 / 60;
    p[2] = lba / 75 % 60;
    p[3] = lba % 75;
}

/* 6.26: the track, and the lead-out behind it. */
static void read_toc(struct scsi_command *c)
{
    uint8_t out[64] = { 0 };
    unsigned format = c->cdb[2] & 15 ? c->cdb[2] & 15 : c->cdb[9] >> 6, first = c->cdb[6];
    bool msf = c->cdb[1] & 2;
    size_t n = 4;
    if (!scsi_need_medium(c))
        return;
    uint32_t end = MIN(scsi_blocks(c->unit), UINT32_MAX);
    out[2] = out[3] = 1;
    switch (format) {
    case 0:
        if (first > 1 && first != 0xaa) {
            scsi_fail(c, SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD);
            return;
        }
        if (first <= 1) {
            out[n + 1] = 0x14; /* data track */
            out[n + 2] = 1;
            put_address(out + n + 4, 0, msf);
            n += 8;
        }
        out[n + 1] = 0x16;
        out[n + 2] = 0xaa;
        put_address(out + n + 4, end, msf);
        n += 8;
        break;
    case 1: /* sessions: one */
        out[n + 1] = 0x14;
        out[n + 2] = 1;
        put_address(out + n + 4, 0, msf);
        n += 8;
        break;
    case 2: /* the whole: first and last track, lead-out, the track */
        for (unsigned i = 0; i < 4; i++, n += 11) {
            static const uint8_t points[] = { 0xa0, 0xa1, 0xa2, 1 };
            out[n] = 1;
            out[n + 1] = i == 2 ? 0x16 : 0x14;
            out[n + 3] = points[i];
            if (i < 2)
                out[n + 8] = 1;
            else
                put_address(out + n + 7, i == 2 ? end : 0, true);
        }
        break;
    default:
        scsi_fail(c, SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD);
        return;
    }
    put16(out, n - 2);
    scsi_answer(c, out, n, be16(c->cdb + 7));
}

/* 5.3: a feature's descriptor; `current` with what is in the drive now. */
static size_t feature(uint8_t *p, unsigned code, unsigned version, bool persistent, bool current, const uint8_t *data, size_t n)
{
    put16(p, code);
    p[2] = version << 2 | persistent << 1 | current;
    p[3] = n;
    if (n)
        memcpy(p + 4, data, n);
    return 4 + n;
}

static void get_configuration(struct scsi_command *c)
{
    const struct scsi_unit *u = c->unit;
    unsigned now = profile(u), only = c->cdb[1] & 3, start = be16(c->cdb + 2);
    uint8_t out[256] = { 0 };
    size_t n = 8;
    const uint8_t profiles[] = { 0, PROFILE_DVD, now == PROFILE_DVD, 0, 0, PROFILE_CD, now == PROFILE_CD, 0 };
    const uint8_t core[] = { 0, 0, 0, u->atapi ? 7 : 1, 1, 0, 0, 0 }; /* physical interface: SCSI, or serial ATAPI */
    const uint8_t removable[] = { 0x39, 0, 0, 0 };           /* tray; eject, lock */
    const uint8_t random[] = { 0, 0, BLOCK >> 8, BLOCK & 0xff, 0, 1, 0, 0 };
    const uint8_t none[4] = { 0 };
    const struct { unsigned code, version; bool persistent, current; const uint8_t *data; size_t n; } features[] = {
        { 0x0000, 0, true, true, profiles, sizeof(profiles) }, { 0x0001, 2, true, true, core, sizeof(core) },
        { 0x0003, 0, true, true, removable, sizeof(removable) }, { 0x0010, 0, false, now != PROFILE_NONE, random, sizeof(random) },
        { 0x001e, 2, false, now == PROFILE_CD, none, 4 }, { 0x001f, 0, false, now == PROFILE_DVD, none, 0 },
    };
    put16(out + 6, now);
    for (unsigned i = 0; i < G_N_ELEMENTS(features); i++) {
        if (features[i].code < start || (only == 1 && !features[i].current) || (only == 2 && features[i].code != start))
            continue;
        n += feature(out + n, features[i].code, features[i].version, features[i].persistent, features[i].current, features[i].data, features[i].n);
    }
    put32(out, n - 4);
    scsi_answer(c, out, n, be16(c->cdb + 7));
}

/* 6.7: only polled, only media events. */
static void get_event(struct scsi_command *c)
{
    struct scsi_unit *u = c->unit;
    uint8_t out[8] = { 0, 0, 0, 0x10 };
    size_t n = 4;
    if (!(c->cdb[1] & 1)) {
        scsi_fail(c, SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD);
        return;
    }
    if (c->cdb[4] & 0x10) {
        out[2] = 4;
        out[4] = u->media_event;
        out[5] = (u->tray.open ? 1 : 0) | (medium(u) ? 2 : 0);
        u->media_event = EVENT_NONE;
        n = 8;
    } else {
        out[2] = 0x80; /* no such class */
    }
    put16(out, n - 2);
    scsi_answer(c, out, n, be16(c->cdb + 7));
}

static void read_disc_information(struct scsi_command *c)
{
    uint8_t out[34] = { 0 };
    if (c->cdb[1] & 7) {
        scsi_fail(c, SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD);
        return;
    }
    if (!scsi_need_medium(c))
        return;
    put16(out, sizeof(out) - 2);
    out[2] = 0x0e; /* complete */
    out[3] = out[4] = out[5] = out[6] = 1;
    out[7] = 0x20;
    scsi_answer(c, out, sizeof(out), be16(c->cdb + 7));
}

static void mechanism_status(struct scsi_command *c)
{
    uint8_t out[8] = { 0, c->unit->tray.open ? 0x10 : 0, 0, 0, 0, 1 };
    scsi_answer(c, out, sizeof(out), be16(c->cdb + 8));
}

/* 6.23: physical format, copyright, manufacturer. */
static void read_dvd_structure(struct scsi_command *c)
{
    uint8_t out[2052] = { 0 };
    size_t n;
    if (!scsi_need_medium(c))
        return;
    uint64_t blocks = scsi_blocks(c->unit);
    if ((c->cdb[1] & 15) || c->cdb[6] || profile(c->unit) != PROFILE_DVD) {
        scsi_fail(c, SCSI_ILLEGAL_REQUEST, profile(c->unit) != PROFILE_DVD ? 0x3002 : SCSI_ASC_INVALID_FIELD);
        return;
    }
    switch (c->cdb[7]) {
    case 0:
        out[4] = 1;    /* DVD-ROM */
        out[5] = 0x0f; /* 120 mm, any rate */
        out[6] = 1;    /* one layer, embossed */
        put24(out + 9, 0x30000);
        put24(out + 13, MIN(0x30000 + blocks - 1, 0xffffff));
        n = 2052;
        break;
    case 1: n = 8; break;
    case 4: n = 2052; break;
    default:
        scsi_fail(c, SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD);
        return;
    }
    put16(out, n - 2);
    scsi_answer(c, out, n, be16(c->cdb + 8));
}

/* READ CD (6.19): user data of the data track and nothing else: as READ (12). */
static void read_cd(struct scsi_command *c)
{
    uint32_t blocks = be32(c->cdb + 5) & 0xffffff, lba = be32(c->cdb + 2);
    unsigned what = c->cdb[9] & 0xf8;
    if (!blocks || !(what | (c->cdb[10] & 7))) {
        scsi_good(c);
        return;
    }
    if (what != 0x10 || (c->cdb[10] & 7)) {
        scsi_fail(c, SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD);
        return;
    }
    memset(c->cdb, 0, sizeof(c->cdb));
    c->cdb[0] = 0xa8;
    put32(c->cdb + 2, lba);
    put32(c->cdb + 6, blocks);
    scsi_execute(c);
}

bool scsi_mmc(struct scsi_command *c)
{
    switch (c->cdb[0]) {
    case 0x43: read_toc(c); break;
    case 0x46: get_configuration(c); break;
    case 0x4a: get_event(c); break;
    case 0x51: read_disc_information(c); break;
    case 0xad: read_dvd_structure(c); break;
    case 0xbb: scsi_good(c); break; /* SET CD SPEED */
    case 0xbd: mechanism_status(c); break;
    case 0xbe: read_cd(c); break;
    default: return false;
    }
    return true;
}

/* ---- the tray ---- */

/* 6.42. LOEJ: the tray; without it the motor, which is all the same. */
void scsi_mmc_start_stop(struct scsi_command *c)
{
    struct scsi_unit *u = c->unit;
    bool start = c->cdb[4] & 1, eject = c->cdb[4] & 2;
    if ((c->cdb[4] & 0xf0) || !eject || u->tray.open == !start) {
        scsi_good(c);
        return;
    }
    if (!start && u->tray.locked) {
        scsi_fail(c, medium(u) ? SCSI_ILLEGAL_REQUEST : SCSI_NOT_READY, SCSI_ASC_REMOVAL_PREVENTED);
        return;
    }
    if (u->tray.dev)
        removable_guest_moved(&u->tray, !start);
    else
        u->tray.open = !start;
    scsi_good(c);
}

/* All with the lock held. */
static struct scsi_unit *of(struct removable *r)
{
    return (struct scsi_unit *)((char *)r - offsetof(struct scsi_unit, tray));
}

static void eject_request(struct removable *r)
{
    of(r)->media_event = EVENT_EJECT;
}

static void moved(struct removable *r)
{
    struct scsi_unit *u = of(r);
    u->media_event = medium(u) ? EVENT_NEW : EVENT_REMOVED;
    if (medium(u))
        u->attention = SCSI_ASC_MEDIUM_CHANGED;
}

void scsi_unit_init_tray(struct scsi_unit *u)
{
    static const struct removable_ops ops = { eject_request, moved };
    removable_init(&u->tray, u->disk->dev, u->disk->lock, u->disk->block, &ops);
}
