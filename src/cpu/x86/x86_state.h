/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The canonical state of one x86 vCPU. Every accelerator reads and writes all guest CPU state in this one
 * form, so a machine saved under one accelerator continues under another. Data only; no policy.
 * Everything is in host byte order except the xsave image, which is the architecture's own (SDM vol. 1, 13.4).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum x86_gpr {
    X86_RAX, X86_RCX, X86_RDX, X86_RBX, X86_RSP, X86_RBP, X86_RSI, X86_RDI,
    X86_R8, X86_R9, X86_R10, X86_R11, X86_R12, X86_R13, X86_R14, X86_R15, X86_NGPR
};

/* Segment register numbers as instructions encode them (SDM vol. 2, table 2-1 "Sreg"). */
enum x86_seg { X86_ES, X86_CS, X86_SS, X86_DS, X86_FS, X86_GS, X86_NSEG };

/* Segment attributes: bits 8..23 of a descriptor's second doubleword, shifted right by 8 (SDM vol. 3, 3.4.5):
 * type 0-3, S 4, DPL 5-6, P 7, (limit 8-11 zero), AVL 12, L 13, D/B 14, G 15; bit 16: unusable (null selector). */
#define X86_ATTR_TYPE     0x000fu
#define X86_ATTR_S        0x0010u
#define X86_ATTR_DPL(a)   (((a) >> 5) & 3u)
#define X86_ATTR_P        0x0080u
#define X86_ATTR_AVL      0x1000u
#define X86_ATTR_L        0x2000u
#define X86_ATTR_DB       0x4000u
#define X86_ATTR_G        0x8000u
#define X86_ATTR_UNUSABLE 0x10000u

struct x86_segment {
    uint64_t base;
    uint32_t limit; /* in bytes, inclusive, after granularity */
    uint32_t attr;  /* X86_ATTR_* */
    uint16_t sel;
    uint16_t pad[3];
};

struct x86_dtable {
    uint64_t base;
    uint16_t limit;
    uint16_t pad[3];
};

/* RFLAGS (SDM vol. 1, 3.4.3). */
#define X86_FL_CF 0x0001u
#define X86_FL_1  0x0002u
#define X86_FL_PF 0x0004u
#define X86_FL_AF 0x0010u
#define X86_FL_ZF 0x0040u
#define X86_FL_SF 0x0080u
#define X86_FL_TF 0x0100u
#define X86_FL_IF 0x0200u
#define X86_FL_DF 0x0400u
#define X86_FL_OF 0x0800u
#define X86_FL_IOPL 0x3000u
#define X86_FL_NT 0x4000u
#define X86_FL_RF 0x10000u
#define X86_FL_VM 0x20000u
#define X86_FL_AC 0x40000u
#define X86_FL_VIF 0x80000u
#define X86_FL_VIP 0x100000u
#define X86_FL_ID 0x200000u
#define X86_FL_ARITH (X86_FL_CF | X86_FL_PF | X86_FL_AF | X86_FL_ZF | X86_FL_SF | X86_FL_OF)

#define X86_CR0_PE 0x1u
#define X86_CR0_MP 0x2u
#define X86_CR0_EM 0x4u
#define X86_CR0_TS 0x8u
#define X86_CR0_ET 0x10u
#define X86_CR0_NE 0x20u
#define X86_CR0_WP 0x10000u
#define X86_CR0_AM 0x40000u
#define X86_CR0_NW 0x20000000u
#define X86_CR0_CD 0x40000000u
#define X86_CR0_PG 0x80000000u

#define X86_CR4_VME 0x1u
#define X86_CR4_PVI 0x2u
#define X86_CR4_TSD 0x4u
#define X86_CR4_DE 0x8u
#define X86_CR4_PSE 0x10u
#define X86_CR4_PAE 0x20u
#define X86_CR4_MCE 0x40u
#define X86_CR4_PGE 0x80u
#define X86_CR4_PCE 0x100u
#define X86_CR4_OSFXSR 0x200u
#define X86_CR4_OSXMMEXCPT 0x400u
#define X86_CR4_UMIP 0x800u
#define X86_CR4_LA57 0x1000u
#define X86_CR4_FSGSBASE 0x10000u
#define X86_CR4_PCIDE 0x20000u
#define X86_CR4_OSXSAVE 0x40000u
#define X86_CR4_SMEP 0x100000u
#define X86_CR4_SMAP 0x200000u

