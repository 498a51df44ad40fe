/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/core/numa.h"

#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "vmm/core/hostmem.h"
#include "vmm/core/machine.h"

#define MIB (UINT64_C(1) << 20)

struct node {
    bool present;
    uint64_t mem;
    char *memdev;
};

struct build {
    struct machine *m;
    struct numa *numa;
    struct node node[NUMA_MAX_NODES];
    unsigned next; /* nodeid of a node without one */
    bool cpus_given, memdevs, mems;
};

/* ---- -numa node ---- */

struct node_opts { uint64_t nodeid; GPtrArray *cpus; char *memdev; uint64_t mem; };
static const struct keyval_key node_keys[] = {
    { "type", KV_IGNORED },
    { "nodeid", KV_UINT, offsetof(struct node_opts, nodeid), "number of the node", NULL, 0, NUMA_MAX_NODES - 1 },
    { "cpus", KV_LIST, offsetof(struct node_opts, cpus), "vCPUs, as 0-3; may be given again" },
    { "memdev", KV_STRING, offsetof(struct node_opts, memdev), "id of its memory object" },
    { "mem", KV_STRING, offsetof(struct node_opts, mem), "its part of -m" },
    { "initiator", KV_REFUSED, 0, "heterogeneous memory (HMAT) is not there" },
    { NULL }
};

static bool set_cpu(struct build *b, unsigned cpu, unsigned node, GError **error)
{
    unsigned max = MAX(b->m->config->max_cpus, b->m->config->cpus);
    if (cpu >= max)
        return vireo_fail(error, VIREO_ERROR_INVALID, "CPU index (%u) should be smaller than maxcpus (%u)", cpu, max);
    uint8_t *at = &b->numa->cpu_node[cpu];
    if (*at != NUMA_NO_NODE && *at != node)
        return vireo_fail(error, VIREO_ERROR_INVALID, "CPU %u is already assigned to node-id: %u", cpu, *at);
    *at = (uint8_t)node;
    b->cpus_given = true;
    return true;
}

static bool set_cpus(struct build *b, const GPtrArray *ranges, unsigned node, GError **error)
{
    for (guint i = 0; ranges && i < ranges->len; i++) {
        const char *text = ranges->pdata[i];
        char *end;
        uint64_t a = g_ascii_strtoull(text, &end, 10), z = a;
        bool ok = g_ascii_isdigit(*text);
        if (ok && *end == '-') {
            ok = g_ascii_isdigit(end[1]);
            z = g_ascii_strtoull(end + 1, &end, 10);
        }
        if (!ok || *end || z < a || z > UINT16_MAX)
            return vireo_fail(error, VIREO_ERROR_INVALID, "cpus=%s: it takes numbers and ranges, as 0-3", text);
        for (uint64_t cpu = a; cpu <= z; cpu++) {
            if (!set_cpu(b, (unsigned)cpu, node, error))
                return false;
        }
    }
    return true;
}

static bool add_node(struct build *b, const struct keyval *kv, struct node_opts *v, char **mem, GError **error)
{
    /* JSON lists arrive as "cpus.0", "cpus.1". */
    keyval_auto *flat = keyval_new();
    for (guint i = 0; i < kv->pairs->len; i++) {
        const struct keyval_pair *p = kv->pairs->pdata[i];
        keyval_add(flat, g_str_has_prefix(p->key, "cpus.") ? "cpus" : p->key, p->value);
    }
    if (!keyval_load(flat, node_keys, v, error))
        return false;
    unsigned id = v->nodeid == UINT64_MAX ? b->next : (unsigned)v->nodeid;
    if (id >= NUMA_MAX_NODES)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Max number of NUMA nodes reached: %d", NUMA_MAX_NODES);
    struct node *n = &b->node[id];
    if (n->present)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Duplicate NUMA nodeid: %u", id);
    n->present = true;
    b->next = id + 1;
    b->numa->nnodes = MAX(b->numa->nnodes, id + 1);
    if (v->memdev && *mem)
        return vireo_fail(error, VIREO_ERROR_INVALID, "cannot specify both mem= and memdev=");
    if (*mem && !keyval_size("mem", *mem, MIB, &n->mem, error))
        return false;
    b->mems |= *mem != NULL;
    b->memdevs |= v->memdev != NULL;
    if (b->mems && b->memdevs)
        return vireo_fail(error, VIREO_ERROR_INVALID, "numa configuration should use either mem= or memdev=, mixing both is not allowed");
    n->memdev = g_steal_pointer(&v->memdev);
    return set_cpus(b, v->cpus, id, error);
}

