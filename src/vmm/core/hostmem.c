/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/core/hostmem.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <linux/mempolicy.h>
#include <linux/mman.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fdset.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "vmm/core/machine.h"

#define HUGETLBFS 0x958458f6 /* statfs(2) */
#define TMPFS 0x01021994
#define MIB (UINT64_C(1) << 20)
#define SIZE_MAX_BYTES (1ull << 44)
#define NO_HUGE_BELOW (16 * MIB) /* of a machine's memory: boot data lies there, in single pages */
#define HUGE_FROM (64 * MIB)     /* smaller memories are not worth pages of 2 MiB */

const char *const hostmem_policies[] = { "default", "preferred", "bind", "interleave", NULL };

/* ---- nodes of the host ---- */

static bool parse_range(const char *text, unsigned *first, unsigned *last)
{
    char *end;
    uint64_t a = g_ascii_strtoull(text, &end, 10), b = a;
    if (end == text || !g_ascii_isdigit(*text))
        return false;
    if (*end == '-') {
        const char *second = end + 1;
        b = g_ascii_strtoull(second, &end, 10);
        if (end == second)
            return false;
    }
    *first = (unsigned)MIN(a, G_MAXUINT);
    *last = (unsigned)MIN(b, G_MAXUINT);
    return !*end && a <= b;
}

/* Whether the host has node n; where the kernel has no NUMA at all, node 0. In the sandbox mbind(2) tells. */
static bool host_has_node(unsigned n)
{
    g_autofree char *path = g_strdup_printf("/sys/devices/system/node/node%u", n);
    return sandbox_closed() || access(path, F_OK) == 0 || (!n && access("/sys/devices/system/node", F_OK));
}

static bool parse_nodes(struct hostmem *h, GError **error)
{
    bool any = h->host_nodes_text && h->host_nodes_text->len;
    for (guint i = 0; any && i < h->host_nodes_text->len; i++) {
        unsigned first, last;
        const char *text = h->host_nodes_text->pdata[i];
        if (!parse_range(text, &first, &last) || last >= HOSTMEM_MAX_NODES)
            return vireo_fail(error, VIREO_ERROR_INVALID, "host-nodes=%s: it takes numbers and ranges of nodes below %d, as 0-1", text, HOSTMEM_MAX_NODES);
        for (unsigned n = first; n <= last; n++) {
            if (!host_has_node(n))
                return vireo_fail(error, VIREO_ERROR_INVALID, "host-nodes=%s: this host has no memory node %u; see /sys/devices/system/node", text, n);
            h->nodes[n / 64] |= 1ull << n % 64;
        }
    }
    if (any && h->policy == HOSTMEM_DEFAULT)
        return vireo_fail(error, VIREO_ERROR_INVALID, "host-nodes must be empty for policy default, or you should explicitly specify a policy other "
                          "than default");
    if (!any && h->policy != HOSTMEM_DEFAULT)
        return vireo_fail(error, VIREO_ERROR_INVALID, "host-nodes must be set for policy %s", hostmem_policies[h->policy]);
    return true;
}

/* mbind(2), before the first page is touched.
 * seccomp(main): mbind */
static bool bind_nodes(struct hostmem *h, GError **error)
{
    static const int modes[] = { MPOL_DEFAULT, MPOL_PREFERRED, MPOL_BIND, MPOL_INTERLEAVE };
    if (h->policy == HOSTMEM_DEFAULT)
        return true;
    /* The kernel counts one bit less than it is told. */
    if (!syscall(SYS_mbind, h->host, h->size, modes[h->policy], h->nodes, HOSTMEM_MAX_NODES + 1, MPOL_MF_STRICT | MPOL_MF_MOVE))
        return true;
    if (errno == ENOSYS && h->nodes[0] == 1 && !h->nodes[1])
        return true; /* a kernel without NUMA has this one node */
    if (errno == EINVAL)
        return vireo_fail(error, VIREO_ERROR_INVALID, "cannot bind the memory to its host nodes (policy=%s): this host has no such memory node, or may not "
                          "use it; see /sys/devices/system/node", hostmem_policies[h->policy]);
    return vireo_fail_errno(error, errno, "cannot bind the memory to its host nodes (policy=%s)", hostmem_policies[h->policy]);
}

/* ---- where pages come from ---- */

