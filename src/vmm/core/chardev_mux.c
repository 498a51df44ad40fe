/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ctrl-A commands over a character device. Input is read even while the front end takes none, so that Ctrl-A x works on
 * a guest that has hung; it waits in a queue. Main thread only.
 */
#include <string.h>

#include "vmm/core/chardev_backend.h"

#define QUEUE_MAX 65536
#define ESCAPE 0x01 /* Ctrl-A */

struct chardev_mux {
    struct chardev *c;
    GByteArray *queue; /* for the front end that has the focus */
    bool escaped;
    bool delivering;
};

struct chardev_mux *chardev_mux_create(struct chardev *c)
{
    struct chardev_mux *m = g_new0(struct chardev_mux, 1);
    m->c = c;
    m->queue = g_byte_array_new();
    return m;
}

void chardev_mux_destroy(struct chardev_mux *m)
{
    if (!m)
        return;
    g_byte_array_unref(m->queue);
    g_free(m);
}

size_t chardev_mux_room(const struct chardev_mux *m)
{
    return QUEUE_MAX - m->queue->len;
}

void chardev_mux_deliver(struct chardev_mux *m)
{
    struct chardev *c = m->c;
    if (m->delivering) /* a front end that asks for more from inside receive */
        return;
    m->delivering = true;
    while (m->queue->len && c->nfrontends) {
        size_t n = c->frontends[c->focus].h->can_receive(c->frontends[c->focus].opaque);
        n = MIN(n, m->queue->len);
        if (!n)
            break;
        c->frontends[c->focus].h->receive(c->frontends[c->focus].opaque, m->queue->data, n);
        g_byte_array_remove_range(m->queue, 0, (guint)n);
    }
    m->delivering = false;
}

static void say(struct chardev_mux *m, const char *text)
{
    chardev_write(m->c, text, strlen(text));
}

static void command_quit(struct chardev_mux *m)
{
    say(m, "\r\nvireo-vmm: terminated by Ctrl-A x\r\n");
    chardev_quit();
}

static void command_break(struct chardev_mux *m)
{
    struct chardev *c = m->c;
    if (c->nfrontends && c->frontends[c->focus].h->event)
        c->frontends[c->focus].h->event(c->frontends[c->focus].opaque, CHARDEV_BREAK);
}

static void command_switch(struct chardev_mux *m)
{
    struct chardev *c = m->c;
    if (c->nfrontends < 2) {
        say(m, "\r\nThere is no monitor on this line; control the machine over -qmp.\r\n");
        return;
    }
    c->focus = (c->focus + 1) % c->nfrontends;
}

static void command_help(struct chardev_mux *m);

static const struct { char key; void (*run)(struct chardev_mux *m); const char *help; } commands[] = {
    { 'h', command_help, "this help" },
    { '?', command_help, NULL },
    { 'x', command_quit, "end the virtual machine" },
    { 'b', command_break, "send a break" },
    { 'c', command_switch, "switch to the next device on this line" },
};

static void command_help(struct chardev_mux *m)
{
    g_autoptr(GString) s = g_string_new("\r\n");
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (commands[i].help)
            g_string_append_printf(s, "Ctrl-A %c       %s\r\n", commands[i].key, commands[i].help);
    }
    g_string_append(s, "Ctrl-A Ctrl-A  send Ctrl-A\r\n");
    say(m, s->str);
}

static void run_command(struct chardev_mux *m, uint8_t key)
{
    if (key == ESCAPE) {
        g_byte_array_append(m->queue, &key, 1);
        return;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (commands[i].key == key)
            commands[i].run(m);
    }
}

void chardev_mux_input(struct chardev_mux *m, const uint8_t *data, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (m->escaped) {
            m->escaped = false;
            chardev_mux_deliver(m); /* what came before a switch goes to the old focus */
            run_command(m, data[i]);
        } else if (data[i] == ESCAPE) {
            m->escaped = true;
        } else {
            g_byte_array_append(m->queue, data + i, 1);
        }
    }
    chardev_mux_deliver(m);
}
