/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Definitions that become whole, and plans: without a daemon, with vireo-vmm as emulator. */
#include "manage/drivers/domain/command/domain_command.h"
#include "manage/drivers/domain/device/domain_device.h"

#include <string.h>

struct fixture {
    struct manage_services services;
    struct manage_state state;
    struct domain_driver dr;
};

static void init(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    f->state.services = &f->services;
    f->state.vmm = (char *)"/usr/bin/vireo-vmm";
    f->dr.state = &f->state;
    f->dr.state_dir = (char *)"/run/vireo/qemu";
    f->dr.lib_dir = (char *)"/var/lib/vireo/qemu";
}

static struct doc *make(struct fixture *f, const char *devices, GError **error)
{
    init(f);
    g_autofree char *xml = g_strdup_printf("<domain type='qemu'><name>t</name><memory>65536</memory><os><type>hvm</type></os><devices>%s</devices></domain>", devices);
    struct doc *d = doc_parse(&schema_domain, xml, -1, error);
    if (d && !domain_complete(&f->dr, d, error)) {
        doc_free(d);
        return NULL;
    }
    return d;
}

static void test_disk_index(void)
{
    static const struct { const char *name; int index; } rows[] = { { "sda", 0 }, { "vdz", 25 }, { "sdaa", 26 }, { "xvdb", 1 }, { "fda", 0 }, { "sd", -1 }, { "sda1", -1 }, { "nope", -1 }, { "", -1 } };
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
        g_assert_cmpint(domain_disk_index(rows[i].name), ==, rows[i].index);
}

static void test_addresses(void)
{
    struct fixture f;
    g_autoptr(GError) error = NULL;
    doc_auto *d = make(&f, "<disk><source file='/a'/><target dev='vda'/></disk><interface type='user'><model type='virtio'/></interface>", &error);
    g_assert_no_error(error);
    const struct el *r = doc_root(d);
    /* Network cards come before disks; 1 is the first port, one port stays free. */
    g_assert_cmpstr(el_get(r, "devices/interface/address/@bus"), ==, "0x01");
    g_assert_cmpstr(el_get(r, "devices/disk/address/@bus"), ==, "0x03");
    g_assert_cmpstr(el_get(r, "os/type/@machine"), ==, "q35");
    g_autofree char *once = doc_format(d);
    g_assert_true(domain_complete(&f.dr, d, &error));
    g_autofree char *twice = doc_format(d);
    g_assert_cmpstr(once, ==, twice);
}

static void test_live_parts_are_forgotten(void)
{
    struct fixture f;
    g_autoptr(GError) error = NULL;
    doc_auto *d = make(&f, "<disk><source file='/a' index='7'/><target dev='vda'/><alias name='virtio-disk0'/></disk><rng model='virtio'><backend model='builtin'/><alias name='ua-mine'/></rng>"
                       "<interface type='user'><target dev='vnet3'/></interface><serial type='pty'><source path='/dev/pts/4'/></serial>", &error);
    g_assert_no_error(error);
    const struct el *r = doc_root(d);
    g_assert_null(el_get(r, "devices/disk/source/@index"));
    g_assert_null(el_get(r, "devices/disk/alias/@name"));
    g_assert_null(el_get(r, "devices/interface/target/@dev"));
    g_assert_null(el_get(r, "devices/serial/source/@path"));
    g_assert_cmpstr(el_get(r, "devices/rng/alias/@name"), ==, "ua-mine");
}

static void test_find(void)
{
    struct fixture f;
    g_autoptr(GError) error = NULL;
    doc_auto *d = make(&f, "<disk><source file='/a'/><target dev='vda'/></disk><disk><source file='/b'/><target dev='vdb'/></disk>", &error);
    doc_auto *asked = doc_parse_at(&schema_domain, "devices", "<disk><source file='/zzz'/><target dev='vdb'/></disk>", -1, &error);
    g_assert_no_error(error);
    struct el *e = domain_device_find(d, doc_root(asked), NULL, &error);
    g_assert_cmpstr(el_get(e, "source/@file"), ==, "/b");
    g_assert_null(domain_device_find(d, NULL, "net9", &error));
    g_assert_error(error, MANAGE_ERROR, VIR_ERR_DEVICE_MISSING);
}

static void test_plan(void)
{
    struct fixture f;
    struct domain_build b;
    g_autoptr(GError) error = NULL;
    doc_auto *d = make(&f, "<disk><source file='/a,b'/><target dev='vda'/></disk><serial type='file'><source path='/x,y'/></serial>", &error);
    g_assert_no_error(error);
    domain_build_init(&b, NULL, &f.dr, d);
    g_assert_true(domain_build_all(&b, &error));
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    domain_plan_argv(b.plan, argv, fds);
    g_autoptr(GString) all = g_string_new(NULL);
    for (unsigned i = 0; i < argv->len; i++)
        g_string_append_printf(all, "%s\n", (const char *)argv->pdata[i]);
    g_assert_nonnull(strstr(all->str, "\"filename\":\"/a,b\""));
    g_assert_nonnull(strstr(all->str, "file,id=charserial0,path=/x,,y"));
    g_assert_nonnull(strstr(all->str, "\"drive\":\"libvirt-1-format\""));
    domain_build_finish(&b);
}

static void test_twice(void)
{
    struct fixture f;
    g_autoptr(GError) error = NULL;
    g_assert_null(make(&f, "<disk><source file='/a'/><target dev='vda'/></disk><disk><source file='/b'/><target dev='vda'/></disk>", &error));
    g_assert_error(error, MANAGE_ERROR, VIR_ERR_XML_ERROR);
    g_assert_nonnull(strstr(error->message, "'vda'"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/domain/disk-index", test_disk_index);
    g_test_add_func("/domain/addresses", test_addresses);
    g_test_add_func("/domain/live-parts", test_live_parts_are_forgotten);
    g_test_add_func("/domain/find", test_find);
    g_test_add_func("/domain/plan", test_plan);
    g_test_add_func("/domain/twice", test_twice);
    return g_test_run();
}
