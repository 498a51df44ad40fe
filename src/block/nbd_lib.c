/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "block/nbd_lib.h"

#include <dlfcn.h>

#include "base/error.h"
#include "base/sandbox.h"

#define SONAME "libnbd.so.0"

/* Filled once and then constant. */
static struct nbd_lib lib;
static bool loaded;
static GMutex lock;

static bool load_all(GError **error)
{
    void *h = dlopen(SONAME, RTLD_NOW | RTLD_LOCAL);
    if (!h)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "NBD needs the library libnbd (Debian: libnbd0): %s", dlerror());
#define X(name) \
    if (!(lib.name = (__typeof__(lib.name))dlsym(h, "nbd_" #name))) \
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "the library libnbd here has no nbd_" #name ": a newer one is needed");
    NBD_LIB_CALLS(X)
#undef X
    return true;
}

const struct nbd_lib *nbd_lib_load(GError **error)
{
    g_mutex_lock(&lock);
    if (!loaded && (!sandbox_closed() || sandbox_may_open("the library libnbd", error)))
        loaded = load_all(error);
    g_mutex_unlock(&lock);
    return loaded ? &lib : NULL;
}
