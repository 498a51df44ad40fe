/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/core/rng.h"

#include <sys/random.h>

#include "base/error.h"

struct rng_random {
    struct object obj;
    char *filename;
};

static void init(struct object *o)
{
    struct rng_random *r = (struct rng_random *)o;
    r->filename = g_strdup("/dev/urandom");
}

/* Both are the kernel's one generator, which getrandom() reads without a descriptor: such a source can come when the sandbox is closed. Another file could hold a
 * vCPU up. */
static bool complete(struct object *o, GError **error)
{
    static const char *const files[] = { "/dev/urandom", "/dev/random", NULL };
    struct rng_random *r = (struct rng_random *)o;
    return g_strv_contains(files, r->filename) ||
           vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "filename=%s is not available: the source is /dev/urandom or /dev/random", r->filename);
}

static bool builtin_complete(struct object *o, GError **error)
{
    return true;
}

static const struct keyval_key keys[] = {
    { "filename", KV_STRING, offsetof(struct rng_random, filename), "/dev/urandom (default) or /dev/random" },
    { NULL }
};
const struct object_class rng_random_class = { "rng-random", "random numbers of a device file of the host", sizeof(struct rng_random), keys, init,
                                               complete, NULL };
const struct object_class rng_builtin_class = { "rng-builtin", "random numbers of the host's getrandom", sizeof(struct object), NULL, NULL,
                                                builtin_complete, NULL };

struct object *rng_find(const struct machine *m, const char *id, GError **error)
{
    struct object *o = object_find(m, id);
    if (o && (o->class == &rng_random_class || o->class == &rng_builtin_class))
        return o;
    if (o)
        vireo_fail(error, VIREO_ERROR_INVALID, "rng=%s: the object is a %s, no source of random numbers", id, o->class->name);
    else
        vireo_fail(error, VIREO_ERROR_NOT_FOUND, "rng=%s: there is no such object; add -object rng-builtin,id=%s", id, id);
    return NULL;
}

size_t rng_read(G_GNUC_UNUSED struct object *source, void *ret, size_t n)
{
    ssize_t got = getrandom(ret, n, GRND_NONBLOCK);
    return got > 0 ? (size_t)got : 0;
}
