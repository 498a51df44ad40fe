/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Codecs: a root, an audio function group, and converters with their pins. Signals pass at full scale: there are no amplifiers, so
 * what the guest plays is what comes out; volume is the guest's own matter.
 */
#include <string.h>

#include "base/error.h"
#include "vmm/dev/audio/hda.h"

enum { AUTO = UINT32_MAX, ROOT = 0, GROUP = 1, VENDOR = 0x1af4 };
/* Widget types (7.3.4.6) */
enum { OUTPUT = 0, INPUT = 1, PIN = 4 };
enum { RATES_16BIT = 0x000201ff /* 16 bits, 8 to 96 kHz */ };
enum { W_STEREO = 1, W_FORMAT = 16, W_UNSOLICITED = 0x80, W_CONNECTIONS = 0x100, W_POWER = 0x400 };
enum { PIN_OUT = 0x10, PIN_IN = 0x20, PIN_PRESENCE = 4 };

struct node {
    uint8_t type, from;  /* from: the node it takes its signal from; 0: none */
    uint32_t pin_caps, config; /* of pins */
};
struct model {
    uint16_t id;
    unsigned nnodes; /* all, root and group included */
    struct node nodes[HDA_NODES];
};

/* Configuration defaults (7.3.3.31): jack at the rear, colour, association and sequence. */
#define LINE_OUT { PIN, 2, PIN_OUT | PIN_PRESENCE, 0x01014010 }
#define SPEAKER { PIN, 2, PIN_OUT | PIN_PRESENCE, 0x90170110 }
#define LINE_IN { PIN, 0, PIN_IN | PIN_PRESENCE, 0x01813020 }
#define MICROPHONE { PIN, 0, PIN_IN | PIN_PRESENCE, 0x01a19020 }
static const struct model output_model = { 0x11, 4, { [2] = { OUTPUT }, LINE_OUT } };
static const struct model duplex_model = { 0x21, 6, { [2] = { OUTPUT }, LINE_OUT, { INPUT, 5 }, LINE_IN } };
static const struct model micro_model = { 0x31, 6, { [2] = { OUTPUT }, SPEAKER, { INPUT, 5 }, MICROPHONE } };

static const struct model *model_of(const struct hda_codec *c) { return c->dev.class->bus_class; }

/* ---- parameters (7.3.4) ---- */

static uint32_t widget_caps(const struct node *n)
{
    uint32_t caps = (uint32_t)n->type << 20 | W_STEREO | W_POWER;
    if (n->type != PIN)
        caps |= W_FORMAT;
    return caps | (n->from ? W_CONNECTIONS : 0) | (n->type == PIN ? W_UNSOLICITED : 0);
}

static uint32_t parameter(const struct hda_codec *c, unsigned node, unsigned id)
{
    const struct model *m = model_of(c);
    const struct node *n = &m->nodes[node];
    bool widget = node > GROUP, converter = widget && n->type != PIN;
    switch (id) {
    case 0x00: return (uint32_t)VENDOR << 16 | m->id;
    case 0x02: return 0x00100101;
    case 0x04: return node == ROOT ? 1 << 16 | 1 : node == GROUP ? 2 << 16 | (m->nnodes - 2) : 0;
    case 0x05: return node == GROUP ? 0x101 : 0;
    case 0x08: return node == GROUP ? 0x808 : 0;
    case 0x09: return widget ? widget_caps(n) : 0;
    case 0x0a: return node == GROUP || converter ? RATES_16BIT : 0;
    case 0x0b: return node == GROUP || converter ? 1 : 0;
    case 0x0c: return widget ? n->pin_caps : 0;
    case 0x0e: return widget && n->from ? 1 : 0;
    case 0x0f: return node != ROOT ? 0x0f : 0;
    default: return 0;
    }
}

/* ---- verbs (7.3.3) ---- */

static uint32_t get(struct hda_codec *c, unsigned node, unsigned verb, unsigned payload)
{
    const struct node *n = &model_of(c)->nodes[node];
    switch (verb) {
    case 0xf00: return parameter(c, node, payload);
    case 0xf02: return payload == 0 ? n->from : 0;
    case 0xf05: return c->power[node] | (uint32_t)c->power[node] << 4;
    case 0xf06: return c->stream[node];
    case 0xf07: return c->pin[node];
    case 0xf08: return c->unsolicited[node];
    case 0xf09: return n->type == PIN && node > GROUP ? 1u << 31 : 0; /* something is plugged in */
    case 0xf0c: return c->eapd[node];
    case 0xf1c: return n->config;
    case 0xf20: return node == GROUP ? (uint32_t)VENDOR << 16 | model_of(c)->id : 0;
    default: return 0;
    }
}

static void set(struct hda_codec *c, unsigned node, unsigned verb, uint8_t payload)
{
    switch (verb) {
    case 0x705: c->power[node] = payload & 7; break;
    case 0x706: c->stream[node] = payload; break;
    case 0x707: c->pin[node] = payload; break;
    case 0x708: c->unsolicited[node] = payload; break;
    case 0x70c: c->eapd[node] = payload; break;
    case 0x7ff: hda_codec_reset(c); break;
    }
}

uint32_t hda_codec_command(struct hda_codec *c, unsigned node, uint32_t verb)
{
    if (node >= model_of(c)->nnodes)
        return 0;
    switch (verb >> 16) { /* verbs of four bits have a payload of sixteen */
    case 0x2: c->format[node] = (uint16_t)verb; return 0;
    case 0xa: return c->format[node];
    case 0x7: set(c, node, verb >> 8, (uint8_t)verb); return 0;
    case 0xf: return get(c, node, verb >> 8, verb & 0xff);
    default: return 0;
    }
}

