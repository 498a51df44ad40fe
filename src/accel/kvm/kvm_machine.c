/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The accelerator KVM: the device file, what the kernel can do, a machine's descriptor, its clock.
 */
#include "accel/kvm/kvm.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fdset.h"
#include "base/log.h"

#define KVM_DEVICE "/dev/kvm"
/* Where Intel CPUs without "unrestricted guest" keep a TSS and a page table for real mode (4.40, 4.41): four pages below the
 * firmware, in address space that the boards leave free. */
#define IDENTITY_MAP_ADDRESS 0xfeffc000ull
#define TSS_ADDRESS 0xfeffd000ull

int kvm_ioctl(int fd, unsigned long request, const void *arg)
{
    int r;
    do {
        r = ioctl(fd, request, arg);
    } while (r < 0 && errno == EINTR);
    return r;
}

/* seccomp(main): ioctl(KVM_CHECK_EXTENSION KVM_ENABLE_CAP) */
int kvm_check(int fd, unsigned cap)
{
    int r = kvm_ioctl(fd, KVM_CHECK_EXTENSION, (void *)(uintptr_t)cap);
    return r < 0 ? 0 : r;
}

bool kvm_enable(int fd, unsigned cap, uint64_t arg0)
{
    struct kvm_enable_cap c = { .cap = cap, .args = { arg0 } };
    return kvm_ioctl(fd, KVM_ENABLE_CAP, &c) == 0;
}

/* ---- opening ---- */

/* Who could open the device, for the message. */
static char *owner_of(const char *device)
{
    struct stat st;
    char buf[1024];
    struct group g, *found = NULL;
    if (stat(device, &st) < 0)
        return g_strdup("its owner");
    if (!(st.st_mode & S_IWGRP))
        return g_strdup_printf("only its owner, user id %u, may use it: ask for 'chmod g+rw' and a group", (unsigned)st.st_uid);
    if (getgrgid_r(st.st_gid, &g, buf, sizeof(buf), &found) || !found)
        return g_strdup_printf("join the group with id %u", (unsigned)st.st_gid);
    return g_strdup_printf("join the group '%s' (usermod -aG %s USER, then log in again)", g.gr_name, g.gr_name);
}

