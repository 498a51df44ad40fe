/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The emulator behind a domain (<libvirt/libvirt-qemu.h>): the procedures of the qemu program. */
#include <libvirt/libvirt-qemu.h>
#include <string.h>
#include <unistd.h>

#include "manage/api/api_events.h"

int virDomainQemuMonitorCommand(virDomainPtr domain, const char *cmd, char **result, unsigned int flags)
{
    char *answer = STRING(domain, QEMU_DOMAIN_MONITOR_COMMAND, domain, cmd, flags);
    if (!answer)
        return -1;
    if (result)
        *result = answer;
    else
        g_free(answer);
    return 0;
}

/* The descriptors that came back go to the caller, or are closed where he does not want them. */
static void hand_over(GArray *fds, unsigned *ret_n, int **ret_fds)
{
    if (ret_n)
        *ret_n = ret_fds ? fds->len : 0;
    if (ret_fds) {
        *ret_fds = g_memdup2(fds->data, fds->len * sizeof(int));
        return;
    }
    for (unsigned i = 0; i < fds->len; i++)
        close(g_array_index(fds, int, i));
}

int virDomainQemuMonitorCommandWithFiles(virDomainPtr domain, const char *cmd, unsigned int ninfiles, int *infiles, unsigned int *noutfiles,
                                         int **outfiles, char **result, unsigned int flags)
{
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    g_autoptr(GVariant) r = api_call_fds(ON(domain), infiles, ninfiles, fds, RPC_QEMU_DOMAIN_MONITOR_COMMAND_WITH_FILES, domain, cmd, flags);
    if (!r)
        return -1;
    hand_over(fds, noutfiles, outfiles);
    if (result)
        g_variant_get(r, "(s)", result);
    return 0;
}

char *virDomainQemuAgentCommand(virDomainPtr domain, const char *cmd, int timeout, unsigned int flags)
{
    return STRING(domain, QEMU_DOMAIN_AGENT_COMMAND, domain, cmd, timeout, flags);
}

virDomainPtr virDomainQemuAttach(virConnectPtr conn, unsigned int pid_value, unsigned int flags)
{
    return MAKE(conn, DOMAIN, QEMU_DOMAIN_ATTACH, pid_value, flags);
}

int virConnectDomainQemuMonitorEventRegister(virConnectPtr conn, virDomainPtr dom, const char *event, virConnectDomainQemuMonitorEventCallback cb,
                                             void *opaque, virFreeCallback freecb, unsigned int flags)
{
    return api_monitor_event_add(conn, dom, event, (void (*)(void))cb, opaque, freecb, flags);
}

int virConnectDomainQemuMonitorEventDeregister(virConnectPtr conn, int callbackID) { return api_monitor_event_drop(conn, callbackID); }
