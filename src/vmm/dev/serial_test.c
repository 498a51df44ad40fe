/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The UART's registers as a driver sees them, over a fake back end. */
#include "vmm/dev/serial.c"

static struct { uint8_t out[256]; size_t n, accept; const struct chardev_handlers *h; void *opaque; unsigned ready; bool irq; unsigned edges; } fake;

bool chardev_attach(struct chardev *c, const struct chardev_handlers *h, void *opaque, GError **error)
{
    fake.h = h;
    fake.opaque = opaque;
    return true;
}
void chardev_detach(struct chardev *c) { }
bool chardev_can_write(struct chardev *c) { return fake.accept > 0; }
void chardev_receive_ready(struct chardev *c) { fake.ready++; }
size_t chardev_write(struct chardev *c, const void *data, size_t n)
{
    n = MIN(n, fake.accept);
    memcpy(fake.out + fake.n, data, n);
    fake.n += n;
    fake.accept -= n;
    return n;
}
void io_window_map(struct guest_memory *m, struct io_window *w, uint64_t base) { w->base = base; }
void io_window_unmap(struct guest_memory *m, struct io_window *w) { }
static void fake_irq(void *opaque, unsigned input, bool level)
{
    g_assert_cmpuint(input, ==, 4);
    fake.edges += level && !fake.irq;
    fake.irq = level;
}

static struct serial *make(void)
{
    static struct machine m;
    static struct irq_line lines[16];
    struct serial *s = g_new0(struct serial, 1);
    memset(&fake, 0, sizeof(fake));
    fake.accept = sizeof(fake.out);
    for (unsigned i = 0; i < 16; i++)
        lines[i] = (struct irq_line){ fake_irq, NULL, i };
    m.isa_irqs = lines;
    m.chardevs = g_hash_table_new(g_str_hash, g_str_equal);
    m.devices = g_ptr_array_new();
    g_hash_table_insert(m.chardevs, (void *)"c0", &fake);
    s->dev.class = &isa_serial_class;
    s->dev.machine = &m;
    g_mutex_init(&s->dev.lock);
    s->index = 4;
    s->chardev = (char *)"c0";
    g_assert_true(serial_realize(&s->dev, NULL));
    g_assert_cmpuint(s->window.base, ==, 0x3f8);
    g_hash_table_destroy(m.chardevs);
    g_ptr_array_free(m.devices, TRUE);
    return s;
}

#define RD(reg) ((unsigned)serial_read(s, reg, 1))
#define WR(reg, v) serial_write(s, reg, 1, v)
#define HOST(text) fake.h->receive(fake.opaque, (const uint8_t *)text, strlen(text))

static void test_registers(void)
{
    struct serial *s = make();
    g_assert_cmphex(RD(LSR), ==, 0x60);
    g_assert_cmphex(RD(MSR), ==, 0xb0);
    g_assert_cmphex(RD(IIR_FCR), ==, 0x01);
    WR(IER_DLM, 0xff);
    g_assert_cmphex(RD(IER_DLM), ==, 0x0f);
    WR(SCR, 0x5a);
    g_assert_cmphex(RD(SCR), ==, 0x5a);
    WR(LCR, 0x83);
    WR(RBR_THR_DLL, 1);
    WR(IER_DLM, 0);
    g_assert_cmphex(RD(RBR_THR_DLL), ==, 1);
    WR(LCR, 0x03);
    g_assert_cmphex(RD(IER_DLM), ==, 0x0f); /* not the divisor */
    WR(IIR_FCR, 0xc1);
    g_assert_cmphex(RD(IIR_FCR) & 0xc0, ==, 0xc0);
    g_assert_cmpuint(fake.n, ==, 0);
    g_free(s);
}

