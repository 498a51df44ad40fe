/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Segments: compatibility mode, 16-bit code, descriptors of our own through modify_ldt. */
#define _GNU_SOURCE
#include "cputest.h"

#include <asm/ldt.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SEL(n) ((n) << 3 | 7)
#define CODE32 SEL(0)
#define CODE16 SEL(1)   /* limit: 63 bytes after the routine's start */
#define DATA16 SEL(2)   /* base ARENA, limit 0xfff */
#define DOWN SEL(3)     /* base ARENA, expands down from 0xfff, 16-bit */
#define RODATA SEL(4)
#define ABSENT SEL(5)
#define STACK16 SEL(6)  /* base STACK, limit 0xffff, 16-bit */

#define P(name, bits, text, ...) \
    CODE(c_##name, ".code" #bits "\n" text "\n ud2\n.code64"); static const struct start s_##name = { __VA_ARGS__ }
#define S(name) show(#name, c_##name, &s_##name)
#define IN32 .cs = 0x23, .ss = 0x2b

static bool set_ldt(unsigned n, u64 base, u64 limit, unsigned bits32, unsigned contents, bool ro, bool pages, bool absent)
{
    struct user_desc d = { .entry_number = n, .base_addr = (u32)base, .limit = (u32)limit, .seg_32bit = bits32,
                           .contents = contents, .read_exec_only = ro, .limit_in_pages = pages, .seg_not_present = absent,
                           .useable = 1 };
    return syscall(SYS_modify_ldt, 0x11, &d, sizeof d) == 0;
}

P(regs32, 32, "inc %eax\ndec %ecx\npush %eax\npop %edx\nlea 1(%ebx,%esi,2), %edi\nmov %esp, %ebp\nadd %eax, %edi",
  .ax = 0xffffffffu, .cx = 0, .bx = 0x80000000u, .si = 0x40000000u, IN32);
P(high32, 32, "mov %eax, %ecx\nxor %edx, %edx", .ax = 0x1122334455667788ull, .cx = 0x9900000000ull, .dx = 0xffff00000001ull, IN32);
P(wrap32, 32, "movl 0x7fffffff(%eax), %ecx", .ax = ARENA + 0x80000001u, IN32);
P(daa, 32, "mov $0x9a, %al\nadd $0x17, %al\ndaa\nmov $0x3c, %ah\naam\naad\naaa", IN32);
P(bound_ok, 32, "movl $1, (%ebx)\nmovl $5, 4(%ebx)\nmov $3, %eax\nboundl %eax, (%ebx)", .bx = ARENA, IN32);
P(bound_bad, 32, "movl $1, (%ebx)\nmovl $5, 4(%ebx)\nmov $6, %eax\nboundl %eax, (%ebx)", .bx = ARENA, IN32);
P(into_of, 32, "mov $0x7f, %al\nadd $1, %al\ninto", IN32);
P(into_no, 32, "mov $0x7d, %al\nadd $1, %al\ninto", IN32);
P(int80_32, 32, "mov $20, %eax\nint $0x80\nxor %eax, %eax", IN32);
P(pusha, 32, "pusha\npopa\npusha\nadd $16, %esp\npop %ebx", .ax = 1, .cx = 2, .dx = 3, .bx = 4, .bp = 5, .si = 6, .di = 7, IN32);
P(pusha_fault, 32, "pusha", .ax = 1, .cx = 2, .dx = 3, .bx = 4, .sp = STACK + 12, .any_memory = true, IN32);
P(push_fault32, 32, "push %eax", .ax = 1, .sp = STACK + 2, IN32);
P(enter32, 32, "enter $32, $3\nmov %ebp, %eax", .bp = STACK_TOP - 64, IN32);
P(null_ds, 32, "xor %eax, %eax\nmov %eax, %es\nmovl %es:(%ebx), %ecx", .bx = ARENA, IN32);
P(bad_sel, 32, "mov $0x7777, %eax\nmov %eax, %es", IN32);
P(kernel_sel, 32, "mov $0x10, %eax\nmov %eax, %es", IN32);
P(code_sel_es, 32, "mov $0x23, %eax\nmov %eax, %es\nmovl %es:(%ebx), %ecx\nmovl %ecx, %es:(%ebx)", .bx = ARENA, IN32);
P(absent_es, 32, "mov $0x2f, %eax\nmov %eax, %es", IN32);
P(absent_ss, 32, "mov $0x2f, %eax\nmov %eax, %ss", IN32);
P(code_ss, 32, "mov $0x23, %eax\nmov %eax, %ss", IN32);
P(null_ss, 32, "xor %eax, %eax\nmov %eax, %ss", IN32);
P(mov_cs, 32, ".byte 0x8e, 0xc8", IN32);
P(ldt_read, 32, "mov $0x17, %eax\nmov %eax, %es\nmovl %es:0xffc, %ecx", .cx = 0, IN32);
P(ldt_limit, 32, "mov $0x17, %eax\nmov %eax, %es\nmovl %es:0xffd, %ecx", .cx = 0, IN32);
P(ldt_limit_write, 32, "mov $0x17, %eax\nmov %eax, %es\nmovb %cl, %es:0x1000", .cx = 0, IN32);
P(ldt_down, 32, "mov $0x1f, %eax\nmov %eax, %es\nmovl %es:0x1000, %ecx\nmovl %es:0xffc, %ecx", .cx = 0, IN32);
P(ldt_down_top, 32, "mov $0x1f, %eax\nmov %eax, %es\nmovl %es:0xfffe, %ecx", .cx = 0, IN32);
P(ldt_ro, 32, "mov $0x27, %eax\nmov %eax, %es\nmovl %es:0, %ecx\nmovl %ecx, %es:0", .cx = 0, IN32);
P(ldt_ss_limit, 32, "mov $0x37, %eax\nmov %eax, %ss\nmov $0x100, %sp\npush %ecx\nmov $0x10002, %ebp\nmovl (%ebp), %edx", .cx = 7, IN32);
P(ldt_ss_wrap, 32, "mov $0x37, %eax\nmov %eax, %ss\nxor %esp, %esp\npush %ecx\nmovzwl %sp, %edx\nmov $0x2b, %eax\nmov %eax, %ss\nxor %esp, %esp",
  .cx = 7, IN32);
P(movs_limit, 32, "mov $0x17, %eax\nmov %eax, %es\nrep movsl", .si = ARENA, .di = 0xfe1, .cx = 20, IN32);
P(lar, 32, "mov $0x23, %ecx\nlar %ecx, %eax\nmov $0x0f, %ecx\nlsl %ecx, %edx\nmov $0x0f, %ecx\nlar %ecx, %ebx\nverr %cx\nsetz %cl\nmov $0x27, %edi\n"
  "verw %di\nsetz %ch\nmov $0x9999, %esi\nlsl %esi, %ebp\nsetz %ch", IN32);
P(arpl, 32, "mov $0x10, %eax\nmov $3, %ecx\narpl %cx, %ax\nsetz %dl", IN32);
P(far_call_64, 32, "push %cs\ncall 1f\n1: pop %eax\nadd $(2f-1b), %eax\npush $0x33\npush %eax\nlret\nud2\n.code64\n2: mov $-1, %rbx\nmov %cs, %ecx\n"
  "movabs $0x1234567890, %rdx", IN32);
P(far_bad_cs, 32, "ljmp $0x7770, $0", IN32);
P(far_data_cs, 32, "ljmp $0x2b, $0", IN32);
P(far_absent, 32, "ljmp $0x2f, $0", IN32);
P(far_kernel, 32, "ljmp $0x10, $0", IN32);
P(far_limit, 32, "ljmp $0x0f, $0x5000", IN32);
P(lret_outer, 32, "push $0x10\npush $0\nlret", IN32);
P(iret_bad_cs, 32, "pushf\npush $0x7773\npush $0\niret", IN32);
P(iret_kernel_cs, 32, "pushf\npush $0x10\npush $0\niret", IN32);
P(iret_same, 32, "pushf\npush %cs\ncall 1f\n1: addl $(2f-1b), (%esp)\niret\nud2\n2: nop\nmov $5, %ecx", IN32);
P(iret64_bad, 64, "push $0x2b\npush %rsp\npushfq\npush $0x7773\npush $0\niretq", .ax = 1);
P(iret64_noncanon, 64, "mov %rsp, %rbx\npush $0x2b\npush %rbx\npushfq\npush $0x33\npush %rax\niretq", .ax = 0x8000000000000000ull);
P(iret64_ss0, 64, "mov %rsp, %rbx\npush $0\npush %rbx\npushfq\npush $0x33\npush $0\niretq", .ax = 1);
P(iret64_to32, 64, "mov %rsp, %rbx\npush $0x2b\npush %rbx\npushfq\npush $0x23\nlea 1f(%rip), %rax\npush %rax\niretq\n1:\n.code32\nmov $-1, %eax\n"
  "inc %eax\nmov %cs, %edx\n.code64", .ax = 1);
P(insn64_only, 32, ".byte 0x48, 0x89, 0xd8", .ax = 5, .bx = 9, IN32); /* dec eax; mov eax, ebx */
P(jmp16, 32, ".byte 0x66\njmp 1f\n1:", IN32); /* 16-bit operand size: EIP is cut to 16 bits */
P(code16, 16, "mov $0x1234, %ax\nadd %ax, %ax\nmov (%bx,%si), %cl\npush %ax\npop %dx\nmovl $0x55667788, %edi", .ax = 0xaaaa0000u, .bx = 5,
  .si = 3, .sp = 0x1000, .cs = CODE16, .ss = STACK16);
P(code16_ip, 16, "jmp 1f\n.skip 60\n1: nop", .sp = 0x1000, .cs = CODE16, .ss = STACK16);
P(code16_run, 16, ".skip 62, 0x90\nmov $1, %ax", .sp = 0x1000, .cs = CODE16, .ss = STACK16);
P(stack16_wrap, 16, "pushl %eax", .ax = 0x12345678, .sp = 2, .cs = CODE16, .ss = STACK16);
P(stack16_ok, 16, "pushl %eax\npopw %cx\npopw %dx", .ax = 0x12345678, .sp = 0x100, .cs = CODE16, .ss = STACK16);
P(stack16_bp, 16, "movl 0x10(%bp), %eax\nmovl -2(%bp), %eax", .bp = 0xfff0, .sp = 0x100, .cs = CODE16, .ss = STACK16);

static bool make_ldt(const void *code16)
{
    return set_ldt(0, 0, 0xfffff, 1, 2, false, true, false) && set_ldt(1, (uintptr_t)code16, 63, 0, 2, false, false, false) &&
           set_ldt(2, ARENA, 0xfff, 1, 0, false, false, false) && set_ldt(3, ARENA, 0xfff, 0, 1, false, false, false) &&
           set_ldt(4, ARENA, 0xfff, 1, 0, true, false, false) && set_ldt(5, ARENA, 0xfff, 1, 0, false, false, true) &&
           set_ldt(6, STACK, 0xffff, 0, 0, false, false, false);
}

static void compat(void)
{
    if (!make_ldt(c_code16))
        say("no modify_ldt");
    S(regs32); S(high32); S(wrap32); S(daa); S(bound_ok); S(bound_bad); S(into_of); S(into_no); S(int80_32); S(pusha);
    S(pusha_fault); S(push_fault32); S(enter32); S(null_ds); S(insn64_only); S(jmp16); S(arpl);
}

static void selectors(void)
{
    make_ldt(c_code16);
    S(bad_sel); S(kernel_sel); S(code_sel_es); S(absent_es); S(absent_ss); S(code_ss); S(null_ss); S(mov_cs); S(ldt_read);
    S(ldt_limit); S(ldt_limit_write); S(ldt_down); S(ldt_down_top); S(ldt_ro); S(ldt_ss_limit); S(ldt_ss_wrap); S(movs_limit); S(lar);
}

static void far_transfers(void)
{
    make_ldt(c_code16);
    S(far_call_64); S(far_bad_cs); S(far_data_cs); S(far_absent); S(far_kernel); S(far_limit); S(lret_outer);
    S(iret_bad_cs); S(iret_kernel_cs); S(iret_same); S(iret64_bad); S(iret64_noncanon); S(iret64_ss0); S(iret64_to32);
}

/* 16-bit segments: each routine is its segment's first byte, so the entry's RIP is an offset. show() takes the entry as an
 * address; a copy at a low address serves both. */
static void show16(const char *what, const u8 *code, const struct start *s)
{
    set_ldt(1, (uintptr_t)code, 63, 0, 2, false, false, false);
    show(what, (const void *)0, s);
}
#define S16(name) show16(#name, c_##name, &s_##name)

static void code16(void)
{
    make_ldt(c_code16);
    S16(code16); S16(code16_ip); S16(code16_run); S16(stack16_wrap); S16(stack16_ok); S16(stack16_bp);
}

const struct subtest mode_tests[] = {
    { "compat", compat }, { "selectors", selectors }, { "far_transfers", far_transfers }, { "code16", code16 }, { 0 },
};
