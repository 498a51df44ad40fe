/* SPDX-License-Identifier: GPL-2.0-or-later */
/* MODE SENSE and MODE SELECT (SPC-4, 6.11 to 6.14) and their pages (SBC-3, 6.4; MMC-5, 7). */
#include <string.h>

#include "vmm/dev/disk/scsi_private.h"

enum { PAGE_ERROR = 0x01, PAGE_CACHE = 0x08, PAGE_CONTROL = 0x0a, PAGE_AUDIO = 0x0e, PAGE_CAPABILITIES = 0x2a, PAGE_ALL = 0x3f };
enum { NOW, CHANGEABLE, DEFAULTS, SAVED }; /* PC */
enum { CACHE_WCE = 4 };

/* Writes the page, or its mask of what can be changed; returns its length, 0: there is none. */
static size_t page(const struct scsi_unit *u, unsigned which, unsigned control, uint8_t *p)
{
    static const struct { uint8_t page, length; bool cd, disk; } pages[] = {
        { PAGE_ERROR, 10, true, true }, { PAGE_CACHE, 18, true, true }, { PAGE_CONTROL, 10, false, true }, { PAGE_AUDIO, 14, true, false },
        { PAGE_CAPABILITIES, 20, true, false },
    };
    unsigned i = 0;
    while (i < G_N_ELEMENTS(pages) && (pages[i].page != which || !(u->cd ? pages[i].cd : pages[i].disk)))
        i++;
    if (i == G_N_ELEMENTS(pages))
        return 0;
    p[0] = which;
    p[1] = pages[i].length;
    if (control == CHANGEABLE) {
        p[2] = which == PAGE_CACHE && !u->cd ? CACHE_WCE : 0;
        return 2 + pages[i].length;
    }
    switch (which) {
    case PAGE_ERROR:
        p[2] = 0x80; /* AWRE */
        p[3] = u->cd ? 0x20 : 0;
        break;
    case PAGE_CACHE:
        p[2] = !u->cd && (control == DEFAULTS ? !u->disk->write_through : disk_has_cache(u->disk)) ? CACHE_WCE : 0;
        break;
    case PAGE_CAPABILITIES:
        p[2] = 0x3b;                                 /* reads CD-R, CD-RW, method 2, DVD-ROM, DVD-R */
        p[4] = 0x7f & ~0x04;                         /* mode 2, multi-session ... as QEMU's guests expect of a drive */
        p[5] = 0xff & ~0x03;
        p[6] = 0x2d | (u->tray.locked ? 2 : 0);      /* tray, eject, lock */
        put16(p + 8, 50 * 176);                      /* speed, kB/s */
        put16(p + 10, 2);
        put16(p + 12, 2048);                         /* buffer, KiB */
        put16(p + 14, 16 * 176);
        break;
    }
    return 2 + pages[i].length;
}

void scsi_mode_sense(struct scsi_command *c)
{
    const struct scsi_unit *u = c->unit;
    bool ten = c->cdb[0] == 0x5a;
    unsigned which = c->cdb[2] & 0x3f, control = c->cdb[2] >> 6;
    uint8_t out[512] = { 0 };
    size_t n = ten ? 8 : 4;
    bool write_protected = !u->cd && u->disk->block && block_read_only(u->disk->block);
    out[ten ? 3 : 2] = (write_protected ? 0x80 : 0) | (u->dpofua && !u->cd ? 0x10 : 0);
    if (control == SAVED) {
        scsi_fail(c, SCSI_ILLEGAL_REQUEST, 0x3900); /* saving is not there */
        return;
    }
    if (!u->cd && !(c->cdb[1] & 8) && disk_has_medium(u->disk)) { /* block descriptor */
        uint64_t blocks = scsi_blocks(u);
        out[ten ? 7 : 3] = 8;
        put32(out + n, blocks > 0xffffff ? 0xffffff : blocks);
        put32(out + n + 4, u->disk->logical_block_size);
        out[n + 4] = 0;
        out[n] = 0; /* density; the number has 24 bits */
        n += 8;
    }
    size_t before = n;
    for (unsigned p = 1; p < PAGE_ALL; p++) {
        if (which == p || which == PAGE_ALL)
            n += page(u, p, control, out + n);
    }
    if ((n == before && which) || (c->cdb[3] && c->cdb[3] != 0xff)) {
        scsi_fail(c, SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD);
        return;
    }
    if (ten)
        put16(out, n - 2);
    else
        out[0] = n - 1;
    scsi_answer(c, out, n, ten ? be16(c->cdb + 7) : c->cdb[4]);
}

/* A page of the driver's: only what can be changed may differ. */
static bool select_page(struct scsi_unit *u, const uint8_t *p, size_t n, bool apply)
{
    uint8_t now[64] = { 0 }, mask[64] = { 0 };
    size_t length = page(u, p[0] & 0x3f, NOW, now);
    if ((p[0] & 0x40) || !length || length != p[1] + 2u || length > n)
        return false;
    (void)page(u, p[0] & 0x3f, CHANGEABLE, mask);
    for (size_t i = 2; i < length; i++) {
        if ((p[i] ^ now[i]) & ~mask[i])
            return false;
    }
    if (apply && (p[0] & 0x3f) == PAGE_CACHE && !u->cd)
        disk_set_cache(u->disk, p[2] & CACHE_WCE);
    return true;
}

void scsi_mode_select(struct scsi_command *c)
{
    bool ten = c->cdb[0] == 0x55;
    uint8_t data[512];
    size_t length = ten ? be16(c->cdb + 7) : c->cdb[4], header = ten ? 8 : 4;
    c->wanted = length;
    if ((c->cdb[1] & 0x11) != 0x10 || length > sizeof(data)) { /* PF without SP */
        scsi_fail(c, SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD);
        return;
    }
    size_t n = scsi_take(c, data, length);
    size_t at = n >= header ? header + (ten ? be16(data + 6) : data[3]) : 0;
    if (length && (n < length || n < header || at > n || (at != header && at != header + 8))) {
        scsi_fail(c, SCSI_ILLEGAL_REQUEST, SCSI_ASC_PARAMETER_LENGTH);
        return;
    }
    for (unsigned apply = 0; apply < 2 && length; apply++) {
        for (size_t i = at; i < n; i += 2 + data[i + 1]) {
            if (n - i < 2 || !select_page(c->unit, data + i, n - i, apply)) {
                scsi_fail(c, SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_PARAMETER);
                return;
            }
        }
    }
    scsi_good(c);
}
