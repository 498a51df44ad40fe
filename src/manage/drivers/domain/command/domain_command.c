/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From a document to a command line: the machine (domain_command_machine.c), then its devices in the order of the table in domain_command_device.c. */
#include "manage/drivers/domain/command/domain_command.h"
#include "manage/drivers/domain/net/domain_macvtap.h"

#include <string.h>
#include <unistd.h>

static void detach_networks(struct domain_driver *dr, GPtrArray *networks, const char *domain)
{
    for (unsigned i = 0; networks && i + 1 < networks->len; i += 2)
        if (dr->state->services->network_detach)
            dr->state->services->network_detach(dr->state, networks->pdata[i], domain, networks->pdata[i + 1]);
}

void domain_build_init(struct domain_build *b, struct domain *d, struct domain_driver *dr, struct doc *live)
{
    memset(b, 0, sizeof(*b));
    b->d = d;
    b->dr = dr;
    b->live = live;
    b->root = doc_root(live);
    b->devices = el_find(b->root, "devices");
    b->dir = d ? d->dir : NULL;
    b->plan = domain_plan_new();
    domain_machine_of(&b->m, dr, b->root);
}

void domain_build_finish(struct domain_build *b)
{
    if (b->plan && b->d)
        detach_networks(b->dr, b->plan->networks, b->d->name);
    for (unsigned i = 0; b->plan && b->d && b->dr->state->services->filter_detach && i < b->plan->filtered->len; i++)
        b->dr->state->services->filter_detach(b->dr->state, b->plan->filtered->pdata[i]);
    for (unsigned i = 0; b->plan && b->d && i < b->plan->macvtaps->len; i++)
        domain_macvtap_remove(b->dir, b->plan->macvtaps->pdata[i]);
    for (unsigned i = 0; b->plan && b->d && i < b->plan->sockets->len; i++)
        unlink(b->plan->sockets->pdata[i]);
    g_clear_pointer(&b->plan, domain_plan_free);
    domain_machine_finish(&b->m);
}

/* What another program's option list has that ours does not: the document's own arguments. */
static void add_foreign(struct domain_build *b)
{
    el_each(arg, el_find(b->root, "qemu:commandline"), "qemu:arg")
        domain_plan_option(b, el_get_or(arg, "@value", ""), NULL);
}

static void add_monitor(struct domain_build *b)
{
    g_autofree char *name = domain_plan_escape(el_get_or(b->root, "name", ""));
    domain_plan_option(b, "-S", NULL);
    domain_plan_option(b, "-no-shutdown", NULL);
    domain_plan_option(b, "-chardev", "socket,id=charmonitor,path=%s/domain-%s/monitor.sock,server=on,wait=off", b->dr->state_dir, name);
    domain_plan_option(b, "-mon", "chardev=charmonitor,id=monitor,mode=control");
}

bool domain_build_all(struct domain_build *b, GError **error)
{
    domain_alias_all(b->live);
    if (!domain_plan_machine(b, error))
        return false;
    if (!b->d)
        add_monitor(b);
    if (!domain_plan_chains(b, error) || !domain_plan_devices(b, error))
        return false;
    if (!g_strcmp0(g_getenv("VIREO_SANDBOX"), "off")) /* for builds with sanitizers, which make system calls of their own */
        domain_plan_option(b, "-sandbox", "off");
    else
        domain_plan_option(b, "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny%s", b->m.is_vireo ? ",files=on" : "");
    domain_plan_option(b, "-msg", "timestamp=on");
    add_foreign(b);
    return true;
}

static void note_to_log(struct domain *d, GPtrArray *notes)
{
    for (unsigned i = 0; i < notes->len; i++)
        domain_log(d, notes->pdata[i]);
}

struct domain_command *domain_command_new(struct domain *d, struct doc *live, GError **error)
{
    struct domain_build b;
    struct domain_command *c = NULL;
    domain_build_init(&b, d, d->driver, live);
    if (domain_build_all(&b, error)) {
        c = g_new0(struct domain_command, 1);
        c->driver = d->driver;
        c->domain = g_strdup(d->name);
        c->emulator = g_strdup(b.m.emulator);
        c->is_vireo = b.m.is_vireo;
        c->argv = g_ptr_array_new_with_free_func(g_free);
        c->fds = g_array_new(FALSE, FALSE, sizeof(int));
        c->taps = g_ptr_array_new_with_free_func(g_free);
        c->networks = g_steal_pointer(&b.plan->networks);
        b.plan->networks = g_ptr_array_new_with_free_func(g_free);
        g_ptr_array_set_size(b.plan->filtered, 0); /* domain_stop() finds them in the live document */
        g_ptr_array_set_size(b.plan->sockets, 0); /* the same */
        g_ptr_array_set_size(b.plan->macvtaps, 0); /* domain_stop() finds them in the machine's directory */
        c->after = g_steal_pointer(&b.plan->after);
        b.plan->after = g_ptr_array_new();
        g_ptr_array_add(c->argv, g_strdup(b.m.emulator));
        domain_plan_argv(b.plan, c->argv, c->fds);
        g_ptr_array_add(c->argv, NULL);
        note_to_log(d, b.plan->notes);
    }
    domain_build_finish(&b);
    return c;
}

bool domain_command_after(struct domain *d, GPtrArray *after, GError **error)
{
    for (unsigned i = 0; after && i < after->len; i++) {
        struct json_object *name = NULL, *args = NULL;
        json_object_object_get_ex(after->pdata[i], "execute", &name);
        json_object_object_get_ex(after->pdata[i], "arguments", &args);
        struct json_object *o = monitor_command(d, json_object_get_string(name), json_object_get(args), error);
        if (!o)
            return false;
        json_object_put(o);
    }
    return true;
}

void domain_command_free(struct domain_command *c)
{
    if (!c)
        return;
    for (unsigned i = 0; i < c->fds->len; i++)
        close(g_array_index(c->fds, int, i));
    detach_networks(c->driver, c->networks, c->domain);
    g_ptr_array_unref(c->networks);
    g_ptr_array_unref(c->after);
    g_ptr_array_unref(c->taps);
    g_ptr_array_unref(c->argv);
    g_array_unref(c->fds);
    g_free(c->emulator);
    g_free(c->domain);
    g_free(c);
}
