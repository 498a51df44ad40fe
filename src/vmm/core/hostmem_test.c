/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory objects, what of them goes back to the host, and the machine's RAM made of them. */
#include "vmm/core/hostmem.h"

#include <string.h>

#include "base/error.h"
#include "vmm/core/fake_accel.h"
#include "vmm/core/machine.h"
#include "vmm/core/numa.h"
#include "vmm/core/rng.h"

#define MIB (UINT64_C(1) << 20)

static struct machine *machine_of(uint64_t ram, unsigned cpus)
{
    struct machine_config *c = g_new0(struct machine_config, 1);
    c->ram_size = ram;
    c->ram_size_given = true;
    c->cpus = c->max_cpus = c->sockets = cpus;
    c->cores = c->threads = 1;
    return machine_create(c);
}

static struct hostmem *make(struct machine *m, const char *text)
{
    GError *error = NULL;
    keyval_auto *kv = keyval_parse(text, "qom-type", &error);
    struct object *o = object_create(m, kv, &error);
    g_assert_no_error(error);
    return (struct hostmem *)o;
}

static void refuse(struct machine *m, const char *text, const char *words)
{
    g_autoptr(GError) error = NULL;
    keyval_auto *kv = keyval_parse(text, "qom-type", NULL);
    g_assert_null(object_create(m, kv, &error));
    if (!strstr(error->message, words))
        g_error("'%s' is refused with '%s', which does not speak of '%s'", text, error->message, words);
}

/* Each kind of memory: touched pages are there, discarded ones are the host's again and read as zeroes. */
static void test_discard(void)
{
    struct machine *m = machine_of(16 * MIB, 1);
    static const char *const kinds[] = { "memory-backend-ram,id=a,size=4M", "memory-backend-ram,id=b,size=4M,share=on", "memory-backend-memfd,id=c,size=4M",
                                         "memory-backend-file,id=d,size=4M,mem-path=/dev/shm,share=on" };
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        struct hostmem *h = make(m, kinds[i]);
        uint64_t gpa = (16 + 8 * i) * MIB;
        g_assert_true(guest_memory_add_ram(m->memory, gpa, h->size, h->host, false, NULL));
        memset(h->host, 0x5a, h->size);
        guest_memory_discard(m->memory, gpa, MIB); /* not the guest's yet: nobody answers for it */
        g_assert_cmpint(h->host[0], ==, 0x5a);
        hostmem_enter_guest(h);
        g_assert_cmpuint(hostmem_resident(h), ==, 4 * MIB);
        guest_memory_discard(m->memory, gpa + 4096 + 1, 2 * MIB); /* whole pages only */
        g_assert_cmpuint(hostmem_resident(h), ==, 2 * MIB + 4096);
        g_assert_cmpint(h->host[4096], ==, 0x5a);
        g_assert_cmpint(h->host[8192], ==, 0);
        guest_memory_discard(m->memory, UINT64_MAX - 4095, 8192);
        guest_memory_discard(m->memory, 0, 4 * MIB);
        guest_memory_discard(m->memory, gpa, UINT64_MAX / 2);
        g_assert_cmpuint(hostmem_resident(h), <=, 4096); /* that byte */
        h->host[8192] = 1;
        guest_memory_remove_ram(m->memory, gpa, h->size);
        /* A device that looked the address up before may still write there. */
        uint8_t *host = h->host;
        g_assert_true(object_delete(m, h->obj.id, NULL));
        g_assert_cmpint(host[8192], ==, 0);
        host[0] = 1;
    }
    machine_destroy(m);
}

static void test_prealloc(void)
{
    struct machine *m = machine_of(16 * MIB, 1);
    struct hostmem *h = make(m, "memory-backend-memfd,id=a,size=130M,prealloc=on,prealloc-threads=3");
    g_assert_cmpuint(hostmem_resident(h), ==, h->size);
    int fds[2];
    g_assert_true(!pipe(fds) && write(fds[1], "", 1) == 1);
    m->cancel_fd = fds[0];
    refuse(m, "memory-backend-ram,id=b,size=2G,prealloc=on,prealloc-threads=1", "interrupted");
    close(fds[0]);
    close(fds[1]);
    machine_destroy(m);
}

