/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Back ends for sound. A WAV file has the format of what is played first; what comes later in another one is brought to it: nearest
 * sample, channels repeated or left out. Its header is right after each flush, however the process ends.
 */
#include "vmm/dev/audio/audiodev.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fdset.h"
#include "base/keyval.h"
#include "base/log.h"
#include "vmm/core/machine.h"

enum { HEADER = 44, MAX_KEPT = 4 << 20 /* bytes */ };
enum { NONE, WAV };

struct audiodev {
    char *id, *path;
    int driver, fd;
    GMutex lock;
    struct audio_format format; /* of the file; rate 0: nothing was played yet */
    GByteArray *kept;
    uint64_t written;           /* bytes of samples in the file */
    uint64_t phase;             /* of the conversion of rates */
    bool failed;
};

/* ---- the file ---- */

static void put(uint8_t *to, uint32_t v, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        to[i] = (uint8_t)(v >> 8 * i);
}

/* RIFF/WAVE with PCM samples ("Multimedia Programming Interface and Data Specifications 1.0"). */
static void make_header(const struct audiodev *a, uint8_t h[HEADER])
{
    const struct audio_format *f = &a->format;
    uint32_t frame = f->channels * f->bits / 8, size = (uint32_t)MIN(a->written, UINT32_MAX - HEADER);
    memcpy(h, "RIFF    WAVEfmt ", 16);
    put(h + 4, size + HEADER - 8, 4);
    put(h + 16, 16, 4);
    put(h + 20, 1, 2);
    put(h + 22, f->channels, 2);
    put(h + 24, f->rate, 4);
    put(h + 28, f->rate * frame, 4);
    put(h + 32, frame, 2);
    put(h + 34, f->bits, 2);
    memcpy(h + 36, "data", 4);
    put(h + 40, size, 4);
}

static bool write_at(const struct audiodev *a, off_t at, const uint8_t *data, size_t n)
{
    if (lseek(a->fd, at, SEEK_SET) < 0)
        return false;
    while (n) {
        ssize_t done = write(a->fd, data, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        data += done;
        n -= (size_t)done;
    }
    return true;
}

static void flush_locked(struct audiodev *a)
{
    uint8_t header[HEADER];
    if (a->fd < 0 || !a->kept->len || a->failed)
        return;
    bool ok = write_at(a, (off_t)(HEADER + a->written), a->kept->data, a->kept->len);
    a->written += ok ? a->kept->len : 0;
    g_byte_array_set_size(a->kept, 0);
    make_header(a, header);
    if (ok && write_at(a, 0, header, sizeof(header)))
        return;
    a->failed = true;
    log_warn("-audiodev wav,id=%s: cannot write '%s': %s; no more sound is written", a->id, a->path, g_strerror(errno));
}

void audiodev_flush(struct audiodev *a)
{
    if (!a)
        return;
    g_mutex_lock(&a->lock);
    flush_locked(a);
    g_mutex_unlock(&a->lock);
}

/* ---- samples ---- */

/* One channel's sample as 32 bits, and back. */
static int32_t sample_get(const uint8_t *p, unsigned bits)
{
    return bits == 8 ? (int32_t)((uint32_t)(*p ^ 0x80) << 24) : bits == 16 ? (int32_t)((uint32_t)(p[0] | p[1] << 8) << 16)
                     : (int32_t)(p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24);
}

static void sample_put(GByteArray *to, int32_t v, unsigned bits)
{
    uint8_t raw[4];
    put(raw, bits == 8 ? ((uint32_t)v >> 24) ^ 0x80 : (uint32_t)v >> (32 - bits), bits / 8);
    g_byte_array_append(to, raw, bits / 8);
}

static void convert(struct audiodev *a, const struct audio_format *f, const uint8_t *frames, size_t n)
{
    unsigned frame = f->channels * f->bits / 8;
    for (size_t i = 0; i < n; i++) {
        for (a->phase += a->format.rate; a->phase >= f->rate; a->phase -= f->rate)
            for (unsigned c = 0; c < a->format.channels; c++)
                sample_put(a->kept, sample_get(frames + i * frame + c % f->channels * (f->bits / 8), f->bits), a->format.bits);
    }
}

void audiodev_write(struct audiodev *a, const struct audio_format *f, const void *frames, size_t bytes)
{
    if (!a || a->driver == NONE || !f->channels || !f->bits || !f->rate)
        return;
    g_mutex_lock(&a->lock);
    if (!a->format.rate)
        a->format = *f;
    if (a->kept->len > MAX_KEPT || a->failed)
        ; /* the file is too slow: lost */
    else if (!memcmp(f, &a->format, sizeof(*f)))
        g_byte_array_append(a->kept, frames, (guint)bytes);
    else
        convert(a, f, frames, bytes / (f->channels * f->bits / 8));
    g_mutex_unlock(&a->lock);
}

/* ---- options ---- */

static const char *const drivers[] = { "none", "wav", NULL };
static const char *const missing[] = { "alsa", "coreaudio", "dbus", "dsound", "jack", "oss", "pa", "pipewire", "sdl", "sndio", "spice", NULL };

struct audio_opts { char *id, *driver, *path; };
#define O(member) offsetof(struct audio_opts, member)
static const struct keyval_key keys[] = {
    { "id", KV_STRING, O(id), "name of the back end" },
    { "driver", KV_STRING, O(driver), "none or wav" },
    { "path", KV_STRING, O(path), "file of the driver wav" },
    { "timer-period", KV_IGNORED },
    { "in.mixing-engine", KV_IGNORED }, { "in.fixed-settings", KV_IGNORED }, { "in.frequency", KV_IGNORED }, { "in.channels", KV_IGNORED },
    { "in.voices", KV_IGNORED }, { "in.format", KV_IGNORED }, { "in.buffer-length", KV_IGNORED },
    { "out.mixing-engine", KV_IGNORED }, { "out.fixed-settings", KV_IGNORED }, { "out.frequency", KV_IGNORED }, { "out.channels", KV_IGNORED },
    { "out.voices", KV_IGNORED }, { "out.format", KV_IGNORED }, { "out.buffer-length", KV_IGNORED },
    { NULL }
};

static bool check(struct machine *m, const struct audio_opts *o, GError **error)
{
    if (!o->driver || !o->id || !*o->id)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter '%s' is missing", o->driver ? "id" : "driver");
    if (g_strv_contains(missing, o->driver))
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "the audio driver '%s' is not there; there are: none, wav", o->driver);
    if (!g_strv_contains(drivers, o->driver))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'driver' does not accept value '%s'; there are: none, wav", o->driver);
    if (o->path && strcmp(o->driver, "wav"))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'path' belongs to the driver wav");
    if (m->audiodevs && g_hash_table_contains(m->audiodevs, o->id))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Duplicate ID '%s' for audiodev", o->id);
    return true;
}

