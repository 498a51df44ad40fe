/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The protocol against a machine that only remembers what it was asked. */
#include "vmm/net/net.h"
#include "vmm/blockdev/blockdev.h"
#include "vmm/qmp/qmp.h"

#include <string.h>

#include "base/error.h"
#include "base/keyval.h"
#include "block/block.h"
#include "vmm/board/board.h"
#include "vmm/core/chardev.h"
#include "cpu/x86/x86_state.h"
#include "vmm/core/device.h"
#include "vmm/core/hostmem.h"
#include "vmm/core/dirty_log.h"
#include "vmm/core/machine.h"
#include "vmm/core/memory_device.h"
#include "vmm/core/page_sample.h"
#include "vmm/core/plug_slots.h"
#include "vmm/dev/cpu_hotplug.h"
#include "vmm/dev/virtio_devices.h"
#include "vmm/migrate/migrate.h"
#include "vmm/migrate/migrate_snapshot.h"
#include "vmm/options.h"

static struct { const struct chardev_handlers *h; void *opaque; GString *out; size_t accept; int fd /* + 1 */; } line;
static struct { unsigned stops, starts, resets, powerdowns; enum machine_cause shutdown; } asked;

bool chardev_attach(struct chardev *c, const struct chardev_handlers *h, void *opaque, GError **error)
{
    line.h = h;
    line.opaque = opaque;
    return true;
}
void chardev_detach(struct chardev *c) { }
void chardev_receive_ready(struct chardev *c) { }
void chardev_accept_fds(struct chardev *c) { }
int chardev_take_fd(struct chardev *c) { return line.fd - 1; }
void chardev_put_fd(struct chardev *c, int fd) { line.fd = fd + 1; }
bool chardev_can_write(struct chardev *c) { return line.accept > 0; }
const char *chardev_id(const struct chardev *c) { return "c0"; }
const char *chardev_filename(const struct chardev *c) { return "null"; }
bool chardev_frontend_open(const struct chardev *c) { return true; }
bool chardev_busy(const struct chardev *c) { return false; }
static GHashTable *asked_chardev;
static char asked_backend[16];
struct chardev *chardev_open_opts(const char *backend, const char *id, GHashTable *opts, GError **error)
{
    g_strlcpy(asked_backend, backend, sizeof(asked_backend));
    g_clear_pointer(&asked_chardev, g_hash_table_unref);
    asked_chardev = g_hash_table_ref(opts);
    return (struct chardev *)&line;
}
size_t chardev_write(struct chardev *c, const void *data, size_t n)
{
    n = MIN(n, line.accept);
    line.accept -= n;
    g_string_append_len(line.out, data, (gssize)n);
    return n;
}
void machine_add_listener(struct machine *m, struct machine_listener l) { g_array_append_val(m->listeners, l); }
static void emit(struct machine *m, enum machine_event ev, enum machine_cause cause, const struct block_io_error *io)
{
    const struct machine_listener *l = &g_array_index(m->listeners, struct machine_listener, 0);
    l->event(l->opaque, ev, cause, io);
}
const char *machine_state_name(enum machine_state s) { return s == MACHINE_RUNNING ? "running" : "paused"; }
const char *machine_cause_name(enum machine_cause c) { return "host-qmp-quit"; }
void machine_stop(struct machine *m, enum machine_state why)
{
    asked.stops++;
    m->state = why;
    emit(m, EVENT_STOP, CAUSE_NONE, NULL);
}
void machine_start(struct machine *m) { asked.starts++; m->state = MACHINE_RUNNING; }
void machine_request_reset(struct machine *m, enum machine_cause cause) { asked.resets++; }
void machine_request_shutdown(struct machine *m, enum machine_cause cause) { asked.shutdown = cause; }
void machine_request_powerdown(struct machine *m) { asked.powerdowns++; }
bool machine_switch_accel(struct machine *m, const char *name, GError **error)
{
    return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "no accelerator %s", name);
}
static bool log_is_on;
bool dirty_log_start(struct machine *m, GError **error) { return log_is_on = true; }
void dirty_log_stop(struct machine *m) { log_is_on = false; }
uint64_t dirty_log_pages(const GArray *runs) { return 0; }
struct page_sample *page_sample_take(struct machine *m, unsigned per_gib) { return NULL; }
uint64_t page_sample_changed(struct machine *m, const struct page_sample *s) { return 0; }
void page_sample_free(struct page_sample *s) { }
GArray *dirty_log_read(struct machine *m, GError **error)
{
    if (!log_is_on) {
        vireo_fail(error, VIREO_ERROR_FAILED, "off");
        return NULL;
    }
    GArray *a = g_array_new(FALSE, FALSE, sizeof(struct dirty_run));
    struct dirty_run r = { 0x100000000, 3 };
    return g_array_append_val(a, r);
}
void vcpu_get_state(struct vcpu *v, struct x86_state *ret) { memset(ret, 0, sizeof(*ret)); }
bool vcpu_set_state(struct vcpu *v, const struct x86_state *s, GError **error) { return true; }
void vcpu_nmi(struct machine *m, unsigned index) { }
int vcpu_thread_id(struct vcpu *v) { return 1; }
bool migrate_incoming(struct machine *m, const char *uri, GError **error) { return true; }
bool migrate_start(struct machine *m, const char *uri, GError **error) { return true; }
void migrate_cancel(struct machine *m) { }
bool migrate_before_cont(struct machine *m, GError **error) { return true; }
struct json_object *migrate_query(struct machine *m) { return NULL; }
struct json_object *migrate_query_capabilities(struct machine *m) { return json_object_new_array(); }
struct json_object *migrate_query_parameters(struct machine *m) { return NULL; }
bool migrate_set_capability(struct machine *m, const char *name, bool on, GError **error) { return true; }
bool migrate_set_parameters(struct machine *m, struct json_object *members, GError **error) { return true; }
bool migrate_snapshot_save(struct machine *m, const struct migrate_snapshot *s, GError **error) { return true; }
bool migrate_snapshot_load(struct machine *m, const struct migrate_snapshot *s, bool *ret_touched, GError **error) { return true; }
bool migrate_snapshot_delete(struct machine *m, const struct migrate_snapshot *s, GError **error) { return true; }
bool migrate_continue(struct machine *m, const char *state, GError **error) { return true; }
bool virtio_balloon_set_target(struct machine *m, uint64_t bytes, GError **error) { return bytes > 0; }
bool virtio_balloon_actual(struct machine *m, uint64_t *ret, GError **error)
{
    return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "No balloon device has been activated");
}
bool net_open(struct machine *m, const struct keyval *kv, const char *id, GError **error) { return true; }
bool net_close(struct machine *m, const char *id, GError **error) { return true; }
void net_send(struct net_backend *b, const uint8_t *frame, size_t n) { }
void net_set_link(struct net_backend *b, bool up) { }
struct json_object *virtio_net_rx_filter(struct device *d) { return NULL; }
bool virtio_net_announce(struct device *d) { return false; }
const struct accel_ops *const *accel_list(void)
{
    static const struct accel_ops *const none[] = { NULL };
    return none;
}