/* `mem` is loaded as text: a number without suffix means MiB. */
static bool opt_node(struct build *b, const struct keyval *kv, GError **error)
{
    struct { struct node_opts v; char *mem; } v = { .v.nodeid = UINT64_MAX };
    keyval_auto *copy = keyval_copy(kv);
    v.mem = keyval_take(copy, "mem");
    bool ok = add_node(b, copy, &v.v, &v.mem, error);
    if (v.v.cpus)
        g_ptr_array_unref(v.v.cpus);
    g_free(v.v.memdev);
    g_free(v.mem);
    return ok;
}

/* ---- -numa dist, -numa cpu ---- */

struct dist_opts { uint64_t src, dst, val; };
static const struct keyval_key dist_keys[] = {
    { "type", KV_IGNORED },
    { "src", KV_UINT, offsetof(struct dist_opts, src), "from this node", NULL, 0, NUMA_MAX_NODES - 1 },
    { "dst", KV_UINT, offsetof(struct dist_opts, dst), "to this node", NULL, 0, NUMA_MAX_NODES - 1 },
    { "val", KV_UINT, offsetof(struct dist_opts, val), "10 to 254, or 255: cannot be reached", NULL, NUMA_DISTANCE_SELF, 255 },
    { NULL }
};

static bool opt_dist(struct build *b, const struct keyval *kv, GError **error)
{
    struct dist_opts v = { UINT64_MAX, UINT64_MAX, UINT64_MAX };
    if (!keyval_load(kv, dist_keys, &v, error))
        return false;
    if (v.src == UINT64_MAX || v.dst == UINT64_MAX || v.val == UINT64_MAX)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter '%s' is missing", v.src == UINT64_MAX ? "src" : v.dst == UINT64_MAX ? "dst" : "val");
    if (!b->node[v.src].present || !b->node[v.dst].present)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Source/Destination NUMA node is missing. Please use '-numa node' option to declare it first.");
    if ((v.src == v.dst) != (v.val == NUMA_DISTANCE_SELF))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Local distance of node %u should be %d, and no other distance", (unsigned)v.src, NUMA_DISTANCE_SELF);
    b->numa->distance[v.src][v.dst] = (uint8_t)v.val;
    b->numa->distances = true;
    return true;
}

struct cpu_opts { uint64_t node, socket, die, cluster, core, thread; };
#define CPU_KEY(key, field) { key, KV_UINT, offsetof(struct cpu_opts, field), "", NULL, 0, 255 }
static const struct keyval_key cpu_keys[] = {
    { "type", KV_IGNORED }, CPU_KEY("node-id", node), CPU_KEY("socket-id", socket), CPU_KEY("die-id", die), CPU_KEY("cluster-id", cluster),
    CPU_KEY("core-id", core), CPU_KEY("thread-id", thread), { NULL }
};

/* Every vCPU that has what was given. */
static bool opt_cpu(struct build *b, const struct keyval *kv, GError **error)
{
    const struct machine_config *c = b->m->config;
    struct cpu_opts v = { UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX };
    if (!keyval_load(kv, cpu_keys, &v, error))
        return false;
    if (v.node == UINT64_MAX)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Missing mandatory node-id property");
    if (v.node >= NUMA_MAX_NODES || !b->node[v.node].present)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid node-id=%u, NUMA node must be defined with -numa node,nodeid=ID before it's used with "
                          "-numa cpu,node-id=ID", (unsigned)v.node);
    unsigned threads = MAX(c->threads, 1u), cores = MAX(c->cores, 1u), n = MAX(c->max_cpus, c->cpus);
    bool any = false;
    for (unsigned i = 0; i < n; i++) {
        bool fits = (v.socket == UINT64_MAX || v.socket == i / threads / cores) && (v.core == UINT64_MAX || v.core == i / threads % cores) &&
                    (v.thread == UINT64_MAX || v.thread == i % threads) && (v.die == UINT64_MAX || !v.die) && (v.cluster == UINT64_MAX || !v.cluster);
        if (fits && !set_cpu(b, i, (unsigned)v.node, error))
            return false;
        any |= fits;
    }
    return any || vireo_fail(error, VIREO_ERROR_INVALID, "no match found: there is no such vCPU in the topology of -smp");
}