static void test_use(void)
{
    struct machine *m = machine_of(16 * MIB, 1);
    g_autoptr(GError) error = NULL;
    struct hostmem *h = make(m, "memory-backend-ram,id=a,size=16M");
    m->config->memory_backend = g_strdup("a");
    g_assert_true(numa_build(m, NULL, &error));
    g_assert_false(object_delete(m, "a", &error));
    g_assert_true(g_error_matches(error, VIREO_ERROR, VIREO_ERROR_BUSY));
    g_assert_false(object_delete(m, "b", NULL));
    g_assert_null(hostmem_find(m, "b", NULL));
    refuse(m, "memory-backend-ram,id=a,size=1M", "duplicate");
    make(m, "rng-random,id=r,filename=/dev/random");
    g_assert_null(hostmem_find(m, "r", NULL));
    uint8_t bytes[64] = { 0 }, zero[64] = { 0 };
    g_assert_cmpuint(rng_read(rng_find(m, "r", NULL), bytes, sizeof(bytes)), ==, sizeof(bytes));
    g_assert_true(memcmp(bytes, zero, sizeof(zero)) != 0);
    g_assert_null(rng_find(m, "a", NULL));
    g_assert_true(h->obj.user != NULL);
    machine_destroy(m);
}

static bool build(struct machine *m, const char *const *options, GError **error)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func((GDestroyNotify)keyval_free);
    for (; *options; options++)
        g_ptr_array_add(list, keyval_parse(*options, "type", NULL));
    return numa_build(m, list, error);
}

static void test_nodes(void)
{
    struct machine *m = machine_of(100 * MIB, 4);
    static const char *const options[] = { "node,mem=64", "node,mem=36M,cpus=1-2", "node,cpus=3", "dist,src=0,dst=1,val=15",
                                           "dist,src=1,dst=0,val=16", "dist,src=2,dst=0,val=40", "dist,src=1,dst=2,val=50", NULL };
    g_autoptr(GError) error = NULL;
    g_assert_true(build(m, options, &error));
    g_assert_no_error(error);
    const struct numa *n = m->numa;
    g_assert_cmpuint(n->nnodes, ==, 3);
    g_assert_cmpuint(n->cpu_node[0], ==, 0);
    g_assert_cmpuint(n->cpu_node[2], ==, 1);
    g_assert_cmpuint(n->cpu_node[3], ==, 2);
    g_assert_cmpuint(n->distance[1][1], ==, 10);
    g_assert_cmpuint(n->distance[1][0], ==, 16);
    g_assert_cmpuint(n->distance[0][2], ==, 40);
    g_assert_cmpuint(m->ram->len, ==, 2);
    const struct ram_piece *p = &g_array_index(m->ram, struct ram_piece, 0);
    g_assert_true(p[0].mem == p[1].mem && p[0].size == 64 * MIB && p[1].size == 36 * MIB && p[1].node == 1);
    machine_destroy(m);
    /* Sockets go round the nodes; parts are equal. */
    m = machine_of(100 * MIB, 4);
    g_assert_true(build(m, (const char *const[]){ "node", "node", NULL }, NULL));
    g_assert_cmpuint(m->numa->cpu_node[2], ==, 0);
    g_assert_cmpuint(m->numa->cpu_node[3], ==, 1);
    p = &g_array_index(m->ram, struct ram_piece, 0);
    g_assert_true(p[0].size == 48 * MIB && p[1].size == 52 * MIB && !m->numa->distances);
    machine_destroy(m);
    /* A distance that is missing both ways. */
    m = machine_of(100 * MIB, 1);
    g_assert_false(build(m, (const char *const[]){ "node", "node", "node", "dist,src=0,dst=1,val=15", NULL }, &error));
    g_assert_nonnull(strstr(error->message, "between node 0 and 2 is missing"));
    machine_destroy(m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hostmem/discard", test_discard);
    g_test_add_func("/hostmem/prealloc", test_prealloc);
    g_test_add_func("/hostmem/use", test_use);
    g_test_add_func("/numa/nodes", test_nodes);
    return g_test_run();
}