/* One device class, whose devices are counted. */
static const struct device_prop thing_props[] = { { "size", PROP_UINT, 0, 0, 9, NULL, "3", "how big" }, { "on", PROP_BOOL }, { NULL } };
static const struct device_class thing_class = { .name = "thing", .help = "a thing", .props = thing_props, .user_creatable = true };
static GString *added;
const struct device_class *device_class_find(const char *name) { return strcmp(name, "thing") ? NULL : &thing_class; }
bool device_class_missing(const char *name) { return !strcmp(name, "later"); }
const struct device_class *const *device_class_list(void)
{
    static const struct device_class *const list[] = { &thing_class, NULL };
    return list;
}
const struct device_prop *device_bus_props(const struct device_class *c) { return NULL; }
struct json_object *qmp_query_pci(struct machine *m, struct json_object *args, GError **error) { return json_object_new_array(); }
struct json_object *qmp_pmemsave(struct machine *m, struct json_object *args, GError **error) { return NULL; }
const struct qmp_arg qmp_pmemsave_args[] = { { NULL } };
struct json_object *qmp_dump_guest_memory(struct machine *m, struct json_object *args, GError **error) { return NULL; }
struct json_object *qmp_query_dump(struct machine *m, struct json_object *args, GError **error) { return NULL; }
struct json_object *qmp_query_dump_capability(struct machine *m, struct json_object *args, GError **error) { return NULL; }
const struct qmp_arg qmp_dump_guest_memory_args[] = { { NULL } };
bool qmp_dump_active(const struct machine *m) { return false; }
const struct device_class *device_class_for_user(const struct machine *m, const char *name, GError **error)
{
    const struct device_class *c = device_class_find(name);
    if (!c)
        vireo_fail(error, VIREO_ERROR_NOT_FOUND, "'%s' is not a valid device model name", name);
    return c;
}
struct device *device_add(struct machine *m, const struct device_class *c, const struct keyval *kv, GError **error)
{
    for (guint i = 0; i < kv->pairs->len; i++) {
        const struct keyval_pair *p = kv->pairs->pdata[i];
        g_string_append_printf(added, "%s=%s,", p->key, p->value);
    }
    return NULL;
}
bool device_del(struct machine *m, const char *id, GError **error)
{
    return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Device '%s' not found", id);
}

char *device_path(const struct device *d) { return g_strdup("/machine/peripheral/a"); }
struct device *cpu_hotplug_device(const struct machine *m, unsigned index) { return NULL; }
bool cpu_hotplug_ost(const struct machine *m, unsigned index, uint32_t *event, uint32_t *status)
{
    *event = 1;
    *status = 0;
    return index == 1;
}
struct cpu_place cpu_place_of(const struct machine *m, unsigned index) { return (struct cpu_place){ 0, index, 0 }; }
char *cpu_type_name(const struct machine *m) { return g_strdup("max-x86_64-cpu"); }
bool plug_slot_ost(struct plug_slots *p, unsigned index, uint32_t *ret_event, uint32_t *ret_status) { return false; }
const char *chardev_backend_at(unsigned i) { return i ? NULL : "null"; }

/* Exits: two reasons; the machine's sum includes a vCPU that is gone. */
static const struct accel_exit_reason reasons[] = { { "port-read", "IN" }, { "halt", "HLT" } };
static const struct accel_exit_count counts[] = { { 7, 70 }, { 2, 2000 } };
static const struct accel_exit_count *fake_exits(struct accel_vcpu *v) { return counts; }
static const struct accel_ops counting = { .name = "fake", .exit_reasons = reasons, .nexit_reasons = 2, .vcpu_exits = fake_exits };
const struct accel_exit_count *vcpu_exits(struct vcpu *v) { return counts; }
void machine_sum_exits(struct machine *m, struct accel_exit_count *ret)
{
    ret[0] = (struct accel_exit_count){ 17, 170 };
    ret[1] = counts[1];
}
uint64_t machine_tsc_hz(const struct machine *m) { return 2000000000; }
void vcpu_run_on(struct vcpu *v, void (*fn)(struct vcpu *v, void *opaque), void *opaque) { fn(v, opaque); }
struct accel_vcpu *vcpu_accel(struct vcpu *v) { return NULL; }

