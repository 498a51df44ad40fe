/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Domains: one public function, one procedure. */
#include "manage/api/api.h"

char *virConnectDomainXMLFromNative(virConnectPtr conn, const char *nativeFormat, const char *nativeConfig, unsigned int flags)
{
    return STRING(conn, CONNECT_DOMAIN_XML_FROM_NATIVE, nativeFormat, nativeConfig, flags);
}

char *virConnectDomainXMLToNative(virConnectPtr conn, const char *nativeFormat, const char *domainXml, unsigned int flags)
{
    return STRING(conn, CONNECT_DOMAIN_XML_TO_NATIVE, nativeFormat, domainXml, flags);
}

char *virConnectGetDomainCapabilities(virConnectPtr conn, const char *emulatorbin, const char *arch, const char *machine, const char *virttype,
                                      unsigned int flags)
{
    return STRING(conn, CONNECT_GET_DOMAIN_CAPABILITIES, emulatorbin, arch, machine, virttype, flags);
}

int virConnectListAllDomains(virConnectPtr conn, virDomainPtr **domains, unsigned int flags)
{
    return LIST(conn, DOMAIN, domains, CONNECT_LIST_ALL_DOMAINS, !!domains, flags);
}

int virConnectListDefinedDomains(virConnectPtr conn, char ** const names, int maxnames)
{
    return NAMES(conn, names, maxnames, CONNECT_LIST_DEFINED_DOMAINS, maxnames);
}

int virConnectNumOfDefinedDomains(virConnectPtr conn) { return INT(conn, CONNECT_NUM_OF_DEFINED_DOMAINS); }
int virConnectNumOfDomains(virConnectPtr conn) { return INT(conn, CONNECT_NUM_OF_DOMAINS); }
int virDomainAbortJob(virDomainPtr domain) { return VOID(domain, DOMAIN_ABORT_JOB, domain); }
int virDomainAbortJobFlags(virDomainPtr domain, unsigned int flags) { return VOID(domain, DOMAIN_ABORT_JOB_FLAGS, domain, flags); }

int virDomainAddIOThread(virDomainPtr domain, unsigned int iothread_id, unsigned int flags)
{
    return VOID(domain, DOMAIN_ADD_IOTHREAD, domain, iothread_id, flags);
}

int virDomainAgentSetResponseTimeout(virDomainPtr domain, int timeout, unsigned int flags)
{
    return INT(domain, DOMAIN_AGENT_SET_RESPONSE_TIMEOUT, domain, timeout, flags);
}

int virDomainAttachDevice(virDomainPtr domain, const char *xml) { return VOID(domain, DOMAIN_ATTACH_DEVICE, domain, xml); }

int virDomainAttachDeviceFlags(virDomainPtr domain, const char *xml, unsigned int flags)
{
    return VOID(domain, DOMAIN_ATTACH_DEVICE_FLAGS, domain, xml, flags);
}

int virDomainAuthorizedSSHKeysSet(virDomainPtr domain, const char *user, const char **keys, unsigned int nkeys, unsigned int flags)
{
    return VOID(domain, DOMAIN_AUTHORIZED_SSH_KEYS_SET, domain, user, keys, nkeys, flags);
}

int virDomainBackupBegin(virDomainPtr domain, const char *backupXML, const char *checkpointXML, unsigned int flags)
{
    return VOID(domain, DOMAIN_BACKUP_BEGIN, domain, backupXML, checkpointXML, flags);
}

char *virDomainBackupGetXMLDesc(virDomainPtr domain, unsigned int flags) { return STRING(domain, DOMAIN_BACKUP_GET_XML_DESC, domain, flags); }

int virDomainBlockCommit(virDomainPtr dom, const char *disk, const char *base, const char *top, unsigned long bandwidth, unsigned int flags)
{
    return VOID(dom, DOMAIN_BLOCK_COMMIT, dom, disk, base, top, (uint64_t)bandwidth, flags);
}

int virDomainBlockCopy(virDomainPtr dom, const char *disk, const char *destxml, virTypedParameterPtr params, int nparams, unsigned int flags)
{
    return VOID(dom, DOMAIN_BLOCK_COPY, dom, disk, destxml, params, (unsigned)nparams, flags);
}

int virDomainBlockJobAbort(virDomainPtr dom, const char *disk, unsigned int flags) { return VOID(dom, DOMAIN_BLOCK_JOB_ABORT, dom, disk, flags); }

