/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files about events share. */
#pragma once

#include "manage/api/api.h"

struct api_callback {
    gint refs;
    int id;     /* what the program knows it by */
    int remote; /* what the other side knows it by: one number for all callbacks of the same event of the same object, as libvirtd wants it */
    int event;  /* VIR_..._EVENT_ID_...; of a monitor -1: each has a number of its own */
    enum api_class class;
    virConnectPtr conn; /* held */
    void *object;       /* held; NULL: of all objects */
    void (*fn)(void);
    void *opaque;
    virFreeCallback free;
    bool legacy, removed;
};

/* Calls the program's function with the C arguments of an event message. */
void api_event_call(const struct api_callback *c, unsigned proc, GVariant *payload);

/* Events of the emulators' monitors, which have procedures of their own. */
#define API_MONITOR API_NCLASSES
int api_monitor_event_add(virConnectPtr conn, virDomainPtr dom, const char *event, void (*fn)(void), void *opaque, virFreeCallback ff, unsigned flags);
int api_monitor_event_drop(virConnectPtr conn, int id);