const struct option_row option_rows[] = {
    { .help = "a group" }, { "smp", "[cpus=]N[,maxcpus=N]|x-y=1", "vCPUs" }, { "bios", NULL, "not yet" }, { "S", NULL, "paused" }, { 0 }
};
const struct keyval_key *options_machine_keys(void) { return NULL; }
bool option_refused(const struct option_row *row) { return !strcmp(row->name, "bios"); }
static const struct board board_a = { .name = "a", .max_cpus = 9, .hotplug = true };
const struct board *const *board_list(void)
{
    static const struct board *const list[] = { &board_a, NULL };
    return list;
}

/* A tree of one device, `a`, and no objects. */
static struct json_object *get_level(struct device *d, GError **error) { return json_object_new_int(5); }
static bool set_level(struct device *d, struct json_object *value, GError **error)
{
    return json_object_get_int(value) < 9 || vireo_fail(error, VIREO_ERROR_INVALID, "too much");
}
static const struct device_attr tree_attrs[] = { { "level", "int", get_level, set_level }, { "seen", "int", get_level, NULL }, { NULL } };
struct tree { struct device dev; bool on; uint64_t size; char *text; int colour; uint8_t mac[6]; };
static const char *const colours[] = { "red", "green", NULL };
static const struct device_prop tree_props[] = {
    { "on", PROP_BOOL, offsetof(struct tree, on) }, { "size", PROP_SIZE, offsetof(struct tree, size) }, { "text", PROP_STRING, offsetof(struct tree, text) },
    { "colour", PROP_ENUM, offsetof(struct tree, colour), .values = colours }, { "mac", PROP_MAC, offsetof(struct tree, mac) }, { NULL }
};
static const struct device_class tree_class = { .name = "tree", .user_creatable = true, .props = tree_props, .attrs = tree_attrs };
static struct tree tree = { .dev = { .class = &tree_class, .id = (char *)"a", .realized = true }, .on = true, .size = 1ull << 63, .colour = 1, .mac = { 2, 3 } };
struct device *device_find(const struct machine *m, const char *id_or_path)
{
    return !strcmp(id_or_path, "a") || !strcmp(id_or_path, "/machine/peripheral/a") ? &tree.dev : NULL;
}
const struct object_class *object_class_at(unsigned i) { return NULL; }
const struct object_class *object_class_find(const char *name) { return NULL; }
struct object *object_find(const struct machine *m, const char *id) { return NULL; }
struct object *object_create(struct machine *m, const struct keyval *kv, GError **error)
{
    vireo_fail(error, VIREO_ERROR_INVALID, "%s is refused", keyval_get(kv, "qom-type"));
    return NULL;
}
bool object_delete(struct machine *m, const char *id, GError **error) { return vireo_fail(error, VIREO_ERROR_INVALID, "object '%s' not found", id); }
const char *const hostmem_policies[] = { "default", NULL };
uint64_t memory_device_plugged(const struct machine *m) { return 0; }
struct json_object *memory_device_query(const struct machine *m) { return json_object_new_array(); }

struct posted { struct machine *m; char *name; struct json_object *data; };
static gboolean post_it(void *opaque)
{
    struct posted *p = opaque;
    for (guint i = 0; i < p->m->listeners->len; i++) {
        const struct machine_listener *l = &g_array_index(p->m->listeners, struct machine_listener, i);
        l->named(l->opaque, p->name, p->data);
    }
    return G_SOURCE_REMOVE;
}
static void posted_free(void *opaque)
{
    struct posted *p = opaque;
    json_object_put(p->data);
    g_free(p->name);
    g_free(p);
}
void machine_post_event(struct machine *m, const char *name, struct json_object *data)
{
    struct posted p = { m, g_strdup(name), data };
    g_idle_add_full(G_PRIORITY_HIGH, post_it, g_memdup2(&p, sizeof(p)), posted_free);
}
uint64_t vclock_now(const struct vclock *c) { return 0; }
struct later { void (*fn)(void *opaque); void *opaque; };
static gboolean call_it(void *opaque)
{
    struct later *l = opaque;
    l->fn(l->opaque);
    return G_SOURCE_REMOVE;
}
void machine_call_later(struct machine *m, void (*fn)(void *opaque), void *opaque)
{
    struct later l = { fn, opaque };
    g_idle_add_full(G_PRIORITY_DEFAULT, call_it, g_memdup2(&l, sizeof(l)), g_free);
}

static struct qmp *start(struct machine *m)
{
    static struct machine_config config;
    *m = (struct machine){ .config = &config, .state = MACHINE_RUNNING, .chardevs = g_hash_table_new(g_str_hash, g_str_equal),
                           .drives = g_hash_table_new(g_str_hash, g_str_equal), .netdevs = g_hash_table_new(g_str_hash, g_str_equal), .devices = g_ptr_array_new(), .objects = g_ptr_array_new(),
                           .listeners = g_array_new(FALSE, FALSE, sizeof(struct machine_listener)) };
    memset(&asked, 0, sizeof(asked));
    blockdev_create(m);
    line.out = g_string_new(NULL);
    line.accept = 1 << 20;
    struct qmp *q = qmp_create(m, NULL, false, NULL);
    line.h->event(line.opaque, CHARDEV_OPENED);
    return q;
}

