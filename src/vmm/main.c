/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vireo-vmm: one process is one virtual machine. This file is the table of contents. */
#include <stdio.h>

#include "base/error.h"
#include "base/log.h"
#include "vmm/blockdev/blockdev.h"
#include "vmm/board/board.h"
#include "vmm/core/chardev.h"
#include "vmm/core/machine.h"
#include "vmm/migrate/migrate.h"
#include "vmm/migrate/migrate_snapshot.h"
#include "vmm/qmp/qmp.h"
#include "vmm/setup.h"

static void quit_from_terminal(void *opaque)
{
    machine_request_shutdown(opaque, CAUSE_HOST_QMP_QUIT);
}

static bool create_machine(struct vm *vm, GError **error)
{
    vm->machine = machine_create(g_steal_pointer(&vm->options.config));
    vm->machine->cancel_fd = vm->cancel_fd;
    chardev_set_quit(quit_from_terminal, vm->machine);
    return true;
}

static bool create_board(struct vm *vm, GError **error)
{
    struct machine_config *c = vm->machine->config;
    vm->board = board_find(c->board);
    if (!vm->board)
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "-machine %s: there is no such board", c->board);
    if (vm->board->max_cpus && c->max_cpus > vm->board->max_cpus)
        return vireo_fail(error, VIREO_ERROR_INVALID, "-smp %u: the board %s has room for %u vCPUs", c->max_cpus, c->board, vm->board->max_cpus);
    if (c->max_cpus > c->cpus && !vm->board->hotplug)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "-smp: the board %s cannot take vCPUs at run time: maxcpus (%u) must be equal to cpus (%u); "
                          "-machine q35 can", c->board, c->max_cpus, c->cpus);
    return vm->board->create(vm->machine, error);
}

static bool finish_board(struct vm *vm, GError **error)
{
    return vm->board->finish(vm->machine, error);
}

static bool setup_migration(struct vm *vm, GError **error)
{
    vm->machine->announce = qmp_announce_all;
    if (vm->options.only_migratable && !migrate_possible(vm->machine, error)) {
        g_prefix_error(error, "-only-migratable: ");
        return false;
    }
    if (migrate_setup(vm->machine, vm->options.incoming, error))
        return true;
    g_prefix_error(error, "-incoming %s: ", vm->options.incoming);
    return false;
}

/* -loadvm. Where it fails nothing runs. */
static bool load_snapshot(struct vm *vm, GError **error)
{
    const struct migrate_snapshot s = { .tag = vm->options.loadvm };
    bool touched;
    if (!s.tag)
        return true;
    if (vm->options.incoming)
        return vireo_fail(error, VIREO_ERROR_INVALID, "-loadvm and -incoming do not go together: a machine comes from one of them");
    if (migrate_snapshot_load(vm->machine, &s, &touched, error))
        return true;
    g_prefix_error(error, "-loadvm %s: ", s.tag);
    return false;
}

static bool (*const steps[])(struct vm *vm, GError **error) = {
    setup_log,
    process_find_user,
    process_daemonize,
    process_catch_signals,
    create_machine,
    setup_objects,
    setup_memory,
    setup_chardevs,
    setup_drives,
    create_board,
    setup_netdevs,
    setup_audiodevs,
    setup_serial,
    setup_disks,
    setup_nics,
    setup_devices,
    setup_vga,
    finish_board,
    setup_lock_memory,
    setup_display,
    setup_qmp,
    setup_migration,
    process_write_pidfile,
    process_confine,
    process_close_sandbox,
    load_snapshot,
    process_detach,
};

static bool set_up(struct vm *vm, GError **error)
{
    for (size_t i = 0; i < G_N_ELEMENTS(steps); i++) {
        if (!steps[i](vm, error))
            return false;
    }
    return true;
}

static void tear_down(struct vm *vm)
{
    for (guint i = 0; vm->qmps && i < vm->qmps->len; i++)
        qmp_destroy(vm->qmps->pdata[i]);
    if (vm->machine)
        migrate_finish(vm->machine);
    blockdev_stop(vm->blockdev);
    machine_destroy(vm->machine);
    setup_tear_down_backends(vm);
    process_tear_down(vm);
    options_clear(&vm->options);
}

int main(int argc, char **argv)
{
    struct vm vm = { .cancel_fd = -1, .daemon_fd = -1, .null_fd = -1 };
    GError *error = NULL;
    int status = 1;
    enum options_result result = options_parse(&vm.options, argc, argv, &error);
    if (result == OPTIONS_DONE)
        status = 0;
    else if (result == OPTIONS_RUN && set_up(&vm, &error))
        status = machine_main(vm.machine);
    if (error) {
        g_autofree char *stamp = log_stamp();
        fprintf(stderr, "%svireo-vmm: %s\n", stamp, g_strdelimit(error->message, "\n\r", ' '));
    }
    tear_down(&vm);
    return status;
}