static void test_transmit(void)
{
    struct serial *s = make();
    WR(IER_DLM, IER_THRE);
    g_assert_true(fake.irq); /* empty when enabled: at once */
    g_assert_cmphex(RD(IIR_FCR), ==, IIR_THRE);
    g_assert_false(fake.irq); /* reading IIR was the answer */
    g_assert_cmphex(RD(IIR_FCR), ==, IIR_NONE);
    WR(RBR_THR_DLL, 'h');
    g_assert_true(fake.irq);
    WR(RBR_THR_DLL, 'i');
    g_assert_cmpuint(fake.edges, ==, 2); /* still the one that nobody has answered */
    g_assert_cmpmem(fake.out, fake.n, "hi", 2);
    fake.accept = 0; /* the host does not take any more */
    WR(IIR_FCR, 1);
    for (unsigned i = 0; i < 20; i++)
        WR(RBR_THR_DLL, 'a' + i);
    g_assert_cmphex(RD(LSR), ==, 0);
    g_assert_false(fake.irq);
    fake.accept = 100;
    fake.h->event(fake.opaque, CHARDEV_WRITABLE);
    g_assert_cmphex(RD(LSR), ==, 0x60);
    g_assert_true(fake.irq);
    g_assert_cmpuint(fake.n, ==, 2 + 16);
    g_free(s);
}

static void test_receive(void)
{
    struct serial *s = make();
    WR(IER_DLM, IER_RDA | IER_RLS);
    g_assert_cmpuint(fake.h->can_receive(fake.opaque), ==, 1);
    HOST("x");
    g_assert_cmphex(RD(IIR_FCR), ==, IIR_RDA);
    g_assert_cmpuint(fake.h->can_receive(fake.opaque), ==, 0);
    HOST("y"); /* more than there is room for */
    g_assert_cmphex(RD(IIR_FCR), ==, IIR_RLS);
    g_assert_cmphex(RD(LSR), ==, 0x63);
    g_assert_cmphex(RD(LSR), ==, 0x61);
    g_assert_cmphex(RD(RBR_THR_DLL), ==, 'y');
    g_assert_cmpuint(fake.ready, ==, 1);
    g_assert_false(fake.irq);
    WR(IIR_FCR, 0x81); /* FIFO, trigger at 8 */
    g_assert_cmpuint(fake.h->can_receive(fake.opaque), ==, 16);
    HOST("1234567");
    g_assert_cmphex(RD(IIR_FCR), ==, IIR_TIMEOUT | IIR_FIFOS);
    HOST("8");
    g_assert_cmphex(RD(IIR_FCR), ==, IIR_RDA | IIR_FIFOS);
    for (unsigned i = 1; i <= 8; i++)
        g_assert_cmphex(RD(RBR_THR_DLL), ==, '0' + i);
    g_assert_cmphex(RD(LSR), ==, 0x60);
    fake.h->event(fake.opaque, CHARDEV_BREAK);
    g_assert_cmphex(RD(LSR), ==, 0x71);
    WR(IIR_FCR, 0x83);
    g_assert_cmphex(RD(LSR), ==, 0x60);
    g_free(s);
}

static void test_modem(void)
{
    struct serial *s = make();
    WR(MCR, MCR_LOOP);
    g_assert_cmphex(RD(MSR), ==, 0x0b); /* all fell */
    WR(MCR, MCR_LOOP | MCR_RTS | MCR_OUT1);
    g_assert_cmphex(RD(MSR), ==, 0x51); /* the leading edge of RI tells nothing */
    WR(MCR, MCR_LOOP | MCR_OUT2 | MCR_DTR);
    g_assert_cmphex(RD(MSR), ==, 0xa0 | 0x0f);
    WR(RBR_THR_DLL, 'L');
    g_assert_cmpuint(fake.n, ==, 0);
    g_assert_cmphex(RD(RBR_THR_DLL), ==, 'L');
    WR(IER_DLM, IER_RDA);
    WR(MCR, 0);
    HOST("x");
    g_assert_false(fake.irq); /* OUT2 is off */
    WR(MCR, MCR_OUT2);
    g_assert_true(fake.irq);
    serial_reset(&s->dev);
    g_assert_false(fake.irq);
    g_assert_cmphex(RD(LSR), ==, 0x60);
    g_free(s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/serial/registers", test_registers);
    g_test_add_func("/serial/transmit", test_transmit);
    g_test_add_func("/serial/receive", test_receive);
    g_test_add_func("/serial/modem", test_modem);
    return g_test_run();
}