static void finish(struct qmp *q, struct machine *m)
{
    struct blockdev *b = m->blockdev;
    blockdev_stop(b);
    while (g_main_context_iteration(NULL, FALSE))
        ;
    qmp_destroy(q);
    blockdev_destroy(b);
    g_assert_null(m->announcements);
    g_assert_cmpuint(m->listeners->len, ==, 0);
    if (m->dirty_rate && m->dirty_rate->measuring)
        g_source_remove(m->dirty_rate->measuring);
    g_free(m->dirty_rate);
    if (m->display)
        m->display_destroy(m->display);
    g_hash_table_destroy(m->chardevs);
    g_hash_table_destroy(m->drives);
    g_hash_table_destroy(m->netdevs);
    g_ptr_array_free(m->devices, TRUE);
    g_ptr_array_free(m->objects, TRUE);
    g_array_free(m->listeners, TRUE);
    g_string_free(line.out, TRUE);
}

static const char *talk(const char *text)
{
    g_string_truncate(line.out, 0);
    line.h->receive(line.opaque, (const uint8_t *)text, strlen(text));
    return line.out->str;
}

#define NEGOTIATE "{\"execute\":\"qmp_capabilities\"}\n"
#define GENERIC(desc) "{\"error\": {\"class\": \"GenericError\", \"desc\": \"" desc "\"}}\r\n"
#define NOT_FOUND(desc) "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"" desc "\"}}\r\n"

static void test_session(void)
{
    struct machine m;
    struct qmp *q = start(&m);
    g_assert_cmpstr(line.out->str, ==, "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 0, \"minor\": 2, \"major\": 7}, \"package\": \"vireo-" VIREO_VERSION
                    "\"}, \"capabilities\": []}}\r\n");
    g_assert_cmpstr(talk("{\"execute\":\"stop\"}"), ==, NOT_FOUND("Expecting capabilities negotiation with 'qmp_capabilities'"));
    g_string_truncate(line.out, 0);
    emit(&m, EVENT_RESUME, CAUSE_NONE, NULL); /* no events before negotiation */
    g_assert_cmpstr(line.out->str, ==, "");
    g_assert_cmpstr(talk("{\"execute\":\"qmp_capabilities\",\"id\":7}"), ==, "{\"return\": {}, \"id\": 7}\r\n");
    g_assert_cmpstr(talk(NEGOTIATE), ==, NOT_FOUND("Capabilities negotiation is already complete, command ignored"));
    const char *both = talk("{\"execute\":\"stop\"}{'execute':'cont','id':{'a':[1,2]}}");
    g_assert_nonnull(strstr(both, "\"event\": \"STOP\"}\r\n{\"return\": {}}\r\n{\"return\": {}, \"id\": {\"a\": [1, 2]}}\r\n"));
    g_assert(asked.stops == 1 && asked.starts == 1);
    g_assert_cmpstr(talk("{\"execute\":"), ==, ""); /* in pieces */
    g_assert_cmpstr(talk("\"quit\"}"), ==, "{\"return\": {}}\r\n");
    g_assert_cmpint(asked.shutdown, ==, CAUSE_HOST_QMP_QUIT);
    g_string_truncate(line.out, 0);
    emit(&m, EVENT_SHUTDOWN, CAUSE_HOST_QMP_QUIT, NULL);
    g_assert_nonnull(strstr(line.out->str, "\"event\": \"SHUTDOWN\", \"data\": {\"guest\": false, \"reason\": \"host-qmp-quit\"}}\r\n"));
    line.h->event(line.opaque, CHARDEV_CLOSED); /* the next client starts anew */
    line.h->event(line.opaque, CHARDEV_OPENED);
    g_assert_cmpstr(talk("{\"execute\":\"stop\"}"), ==, NOT_FOUND("Expecting capabilities negotiation with 'qmp_capabilities'"));
    finish(q, &m);
}

