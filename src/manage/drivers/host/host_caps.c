/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The capabilities document: the host, and the guests that its emulator can run. */
#include <string.h>
#include <unistd.h>

#include "manage/core/manage_services.h"
#include "manage/drivers/host/host.h"

#define NODES "/sys/devices/system/node"
#define CPUS "/sys/devices/system/cpu"

static void cells(GString *out, const struct host_topology *t)
{
    static const unsigned page_kib[] = { 4, 2048, 1048576 };
    uint64_t kib = t->memory_kib;
    g_string_append_printf(out, "    <topology>\n      <cells num='1'>\n        <cell id='0'>\n          <memory unit='KiB'>%" G_GUINT64_FORMAT "</memory>\n", kib);
    for (unsigned i = 0; i < G_N_ELEMENTS(page_kib); i++) {
        uint64_t n = i == 0 ? kib / 4 : host_read_number(UINT64_MAX, "/sys/kernel/mm/hugepages/hugepages-%ukB/nr_hugepages", page_kib[i]);
        if (n != UINT64_MAX)
            g_string_append_printf(out, "          <pages unit='KiB' size='%u'>%" G_GUINT64_FORMAT "</pages>\n", page_kib[i], n);
    }
    g_string_append_printf(out, "          <distances>\n            <sibling id='0' value='10'/>\n          </distances>\n          <cpus num='%u'>\n", t->cpus);
    for (unsigned i = 0; i < t->cpus; i++) {
        g_autofree char *path = g_strdup_printf(CPUS "/cpu%u/topology/thread_siblings_list", i), *siblings = NULL;
        if (!g_file_get_contents(path, &siblings, NULL, NULL))
            siblings = g_strdup_printf("%u", i);
        g_string_append_printf(out, "            <cpu id='%u' socket_id='%u' die_id='%u' core_id='%u' siblings='%s'/>\n", i,
                               (unsigned)host_read_number(0, CPUS "/cpu%u/topology/physical_package_id", i), (unsigned)host_read_number(0, CPUS "/cpu%u/topology/die_id", i),
                               (unsigned)host_read_number(i, CPUS "/cpu%u/topology/core_id", i), g_strchomp(siblings));
    }
    g_string_append(out, "          </cpus>\n        </cell>\n      </cells>\n    </topology>\n");
}

static void guest(GString *out, const struct host_emulator *e, const char *arch)
{
    g_string_append_printf(out, "  <guest>\n    <os_type>hvm</os_type>\n    <arch name='%s'>\n      <wordsize>%d</wordsize>\n", arch, strcmp(arch, "i686") ? 64 : 32);
    g_autofree char *path = g_markup_escape_text(e->path, -1);
    g_string_append_printf(out, "      <emulator>%s</emulator>\n", path);
    for (unsigned i = 0; i < e->machines->len; i++) {
        const struct host_machine *m = e->machines->pdata[i];
        if (m->canonical)
            g_string_append_printf(out, "      <machine canonical='%s' maxCpus='%u'>%s</machine>\n", m->canonical, m->max_cpus, m->name);
        else
            g_string_append_printf(out, "      <machine maxCpus='%u'>%s</machine>\n", m->max_cpus, m->name);
    }
    /* kvm: hardware where the host has it, else the translator: the machine chooses. */
    g_string_append(out, "      <domain type='qemu'/>\n      <domain type='kvm'/>\n    </arch>\n    <features>\n      <acpi default='on' toggle='yes'/>\n"
                         "      <apic default='on' toggle='no'/>\n      <cpuselection/>\n      <deviceboot/>\n      <disksnapshot default='on' toggle='no'/>\n"
                         "    </features>\n  </guest>\n\n");
}

GVariant *host_capabilities(struct manage_call *c, GError **error)
{
    host_emulator_auto *e = host_emulator_get(c->conn->state, NULL, error);
    struct host_topology t;
    if (!e)
        return NULL;
    host_topology(&t);
    g_autoptr(GString) out = g_string_new("<capabilities>\n\n  <host>\n");
    g_string_append_printf(out, "    <uuid>%s</uuid>\n    <cpu>\n", manage_services_of(c->conn->state)->host_uuid(c->conn->state));
    host_cpu_xml(out);
    g_string_append(out, "    </cpu>\n    <power_management/>\n");
    g_string_append_printf(out, "    <iommu support='%s'/>\n", access("/sys/kernel/iommu_groups/0", F_OK) == 0 ? "yes" : "no");
    g_string_append(out, "    <migration_features>\n      <live/>\n      <uri_transports>\n        <uri_transport>tcp</uri_transport>\n      </uri_transports>\n    </migration_features>\n");
    cells(out, &t);
    g_string_append(out, "    <secmodel>\n      <model>none</model>\n      <doi>0</doi>\n    </secmodel>\n  </host>\n\n");
    if (host_emulator_runs(e, "i686"))
        guest(out, e, "i686");
    guest(out, e, e->arch);
    g_string_append(out, "</capabilities>\n");
    return g_variant_new("(s)", out->str);
}
