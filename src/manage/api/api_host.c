/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The host: its CPUs, memory, devices. */
#include "manage/api/api.h"

char *virConnectBaselineCPU(virConnectPtr conn, const char **xmlCPUs, unsigned int ncpus, unsigned int flags)
{
    return STRING(conn, CONNECT_BASELINE_CPU, xmlCPUs, ncpus, flags);
}

char *virConnectBaselineHypervisorCPU(virConnectPtr conn, const char *emulator, const char *arch, const char *machine, const char *virttype,
                                      const char **xmlCPUs, unsigned int ncpus, unsigned int flags)
{
    return STRING(conn, CONNECT_BASELINE_HYPERVISOR_CPU, emulator, arch, machine, virttype, xmlCPUs, ncpus, flags);
}

int virConnectCompareCPU(virConnectPtr conn, const char *xmlDesc, unsigned int flags) { return INT(conn, CONNECT_COMPARE_CPU, xmlDesc, flags); }

int virConnectCompareHypervisorCPU(virConnectPtr conn, const char *emulator, const char *arch, const char *machine, const char *virttype,
                                   const char *xmlCPU, unsigned int flags)
{
    return INT(conn, CONNECT_COMPARE_HYPERVISOR_CPU, emulator, arch, machine, virttype, xmlCPU, flags);
}

char *virConnectGetCapabilities(virConnectPtr conn) { return STRING(conn, CONNECT_GET_CAPABILITIES); }
char *virConnectGetHostname(virConnectPtr conn) { return STRING(conn, CONNECT_GET_HOSTNAME); }
int virConnectGetMaxVcpus(virConnectPtr conn, const char *type) { return INT(conn, CONNECT_GET_MAX_VCPUS, type); }
char *virConnectGetSysinfo(virConnectPtr conn, unsigned int flags) { return STRING(conn, CONNECT_GET_SYSINFO, flags); }

int virConnectSetIdentity(virConnectPtr conn, virTypedParameterPtr params, int nparams, unsigned int flags)
{
    return VOID(conn, CONNECT_SET_IDENTITY, params, (unsigned)nparams, flags);
}

int virNodeGetMemoryParameters(virConnectPtr conn, virTypedParameterPtr params, int *nparams, unsigned int flags)
{
    return PARAMS(conn, params, nparams, NODE_GET_MEMORY_PARAMETERS, api_count(nparams), api_string_flags(conn, flags));
}

int virNodeSetMemoryParameters(virConnectPtr conn, virTypedParameterPtr params, int nparams, unsigned int flags)
{
    return VOID(conn, NODE_SET_MEMORY_PARAMETERS, params, (unsigned)nparams, flags);
}

int virNodeSuspendForDuration(virConnectPtr conn, unsigned int target, unsigned long long duration, unsigned int flags)
{
    return VOID(conn, NODE_SUSPEND_FOR_DURATION, target, (uint64_t)duration, flags);
}

int virConnectListAllNodeDevices(virConnectPtr conn, virNodeDevicePtr **devices, unsigned int flags)
{
    return LIST(conn, NODEDEV, devices, CONNECT_LIST_ALL_NODE_DEVICES, !!devices, flags);
}

int virNodeDeviceCreate(virNodeDevicePtr dev, unsigned int flags) { return VOID(dev, NODE_DEVICE_CREATE, api_name(dev), flags); }

virNodeDevicePtr virNodeDeviceCreateXML(virConnectPtr conn, const char *xmlDesc, unsigned int flags)
{
    return MAKE(conn, NODEDEV, NODE_DEVICE_CREATE_XML, xmlDesc, flags);
}

virNodeDevicePtr virNodeDeviceDefineXML(virConnectPtr conn, const char *xmlDesc, unsigned int flags)
{
    return MAKE(conn, NODEDEV, NODE_DEVICE_DEFINE_XML, xmlDesc, flags);
}

int virNodeDeviceDestroy(virNodeDevicePtr dev) { return VOID(dev, NODE_DEVICE_DESTROY, api_name(dev)); }

int virNodeDeviceDetachFlags(virNodeDevicePtr dev, const char *driverName, unsigned int flags)
{
    return VOID(dev, NODE_DEVICE_DETACH_FLAGS, api_name(dev), driverName, flags);
}

int virNodeDeviceDettach(virNodeDevicePtr dev) { return VOID(dev, NODE_DEVICE_DETTACH, api_name(dev)); }
char *virNodeDeviceGetXMLDesc(virNodeDevicePtr dev, unsigned int flags) { return STRING(dev, NODE_DEVICE_GET_XML_DESC, api_name(dev), flags); }
int virNodeDeviceIsActive(virNodeDevicePtr dev) { return INT(dev, NODE_DEVICE_IS_ACTIVE, api_name(dev)); }
int virNodeDeviceIsPersistent(virNodeDevicePtr dev) { return INT(dev, NODE_DEVICE_IS_PERSISTENT, api_name(dev)); }

int virNodeDeviceListCaps(virNodeDevicePtr dev, char ** const names, int maxnames)
{
    return NAMES(dev, names, maxnames, NODE_DEVICE_LIST_CAPS, api_name(dev), maxnames);
}

virNodeDevicePtr virNodeDeviceLookupByName(virConnectPtr conn, const char *name) { return MAKE(conn, NODEDEV, NODE_DEVICE_LOOKUP_BY_NAME, name); }

virNodeDevicePtr virNodeDeviceLookupSCSIHostByWWN(virConnectPtr conn, const char *wwnn, const char *wwpn, unsigned int flags)
{
    return MAKE(conn, NODEDEV, NODE_DEVICE_LOOKUP_SCSI_HOST_BY_WWN, wwnn, wwpn, flags);
}

int virNodeDeviceNumOfCaps(virNodeDevicePtr dev) { return INT(dev, NODE_DEVICE_NUM_OF_CAPS, api_name(dev)); }
int virNodeDeviceReAttach(virNodeDevicePtr dev) { return VOID(dev, NODE_DEVICE_RE_ATTACH, api_name(dev)); }
int virNodeDeviceReset(virNodeDevicePtr dev) { return VOID(dev, NODE_DEVICE_RESET, api_name(dev)); }
int virNodeDeviceSetAutostart(virNodeDevicePtr dev, int autostart) { return VOID(dev, NODE_DEVICE_SET_AUTOSTART, api_name(dev), autostart); }
int virNodeDeviceUndefine(virNodeDevicePtr dev, unsigned int flags) { return VOID(dev, NODE_DEVICE_UNDEFINE, api_name(dev), flags); }

int virNodeListDevices(virConnectPtr conn, const char *cap, char ** const names, int maxnames, unsigned int flags)
{
    return NAMES(conn, names, maxnames, NODE_LIST_DEVICES, cap, maxnames, flags);
}

int virNodeNumOfDevices(virConnectPtr conn, const char *cap, unsigned int flags) { return INT(conn, NODE_NUM_OF_DEVICES, cap, flags); }