static void test_errors(void)
{
    static const struct { const char *text, *answer; } bad[] = {
        { "{\"execute\":\"foo\"}", NOT_FOUND("The command foo has not been found") },
        { "{\"execute\":\"query-kvm\",\"arguments\":{\"a\":1}}", GENERIC("Parameter 'a' is unexpected") },
        { "{\"execute\":1}", GENERIC("QMP input member 'execute' must be a string") },
        { "[1]", GENERIC("QMP input must be a JSON object") },
        { "{\"execute\":\"stop\",\"arguments\":3}", GENERIC("QMP input member 'arguments' must be an object") },
        { "{\"exec\":\"stop\"}", GENERIC("QMP input member 'exec' is unexpected") },
        { "{\"id\":5}", "{\"id\": 5, \"error\": {\"class\": \"GenericError\", \"desc\": \"QMP input lacks member 'execute'\"}}\r\n" },
        { "{\"a\":}\n", GENERIC("JSON parse error, expecting value") },
        { "}\n", GENERIC("JSON parse error, expecting value") },
        { "xyz junk junk\n", GENERIC("JSON parse error, expecting value") },
    };
    struct machine m;
    struct qmp *q = start(&m);
    talk(NEGOTIATE);
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_assert_cmpstr(talk(bad[i].text), ==, bad[i].answer);
        g_assert_cmpstr(talk("{\"execute\":\"query-target\"}\n"), ==, "{\"return\": {\"arch\": \"x86_64\"}}\r\n"); /* the session goes on */
    }
    g_assert_cmpstr(talk("{\"execute\":\"query-balloon\"}"), ==,
                    "{\"error\": {\"class\": \"DeviceNotActive\", \"desc\": \"No balloon device has been activated\"}}\r\n");
    g_assert_cmpstr(talk("{\"execute\":\"balloon\"}"), ==, GENERIC("Parameter 'value' is missing"));
    g_assert_cmpstr(talk("{\"execute\":\"balloon\",\"arguments\":{\"value\":\"1\"}}"), ==,
                    GENERIC("Invalid parameter type for 'value', expected: integer"));
    g_assert_cmpstr(talk("{\"execute\":\"balloon\",\"arguments\":{\"value\":1}}"), ==, "{\"return\": {}}\r\n");
    g_autofree char *deep = g_strnfill(1000, '[');
    g_assert_cmpstr(talk(deep), ==, GENERIC("JSON nesting depth limit exceeded"));
    talk("\n");
    g_autofree char *filler = g_strnfill(4096, 'x');
    talk("{\"a\":\"");
    unsigned pieces = 0;
    while (!*talk(filler) && pieces < 10000)
        pieces++;
    g_assert_cmpstr(line.out->str, ==, GENERIC("JSON token size limit exceeded"));
    g_assert_cmpuint(pieces, <, 300);
    m.state = MACHINE_GUEST_PANICKED;
    g_assert_cmpstr(talk("\n{\"execute\":\"cont\"}"), ==, GENERIC("Resetting the Virtual Machine is required"));
    finish(q, &m);
}

/* A client that sends and does not read: nothing is read from it until it takes the answers. */
static void test_slow_client(void)
{
    struct machine m;
    struct qmp *q = start(&m);
    talk(NEGOTIATE);
    line.accept = 5;
    g_assert_cmpstr(talk("{\"execute\":\"query-target\"}"), ==, "{\"ret");
    g_assert_cmpuint(line.h->can_receive(line.opaque), ==, 0);
    line.accept = 1000;
    line.h->event(line.opaque, CHARDEV_WRITABLE);
    g_assert_cmpstr(line.out->str, ==, "{\"return\": {\"arch\": \"x86_64\"}}\r\n");
    g_assert_cmpuint(line.h->can_receive(line.opaque), >, 0);
    finish(q, &m);
}

#define ABSENT(desc) "{\"error\": {\"class\": \"DeviceNotFound\", \"desc\": \"" desc "\"}}\r\n"

/* Properties of any JSON type reach the device as text; what is not there is named. */
static void test_devices(void)
{
    struct machine m;
    struct qmp *q = start(&m);
    talk(NEGOTIATE);
    added = g_string_new(NULL);
    g_assert_cmpstr(talk("{\"execute\":\"device_add\",\"arguments\":{\"driver\":\"thing\",\"id\":\"a\",\"size\":7,\"on\":true,\"l\":[1,\"x\"],"
                         "\"o\":{\"p\":\"q\"}}}"), ==, "{\"return\": {}}\r\n");
    g_assert_cmpstr(added->str, ==, "driver=thing,id=a,size=7,on=on,l.0=1,l.1=x,o.p=q,");
    g_assert_cmpstr(talk("{\"execute\":\"device_add\",\"arguments\":{\"driver\":\"thing\",\"size\":null}}"), ==, GENERIC("JSON member 'size' is null"));
    g_assert_cmpstr(talk("{\"execute\":\"device_add\",\"arguments\":{\"driver\":\"nothing\"}}"), ==,
                    GENERIC("'nothing' is not a valid device model name"));
    g_assert_cmpstr(talk("{\"execute\":\"device_add\",\"arguments\":{\"id\":\"a\"}}"), ==, GENERIC("Parameter 'driver' is missing"));
    g_assert_cmpstr(talk("{\"execute\":\"device_add\",\"arguments\":{\"driver\":5}}"), ==,
                    GENERIC("Invalid parameter type for 'driver', expected: string"));
    g_assert_cmpstr(talk("{\"execute\":\"device_del\",\"arguments\":{\"id\":\"b\"}}"), ==, ABSENT("Device 'b' not found"));
    g_assert_cmpstr(talk("{\"execute\":\"device-list-properties\",\"arguments\":{\"typename\":\"later\"}}"), ==, ABSENT("Device 'later' is not there yet"));
    g_assert_cmpstr(talk("{\"execute\":\"device-list-properties\",\"arguments\":{\"typename\":\"thing\"}}"), ==,
                    "{\"return\": [{\"name\": \"size\", \"type\": \"uint64\", \"description\": \"how big\", \"default-value\": 3}, "
                    "{\"name\": \"on\", \"type\": \"bool\"}]}\r\n");
    g_string_truncate(line.out, 0);
    const struct machine_listener *l = &g_array_index(m.listeners, struct machine_listener, 0);
    json_auto *data = json_make("device", json_object_new_string("a"), NULL);
    l->named(l->opaque, "DEVICE_DELETED", data);
    g_assert_nonnull(strstr(line.out->str, "\"event\": \"DEVICE_DELETED\", \"data\": {\"device\": \"a\"}}\r\n"));
    g_string_free(added, TRUE);
    finish(q, &m);
}