#define X86_EFER_SCE 0x1u
#define X86_EFER_LME 0x100u
#define X86_EFER_LMA 0x400u
#define X86_EFER_NXE 0x800u

/* Exception vectors (SDM vol. 3, 6.3.1). */
enum x86_vector {
    X86_DE = 0, X86_DB = 1, X86_NMI = 2, X86_BP = 3, X86_OF = 4, X86_BR = 5, X86_UD = 6, X86_NM = 7, X86_DF = 8,
    X86_TS = 10, X86_NP = 11, X86_SSF = 12, X86_GP = 13, X86_PF = 14, X86_MF = 16, X86_AC = 17, X86_MC = 18, X86_XM = 19
};

/* Room for every state component defined so far, AMX tiles included (SDM vol. 1, 13.5): 11008 bytes, rounded up. */
#define X86_XSAVE_SIZE 12288
#define X86_MSRS_MAX 192
#define X86_NESTED_SIZE 8448
#define X86_NMTRR_VAR 8

enum x86_activity { X86_RUNNING, X86_HALTED, X86_WAIT_SIPI, X86_INIT_RECEIVED, X86_SIPI_RECEIVED };

struct x86_msr {
    uint32_t index, pad;
    uint64_t value;
};

struct x86_state {
    uint64_t gpr[X86_NGPR];
    uint64_t rip;
    uint64_t rflags;
    struct x86_segment seg[X86_NSEG];
    struct x86_segment ldt, tr;
    struct x86_dtable gdt, idt;
    uint64_t cr0, cr2, cr3, cr4;
    uint64_t cr8; /* task priority, bits 0-3; the local APIC device owns it while running */
    uint64_t xcr0;
    uint64_t dr[4], dr6, dr7;
    uint64_t efer, star, lstar, cstar, sfmask, kernel_gs_base;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t pat, apic_base, misc_enable, tsc_aux, spec_ctrl, feature_control;
    uint64_t tsc_offset; /* guest TSC = host TSC + tsc_offset */
    uint64_t tsc_adjust; /* IA32_TSC_ADJUST: what the guest itself has added to its TSC */
    uint64_t mtrr_def, mtrr_fix[11], mtrr_base[X86_NMTRR_VAR], mtrr_mask[X86_NMTRR_VAR];
    uint64_t mcg_status;
    uint32_t activity;         /* enum x86_activity */
    uint8_t interrupt_shadow;  /* 1: after STI or MOV SS, interrupts held off for one instruction */
    uint8_t nmi_pending, nmi_blocked;
    uint8_t exception_pending; /* an exception still to be delivered: */
    uint8_t exception_vector, exception_has_error;
    uint32_t exception_error;
    uint8_t interrupt_injected, interrupt_vector, interrupt_soft; /* an event whose delivery was cut short: delivered first */
    uint8_t nmi_injected;
    uint8_t smm, smi_pending, sipi_vector;
    uint8_t triple_fault_pending;
    uint32_t smbase;
    uint64_t debugctl, xss;
    _Alignas(64) uint8_t xsave[X86_XSAVE_SIZE]; /* standard form, XSTATE_BV in its header */
    /* MSRs that have no field above, ascending, such as those of KVM's clock. One that an accelerator does not have must be
     * zero there: set_state refuses it otherwise, by name. */
    uint32_t nmsrs;
    struct x86_msr msrs[X86_MSRS_MAX];
    /* What the guest runs as a hypervisor itself, in KVM's form (struct kvm_nested_state); 0 bytes: nothing. Likewise. */
    uint32_t nested_size;
    _Alignas(8) uint8_t nested[X86_NESTED_SIZE];
};
