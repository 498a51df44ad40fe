/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests of a hostile driver, against a model of what is plugged. */
#include "vmm/dev/virtio_mem.c"

#include <glib.h>

#include "vmm/core/fake_accel.h"

enum { NBLOCKS = 600 };

static uint64_t random_u64(GRand *r)
{
    return (uint64_t)g_rand_int(r) << 32 | g_rand_int(r);
}

static struct virtio_mem_req random_request(GRand *r, const struct virtio_mem *s)
{
    struct virtio_mem_req q = { .type = (uint16_t)g_rand_int_range(r, 0, 5), .addr = s->md.base + (uint64_t)g_rand_int_range(r, 0, NBLOCKS) * s->block,
                                .nb_blocks = (uint16_t)g_rand_int_range(r, 0, 40) };
    if (q.type == VIRTIO_MEM_REQ_UNPLUG_ALL && g_rand_int_range(r, 0, 50))
        q.type = VIRTIO_MEM_REQ_UNPLUG; /* seldom, or little is ever plugged */
    switch (g_rand_int_range(r, 0, 20)) {
    case 0: q.addr = random_u64(r); break;
    case 1: q.addr++; break;
    case 2: q.nb_blocks = 0xffff; break;
    case 3: q.type = (uint16_t)g_rand_int(r); break;
    case 4: q.addr = UINT64_MAX - s->block + 1; break;
    case 5: q.addr = s->md.base - s->block; break;
    }
    return q;
}

/* What the answer must be, by 5.15.6.2; applies it to the model. */
static unsigned expected(const struct virtio_mem *s, const struct virtio_mem_req *q, bool *model, uint64_t usable, unsigned *ret_state)
{
    unsigned plugged = 0, there = 0;
    uint64_t first = (q->addr - s->md.base) / s->block;
    if (q->type > VIRTIO_MEM_REQ_STATE)
        return VIRTIO_MEM_RESP_ERROR;
    if (q->type == VIRTIO_MEM_REQ_UNPLUG_ALL) {
        memset(model, 0, NBLOCKS);
        return VIRTIO_MEM_RESP_ACK;
    }
    if (!q->nb_blocks || q->addr < s->md.base || (q->addr - s->md.base) % s->block || first + q->nb_blocks > usable / s->block)
        return VIRTIO_MEM_RESP_ERROR;
    for (unsigned i = 0; i < NBLOCKS; i++) {
        plugged += model[i];
        there += model[i] && i >= first && i < first + q->nb_blocks;
    }
    *ret_state = there == q->nb_blocks ? VIRTIO_MEM_STATE_PLUGGED : there ? VIRTIO_MEM_STATE_MIXED : VIRTIO_MEM_STATE_UNPLUGGED;
    if (q->type == VIRTIO_MEM_REQ_STATE)
        return VIRTIO_MEM_RESP_ACK;
    bool plug = q->type == VIRTIO_MEM_REQ_PLUG;
    if (there != (plug ? 0 : q->nb_blocks))
        return VIRTIO_MEM_RESP_ERROR;
    if (plug && (plugged + q->nb_blocks) * s->block > s->requested)
        return VIRTIO_MEM_RESP_NACK;
    memset(model + first, plug, q->nb_blocks);
    return VIRTIO_MEM_RESP_ACK;
}

static void test_requests(void)
{
    struct machine_config *c = g_new0(struct machine_config, 1);
    c->ram_size = 16 * MIB;
    c->max_ram_size = 4 * GIB;
    struct machine *m = machine_create(c);
    m->plug_base = 4 * GIB;
    m->plug_size = 4 * GIB;
    g_autofree char *text = g_strdup_printf("memory-backend-ram,id=m,size=%dM", NBLOCKS * 2);
    keyval_auto *kv = keyval_parse(text, "qom-type", NULL);
    struct hostmem *mem = (struct hostmem *)object_create(m, kv, NULL);
    struct virtio_mem *s = g_new0(struct virtio_mem, 1);
    s->v.dev.machine = m;
    s->v.dev.class = &virtio_mem_pci_class;
    s->v.dev.id = (char *)"v";
    g_mutex_init(&s->v.dev.lock);
    g_assert_true(check_props(s, mem, NULL) && place(s, mem, NULL));
    g_assert_cmpuint(s->block, ==, 2 * MIB);
    GRand *r = g_rand_new_with_seed(5);
    bool model[NBLOCKS] = { false };
    unsigned acks = 0;
    for (unsigned n = 0; n < 200000; n++) {
        if (!(n % 500)) {
            json_auto *size = json_object_new_int64((int64_t)(g_rand_int_range(r, 0, NBLOCKS + 1) * s->block));
            g_assert_true(set_requested(&s->v.dev, size, NULL));
        }
        struct virtio_mem_req q = random_request(r, s);
        uint64_t usable = s->usable;
        unsigned state = 0, type = expected(s, &q, model, usable, &state);
        struct virtio_mem_resp a = answer(s, &q);
        g_assert_cmpuint(a.type, ==, type);
        if (q.type == VIRTIO_MEM_REQ_STATE && type == VIRTIO_MEM_RESP_ACK)
            g_assert_cmpuint(a.state, ==, state);
        acks += a.type == VIRTIO_MEM_RESP_ACK;
        uint64_t plugged = 0;
        for (unsigned i = 0; i < NBLOCKS; i++)
            plugged += model[i];
        g_assert_cmpuint(s->plugged, ==, plugged * s->block);
        g_assert_cmpuint(s->usable, <=, s->md.size);
    }
    g_assert_cmpuint(acks, >, 20000);
    json_auto *zero = json_object_new_int(0);
    unplug_all(s);
    g_assert_true(set_requested(&s->v.dev, zero, NULL));
    g_assert_null(guest_memory_ptr(m->memory, s->md.base, 1, false)); /* nothing usable: no memory there */
    g_rand_free(r);
    leave(s);
    g_mutex_clear(&s->v.dev.lock);
    g_free(s);
    machine_destroy(m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/virtio-mem/requests", test_requests);
    return g_test_run();
}