/* QEMU's form; filters by vCPU, provider and name. */
static void test_stats(void)
{
    static const struct { const char *args, *answer; } rows[] = {
        { "\"target\":\"vm\"", "[{\"provider\": \"vireo\", \"stats\": [{\"name\": \"port-read-exits\", \"value\": 17}, {\"name\": "
          "\"port-read-time\", \"value\": 85}, {\"name\": \"halt-exits\", \"value\": 2}, {\"name\": \"halt-time\", \"value\": 1000}, "
          "{\"name\": \"exits\", \"value\": 19}]}]" },
        { "\"target\":\"vcpu\",\"providers\":[{\"provider\":\"vireo\",\"names\":[\"halt-time\",\"none\"]}]",
          "[{\"provider\": \"vireo\", \"qom-path\": \"/machine/unattached/device[0]\", \"stats\": [{\"name\": \"halt-time\", \"value\": 1000}]}, "
          "{\"provider\": \"vireo\", \"qom-path\": \"/machine/unattached/device[2]\", \"stats\": [{\"name\": \"halt-time\", \"value\": 1000}]}]" },
        { "\"target\":\"vcpu\",\"vcpus\":[\"/machine/unattached/device[2]\"],\"providers\":[{\"provider\":\"vireo\",\"names\":[\"exits\"]}]",
          "[{\"provider\": \"vireo\", \"qom-path\": \"/machine/unattached/device[2]\", \"stats\": [{\"name\": \"exits\", \"value\": 9}]}]" },
        { "\"target\":\"vcpu\",\"vcpus\":[]", "[]" },
        { "\"target\":\"vm\",\"providers\":[]", "[]" },
        { "\"target\":\"vm\",\"providers\":[{\"provider\":\"kvm\"}]", "[]" },
    };
    static const struct { const char *args, *why; } bad[] = {
        { "\"target\":\"disk\"", "Parameter 'target' does not accept value 'disk'; there are vm and vcpu" },
        { "\"target\":\"vm\",\"vcpus\":[]", "Parameter 'vcpus' is unexpected" },
        { "\"target\":\"vcpu\",\"vcpus\":[1]", "Invalid parameter type for 'vcpus[0]', expected: string" },
        { "\"target\":\"vm\",\"providers\":[{\"provider\":\"x\"}]", "Parameter 'provider' does not accept value 'x'; there are vireo and kvm" },
        { "\"target\":\"vm\",\"providers\":[{}]", "Parameter 'providers[0].provider' is missing" },
        { "\"target\":\"vm\",\"providers\":[{\"provider\":\"kvm\",\"names\":[[]]}]", "Invalid parameter type for 'names[0]', expected: string" },
    };
    struct machine m;
    struct qmp *q = start(&m);
    struct vcpu *vcpus[3] = { (struct vcpu *)1, NULL, (struct vcpu *)2 };
    m.accel_ops = &counting;
    m.vcpus = vcpus;
    m.max_vcpus = 3;
    talk(NEGOTIATE);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *text = g_strdup_printf("{\"execute\":\"query-stats\",\"arguments\":{%s}}", rows[i].args);
        g_autofree char *answer = g_strdup_printf("{\"return\": %s}\r\n", rows[i].answer);
        g_assert_cmpstr(talk(text), ==, answer);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *text = g_strdup_printf("{\"execute\":\"query-stats\",\"arguments\":{%s}}", bad[i].args);
        g_autofree char *answer = g_strdup_printf("{\"error\": {\"class\": \"GenericError\", \"desc\": \"%s\"}}\r\n", bad[i].why);
        g_assert_cmpstr(talk(text), ==, answer);
    }
    const char *schema = talk("{\"execute\":\"query-stats-schemas\",\"arguments\":{\"provider\":\"vireo\"}}");
    g_assert_nonnull(strstr(schema, "{\"provider\": \"vireo\", \"target\": \"vcpu\", \"stats\": [{\"name\": \"port-read-exits\", \"type\": \"cumulative\", "
                                    "\"exponent\": 0}, {\"name\": \"port-read-time\", \"type\": \"cumulative\", \"unit\": \"seconds\", "
                                    "\"base\": 10, \"exponent\": -9}"));
    g_assert_cmpstr(talk("{\"execute\":\"query-stats-schemas\",\"arguments\":{\"provider\":\"kvm\"}}"), ==, "{\"return\": []}\r\n");
    finish(q, &m);
}

/* The tables about the program itself. */
static void test_introspection(void)
{
    struct machine m;
    struct qmp *q = start(&m);
    talk(NEGOTIATE);
    g_assert_cmpstr(talk("{\"execute\":\"query-command-line-options\"}"), ==,
                    "{\"return\": [{\"option\": \"smp-opts\", \"parameters\": [{\"name\": \"cpus\", \"type\": \"string\"}, {\"name\": \"maxcpus\", "
                    "\"type\": \"string\"}, {\"name\": \"x-y\", \"type\": \"string\"}]}, {\"option\": \"S\", \"parameters\": []}]}\r\n");
    g_assert_cmpstr(talk("{\"execute\":\"query-command-line-options\",\"arguments\":{\"option\":\"bios\"}}"), ==, GENERIC("invalid option name: bios"));
    g_assert_nonnull(strstr(talk("{\"execute\":\"query-machines\"}"), "\"cpu-max\": 9"));
    json_auto *schema = json_tokener_parse(talk("{\"execute\":\"query-qmp-schema\"}"));
    struct json_object *list = json_object_object_get(schema, "return");
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        const char *name = json_object_get_string(json_object_object_get(json_object_array_get_idx(list, i), "name"));
        g_assert_true(g_hash_table_add(names, (void *)name)); /* no name twice */
    }
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *type = NULL;
        if (json_object_object_get_ex(json_object_array_get_idx(list, i), "arg-type", &type))
            g_assert_true(g_hash_table_contains(names, json_object_get_string(type)));
    }
    for (const struct qmp_command *c = qmp_commands; c->name; c++)
        g_assert_true(g_hash_table_contains(names, c->name));
    g_assert_cmpstr(talk("{\"execute\":\"human-monitor-command\"}"), ==, NOT_FOUND("The command human-monitor-command is not there yet"));
    finish(q, &m);
}

