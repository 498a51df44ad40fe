/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test:///default: a host that exists in memory alone, for programs that want to try the interface without one. Every kind of object is a document with a
 * name, a UUID and a few flags; test_object.c holds what is the same for all kinds, test_domain.c, test_network.c and test_storage.c what is not.
 * One lock for all of it: handlers hold it from their first to their last line (LOCKED), nothing in here waits.
 */
#pragma once

#include "manage/core/manage.h"
#include "manage/model/doc.h"

enum test_kind { TEST_DOMAIN, TEST_NETWORK, TEST_POOL, TEST_VOLUME, TEST_INTERFACE, TEST_NKINDS };

struct test_object {
    enum test_kind kind;
    char *name;
    uint8_t uuid[16];
    bool active, persistent, autostart;
    struct doc *def;    /* for the next start; of a transient object: its only one */
    int id, state, reason; /* domain */
    uint64_t memory_kib, max_kib;
    unsigned vcpus, max_vcpus;
    gint64 started;
    char *pool;         /* volume */
};

struct test {
    GMutex lock;
    GPtrArray *objects[TEST_NKINDS]; /* struct test_object */
    int next_id;
};

static inline struct test *test_of(struct manage_call *c) { return manage_data(c->conn->state, "test"); }

/* Defines handler name() around name_locked(). */
#define LOCKED(name)                                                \
    static GVariant *name##_locked(struct manage_call *c, struct test *t, GError **error); \
    static GVariant *name(struct manage_call *c, GError **error)    \
    {                                                               \
        struct test *t = test_of(c);                                \
        g_mutex_lock(&t->lock);                                     \
        GVariant *ret = name##_locked(c, t, error);                 \
        g_mutex_unlock(&t->lock);                                   \
        return ret;                                                 \
    }                                                               \
    static GVariant *name##_locked(struct manage_call *c, struct test *t, GError **error)

/* ---- objects (test_object.c) ---- */

struct test_object *test_find(struct test *t, enum test_kind kind, const char *name);
struct test_object *test_find_uuid(struct test *t, enum test_kind kind, const uint8_t uuid[16]);
/* The object that argument 0 names: a record with the UUID, or (name) a string. NULL: "... not found". */
struct test_object *test_arg(struct manage_call *c, struct test *t, enum test_kind kind, GError **error);
/* Parses a document and makes the object, or gives the one that it redefines (same name and UUID) its new document. NULL: error is set. */
struct test_object *test_define(struct test *t, enum test_kind kind, const char *xml, bool persistent, GError **error);
void test_remove(struct test *t, struct test_object *o);
GVariant *test_record(const struct test_object *o);
/* "(@a(..)u)" of those of the kind for which match() is true. */
GVariant *test_list(struct test *t, enum test_kind kind, bool results, uint32_t flags, bool (*match)(const struct test_object *, uint32_t flags));
/* Names of the active or inactive ones, at most max. */
GVariant *test_names(struct test *t, enum test_kind kind, bool active, int max);
int test_count(struct test *t, enum test_kind kind, bool active);
bool test_want(const struct test_object *o, enum test_kind kind, bool active, GError **error);
/* Lifecycle event of a domain, network or pool. */
void test_event(struct manage_call *c, const struct test_object *o, int event, int detail);

extern const struct manage_row test_domain_rows[], test_domain_list_rows[], test_network_rows[], test_storage_rows[], test_host_rows[];
bool test_domain_take(struct test_object *o, GError **error); /* reads memory and vCPUs out of the document */
