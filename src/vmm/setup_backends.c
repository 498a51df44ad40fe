/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Opens what the host gives to the machine: character back ends, disks, networks, control. */
#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "base/error.h"
#include "base/fdset.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "base/secret.h"
#include "vmm/blockdev/blockdev.h"
#include "vmm/core/chardev.h"
#include "vmm/core/machine.h"
#include "vmm/core/numa.h"
#include "vmm/core/object.h"
#include "vmm/dev/audio/audiodev.h"
#include "vmm/display/display.h"
#include "vmm/net/net.h"
#include "vmm/qmp/qmp.h"
#include "vmm/setup.h"

static void add(GPtrArray **list, void *what)
{
    if (!*list)
        *list = g_ptr_array_new();
    g_ptr_array_add(*list, what);
}

static bool failed_item(const struct option_item *item, GError **error)
{
    g_prefix_error(error, "%s %s: ", item->option, item->text);
    return false;
}

bool setup_log(struct vm *vm, GError **error)
{
    return !vm->options.log_file || log_open(vm->options.log_file, error);
}

/* ---- objects and memory ---- */

bool setup_objects(struct vm *vm, GError **error)
{
    for (guint i = 0; i < vm->options.objects->len; i++) {
        const struct option_item *item = vm->options.objects->pdata[i];
        if (!object_create(vm->machine, item->kv, error))
            return failed_item(item, error);
    }
    return true;
}

bool setup_memory(struct vm *vm, GError **error)
{
    g_autoptr(GPtrArray) nodes = g_ptr_array_new();
    for (guint i = 0; i < vm->options.numas->len; i++)
        g_ptr_array_add(nodes, ((const struct option_item *)vm->options.numas->pdata[i])->kv);
    return numa_build(vm->machine, nodes, error);
}

bool setup_lock_memory(struct vm *vm, GError **error)
{
    struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };
    if (!vm->machine->config->mem_lock)
        return true;
    if (!mlockall(MCL_CURRENT | MCL_FUTURE)) {
        if (setrlimit(RLIMIT_MEMLOCK, &limit))
            sandbox_keep_capability(CAP_IPC_LOCK); /* what comes later is locked too, and must not fail */
        return true;
    }
    int err = errno;
    getrlimit(RLIMIT_MEMLOCK, &limit);
    if (limit.rlim_cur == RLIM_INFINITY)
        return vireo_fail_errno(error, err, "-overcommit mem-lock=on: cannot lock the memory of the process");
    return vireo_fail_errno(error, err, "-overcommit mem-lock=on: cannot lock the memory of the process; this user may lock %llu KiB (ulimit -l, "
                            "RLIMIT_MEMLOCK)", (unsigned long long)limit.rlim_cur / 1024);
}

/* ---- character back ends ---- */

static void end_chardev(void *c)
{
    chardev_close(c);
}

static bool register_chardev(struct vm *vm, struct chardev *c, GError **error)
{
    bool good = !g_hash_table_contains(vm->machine->chardevs, chardev_id(c)) || vireo_fail(error, VIREO_ERROR_INVALID, "there is a chardev '%s' already; give this one another id",
                                                                                           chardev_id(c));
    if (good && vm->options.daemonize && g_str_has_prefix(chardev_filename(c), "stdio"))
        good = vireo_fail(error, VIREO_ERROR_INVALID, "cannot use stdio with -daemonize");
    if (good)
        g_hash_table_insert(vm->machine->chardevs, (void *)chardev_id(c), c);
    else
        chardev_close(c);
    return good;
}

bool setup_chardevs(struct vm *vm, GError **error)
{
    /* The table owns them: QMP adds and takes away. It goes with the machine, after the devices. */
    g_hash_table_unref(vm->machine->chardevs);
    vm->machine->chardevs = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, end_chardev);
    for (guint i = 0; i < vm->options.chardevs->len; i++) {
        const struct option_item *item = vm->options.chardevs->pdata[i];
        keyval_auto *kv = keyval_copy(item->kv);
        g_autofree char *backend = keyval_take(kv, "backend"), *id = keyval_take(kv, "id");
        g_autoptr(GHashTable) opts = keyval_to_hash(kv);
        struct chardev *c = chardev_open_opts(backend ? backend : "", id, opts, error);
        if (!c || !register_chardev(vm, c, error))
            return failed_item(item, error);
    }
    return true;
}

bool setup_find_chardev(struct vm *vm, const char *id, const char *spec, struct chardev **ret, GError **error)
{
    GError *e = NULL;
    *ret = NULL;
    if (g_str_has_prefix(spec, "chardev:")) {
        *ret = g_hash_table_lookup(vm->machine->chardevs, spec + strlen("chardev:"));
        return *ret || vireo_fail(error, VIREO_ERROR_NOT_FOUND, "there is no chardev '%s'; add -chardev BACKEND,id=%s", spec + strlen("chardev:"),
                                  spec + strlen("chardev:"));
    }
    *ret = chardev_open(id, spec, &e);
    if (e) {
        g_propagate_error(error, e);
        return false;
    }
    return !*ret || register_chardev(vm, *ret, error);
}

