/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table behind test:///default: the connection, the host, and the objects that are there at the start. */
#include <string.h>

#include "manage/drivers/test/test.h"

#define TEST_VERSION 2 /* of the "hypervisor" */
#define LIBVIRT_VERSION 9000000

/* ---- connection ---- */

static GVariant *connect_open(struct manage_call *c, GError **error)
{
    const char *name;
    uint32_t flags;
    g_variant_get(c->args, "(m&su)", &name, &flags);
    if (c->conn->open)
        return manage_null(error, VIR_ERR_INTERNAL_ERROR, "the connection is open already");
    c->conn->readonly |= (flags & VIR_CONNECT_RO) != 0;
    c->conn->uri = g_strdup("test:///default");
    c->conn->open = true;
    return manage_void();
}

static GVariant *connect_close(struct manage_call *c, GError **error)
{
    c->conn->open = false;
    return manage_void();
}

static GVariant *get_type(struct manage_call *c, GError **error) { return g_variant_new("(s)", "TEST"); }
static GVariant *get_version(struct manage_call *c, GError **error) { return g_variant_new("(t)", (uint64_t)TEST_VERSION); }
static GVariant *get_lib_version(struct manage_call *c, GError **error) { return g_variant_new("(t)", (uint64_t)LIBVIRT_VERSION); }
static GVariant *get_hostname(struct manage_call *c, GError **error) { return g_variant_new("(s)", g_get_host_name()); }
static GVariant *get_uri(struct manage_call *c, GError **error) { return g_variant_new("(s)", c->conn->uri); }
static GVariant *yes(struct manage_call *c, GError **error) { return g_variant_new("(i)", 1); }
static GVariant *max_vcpus(struct manage_call *c, GError **error) { return g_variant_new("(i)", 32); }
static GVariant *free_memory(struct manage_call *c, GError **error) { return g_variant_new("(t)", (uint64_t)3072 * 1024); }
static GVariant *no_devices(struct manage_call *c, GError **error) { return g_variant_new("(i)", 0); }

static GVariant *supports_feature(struct manage_call *c, GError **error)
{
    int feature;
    g_variant_get(c->args, "(i)", &feature);
    return g_variant_new("(i)", feature == 9 || feature == 14 || feature == 16);
}

static GVariant *node_info(struct manage_call *c, GError **error)
{
    return g_variant_new("(stiiiiii)", "i686", (uint64_t)3145728, 16, 1400, 2, 2, 2, 2);
}

static GVariant *no_device_list(struct manage_call *c, GError **error)
{
    return g_variant_new("(@a(s)u)", g_variant_new_array(G_VARIANT_TYPE("(s)"), NULL, 0), 0u);
}

static GVariant *capabilities(struct manage_call *c, GError **error)
{
    return g_variant_new("(s)",
                         "<capabilities>\n\n  <host>\n    <cpu>\n      <arch>i686</arch>\n    </cpu>\n  </host>\n\n  <guest>\n    <os_type>hvm</os_type>\n"
                         "    <arch name='i686'>\n      <wordsize>32</wordsize>\n      <emulator>/usr/bin/test-hv</emulator>\n      <domain type='test'/>\n"
                         "    </arch>\n  </guest>\n\n</capabilities>\n");
}

const struct manage_row test_host_rows[] = {
    { RPC_CONNECT_OPEN, connect_open },
    { RPC_CONNECT_CLOSE, connect_close },
    { RPC_CONNECT_GET_TYPE, get_type },
    { RPC_CONNECT_GET_VERSION, get_version },
    { RPC_CONNECT_GET_LIB_VERSION, get_lib_version },
    { RPC_CONNECT_GET_HOSTNAME, get_hostname },
    { RPC_CONNECT_GET_URI, get_uri },
    { RPC_CONNECT_IS_SECURE, yes },
    { RPC_CONNECT_SUPPORTS_FEATURE, supports_feature },
    { RPC_CONNECT_GET_MAX_VCPUS, max_vcpus },
    { RPC_CONNECT_GET_CAPABILITIES, capabilities },
    { RPC_NODE_GET_INFO, node_info },
    { RPC_NODE_GET_FREE_MEMORY, free_memory },
    { RPC_NODE_NUM_OF_DEVICES, no_devices },
    { RPC_CONNECT_LIST_ALL_NODE_DEVICES, no_device_list },
    { 0, NULL },
};