void hda_codec_reset(struct hda_codec *c)
{
    const struct model *m = model_of(c);
    for (unsigned i = 0; i < HDA_NODES; i++) {
        c->stream[i] = c->power[i] = c->unsolicited[i] = c->eapd[i] = c->pin[i] = 0;
        c->format[i] = 0x31;
        if (m->nodes[i].type == PIN)
            c->pin[i] = m->nodes[i].pin_caps & PIN_OUT ? 0x40 : 0x20;
    }
}

void hda_codec_play(struct hda_codec *c, unsigned tag, const struct audio_format *f, const void *frames, size_t bytes)
{
    const struct model *m = model_of(c);
    for (unsigned i = 2; i < m->nnodes; i++) {
        if (m->nodes[i].type == OUTPUT && tag && c->stream[i] >> 4 == tag)
            audiodev_write(c->audio, f, frames, bytes);
    }
}

/* ---- life ---- */

/* "ID.0" of the controller; without it, the last one. */
static struct hda *find_controller(const struct hda_codec *c)
{
    const GPtrArray *all = c->dev.machine->devices;
    for (unsigned i = all->len; i-- > 0;) {
        struct device *d = g_ptr_array_index(all, i);
        struct hda *h = hda_of(d);
        size_t n = d->id ? strlen(d->id) : 0;
        if (h && (!c->bus_name || (n && !strncmp(c->bus_name, d->id, n) && (!c->bus_name[n] || !strcmp(c->bus_name + n, ".0")))))
            return h;
    }
    return NULL;
}

static bool realize(struct device *d, GError **error)
{
    struct hda_codec *c = (struct hda_codec *)d;
    GError *e = NULL;
    struct hda *h = find_controller(c);
    if (!h)
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "device %s: there is no HDA controller%s%s; put -device ich9-intel-hda before it", d->class->name,
                          c->bus_name ? " " : "", c->bus_name ? c->bus_name : "");
    if (c->mixer)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "device %s: mixer=on is not there: sound passes at full scale, the guest sets its volume", d->class->name);
    if (c->cad == AUTO) {
        for (c->cad = 0; c->cad < HDA_CODECS && h->codecs[c->cad]; c->cad++)
            ;
    }
    if (c->cad >= HDA_CODECS || h->codecs[c->cad])
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: cad=%" G_GUINT64_FORMAT " is %s", d->class->name, c->cad,
                          c->cad < HDA_CODECS ? "already taken" : "too large: the addresses are 0 to 14");
    c->audio = audiodev_find(d->machine, c->audiodev, &e);
    if (e) {
        g_propagate_prefixed_error(error, e, "device %s: ", d->class->name);
        return false;
    }
    c->hda = h;
    d->parent = &h->dev;
    g_mutex_lock(&h->dev.lock);
    hda_codec_reset(c);
    h->codecs[c->cad] = c;
    g_mutex_unlock(&h->dev.lock);
    return true;
}

static void unrealize(struct device *d)
{
    struct hda_codec *c = (struct hda_codec *)d;
    if (!c->hda)
        return;
    g_mutex_lock(&c->hda->dev.lock);
    c->hda->codecs[c->cad] = NULL;
    g_mutex_unlock(&c->hda->dev.lock);
}

static void reset(struct device *d)
{
    struct hda_codec *c = (struct hda_codec *)d;
    if (!c->hda)
        return;
    g_mutex_lock(&c->hda->dev.lock);
    hda_codec_reset(c);
    g_mutex_unlock(&c->hda->dev.lock);
}

#define T struct hda_codec
static const struct device_prop props[] = {
    { "bus", PROP_STRING, offsetof(T, bus_name), .help = "ID.0 of the controller; without it, the last one" },
    { "cad", PROP_UINT, offsetof(T, cad), 0, UINT32_MAX, .def = "4294967295", .help = "address, 0 to 14; 4294967295: the first free one" },
    { "audiodev", PROP_STRING, offsetof(T, audiodev), .help = "id of the -audiodev; without it, the first one" },
    { "mixer", PROP_BOOL, offsetof(T, mixer), .def = "off", .help = "only off" },
    { "use-timer", PROP_BOOL, offsetof(T, use_timer), .def = "on", .help = "accepted: positions always move by the clock" },
    { "debug", PROP_UINT, offsetof(T, debug), 0, UINT32_MAX, .def = "0", .help = "accepted, without effect" },
    { NULL }
};
static const struct device_field fields[] = {
    DEVICE_ARRAY(T, stream), DEVICE_ARRAY(T, pin), DEVICE_ARRAY(T, power), DEVICE_ARRAY(T, unsolicited), DEVICE_ARRAY(T, eapd), DEVICE_ARRAY(T, format),
    { NULL }
};
#define CODEC(id, kind, text, model)                                                                                                           \
    const struct device_class id = { .name = kind, .help = text, .size = sizeof(T), .props = props, .fields = fields, .user_creatable = true,  \
                                     .realize = realize, .reset = reset, .unrealize = unrealize, .bus_class = &model }
CODEC(hda_output_class, "hda-output", "HDA codec: line out", output_model);
CODEC(hda_duplex_class, "hda-duplex", "HDA codec: line out, line in", duplex_model);
CODEC(hda_micro_class, "hda-micro", "HDA codec: speaker, microphone", micro_model);