/* ---- disks ---- */

static bool add_nodes(struct vm *vm, GError **error)
{
    g_autoptr(GPtrArray) items = g_ptr_array_new();
    guint failed = 0;
    for (guint i = 0; i < vm->options.blockdevs->len; i++)
        g_ptr_array_add(items, ((const struct option_item *)vm->options.blockdevs->pdata[i])->kv);
    return blockdev_add_nodes(vm->blockdev, items, &failed, error) || failed_item(vm->options.blockdevs->pdata[failed], error);
}

/* Whether any disk was given by name, and not as a descriptor. */
static bool opened_by_name(struct vm *vm)
{
    GPtrArray *nodes = block_nodes(vm->blockdev ? blockdev_graph(vm->blockdev) : NULL);
    bool found = !nodes->len;
    for (guint i = 0; i < nodes->len; i++) {
        const struct block_node *n = nodes->pdata[i];
        found |= !block_node_has_file(n) && !fdset_path(block_node_filename(n));
    }
    g_ptr_array_unref(nodes);
    return found;
}

bool setup_drives(struct vm *vm, GError **error)
{
    const struct options *o = &vm->options;
    vm->blockdev = blockdev_create(vm->machine);
    if (vm->machine->config->incoming)
        blockdev_begin_inactive(vm->blockdev);
    block_graph_set_secrets(blockdev_graph(vm->blockdev), secrets_find, vm->machine->secrets);
    block_graph_set_throttle(blockdev_graph(vm->blockdev), vm->machine->throttle);
    if (!add_nodes(vm, error))
        return false;
    for (guint i = 0; i < o->drives->len; i++) {
        struct option_drive *d = o->drives->pdata[i];
        d->drive.snapshot |= o->snapshot && !d->drive.media;
        if (!blockdev_add_drive(vm->blockdev, &d->drive, error))
            return failed_item(d->item, error);
    }
    /* QMP may name images of the host, unless this process was given all its disks as descriptors. */
    if (o->sandbox_files == FILES_ON || (o->sandbox_files == FILES_AUTO && o->qmps->len && opened_by_name(vm)))
        sandbox_need(SANDBOX_FILES);
    return true;
}

/* ---- networks ---- */

static void end_net(void *n)
{
    net_backend_destroy(n);
}

bool setup_netdevs(struct vm *vm, GError **error)
{
    /* The table owns them: QMP adds and takes away. It goes with the machine, after the devices. */
    g_hash_table_unref(vm->machine->netdevs);
    vm->machine->netdevs = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, end_net);
    for (guint i = 0; i < vm->options.netdevs->len; i++) {
        const struct option_item *item = vm->options.netdevs->pdata[i];
        if (!net_open(vm->machine, item->kv, NULL, error))
            return failed_item(item, error);
    }
    return true;
}

/* ---- sound ---- */

bool setup_audiodevs(struct vm *vm, GError **error)
{
    for (guint i = 0; i < vm->options.audiodevs->len; i++) {
        const struct option_item *item = vm->options.audiodevs->pdata[i];
        if (!audiodev_open(vm->machine, item->kv, error))
            return failed_item(item, error);
    }
    return true;
}

/* ---- display ---- */

bool setup_display(struct vm *vm, GError **error)
{
    if (!vm->options.vnc || display_start_vnc(vm->machine, vm->options.vnc, error))
        return true;
    g_prefix_error(error, "-vnc %s: ", vm->options.vnc);
    return false;
}

/* ---- control ---- */

static bool start_qmp(struct vm *vm, const struct option_item *item, unsigned index, GError **error)
{
    g_autofree char *id = g_strdup_printf("compat_monitor%u", index);
    struct chardev *c;
    if (!setup_find_chardev(vm, id, item->text, &c, error))
        return false;
    if (!c)
        return true;
    struct qmp *q = qmp_create(vm->machine, c, !strcmp(item->option, "-qmp-pretty"), error);
    if (!q)
        return false;
    add(&vm->qmps, q);
    return true;
}

bool setup_qmp(struct vm *vm, GError **error)
{
    for (guint i = 0; i < vm->options.qmps->len; i++) {
        const struct option_item *item = vm->options.qmps->pdata[i];
        if (!start_qmp(vm, item, i, error))
            return failed_item(item, error);
    }
    return true;
}

void setup_tear_down_backends(struct vm *vm)
{
    g_clear_pointer(&vm->qmps, g_ptr_array_unref);
    blockdev_destroy(g_steal_pointer(&vm->blockdev));
}
