/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Intel High Definition Audio: the controller (hda.c: registers, rings, interrupts; hda_stream.c: DMA of streams) and codecs
 * (hda_codec.c). Section numbers are those of the High Definition Audio Specification, revision 1.0a. The controller's dev.lock covers
 * the codecs too.
 */
#pragma once

#include "vmm/bus/pci.h"
#include "vmm/core/machine.h"
#include "vmm/core/vclock.h"
#include "vmm/dev/audio/audiodev.h"

enum { HDA_INPUTS = 4, HDA_OUTPUTS = 4, HDA_STREAMS = HDA_INPUTS + HDA_OUTPUTS, HDA_CODECS = 15, HDA_NODES = 6 };
enum { HDA_RUN = 2, HDA_STS_BCIS = 4, HDA_STS_FIFOE = 8, HDA_STS_DESE = 16, HDA_STS_READY = 32 };

struct hda;

struct hda_codec { /* "hda-output", "hda-duplex", "hda-micro" */
    struct device dev;
    struct hda *hda;          /* NULL: not attached */
    struct audiodev *audio;   /* NULL: nowhere */
    /* properties */
    char *bus_name, *audiodev;
    uint64_t cad;             /* 4294967295: the first free one */
    bool mixer;
    uint64_t debug;
    bool use_timer;
    /* state, by node */
    uint8_t stream[HDA_NODES], pin[HDA_NODES], power[HDA_NODES], unsolicited[HDA_NODES], eapd[HDA_NODES];
    uint16_t format[HDA_NODES];
};

struct hda {
    struct device dev;
    struct pci_device pci;
    int addr;
    int msi_wanted;
    bool old_msi_addr;
    uint64_t debug;
    struct hda_codec *codecs[HDA_CODECS];
    struct vtimer *timer;
    /* registers (3.3) */
    uint32_t gctl, intctl, told /* interrupts that a message was sent for */;
    uint16_t wakeen, statests;
    uint64_t corb_base, rirb_base, dp_base;
    uint16_t corb_wp, corb_rp, rirb_wp, rint_count;
    uint8_t corb_ctl, corb_sts, rirb_ctl, rirb_sts;
    uint32_t ssync, command, response;
    uint16_t ics;
    uint32_t sd_ctl[HDA_STREAMS], sd_lpib[HDA_STREAMS], sd_cbl[HDA_STREAMS];
    uint8_t sd_sts[HDA_STREAMS];
    uint16_t sd_lvi[HDA_STREAMS], sd_fmt[HDA_STREAMS];
    uint64_t sd_bdl[HDA_STREAMS];
    /* of a running stream: the entry it is at, bytes of it, and frames since the time it began */
    uint16_t sd_entry[HDA_STREAMS];
    uint32_t sd_at[HDA_STREAMS];
    uint64_t sd_begin[HDA_STREAMS], sd_frames[HDA_STREAMS];
};

/* ---- hda.c; lock held ---- */
void hda_update_interrupt(struct hda *h);
bool hda_may_dma(const struct hda *h);

/* ---- hda_stream.c; lock held ---- */
void hda_stream_start(struct hda *h, unsigned i);
void hda_stream_reset(struct hda *h, unsigned i);
/* Moves what is due by the virtual clock. */
void hda_stream_run(struct hda *h, unsigned i);
/* When the timer should look again; 0: nothing runs. */
uint64_t hda_stream_deadline(const struct hda *h);

/* ---- hda_codec.c; lock held ---- */
/* A verb (7.3) with its payload to a node; the response. */
uint32_t hda_codec_command(struct hda_codec *c, unsigned node, uint32_t verb);
void hda_codec_reset(struct hda_codec *c);
/* Frames of the stream with this tag, for those converters that listen to it. */
void hda_codec_play(struct hda_codec *c, unsigned tag, const struct audio_format *f, const void *frames, size_t bytes);
/* The controller behind a device, NULL: it is none. hda.c. */
struct hda *hda_of(struct device *d);
