/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Virtio devices over PCI: registers, rings, requests as a driver makes them and as an attacker does, and what their back ends do. */
#include "fuzz.h"

#include <unistd.h>

#include "base/json.h"
#include "base/keyval.h"
#include "vmm/core/chardev_backend.h"
#include "vmm/core/object.h"
#include "vmm/dev/virtio_devices.h"
#include "vmm/display/display.h"

extern const struct device_class virtio_gpu_pci_class, virtio_keyboard_class, virtio_tablet_class, virtio_mem_pci_class, virtio_scsi_pci_class, scsi_hd_class, scsi_cd_class;

enum { BLK, NET, CONSOLE, RNG, BALLOON, MEM, SCSI, GPU, INPUT, NKINDS };
enum { BAR_MSIX = 1, BAR_REGS = 4, COMMON = 0, ISR = 0x1000, CONFIG = 0x2000, NOTIFY = 0x3000 }; /* virtio_pci.c */
enum { SIZE = 16, QUEUES = 8, DATA = 0x40000 };
enum { DESC_NEXT = 1, DESC_WRITE = 2, DESC_INDIRECT = 4 };

struct player {
    struct fixture f;
    unsigned kind;
    struct block_device *disk;
    struct chardev *chardev;
    bool messages; /* MSI-X is on */
    bool packed, wrap[QUEUES]; /* the rings that were agreed; of a packed one, which lap the driver is in */
    uint16_t size[QUEUES], avail[QUEUES], next[QUEUES]; /* descriptors; the driver's index; the next free descriptor */
};

/* ---- one of each ---- */

static void add_disk(struct player *p, const char *packed)
{
    p->disk = fixture_disk(&p->f);
    if (p->kind == BLK) {
        fixture_add(&p->f, &virtio_blk_pci_class, (const char *const[]){ "drive", "d", "packed", packed, NULL });
        return;
    }
    fixture_add(&p->f, &virtio_scsi_pci_class, (const char *const[]){ "packed", packed, NULL });
    fixture_add(&p->f, &scsi_hd_class, (const char *const[]){ "drive", "d", "scsi-id", "0", "lun", "0", "serial", "s", NULL });
    fixture_add(&p->f, &scsi_cd_class, (const char *const[]){ "scsi-id", "1", "lun", "1", NULL });
}

static void add_console(struct player *p, const char *packed)
{
    GError *error = NULL;
    p->chardev = chardev_open("c", "null", &error);
    g_assert_no_error(error);
    g_hash_table_insert(p->f.m->chardevs, (void *)"c", p->chardev);
    fixture_add(&p->f, &virtio_serial_pci_class, (const char *const[]){ "packed", packed, NULL });
    fixture_add(&p->f, &virtconsole_class, NULL);
    fixture_add(&p->f, &virtserialport_class, (const char *const[]){ "chardev", "c", "name", "p", NULL });
}

static void add_mem(struct player *p)
{
    GError *error = NULL;
    struct machine *m = p->f.m;
    m->config->max_ram_size = 1ull << 32;
    m->plug_base = m->plug_size = 1ull << 32;
    keyval_auto *kv = keyval_parse("memory-backend-ram,id=m,size=64M", "qom-type", NULL);
    g_assert_nonnull(object_create(m, kv, &error));
    fixture_add(&p->f, &virtio_mem_pci_class, (const char *const[]){ "memdev", "m", "requested-size", "16M", NULL });
}

static void add_device(struct player *p, unsigned how)
{
    const char *packed = how & 8 ? "on" : "off";
    switch (p->kind) {
    case BLK: case SCSI: add_disk(p, packed); break;
    case NET:
        p->f.net->b.has_header = how & 1;
        p->f.net->b.queues = how & 4 ? 2 : 1;
        fixture_add(&p->f, &virtio_net_pci_class, (const char *const[]){ "netdev", "n", "mac", "52:54:00:00:00:01", "mq", how & 4 ? "on" : "off",
                                                                            "packed", packed, NULL });
        break;
    case CONSOLE: add_console(p, packed); break;
    case RNG: fixture_add(&p->f, &virtio_rng_pci_class, (const char *const[]){ "packed", packed, NULL }); break;
    case BALLOON: fixture_add(&p->f, &virtio_balloon_pci_class, NULL); break;
    case MEM: add_mem(p); break;
    case GPU: fixture_add(&p->f, &virtio_gpu_pci_class, (const char *const[]){ "max_hostmem", "1M", "packed", packed, NULL }); break;
    case INPUT: fixture_add(&p->f, how & 1 ? &virtio_keyboard_class : &virtio_tablet_class, NULL); break;
    }
}

