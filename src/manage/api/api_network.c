/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Networks, filters and interfaces. */
#include "manage/api/api.h"

int virConnectListAllNetworks(virConnectPtr conn, virNetworkPtr **nets, unsigned int flags)
{
    return LIST(conn, NETWORK, nets, CONNECT_LIST_ALL_NETWORKS, !!nets, flags);
}

int virConnectListDefinedNetworks(virConnectPtr conn, char ** const names, int maxnames)
{
    return NAMES(conn, names, maxnames, CONNECT_LIST_DEFINED_NETWORKS, maxnames);
}

int virConnectListNetworks(virConnectPtr conn, char ** const names, int maxnames)
{
    return NAMES(conn, names, maxnames, CONNECT_LIST_NETWORKS, maxnames);
}

int virConnectNumOfDefinedNetworks(virConnectPtr conn) { return INT(conn, CONNECT_NUM_OF_DEFINED_NETWORKS); }
int virConnectNumOfNetworks(virConnectPtr conn) { return INT(conn, CONNECT_NUM_OF_NETWORKS); }
int virNetworkCreate(virNetworkPtr network) { return VOID(network, NETWORK_CREATE, network); }
virNetworkPtr virNetworkCreateXML(virConnectPtr conn, const char *xmlDesc) { return MAKE(conn, NETWORK, NETWORK_CREATE_XML, xmlDesc); }

virNetworkPtr virNetworkCreateXMLFlags(virConnectPtr conn, const char *xmlDesc, unsigned int flags)
{
    return MAKE(conn, NETWORK, NETWORK_CREATE_XML_FLAGS, xmlDesc, flags);
}

virNetworkPtr virNetworkDefineXML(virConnectPtr conn, const char *xml) { return MAKE(conn, NETWORK, NETWORK_DEFINE_XML, xml); }

virNetworkPtr virNetworkDefineXMLFlags(virConnectPtr conn, const char *xml, unsigned int flags)
{
    return MAKE(conn, NETWORK, NETWORK_DEFINE_XML_FLAGS, xml, flags);
}

int virNetworkDestroy(virNetworkPtr network) { return VOID(network, NETWORK_DESTROY, network); }
char *virNetworkGetBridgeName(virNetworkPtr network) { return STRING(network, NETWORK_GET_BRIDGE_NAME, network); }
char *virNetworkGetXMLDesc(virNetworkPtr network, unsigned int flags) { return STRING(network, NETWORK_GET_XML_DESC, network, flags); }
int virNetworkIsActive(virNetworkPtr net) { return INT(net, NETWORK_IS_ACTIVE, net); }
int virNetworkIsPersistent(virNetworkPtr net) { return INT(net, NETWORK_IS_PERSISTENT, net); }

int virNetworkListAllPorts(virNetworkPtr network, virNetworkPortPtr **ports, unsigned int flags)
{
    return LIST(network, PORT, ports, NETWORK_LIST_ALL_PORTS, network, !!ports, flags);
}

virNetworkPtr virNetworkLookupByName(virConnectPtr conn, const char *name) { return MAKE(conn, NETWORK, NETWORK_LOOKUP_BY_NAME, name); }
virNetworkPtr virNetworkLookupByUUID(virConnectPtr conn, const unsigned char *uuid) { return MAKE(conn, NETWORK, NETWORK_LOOKUP_BY_UUID, uuid); }

virNetworkPortPtr virNetworkPortCreateXML(virNetworkPtr net, const char *xmldesc, unsigned int flags)
{
    return MAKE(net, PORT, NETWORK_PORT_CREATE_XML, net, xmldesc, flags);
}

int virNetworkPortDelete(virNetworkPortPtr port, unsigned int flags) { return VOID(port, NETWORK_PORT_DELETE, port, flags); }
char *virNetworkPortGetXMLDesc(virNetworkPortPtr port, unsigned int flags) { return STRING(port, NETWORK_PORT_GET_XML_DESC, port, flags); }

virNetworkPortPtr virNetworkPortLookupByUUID(virNetworkPtr net, const unsigned char *uuid)
{
    return MAKE(net, PORT, NETWORK_PORT_LOOKUP_BY_UUID, net, uuid);
}

int virNetworkPortSetParameters(virNetworkPortPtr port, virTypedParameterPtr params, int nparams, unsigned int flags)
{
    return VOID(port, NETWORK_PORT_SET_PARAMETERS, port, params, (unsigned)nparams, flags);
}

int virNetworkSetAutostart(virNetworkPtr network, int autostart) { return VOID(network, NETWORK_SET_AUTOSTART, network, autostart); }
int virNetworkUndefine(virNetworkPtr network) { return VOID(network, NETWORK_UNDEFINE, network); }

int virNetworkUpdate(virNetworkPtr network, unsigned int command, unsigned int section, int parentIndex, const char *xml, unsigned int flags)
{
    return VOID(network, NETWORK_UPDATE, network, command, section, parentIndex, xml, flags);
}

int virConnectListAllNWFilterBindings(virConnectPtr conn, virNWFilterBindingPtr **bindings, unsigned int flags)
{
    return LIST(conn, BINDING, bindings, CONNECT_LIST_ALL_NWFILTER_BINDINGS, !!bindings, flags);
}

int virConnectListAllNWFilters(virConnectPtr conn, virNWFilterPtr **filters, unsigned int flags)
{
    return LIST(conn, NWFILTER, filters, CONNECT_LIST_ALL_NWFILTERS, !!filters, flags);
}

