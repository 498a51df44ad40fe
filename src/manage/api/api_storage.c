/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Storage pools, volumes, secrets. */
#include "manage/api/api.h"

char *virConnectFindStoragePoolSources(virConnectPtr conn, const char *type, const char *srcSpec, unsigned int flags)
{
    return STRING(conn, CONNECT_FIND_STORAGE_POOL_SOURCES, type, srcSpec, flags);
}

char *virConnectGetStoragePoolCapabilities(virConnectPtr conn, unsigned int flags)
{
    return STRING(conn, CONNECT_GET_STORAGE_POOL_CAPABILITIES, flags);
}

int virConnectListAllStoragePools(virConnectPtr conn, virStoragePoolPtr **pools, unsigned int flags)
{
    return LIST(conn, POOL, pools, CONNECT_LIST_ALL_STORAGE_POOLS, !!pools, flags);
}

int virConnectListDefinedStoragePools(virConnectPtr conn, char ** const names, int maxnames)
{
    return NAMES(conn, names, maxnames, CONNECT_LIST_DEFINED_STORAGE_POOLS, maxnames);
}

int virConnectListStoragePools(virConnectPtr conn, char ** const names, int maxnames)
{
    return NAMES(conn, names, maxnames, CONNECT_LIST_STORAGE_POOLS, maxnames);
}

int virConnectNumOfDefinedStoragePools(virConnectPtr conn) { return INT(conn, CONNECT_NUM_OF_DEFINED_STORAGE_POOLS); }
int virConnectNumOfStoragePools(virConnectPtr conn) { return INT(conn, CONNECT_NUM_OF_STORAGE_POOLS); }
int virStoragePoolBuild(virStoragePoolPtr pool, unsigned int flags) { return VOID(pool, STORAGE_POOL_BUILD, pool, flags); }
int virStoragePoolCreate(virStoragePoolPtr pool, unsigned int flags) { return VOID(pool, STORAGE_POOL_CREATE, pool, flags); }

virStoragePoolPtr virStoragePoolCreateXML(virConnectPtr conn, const char *xmlDesc, unsigned int flags)
{
    return MAKE(conn, POOL, STORAGE_POOL_CREATE_XML, xmlDesc, flags);
}

virStoragePoolPtr virStoragePoolDefineXML(virConnectPtr conn, const char *xml, unsigned int flags)
{
    return MAKE(conn, POOL, STORAGE_POOL_DEFINE_XML, xml, flags);
}

int virStoragePoolDelete(virStoragePoolPtr pool, unsigned int flags) { return VOID(pool, STORAGE_POOL_DELETE, pool, flags); }
int virStoragePoolDestroy(virStoragePoolPtr pool) { return VOID(pool, STORAGE_POOL_DESTROY, pool); }
char *virStoragePoolGetXMLDesc(virStoragePoolPtr pool, unsigned int flags) { return STRING(pool, STORAGE_POOL_GET_XML_DESC, pool, flags); }
int virStoragePoolIsActive(virStoragePoolPtr pool) { return INT(pool, STORAGE_POOL_IS_ACTIVE, pool); }
int virStoragePoolIsPersistent(virStoragePoolPtr pool) { return INT(pool, STORAGE_POOL_IS_PERSISTENT, pool); }

int virStoragePoolListAllVolumes(virStoragePoolPtr pool, virStorageVolPtr **vols, unsigned int flags)
{
    return LIST(pool, VOLUME, vols, STORAGE_POOL_LIST_ALL_VOLUMES, pool, !!vols, flags);
}

int virStoragePoolListVolumes(virStoragePoolPtr pool, char ** const names, int maxnames)
{
    return NAMES(pool, names, maxnames, STORAGE_POOL_LIST_VOLUMES, pool, maxnames);
}

virStoragePoolPtr virStoragePoolLookupByName(virConnectPtr conn, const char *name) { return MAKE(conn, POOL, STORAGE_POOL_LOOKUP_BY_NAME, name); }

virStoragePoolPtr virStoragePoolLookupByTargetPath(virConnectPtr conn, const char *path)
{
    return MAKE(conn, POOL, STORAGE_POOL_LOOKUP_BY_TARGET_PATH, path);
}

virStoragePoolPtr virStoragePoolLookupByUUID(virConnectPtr conn, const unsigned char *uuid)
{
    return MAKE(conn, POOL, STORAGE_POOL_LOOKUP_BY_UUID, uuid);
}