static bool one_option(struct build *b, const struct keyval *kv, GError **error)
{
    const char *type = keyval_get(kv, "type");
    if (!type || !strcmp(type, "node"))
        return opt_node(b, kv, error);
    if (!strcmp(type, "dist"))
        return opt_dist(b, kv, error);
    if (!strcmp(type, "cpu"))
        return opt_cpu(b, kv, error);
    if (!strcmp(type, "hmat-lb") || !strcmp(type, "hmat-cache"))
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "%s is not available: the guest gets no heterogeneous memory table (HMAT)", type);
    return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'type' does not accept value '%s'; there are: node, dist, cpu", type);
}

/* ---- what they mean together ---- */

/* vCPUs that nobody placed: sockets go round the nodes; with some placed, the rest is in node 0. */
static void place_cpus(struct build *b)
{
    const struct machine_config *c = b->m->config;
    unsigned per_socket = MAX(c->threads, 1u) * MAX(c->cores, 1u), n = MAX(c->max_cpus, c->cpus), lost = 0;
    for (unsigned i = 0; i < n; i++) {
        uint8_t *at = &b->numa->cpu_node[i];
        if (*at != NUMA_NO_NODE)
            continue;
        *at = b->cpus_given ? 0 : (uint8_t)(i / per_socket % b->numa->nnodes);
        lost += b->cpus_given;
    }
    if (lost)
        log_warn("-numa: %u vCPUs are in no node; they go to node 0", lost);
}

/* A distance that is missing in one direction is that of the other; of what is missing in both, all must be. */
static bool complete_distances(struct build *b, GError **error)
{
    struct numa *n = b->numa;
    for (unsigned i = 0; i < n->nnodes; i++) {
        for (unsigned j = 0; j < n->nnodes; j++) {
            uint8_t *d = &n->distance[i][j];
            if (*d)
                continue;
            if (i == j)
                *d = NUMA_DISTANCE_SELF;
            else if (n->distances && !n->distance[j][i])
                return vireo_fail(error, VIREO_ERROR_INVALID, "-numa dist: The distance between node %u and %u is missing, at least one distance value "
                                  "between each nodes should be provided.", i, j);
            else
                *d = n->distance[j][i] ? n->distance[j][i] : NUMA_DISTANCE_FAR;
        }
    }
    return true;
}

static void add_piece(struct machine *m, struct hostmem *mem, uint64_t size, unsigned node)
{
    struct ram_piece p = { mem, size, (uint8_t)node };
    hostmem_enter_guest(mem);
    g_array_append_val(m->ram, p);
}

static bool take_memory(struct machine *m, struct hostmem *mem, const char *user, GError **error)
{
    if (mem->obj.user)
        return vireo_fail(error, VIREO_ERROR_BUSY, "memory backend '%s' is used multiple times: by %s and by %s", mem->obj.id, mem->obj.user, user);
    if (mem->readonly)
        return vireo_fail(error, VIREO_ERROR_INVALID, "memory backend '%s' is readonly: the machine's memory must be writable", mem->obj.id);
    mem->obj.user = user;
    return true;
}

static bool nodes_of_memdevs(struct build *b, GError **error)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < b->numa->nnodes; i++) {
        if (!b->node[i].memdev)
            continue;
        struct hostmem *mem = hostmem_find(b->m, b->node[i].memdev, error);
        if (!mem || !take_memory(b->m, mem, "a NUMA node", error))
            return false;
        add_piece(b->m, mem, mem->size, i);
        total += mem->size;
    }
    if (total != b->m->config->ram_size)
        return vireo_fail(error, VIREO_ERROR_INVALID, "total memory for NUMA nodes (0x%" G_GINT64_MODIFIER "x) should equal RAM size (0x%" G_GINT64_MODIFIER
                          "x); give -m %" G_GUINT64_FORMAT "M", total, b->m->config->ram_size, total / MIB);
    return true;
}