int virDomainBlockJobSetSpeed(virDomainPtr dom, const char *disk, unsigned long bandwidth, unsigned int flags)
{
    return VOID(dom, DOMAIN_BLOCK_JOB_SET_SPEED, dom, disk, (uint64_t)bandwidth, flags);
}

int virDomainBlockPull(virDomainPtr dom, const char *disk, unsigned long bandwidth, unsigned int flags)
{
    return VOID(dom, DOMAIN_BLOCK_PULL, dom, disk, (uint64_t)bandwidth, flags);
}

int virDomainBlockRebase(virDomainPtr dom, const char *disk, const char *base, unsigned long bandwidth, unsigned int flags)
{
    return VOID(dom, DOMAIN_BLOCK_REBASE, dom, disk, base, (uint64_t)bandwidth, flags);
}

int virDomainBlockResize(virDomainPtr dom, const char *disk, unsigned long long size, unsigned int flags)
{
    return VOID(dom, DOMAIN_BLOCK_RESIZE, dom, disk, (uint64_t)size, flags);
}

int virDomainBlockStatsFlags(virDomainPtr dom, const char *disk, virTypedParameterPtr params, int *nparams, unsigned int flags)
{
    return PARAMS(dom, params, nparams, DOMAIN_BLOCK_STATS_FLAGS, dom, disk, api_count(nparams), api_string_flags(dom, flags));
}

int virDomainCoreDump(virDomainPtr domain, const char *to, unsigned int flags) { return VOID(domain, DOMAIN_CORE_DUMP, domain, to, flags); }

int virDomainCoreDumpWithFormat(virDomainPtr domain, const char *to, unsigned int dumpformat, unsigned int flags)
{
    return VOID(domain, DOMAIN_CORE_DUMP_WITH_FORMAT, domain, to, dumpformat, flags);
}

virDomainPtr virDomainCreateXML(virConnectPtr conn, const char *xmlDesc, unsigned int flags)
{
    return MAKE(conn, DOMAIN, DOMAIN_CREATE_XML, xmlDesc, flags);
}

virDomainPtr virDomainDefineXML(virConnectPtr conn, const char *xml) { return MAKE(conn, DOMAIN, DOMAIN_DEFINE_XML, xml); }

virDomainPtr virDomainDefineXMLFlags(virConnectPtr conn, const char *xml, unsigned int flags)
{
    return MAKE(conn, DOMAIN, DOMAIN_DEFINE_XML_FLAGS, xml, flags);
}

int virDomainDelIOThread(virDomainPtr domain, unsigned int iothread_id, unsigned int flags)
{
    return VOID(domain, DOMAIN_DEL_IOTHREAD, domain, iothread_id, flags);
}

int virDomainDetachDevice(virDomainPtr domain, const char *xml) { return VOID(domain, DOMAIN_DETACH_DEVICE, domain, xml); }

int virDomainDetachDeviceAlias(virDomainPtr domain, const char *alias, unsigned int flags)
{
    return VOID(domain, DOMAIN_DETACH_DEVICE_ALIAS, domain, alias, flags);
}

int virDomainDetachDeviceFlags(virDomainPtr domain, const char *xml, unsigned int flags)
{
    return VOID(domain, DOMAIN_DETACH_DEVICE_FLAGS, domain, xml, flags);
}

int virDomainFSFreeze(virDomainPtr dom, const char **mountpoints, unsigned int nmountpoints, unsigned int flags)
{
    return INT(dom, DOMAIN_FSFREEZE, dom, mountpoints, nmountpoints, flags);
}

int virDomainFSThaw(virDomainPtr dom, const char **mountpoints, unsigned int nmountpoints, unsigned int flags)
{
    return INT(dom, DOMAIN_FSTHAW, dom, mountpoints, nmountpoints, flags);
}

int virDomainFSTrim(virDomainPtr dom, const char *mountPoint, unsigned long long minimum, unsigned int flags)
{
    return VOID(dom, DOMAIN_FSTRIM, dom, mountPoint, (uint64_t)minimum, flags);
}

int virDomainGetBlkioParameters(virDomainPtr domain, virTypedParameterPtr params, int *nparams, unsigned int flags)
{
    return PARAMS(domain, params, nparams, DOMAIN_GET_BLKIO_PARAMETERS, domain, api_count(nparams), api_string_flags(domain, flags));
}

