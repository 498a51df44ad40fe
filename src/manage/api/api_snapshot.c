/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Snapshots and checkpoints: one public function, one procedure. */
#include "manage/api/api.h"

int virDomainHasCurrentSnapshot(virDomainPtr domain, unsigned int flags) { return INT(domain, DOMAIN_HAS_CURRENT_SNAPSHOT, domain, flags); }

int virDomainListAllSnapshots(virDomainPtr domain, virDomainSnapshotPtr **snaps, unsigned int flags)
{
    return LIST(domain, SNAPSHOT, snaps, DOMAIN_LIST_ALL_SNAPSHOTS, domain, !!snaps, flags);
}

int virDomainRevertToSnapshot(virDomainSnapshotPtr snapshot, unsigned int flags)
{
    return VOID(snapshot, DOMAIN_REVERT_TO_SNAPSHOT, snapshot, flags);
}

virDomainSnapshotPtr virDomainSnapshotCreateXML(virDomainPtr domain, const char *xmlDesc, unsigned int flags)
{
    return MAKE(domain, SNAPSHOT, DOMAIN_SNAPSHOT_CREATE_XML, domain, xmlDesc, flags);
}

virDomainSnapshotPtr virDomainSnapshotCurrent(virDomainPtr domain, unsigned int flags)
{
    return MAKE(domain, SNAPSHOT, DOMAIN_SNAPSHOT_CURRENT, domain, flags);
}

int virDomainSnapshotDelete(virDomainSnapshotPtr snapshot, unsigned int flags) { return VOID(snapshot, DOMAIN_SNAPSHOT_DELETE, snapshot, flags); }

virDomainSnapshotPtr virDomainSnapshotGetParent(virDomainSnapshotPtr snapshot, unsigned int flags)
{
    return MAKE(snapshot, SNAPSHOT, DOMAIN_SNAPSHOT_GET_PARENT, snapshot, flags);
}

char *virDomainSnapshotGetXMLDesc(virDomainSnapshotPtr snapshot, unsigned int flags)
{
    return STRING(snapshot, DOMAIN_SNAPSHOT_GET_XML_DESC, snapshot, flags);
}

int virDomainSnapshotHasMetadata(virDomainSnapshotPtr snapshot, unsigned int flags)
{
    return INT(snapshot, DOMAIN_SNAPSHOT_HAS_METADATA, snapshot, flags);
}

int virDomainSnapshotIsCurrent(virDomainSnapshotPtr snapshot, unsigned int flags)
{
    return INT(snapshot, DOMAIN_SNAPSHOT_IS_CURRENT, snapshot, flags);
}

int virDomainSnapshotListAllChildren(virDomainSnapshotPtr snapshot, virDomainSnapshotPtr **snaps, unsigned int flags)
{
    return LIST(snapshot, SNAPSHOT, snaps, DOMAIN_SNAPSHOT_LIST_ALL_CHILDREN, snapshot, !!snaps, flags);
}

int virDomainSnapshotListChildrenNames(virDomainSnapshotPtr snapshot, char **names, int nameslen, unsigned int flags)
{
    return NAMES(snapshot, names, nameslen, DOMAIN_SNAPSHOT_LIST_CHILDREN_NAMES, snapshot, nameslen, flags);
}

int virDomainSnapshotListNames(virDomainPtr domain, char **names, int nameslen, unsigned int flags)
{
    return NAMES(domain, names, nameslen, DOMAIN_SNAPSHOT_LIST_NAMES, domain, nameslen, flags);
}

virDomainSnapshotPtr virDomainSnapshotLookupByName(virDomainPtr domain, const char *name, unsigned int flags)
{
    return MAKE(domain, SNAPSHOT, DOMAIN_SNAPSHOT_LOOKUP_BY_NAME, domain, name, flags);
}

int virDomainSnapshotNum(virDomainPtr domain, unsigned int flags) { return INT(domain, DOMAIN_SNAPSHOT_NUM, domain, flags); }

int virDomainSnapshotNumChildren(virDomainSnapshotPtr snapshot, unsigned int flags)
{
    return INT(snapshot, DOMAIN_SNAPSHOT_NUM_CHILDREN, snapshot, flags);
}

virDomainCheckpointPtr virDomainCheckpointCreateXML(virDomainPtr domain, const char *xmlDesc, unsigned int flags)
{
    return MAKE(domain, CHECKPOINT, DOMAIN_CHECKPOINT_CREATE_XML, domain, xmlDesc, flags);
}

int virDomainCheckpointDelete(virDomainCheckpointPtr checkpoint, unsigned int flags)
{
    return VOID(checkpoint, DOMAIN_CHECKPOINT_DELETE, checkpoint, flags);
}

virDomainCheckpointPtr virDomainCheckpointGetParent(virDomainCheckpointPtr checkpoint, unsigned int flags)
{
    return MAKE(checkpoint, CHECKPOINT, DOMAIN_CHECKPOINT_GET_PARENT, checkpoint, flags);
}

char *virDomainCheckpointGetXMLDesc(virDomainCheckpointPtr checkpoint, unsigned int flags)
{
    return STRING(checkpoint, DOMAIN_CHECKPOINT_GET_XML_DESC, checkpoint, flags);
}

int virDomainCheckpointListAllChildren(virDomainCheckpointPtr checkpoint, virDomainCheckpointPtr **children, unsigned int flags)
{
    return LIST(checkpoint, CHECKPOINT, children, DOMAIN_CHECKPOINT_LIST_ALL_CHILDREN, checkpoint, !!children, flags);
}

virDomainCheckpointPtr virDomainCheckpointLookupByName(virDomainPtr domain, const char *name, unsigned int flags)
{
    return MAKE(domain, CHECKPOINT, DOMAIN_CHECKPOINT_LOOKUP_BY_NAME, domain, name, flags);
}

int virDomainListAllCheckpoints(virDomainPtr domain, virDomainCheckpointPtr **checkpoints, unsigned int flags)
{
    return LIST(domain, CHECKPOINT, checkpoints, DOMAIN_LIST_ALL_CHECKPOINTS, domain, !!checkpoints, flags);
}