/* One back end for all, cut into the nodes' parts. */
static bool nodes_of_sizes(struct build *b, struct hostmem *mem, GError **error)
{
    uint64_t total = 0, size = b->m->config->ram_size;
    unsigned present = 0, seen = 0;
    for (unsigned i = 0; i < b->numa->nnodes; i++) {
        present += b->node[i].present;
        total += b->node[i].mem;
    }
    if (!b->mems) { /* equal parts, of whole 8 MiB; the last takes the rest */
        uint64_t part = size / present & ~(8 * MIB - 1);
        for (unsigned i = 0; i < b->numa->nnodes; i++) {
            if (b->node[i].present)
                b->node[i].mem = ++seen == present ? size - part * (present - 1) : part;
        }
        total = size;
    }
    if (total != size)
        return vireo_fail(error, VIREO_ERROR_INVALID, "total memory for NUMA nodes (0x%" G_GINT64_MODIFIER "x) should equal RAM size (0x%" G_GINT64_MODIFIER
                          "x); make mem= of the nodes add up to -m", total, size);
    for (unsigned i = 0; i < b->numa->nnodes; i++) {
        if (b->node[i].mem % 4096)
            return vireo_fail(error, VIREO_ERROR_INVALID, "-numa node,nodeid=%u: mem must be a multiple of 4096 bytes", i);
        if (b->node[i].mem)
            add_piece(b->m, mem, b->node[i].mem, i);
    }
    return true;
}

static struct hostmem *main_memory(struct machine *m, GError **error)
{
    struct machine_config *c = m->config;
    struct hostmem *mem;
    if (c->memory_backend) {
        mem = hostmem_find(m, c->memory_backend, error);
        if (mem && !c->ram_size_given)
            c->ram_size = mem->size;
        if (mem && mem->size != c->ram_size) {
            vireo_fail(error, VIREO_ERROR_INVALID, "Machine memory size does not match the size of the memory backend: -m gives 0x%" G_GINT64_MODIFIER
                       "x, '%s' has 0x%" G_GINT64_MODIFIER "x", c->ram_size, mem->obj.id, mem->size);
            return NULL;
        }
    } else {
        mem = hostmem_create_default(m, "pc.ram", c->ram_size, error);
    }
    return mem && take_memory(m, mem, "the machine", error) ? mem : NULL;
}

static bool finish(struct build *b, GError **error)
{
    struct machine *m = b->m;
    if (m->config->memory_backend && b->memdevs)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'-machine memory-backend' and '-numa node,memdev' properties are mutually exclusive");
    for (unsigned i = 0; i < b->numa->nnodes; i++) {
        if (!b->node[i].present)
            return vireo_fail(error, VIREO_ERROR_INVALID, "numa: Node ID missing: %u", i);
    }
    if (b->memdevs)
        return nodes_of_memdevs(b, error);
    struct hostmem *mem = main_memory(m, error);
    if (!mem)
        return false;
    if (b->numa->nnodes)
        return nodes_of_sizes(b, mem, error);
    b->numa->nnodes = m->config->max_ram_size ? 1 : 0; /* guests look for memory to come in the table of nodes */
    add_piece(m, mem, mem->size, 0);
    return true;
}

bool numa_build(struct machine *m, const GPtrArray *options, GError **error)
{
    g_autofree struct build *b = g_new0(struct build, 1);
    b->m = m;
    b->numa = m->numa;
    memset(m->numa->cpu_node, NUMA_NO_NODE, sizeof(m->numa->cpu_node));
    bool ok = true;
    for (guint i = 0; ok && options && i < options->len; i++)
        ok = one_option(b, options->pdata[i], error);
    if (!ok)
        g_prefix_error(error, "-numa: ");
    ok = ok && finish(b, error);
    if (ok && b->numa->nnodes) {
        place_cpus(b);
        ok = complete_distances(b, error);
    }
    for (unsigned i = 0; i < NUMA_MAX_NODES; i++)
        g_free(b->node[i].memdev);
    return ok;
}