int virDomainGetBlockIoTune(virDomainPtr dom, const char *disk, virTypedParameterPtr params, int *nparams, unsigned int flags)
{
    return PARAMS(dom, params, nparams, DOMAIN_GET_BLOCK_IO_TUNE, dom, disk, api_count(nparams), api_string_flags(dom, flags));
}

char *virDomainGetHostname(virDomainPtr domain, unsigned int flags) { return STRING(domain, DOMAIN_GET_HOSTNAME, domain, flags); }

int virDomainGetInterfaceParameters(virDomainPtr domain, const char *device, virTypedParameterPtr params, int *nparams, unsigned int flags)
{
    return PARAMS(domain, params, nparams, DOMAIN_GET_INTERFACE_PARAMETERS, domain, device, api_count(nparams), api_string_flags(domain, flags));
}

int virDomainGetMaxVcpus(virDomainPtr domain) { return INT(domain, DOMAIN_GET_MAX_VCPUS, domain); }

int virDomainGetMemoryParameters(virDomainPtr domain, virTypedParameterPtr params, int *nparams, unsigned int flags)
{
    return PARAMS(domain, params, nparams, DOMAIN_GET_MEMORY_PARAMETERS, domain, api_count(nparams), api_string_flags(domain, flags));
}

char *virDomainGetMetadata(virDomainPtr domain, int type, const char *uri, unsigned int flags)
{
    return STRING(domain, DOMAIN_GET_METADATA, domain, type, uri, flags);
}

int virDomainGetNumaParameters(virDomainPtr domain, virTypedParameterPtr params, int *nparams, unsigned int flags)
{
    return PARAMS(domain, params, nparams, DOMAIN_GET_NUMA_PARAMETERS, domain, api_count(nparams), api_string_flags(domain, flags));
}

char *virDomainGetOSType(virDomainPtr domain) { return STRING(domain, DOMAIN_GET_OS_TYPE, domain); }

int virDomainGetSchedulerParameters(virDomainPtr domain, virTypedParameterPtr params, int *nparams)
{
    return PARAMS(domain, params, nparams, DOMAIN_GET_SCHEDULER_PARAMETERS, domain, api_count(nparams));
}

int virDomainGetSchedulerParametersFlags(virDomainPtr domain, virTypedParameterPtr params, int *nparams, unsigned int flags)
{
    return PARAMS(domain, params, nparams, DOMAIN_GET_SCHEDULER_PARAMETERS_FLAGS, domain, api_count(nparams), api_string_flags(domain, flags));
}

int virDomainGetVcpusFlags(virDomainPtr domain, unsigned int flags) { return INT(domain, DOMAIN_GET_VCPUS_FLAGS, domain, flags); }
char *virDomainGetXMLDesc(virDomainPtr domain, unsigned int flags) { return STRING(domain, DOMAIN_GET_XML_DESC, domain, flags); }
int virDomainHasManagedSaveImage(virDomainPtr dom, unsigned int flags) { return INT(dom, DOMAIN_HAS_MANAGED_SAVE_IMAGE, dom, flags); }
int virDomainInjectNMI(virDomainPtr domain, unsigned int flags) { return VOID(domain, DOMAIN_INJECT_NMI, domain, flags); }
int virDomainIsActive(virDomainPtr dom) { return INT(dom, DOMAIN_IS_ACTIVE, dom); }
int virDomainIsPersistent(virDomainPtr dom) { return INT(dom, DOMAIN_IS_PERSISTENT, dom); }
int virDomainIsUpdated(virDomainPtr dom) { return INT(dom, DOMAIN_IS_UPDATED, dom); }
virDomainPtr virDomainLookupByID(virConnectPtr conn, int id) { return MAKE(conn, DOMAIN, DOMAIN_LOOKUP_BY_ID, id); }
virDomainPtr virDomainLookupByName(virConnectPtr conn, const char *name) { return MAKE(conn, DOMAIN, DOMAIN_LOOKUP_BY_NAME, name); }
virDomainPtr virDomainLookupByUUID(virConnectPtr conn, const unsigned char *uuid) { return MAKE(conn, DOMAIN, DOMAIN_LOOKUP_BY_UUID, uuid); }
int virDomainManagedSave(virDomainPtr dom, unsigned int flags) { return VOID(dom, DOMAIN_MANAGED_SAVE, dom, flags); }