/* A pool of huge pages of the kernel, by size: how many are free, and the words that help. */
static bool pool_lacks(uint64_t page_size, uint64_t bytes, GError **error)
{
    g_autofree char *dir = g_strdup_printf("/sys/kernel/mm/hugepages/hugepages-%" G_GUINT64_FORMAT "kB", page_size >> 10);
    g_autofree char *path = g_strconcat(dir, "/free_hugepages", NULL), *text = NULL;
    uint64_t need = bytes / page_size;
    if (sandbox_closed())
        return vireo_fail(error, VIREO_ERROR_NO_MEMORY, "the host has not %" G_GUINT64_FORMAT " free huge pages of %" G_GUINT64_FORMAT " KiB; see "
                          "%s/nr_hugepages", need, page_size >> 10, dir);
    if (!g_file_get_contents(path, &text, NULL, NULL))
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "this host has no huge pages of %" G_GUINT64_FORMAT " KiB; see /sys/kernel/mm/hugepages",
                          page_size >> 10);
    return vireo_fail(error, VIREO_ERROR_NO_MEMORY, "not enough huge pages of %" G_GUINT64_FORMAT " KiB: %" G_GUINT64_FORMAT " are needed, %s are free; "
                      "as root: echo %" G_GUINT64_FORMAT " > %s/nr_hugepages", page_size >> 10, need, g_strstrip(text), need, dir);
}

static unsigned log2_of(uint64_t v)
{
    return (unsigned)__builtin_ctzll(v);
}

static uint64_t default_huge_size(void)
{
    g_autofree char *text = NULL;
    const char *at = g_file_get_contents("/proc/meminfo", &text, NULL, NULL) ? strstr(text, "Hugepagesize:") : NULL;
    uint64_t kib = at ? g_ascii_strtoull(at + strlen("Hugepagesize:"), NULL, 10) : 0;
    return kib ? kib << 10 : 2 * MIB;
}

/* seccomp(main): memfd_create ftruncate fcntl(F_ADD_SEALS) */
static bool open_memfd(struct hostmem *h, GError **error)
{
    unsigned flags = MFD_CLOEXEC | (h->seal ? MFD_ALLOW_SEALING : 0);
    if (h->hugetlbsize && !h->hugetlb)
        return vireo_fail(error, VIREO_ERROR_INVALID, "hugetlbsize needs hugetlb=on");
    if (h->hugetlb) {
        h->page_size = h->hugetlbsize ? h->hugetlbsize : default_huge_size();
        if (h->page_size & (h->page_size - 1))
            return vireo_fail(error, VIREO_ERROR_INVALID, "hugetlbsize must be a power of two");
        flags |= MFD_HUGETLB | log2_of(h->page_size) << MFD_HUGE_SHIFT;
    }
    h->fd = memfd_create(h->obj.id, flags);
    if (h->fd < 0 && h->hugetlb && (errno == EINVAL || errno == ENODEV || errno == ENOENT))
        return pool_lacks(h->page_size, h->size, error);
    if (h->fd < 0)
        return vireo_fail_errno(error, errno, "cannot make a memfd");
    if (h->size % h->page_size)
        return true; /* the check of the size says it better */
    if (ftruncate(h->fd, (off_t)h->size))
        return vireo_fail_errno(error, errno, "cannot give the memfd %" G_GUINT64_FORMAT " MiB", h->size / MIB);
    if (h->seal && fcntl(h->fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL))
        return vireo_fail_errno(error, errno, "cannot seal the memfd");
    return true;
}

/* In a directory: a file without name. */
static int open_in_directory(const char *path)
{
    g_autofree char *name = g_strdup_printf("%s/vireo-memory.XXXXXX", path);
    int fd = g_mkstemp_full(name, O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0)
        unlink(name);
    return fd;
}

static bool size_file(struct hostmem *h, GError **error)
{
    struct stat st;
    if (fstat(h->fd, &st))
        return vireo_fail_errno(error, errno, "cannot look at '%s'", h->mem_path);
    if (!S_ISREG(st.st_mode))
        return vireo_fail(error, VIREO_ERROR_INVALID, "mem-path '%s' is neither a directory nor a file", h->mem_path);
    if (st.st_size && (uint64_t)st.st_size < h->size)
        return vireo_fail(error, VIREO_ERROR_INVALID, "backing store size 0x%" G_GINT64_MODIFIER "x of '%s' is smaller than 'size' 0x%" G_GINT64_MODIFIER
                          "x; make the file larger, or empty, or give a smaller size", (uint64_t)st.st_size, h->mem_path, h->size);
    if (!st.st_size && h->readonly)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'%s' is empty and readonly=on does not let it grow", h->mem_path);
    if (!st.st_size && ftruncate(h->fd, (off_t)h->size))
        return vireo_fail_errno(error, errno, "cannot make '%s' %" G_GUINT64_FORMAT " MiB large", h->mem_path, h->size / MIB);
    return true;
}