/* ---- what is there at the start ---- */

static const struct {
    enum test_kind kind;
    const char *xml;
} initial[] = {
    { TEST_DOMAIN,
      "<domain type='test'><name>test</name><uuid>6695eb01-f6a4-8304-79aa-97f2502e193f</uuid><memory unit='KiB'>8388608</memory>"
      "<currentMemory unit='KiB'>2097152</currentMemory><vcpu placement='static'>2</vcpu><os><type arch='i686'>hvm</type><boot dev='hd'/></os>"
      "<clock offset='utc'/><on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash><devices>"
      "<disk type='file' device='disk'><source file='/guest/diskimage1'/><target dev='vda' bus='virtio'/>"
      "<address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></disk>"
      "<interface type='network'><mac address='aa:bb:cc:dd:ee:ff'/><source network='default'/><target dev='testnet0'/>"
      "<address type='pci' domain='0x0000' bus='0x00' slot='0x01' function='0x0'/></interface>"
      "<memballoon model='virtio'><address type='pci' domain='0x0000' bus='0x00' slot='0x02' function='0x0'/></memballoon></devices></domain>" },
    { TEST_NETWORK,
      "<network><name>default</name><uuid>dd8fe884-6c02-601e-7551-cca97df1c5df</uuid><forward mode='nat'/><bridge name='virbr0' stp='on' delay='0'/>"
      "<ip address='192.168.122.1' netmask='255.255.255.0'><dhcp><range start='192.168.122.2' end='192.168.122.254'/></dhcp></ip></network>" },
    { TEST_POOL,
      "<pool type='dir'><name>default-pool</name><uuid>dfe224cb-28fb-8dd0-c4b2-64eb3f0f4566</uuid><capacity unit='bytes'>107374182400</capacity>"
      "<allocation unit='bytes'>0</allocation><available unit='bytes'>107374182400</available><source></source>"
      "<target><path>/default-pool</path></target></pool>" },
    { TEST_INTERFACE, "<interface type='ethernet' name='eth1'><start mode='onboot'/><mac address='aa:bb:cc:dd:ee:ff'/><mtu size='1492'/>"
      "<protocol family='ipv4'><ip address='192.168.0.5' prefix='24'/><route gateway='192.168.0.1'/></protocol></interface>" },
};

static bool start(struct manage_state *s, void **ret_data, GError **error)
{
    struct test *t = g_new0(struct test, 1);
    g_mutex_init(&t->lock);
    for (unsigned i = 0; i < TEST_NKINDS; i++)
        t->objects[i] = g_ptr_array_new();
    *ret_data = t;
    for (unsigned i = 0; i < G_N_ELEMENTS(initial); i++) {
        struct test_object *o = test_define(t, initial[i].kind, initial[i].xml, true, error);
        if (!o)
            return false;
        o->active = true;
        o->started = g_get_monotonic_time();
        if (o->kind == TEST_DOMAIN) {
            o->id = ++t->next_id;
            o->state = VIR_DOMAIN_RUNNING;
            o->reason = VIR_DOMAIN_RUNNING_UNKNOWN;
        }
    }
    return true;
}

static void stop(struct manage_state *s, void *data)
{
    struct test *t = data;
    for (unsigned i = 0; i < TEST_NKINDS; i++) {
        while (t->objects[i]->len)
            test_remove(t, t->objects[i]->pdata[0]);
        g_ptr_array_unref(t->objects[i]);
    }
    g_mutex_clear(&t->lock);
    g_free(t);
}

static const struct manage_row *const more_rows[] = { test_domain_rows, test_domain_list_rows, test_network_rows, test_storage_rows, NULL };
static const struct manage_driver driver = { .name = "test", .rows = test_host_rows, .more_rows = more_rows, .start = start, .stop = stop };
static const struct manage_driver *const drivers[] = { &driver, NULL };
const struct manage_table manage_table_test = { .type = "TEST", .drivers = drivers };
