/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the host's firmware says of the machine (virsh sysinfo), from the kernel's /sys/class/dmi/id. */
#include <string.h>

#include "manage/drivers/host/host.h"

#define DMI "/sys/class/dmi/id/"

static const struct {
    const char *element, *entry, *file;
} rows[] = {
    { "bios", "vendor", "bios_vendor" }, { "bios", "version", "bios_version" }, { "bios", "date", "bios_date" }, { "bios", "release", "bios_release" },
    { "system", "manufacturer", "sys_vendor" }, { "system", "product", "product_name" }, { "system", "version", "product_version" },
    { "system", "serial", "product_serial" }, { "system", "uuid", "product_uuid" }, { "system", "sku", "product_sku" }, { "system", "family", "product_family" },
    { "baseBoard", "manufacturer", "board_vendor" }, { "baseBoard", "product", "board_name" }, { "baseBoard", "version", "board_version" },
    { "baseBoard", "serial", "board_serial" }, { "baseBoard", "asset", "board_asset_tag" },
    { "chassis", "manufacturer", "chassis_vendor" }, { "chassis", "version", "chassis_version" }, { "chassis", "serial", "chassis_serial" },
    { "chassis", "asset", "chassis_asset_tag" },
};

static char *read_entry(const char *file)
{
    g_autofree char *path = g_strconcat(DMI, file, NULL), *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, NULL) || !*g_strstrip(text))
        return NULL;
    return g_utf8_make_valid(text, -1);
}

static GVariant *get_sysinfo(struct manage_call *c, GError **error)
{
    uint32_t flags;
    g_variant_get_child(c->args, 0, "u", &flags);
    if (!manage_check_flags(flags, 0, error))
        return NULL;
    g_autoptr(GString) out = g_string_new("<sysinfo type='smbios'>\n");
    const char *open = NULL;
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *value = read_entry(rows[i].file);
        if (!value)
            continue;
        if (!open || strcmp(open, rows[i].element)) {
            if (open)
                g_string_append_printf(out, "  </%s>\n", open);
            g_string_append_printf(out, "  <%s>\n", rows[i].element);
            open = rows[i].element;
        }
        g_autofree char *text = g_markup_escape_text(value, -1);
        g_string_append_printf(out, "    <entry name='%s'>%s</entry>\n", rows[i].entry, text);
    }
    if (!open)
        return manage_null(error, VIR_ERR_CONFIG_UNSUPPORTED, "Host SMBIOS information is not available");
    g_string_append_printf(out, "  </%s>\n</sysinfo>\n", open);
    return g_variant_new("(s)", out->str);
}

const struct manage_row host_sysinfo_rows[] = {
    { RPC_CONNECT_GET_SYSINFO, get_sysinfo },
    { 0, NULL },
};