static bool open_file(struct hostmem *h, GError **error)
{
    struct statfs fs;
    if (!h->mem_path)
        return vireo_fail(error, VIREO_ERROR_INVALID, "mem-path property not set");
    if (!fdset_path(h->mem_path) && !sandbox_may_open(h->mem_path, error))
        return false;
    if (h->readonly && h->prealloc)
        return vireo_fail(error, VIREO_ERROR_INVALID, "prealloc=on writes, which readonly=on forbids; leave one of them out");
    if (g_file_test(h->mem_path, G_FILE_TEST_IS_DIR))
        h->fd = open_in_directory(h->mem_path);
    else
        h->fd = fdset_open(h->mem_path, h->readonly ? O_RDONLY | O_CLOEXEC : O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (h->fd < 0)
        return vireo_fail_errno(error, errno, "cannot open backing store '%s' for guest memory", h->mem_path);
    if (fstatfs(h->fd, &fs))
        return vireo_fail_errno(error, errno, "cannot look at '%s'", h->mem_path);
    if (fs.f_type == HUGETLBFS) {
        h->hugetlb = true;
        h->page_size = (uint64_t)fs.f_bsize;
    } else if (fs.f_type != TMPFS && h->obj.machine->config->mem_path == NULL) {
        log_at(LOG_ACCEL, "memory '%s': '%s' is no hugetlbfs: pages have 4 KiB", h->obj.id, h->mem_path);
    } else if (fs.f_type != TMPFS && !strcmp(h->mem_path, h->obj.machine->config->mem_path)) {
        log_warn("-mem-path %s: it is no hugetlbfs: the memory is a file there, in pages of 4 KiB", h->mem_path);
    }
    return h->size % h->page_size || size_file(h, error);
}

static bool check(struct hostmem *h, GError **error)
{
    if (!h->size)
        return vireo_fail(error, VIREO_ERROR_INVALID, "can't create backend with size 0; give size=");
    if (h->size > SIZE_MAX_BYTES)
        return vireo_fail(error, VIREO_ERROR_INVALID, "a size of %" G_GUINT64_FORMAT " GiB is not possible", h->size >> 30);
    if (h->align & (h->align - 1))
        return vireo_fail(error, VIREO_ERROR_INVALID, "align must be a power of two");
    if (h->pmem)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "pmem=on is not available: there is no persistent memory");
    return parse_nodes(h, error);
}

/* ---- mapping ---- */

static uint64_t round_up(uint64_t v, uint64_t to)
{
    return (v + to - 1) & ~(to - 1);
}

/* The address is a multiple of the page size, of `align`, and where pages of 2 MiB may come, of that. */
static bool map(struct hostmem *h, GError **error)
{
    uint64_t align = MAX(MAX(h->align, h->page_size), h->size >= 2 * MIB ? 2 * MIB : 4096), room = h->size + align;
    int prot = PROT_READ | (h->readonly ? 0 : PROT_WRITE);
    int flags = (h->share ? MAP_SHARED : MAP_PRIVATE) | (h->fd < 0 ? MAP_ANONYMOUS : 0);
    /* Huge pages are reserved, so that an empty pool is found now and not when the guest touches them. */
    flags |= h->hugetlb || h->reserve ? 0 : MAP_NORESERVE;
    uint8_t *area = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (area == MAP_FAILED)
        return vireo_fail_errno(error, errno, "there is no room for %" G_GUINT64_FORMAT " MiB in the address space", h->size / MIB);
    uint8_t *host = (uint8_t *)round_up((uintptr_t)area, align);
    void *got = mmap(host, h->size, prot, flags | MAP_FIXED, h->fd, 0);
    int err = errno;
    if (host > area)
        munmap(area, (size_t)(host - area));
    if (area + room > host + h->size)
        munmap(host + h->size, (size_t)(area + room - (host + h->size)));
    if (got != MAP_FAILED) {
        h->host = host;
        return true;
    }
    munmap(host, h->size);
    if (h->hugetlb && err == ENOMEM)
        return pool_lacks(h->page_size, h->size, error);
    return vireo_fail_errno(error, err, "cannot map %" G_GUINT64_FORMAT " MiB of guest memory%s", h->size / MIB,
                            h->reserve ? "; reserve=off takes only what is touched" : "; give less with -m or size=");
}