#define QOM(command, rest) talk("{\"execute\":\"qom-" command "\",\"arguments\":{\"path\":" rest "}}")

static void test_qom(void)
{
    struct machine m;
    struct qmp *q = start(&m);
    talk(NEGOTIATE);
    g_assert_cmpstr(talk("{\"execute\":\"query-command-line-options\"}"), ==,
                    "{\"return\": [{\"option\": \"smp-opts\", \"parameters\": [{\"name\": \"cpus\", \"type\": \"string\"}, {\"name\": \"maxcpus\", "
                    "\"type\": \"string\"}, {\"name\": \"x-y\", \"type\": \"string\"}]}, {\"option\": \"S\", \"parameters\": []}]}\r\n");
    g_assert_cmpstr(talk("{\"execute\":\"query-command-line-options\",\"arguments\":{\"option\":\"bios\"}}"), ==, GENERIC("invalid option name: bios"));
    g_assert_nonnull(strstr(talk("{\"execute\":\"query-machines\"}"), "\"cpu-max\": 9"));
    json_auto *schema = json_tokener_parse(talk("{\"execute\":\"query-qmp-schema\"}"));
    struct json_object *list = json_object_object_get(schema, "return");
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        const char *name = json_object_get_string(json_object_object_get(json_object_array_get_idx(list, i), "name"));
        g_assert_true(g_hash_table_add(names, (void *)name)); /* no name twice */
    }
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *type = NULL;
        if (json_object_object_get_ex(json_object_array_get_idx(list, i), "arg-type", &type))
            g_assert_true(g_hash_table_contains(names, json_object_get_string(type)));
    }
    for (const struct qmp_command *c = qmp_commands; c->name; c++)
        g_assert_true(g_hash_table_contains(names, c->name));
    g_assert_cmpstr(talk("{\"execute\":\"human-monitor-command\"}"), ==, NOT_FOUND("The command human-monitor-command is not there yet"));

    g_ptr_array_add(m.devices, &tree);
    static const struct { const char *name, *value; } values[] = {
        { "on", "true" }, { "size", "9223372036854775808" }, { "text", "\"\"" }, { "colour", "\"green\"" }, { "mac", "\"02:03:00:00:00:00\"" },
        { "level", "5" }, { "type", "\"tree\"" }, { "realized", "true" }, { "hotplugged", "false" },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(values); i++) {
        g_autofree char *ask = g_strdup_printf("{\"execute\":\"qom-get\",\"arguments\":{\"path\":\"/machine/peripheral/a\",\"property\":\"%s\"}}",
                                               values[i].name);
        g_autofree char *answer = g_strdup_printf("{\"return\": %s}\r\n", values[i].value);
        g_assert_cmpstr(talk(ask), ==, answer);
    }
    g_assert_cmpstr(QOM("get", "\"a\",\"property\":\"nothing\""), ==, GENERIC("Property 'tree.nothing' not found"));
    g_assert_cmpstr(QOM("get", "\"/machine/b\",\"property\":\"type\""), ==, ABSENT("Device '/machine/b' not found"));
    g_assert_cmpstr(QOM("set", "\"a\",\"property\":\"level\",\"value\":7"), ==, "{\"return\": {}}\r\n");
    g_assert_cmpstr(QOM("set", "\"a\",\"property\":\"level\",\"value\":70"), ==, GENERIC("too much"));
    g_assert_cmpstr(QOM("set", "\"a\",\"property\":\"seen\",\"value\":70"), ==,
                    GENERIC("Attempt to set property 'seen' on device 'a' (type 'tree') after it was realized"));
    g_assert_cmpstr(QOM("list", "\"/machine/peripheral\""), ==,
                    "{\"return\": [{\"name\": \"type\", \"type\": \"string\"}, {\"name\": \"a\", \"type\": \"child<tree>\"}]}\r\n");
    g_assert_nonnull(strstr(QOM("list", "\"/\""), "{\"name\": \"machine\", \"type\": \"child<container>\"}"));
    g_assert_nonnull(strstr(QOM("list", "\"/machine/\""), "{\"name\": \"peripheral\", \"type\": \"child<container>\"}"));
    g_assert_nonnull(strstr(QOM("list", "\"a\""), "{\"name\": \"level\", \"type\": \"int\"}"));
    g_assert_cmpstr(talk("{\"execute\":\"object-add\",\"arguments\":{\"qom-type\":\"thing\",\"id\":\"o\",\"size\":7}}"), ==,
                    GENERIC("thing is refused"));
    g_ptr_array_set_size(m.devices, 0);
    finish(q, &m);
}

static unsigned events(const char *name)
{
    unsigned n = 0;
    for (const char *at = line.out->str; (at = strstr(at, name)); at++)
        n++;
    return n;
}

