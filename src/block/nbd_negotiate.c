/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The server's side of NBD's fixed newstyle negotiation (doc/proto.md, "Fixed newstyle negotiation", "Option types"). */
#include <byteswap.h>
#include <string.h>

#include "block/bitmap.h"
#include "block/nbd_server_private.h"

enum { MAX_OPTION = 64 << 10, MAX_OPTIONS = 1000 };

struct option {
    uint32_t type, length;
    const uint8_t *data;
};
/* What is left of an option's data. */
struct parser {
    const uint8_t *at;
    size_t left;
};
typedef enum { NEXT, GO, END } outcome;

static bool take(struct parser *s, void *to, size_t n)
{
    if (s->left < n)
        return false;
    memcpy(to, s->at, n);
    s->at += n;
    s->left -= n;
    return true;
}

static bool take_u32(struct parser *s, uint32_t *ret)
{
    bool ok = take(s, ret, 4);
    *ret = GUINT32_FROM_BE(*ret);
    return ok;
}

/* A string of the protocol: its length, then the bytes, which stay where they are. */
static bool take_string(struct parser *s, const char **ret, uint32_t *ret_length)
{
    *ret_length = 0;
    if (!take_u32(s, ret_length) || *ret_length > s->left || *ret_length > NBD_MAX_STRING)
        return false;
    *ret = (const char *)s->at;
    s->at += *ret_length;
    s->left -= *ret_length;
    return true;
}

static bool reply(struct nbd_peer *p, uint32_t option, uint32_t type, const void *data, size_t n)
{
    struct {
        uint64_t magic;
        uint32_t option, type, length;
    } __attribute__((packed)) head = { GUINT64_TO_BE(NBD_OPTION_REPLY_MAGIC), GUINT32_TO_BE(option), GUINT32_TO_BE(type), GUINT32_TO_BE((uint32_t)n) };
    struct iovec iov[2] = { { &head, sizeof(head) }, { (void *)data, n } };
    return nbd_peer_send(p, iov, n ? 2 : 1);
}

static outcome ack(struct nbd_peer *p, const struct option *o)
{
    return reply(p, o->type, NBD_REP_ACK, NULL, 0) ? NEXT : END;
}

static outcome refuse(struct nbd_peer *p, const struct option *o, uint32_t error, const char *text)
{
    return reply(p, o->type, error, text, strlen(text)) ? NEXT : END;
}

uint16_t nbd_export_flags(const struct nbd_export *e, bool structured)
{
    unsigned flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_CACHE;
    if (e->writable)
        flags |= NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | (e->fast_zero ? NBD_FLAG_SEND_FAST_ZERO : 0);
    else
        flags |= NBD_FLAG_READ_ONLY;
    if (e->multi_conn)
        flags |= NBD_FLAG_CAN_MULTI_CONN;
    return (uint16_t)(flags | (structured ? NBD_FLAG_SEND_DF : 0));
}

/* ---- options ---- */

/* Without an answer of its own: the export, or the end. */
static outcome opt_export_name(struct nbd_peer *p, const struct option *o)
{
    struct nbd_export *e = o->length <= NBD_MAX_STRING ? nbd_server_take_locked_export(p, (const char *)o->data, o->length) : NULL;
    if (!e)
        return END;
    struct {
        uint64_t size;
        uint16_t flags;
        uint8_t zeroes[124];
    } __attribute__((packed)) answer = { GUINT64_TO_BE(e->size), GUINT16_TO_BE(nbd_export_flags(e, p->structured)), { 0 } };
    struct iovec iov = { &answer, p->no_zeroes ? offsetof(__typeof__(answer), zeroes) : sizeof(answer) };
    return nbd_peer_send(p, &iov, 1) ? GO : END;
}

static outcome opt_abort(struct nbd_peer *p, const struct option *o)
{
    (void)ack(p, o);
    return END;
}

static void add_to_list(void *opaque, const struct nbd_export *e)
{
    GByteArray *item = g_byte_array_new();
    uint32_t n = GUINT32_TO_BE((uint32_t)strlen(e->name));
    g_byte_array_append(item, (const guint8 *)&n, sizeof(n));
    g_byte_array_append(item, (const guint8 *)e->name, (guint)strlen(e->name));
    if (e->description)
        g_byte_array_append(item, (const guint8 *)e->description, (guint)strlen(e->description));
    g_ptr_array_add(opaque, item);
}

static outcome opt_list(struct nbd_peer *p, const struct option *o)
{
    if (o->length)
        return refuse(p, o, NBD_REP_ERR_INVALID, "this option has no data");
    g_autoptr(GPtrArray) items = g_ptr_array_new_with_free_func((GDestroyNotify)g_byte_array_unref);
    nbd_server_each_export(p->server, add_to_list, items); /* copied: sending may take long */
    for (guint i = 0; i < items->len; i++) {
        const GByteArray *item = items->pdata[i];
        if (!reply(p, o->type, NBD_REP_SERVER, item->data, item->len))
            return END;
    }
    return ack(p, o);
}