/* ---- the driver ---- */

/* PCI 3.0, 6.8.2: finds the capability, switches it on, and unmasks what the table has. */
static void use_messages(struct player *p)
{
    struct guest_memory *m = p->f.m->memory;
    unsigned at = (unsigned)guest_io_read(m, false, conf(PCI_REG_CAP_PTR), 1);
    while (at && guest_io_read(m, false, conf(at), 1) != PCI_CAP_MSIX)
        at = (unsigned)guest_io_read(m, false, conf(at + 1), 1);
    if (!at)
        return;
    unsigned n = (guest_io_read(m, false, conf(at + 2), 2) & 0x7ff) + 1;
    guest_io_write(m, false, conf(at + 2), 2, 0x8000);
    for (unsigned i = 0; i < MIN(n, QUEUES); i++)
        wr(&p->f, BAR_MSIX, 16 * i + 12, 4, 0);
    p->messages = true;
}

static uint64_t ring(unsigned queue, unsigned part)
{
    return 0x1000 + queue * 0x3000ull + part * 0x1000ull;
}

static void common(struct player *p, unsigned reg, unsigned size, uint32_t value)
{
    wr(&p->f, BAR_REGS, COMMON + reg, size, value);
}

/* As a driver does (virtio 1.2, 3.1.1, 4.1.4.3); withheld: features it does not take. */
static void start(struct player *p, uint32_t withheld, bool no_event_index)
{
    common(p, 0x14, 1, 0);
    common(p, 0x14, 1, 3);
    for (unsigned i = 0; i < 2; i++) {
        common(p, 0, 4, i);
        uint32_t offered = (uint32_t)rd(&p->f, BAR_REGS, COMMON + 4, 4);
        common(p, 8, 4, i);
        if (i)
            p->packed = offered & 4;
        common(p, 0xc, 4, i ? offered : offered & ~(withheld | (uint32_t)no_event_index << 29));
    }
    common(p, 0x14, 1, 11);
    for (unsigned q = 0; q < QUEUES; q++) {
        common(p, 0x16, 2, q);
        memset(p->f.ram + ring(q, 0), 0, 0x3000);
        unsigned most = (unsigned)rd(&p->f, BAR_REGS, COMMON + 0x18, 2); /* 0: there is no such queue */
        p->size[q] = most ? MIN(most, SIZE) : SIZE;
        common(p, 0x18, 2, p->size[q]);
        common(p, 0x1a, 2, p->messages ? q & 1 : 0xffff);
        for (unsigned i = 0; i < 3; i++) {
            common(p, 0x20 + 8 * i, 4, (uint32_t)ring(q, i));
            common(p, 0x24 + 8 * i, 4, 0);
        }
        common(p, 0x1c, 2, 1);
        p->avail[q] = p->next[q] = 0;
        p->wrap[q] = true;
    }
    common(p, 0x14, 1, 15);
}

static void put_desc(struct player *p, uint64_t table, unsigned index, uint64_t addr, uint32_t len, unsigned flags, unsigned next)
{
    uint8_t *d = p->f.ram + table + 16 * index;
    memcpy(d, &addr, 8);
    memcpy(d + 8, &len, 4);
    memcpy(d + 12, &(uint16_t){ (uint16_t)flags }, 2);
    memcpy(d + 14, &(uint16_t){ (uint16_t)next }, 2);
}

