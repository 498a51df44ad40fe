/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Secrets: passphrases and keys that users give by -object secret. One may be encrypted with another one (keyid, iv), so that it
 * can stand on a command line or travel over a control socket. The properties are those of QEMU's object.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "base/keyval.h"

struct secret_options { /* filled by keyval_load; strings are the caller's */
    char *data, *file, *keyid, *iv;
    int format; /* index of secret_formats */
};
enum { SECRET_RAW, SECRET_BASE64 };
extern const char *const secret_formats[];

/* Looks a secret up: a new reference, or NULL with error. */
typedef GBytes *secret_find_fn(void *opaque, const char *id, GError **error);

/* The bytes that the options mean: data or the content of a file (read here), decoded and decrypted. find: for keyid. */
GBytes *secret_load(const struct secret_options *o, secret_find_fn *find, void *opaque, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* A set of secrets: of a machine, or of a tool's --object options. Any thread. */
struct secrets;
struct secrets *secrets_create(void);
void secrets_destroy(struct secrets *s); /* NULL is allowed */
/* The text of an option --object: qom-type, id and the properties. */
bool secrets_add(struct secrets *s, const char *text, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Takes bytes over; another one of this id is replaced. */
void secrets_put(struct secrets *s, const char *id, GBytes *bytes);
void secrets_remove(struct secrets *s, const char *id);
/* A secret_find_fn; opaque is the set. */
GBytes *secrets_find(void *opaque, const char *id, GError **error) G_GNUC_WARN_UNUSED_RESULT;