virStoragePoolPtr virStoragePoolLookupByVolume(virStorageVolPtr vol) { return MAKE(vol, POOL, STORAGE_POOL_LOOKUP_BY_VOLUME, vol); }
int virStoragePoolNumOfVolumes(virStoragePoolPtr pool) { return INT(pool, STORAGE_POOL_NUM_OF_VOLUMES, pool); }
int virStoragePoolRefresh(virStoragePoolPtr pool, unsigned int flags) { return VOID(pool, STORAGE_POOL_REFRESH, pool, flags); }
int virStoragePoolSetAutostart(virStoragePoolPtr pool, int autostart) { return VOID(pool, STORAGE_POOL_SET_AUTOSTART, pool, autostart); }
int virStoragePoolUndefine(virStoragePoolPtr pool) { return VOID(pool, STORAGE_POOL_UNDEFINE, pool); }

virStorageVolPtr virStorageVolCreateXML(virStoragePoolPtr pool, const char *xmlDesc, unsigned int flags)
{
    return MAKE(pool, VOLUME, STORAGE_VOL_CREATE_XML, pool, xmlDesc, flags);
}

virStorageVolPtr virStorageVolCreateXMLFrom(virStoragePoolPtr pool, const char *xmlDesc, virStorageVolPtr clonevol, unsigned int flags)
{
    return MAKE(pool, VOLUME, STORAGE_VOL_CREATE_XML_FROM, pool, xmlDesc, clonevol, flags);
}

int virStorageVolDelete(virStorageVolPtr vol, unsigned int flags) { return VOID(vol, STORAGE_VOL_DELETE, vol, flags); }
char *virStorageVolGetPath(virStorageVolPtr vol) { return STRING(vol, STORAGE_VOL_GET_PATH, vol); }
char *virStorageVolGetXMLDesc(virStorageVolPtr vol, unsigned int flags) { return STRING(vol, STORAGE_VOL_GET_XML_DESC, vol, flags); }
virStorageVolPtr virStorageVolLookupByKey(virConnectPtr conn, const char *key) { return MAKE(conn, VOLUME, STORAGE_VOL_LOOKUP_BY_KEY, key); }

virStorageVolPtr virStorageVolLookupByName(virStoragePoolPtr pool, const char *name)
{
    return MAKE(pool, VOLUME, STORAGE_VOL_LOOKUP_BY_NAME, pool, name);
}

virStorageVolPtr virStorageVolLookupByPath(virConnectPtr conn, const char *path) { return MAKE(conn, VOLUME, STORAGE_VOL_LOOKUP_BY_PATH, path); }

int virStorageVolResize(virStorageVolPtr vol, unsigned long long capacity, unsigned int flags)
{
    return VOID(vol, STORAGE_VOL_RESIZE, vol, (uint64_t)capacity, flags);
}

int virStorageVolWipe(virStorageVolPtr vol, unsigned int flags) { return VOID(vol, STORAGE_VOL_WIPE, vol, flags); }

int virStorageVolWipePattern(virStorageVolPtr vol, unsigned int algorithm, unsigned int flags)
{
    return VOID(vol, STORAGE_VOL_WIPE_PATTERN, vol, algorithm, flags);
}

int virConnectListAllSecrets(virConnectPtr conn, virSecretPtr **secrets, unsigned int flags)
{
    return LIST(conn, SECRET, secrets, CONNECT_LIST_ALL_SECRETS, !!secrets, flags);
}

int virConnectListSecrets(virConnectPtr conn, char **uuids, int maxuuids) { return NAMES(conn, uuids, maxuuids, CONNECT_LIST_SECRETS, maxuuids); }
int virConnectNumOfSecrets(virConnectPtr conn) { return INT(conn, CONNECT_NUM_OF_SECRETS); }
virSecretPtr virSecretDefineXML(virConnectPtr conn, const char *xml, unsigned int flags) { return MAKE(conn, SECRET, SECRET_DEFINE_XML, xml, flags); }
char *virSecretGetXMLDesc(virSecretPtr secret, unsigned int flags) { return STRING(secret, SECRET_GET_XML_DESC, secret, flags); }
virSecretPtr virSecretLookupByUUID(virConnectPtr conn, const unsigned char *uuid) { return MAKE(conn, SECRET, SECRET_LOOKUP_BY_UUID, uuid); }

virSecretPtr virSecretLookupByUsage(virConnectPtr conn, int usageType, const char *usageID)
{
    return MAKE(conn, SECRET, SECRET_LOOKUP_BY_USAGE, usageType, usageID);
}

int virSecretSetValue(virSecretPtr secret, const unsigned char *value, size_t value_size, unsigned int flags)
{
    return VOID(secret, SECRET_SET_VALUE, secret, value, value_size, flags);
}

int virSecretUndefine(virSecretPtr secret) { return VOID(secret, SECRET_UNDEFINE, secret); }