/* The next place of a packed ring (virtio 1.2, 2.8.13): the id stands where a split one has its flags, these where that has `next`. */
static void put_packed(struct player *p, unsigned queue, uint64_t addr, uint32_t len, unsigned flags)
{
    put_desc(p, ring(queue, 0), p->next[queue], addr, len, p->avail[queue]++, (flags & 0x7f7f) | (p->wrap[queue] ? 0x80 : 0x8000));
    if (++p->next[queue] >= p->size[queue]) {
        p->next[queue] = 0;
        p->wrap[queue] = !p->wrap[queue];
    }
}

static void offer(struct player *p, unsigned queue, unsigned head)
{
    if (p->packed) {
        uint8_t *d = p->f.ram + ring(queue, 0) + 16 * (head % SIZE);
        d[14 + (head >> 4 & 1)] ^= 0x80;
        return;
    }
    uint8_t *a = p->f.ram + ring(queue, 1);
    memcpy(a + 4 + 2 * (p->avail[queue] % MAX(p->size[queue], 1)), &(uint16_t){ (uint16_t)head }, 2);
    __atomic_store_n((uint16_t *)(a + 2), ++p->avail[queue], __ATOMIC_SEQ_CST);
}

static void notify(struct player *p, unsigned queue)
{
    wr(&p->f, BAR_REGS, NOTIFY + 4 * queue, 2, queue);
}

/* A chain in order: pieces that the device reads, with bytes of the input, then pieces it writes. */
static void op_request(struct player *p, struct input *in)
{
    unsigned how = take8(in), queue = how % QUEUES, nout = how >> 3 & 3, nin = how >> 5 & 3, n = MAX(nout + nin, 1), size = MAX(p->size[queue], 1);
    uint64_t table = how & 0x80 ? 0x30000 + 0x400 * queue : ring(queue, 0);
    unsigned head = p->next[queue] % size, first = how & 0x80 ? 0 : head;
    for (unsigned i = 0; i < n; i++) { /* the table of an indirect one has the same form in packed rings */
        unsigned len = take8(in), index = how & 0x80 ? i : (first + i) % size;
        uint64_t at = DATA + queue * 0x8000ull + index * 0x800;
        if (i < nout)
            take(in, p->f.ram + at, len & 63);
        unsigned bytes = i < nout ? len & 63 : (len & 0x0f) * 128 + (len >> 4);
        if (i < nout && len & 0x80)
            bytes = 512; /* whole sectors */
        if (p->packed && !(how & 0x80)) {
            put_packed(p, queue, at, bytes, (i + 1 < n ? DESC_NEXT : 0) | (i >= nout ? DESC_WRITE : 0));
            continue;
        }
        if (p->packed) {
            put_desc(p, table, index, at, bytes, 0, i >= nout ? DESC_WRITE : 0);
            continue;
        }
        put_desc(p, table, index, at, bytes, (i + 1 < n ? DESC_NEXT : 0) | (i >= nout ? DESC_WRITE : 0), how & 0x80 ? i + 1 : (first + i + 1) % size);
    }
    if (p->packed) {
        if (how & 0x80)
            put_packed(p, queue, table, 16 * n, DESC_INDIRECT);
        notify(p, queue);
        return;
    }
    if (how & 0x80)
        put_desc(p, ring(queue, 0), head, table, 16 * n, DESC_INDIRECT, 0);
    p->next[queue] += how & 0x80 ? 1 : n;
    offer(p, queue, head);
    notify(p, queue);
}

static void op_raw_desc(struct player *p, struct input *in)
{
    unsigned how = take8(in), queue = how % QUEUES, index = take8(in) % SIZE, flags = take8(in);
    uint64_t addr = take32(in);
    if (how & 0x40)
        addr = DATA + (addr & 0xffff);
    if (how & 0x80)
        addr = addr << 32 | addr;
    put_desc(p, ring(queue, 0), index, addr, how & 0x20 ? take32(in) : take16(in), flags, flags & 0x80 ? take16(in) : flags >> 3);
    if (how & 0x10)
        offer(p, queue, index);
    if (how & 8)
        notify(p, queue);
}