/* What the kernel may do with the pages. It ignores what does not fit (KSM merges private anonymous pages only).
 * seccomp(main): madvise(MADV_DONTDUMP MADV_MERGEABLE MADV_NOHUGEPAGE MADV_HUGEPAGE) */
static void advise(struct hostmem *h)
{
    if (!h->dump)
        (void)madvise(h->host, h->size, MADV_DONTDUMP);
    if (h->merge)
        (void)madvise(h->host, h->size, MADV_MERGEABLE);
    if (h->hugetlb || h->size < HUGE_FROM)
        return;
    (void)madvise(h->host, NO_HUGE_BELOW, MADV_NOHUGEPAGE);
    (void)madvise(h->host + NO_HUGE_BELOW, h->size - NO_HUGE_BELOW, MADV_HUGEPAGE);
}

/* ---- prealloc ---- */

enum { CHUNK = 64 << 20, THREADS_MAX = 64 };

struct populate {
    struct hostmem *h;
    uint64_t begin, end;
    _Atomic uint64_t next, done;
    _Atomic int error; /* errno of the first that failed */
    _Atomic bool cancel;
    GMutex lock;       /* covers running */
    GCond changed;
    unsigned running;
};

/* seccomp(main): madvise(MADV_POPULATE_WRITE) */

/* Without MADV_POPULATE_WRITE (Linux 5.14): a write to each page that changes nothing. Huge pages are reserved by the mapping. */
static void touch(const struct hostmem *h, uint8_t *at, uint64_t n)
{
    for (uint64_t i = 0; i < n; i += h->page_size)
        (void)__atomic_fetch_or(at + i, 0, __ATOMIC_RELAXED);
}

static gpointer populate_thread(gpointer opaque)
{
    struct populate *p = opaque;
    uint64_t step = MAX((uint64_t)CHUNK, p->h->page_size);
    while (!p->error && !p->cancel) {
        uint64_t at = atomic_fetch_add(&p->next, step), n = at < p->end ? MIN(step, p->end - at) : 0;
        if (!n)
            break;
        if (madvise(p->h->host + at, n, MADV_POPULATE_WRITE)) {
            if (errno == EINVAL)
                touch(p->h, p->h->host + at, n);
            else
                p->error = errno ? errno : EIO;
        }
        atomic_fetch_add(&p->done, n);
    }
    g_mutex_lock(&p->lock);
    p->running--;
    g_cond_signal(&p->changed);
    g_mutex_unlock(&p->lock);
    return NULL;
}

static bool asked_to_end(const struct hostmem *h)
{
    struct pollfd f = { .fd = h->obj.machine->cancel_fd, .events = POLLIN };
    return f.fd >= 0 && poll(&f, 1, 0) > 0;
}