static const struct {
    unsigned cap;
    const char *name;
} needed[] = {
    { KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY" },
    { KVM_CAP_DESTROY_MEMORY_REGION_WORKS, "KVM_CAP_DESTROY_MEMORY_REGION_WORKS" },
    { KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID" },
    { KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR" },
    { KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE" },
    { KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS" },
    { KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS" },
    { KVM_CAP_XSAVE, "KVM_CAP_XSAVE" },
    { KVM_CAP_XCRS, "KVM_CAP_XCRS" },
    { KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT (Linux 4.11)" },
    { KVM_CAP_READONLY_MEM, "KVM_CAP_READONLY_MEM" },
};

static bool usable(int fd, const char *device, GError **error)
{
    int version = kvm_ioctl(fd, KVM_GET_API_VERSION, NULL);
    if (version < 0)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "-accel kvm: %s is not the KVM device", device);
    if (version != KVM_API_VERSION)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "-accel kvm: %s speaks version %d of the interface, not 12: use a kernel from 2.6.22 on",
                          device, version);
    for (unsigned i = 0; i < G_N_ELEMENTS(needed); i++)
        if (!kvm_check(fd, needed[i].cap))
            return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "-accel kvm: this kernel's KVM lacks %s: use a newer kernel, or -accel jit",
                              needed[i].name);
    return true;
}

int kvm_open(const char *device, GError **error)
{
    if (!device)
        device = KVM_DEVICE;
    int fd = fdset_open(device, O_RDWR | O_CLOEXEC, 0);
    if (fd < 0 && fdset_path(device)) {
        vireo_fail(error, VIREO_ERROR_NOT_FOUND, "-accel kvm: %s has no descriptor that is open for reading and writing: pass one of /dev/kvm "
                   "with -add-fd", device);
    } else if (fd < 0 && (errno == ENOENT || errno == ENXIO || errno == ENODEV)) {
        vireo_fail(error, VIREO_ERROR_NOT_FOUND, "-accel kvm: there is no %s: load the kernel module kvm_intel or kvm_amd (and enable "
                   "virtualization in the firmware), or use -accel jit", device);
    } else if (fd < 0 && (errno == EACCES || errno == EPERM)) {
        g_autofree char *who = owner_of(device);
        vireo_fail(error, VIREO_ERROR_PERMISSION, "-accel kvm: no permission to open %s: %s, or use -accel jit", device, who);
    } else if (fd < 0) {
        vireo_fail_errno(error, errno, "-accel kvm: cannot open %s", device);
    } else if (!usable(fd, device, error)) {
        close(fd);
        return -1;
    }
    return fd;
}

static bool cpu_has_virtualization(void)
{
    unsigned a, b, c = 0, d, e = 0;
    return (__get_cpuid(1, &a, &b, &c, &d) && (c >> 5 & 1)) || (__get_cpuid(0x80000001, &a, &b, &e, &d) && (e >> 2 & 1));
}

static int kvm_probe(const char *device, GError **error)
{
    int fd = kvm_open(device, error);
    if (fd < 0)
        return 0;
    close(fd);
    return cpu_has_virtualization() ? 2 : 1;
}

/* ---- a machine ---- */

static void read_caps(struct kvm_machine *m)
{
    struct kvm_caps *c = &m->caps;
    const struct { bool *flag; unsigned cap; } flags[] = {
        { &c->readonly_mem, KVM_CAP_READONLY_MEM }, { &c->manual_protect, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 },
        { &c->smm, KVM_CAP_X86_SMM }, { &c->user_msr, KVM_CAP_X86_USER_SPACE_MSR }, { &c->msr_filter, KVM_CAP_X86_MSR_FILTER },
        { &c->vcpu_stats, KVM_CAP_BINARY_STATS_FD }, { &c->coalesced_pio, KVM_CAP_COALESCED_PIO }, { &c->irqfd, KVM_CAP_IRQFD },
        { &c->resample, KVM_CAP_IRQFD_RESAMPLE }, { &c->ioeventfd, KVM_CAP_IOEVENTFD }, { &c->ioeventfd_any, KVM_CAP_IOEVENTFD_ANY_LENGTH },
        { &c->signal_msi, KVM_CAP_SIGNAL_MSI }, { &c->kvmclock_ctrl, KVM_CAP_KVMCLOCK_CTRL }, { &c->adjust_clock, KVM_CAP_ADJUST_CLOCK },
        { &c->mce, KVM_CAP_MCE }, { &c->tsc_control, KVM_CAP_TSC_CONTROL }, { &c->x2apic_api, KVM_CAP_X2APIC_API },
        { &c->split, KVM_CAP_SPLIT_IRQCHIP }, { &c->pit2, KVM_CAP_PIT2 }, { &c->debug, KVM_CAP_SET_GUEST_DEBUG },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(flags); i++)
        *flags[i].flag = kvm_check(m->vm, flags[i].cap) > 0;
    c->slots = (unsigned)kvm_check(m->vm, KVM_CAP_NR_MEMSLOTS);
    c->routes = (unsigned)kvm_check(m->vm, KVM_CAP_IRQ_ROUTING);
    c->max_vcpus = (unsigned)kvm_check(m->vm, KVM_CAP_MAX_VCPUS);
    c->xsave_size = (unsigned)kvm_check(m->vm, KVM_CAP_XSAVE2);
    c->xsave2 = c->xsave_size > 0;
    c->xsave_size = MAX(c->xsave_size, 4096u);
    c->nested_size = (unsigned)kvm_check(m->vm, KVM_CAP_NESTED_STATE);
    c->nested = c->nested_size && c->nested_size <= X86_NESTED_SIZE &&
                (x86_model_has(m->model, X86_FEAT_SVM) || x86_model_has(m->model, X86_FEAT_VMX));
    c->dirty_ring_bytes = (unsigned)kvm_check(m->vm, KVM_CAP_DIRTY_LOG_RING_ACQ_REL);
    c->dirty_ring_acq_rel = c->dirty_ring_bytes > 0;
    if (!c->dirty_ring_bytes)
        c->dirty_ring_bytes = (unsigned)kvm_check(m->vm, KVM_CAP_DIRTY_LOG_RING);
    if (!c->slots)
        c->slots = 32;
    if (!c->max_vcpus)
        c->max_vcpus = MAX(kvm_check(m->vm, KVM_CAP_NR_VCPUS), 4);
}

/* A ring has a power of two of entries, at least one page of them (8.29). */
static bool enable_dirty_ring(struct kvm_machine *m, unsigned entries, GError **error)
{
    if (!entries) {
        if (m->caps.manual_protect)
            m->caps.manual_protect = kvm_enable(m->vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
        return true;
    }
    unsigned most = m->caps.dirty_ring_bytes / sizeof(struct kvm_dirty_gfn);
    if (!most)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "-accel kvm: this kernel has no dirty ring (Linux 5.11); leave out dirty-ring-size");
    if (entries < 1024 || entries > most || (entries & (entries - 1)))
        return vireo_fail(error, VIREO_ERROR_INVALID, "-accel kvm: dirty-ring-size must be a power of two from 1024 to %u, not %u", most, entries);
    unsigned cap = m->caps.dirty_ring_acq_rel ? KVM_CAP_DIRTY_LOG_RING_ACQ_REL : KVM_CAP_DIRTY_LOG_RING;
    if (!kvm_enable(m->vm, cap, (uint64_t)entries * sizeof(struct kvm_dirty_gfn)))
        return vireo_fail_errno(error, errno, "-accel kvm: cannot enable a dirty ring of %u entries", entries);
    m->ring_entries = entries;
    return true;
}

static bool set_up(struct kvm_machine *m, const struct accel_config *c, GError **error)
{
    uint64_t identity = IDENTITY_MAP_ADDRESS;
    if (c->max_vcpus > m->caps.max_vcpus)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "-accel kvm: this kernel gives a machine at most %u vCPUs, not %u: lower -smp (maxcpus)",
                          m->caps.max_vcpus, c->max_vcpus);
    if ((kvm_check(m->vm, KVM_CAP_SET_IDENTITY_MAP_ADDR) && kvm_ioctl(m->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity) < 0) ||
        kvm_ioctl(m->vm, KVM_SET_TSS_ADDR, (void *)TSS_ADDRESS) < 0)
        return vireo_fail_errno(error, errno, "-accel kvm: cannot place the real-mode TSS");
    /* There is no virtual PMU: its registers need not be kept for the guest (7.32). */
    if (kvm_check(m->vm, KVM_CAP_PMU_CAPABILITY) & KVM_PMU_CAP_DISABLE)
        (void)kvm_enable(m->vm, KVM_CAP_PMU_CAPABILITY, KVM_PMU_CAP_DISABLE);
    /* Events of their own, not merged into others (4.31). */
    m->caps.triple_fault = kvm_check(m->vm, KVM_CAP_X86_TRIPLE_FAULT_EVENT) && kvm_enable(m->vm, KVM_CAP_X86_TRIPLE_FAULT_EVENT, 1);
    return enable_dirty_ring(m, c->dirty_ring, error) && kvm_irqchip_create(m, c->irqchip, error) && kvm_routes_init(m, error) &&
           kvm_msr_filter(m, error) && kvm_cpuid_init(m, error);
}

static void kvm_destroy(struct accel *a)
{
    struct kvm_machine *m = kvm_machine_of(a);
    if (!m)
        return;
    kvm_memory_finish(m);
    kvm_routes_finish(m);
    if (m->vm >= 0)
        close(m->vm);
    if (m->kvm >= 0)
        close(m->kvm);
    g_free(m->cpuid);
    g_free(m->msr_defaults);
    g_free(m->vcpus);
    g_mutex_clear(&m->ring_lock);
    g_free(m);
}

static struct accel *kvm_create(const struct accel_config *c, GError **error)
{
    struct kvm_machine *m = g_new0(struct kvm_machine, 1);
    m->bus = *c->bus;
    m->opaque = c->opaque;
    m->model = c->model;
    m->max_vcpus = c->max_vcpus;
    /* APIC ids are vCPU numbers without gaps: levels that are no powers of two cannot be shown. */
    m->topo = (struct x86_cpu_topology){ 0, c->sockets, c->cores, c->threads };
    if ((c->cores & (c->cores - 1)) || (c->threads & (c->threads - 1)))
        m->topo = (struct x86_cpu_topology){ 0, 1, c->max_vcpus, 1 };
    m->vcpus = (struct kvm_vcpu *_Atomic *)g_new0(struct kvm_vcpu *, c->max_vcpus);
    m->vm = -1;
    g_mutex_init(&m->ring_lock);
    kvm_memory_init(m);
    m->kvm = kvm_open(c->device, error);
    if (m->kvm < 0)
        goto fail;
    do {
        m->vm = ioctl(m->kvm, KVM_CREATE_VM, 0);
    } while (m->vm < 0 && errno == EINTR);
    if (m->vm < 0) {
        if (errno == ENOTTY || errno == EOPNOTSUPP || errno == EBUSY)
            vireo_fail_errno(error, errno, "-accel kvm: the kernel does not start virtual machines now (does another hypervisor hold the CPU?); use -accel jit");
        else
            vireo_fail_errno(error, errno, "-accel kvm: cannot create a virtual machine");
        goto fail;
    }
    m->run_size = (size_t)kvm_ioctl(m->kvm, KVM_GET_VCPU_MMAP_SIZE, NULL);
    read_caps(m);
    kvm_msr_init(m);
    if (!set_up(m, c, error) || !kvm_vcpu_signals(error))
        goto fail;
    return (struct accel *)m;
fail:
    kvm_destroy((struct accel *)m);
    return NULL;
}

/* kvmclock stands still while the machine does, and says so to the guest's watchdogs (4.42, 4.43, 4.70). */
/* seccomp(main): ioctl(KVM_GET_CLOCK KVM_SET_CLOCK KVM_KVMCLOCK_CTRL) */
static void kvm_run_state(struct accel *a, bool running)
{
    struct kvm_machine *m = kvm_machine_of(a);
    struct kvm_clock_data clock = { 0 };
    if (!m->caps.adjust_clock || running == m->clock_running)
        return;
    m->clock_running = running;
    if (!running) {
        if (kvm_ioctl(m->vm, KVM_GET_CLOCK, &clock) == 0)
            m->clock = clock.clock;
        return;
    }
    clock.clock = m->clock;
    (void)kvm_ioctl(m->vm, KVM_SET_CLOCK, &clock);
    for (unsigned i = 0; m->caps.kvmclock_ctrl && i < m->max_vcpus; i++) {
        struct kvm_vcpu *v = atomic_load(&m->vcpus[i]);
        if (v)
            (void)kvm_ioctl(v->fd, KVM_KVMCLOCK_CTRL, NULL); /* EINVAL: the guest does not use it */
    }
}

static uint64_t kvm_clock_get(struct accel *a)
{
    return kvm_machine_of(a)->clock;
}

/* The kernel is told when the machine runs. */
static void kvm_clock_set(struct accel *a, uint64_t ns)
{
    kvm_machine_of(a)->clock = ns;
}

/* seccomp(main): ioctl(KVM_GET_STATS_FD) */
static int kvm_stats_fd(struct accel *a, struct accel_vcpu *v)
{
    struct kvm_machine *m = kvm_machine_of(a);
    return m->caps.vcpu_stats ? kvm_ioctl(v ? kvm_vcpu_of(v)->fd : m->vm, KVM_GET_STATS_FD, NULL) : -1;
}

static const struct accel_exit_count *kvm_vcpu_exits(struct accel_vcpu *v)
{
    return kvm_vcpu_of(v)->counts;
}

static char *kvm_stats(struct accel *a)
{
    static const char *const irqchips[] = { "off", "split", "on" };
    struct kvm_machine *m = kvm_machine_of(a);
    GString *s = g_string_new(NULL);
    g_string_append_printf(s, "kvm: interrupt controllers in the kernel: %s; %u memory slots", irqchips[m->irqchip], m->slots->len);
    struct accel_exit_count sum[KVM_NROWS];
    memcpy(sum, m->gone, sizeof(sum));
    for (unsigned i = 0; i < m->max_vcpus; i++) {
        const struct kvm_vcpu *v = atomic_load(&m->vcpus[i]);
        for (unsigned r = 0; v && r < KVM_NROWS; r++) {
            sum[r].count += __atomic_load_n(&v->counts[r].count, __ATOMIC_RELAXED);
            sum[r].ticks += __atomic_load_n(&v->counts[r].ticks, __ATOMIC_RELAXED);
        }
    }
    g_string_append(s, "\nkvm: exits:");
    for (unsigned r = 0; r < KVM_NROWS; r++)
        if (sum[r].count)
            g_string_append_printf(s, " %s %" G_GUINT64_FORMAT " (%" G_GUINT64_FORMAT " cycles each)", kvm_exit_reasons[r].name,
                                   sum[r].count, sum[r].ticks / sum[r].count);
    return g_string_free(s, FALSE);
}

const struct accel_ops accel_kvm = {
    .name = "kvm",
    .help = "the kernel's KVM: guest code runs on the CPU itself",
    .probe = kvm_probe,
    .features = kvm_features,
    .create = kvm_create,
    .destroy = kvm_destroy,
    .map_ram = kvm_map_ram,
    .unmap_ram = kvm_unmap_ram,
    .ram_written = kvm_ram_written,
    .vcpu_create = kvm_vcpu_create,
    .vcpu_destroy = kvm_vcpu_destroy,
    .vcpu_run = kvm_vcpu_run,
    .vcpu_error = kvm_vcpu_error,
    .vcpu_kick = kvm_vcpu_kick,
    .vcpu_interrupt = kvm_vcpu_interrupt,
    .vcpu_has_work = kvm_vcpu_has_work,
    .vcpu_get_state = kvm_get_state,
    .vcpu_set_state = kvm_set_state,
    .stats = kvm_stats,
    .exit_reasons = kvm_exit_reasons,
    .nexit_reasons = KVM_NROWS,
    .vcpu_exits = kvm_vcpu_exits,
    .stats_fd = kvm_stats_fd,
    .run_state = kvm_run_state, .clock_get = kvm_clock_get, .clock_set = kvm_clock_set,
    .vcpu_debug = kvm_vcpu_debug,
    .irqchip = kvm_irqchip_of,
    .gsi_set = kvm_gsi_set,
    .msi_send = kvm_msi_send,
    .irqchip_get = kvm_irqchip_get,
    .irqchip_set = kvm_irqchip_set,
    .pit_output = kvm_pit_output,
    .lapic_get = kvm_lapic_get,
    .lapic_set = kvm_lapic_set,
    .route_add = kvm_route_add,
    .route_set = kvm_route_set,
    .route_remove = kvm_route_remove,
    .irqfd = kvm_irqfd,
    .ioeventfd = kvm_ioeventfd,
    .coalesce = kvm_coalesce,
    .dirty_start = kvm_dirty_start,
    .dirty_stop = kvm_dirty_stop,
    .dirty_read = kvm_dirty_read,
};
