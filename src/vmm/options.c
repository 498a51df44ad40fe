/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Walks the command line with the table of options_table.c; checks what options mean together. */
#include "vmm/options.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/keyval.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "vmm/core/machine.h"

/* Printing instead of running travels as an error of this kind up to options_parse. */
static GQuark print_quark(void)
{
    return g_quark_from_static_string("vireo-options-print");
}

bool options_print(GError **error, char *text)
{
    g_set_error_literal(error, print_quark(), 0, text);
    g_free(text);
    return false;
}

static void item_free(void *p)
{
    struct option_item *item = p;
    g_free(item->text);
    keyval_free(item->kv);
    g_free(item);
}

struct option_item *options_add_item(struct options *o, GPtrArray *list, const char *option, const char *text, bool parse, const char *implied,
                                     GError **error)
{
    struct keyval *kv = parse ? keyval_parse(text, implied, error) : NULL;
    if (parse && !kv)
        return NULL;
    struct option_item *item = g_new0(struct option_item, 1);
    item->option = option;
    item->text = g_strdup(text);
    item->kv = kv;
    g_ptr_array_add(o->items, item);
    if (list)
        g_ptr_array_add(list, item);
    return item;
}

/* ---- finding a row ---- */

static const struct option_row *find_row(const char *name)
{
    for (const struct option_row *r = option_rows; r->name || r->help; r++) {
        if (r->name && !strcmp(r->name, name))
            return r;
    }
    return NULL;
}

static bool unknown_option(const char *arg, const char *name, GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    for (const struct option_row *r = option_rows; r->name || r->help; r++) {
        if (r->name && !option_refused(r))
            g_ptr_array_add(names, (void *)r->name);
    }
    const char *near = nearest_name(name, (const char *const *)names->pdata, names->len);
    g_autofree char *hint = near ? g_strdup_printf("did you mean -%s? ", near) : g_strdup("");
    g_ptr_array_add(names, NULL);
    g_autofree char *all = g_strjoinv(" -", (char **)names->pdata);
    return vireo_fail(error, VIREO_ERROR_INVALID, "%s: invalid option; %sthere are: -%s", arg, hint, all);
}

/* Runs the option at argv[*i]; *i moves over its argument. */
static bool run_option(struct options *o, int argc, char **argv, int *i, GError **error)
{
    const char *arg = argv[*i], *value = NULL;
    if (*arg != '-' || !arg[1]) { /* a disk image without option is the first disk */
        if (opt_hd(o, find_row("hda"), arg, error))
            return true;
        g_prefix_error(error, "%s: ", arg);
        return false;
    }
    const char *name = arg + (arg[1] == '-' && arg[2] ? 2 : 1);
    const struct option_row *row = find_row(name);
    if (!row)
        return unknown_option(arg, name, error);
    if (row->args) {
        if (*i + 1 >= argc)
            return vireo_fail(error, VIREO_ERROR_INVALID, "%s: requires an argument: %s %s", arg, arg, row->args);
        value = argv[++*i];
    }
    GError *e = NULL;
    if (row->handle(o, row, value, &e))
        return true;
    if (e->domain != print_quark())
        g_prefix_error(&e, "-%s%s%s: ", row->name, value ? " " : "", value ? value : "");
    g_propagate_error(error, e);
    return false;
}

/* ---- what options mean together ---- */

static bool check(struct options *o, GError **error)
{
    struct machine_config *c = o->config;
    if (o->accel_given && o->machine_accel_given)
        return vireo_fail(error, VIREO_ERROR_INVALID, "The -accel and \"-machine accel=\" options are incompatible; keep one of them");
    if (!c->kernel && (c->initrd || c->append))
        return vireo_fail(error, VIREO_ERROR_INVALID, "-%s only allowed with -kernel option", c->append ? "append" : "initrd");
    if (c->kernel && c->bios)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "-bios: a kernel given with -kernel is started without firmware; leave one of them out");
    if (o->daemonize && o->nographic && !c->nodefaults) /* with -nodefaults nothing of it is on the terminal */
        return vireo_fail(error, VIREO_ERROR_INVALID, "-nographic cannot be used with -daemonize; use -display none");
    if (o->no_net && o->nics->len)
        return vireo_fail(error, VIREO_ERROR_INVALID, "-nic none and another -nic contradict each other; keep one of them");
    if (!c->nodefaults && !o->nographic && !o->display_none && !o->serials->len && !o->qmps->len)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "there are no windows for the display; use -nographic for a serial console in this "
                          "terminal, -vnc 127.0.0.1:0 for a VNC server, or -display none");
    return true;
}

static void init(struct options *o)
{
    *o = (struct options){ .sandbox = sandbox_possible(NULL) };
    o->config = g_new0(struct machine_config, 1);
    *o->config = (struct machine_config){ .board = "q35", .irqchip = -1, .ram_size = UINT64_C(128) << 20, .cpus = 1, .max_cpus = 1, .sockets = 1, .cores = 1,
                                          .threads = 1, .rtc_base = -1 };
    o->items = g_ptr_array_new_with_free_func(item_free);
    o->drives = g_ptr_array_new_with_free_func(option_drive_free);
    GPtrArray **lists[] = { &o->chardevs, &o->netdevs, &o->nics, &o->devices, &o->serials, &o->qmps, &o->blockdevs, &o->objects, &o->numas, &o->audiodevs };
    for (size_t i = 0; i < G_N_ELEMENTS(lists); i++)
        *lists[i] = g_ptr_array_new();
}

enum options_result options_parse(struct options *o, int argc, char **argv, GError **error)
{
    GError *e = NULL;
    bool ok = true;
    init(o);
    for (int i = 1; ok && i < argc; i++)
        ok = run_option(o, argc, argv, &i, &e);
    if (ok && check(o, &e))
        return OPTIONS_RUN;
    if (e->domain != print_quark()) {
        g_propagate_error(error, e);
        return OPTIONS_ERROR;
    }
    fputs(e->message, stdout);
    g_error_free(e);
    return OPTIONS_DONE;
}

static void config_free(struct machine_config *c)
{
    if (!c)
        return;
    char *texts[] = { c->name, c->uuid, c->bios, c->boot_order, c->cpu_spec, c->accel_name, c->kernel, c->initrd, c->append, c->memory_backend, c->mem_path };
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++)
        g_free(texts[i]);
    keyval_free(c->smbios);
    g_free(c);
}

void options_clear(struct options *o)
{
    GPtrArray *lists[] = { o->chardevs, o->netdevs, o->nics, o->devices, o->serials, o->qmps, o->blockdevs, o->objects, o->numas, o->audiodevs, o->drives, o->items };
    for (size_t i = 0; i < G_N_ELEMENTS(lists); i++)
        g_clear_pointer(&lists[i], g_ptr_array_unref);
    config_free(o->config);
    g_free(o->pidfile);
    g_free(o->incoming);
    g_free(o->loadvm);
    g_free(o->vga);
    g_free(o->vnc);
    g_free(o->log_file);
    g_free(o->run_as);
    g_free(o->chroot);
    *o = (struct options){ 0 };
}