static outcome opt_starttls(struct nbd_peer *p, const struct option *o)
{
    return refuse(p, o, o->length ? NBD_REP_ERR_INVALID : NBD_REP_ERR_POLICY, o->length ? "this option has no data" : "TLS is not configured");
}

static outcome opt_structured_reply(struct nbd_peer *p, const struct option *o)
{
    if (o->length)
        return refuse(p, o, NBD_REP_ERR_INVALID, "this option has no data");
    p->structured = true;
    return ack(p, o);
}

static bool send_info(struct nbd_peer *p, const struct option *o, enum nbd_info info, const void *data, size_t n)
{
    g_autofree uint8_t *all = g_malloc(2 + n);
    uint16_t type = GUINT16_TO_BE((uint16_t)info);
    memcpy(all, &type, 2);
    memcpy(all + 2, data, n);
    return reply(p, o->type, NBD_REP_INFO, all, 2 + n);
}

/* What INFO and GO tell of an export. */
struct about {
    char *name, *description;
    uint64_t size;
    uint16_t flags;
};

static bool send_about(struct nbd_peer *p, const struct option *o, const struct about *a, bool want_name, bool want_description)
{
    struct {
        uint64_t size;
        uint16_t flags;
    } __attribute__((packed)) export = { GUINT64_TO_BE(a->size), GUINT16_TO_BE(a->flags) };
    uint32_t sizes[3] = { GUINT32_TO_BE(1), GUINT32_TO_BE(64 << 10), GUINT32_TO_BE(NBD_MAX_PAYLOAD) };
    return (!want_name || send_info(p, o, NBD_INFO_NAME, a->name, strlen(a->name))) &&
           (!want_description || !a->description || send_info(p, o, NBD_INFO_DESCRIPTION, a->description, strlen(a->description))) &&
           send_info(p, o, NBD_INFO_BLOCK_SIZE, sizes, sizeof(sizes)) && send_info(p, o, NBD_INFO_EXPORT, &export, sizeof(export));
}

static outcome opt_info_or_go(struct nbd_peer *p, const struct option *o)
{
    struct parser s = { o->data, o->length };
    const char *name;
    uint32_t length;
    uint16_t count, info;
    bool wants[4] = { false };
    if (!take_string(&s, &name, &length) || !take(&s, &count, 2) || s.left != GUINT16_FROM_BE(count) * 2u)
        return refuse(p, o, NBD_REP_ERR_INVALID, "malformed option");
    while (take(&s, &info, 2)) {
        if (GUINT16_FROM_BE(info) < G_N_ELEMENTS(wants))
            wants[GUINT16_FROM_BE(info)] = true;
    }
    const struct nbd_export *e = nbd_server_look(p->server, name, length);
    struct about a = { 0 };
    if (e)
        a = (struct about) { g_strdup(e->name), g_strdup(e->description), e->size, nbd_export_flags(e, p->structured) };
    nbd_server_unlook(p->server);
    outcome result = e ? NEXT : refuse(p, o, NBD_REP_ERR_UNKNOWN, "export not found");
    if (e && !send_about(p, o, &a, wants[NBD_INFO_NAME], wants[NBD_INFO_DESCRIPTION]))
        result = END;
    else if (e && o->type == NBD_OPT_INFO)
        result = ack(p, o);
    else if (e && !nbd_server_take_locked_export(p, name, length)) /* removed meanwhile */
        result = refuse(p, o, NBD_REP_ERR_UNKNOWN, "export not found");
    else if (e)
        result = ack(p, o) == NEXT ? GO : END;
    g_free(a.name);
    g_free(a.description);
    return result;
}

/* ---- metadata contexts ---- */

/* Names of the contexts of an export, by their ids; NULL where there is none. */
static GPtrArray *context_names(const struct nbd_export *e)
{
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(names, NULL);
    g_ptr_array_add(names, g_strdup("base:allocation"));
    g_ptr_array_add(names, e->allocation_depth ? g_strdup("qemu:allocation-depth") : NULL);
    for (guint i = 0; e->bitmaps && i < e->bitmaps->len; i++)
        g_ptr_array_add(names, g_strdup_printf("qemu:dirty-bitmap:%s", block_bitmap_name(e->bitmaps->pdata[i])));
    return names;
}

/* Setting takes full names; listing also all of a namespace ("base:", "qemu:") or of the bitmaps ("qemu:dirty-bitmap:"). */
static bool query_matches(const char *query, size_t n, const char *name, bool listing)
{
    if (strlen(name) == n && !memcmp(query, name, n))
        return true;
    static const char *const spaces[] = { "base:", "qemu:", "qemu:dirty-bitmap:" };
    for (size_t i = 0; listing && i < G_N_ELEMENTS(spaces); i++) {
        if (strlen(spaces[i]) == n && !memcmp(query, spaces[i], n) && g_str_has_prefix(name, spaces[i]))
            return true;
    }
    return false;
}

