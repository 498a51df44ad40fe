/* SPDX-License-Identifier: GPL-2.0-or-later */
/* INQUIRY (SPC-4, 6.4) and the vital product data (7.8; SBC-3, 6.6). */
#include <string.h>

#include "vmm/dev/disk/scsi_private.h"

enum { EVPD = 1, SERIAL_MAX = 36 };

static void put_text(uint8_t *to, size_t n, const char *text)
{
    memset(to, ' ', n);
    memcpy(to, text, MIN(n, strlen(text)));
}

static size_t standard(const struct scsi_unit *u, uint8_t *out)
{
    out[0] = u->cd ? 5 : 0;
    out[1] = u->cd || u->removable_medium ? 0x80 : 0;
    out[2] = 5; /* SPC-3 */
    out[3] = 0x12; /* HISUP, format 2 */
    out[4] = 36 - 5;
    out[7] = 0x02; /* CMDQUE */
    put_text(out + 8, 8, u->vendor);
    put_text(out + 16, 16, u->product);
    put_text(out + 32, 4, u->version);
    return 36;
}

/* Designators: the user's text or the serial number, and the name, when there is one. */
static size_t identification(const struct scsi_unit *u, uint8_t *out)
{
    const char *id = u->device_id ? u->device_id : u->serial;
    size_t n = 0;
    if (id && *id) {
        size_t length = MIN(strlen(id), 240u);
        out[n] = 2; /* ASCII; vendor specific, of the unit */
        out[n + 3] = length;
        memcpy(out + n + 4, id, length);
        n += 4 + length;
    }
    if (u->wwn) {
        out[n] = 1; /* binary, NAA */
        out[n + 1] = 3;
        out[n + 3] = 8;
        put64(out + n + 4, u->wwn);
        n += 12;
    }
    return n;
}

static size_t block_limits(const struct scsi_unit *u, uint8_t *p)
{
    const struct disk *d = u->disk;
    uint64_t block = d->logical_block_size;
    p[0] = 1; /* WSNZ */
    put16(p + 2, MIN(d->min_io_size / block, 0xffff));
    put32(p + 4, MIN(u->max_io / block, UINT32_MAX));
    put32(p + 8, d->opt_io_size / block);
    put32(p + 16, u->max_unmap / block);
    put32(p + 20, 255); /* ranges */
    put32(p + 24, MAX(d->discard_granularity / block, 1));
    put64(p + 32, UINT32_MAX); /* WRITE SAME */
    return 0x3c;
}

static size_t page(const struct scsi_unit *u, unsigned which, uint8_t *p)
{
    size_t n = 0;
    switch (which) {
    case 0x00:
        p[n++] = 0x00;
        if (u->serial && *u->serial)
            p[n++] = 0x80;
        p[n++] = 0x83;
        if (!u->cd) {
            p[n++] = 0xb0;
            p[n++] = 0xb1;
            p[n++] = 0xb2;
        }
        return n;
    case 0x80:
        if (!u->serial || !*u->serial)
            return 0;
        n = MIN(strlen(u->serial), (size_t)SERIAL_MAX);
        memcpy(p, u->serial, n);
        return n;
    case 0x83: return identification(u, p);
    case 0xb0: return u->cd ? 0 : block_limits(u, p);
    case 0xb1:
        put16(p, u->rotation_rate);
        return u->cd ? 0 : 0x3c;
    case 0xb2:
        p[1] = 0xe0; /* LBPU, LBPWS, LBPWS10 */
        p[2] = 2;    /* thin */
        return u->cd ? 0 : 4;
    default: return 0;
    }
}

void scsi_inquiry(struct scsi_command *c)
{
    uint8_t out[512] = { 0 };
    uint16_t allocated = be16(c->cdb + 3);
    if (!(c->cdb[1] & EVPD)) {
        if (c->cdb[2])
            scsi_fail(c, SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD);
        else
            scsi_answer(c, out, standard(c->unit, out), allocated);
        return;
    }
    size_t n = page(c->unit, c->cdb[2], out + 4);
    if (!n && c->cdb[2] != 0x83) {
        scsi_fail(c, SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD);
        return;
    }
    out[0] = c->unit->cd ? 5 : 0;
    out[1] = c->cdb[2];
    put16(out + 2, n);
    scsi_answer(c, out, 4 + n, allocated);
}