int virDomainManagedSaveDefineXML(virDomainPtr domain, const char *dxml, unsigned int flags)
{
    return VOID(domain, DOMAIN_MANAGED_SAVE_DEFINE_XML, domain, dxml, flags);
}

char *virDomainManagedSaveGetXMLDesc(virDomainPtr domain, unsigned int flags)
{
    return STRING(domain, DOMAIN_MANAGED_SAVE_GET_XML_DESC, domain, flags);
}

int virDomainManagedSaveRemove(virDomainPtr dom, unsigned int flags) { return VOID(dom, DOMAIN_MANAGED_SAVE_REMOVE, dom, flags); }

int virDomainMigrateSetCompressionCache(virDomainPtr domain, unsigned long long cacheSize, unsigned int flags)
{
    return VOID(domain, DOMAIN_MIGRATE_SET_COMPRESSION_CACHE, domain, (uint64_t)cacheSize, flags);
}

int virDomainMigrateSetMaxDowntime(virDomainPtr domain, unsigned long long downtime, unsigned int flags)
{
    return VOID(domain, DOMAIN_MIGRATE_SET_MAX_DOWNTIME, domain, (uint64_t)downtime, flags);
}

int virDomainMigrateSetMaxSpeed(virDomainPtr domain, unsigned long bandwidth, unsigned int flags)
{
    return VOID(domain, DOMAIN_MIGRATE_SET_MAX_SPEED, domain, (uint64_t)bandwidth, flags);
}

int virDomainMigrateStartPostCopy(virDomainPtr domain, unsigned int flags) { return VOID(domain, DOMAIN_MIGRATE_START_POST_COPY, domain, flags); }

int virDomainPMSuspendForDuration(virDomainPtr dom, unsigned int target, unsigned long long duration, unsigned int flags)
{
    return VOID(dom, DOMAIN_PM_SUSPEND_FOR_DURATION, dom, target, (uint64_t)duration, flags);
}

int virDomainPMWakeup(virDomainPtr dom, unsigned int flags) { return VOID(dom, DOMAIN_PM_WAKEUP, dom, flags); }

int virDomainPinEmulator(virDomainPtr domain, unsigned char *cpumap, int maplen, unsigned int flags)
{
    return VOID(domain, DOMAIN_PIN_EMULATOR, domain, cpumap, (size_t)maplen, flags);
}

int virDomainPinIOThread(virDomainPtr domain, unsigned int iothread_id, unsigned char *cpumap, int maplen, unsigned int flags)
{
    return VOID(domain, DOMAIN_PIN_IOTHREAD, domain, iothread_id, cpumap, (size_t)maplen, flags);
}

int virDomainPinVcpu(virDomainPtr domain, unsigned int vcpu, unsigned char *cpumap, int maplen)
{
    return VOID(domain, DOMAIN_PIN_VCPU, domain, vcpu, cpumap, (size_t)maplen);
}

int virDomainPinVcpuFlags(virDomainPtr domain, unsigned int vcpu, unsigned char *cpumap, int maplen, unsigned int flags)
{
    return VOID(domain, DOMAIN_PIN_VCPU_FLAGS, domain, vcpu, cpumap, (size_t)maplen, flags);
}

int virDomainReboot(virDomainPtr domain, unsigned int flags) { return VOID(domain, DOMAIN_REBOOT, domain, flags); }
int virDomainReset(virDomainPtr domain, unsigned int flags) { return VOID(domain, DOMAIN_RESET, domain, flags); }
int virDomainRestore(virConnectPtr conn, const char *from) { return VOID(conn, DOMAIN_RESTORE, from); }

int virDomainRestoreFlags(virConnectPtr conn, const char *from, const char *dxml, unsigned int flags)
{
    return VOID(conn, DOMAIN_RESTORE_FLAGS, from, dxml, flags);
}

int virDomainRestoreParams(virConnectPtr conn, virTypedParameterPtr params, int nparams, unsigned int flags)
{
    return VOID(conn, DOMAIN_RESTORE_PARAMS, params, (unsigned)nparams, flags);
}

int virDomainResume(virDomainPtr domain) { return VOID(domain, DOMAIN_RESUME, domain); }
int virDomainSave(virDomainPtr domain, const char *to) { return VOID(domain, DOMAIN_SAVE, domain, to); }