/* The contexts that the queries choose, as bits; false: malformed. */
static bool run_queries(struct parser *s, const GPtrArray *names, bool listing, uint64_t *ret)
{
    uint32_t count, n;
    const char *query;
    if (!take_u32(s, &count))
        return false;
    *ret = 0;
    for (guint id = 1; id < names->len && listing && !count; id++)
        *ret |= names->pdata[id] ? UINT64_C(1) << id : 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!take_string(s, &query, &n))
            return false;
        for (guint id = 1; id < names->len; id++) {
            if (names->pdata[id] && query_matches(query, n, names->pdata[id], listing))
                *ret |= UINT64_C(1) << id;
        }
    }
    return !s->left;
}

static outcome opt_meta_context(struct nbd_peer *p, const struct option *o)
{
    struct parser s = { o->data, o->length };
    const char *name;
    uint32_t length;
    bool listing = o->type == NBD_OPT_LIST_META_CONTEXT;
    uint64_t chosen = 0;
    if (!p->structured)
        return refuse(p, o, NBD_REP_ERR_INVALID, "structured replies must be negotiated first");
    if (!take_string(&s, &name, &length))
        return refuse(p, o, NBD_REP_ERR_INVALID, "malformed option");
    if (!listing) {
        p->contexts = 0;
        g_clear_pointer(&p->contexts_of, g_free);
    }
    const struct nbd_export *e = nbd_server_look(p->server, name, length);
    g_autoptr(GPtrArray) names = e ? context_names(e) : NULL;
    nbd_server_unlook(p->server);
    if (!names)
        return refuse(p, o, NBD_REP_ERR_UNKNOWN, "export not found");
    if (!run_queries(&s, names, listing, &chosen))
        return refuse(p, o, NBD_REP_ERR_INVALID, "malformed option");
    for (guint id = 1; id < names->len; id++) {
        if (!(chosen >> id & 1))
            continue;
        uint32_t wire = GUINT32_TO_BE(listing ? 0 : id);
        size_t n = strlen(names->pdata[id]);
        g_autofree uint8_t *item = g_malloc(4 + n);
        memcpy(item, &wire, 4);
        memcpy(item + 4, names->pdata[id], n);
        if (!reply(p, o->type, NBD_REP_META_CONTEXT, item, 4 + n))
            return END;
    }
    if (!listing) {
        p->contexts = chosen;
        p->contexts_of = g_strndup(name, length);
    }
    return ack(p, o);
}

/* ---- the dialogue ---- */

static const struct {
    uint32_t type;
    outcome (*run)(struct nbd_peer *p, const struct option *o);
} options[] = {
    { NBD_OPT_EXPORT_NAME, opt_export_name },
    { NBD_OPT_ABORT, opt_abort },
    { NBD_OPT_LIST, opt_list },
    { NBD_OPT_STARTTLS, opt_starttls },
    { NBD_OPT_INFO, opt_info_or_go },
    { NBD_OPT_GO, opt_info_or_go },
    { NBD_OPT_STRUCTURED_REPLY, opt_structured_reply },
    { NBD_OPT_LIST_META_CONTEXT, opt_meta_context },
    { NBD_OPT_SET_META_CONTEXT, opt_meta_context },
};

static outcome one_option(struct nbd_peer *p)
{
    struct {
        uint64_t magic;
        uint32_t type, length;
    } __attribute__((packed)) head;
    if (!nbd_peer_read(p, &head, sizeof(head)) || head.magic != GUINT64_TO_BE(NBD_OPTION_MAGIC))
        return END;
    struct option o = { GUINT32_FROM_BE(head.type), GUINT32_FROM_BE(head.length), NULL };
    if (o.length > MAX_OPTION) {
        if (o.type == NBD_OPT_EXPORT_NAME || o.length > NBD_MAX_PAYLOAD || !nbd_peer_skip(p, o.length))
            return END;
        return refuse(p, &o, NBD_REP_ERR_TOO_BIG, "this option has too much data");
    }
    g_autofree uint8_t *data = g_malloc(o.length + 1);
    if (!nbd_peer_read(p, data, o.length))
        return END;
    o.data = data;
    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        if (options[i].type == o.type)
            return options[i].run(p, &o);
    }
    return refuse(p, &o, NBD_REP_ERR_UNSUP, "unknown option");
}

static bool greet(struct nbd_peer *p)
{
    struct {
        uint64_t magic, option_magic;
        uint16_t flags;
    } __attribute__((packed)) hello = { GUINT64_TO_BE(NBD_MAGIC), GUINT64_TO_BE(NBD_OPTION_MAGIC), GUINT16_TO_BE(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES) };
    struct iovec iov = { &hello, sizeof(hello) };
    uint32_t flags;
    if (!nbd_peer_send(p, &iov, 1) || !nbd_peer_read(p, &flags, sizeof(flags)))
        return false;
    flags = GUINT32_FROM_BE(flags);
    p->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
    return !(flags & ~(uint32_t)(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES));
}

bool nbd_negotiate(struct nbd_peer *p)
{
    if (!greet(p))
        return false;
    outcome result = NEXT;
    for (unsigned i = 0; i < MAX_OPTIONS && result == NEXT; i++)
        result = one_option(p);
    /* Contexts are those of the export they were set for. */
    if (result == GO && g_strcmp0(p->contexts_of, p->export->name))
        p->contexts = 0;
    return result == GO;
}
