/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Runs at build time: makes of the rules that sandbox_gather.py has collected one seccomp filter per kind of thread, and prints
 * them as C arrays. libseccomp does the work.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/mempolicy.h>
#include <linux/seccomp.h>
#include <linux/vhost.h>
#include <net/if.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "base/sandbox.h"
#include "base/sandbox_private.h"

#define SELF SANDBOX_SELF
static const struct rule {
    enum sandbox_kind kind;
    unsigned feature;
    int call, err, arg;
    uint64_t mask, value;
    const char *name, *where;
} rules[] = {
#define ROW(kind, feature, call, err, arg, mask, value, where) { kind, feature, SCMP_SYS(call), err, arg, mask, value, #call, where },
#include "sandbox_calls.inc"
#undef ROW
};
#define NRULES (sizeof(rules) / sizeof(rules[0]))

/* main has what any kind has (sandbox.h says why). */
static bool applies(const struct rule *r, enum sandbox_kind kind, unsigned features)
{
    if (kind == SANDBOX_MAIN)
        return !r->feature || (r->feature & features);
    return r->kind == kind;
}

static void print_code(const struct sock_filter *f)
{
    printf("    { 0x%04x, %u, %u, 0x%08x },\n", f->code, f->jt, f->jf, f->k);
}

static bool allowed_somewhere(int call, enum sandbox_kind kind, unsigned features)
{
    for (size_t i = 0; i < NRULES; i++) {
        if (rules[i].call == call && !rules[i].err && applies(&rules[i], kind, features))
            return true;
    }
    return false;
}

static void fail(const struct rule *r, const char *what, int err)
{
    fprintf(stderr, "src/%s: seccomp comment: %s: %s: %s\n", r ? r->where : "", r ? r->name : "", what, strerror(-err));
    exit(1);
}

static void add(scmp_filter_ctx ctx, const struct rule *r)
{
    if (r->call == __NR_SCMP_ERROR)
        fail(r, "no such system call", -ENOSYS);
    struct scmp_arg_cmp cmp = { (unsigned)(r->arg < 0 ? 0 : r->arg), SCMP_CMP_MASKED_EQ, r->mask, r->value };
    int err = seccomp_rule_add_array(ctx, r->err ? SCMP_ACT_ERRNO(r->err) : SCMP_ACT_ALLOW, r->call, r->arg >= 0, &cmp);
    if (err && err != -EEXIST)
        fail(r, "libseccomp refuses it", err);
}

/* The ioctls that a guest's speed depends on are looked at first: libseccomp makes one long chain of comparisons of an argument.
 * Jumps of BPF are relative, so the filter proper follows as it is. */
static void print_fast_path(enum sandbox_kind kind, unsigned features)
{
    static const unsigned hot[] = { KVM_RUN, KVM_IRQ_LINE, KVM_SIGNAL_MSI };
    unsigned allowed[3], n = 0;
    for (unsigned h = 0; h < 3; h++) {
        bool is = false;
        for (size_t i = 0; i < NRULES; i++)
            is |= rules[i].call == SCMP_SYS(ioctl) && rules[i].arg == 1 && rules[i].value == hot[h] && applies(&rules[i], kind, features);
        if (is)
            allowed[n++] = hot[h];
    }
    if (!n)
        return;
    const struct sock_filter head[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, (unsigned char)(n + 5)),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SCMP_SYS(ioctl), 0, (unsigned char)(n + 3)),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])), /* the low half, as the kernel takes it */
    };
    for (unsigned i = 0; i < sizeof(head) / sizeof(head[0]); i++)
        print_code(&head[i]);
    for (unsigned i = 0; i < n; i++)
        print_code(&(const struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, allowed[i], (unsigned char)(n - i), 0));
    print_code(&(const struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, 1));
    print_code(&(const struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
}

static void print_filter(enum sandbox_kind kind, unsigned features, const char *name)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_TRAP);
    seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    for (size_t i = 0; i < NRULES; i++) {
        const struct rule *r = &rules[i];
        if (applies(r, kind, features) && !(r->err && allowed_somewhere(r->call, kind, features)))
            add(ctx, r);
    }
    int fd = memfd_create("filter", 0);
    int err = seccomp_export_bpf(ctx, fd);
    if (err)
        fail(NULL, "no filter comes out", err);
    struct sock_filter f;
    lseek(fd, 0, SEEK_SET);
    printf("static const struct sock_filter %s[] = {\n", name);
    print_fast_path(kind, features);
    while (read(fd, &f, sizeof(f)) == sizeof(f))
        print_code(&f);
    printf("};\n");
    close(fd);
    seccomp_release(ctx);
}

static void print_names(void)
{
    printf("static const char *const call_names[] = {\n");
    for (int i = 0; i < 512; i++) {
        char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86_64, i);
        if (name)
            printf("    [%d] = \"%s\",\n", i, name);
        free(name);
    }
    printf("};\n");
}

int main(void)
{
    printf("/* SPDX-License-Identifier: LGPL-2.1-or-later */\n/* Generated by sandbox_compile. */\n");
    for (int kind = 0; kind < SANDBOX_NKINDS; kind++) {
        for (unsigned features = 0; features < (kind == SANDBOX_MAIN ? SANDBOX_NVARIANTS : 1); features++) {
            char name[32];
            snprintf(name, sizeof(name), "filter_%d_%u", kind, features);
            print_filter((enum sandbox_kind)kind, features, name);
        }
    }
    printf("#define FILTER(k, f) { G_N_ELEMENTS(filter_##k##_##f), (struct sock_filter *)filter_##k##_##f }\n"
           "static const struct sock_fprog main_filters[] = { FILTER(0, 0), FILTER(0, 1), FILTER(0, 2), FILTER(0, 3), FILTER(0, 4), FILTER(0, 5),"
           " FILTER(0, 6), FILTER(0, 7) };\n"
           "static const struct sock_fprog filters[SANDBOX_NKINDS] = {\n");
    for (int kind = 1; kind < SANDBOX_NKINDS; kind++)
        printf("    [%d] = FILTER(%d, 0),\n", kind, kind);
    printf("};\n");
    print_names();
    return 0;
}