int virDomainSaveFlags(virDomainPtr domain, const char *to, const char *dxml, unsigned int flags)
{
    return VOID(domain, DOMAIN_SAVE_FLAGS, domain, to, dxml, flags);
}

int virDomainSaveImageDefineXML(virConnectPtr conn, const char *file, const char *dxml, unsigned int flags)
{
    return VOID(conn, DOMAIN_SAVE_IMAGE_DEFINE_XML, file, dxml, flags);
}

char *virDomainSaveImageGetXMLDesc(virConnectPtr conn, const char *file, unsigned int flags)
{
    return STRING(conn, DOMAIN_SAVE_IMAGE_GET_XML_DESC, file, flags);
}

int virDomainSaveParams(virDomainPtr domain, virTypedParameterPtr params, int nparams, unsigned int flags)
{
    return VOID(domain, DOMAIN_SAVE_PARAMS, domain, params, (unsigned)nparams, flags);
}

int virDomainSendKey(virDomainPtr domain, unsigned int codeset, unsigned int holdtime, unsigned int *keycodes, int nkeycodes, unsigned int flags)
{
    return VOID(domain, DOMAIN_SEND_KEY, domain, codeset, holdtime, keycodes, (unsigned)nkeycodes, flags);
}

int virDomainSendProcessSignal(virDomainPtr domain, long long pid_value, unsigned int signum, unsigned int flags)
{
    return VOID(domain, DOMAIN_SEND_PROCESS_SIGNAL, domain, (int64_t)pid_value, signum, flags);
}

int virDomainSetAutostart(virDomainPtr domain, int autostart) { return VOID(domain, DOMAIN_SET_AUTOSTART, domain, autostart); }

int virDomainSetBlkioParameters(virDomainPtr domain, virTypedParameterPtr params, int nparams, unsigned int flags)
{
    return VOID(domain, DOMAIN_SET_BLKIO_PARAMETERS, domain, params, (unsigned)nparams, flags);
}

int virDomainSetBlockIoTune(virDomainPtr dom, const char *disk, virTypedParameterPtr params, int nparams, unsigned int flags)
{
    return VOID(dom, DOMAIN_SET_BLOCK_IO_TUNE, dom, disk, params, (unsigned)nparams, flags);
}

int virDomainSetBlockThreshold(virDomainPtr domain, const char *dev, unsigned long long threshold, unsigned int flags)
{
    return VOID(domain, DOMAIN_SET_BLOCK_THRESHOLD, domain, dev, (uint64_t)threshold, flags);
}

int virDomainSetGuestVcpus(virDomainPtr domain, const char *cpumap, int state, unsigned int flags)
{
    return VOID(domain, DOMAIN_SET_GUEST_VCPUS, domain, cpumap, state, flags);
}

int virDomainSetIOThreadParams(virDomainPtr domain, unsigned int iothread_id, virTypedParameterPtr params, int nparams, unsigned int flags)
{
    return VOID(domain, DOMAIN_SET_IOTHREAD_PARAMS, domain, iothread_id, params, (unsigned)nparams, flags);
}

int virDomainSetInterfaceParameters(virDomainPtr domain, const char *device, virTypedParameterPtr params, int nparams, unsigned int flags)
{
    return VOID(domain, DOMAIN_SET_INTERFACE_PARAMETERS, domain, device, params, (unsigned)nparams, flags);
}

int virDomainSetLaunchSecurityState(virDomainPtr domain, virTypedParameterPtr params, int nparams, unsigned int flags)
{
    return VOID(domain, DOMAIN_SET_LAUNCH_SECURITY_STATE, domain, params, (unsigned)nparams, flags);
}

int virDomainSetLifecycleAction(virDomainPtr domain, unsigned int type, unsigned int action, unsigned int flags)
{
    return VOID(domain, DOMAIN_SET_LIFECYCLE_ACTION, domain, type, action, flags);
}

int virDomainSetMaxMemory(virDomainPtr domain, unsigned long memory) { return VOID(domain, DOMAIN_SET_MAX_MEMORY, domain, (uint64_t)memory); }
int virDomainSetMemory(virDomainPtr domain, unsigned long memory) { return VOID(domain, DOMAIN_SET_MEMORY, domain, (uint64_t)memory); }

