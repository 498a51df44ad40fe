/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The domain capabilities document: what a domain on this emulator may have. Rows of a table say which device of the emulator stands
 * behind each value. */
#include <string.h>
#include <unistd.h>

#include "manage/drivers/host/host.h"

/* A value of an enum, there if the emulator has the device (or "+command" the QMP command, or NULL: always). Rows of the same element
 * and enum follow each other. */
static const struct row {
    const char *element, *list, *value, *needs;
} rows[] = {
    { "disk", "diskDevice", "disk", NULL },
    { "disk", "diskDevice", "cdrom", "ide-cd" },
    { "disk", "diskDevice", "floppy", "floppy" },
    { "disk", "bus", "ide", "piix3-ide" },
    { "disk", "bus", "fdc", "isa-fdc" },
    { "disk", "bus", "scsi", "scsi-hd" },
    { "disk", "bus", "virtio", "virtio-blk-pci" },
    { "disk", "bus", "usb", "usb-storage" },
    { "disk", "bus", "sata", "ich9-ahci" },
    { "disk", "model", "virtio", "virtio-blk-pci" },
    { "disk", "model", "virtio-transitional", "virtio-blk-pci-transitional" },
    { "disk", "model", "virtio-non-transitional", "virtio-blk-pci-non-transitional" },
    { "graphics", "type", "vnc", "+query-vnc" },
    { "graphics", "type", "spice", "+query-spice" },
    { "video", "modelType", "vga", "VGA" },
    { "video", "modelType", "cirrus", "cirrus-vga" },
    { "video", "modelType", "qxl", "qxl-vga" },
    { "video", "modelType", "virtio", "virtio-vga" },
    { "video", "modelType", "none", NULL },
    { "video", "modelType", "bochs", "bochs-display" },
    { "video", "modelType", "ramfb", "ramfb" },
    { "hostdev", "mode", "subsystem", "vfio-pci" },
    { "hostdev", "subsysType", "usb", "usb-host" },
    { "hostdev", "subsysType", "pci", "vfio-pci" },
    { "rng", "model", "virtio", "virtio-rng-pci" },
    { "rng", "backendModel", "random", "virtio-rng-pci" },
    { "rng", "backendModel", "builtin", "virtio-rng-pci" },
    { "filesystem", "driverType", "path", "virtio-9p-pci" },
    { "filesystem", "driverType", "virtiofs", "vhost-user-fs-pci" },
    { "tpm", "model", "tpm-tis", "tpm-tis" },
    { "tpm", "model", "tpm-crb", "tpm-crb" },
    { "tpm", "backendModel", "emulator", "tpm-tis" },
    { "redirdev", "bus", "usb", "usb-redir" },
    { "channel", "type", "pty", "virtserialport" },
    { "channel", "type", "unix", "virtserialport" },
    { "channel", "type", "spicevmc", "+query-spice" },
    { "crypto", "model", "virtio", "virtio-crypto-pci" },
};

static bool has(const struct host_emulator *e, const char *needs)
{
    return !needs || (*needs == '+' ? g_hash_table_contains(e->commands, needs + 1) : g_hash_table_contains(e->devices, needs));
}

/* The rows [from, to) of one element. */
static void element(GString *out, const struct host_emulator *e, unsigned from, unsigned to)
{
    bool supported = false;
    for (unsigned i = from; i < to; i++)
        supported |= has(e, rows[i].needs) && (rows[i].needs || strcmp(rows[i].value, "none") != 0);
    if (!supported) {
        g_string_append_printf(out, "    <%s supported='no'/>\n", rows[from].element);
        return;
    }
    g_string_append_printf(out, "    <%s supported='yes'>\n", rows[from].element);
    for (unsigned i = from; i < to;) {
        unsigned end = i;
        g_string_append_printf(out, "      <enum name='%s'>\n", rows[i].list);
        for (; end < to && !strcmp(rows[end].list, rows[i].list); end++)
            if (has(e, rows[end].needs))
                g_string_append_printf(out, "        <value>%s</value>\n", rows[end].value);
        g_string_append(out, "      </enum>\n");
        i = end;
    }
    g_string_append_printf(out, "    </%s>\n", rows[from].element);
}

static void devices(GString *out, const struct host_emulator *e)
{
    g_string_append(out, "  <devices>\n");
    for (unsigned i = 0; i < G_N_ELEMENTS(rows);) {
        unsigned end = i;
        while (end < G_N_ELEMENTS(rows) && !strcmp(rows[end].element, rows[i].element))
            end++;
        element(out, e, i, end);
        i = end;
    }
    g_string_append(out, "  </devices>\n");
}