/* Of events that a guest can cause at will the first goes out at once, of the rest of the second the last. */
static void test_limit(void)
{
    struct machine m;
    struct qmp *q = start(&m);
    talk(NEGOTIATE);
    g_string_truncate(line.out, 0);
    const struct machine_listener *l = &g_array_index(m.listeners, struct machine_listener, 0);
    for (int i = 0; i < 1000; i++) {
        json_auto *data = json_make("actual", json_object_new_int(i), NULL);
        l->named(l->opaque, "BALLOON_CHANGE", data);
        l->named(l->opaque, "DEVICE_DELETED", NULL);
    }
    g_assert_cmpuint(events("BALLOON_CHANGE"), ==, 1);
    g_assert_cmpuint(events("DEVICE_DELETED"), ==, 1000);
    int64_t end = g_get_monotonic_time() + 5 * G_TIME_SPAN_SECOND;
    while (events("BALLOON_CHANGE") < 2 && g_get_monotonic_time() < end)
        g_main_context_iteration(NULL, TRUE);
    g_assert_nonnull(strstr(line.out->str, "\"data\": {\"actual\": 999}"));
    g_assert_cmpuint(events("BALLOON_CHANGE"), ==, 2);
    finish(q, &m);
}

/* Rounds still to come end with the machine. */
static void test_announce(void)
{
    struct machine m;
    struct qmp *q = start(&m);
    talk(NEGOTIATE);
    g_assert_cmpstr(talk("{\"execute\":\"announce-self\",\"arguments\":{\"initial\":0,\"max\":0,\"rounds\":3,\"step\":0}}"), ==, "{\"return\": {}}\r\n");
    g_assert_nonnull(m.announcements);
    while (m.announcements)
        g_main_context_iteration(NULL, TRUE);
    talk("{\"execute\":\"announce-self\",\"arguments\":{\"initial\":1,\"max\":1,\"rounds\":1000,\"step\":0}}");
    finish(q, &m);
    memset(&m, 0, sizeof(m)); /* whoever comes after that falls */
    for (unsigned i = 0; i < 20; i++, g_usleep(1000))
        g_main_context_iteration(NULL, FALSE);
}

/* What QMP calls the members of a back end becomes -chardev's keys and defaults. */
static void test_chardev(void)
{
    static const struct { const char *backend, *keys; } rows[] = {
        { "{'type':'null','data':{}}", "" },
        { "{'type':'file','data':{'out':'/f','append':true}}", "append=on path=/f" },
        { "{'type':'socket','data':{'addr':{'type':'unix','data':{'path':'/s'}}}}", "path=/s server=on wait=off" },
        { "{'type':'socket','data':{'addr':{'type':'unix','data':{'path':'/s','tight':true}},'server':true,'wait':true,'nodelay':true}}", "path=/s server=on wait=on" },
        { "{'type':'socket','data':{'addr':{'type':'inet','data':{'host':'::1','port':'7','numeric':true}},'server':false,'reconnect':3}}", "host=::1 port=7 reconnect=3 server=off" },
        { "{'type':'socket','data':{'addr':{'type':'fd','data':{'str':'n'}},'telnet':true,'tn3270':false}}", "fd=n server=on telnet=on wait=off" },
        { "{'type':'pty','data':{'x-fd':'n'}}", "fd=n" },
    };
    struct machine m;
    struct qmp *q = start(&m);
    talk(NEGOTIATE);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *text = g_strdup_printf("{'execute':'chardev-add','arguments':{'id':'c0','backend':%s}}", rows[i].backend);
        g_assert_cmpstr(talk(g_strdelimit(text, "'", '"')), ==, "{\"return\": {}}\r\n");
        g_autoptr(GString) keys = g_string_new(NULL);
        GList *names = g_list_sort(g_hash_table_get_keys(asked_chardev), (GCompareFunc)strcmp);
        for (GList *l = names; l; l = l->next)
            g_string_append_printf(keys, "%s%s=%s", keys->len ? " " : "", (char *)l->data, (char *)g_hash_table_lookup(asked_chardev, l->data));
        g_list_free(names);
        g_assert_cmpstr(keys->str, ==, rows[i].keys);
        g_assert_true(g_strrstr(rows[i].backend, asked_backend));
        g_assert_cmpstr(talk("{\"execute\":\"chardev-remove\",\"arguments\":{\"id\":\"c0\"}}"), ==, "{\"return\": {}}\r\n");
    }
    g_clear_pointer(&asked_chardev, g_hash_table_unref);
    finish(q, &m);
}

/* Every command without arguments answers. */
static void test_commands(void)
{
    struct machine m;
    struct qmp *q = start(&m);
    talk(NEGOTIATE);
    for (const struct qmp_command *c = qmp_commands; c->name; c++) {
        if (!c->run || (c->args && !c->args->optional))
            continue;
        g_autofree char *text = g_strdup_printf("{\"execute\":\"%s\"}", c->name);
        const char *answer = talk(text);
        if (!strstr(answer, "{\"return\": ") && !strstr(answer, "{\"error\": "))
            g_error("%s: %s", c->name, answer);
    }
    finish(q, &m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qmp/session", test_session);
    g_test_add_func("/qmp/errors", test_errors);
    g_test_add_func("/qmp/slow-client", test_slow_client);
    g_test_add_func("/qmp/devices", test_devices);
    g_test_add_func("/qmp/stats", test_stats);
    g_test_add_func("/qmp/introspection", test_introspection);
    g_test_add_func("/qmp/qom", test_qom);
    g_test_add_func("/qmp/limit", test_limit);
    g_test_add_func("/qmp/announce", test_announce);
    g_test_add_func("/qmp/chardev", test_chardev);
    g_test_add_func("/qmp/commands", test_commands);
    return g_test_run();
}