int virConnectListNWFilters(virConnectPtr conn, char ** const names, int maxnames)
{
    return NAMES(conn, names, maxnames, CONNECT_LIST_NWFILTERS, maxnames);
}

int virConnectNumOfNWFilters(virConnectPtr conn) { return INT(conn, CONNECT_NUM_OF_NWFILTERS); }

virNWFilterBindingPtr virNWFilterBindingCreateXML(virConnectPtr conn, const char *xml, unsigned int flags)
{
    return MAKE(conn, BINDING, NWFILTER_BINDING_CREATE_XML, xml, flags);
}

int virNWFilterBindingDelete(virNWFilterBindingPtr binding) { return VOID(binding, NWFILTER_BINDING_DELETE, binding); }

char *virNWFilterBindingGetXMLDesc(virNWFilterBindingPtr binding, unsigned int flags)
{
    return STRING(binding, NWFILTER_BINDING_GET_XML_DESC, binding, flags);
}

virNWFilterBindingPtr virNWFilterBindingLookupByPortDev(virConnectPtr conn, const char *portdev)
{
    return MAKE(conn, BINDING, NWFILTER_BINDING_LOOKUP_BY_PORT_DEV, portdev);
}

virNWFilterPtr virNWFilterDefineXML(virConnectPtr conn, const char *xmlDesc) { return MAKE(conn, NWFILTER, NWFILTER_DEFINE_XML, xmlDesc); }

virNWFilterPtr virNWFilterDefineXMLFlags(virConnectPtr conn, const char *xmlDesc, unsigned int flags)
{
    return MAKE(conn, NWFILTER, NWFILTER_DEFINE_XML_FLAGS, xmlDesc, flags);
}

char *virNWFilterGetXMLDesc(virNWFilterPtr nwfilter, unsigned int flags) { return STRING(nwfilter, NWFILTER_GET_XML_DESC, nwfilter, flags); }
virNWFilterPtr virNWFilterLookupByName(virConnectPtr conn, const char *name) { return MAKE(conn, NWFILTER, NWFILTER_LOOKUP_BY_NAME, name); }
virNWFilterPtr virNWFilterLookupByUUID(virConnectPtr conn, const unsigned char *uuid) { return MAKE(conn, NWFILTER, NWFILTER_LOOKUP_BY_UUID, uuid); }
int virNWFilterUndefine(virNWFilterPtr nwfilter) { return VOID(nwfilter, NWFILTER_UNDEFINE, nwfilter); }

int virConnectListAllInterfaces(virConnectPtr conn, virInterfacePtr **ifaces, unsigned int flags)
{
    return LIST(conn, INTERFACE, ifaces, CONNECT_LIST_ALL_INTERFACES, !!ifaces, flags);
}

int virConnectListDefinedInterfaces(virConnectPtr conn, char ** const names, int maxnames)
{
    return NAMES(conn, names, maxnames, CONNECT_LIST_DEFINED_INTERFACES, maxnames);
}

int virConnectListInterfaces(virConnectPtr conn, char ** const names, int maxnames)
{
    return NAMES(conn, names, maxnames, CONNECT_LIST_INTERFACES, maxnames);
}

int virConnectNumOfDefinedInterfaces(virConnectPtr conn) { return INT(conn, CONNECT_NUM_OF_DEFINED_INTERFACES); }
int virConnectNumOfInterfaces(virConnectPtr conn) { return INT(conn, CONNECT_NUM_OF_INTERFACES); }
int virInterfaceChangeBegin(virConnectPtr conn, unsigned int flags) { return VOID(conn, INTERFACE_CHANGE_BEGIN, flags); }
int virInterfaceChangeCommit(virConnectPtr conn, unsigned int flags) { return VOID(conn, INTERFACE_CHANGE_COMMIT, flags); }
int virInterfaceChangeRollback(virConnectPtr conn, unsigned int flags) { return VOID(conn, INTERFACE_CHANGE_ROLLBACK, flags); }
int virInterfaceCreate(virInterfacePtr iface, unsigned int flags) { return VOID(iface, INTERFACE_CREATE, iface, flags); }

virInterfacePtr virInterfaceDefineXML(virConnectPtr conn, const char *xml, unsigned int flags)
{
    return MAKE(conn, INTERFACE, INTERFACE_DEFINE_XML, xml, flags);
}

int virInterfaceDestroy(virInterfacePtr iface, unsigned int flags) { return VOID(iface, INTERFACE_DESTROY, iface, flags); }
char *virInterfaceGetXMLDesc(virInterfacePtr iface, unsigned int flags) { return STRING(iface, INTERFACE_GET_XML_DESC, iface, flags); }
int virInterfaceIsActive(virInterfacePtr iface) { return INT(iface, INTERFACE_IS_ACTIVE, iface); }

virInterfacePtr virInterfaceLookupByMACString(virConnectPtr conn, const char *macstr)
{
    return MAKE(conn, INTERFACE, INTERFACE_LOOKUP_BY_MAC_STRING, macstr);
}

virInterfacePtr virInterfaceLookupByName(virConnectPtr conn, const char *name) { return MAKE(conn, INTERFACE, INTERFACE_LOOKUP_BY_NAME, name); }
int virInterfaceUndefine(virInterfacePtr iface) { return VOID(iface, INTERFACE_UNDEFINE, iface); }