int virDomainSetMemoryFlags(virDomainPtr domain, unsigned long memory, unsigned int flags)
{
    return VOID(domain, DOMAIN_SET_MEMORY_FLAGS, domain, (uint64_t)memory, flags);
}

int virDomainSetMemoryParameters(virDomainPtr domain, virTypedParameterPtr params, int nparams, unsigned int flags)
{
    return VOID(domain, DOMAIN_SET_MEMORY_PARAMETERS, domain, params, (unsigned)nparams, flags);
}

int virDomainSetMemoryStatsPeriod(virDomainPtr domain, int period, unsigned int flags)
{
    return VOID(domain, DOMAIN_SET_MEMORY_STATS_PERIOD, domain, period, flags);
}

int virDomainSetMetadata(virDomainPtr domain, int type, const char *metadata, const char *key, const char *uri, unsigned int flags)
{
    return VOID(domain, DOMAIN_SET_METADATA, domain, type, metadata, key, uri, flags);
}

int virDomainSetNumaParameters(virDomainPtr domain, virTypedParameterPtr params, int nparams, unsigned int flags)
{
    return VOID(domain, DOMAIN_SET_NUMA_PARAMETERS, domain, params, (unsigned)nparams, flags);
}

int virDomainSetPerfEvents(virDomainPtr domain, virTypedParameterPtr params, int nparams, unsigned int flags)
{
    return VOID(domain, DOMAIN_SET_PERF_EVENTS, domain, params, (unsigned)nparams, flags);
}

int virDomainSetSchedulerParameters(virDomainPtr domain, virTypedParameterPtr params, int nparams)
{
    return VOID(domain, DOMAIN_SET_SCHEDULER_PARAMETERS, domain, params, (unsigned)nparams);
}

int virDomainSetSchedulerParametersFlags(virDomainPtr domain, virTypedParameterPtr params, int nparams, unsigned int flags)
{
    return VOID(domain, DOMAIN_SET_SCHEDULER_PARAMETERS_FLAGS, domain, params, (unsigned)nparams, flags);
}

int virDomainSetTime(virDomainPtr dom, long long seconds, unsigned int nseconds, unsigned int flags)
{
    return VOID(dom, DOMAIN_SET_TIME, dom, (int64_t)seconds, nseconds, flags);
}

int virDomainSetUserPassword(virDomainPtr dom, const char *user, const char *password, unsigned int flags)
{
    return VOID(dom, DOMAIN_SET_USER_PASSWORD, dom, user, password, flags);
}

int virDomainSetVcpu(virDomainPtr domain, const char *vcpumap, int state, unsigned int flags)
{
    return VOID(domain, DOMAIN_SET_VCPU, domain, vcpumap, state, flags);
}

int virDomainSetVcpus(virDomainPtr domain, unsigned int nvcpus) { return VOID(domain, DOMAIN_SET_VCPUS, domain, nvcpus); }

int virDomainSetVcpusFlags(virDomainPtr domain, unsigned int nvcpus, unsigned int flags)
{
    return VOID(domain, DOMAIN_SET_VCPUS_FLAGS, domain, nvcpus, flags);
}

int virDomainShutdown(virDomainPtr domain) { return VOID(domain, DOMAIN_SHUTDOWN, domain); }
int virDomainShutdownFlags(virDomainPtr domain, unsigned int flags) { return VOID(domain, DOMAIN_SHUTDOWN_FLAGS, domain, flags); }

int virDomainStartDirtyRateCalc(virDomainPtr domain, int seconds, unsigned int flags)
{
    return VOID(domain, DOMAIN_START_DIRTY_RATE_CALC, domain, seconds, flags);
}

int virDomainSuspend(virDomainPtr domain) { return VOID(domain, DOMAIN_SUSPEND, domain); }
int virDomainUndefine(virDomainPtr domain) { return VOID(domain, DOMAIN_UNDEFINE, domain); }
int virDomainUndefineFlags(virDomainPtr domain, unsigned int flags) { return VOID(domain, DOMAIN_UNDEFINE_FLAGS, domain, flags); }

int virDomainUpdateDeviceFlags(virDomainPtr domain, const char *xml, unsigned int flags)
{
    return VOID(domain, DOMAIN_UPDATE_DEVICE_FLAGS, domain, xml, flags);
}
