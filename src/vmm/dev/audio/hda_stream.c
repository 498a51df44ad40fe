/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stream DMA (4.5): positions move as the virtual clock does, through the entries of the buffer descriptor list. After a pause of the
 * host's (50 ms) a stream does not jump: time that nobody could use is left out.
 */
#include "vmm/dev/audio/hda.h"

#include <string.h>

enum { ENTRY = 16, PIECE = 4096, MAX_PIECES = 4096, MAX_LAG_NS = 50000000, MIN_TICK_NS = 1000000, MAX_TICK_NS = 10000000 };
#define SECOND 1000000000ull

/* 3.7.1 */
static struct audio_format format_of(uint16_t fmt)
{
    static const uint8_t bits[8] = { 8, 16, 32, 32, 32, 16, 16, 16 };
    unsigned times = MIN(fmt >> 11 & 7, 3) + 1, by = (fmt >> 8 & 7) + 1;
    return (struct audio_format){ (fmt & 0x4000 ? 44100 : 48000) * times / by, (fmt & 15) + 1u, bits[fmt >> 4 & 7] };
}

static unsigned frame_size(const struct audio_format *f) { return f->channels * f->bits / 8; }
static bool is_output(unsigned i) { return i >= HDA_INPUTS; }
static uint64_t frames_in(uint64_t ns, unsigned rate) { return ns / SECOND * rate + ns % SECOND * rate / SECOND; }

void hda_stream_start(struct hda *h, unsigned i)
{
    h->sd_begin[i] = vclock_now(h->dev.machine->clock);
    h->sd_frames[i] = 0;
    h->sd_sts[i] |= HDA_STS_READY;
    vtimer_set(h->timer, h->sd_begin[i] + MIN_TICK_NS);
}

void hda_stream_reset(struct hda *h, unsigned i)
{
    h->sd_ctl[i] = h->sd_lpib[i] = h->sd_cbl[i] = h->sd_at[i] = 0;
    h->sd_sts[i] = 0;
    h->sd_lvi[i] = h->sd_fmt[i] = h->sd_entry[i] = 0;
    h->sd_bdl[i] = 0;
}

/* A piece of an entry: to the codecs, or silence from them. */
static bool move(struct hda *h, unsigned i, const struct audio_format *f, uint64_t gpa, uint32_t n)
{
    uint8_t buffer[PIECE];
    struct guest_memory *m = h->dev.machine->memory;
    if (!is_output(i)) {
        memset(buffer, f->bits == 8 ? 0x80 : 0, n);
        return guest_memory_write(m, gpa, buffer, n);
    }
    if (!guest_memory_read(m, gpa, buffer, n))
        return false;
    for (unsigned c = 0; c < HDA_CODECS; c++) {
        if (h->codecs[c])
            hda_codec_play(h->codecs[c], h->sd_ctl[i] >> 20 & 15, f, buffer, n);
    }
    return true;
}

/* One step within the list: at most `due` bytes. How many; 0: an error, or nothing to do. */
static uint32_t step(struct hda *h, unsigned i, const struct audio_format *f, uint64_t due)
{
    uint8_t e[ENTRY];
    if (!guest_memory_read(h->dev.machine->memory, h->sd_bdl[i] + (uint64_t)h->sd_entry[i] * ENTRY, e, sizeof(e))) {
        h->sd_sts[i] |= HDA_STS_DESE;
        return 0;
    }
    uint32_t length = pci_get32(e + 8), left = length > h->sd_at[i] ? length - h->sd_at[i] : 0;
    uint32_t to_end = h->sd_cbl[i] > h->sd_lpib[i] ? h->sd_cbl[i] - h->sd_lpib[i] : left;
    uint32_t n = (uint32_t)MIN(MIN(due, PIECE - PIECE % frame_size(f)), MIN(left, to_end));
    if (n && !move(h, i, f, (pci_get32(e) | (uint64_t)pci_get32(e + 4) << 32) + h->sd_at[i], n)) {
        h->sd_sts[i] |= HDA_STS_DESE;
        return 0;
    }
    h->sd_at[i] += n;
    h->sd_lpib[i] += n;
    if (h->sd_lpib[i] >= h->sd_cbl[i])
        h->sd_lpib[i] = 0;
    if (h->sd_at[i] >= length) {
        if (pci_get32(e + 12) & 1)
            h->sd_sts[i] |= HDA_STS_BCIS;
        h->sd_at[i] = 0;
        h->sd_entry[i] = h->sd_entry[i] >= (h->sd_lvi[i] & 0xff) ? 0 : h->sd_entry[i] + 1;
        return n ? n : UINT32_MAX; /* an empty entry */
    }
    return n;
}

static void write_position(struct hda *h, unsigned i)
{
    uint8_t raw[4];
    pci_set32(raw, h->sd_lpib[i]);
    if ((h->dp_base & 1) && !guest_memory_write(h->dev.machine->memory, (h->dp_base & ~127ull) + 8 * i, raw, sizeof(raw)))
        h->sd_sts[i] |= HDA_STS_DESE;
}

void hda_stream_run(struct hda *h, unsigned i)
{
    if (!(h->sd_ctl[i] & HDA_RUN) || !hda_may_dma(h) || (h->sd_sts[i] & HDA_STS_DESE))
        return;
    struct audio_format f = format_of(h->sd_fmt[i]);
    uint64_t now = vclock_now(h->dev.machine->clock);
    if (h->ssync >> i & 1) { /* held, so that several begin together */
        h->sd_begin[i] = now;
        h->sd_frames[i] = 0;
        return;
    }
    uint64_t due = frames_in(now - h->sd_begin[i], f.rate) - h->sd_frames[i];
    uint64_t most = frames_in(MAX_LAG_NS, f.rate);
    if (due > most) { /* begin anew, that far back */
        h->sd_begin[i] = now - MAX_LAG_NS;
        h->sd_frames[i] = 0;
        due = most;
    }
    h->sd_frames[i] += due;
    due *= frame_size(&f);
    for (unsigned pieces = 0; due && pieces < MAX_PIECES; pieces++) {
        uint32_t n = step(h, i, &f, due);
        if (!n)
            break;
        due -= n == UINT32_MAX ? 0 : n;
    }
    write_position(h, i);
}

uint64_t hda_stream_deadline(const struct hda *h)
{
    uint64_t wait = 0;
    for (unsigned i = 0; i < HDA_STREAMS; i++) {
        if (!(h->sd_ctl[i] & HDA_RUN) || (h->sd_sts[i] & HDA_STS_DESE))
            continue;
        uint8_t e[ENTRY];
        uint64_t ns = MAX_TICK_NS;
        struct audio_format f = format_of(h->sd_fmt[i]);
        if (guest_memory_read(h->dev.machine->memory, h->sd_bdl[i] + (uint64_t)h->sd_entry[i] * ENTRY, e, sizeof(e)) && pci_get32(e + 8) > h->sd_at[i])
            ns = (uint64_t)(pci_get32(e + 8) - h->sd_at[i]) * SECOND / (f.rate * frame_size(&f)) + 20000;
        ns = CLAMP(ns, MIN_TICK_NS, MAX_TICK_NS);
        wait = wait ? MIN(wait, ns) : ns;
    }
    return wait ? vclock_now(h->dev.machine->clock) + wait : 0;
}