static void destroy(void *opaque)
{
    struct audiodev *a = opaque;
    flush_locked(a);
    if (a->fd >= 0)
        close(a->fd);
    g_byte_array_unref(a->kept);
    g_mutex_clear(&a->lock);
    g_free(a->id);
    g_free(a->path);
    g_free(a);
}

static bool make(struct machine *m, const struct audio_opts *o, GError **error)
{
    bool wav = !strcmp(o->driver, "wav");
    const char *path = o->path ? o->path : "qemu.wav";
    int fd = wav ? fdset_open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644) : -1;
    if (wav && fd < 0)
        return vireo_fail(error, VIREO_ERROR_IO, "cannot open '%s': %s", path, g_strerror(errno));
    struct audiodev *a = g_new0(struct audiodev, 1);
    *a = (struct audiodev){ .id = g_strdup(o->id), .path = g_strdup(path), .driver = wav ? WAV : NONE, .fd = fd, .kept = g_byte_array_new() };
    g_mutex_init(&a->lock);
    if (!m->audiodevs) {
        m->audiodevs = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, destroy);
        m->default_audiodev = a;
    }
    g_hash_table_insert(m->audiodevs, a->id, a);
    return true;
}

bool audiodev_open(struct machine *m, const struct keyval *kv, GError **error)
{
    struct audio_opts o = { 0 };
    bool ok = keyval_load(kv, keys, &o, error) && check(m, &o, error) && make(m, &o, error);
    g_free(o.id);
    g_free(o.driver);
    g_free(o.path);
    return ok;
}

struct audiodev *audiodev_find(struct machine *m, const char *id, GError **error)
{
    if (!id)
        return m->default_audiodev;
    struct audiodev *a = m->audiodevs ? g_hash_table_lookup(m->audiodevs, id) : NULL;
    if (!a)
        vireo_fail(error, VIREO_ERROR_NOT_FOUND, "audiodev '%s' not found; put -audiodev none,id=%s on the command line", id, id);
    return a;
}
