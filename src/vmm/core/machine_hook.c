/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who wants to know when the machine runs, stands still, or changes its accelerator. */
#include "vmm/core/machine_private.h"

static GArray *hooks_of(struct machine *m)
{
    return ((struct machine_impl *)m)->hooks;
}

void machine_add_hook(struct machine *m, machine_hook_fn fn, void *opaque)
{
    struct machine_hook h = { fn, opaque };
    g_array_append_val(hooks_of(m), h);
}

void machine_remove_hook(struct machine *m, machine_hook_fn fn, void *opaque)
{
    GArray *a = hooks_of(m);
    for (unsigned i = 0; i < a->len; i++) {
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
    for (unsigned i = 0; i < hooks_of(m)->len; i++) {
        struct machine_hook h = g_array_index(hooks_of(m), struct machine_hook, i);
        h.fn(h.opaque, ev);
    }
}
