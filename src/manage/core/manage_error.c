/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "manage/core/manage_error.h"

#include "base/error.h"

G_DEFINE_QUARK(manage-error, manage_error)

static void set(GError **error, int code, const char *format, va_list args)
{
    if (!error)
        return;
    g_clear_error(error);
    *error = g_error_new_valist(MANAGE_ERROR, code, format, args);
}

bool manage_fail(GError **error, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    set(error, code, format, args);
    va_end(args);
    return false;
}

void *manage_null(GError **error, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    set(error, code, format, args);
    va_end(args);
    return NULL;
}

bool manage_fail_errno(GError **error, int err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    return manage_fail(error, VIR_ERR_SYSTEM_ERROR, "%s: %s", what, g_strerror(err));
}

int manage_error_code(const GError *error)
{
    static const int vireo[] = { [VIREO_ERROR_FAILED] = VIR_ERR_OPERATION_FAILED, [VIREO_ERROR_INVALID] = VIR_ERR_INVALID_ARG,
                                 [VIREO_ERROR_UNSUPPORTED] = VIR_ERR_CONFIG_UNSUPPORTED, [VIREO_ERROR_NOT_FOUND] = VIR_ERR_OPERATION_FAILED,
                                 [VIREO_ERROR_PERMISSION] = VIR_ERR_OPERATION_FAILED, [VIREO_ERROR_BUSY] = VIR_ERR_OPERATION_INVALID,
                                 [VIREO_ERROR_IO] = VIR_ERR_OPERATION_FAILED, [VIREO_ERROR_NO_MEMORY] = VIR_ERR_NO_MEMORY };
    if (error->domain == MANAGE_ERROR)
        return error->code;
    if (error->domain == VIREO_ERROR && error->code >= 0 && error->code < (int)G_N_ELEMENTS(vireo))
        return vireo[error->code];
    return VIR_ERR_INTERNAL_ERROR;
}

char *manage_error_text(const GError *error)
{
    static const struct { int code; const char *begin; } begins[] = {
        { VIR_ERR_INTERNAL_ERROR, "internal error: " }, { VIR_ERR_INVALID_ARG, "invalid argument: " }, { VIR_ERR_OPERATION_FAILED, "operation failed: " },
        { VIR_ERR_OPERATION_INVALID, "Requested operation is not valid: " }, { VIR_ERR_OPERATION_DENIED, "operation forbidden: " },
        { VIR_ERR_OPERATION_UNSUPPORTED, "Operation not supported: " }, { VIR_ERR_OPERATION_TIMEOUT, "Timed out during operation: " },
        { VIR_ERR_CONFIG_UNSUPPORTED, "unsupported configuration: " }, { VIR_ERR_ARGUMENT_UNSUPPORTED, "argument unsupported: " },
        { VIR_ERR_XML_ERROR, "XML error: " }, { VIR_ERR_CPU_INCOMPATIBLE, "the CPU is incompatible with host CPU: " }, { VIR_ERR_OVERFLOW, "numerical overflow: " }, { VIR_ERR_RESOURCE_BUSY, "resource busy: " },
        { VIR_ERR_MIGRATE_UNSAFE, "Unsafe migration: " }, { VIR_ERR_OPERATION_ABORTED, "operation aborted: " }, { VIR_ERR_AGENT_UNRESPONSIVE, "Guest agent is not responding: " }, { VIR_ERR_AUTH_FAILED, "authentication failed: " },
        { VIR_ERR_DEVICE_MISSING, "device not found: " }, { VIR_ERR_NO_DOMAIN_METADATA, "metadata not found: " }, { VIR_ERR_NO_MEMORY, "out of memory: " },
        { VIR_ERR_NO_DOMAIN, "Domain not found: " }, { VIR_ERR_NO_NETWORK, "Network not found: " }, { VIR_ERR_NO_STORAGE_POOL, "Storage pool not found: " },
        { VIR_ERR_NO_STORAGE_VOL, "Storage volume not found: " }, { VIR_ERR_NO_SECRET, "Secret not found: " }, { VIR_ERR_NO_NODE_DEVICE, "Node device not found: " },
        { VIR_ERR_NO_DOMAIN_SNAPSHOT, "Domain snapshot not found: " }, { VIR_ERR_NO_DOMAIN_CHECKPOINT, "Domain checkpoint not found: " },
    };
    int code = manage_error_code(error);
    for (unsigned i = 0; i < G_N_ELEMENTS(begins); i++)
        if (begins[i].code == code && !g_str_has_prefix(error->message, begins[i].begin))
            return g_strconcat(begins[i].begin, error->message, NULL);
    return g_strdup(error->message);
}

