/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "accel/accel.h"

#include <string.h>

#include "base/error.h"

static const struct accel_ops *const accels[] = { &accel_kvm, &accel_jit, NULL };

const struct accel_ops *const *accel_list(void)
{
    return accels;
}

/* The first that runs guests fast; one that would run them slowly only when there is no other. */
static const struct accel_ops *choose(const char *device, char **ret_why, GError **error)
{
    g_autoptr(GString) reasons = g_string_new(NULL);
    const struct accel_ops *slow = NULL;
    for (unsigned i = 0; accels[i]; i++) {
        g_autoptr(GError) why_not = NULL;
        int usable = accels[i]->probe(device, &why_not);
        if (usable == 2) {
            *ret_why = g_strdup_printf("-accel auto: using %s (%s)%s%s", accels[i]->name, accels[i]->help, reasons->len ? "; " : "", reasons->str);
            return accels[i];
        }
        if (usable == 1 && !slow)
            slow = accels[i];
        g_string_append_printf(reasons, "%snot %s: %s", reasons->len ? "; " : "", accels[i]->name,
                               usable == 1 ? "it opens, but the CPU shows neither vmx nor svm, so it would crawl" :
                               why_not ? why_not->message : "not usable");
    }
    if (slow)
        *ret_why = g_strdup_printf("warning: -accel auto: using %s, slowly; %s", slow->name, reasons->str);
    else
        vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "-accel auto: no accelerator runs on this host: %s", reasons->str);
    return slow;
}

const struct accel_ops *accel_find(const char *name, const char *device, char **ret_why, GError **error)
{
    *ret_why = NULL;
    if (!strcmp(name, "auto"))
        return choose(device, ret_why, error);
    for (unsigned i = 0; accels[i]; i++)
        if (!strcmp(accels[i]->name, name) || (!strcmp(name, "tcg") && accels[i] == &accel_jit)) {
            int usable = accels[i]->probe(device, error);
            if (!usable)
                return NULL;
            *ret_why = g_strdup_printf(usable == 1 ? "warning: -accel %s: as asked, though this host's CPU shows neither vmx nor svm: guests will be slow; "
                                                     "-accel jit is faster here" : "-accel %s: as asked", name);
            return accels[i];
        }
    vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "-accel %s: no such accelerator; there are: kvm, jit, auto", name);
    return NULL;
}
