/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "accel/accel.h"

#include <string.h>

#include "base/error.h"

static const struct accel_ops *const accels[] = { &accel_jit, NULL };

const struct accel_ops *const *accel_list(void)
{
    return accels;
}

static const struct accel_ops *choose(char **ret_why, GError **error)
{
    GString *reasons = g_string_new(NULL);
    for (unsigned i = 0; accels[i]; i++) {
        g_autoptr(GError) why_not = NULL;
        if (accels[i]->probe(&why_not) > 0) {
            *ret_why = g_strdup_printf("-accel auto: using %s (%s)", accels[i]->name, accels[i]->help);
            g_string_free(reasons, TRUE);
            return accels[i];
        }
        g_string_append_printf(reasons, "%s%s", reasons->len ? "; " : "", why_not ? why_not->message : "not usable");
    }
    vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "-accel auto: no accelerator runs on this host: %s", reasons->str);
    g_string_free(reasons, TRUE);
    return NULL;
}

const struct accel_ops *accel_find(const char *name, char **ret_why, GError **error)
{
    *ret_why = NULL;
    if (!strcmp(name, "auto"))
        return choose(ret_why, error);
    for (unsigned i = 0; accels[i]; i++)
        if (!strcmp(accels[i]->name, name)) {
            if (accels[i]->probe(error) == 0)
                return NULL;
            *ret_why = g_strdup_printf("-accel %s: as asked", name);
            return accels[i];
        }
    vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "-accel %s: no such accelerator; there are: jit, auto", name);
    return NULL;
}
