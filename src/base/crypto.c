/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/crypto.h"

#include <errno.h>
#include <gcrypt.h>
#include <stdint.h>
#include <string.h>
#include <sys/random.h>

void crypto_init(void)
{
    static gsize done;
    if (!g_once_init_enter(&done))
        return;
    /* Who uses the library in this process has set it up, or nobody has. Locked memory is not asked for: keys lie in tables of
     * the ciphers and in the guest's memory as well, and a machine has far more of it than may be locked. */
    if (!gcry_control(GCRYCTL_INITIALIZATION_FINISHED_P)) {
        gcry_check_version(NULL);
        gcry_control(GCRYCTL_DISABLE_SECMEM, 0);
        gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
    }
    g_once_init_leave(&done, 1);
}

void crypto_random(void *to, size_t n)
{
    for (uint8_t *at = to; n;) {
        ssize_t got = getrandom(at, MIN(n, 256), 0);
        if (got < 0 && errno != EINTR)
            g_error("getrandom: %s", g_strerror(errno));
        if (got > 0) {
            at += got;
            n -= (size_t)got;
        }
    }
}

struct wiped {
    void *data;
    size_t n;
};

static void wiped_free(gpointer opaque)
{
    struct wiped *w = opaque;
    crypto_free(w->data, w->n);
    g_free(w);
}

GBytes *crypto_bytes_take(void *data, size_t n)
{
    struct wiped *w = g_new(struct wiped, 1);
    *w = (struct wiped){ data, n };
    return g_bytes_new_with_free_func(data, n, wiped_free, w);
}

void crypto_free(void *data, size_t n)
{
    if (data)
        explicit_bzero(data, n);
    g_free(data);
}