/* Clients look at the domain in few places: 33 with nwfilter codes, 38 for streams, 60 polkit, 7 for "unknown procedure". */
int manage_error_domain(int code)
{
    switch (code) {
    case VIR_ERR_INVALID_NETWORK:
    case VIR_ERR_NO_NETWORK:
    case VIR_ERR_NETWORK_EXIST:
        return VIR_FROM_NETWORK;
    case VIR_ERR_INVALID_STORAGE_POOL:
    case VIR_ERR_INVALID_STORAGE_VOL:
    case VIR_ERR_NO_STORAGE_POOL:
    case VIR_ERR_NO_STORAGE_VOL:
    case VIR_ERR_STORAGE_VOL_EXIST:
    case VIR_ERR_STORAGE_POOL_BUILT:
    case VIR_ERR_STORAGE_PROBE_FAILED:
        return VIR_FROM_STORAGE;
    case VIR_ERR_INVALID_SECRET:
    case VIR_ERR_NO_SECRET:
        return VIR_FROM_SECRET;
    case VIR_ERR_NO_NODE_DEVICE:
    case VIR_ERR_INVALID_NODE_DEVICE:
        return VIR_FROM_NODEDEV;
    case VIR_ERR_NO_INTERFACE:
    case VIR_ERR_INVALID_INTERFACE:
        return VIR_FROM_INTERFACE;
    case VIR_ERR_NO_NWFILTER:
    case VIR_ERR_INVALID_NWFILTER:
    case VIR_ERR_BUILD_FIREWALL:
        return VIR_FROM_NWFILTER;
    case VIR_ERR_NO_DOMAIN_SNAPSHOT:
    case VIR_ERR_INVALID_DOMAIN_SNAPSHOT:
        return VIR_FROM_DOMAIN_SNAPSHOT;
    case VIR_ERR_XML_ERROR:
    case VIR_ERR_XML_DETAIL:
    case VIR_ERR_XML_INVALID_SCHEMA:
        return VIR_FROM_XML;
    case VIR_ERR_RPC:
        return VIR_FROM_RPC;
    case VIR_ERR_INVALID_STREAM:
        return VIR_FROM_STREAMS;
    case VIR_ERR_AUTH_UNAVAILABLE:
        return VIR_FROM_POLKIT;
    case VIR_ERR_ACCESS_DENIED:
        return VIR_FROM_ACCESS;
    default:
        return VIR_FROM_QEMU;
    }
}

int manage_error_domain_of(const char *procedure, const GError *error)
{
    static const struct { const char *begin; int domain; } kinds[] = {
        { "storage_", VIR_FROM_STORAGE }, { "network_", VIR_FROM_NETWORK }, { "secret_", VIR_FROM_SECRET }, { "interface_", VIR_FROM_INTERFACE },
        { "node_device_", VIR_FROM_NODEDEV }, { "nwfilter_", VIR_FROM_NWFILTER }, { "connect_compare_", VIR_FROM_CPU }, { "connect_baseline_", VIR_FROM_CPU },
        { "domain_define_", VIR_FROM_DOMAIN }, { "domain_create_xml", VIR_FROM_DOMAIN },
    };
    int code = manage_error_code(error), domain = manage_error_domain(code);
    if (code == VIR_ERR_NO_DOMAIN_METADATA || (code == VIR_ERR_OPERATION_INVALID && g_str_has_prefix(error->message, "domain is not running")))
        return VIR_FROM_DOMAIN;
    if (code == VIR_ERR_NO_DOMAIN_SNAPSHOT)
        return VIR_FROM_QEMU;
    for (unsigned i = 0; procedure && (domain == VIR_FROM_QEMU || domain == VIR_FROM_XML) && i < G_N_ELEMENTS(kinds); i++)
        if (g_str_has_prefix(procedure, kinds[i].begin) && (kinds[i].domain != VIR_FROM_DOMAIN || code != VIR_ERR_INVALID_ARG))
            return kinds[i].domain;
    return domain;
}
