/* SPDX-License-Identifier: GPL-2.0-or-later */
/* -smbios: texts that the machine shows in its SMBIOS tables. They are kept as pairs "TYPE.KEY"; board/smbios.c puts them in. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/keyval.h"
#include "vmm/core/machine.h"
#include "vmm/options.h"

/* What each structure takes (DSP0134, 7.1 to 7.4 and 7.12). */
static const char *const bios_keys[] = { "vendor", "version", "date", "release", "uefi", NULL };
static const char *const system_keys[] = { "manufacturer", "product", "version", "serial", "uuid", "sku", "family", NULL };
static const char *const board_keys[] = { "manufacturer", "product", "version", "serial", "asset", "location", NULL };
static const char *const chassis_keys[] = { "manufacturer", "version", "serial", "asset", "sku", NULL };
static const char *const oem_keys[] = { "value", NULL };
static const struct { const char *type; const char *const *keys; } structures[] = {
    { "0", bios_keys }, { "1", system_keys }, { "2", board_keys }, { "3", chassis_keys }, { "11", oem_keys },
};

/* Does the value fit the key? Control characters have no place in what programs print as a line. */
static bool value_good(const char *key, const char *value, GError **error)
{
    unsigned major, minor;
    int n = 0;
    bool flag;
    for (const char *p = value; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 127)
            return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter '%s' holds a control character", key);
    if (!strcmp(key, "uuid") && !g_uuid_string_is_valid(value))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'uuid' expects xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx, not '%s'", value);
    if (!strcmp(key, "release") && (sscanf(value, "%3u.%3u%n", &major, &minor, &n) != 2 || value[n] || major > 255 || minor > 255))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'release' expects two numbers up to 255, as 1.2, not '%s'", value);
    if (!strcmp(key, "uefi") && (!keyval_bool(key, value, &flag, error) || flag))
        return *error ? false : vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "uefi=on is not available: the machine's firmware is a BIOS");
    return true;
}

bool opt_smbios(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    keyval_auto *kv = keyval_parse(arg, NULL, error);
    if (!kv)
        return false;
    if (keyval_get(kv, "file"))
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "tables cannot be read from a file; give their texts: type=1,serial=TEXT");
    g_autofree char *type = keyval_take(kv, "type");
    const char *const *keys = NULL;
    for (size_t i = 0; type && i < G_N_ELEMENTS(structures); i++)
        keys = strcmp(type, structures[i].type) ? keys : structures[i].keys;
    if (!keys)
        return vireo_fail(error, type ? VIREO_ERROR_UNSUPPORTED : VIREO_ERROR_INVALID, "%s%s; there are the types 0, 1, 2, 3 and 11",
                          type ? "structures cannot be made of type " : "Parameter 'type' is missing", type ? type : "");
    if (!o->config->smbios)
        o->config->smbios = keyval_new();
    for (guint i = 0; i < kv->pairs->len; i++) {
        const struct keyval_pair *p = kv->pairs->pdata[i];
        if (!g_strv_contains(keys, p->key)) {
            g_autofree char *all = g_strjoinv(", ", (char **)keys);
            return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid parameter '%s'; type %s has: %s", p->key, type, all);
        }
        g_autofree char *name = g_strconcat(type, ".", p->key, NULL);
        const char *value = p->value ? p->value : "on";
        if (!value_good(p->key, value, error))
            return false;
        keyval_add(o->config->smbios, name, value);
    }
    return true;
}
