/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* <libvirt/libvirt-lxc.h>: the names alone, so that bindings which ask for them load (Ruby's and Go's do). */
#include <libvirt/libvirt-lxc.h>

#include "manage/api/api.h"

int virDomainLxcOpenNamespace(virDomainPtr domain, int **fdlist, unsigned int flags) { return NO_SUPPORT(domain, -1); }

int virDomainLxcEnterNamespace(virDomainPtr domain, unsigned int nfdlist, int *fdlist, unsigned int *noldfdlist, int **oldfdlist, unsigned int flags)
{
    return NO_SUPPORT(domain, -1);
}

static int refuse(const char *func)
{
    virResetLastError();
    api_fail(NULL, VIR_ERR_NO_SUPPORT, "%s", func);
    return -1;
}

int virDomainLxcEnterSecurityLabel(virSecurityModelPtr model, virSecurityLabelPtr label, virSecurityLabelPtr oldlabel, unsigned int flags)
{
    return refuse(__func__); /* NO_SUPPORT() wants a handle */
}

int virDomainLxcEnterCGroup(virDomainPtr domain, unsigned int flags) { return NO_SUPPORT(domain, -1); }