static void show_progress(const struct populate *p, const char *end)
{
    uint64_t all = p->end - p->begin;
    fprintf(stderr, "\rvireo-vmm: taking memory '%s': %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT " MiB%s", p->h->obj.id, p->done / MIB, all / MIB, end);
    fflush(stderr);
}

static void populate_wait(struct populate *p)
{
    bool shown = false, terminal = isatty(STDERR_FILENO);
    uint64_t last = 0;
    int64_t begun = g_get_monotonic_time();
    g_mutex_lock(&p->lock);
    while (p->running) {
        g_cond_wait_until(&p->changed, &p->lock, g_get_monotonic_time() + G_TIME_SPAN_SECOND / 5);
        if (asked_to_end(p->h))
            p->cancel = true;
        if (terminal && p->done != last && g_get_monotonic_time() - begun > G_TIME_SPAN_SECOND / 2) {
            last = p->done;
            show_progress(p, "");
            shown = true;
        }
    }
    g_mutex_unlock(&p->lock);
    if (shown)
        show_progress(p, "\n");
}

bool hostmem_populate(struct hostmem *h, uint64_t offset, uint64_t size, GError **error)
{
    struct populate p = { .h = h, .begin = offset, .end = offset + size, .next = offset };
    GThread *threads[THREADS_MAX];
    unsigned n = (unsigned)CLAMP(h->prealloc_threads ? h->prealloc_threads : MIN(g_get_num_processors(), 16u), 1, THREADS_MAX);
    n = (unsigned)MIN((uint64_t)n, (size + CHUNK - 1) / CHUNK);
    g_mutex_init(&p.lock);
    g_cond_init(&p.changed);
    p.running = n;
    for (unsigned i = 0; i < n; i++)
        threads[i] = sandbox_thread_new(SANDBOX_MAIN, "prealloc", populate_thread, &p);
    populate_wait(&p);
    for (unsigned i = 0; i < n; i++)
        g_thread_join(threads[i]);
    g_mutex_clear(&p.lock);
    g_cond_clear(&p.changed);
    if (p.cancel)
        return vireo_fail(error, VIREO_ERROR_FAILED, "interrupted while memory was taken in advance");
    if (p.error && h->hugetlb)
        return pool_lacks(h->page_size, h->size, error);
    return !p.error || vireo_fail_errno(error, p.error, "the host cannot give %" G_GUINT64_FORMAT " MiB in advance (prealloc)%s", size / MIB,
                                        h->policy == HOSTMEM_BIND ? "; the nodes of host-nodes may be full" : "");
}

/* ---- giving back ---- */

/* seccomp(device): madvise(MADV_REMOVE MADV_DONTNEED) */
void hostmem_discard(struct hostmem *h, uint64_t offset, uint64_t size)
{
    uint64_t begin = round_up(offset, h->page_size), end = (offset + size) & ~(h->page_size - 1);
    if (end > h->size || end <= begin || h->readonly)
        return;
    /* The pages of shared memory belong to the file: MADV_REMOVE makes a hole in it. */
    if (!h->share || madvise(h->host + begin, end - begin, MADV_REMOVE))
        (void)madvise(h->host + begin, end - begin, MADV_DONTNEED);
}

uint64_t hostmem_resident(const struct hostmem *h)
{
    uint64_t n = h->size / h->page_size, found = 0;
    g_autofree unsigned char *vec = g_malloc(h->size / 4096);
    if (mincore(h->host, h->size, vec))
        return 0;
    for (uint64_t i = 0; i < n; i++)
        found += vec[i * (h->page_size / 4096)] & 1;
    return found * h->page_size;
}

/* ---- the classes ---- */

static void init(struct object *o)
{
    struct hostmem *h = (struct hostmem *)o;
    const struct machine_config *c = o->machine->config;
    h->fd = -1;
    h->page_size = 4096;
    h->merge = !c->no_mem_merge;
    h->dump = c->dump_guest_core;
    h->prealloc = c->mem_prealloc;
}

static void init_memfd(struct object *o)
{
    init(o);
    ((struct hostmem *)o)->share = ((struct hostmem *)o)->seal = true;
}

static bool finish_complete(struct hostmem *h, GError **error)
{
    if (h->size % h->page_size)
        return vireo_fail(error, VIREO_ERROR_INVALID, "backend memory size must be multiple of 0x%" G_GINT64_MODIFIER "x, the size of its pages, not "
                          "0x%" G_GINT64_MODIFIER "x", h->page_size, h->size);
    if (!map(h, error) || !bind_nodes(h, error))
        return false;
    advise(h);
    return !h->prealloc || hostmem_populate(h, 0, h->size, error);
}

static bool complete_ram(struct object *o, GError **error)
{
    return check((struct hostmem *)o, error) && finish_complete((struct hostmem *)o, error);
}

static bool complete_memfd(struct object *o, GError **error)
{
    struct hostmem *h = (struct hostmem *)o;
    return check(h, error) && open_memfd(h, error) && finish_complete(h, error);
}

static bool complete_file(struct object *o, GError **error)
{
    struct hostmem *h = (struct hostmem *)o;
    return check(h, error) && open_file(h, error) && finish_complete(h, error);
}

static void discard_owner(void *owner, uint64_t offset, uint64_t size)
{
    hostmem_discard(owner, offset, size);
}

void hostmem_enter_guest(struct hostmem *h)
{
    if (!h->in_guest)
        guest_memory_add_owner(h->obj.machine->memory, h->host, h->size, discard_owner, h);
    h->in_guest = true;
}

static void finish(struct object *o)
{
    struct hostmem *h = (struct hostmem *)o;
    if (h->in_guest && !o->machine->ending)
        guest_memory_remove_owner(o->machine->memory, h);
    if (h->host && h->discard_data && h->share)
        (void)madvise(h->host, h->size, MADV_REMOVE);
    if (h->host && h->in_guest && !o->machine->ending) {
        /* Empty pages in its place (see hostmem.h); the kernel's accounting does not count them. */
        (void)mmap(h->host, h->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
        (void)madvise(h->host, h->size, MADV_DONTDUMP);
    } else if (h->host) {
        munmap(h->host, h->size);
    }
    if (h->fd >= 0)
        close(h->fd);
}

#define H(member) offsetof(struct hostmem, member)
#define COMMON                                                                                                          \
    { "size", KV_SIZE, H(size), "bytes" }, { "share", KV_BOOL, H(share), "other processes may map it too" },             \
    { "merge", KV_BOOL, H(merge), "the host may merge equal pages (KSM); default as -machine mem-merge" },               \
    { "dump", KV_BOOL, H(dump), "it is part of a core dump; default as -machine dump-guest-core" },                      \
    { "prealloc", KV_BOOL, H(prealloc), "take all pages at once" },                                                      \
    { "prealloc-threads", KV_UINT, H(prealloc_threads), "threads that do so (default: CPUs, up to 16)", NULL, 1, THREADS_MAX }, \
    { "host-nodes", KV_LIST, H(host_nodes_text), "memory nodes of the host, as 0-1; may be given again" },               \
    { "policy", KV_ENUM, H(policy), "default, preferred, bind or interleave: how host-nodes is meant", hostmem_policies },\
    { "reserve", KV_BOOL, H(reserve), "count all of it at once in the host's accounting (default off; huge pages always are)" }, \
    { "x-use-canonical-path-for-ramblock-id", KV_IGNORED }, { "prealloc-context", KV_REFUSED, 0, "leave it out" }
static const struct keyval_key ram_keys[] = { COMMON, { NULL } };
static const struct keyval_key memfd_keys[] = {
    COMMON,
    { "hugetlb", KV_BOOL, H(hugetlb), "huge pages" },
    { "hugetlbsize", KV_SIZE, H(hugetlbsize), "their size (default: the host's default)" },
    { "seal", KV_BOOL, H(seal), "nobody can change its size (default on)" },
    { NULL }
};
static const struct keyval_key file_keys[] = {
    COMMON,
    { "mem-path", KV_STRING, H(mem_path), "a file, or a directory (hugetlbfs, tmpfs ...) for a file without name" },
    { "align", KV_SIZE, H(align), "of the address in the process" },
    { "discard-data", KV_BOOL, H(discard_data), "what is in a shared file is dropped at the end" },
    { "readonly", KV_BOOL, H(readonly), "the guest cannot write it" },
    { "pmem", KV_BOOL, H(pmem), "only off" },
    { NULL }
};
const struct object_class hostmem_ram_class = { "memory-backend-ram", "guest memory: anonymous", sizeof(struct hostmem), ram_keys, init,
                                                complete_ram, finish };
const struct object_class hostmem_memfd_class = { "memory-backend-memfd", "guest memory: a memfd, with hugetlb=on of huge pages", sizeof(struct hostmem),
                                                  memfd_keys, init_memfd, complete_memfd, finish };
const struct object_class hostmem_file_class = { "memory-backend-file", "guest memory: a file, or a file in a hugetlbfs", sizeof(struct hostmem),
                                                 file_keys, init, complete_file, finish };

bool hostmem_is(const struct object *o)
{
    return o->class == &hostmem_ram_class || o->class == &hostmem_memfd_class || o->class == &hostmem_file_class;
}

struct hostmem *hostmem_find(const struct machine *m, const char *id, GError **error)
{
    struct object *o = object_find(m, id);
    if (o && hostmem_is(o))
        return (struct hostmem *)o;
    if (o)
        vireo_fail(error, VIREO_ERROR_INVALID, "object '%s' is a %s, not memory", id, o->class->name);
    else
        vireo_fail(error, VIREO_ERROR_NOT_FOUND, "there is no memory '%s'; add -object memory-backend-ram,id=%s,size=...", id, id);
    return NULL;
}

struct hostmem *hostmem_create_default(struct machine *m, const char *id, uint64_t size, GError **error)
{
    keyval_auto *kv = keyval_new();
    g_autofree char *bytes = g_strdup_printf("%" G_GUINT64_FORMAT, size);
    keyval_add(kv, "qom-type", m->config->mem_path ? "memory-backend-file" : "memory-backend-ram");
    keyval_add(kv, "id", id);
    keyval_add(kv, "size", bytes);
    if (m->config->mem_path)
        keyval_add(kv, "mem-path", m->config->mem_path);
    struct object *o = object_create(m, kv, error);
    if (!o && m->config->mem_path)
        g_prefix_error(error, "-mem-path %s: ", m->config->mem_path);
    return (struct hostmem *)o;
}
