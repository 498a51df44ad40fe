/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Object "secret": a passphrase or key that disks and others refer to by its id; the bytes go into the machine's set of secrets. */
#include <string.h>

#include "base/error.h"
#include "base/fdset.h"
#include "base/sandbox.h"
#include "base/secret.h"
#include "vmm/core/machine.h"
#include "vmm/core/object.h"

struct secret_object {
    struct object obj;
    struct secret_options o;
    bool loaded;
};

static bool complete(struct object *obj, GError **error)
{
    struct secret_object *s = (struct secret_object *)obj;
    struct secrets *set = obj->machine->secrets;
    if (s->o.file && !fdset_path(s->o.file) && !sandbox_may_open(s->o.file, error))
        return false;
    GBytes *bytes = secret_load(&s->o, secrets_find, set, error);
    /* Nobody who asks for the object's properties is to see it. */
    if (s->o.data)
        explicit_bzero(s->o.data, strlen(s->o.data));
    g_clear_pointer(&s->o.data, g_free);
    if (!bytes)
        return false;
    secrets_put(set, obj->id, bytes);
    s->loaded = true;
    return true;
}

static void finish(struct object *obj)
{
    if (((struct secret_object *)obj)->loaded)
        secrets_remove(obj->machine->secrets, obj->id);
}

static const struct keyval_key keys[] = {
    { "data", KV_STRING, offsetof(struct secret_object, o.data), "the bytes themselves: others see them in the list of processes" },
    { "file", KV_STRING, offsetof(struct secret_object, o.file), "a file that holds them" },
    { "format", KV_ENUM, offsetof(struct secret_object, o.format), "raw (default) or base64", secret_formats },
    { "iv", KV_STRING, offsetof(struct secret_object, o.iv), "with keyid: the initialization vector, in base64" },
    { "keyid", KV_STRING, offsetof(struct secret_object, o.keyid), "id of the secret of 32 bytes that this one is encrypted with (AES-256-CBC)" },
    { NULL }
};
const struct object_class secret_class = { "secret", "a passphrase or a key", sizeof(struct secret_object), keys, NULL, complete, finish };
