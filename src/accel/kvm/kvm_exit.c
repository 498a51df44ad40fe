/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What each exit of KVM_RUN means (5 "The kvm_run structure"), and the words for those that cannot be answered.
 */
#include "accel/kvm/kvm.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"

const struct accel_exit_reason kvm_exit_reasons[KVM_NROWS] = {
#define X(id, name, help) { name, help },
    KVM_EXIT_ROWS(X)
#undef X
};

#define EXIT_MEMORY_FAULT 39 /* KVM_EXIT_MEMORY_FAULT, Linux 6.8 */

/* The vCPU cannot go on: says why, and shows its registers. Takes `text` over. */
static enum accel_exit fail(struct kvm_vcpu *v, char *text)
{
    g_autofree char *registers = kvm_describe_registers(v);
    g_free(v->error);
    v->error = g_strdup_printf("%s; %s", text, registers);
    g_free(text);
    v->row = KVM_ROW_ERROR;
    return ACCEL_EXIT_ERROR;
}

enum accel_exit kvm_exit_failed(struct kvm_vcpu *v, int err)
{
    const char *more = "";
    if (err == EFAULT)
        more = " (the guest used memory that the host could not give: an empty pool of huge pages, a truncated file behind the memory, or no memory left)";
    if (v->run->exit_reason == EXIT_MEMORY_FAULT && err == EFAULT)
        more = " (the guest used memory that the host could not give)";
    return fail(v, g_strdup_printf("KVM_RUN: %s%s", g_strerror(err), more));
}

/* ---- ports and memory ---- */

static void answer_pio(struct kvm_vcpu *v)
{
    struct kvm_machine *m = v->machine;
    struct kvm_run *run = v->run;
    unsigned size = run->io.size;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;
    bool write = run->io.direction == KVM_EXIT_IO_OUT;
    v->row = write ? KVM_ROW_PIO_WRITE : KVM_ROW_PIO_READ;
    for (uint32_t i = 0; i < run->io.count; i++, data += size) {
        uint64_t value = 0;
        if (write) {
            memcpy(&value, data, size);
            m->bus.pio_write(m->opaque, v->index, run->io.port, size, value);
        } else {
            value = m->bus.pio_read(m->opaque, v->index, run->io.port, size);
            memcpy(data, &value, size);
        }
    }
}

/* An access of any length up to 8 becomes the largest aligned ones of 1, 2, 4 or 8 bytes that the bus takes. */
static void answer_mmio(struct kvm_vcpu *v)
{
    struct kvm_machine *m = v->machine;
    struct kvm_run *run = v->run;
    uint64_t gpa = run->mmio.phys_addr;
    bool write = run->mmio.is_write;
    uint32_t left = MIN(run->mmio.len, 8u);
    uint8_t *data = run->mmio.data;
    v->row = write ? KVM_ROW_MMIO_WRITE : KVM_ROW_MMIO_READ;
    while (left) {
        unsigned size = 8;
        uint64_t value = 0;
        while (size > left || (size > 1 && left != size && gpa % size))
            size /= 2;
        if (write) {
            memcpy(&value, data, size);
            m->bus.mmio_write(m->opaque, v->index, gpa, size, value);
        } else {
            value = m->bus.mmio_read(m->opaque, v->index, gpa, size);
            memcpy(data, &value, size);
        }
        gpa += size;
        data += size;
        left -= size;
    }
}

static void answer_msr(struct kvm_vcpu *v, bool write)
{
    struct kvm_machine *m = v->machine;
    struct kvm_run *run = v->run;
    uint64_t value = 0;
    v->row = write ? KVM_ROW_MSR_WRITE : KVM_ROW_MSR_READ;
    if (write)
        run->msr.error = !m->bus.msr_write(m->opaque, v->index, run->msr.index, run->msr.data);
    else
        run->msr.error = !m->bus.msr_read(m->opaque, v->index, run->msr.index, &value);
    if (!write)
        run->msr.data = value;
}

/* ---- exits that end it ---- */

static enum accel_exit system_event(struct kvm_vcpu *v)
{
    v->row = KVM_ROW_SYSTEM;
    switch (v->run->system_event.type) {
    case KVM_SYSTEM_EVENT_RESET:
        return ACCEL_EXIT_RESET;
    case KVM_SYSTEM_EVENT_SHUTDOWN:
        return ACCEL_EXIT_SHUTDOWN;
    default:
        return fail(v, g_strdup_printf("KVM reports system event %u", v->run->system_event.type));
    }
}