/* ---- the other side ---- */

static void host_console(struct player *p, struct input *in)
{
    uint8_t bytes[64];
    size_t n = take8(in) & 63;
    for (unsigned i = 0; i < p->chardev->nfrontends; i++) {
        const struct chardev_handlers *h = p->chardev->frontends[i].h;
        void *opaque = p->chardev->frontends[i].opaque;
        n = MIN(n, h->can_receive(opaque));
        take(in, bytes, n);
        if (n)
            h->receive(opaque, bytes, n);
        if (h->event && take8(in) < 64)
            h->event(opaque, take8(in) & 3);
    }
}

static void host_attribute(struct player *p, struct input *in)
{
    const struct device_attr *a = p->f.d[0]->class->attrs;
    unsigned which = take8(in) % 8;
    g_autoptr(GError) error = NULL;
    for (; a && a->name && which; a++)
        which--;
    if (!a || !a->name)
        return;
    if (a->get)
        json_object_put(a->get(p->f.d[0], &error));
    g_clear_error(&error);
    struct json_object *v = json_object_new_int64((int64_t)take16(in) << 16);
    if (a->set)
        (void)!a->set(p->f.d[0], v, &error);
    json_object_put(v);
}

static void op_host(struct player *p, struct input *in)
{
    g_autoptr(GError) error = NULL;
    uint64_t bytes;
    switch (p->kind) {
    case BLK: case SCSI: block_drain(p->disk); break;
    case NET: take8(in) & 1 ? op_frame(&p->f, in) : op_net(&p->f, in); break;
    case CONSOLE: host_console(p, in); break;
    case GPU: display_refresh(display_of(p->f.m)); break;
    case INPUT:
        display_key(display_of(p->f.m), take16(in), take8(in) & 1);
        display_pointer(display_of(p->f.m), take16(in), take16(in), take8(in));
        break;
    case BALLOON:
        (void)!virtio_balloon_set_target(p->f.m, (uint64_t)take16(in) << 12, &error);
        g_clear_error(&error);
        (void)!virtio_balloon_actual(p->f.m, &bytes, &error);
        break;
    }
    host_attribute(p, in);
}

static void play(struct player *p, struct input *in)
{
    unsigned op = take8(in), q;
    switch (op % 13) {
    case 0: op_registers(&p->f, in, true); break;
    case 1: op_registers(&p->f, in, false); break;
    case 2: op_config(&p->f, in); break;
    case 3: common(p, take8(in) & 0x3f, 1u << (op / 13) % 3, take32(in)); break;
    case 4: (void)rd(&p->f, BAR_REGS, take16(in) & 0x3fff, 1u << (op / 13) % 3); break;
    case 5: wr(&p->f, BAR_REGS, CONFIG + take8(in), 1u << (op / 13) % 4, take32(in)); break;
    case 6: start(p, op & 0x80 ? take32(in) : 0, op & 0x40); break;
    case 7: op_ram(&p->f, in); break;
    case 8: op_raw_desc(p, in); break;
    case 9: op_request(p, in); break;
    case 10: op_host(p, in); break;
    case 11:
        q = take8(in) % QUEUES;
        offer(p, q, take8(in));
        notify(p, q);
        break;
    case 12:
        if (op > 200)
            virtio_device_reset(p->f.d[0]);
        fixture_settle(&p->f);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, MIN(size, 4096) };
    struct player p = { 0 };
    unsigned first = take8(&in);
    p.kind = first % NKINDS;
    fixture_init(&p.f);
    add_device(&p, first / NKINDS);
    fixture_start(&p.f);
    if (first / NKINDS & 2)
        use_messages(&p);
    while (in.left)
        play(&p, &in);
    fixture_finish(&p.f);
    g_hash_table_remove_all(p.f.m->drives);
    g_hash_table_remove_all(p.f.m->chardevs);
    fixture_end_disk(&p.f, p.disk);
    if (p.chardev)
        chardev_close(p.chardev);
    fixture_destroy(&p.f);
    return 0;
}
