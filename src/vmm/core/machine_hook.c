/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who wants to know when the machine runs, stands still, or changes its accelerator. */
#include "vmm/core/machine_private.h"

struct machine_hook {
    machine_hook_fn fn;
    void *opaque;
};

void machine_add_hook(struct machine *m, machine_hook_fn fn, void *opaque)
{
    struct machine_hook h = { fn, opaque };
    if (!m->hooks)
        m->hooks = g_array_new(FALSE, FALSE, sizeof(h));
    g_array_append_val(m->hooks, h);
}

void machine_remove_hook(struct machine *m, machine_hook_fn fn, void *opaque)
{
    GArray *a = m->hooks;
    for (unsigned i = 0; a && i < a->len; i++) {
        const struct machine_hook *h = &g_array_index(a, struct machine_hook, i);
        if (h->fn == fn && h->opaque == opaque) {
            g_array_remove_index(a, i);
            return;
        }
    }
}

bool machine_memory_is_plain(const struct machine *m)
{
    return m->accel_ops && !strcmp(m->accel_ops->name, "kvm");
}

void machine_run_hooks(struct machine *m, enum machine_hook_event ev)
{
    for (unsigned i = 0; m->hooks && i < m->hooks->len; i++) {
        struct machine_hook h = g_array_index(m->hooks, struct machine_hook, i);
        h.fn(h.opaque, ev);
    }
}