static enum accel_exit internal_error(struct kvm_vcpu *v)
{
    static const char *const names[] = {
        [KVM_INTERNAL_ERROR_EMULATION] = "KVM cannot emulate the guest's instruction",
        [KVM_INTERNAL_ERROR_SIMUL_EX] = "exceptions at the same time that KVM cannot combine",
        [KVM_INTERNAL_ERROR_DELIVERY_EV] = "an exit during the delivery of an event, which KVM cannot resume",
        [KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON] = "the CPU gave KVM an exit reason that it does not know",
    };
    struct kvm_run *run = v->run;
    unsigned sub = run->internal.suberror, n = MIN(run->internal.ndata, 16u);
    GString *s = g_string_new(NULL);
    if (sub < G_N_ELEMENTS(names) && names[sub])
        g_string_append(s, names[sub]);
    else
        g_string_append(s, "KVM internal error");
    g_string_append_printf(s, " (suberror %u", sub);
    if (sub == KVM_INTERNAL_ERROR_EMULATION && n >= 3 && (run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)) {
        g_string_append(s, ", bytes");
        for (unsigned i = 0; i < MIN(run->emulation_failure.insn_size, 15u); i++)
            g_string_append_printf(s, " %02x", run->emulation_failure.insn_bytes[i]);
    } else {
        for (unsigned i = 0; i < n; i++)
            g_string_append_printf(s, "%s %#llx", i ? "" : ", data", (unsigned long long)run->internal.data[i]);
    }
    g_string_append_c(s, ')');
    return fail(v, g_string_free(s, FALSE));
}

static enum accel_exit fail_entry(struct kvm_vcpu *v)
{
    return fail(v, g_strdup_printf("the CPU refused to enter the guest: hardware reason %#llx on host CPU %u",
                                   (unsigned long long)v->run->fail_entry.hardware_entry_failure_reason, v->run->fail_entry.cpu));
}

bool kvm_exit_handle(struct kvm_vcpu *v, enum accel_exit *ret)
{
    struct kvm_run *run = v->run;
    struct kvm_machine *m = v->machine;
    switch (run->exit_reason) {
    case KVM_EXIT_IO:
        answer_pio(v);
        return false;
    case KVM_EXIT_MMIO:
        answer_mmio(v);
        return false;
    case KVM_EXIT_X86_RDMSR:
    case KVM_EXIT_X86_WRMSR:
        answer_msr(v, run->exit_reason == KVM_EXIT_X86_WRMSR);
        return false;
    case KVM_EXIT_IRQ_WINDOW_OPEN:
        v->row = KVM_ROW_IRQ_WINDOW;
        return false;
    case KVM_EXIT_HLT:
        v->row = KVM_ROW_HALT;
        v->activity = X86_HALTED;
        *ret = ACCEL_EXIT_HALT;
        return true;
    case KVM_EXIT_IOAPIC_EOI:
        v->row = KVM_ROW_EOI;
        if (m->bus.ioapic_eoi)
            m->bus.ioapic_eoi(m->opaque, run->eoi.vector);
        return false;
    case KVM_EXIT_SET_TPR: /* told by the loop */
    case KVM_EXIT_TPR_ACCESS:
        v->row = KVM_ROW_TPR;
        return false;
    case KVM_EXIT_INTR:
    case KVM_EXIT_NMI:
    case KVM_EXIT_AP_RESET_HOLD:
        v->row = KVM_ROW_KICK;
        return false;
    case KVM_EXIT_DIRTY_RING_FULL:
        v->row = KVM_ROW_RING_FULL;
        kvm_dirty_ring_full(m);
        return false;
    case KVM_EXIT_HYPERCALL:
        v->row = KVM_ROW_HYPERCALL;
        run->hypercall.ret = (uint64_t)-1000; /* KVM_ENOSYS of linux/kvm_para.h */
        return false;
    case KVM_EXIT_X86_BUS_LOCK:
        v->row = KVM_ROW_BUS_LOCK;
        return false;
    case KVM_EXIT_NOTIFY:
        v->row = KVM_ROW_OTHER;
        if (!(run->notify.flags & KVM_NOTIFY_CONTEXT_INVALID))
            return false;
        *ret = fail(v, g_strdup("the guest kept the CPU from every interrupt, and its state is lost"));
        return true;
    case KVM_EXIT_DEBUG:
        v->row = KVM_ROW_DEBUG;
        *ret = ACCEL_EXIT_DEBUG;
        return true;
    case KVM_EXIT_SHUTDOWN:
        v->row = KVM_ROW_SHUTDOWN;
        *ret = ACCEL_EXIT_SHUTDOWN;
        return true;
    case KVM_EXIT_SYSTEM_EVENT:
        *ret = system_event(v);
        return true;
    case KVM_EXIT_INTERNAL_ERROR:
        *ret = internal_error(v);
        return true;
    case KVM_EXIT_FAIL_ENTRY:
        *ret = fail_entry(v);
        return true;
    case KVM_EXIT_UNKNOWN:
        *ret = fail(v, g_strdup_printf("an exit that KVM does not know: hardware reason %#llx", (unsigned long long)run->hw.hardware_exit_reason));
        return true;
    case KVM_EXIT_EXCEPTION:
        *ret = fail(v, g_strdup_printf("an exception that KVM cannot handle: vector %u, error code %#x", run->ex.exception, run->ex.error_code));
        return true;
    case EXIT_MEMORY_FAULT:
        *ret = fail(v, g_strdup("the guest used memory that the host could not give"));
        return true;
    default:
        *ret = fail(v, g_strdup_printf("KVM left the guest for reason %u, which this program does not know", run->exit_reason));
        return true;
    }
}
