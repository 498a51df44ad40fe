/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Moments: snapshots and checkpoints, which are named, have parents, and are documents in files LIB/qemu/KIND/DOMAIN/NAME.xml. All of them are in memory; a file is
 * written before memory changes. d->moments is under d->lock; whoever changes it is inside a job of the domain.
 */
#pragma once

#include "manage/drivers/domain/domain.h"

enum moment_kind { MOMENT_SNAPSHOT, MOMENT_CHECKPOINT, MOMENT_KINDS };

struct moment {
    struct doc *doc;
    const char *name, *parent; /* in the document; parent NULL: a root */
};
struct moments {
    GPtrArray *all;            /* struct moment * */
    char *current;             /* name; NULL: none */
};

/* All files of all domains; what cannot be read is left alone, with a line in the log. After definitions and running machines are known. */
void domain_moments_load(struct domain_driver *dr);
/* Those of one domain, before all: a machine that is found again needs them. */
void domain_moments_load_one(struct domain *d);
void domain_moments_free(struct moments *m);
/* The domain has another name, or is no more: its directories follow. */
bool domain_moments_rename(struct domain *d, const char *from, const char *to, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void domain_moments_erase(struct domain *d);
unsigned domain_moments_count(struct domain *d, enum moment_kind kind); /* takes d->lock */

/* ---- d->lock held ---- */

struct moment *domain_moment_find_locked(struct domain *d, enum moment_kind kind, const char *name);
bool domain_moment_is_below_locked(struct domain *d, enum moment_kind kind, const struct moment *m, const char *ancestor); /* at any depth */
unsigned domain_moment_children_locked(struct domain *d, enum moment_kind kind, const char *name);
const char *domain_moment_current_locked(struct domain *d, enum moment_kind kind);

/* ---- inside a job ---- */

/* A name that can be a file's; VIR_ERR_XML_ERROR. */
bool domain_moment_name_ok(enum moment_kind kind, const char *name, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* A copy of its document; VIR_ERR_NO_DOMAIN_SNAPSHOT or _CHECKPOINT. */
struct doc *domain_moment_document(struct domain *d, enum moment_kind kind, const char *name, GError **error);
/* Adds it, or replaces the one of its name; the document is taken over, also on failure. current: it becomes the current one. */
bool domain_moment_put(struct domain *d, enum moment_kind kind, struct doc *doc, bool current, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Its children become those of its parent, which becomes the current one if this was it. */
bool domain_moment_remove(struct domain *d, enum moment_kind kind, const char *name, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool domain_moment_set_current(struct domain *d, enum moment_kind kind, const char *name, GError **error) G_GNUC_WARN_UNUSED_RESULT; /* NULL: none */
/* Names of what is below, deepest first; free with g_ptr_array_unref. */
GPtrArray *domain_moment_descendants(struct domain *d, enum moment_kind kind, const char *name);

/* ---- calls ---- */

GVariant *domain_moment_record(struct domain *d, const char *name); /* "Z" */
/* The domain and name of a call's argument 0, a "Z"; the moment exists. */
struct domain *domain_moment_of_call(struct manage_call *c, enum moment_kind kind, const char **ret_name, GError **error);
/* Names that fit: below `from` (NULL: all), by the flags of virDomainSnapshotListFlags. Parents before their children. */
GPtrArray *domain_moment_list(struct domain *d, enum moment_kind kind, const char *from, uint32_t flags);
/* A copy of a live document without what only that running machine has: as snapshots, saved states and other hosts get it. */
struct doc *domain_portable(const struct doc *domain);
/* Copies of a domain's document as moments keep it: without what only a running machine has; and back again. */
void domain_moment_set_domain(struct doc *moment, const char *element, const struct doc *domain);
struct doc *domain_moment_domain(const struct doc *moment, const char *element, GError **error);
