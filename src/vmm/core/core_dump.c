/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/core/core_dump.h"

#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/json.h"
#include "cpu/x86/x86_state.h"
#include "vmm/core/machine.h"
#include "vmm/core/memory.h"

enum { CHUNK = 256 << 10, PIECE = 16 << 20, PAGE = 4096, ALIGN = 4, STATUS_BYTES = 336, STATUS_REGS = 112, STATUS_PID = 32 };

struct core_range {
    uint64_t gpa, size;
};

struct core_dump {
    int fd;
    bool resume, holes; /* the machine ran; what is zero need not be written */
    enum core_dump_status status;
    GError *error;
    GArray *ranges;     /* struct core_range */
    unsigned at;        /* the range that is being written */
    uint64_t offset;    /* in it */
    uint64_t done, total;
};

/* A vCPU's registers as a system has them: layout of the notes that QEMU writes, version 1. */
struct core_segment {
    uint32_t selector, limit, flags, pad;
    uint64_t base;
};
struct core_cpu {
    uint32_t version, size;
    uint64_t rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r[8], rip, rflags;
    struct core_segment cs, ds, es, fs, gs, ss, ldt, tr, gdt, idt;
    uint64_t cr[5], kernel_gs_base;
};

/* ---- writing ---- */

static bool put(struct core_dump *d, const void *data, size_t size)
{
    for (size_t at = 0; at < size;) {
        ssize_t n = write(d->fd, (const char *)data + at, size - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return vireo_fail_errno(&d->error, n ? errno : ENOSPC, "dump: failed to save memory");
        at += (size_t)n;
    }
    return true;
}

static bool is_zero(const uint8_t *p, size_t size) { return p[0] == 0 && !memcmp(p, p + 1, size - 1); }

/* Of RAM: pages that are zero become holes. The file ends behind the last page that is written: core_dump_end() sees to the rest. */
static bool put_memory(struct core_dump *d, const uint8_t *data, size_t size)
{
    for (size_t at = 0; at < size;) {
        bool hole = d->holes && is_zero(data + at, MIN(size - at, PAGE));
        size_t end = at;
        while (end < size && (d->holes && is_zero(data + end, MIN(size - end, PAGE))) == hole)
            end += MIN(size - end, PAGE);
        if (hole ? lseek(d->fd, (off_t)(end - at), SEEK_CUR) < 0 : !put(d, data + at, end - at))
            return hole ? vireo_fail_errno(&d->error, errno, "dump: failed to save memory") : false;
        at = end;
    }
    return true;
}

/* ---- notes ---- */

static void put_note(GByteArray *to, const char *name, uint32_t type, const void *data, uint32_t size)
{
    static const uint8_t zero[ALIGN];
    uint32_t length = (uint32_t)strlen(name) + 1;
    Elf64_Nhdr h = { length, size, type };
    g_byte_array_append(to, (const uint8_t *)&h, sizeof(h));
    g_byte_array_append(to, (const uint8_t *)name, length);
    g_byte_array_append(to, zero, (ALIGN - length % ALIGN) % ALIGN);
    g_byte_array_append(to, data, size);
    g_byte_array_append(to, zero, (ALIGN - size % ALIGN) % ALIGN);
}

static void put_status(GByteArray *to, const struct x86_state *s, unsigned index)
{
    static const uint8_t order[] = { X86_R15, X86_R14, X86_R13, X86_R12, X86_RBP, X86_RBX, X86_R11, X86_R10, X86_R9, X86_R8, X86_RAX, X86_RCX, X86_RDX, X86_RSI, X86_RDI, X86_RAX };
    uint8_t data[STATUS_BYTES] = { 0 };
    uint64_t regs[27];
    uint32_t pid = index + 1;
    unsigned n = 0;
    for (; n < G_N_ELEMENTS(order); n++)
        regs[n] = s->gpr[order[n]];
    const uint64_t rest[] = { s->rip, s->seg[X86_CS].sel, s->rflags, s->gpr[X86_RSP], s->seg[X86_SS].sel, s->seg[X86_FS].base, s->seg[X86_GS].base,
                              s->seg[X86_DS].sel, s->seg[X86_ES].sel, s->seg[X86_FS].sel, s->seg[X86_GS].sel };
    memcpy(regs + n, rest, sizeof(rest));
    memcpy(data + STATUS_PID, &pid, sizeof(pid));
    memcpy(data + STATUS_REGS, regs, sizeof(regs));
    put_note(to, "CORE", NT_PRSTATUS, data, sizeof(data));
}

static struct core_segment segment(const struct x86_segment *s) { return (struct core_segment){ s->sel, s->limit, (s->attr & 0xffff) << 8, 0, s->base }; }
static struct core_segment table(const struct x86_dtable *t) { return (struct core_segment){ 0, t->limit, 0, 0, t->base }; }

static void put_system(GByteArray *to, const struct x86_state *s)
{
    const uint64_t *g = s->gpr;
    struct core_cpu c = { 1, sizeof(c), g[X86_RAX], g[X86_RBX], g[X86_RCX], g[X86_RDX], g[X86_RSI], g[X86_RDI], g[X86_RSP], g[X86_RBP],
                          { g[X86_R8], g[X86_R9], g[X86_R10], g[X86_R11], g[X86_R12], g[X86_R13], g[X86_R14], g[X86_R15] }, s->rip, s->rflags,
                          segment(&s->seg[X86_CS]), segment(&s->seg[X86_DS]), segment(&s->seg[X86_ES]), segment(&s->seg[X86_FS]), segment(&s->seg[X86_GS]), segment(&s->seg[X86_SS]),
                          segment(&s->ldt), segment(&s->tr), table(&s->gdt), table(&s->idt), { s->cr0, 0, s->cr2, s->cr3, s->cr4 }, s->kernel_gs_base };
    put_note(to, "QEMU", 0, &c, sizeof(c));
}

/* Machine stopped. */
static GByteArray *notes_of(struct machine *m)
{
    GByteArray *to = g_byte_array_new();
    g_autofree struct x86_state *s = g_new(struct x86_state, 1);
    for (int system = 0; system < 2; system++)
        for (unsigned i = 0; i < m->max_vcpus; i++) {
            if (!m->vcpus[i])
                continue;
            vcpu_get_state(m->vcpus[i], s);
            if (system)
                put_system(to, s);
            else
                put_status(to, s, i);
        }
    return to;
}

/* ---- head ---- */

static bool put_head(struct machine *m, struct core_dump *d)
{
    g_autoptr(GByteArray) notes = notes_of(m), head = g_byte_array_new();
    uint16_t count = (uint16_t)(d->ranges->len + 1);
    Elf64_Ehdr e = { .e_type = ET_CORE, .e_machine = EM_X86_64, .e_version = EV_CURRENT, .e_phoff = sizeof(e), .e_ehsize = sizeof(e), .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = count };
    memcpy(e.e_ident, ELFMAG, SELFMAG);
    e.e_ident[EI_CLASS] = ELFCLASS64;
    e.e_ident[EI_DATA] = ELFDATA2LSB;
    e.e_ident[EI_VERSION] = EV_CURRENT;
    g_byte_array_append(head, (const uint8_t *)&e, sizeof(e));
    uint64_t offset = sizeof(e) + count * sizeof(Elf64_Phdr);
    Elf64_Phdr n = { .p_type = PT_NOTE, .p_offset = offset, .p_filesz = notes->len, .p_memsz = notes->len };
    g_byte_array_append(head, (const uint8_t *)&n, sizeof(n));
    offset += notes->len;
    for (unsigned i = 0; i < d->ranges->len; i++) {
        const struct core_range *r = &g_array_index(d->ranges, struct core_range, i);
        Elf64_Phdr p = { .p_type = PT_LOAD, .p_offset = offset, .p_vaddr = r->gpa, .p_paddr = r->gpa, .p_filesz = r->size, .p_memsz = r->size };
        g_byte_array_append(head, (const uint8_t *)&p, sizeof(p));
        offset += r->size;
    }
    g_byte_array_append(head, notes->data, notes->len);
    return put(d, head->data, head->len);
}

static void find_ranges(struct machine *m, struct core_dump *d, uint64_t begin, uint64_t end)
{
    struct core_range r;
    bool readonly;
    for (unsigned i = 0; guest_memory_ram_range(m->memory, i, &r.gpa, &r.size, &readonly); i++) {
        uint64_t from = MAX(r.gpa, begin), to = MIN(r.gpa + r.size, end);
        if (readonly || from >= to)
            continue;
        r = (struct core_range){ from, to - from };
        g_array_append_val(d->ranges, r);
        d->total += r.size;
    }
}

/* ---- the steps ---- */

static void core_free(struct core_dump *d)
{
    if (!d)
        return;
    if (d->fd >= 0)
        close(d->fd);
    g_clear_error(&d->error);
    g_array_unref(d->ranges);
    g_free(d);
}

static struct json_object *result_of(const struct core_dump *d)
{
    return json_make("status", json_object_new_string(d->error ? "failed" : "completed"), "completed", json_object_new_int64((int64_t)d->done), "total",
                     json_object_new_int64((int64_t)d->total), NULL);
}

static void end(struct machine *m, struct core_dump *d)
{
    off_t size = d->holes && !d->error ? lseek(d->fd, 0, SEEK_CUR) : -1;
    if (size >= 0 && ftruncate(d->fd, size) < 0) /* seccomp(main): ftruncate */
        vireo_fail_errno(&d->error, errno, "dump: failed to save memory");
    if (close(d->fd) < 0 && !d->error)
        vireo_fail_errno(&d->error, errno, "dump: failed to save memory");
    d->fd = -1;
    d->status = d->error ? CORE_DUMP_FAILED : CORE_DUMP_COMPLETED;
    struct json_object *data = json_make("result", result_of(d), NULL);
    if (d->error)
        json_object_object_add(data, "error", json_object_new_string(d->error->message));
    machine_event(m, "DUMP_COMPLETED", data);
    if (d->resume)
        machine_start(m);
}

/* False: it has come to its end. */
static bool step(struct machine *m, struct core_dump *d, uint8_t *chunk)
{
    if (d->at >= d->ranges->len)
        return false;
    const struct core_range *r = &g_array_index(d->ranges, struct core_range, d->at);
    uint64_t n = MIN(r->size - d->offset, CHUNK);
    if (!guest_memory_read(m->memory, r->gpa + d->offset, chunk, n))
        memset(chunk, 0, n); /* taken out meanwhile */
    if (!put_memory(d, chunk, n))
        return false;
    d->done += n;
    d->offset += n;
    if (d->offset == r->size) {
        d->at++;
        d->offset = 0;
    }
    return true;
}

/* machine_call_later: a piece, and what else the main loop has to do. */
static void go_on(void *opaque)
{
    struct machine *m = opaque;
    struct core_dump *d = m->core_dump;
    if (!d || d->status != CORE_DUMP_ACTIVE)
        return;
    g_autofree uint8_t *chunk = g_malloc(CHUNK);
    bool more = true;
    for (unsigned i = 0; more && i < PIECE / CHUNK; i++)
        more = step(m, d, chunk);
    if (more)
        machine_call_later(m, go_on, m);
    else
        end(m, d);
}

bool core_dump_start(struct machine *m, int fd, uint64_t begin, uint64_t end_at, GError **error)
{
    struct stat st;
    if (m->core_dump && m->core_dump->status == CORE_DUMP_ACTIVE) {
        close(fd);
        return vireo_fail(error, VIREO_ERROR_FAILED, "There is a dump in process, please wait.");
    }
    struct core_dump *d = g_new0(struct core_dump, 1);
    d->fd = fd;
    d->ranges = g_array_new(FALSE, FALSE, sizeof(struct core_range));
    d->resume = m->state == MACHINE_RUNNING;
    if (d->resume)
        machine_stop(m, MACHINE_PAUSED);
    find_ranges(m, d, begin, end_at);
    d->holes = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= lseek(fd, 0, SEEK_CUR); /* seccomp(main): lseek */
    if (!d->ranges->len)
        vireo_fail(&d->error, VIREO_ERROR_INVALID, "dump: there is no memory in that range");
    if (d->error || !put_head(m, d)) {
        g_propagate_error(error, g_steal_pointer(&d->error));
        if (d->resume)
            machine_start(m);
        core_free(d);
        return false;
    }
    core_free(m->core_dump);
    m->core_dump = d;
    d->status = CORE_DUMP_ACTIVE;
    machine_call_later(m, go_on, m);
    return true;
}

bool core_dump_run(struct machine *m, GError **error)
{
    struct core_dump *d = m->core_dump;
    g_autofree uint8_t *chunk = g_malloc(CHUNK);
    while (step(m, d, chunk))
        ;
    end(m, d);
    if (d->error)
        g_propagate_error(error, g_error_copy(d->error));
    return !d->error;
}

enum core_dump_status core_dump_query(const struct machine *m, uint64_t *ret_done, uint64_t *ret_total)
{
    const struct core_dump *d = m->core_dump;
    *ret_done = d ? d->done : 0;
    *ret_total = d ? d->total : 0;
    return d ? d->status : CORE_DUMP_NONE;
}

void core_dump_finish(struct machine *m)
{
    core_free(m->core_dump);
    m->core_dump = NULL;
}