static void yes_no(GString *out, unsigned indent, const char *name, bool yes)
{
    g_string_append_printf(out, "%*s<%s supported='%s'/>\n", (int)indent, "", name, yes ? "yes" : "no");
}

static void os(GString *out, const struct host_emulator *e)
{
    g_string_append(out, "  <os supported='yes'>\n    <enum name='firmware'/>\n    <loader supported='yes'>\n"
                         "      <enum name='type'>\n        <value>rom</value>\n        <value>pflash</value>\n      </enum>\n"
                         "      <enum name='readonly'>\n        <value>yes</value>\n        <value>no</value>\n      </enum>\n"
                         "      <enum name='secure'>\n        <value>no</value>\n      </enum>\n    </loader>\n  </os>\n");
}

static void cpu(GString *out, const struct host_emulator *e)
{
    static const char *const modes[] = { "host-passthrough", "maximum" };
    g_autofree char *vendor = NULL;
    g_auto(GStrv) features = host_cpu_features(&vendor);
    g_string_append(out, "  <cpu>\n");
    for (unsigned i = 0; i < 2; i++) {
        g_string_append_printf(out, "    <mode name='%s' supported='yes'>\n      <enum name='%sMigratable'>\n        <value>on</value>\n        <value>off</value>\n"
                                    "      </enum>\n    </mode>\n", modes[i], i ? "maximum" : "hostPassthrough");
    }
    g_string_append_printf(out, "    <mode name='host-model' supported='yes'>\n      <model fallback='forbid'>%s</model>\n", host_cpu_model(features));
    if (vendor)
        g_string_append_printf(out, "      <vendor>%s</vendor>\n", vendor);
    g_string_append(out, "    </mode>\n    <mode name='custom' supported='yes'>\n");
    for (unsigned i = 0; i < e->models->len; i++) {
        const struct host_model *m = e->models->pdata[i];
        g_string_append_printf(out, "      <model usable='%s' vendor='unknown'>%s</model>\n", m->usable ? "yes" : "no", m->name);
    }
    g_string_append(out, "    </mode>\n  </cpu>\n");
}

GVariant *host_domain_capabilities(struct manage_call *c, GError **error)
{
    const char *path, *arch, *machine, *virt;
    uint32_t flags;
    g_variant_get(c->args, "(m&sm&sm&sm&su)", &path, &arch, &machine, &virt, &flags);
    if (!manage_check_flags(flags, 0, error))
        return NULL;
    if (virt && strcmp(virt, "kvm") && strcmp(virt, "qemu"))
        return manage_null(error, VIR_ERR_INVALID_ARG, "unknown virttype: %s; there are: kvm, qemu", virt);
    host_emulator_auto *e = host_emulator_get(c->conn->state, path, error);
    if (!e)
        return NULL;
    if (arch && !host_emulator_runs(e, arch))
        return manage_null(error, VIR_ERR_INVALID_ARG, "the emulator '%s' runs guests of the architecture %s, not %s", e->path, e->arch, arch);
    const struct host_machine *m = host_emulator_machine(e, machine);
    if (!m)
        return manage_null(error, VIR_ERR_INVALID_ARG, "the machine '%s' is not supported by emulator '%s'", machine ? machine : "(default)", e->path);
    g_autofree char *escaped = g_markup_escape_text(e->path, -1);
    g_autoptr(GString) out = g_string_new("<domainCapabilities>\n");
    g_string_append_printf(out, "  <path>%s</path>\n  <domain>%s</domain>\n  <machine>%s</machine>\n  <arch>%s</arch>\n  <vcpu max='%u'/>\n", escaped,
                           virt ? virt : "kvm", m->canonical ? m->canonical : m->name, arch ? arch : e->arch, m->max_cpus);
    yes_no(out, 2, "iothreads", true);
    os(out, e);
    cpu(out, e);
    g_string_append(out, "  <memoryBacking supported='yes'>\n    <enum name='sourceType'>\n      <value>file</value>\n      <value>anonymous</value>\n"
                         "      <value>memfd</value>\n    </enum>\n  </memoryBacking>\n");
    devices(out, e);
    g_string_append(out, "  <features>\n");
    yes_no(out, 4, "gic", false);
    yes_no(out, 4, "vmcoreinfo", has(e, "vmcoreinfo"));
    yes_no(out, 4, "genid", has(e, "vmgenid"));
    yes_no(out, 4, "backingStoreInput", true);
    yes_no(out, 4, "backup", has(e, "+blockdev-backup"));
    yes_no(out, 4, "sev", false);
    yes_no(out, 4, "sgx", false);
    yes_no(out, 4, "hyperv", false);
    g_string_append(out, "  </features>\n</domainCapabilities>\n");
    return g_variant_new("(s)", out->str);
}
