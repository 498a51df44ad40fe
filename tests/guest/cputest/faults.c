/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Faults: signal, code, error code, addresses; and what an instruction that faults midway leaves behind (nothing).
 * Not here, because CPUs or hypervisors under the host differ: INT1 (its RIP), memory already written by ENTER and PUSHA when
 * they fault, registers already read by POPA, x87 pointers in saved state. Nor what docs/compatibility.md names as a limit:
 * alignment checks, CR2 of ENTER, #SS for non-canonical stack addresses, RIP of a branch to a non-canonical address.
 */
#include "cputest.h"

#define P(name, text, ...) CODE(c_##name, text); static const struct start s_##name = { __VA_ARGS__ }
#define S(name) show(#name, c_##name, &s_##name)

P(int3, "int3", .ax = 1);
P(int80, "movl $20, %eax\nint $0x80\nxorl %eax, %eax", .bx = 1); /* getpid: only that it comes back */
P(int81, "int $0x81", .ax = 1);
P(int4, "int $4", .ax = 1);
P(div0, "div %ecx", .ax = 5);
P(idiv_over, "idiv %rcx", .ax = 0, .dx = 0x8000000000000000ull, .cx = ~0ull);
P(idiv_min8, "idivb %cl", .ax = 0x8000, .cx = 0xff);
P(div_mem0, "divl (%rbx)\n", .ax = 1, .bx = STACK_TOP - 0x2000 + 0x1000, .dx = 0x6a6a6a6a);
P(ud2, "ud2", .ax = 1);
P(ud1, ".byte 0x0f, 0xb9, 0xc0", .ax = 1);
P(lock_bad, ".byte 0xf0, 0x89, 0x03", .bx = ARENA);
P(lock_reg, ".byte 0xf0, 0x01, 0xc0", .bx = ARENA);
P(push_es64, ".byte 0x06", .ax = 1);
P(too_long, ".byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x90", .ax = 1);
P(movaps, "movaps (%rbx), %xmm0", .bx = ARENA + 8);
P(movaps_cross, "movaps %xmm0, (%rbx)", .bx = HOLE - 8);
P(paddd_un, "paddd (%rbx), %xmm0", .bx = ARENA + 4);
P(hlt, "hlt", .ax = 1);
P(cli, "cli", .ax = 1);
P(sti, "sti", .ax = 1);
P(in8, "inb $0x60, %al", .ax = 1);
P(outdx, "outl %eax, %dx", .dx = 0x80);
P(insb, "rep insb", .dx = 0x60, .cx = 3, .di = ARENA);
P(rdmsr, "rdmsr", .cx = 0x10);
P(wrmsr, "wrmsr", .cx = 0xc0000082);
P(mov_cr0, "mov %cr0, %rax", .ax = 1);
P(mov_dr7, "mov %rax, %dr7", .ax = 1);
P(lgdt, "lgdt (%rbx)", .bx = ARENA);
P(clts, "clts", .ax = 1);
P(invlpg, "invlpg (%rbx)", .bx = ARENA);
P(swapgs, "swapgs", .ax = 1);
P(sysretq, "sysretq", .ax = 1);
P(wbinvd, "wbinvd", .ax = 1);
P(xsetbv, "xsetbv", .ax = 1);
P(null_read, "movq (%rax), %rbx", .bx = 7);
P(null_write, "movq %rbx, 16(%rax)", .bx = 7);
P(null_exec, "jmp *%rax", .bx = 7);
P(null_call, "call *%rax", .bx = 7);
P(null_rmw, "lock incl (%rax)", .bx = 7);
P(ro_write, "movb $1, 5(%rbx)", .bx = RDONLY);
P(ro_rmw, "xaddl %ecx, (%rbx)", .bx = RDONLY, .cx = 4);
P(ro_bts, "btsl %ecx, (%rbx)", .bx = RDONLY, .cx = 77);
P(bt_below, "btq %rcx, (%rbx)", .bx = ARENA, .cx = (u64)-64);
P(ro_cmpxchg_ne, "cmpxchgl %ecx, (%rbx)", .bx = RDONLY, .cx = 4, .ax = 1);
P(nx_exec, "jmp *%rbx", .bx = DATA);
P(kernel_read, "movq (%rax), %rbx", .ax = 0xffff800000000000ull);
P(noncanon_read, "movq (%rax), %rbx", .ax = 0x8000000000000000ull);
P(noncanon_write, "movq %rbx, (%rax)", .ax = 0x0000800000000000ull);
P(noncanon_edge, "movq (%rax), %rbx", .ax = 0x00007ffffffffffcull);
P(xm_div, "movq %rax, %xmm0\nxorps %xmm1, %xmm1\ndivsd %xmm1, %xmm0", .ax = 0x3ff0000000000000ull, .mxcsr = 0x1d80);
P(xm_inv, "xorps %xmm0, %xmm0\nxorps %xmm1, %xmm1\ndivps %xmm1, %xmm0", .mxcsr = 0x1f00);
P(xm_prec, "movq %rax, %xmm0\nmovq %rbx, %xmm1\ndivsd %xmm1, %xmm0", .ax = 0x3ff0000000000000ull, .bx = 0x4008000000000000ull,
  .mxcsr = 0x0f80);
P(xm_masked, "movq %rax, %xmm0\nxorps %xmm1, %xmm1\ndivsd %xmm1, %xmm0\nmovq %xmm0, %rbx", .ax = 0x3ff0000000000000ull,
  .mxcsr = 0x1f80);
P(mxcsr_bad, "movl $0xffffffff, (%rbx)\nldmxcsr (%rbx)", .bx = ARENA);
P(mf_div, "fld1\nfldz\nfdivrp\nnop\nfwait", .fcw = 0x37b);
P(mf_inv, "fldz\nfldz\nfdivrp\nnop\nfld1", .fcw = 0x37e);
P(mf_stack, "fstp %st(0)\nnop\nfwait", .fcw = 0x37e);
P(mf_mmx, "fld1\nfldz\nfdivrp\npaddd %mm0, %mm1", .fcw = 0x37b);
P(mf_fnstsw, "fld1\nfldz\nfdivrp\nfnstsw %ax\nfnclex\nfwait", .fcw = 0x37b);
P(cross_read, "movq (%rbx), %rax", .bx = HOLE - 3);
P(cross_write, "movq %rbx, (%rbx)", .bx = HOLE - 3);
P(cross_write_ro, "movq %rbx, (%rbx)", .bx = RDONLY + 4096 - 3); /* the first page cannot be written */
P(cross_from_hole, "movl (%rbx), %eax", .bx = DATA + 4096 - 2);
P(cross_down, "movl (%rbx), %eax", .bx = RDONLY - 2); /* the first page is missing */
P(cross_sse, "movups %xmm0, (%rbx)", .bx = HOLE - 5);
P(cross_rmw, "addq %rbx, (%rbx)", .bx = HOLE - 5);
P(cross_lock, "lock addq %rax, (%rbx)", .bx = HOLE - 5);
P(cross_ok, "movq (%rbx), %rax\naddq $77, (%rbx)\nmovups 8(%rbx), %xmm0\nmovups %xmm0, 3(%rbx)", .bx = ARENA + 4096 - 3);
P(cross_fxsave, "fxsave (%rbx)", .bx = HOLE - 16 * 5 + 8);
P(cross_fild, "fildll (%rbx)", .bx = HOLE - 6);
P(cross_fstpt, "fld1\nfstpt (%rbx)", .bx = HOLE - 6);
P(push_fault, "push %rax", .sp = STACK + 4);
P(push_mem, "pushq (%rbx)", .sp = STACK, .bx = ARENA);
P(push_rsp, "push %rsp\npop %rax", .ax = 1);
P(pop_rsp_mem, "push $0x77\npopq -8(%rsp)\nmov -8(%rsp), %rax", .ax = 1);
P(pop_hole, "popq (%rbx)", .bx = HOLE);
P(call_fault, "call 1f\n1: nop", .sp = STACK);
P(call_ind_fault, "call *(%rbx)", .sp = STACK, .bx = ARENA);
P(ret_fault, "ret", .sp = STACK_TOP);
P(ret_imm_fault, "ret $16", .sp = STACK_TOP - 4);
P(enter_size, "enter $0x2000, $0", .sp = STACK + 0x1000, .bp = 5, .any_memory = true);
P(enter_ok, "enter $32, $3\nmov %rbp, %rax\nmov %rsp, %rbx", .bp = STACK_TOP - 64);
P(leave_fault, "leave", .bp = HOLE);
P(pushf_fault, "pushfq", .sp = STACK + 2);
P(popf_fault, "popfq", .sp = STACK_TOP);
P(xchg_fault, "xchg %rax, (%rbx)", .ax = 3, .bx = HOLE);
P(cmpxchg_fault, "cmpxchg %rcx, (%rbx)", .ax = 3, .bx = HOLE);
P(cmpxchg16b_odd, "cmpxchg16b (%rbx)", .bx = ARENA + 8, .ax = 1, .cx = 2, .dx = 3);
P(cmpxchg16b_hole, "lock cmpxchg16b (%rbx)", .bx = HOLE, .ax = 1, .cx = 2, .dx = 3);
P(cmpxchg8b_ro, "lock cmpxchg8b (%rbx)", .bx = RDONLY, .ax = 1, .cx = 2, .dx = 3);
P(movs_src, "rep movsb", .si = HOLE - 100, .di = ARENA + 1, .cx = 300);
P(movs_dst, "rep movsq", .si = ARENA, .di = HOLE - 99, .cx = 300);
P(movs_ro, "rep movsl", .si = ARENA, .di = RDONLY - 8, .cx = 300);
P(movs_dst_mid, "rep movsl", .si = ARENA, .di = HOLE - 4 * 50, .cx = 300);
P(movs_down, "std\nrep movsb", .si = DATA + 40, .di = ARENA + 300, .cx = 300, .flags = 0);
P(movs_down_q, "std\nrep movsq", .si = ARENA + 800, .di = DATA + 45, .cx = 300);
P(movs_both, "rep movsw", .si = HOLE - 600, .di = HOLE - 300, .cx = 1000);
P(stos_fault, "rep stosl", .ax = 0x11223344, .di = HOLE - 402, .cx = 300);
P(stos_ok, "rep stosq", .ax = 0x1122334455667788ull, .di = ARENA + 4093, .cx = 300);
P(lods_fault, "rep lodsb", .si = HOLE - 10, .cx = 300);
P(scas_fault, "repne scasb", .ax = 0x100, .di = DATA + 4000, .cx = 300);
P(cmps_fault, "repe cmpsb", .si = DATA + 4000, .di = DATA + 4000, .cx = 300);
P(cmps_ok, "repe cmpsl", .si = ARENA, .di = RDONLY, .cx = 300, .keep_flags = 0x8d5);
P(movs_overlap, "rep movsb", .si = ARENA, .di = ARENA + 3, .cx = 5000);
P(movs_zero, "rep movsb", .si = HOLE, .di = HOLE);
P(movs_addr32, "addr32 rep movsb", .si = 0xffffffff00000000ull + ARENA, .di = ARENA + 100, .cx = 0xffffffff0000000aull);
P(xlat_fault, "xlatb", .bx = HOLE, .ax = 5);
P(fxrstor_bad, "fxsave (%rbx)\nmovl $0xffffffff, 24(%rbx)\nfxrstor (%rbx)", .bx = ARENA + 0x40 * 40, .any_memory = true);
P(fxrstor_odd, "fxrstor (%rbx)", .bx = ARENA + 8);
P(xrstor_bad, "movl $3, %eax\nxorl %edx, %edx\nxsave (%rbx)\nmovq $-1, 520(%rbx)\nxrstor (%rbx)", .bx = ARENA + 0x40 * 40, .any_memory = true);
P(xrstor_odd, "xrstor (%rbx)", .bx = ARENA + 8, .ax = 3);
P(xrstor_hole, "xrstor (%rbx)", .bx = HOLE, .ax = 3);
P(maskmov_hole, "pcmpeqd %mm0, %mm0\nmaskmovq %mm0, %mm1", .di = HOLE);
P(movntdqa_odd, "movntdqa 1(%rbx), %xmm0", .bx = ARENA);
P(jmp_hole, "jmp *%rbx", .bx = HOLE);
P(jmp_end, "movb $0x48, 4095(%rbx)\njmp *%rax", .bx = ARENA, .ax = ARENA + 4095); /* NX comes first */
P(sysenter_arith, "xor %eax, %eax\nsub $1, %eax\nmovq (%rbx), %rcx", .bx = HOLE, .keep_flags = 0x8d5);
P(nt_flag, "pushfq\norl $0x4000, (%rsp)\npopfq\nmovl $39, %eax\nsyscall\nxor %eax,%eax\nxor %ecx,%ecx\nxor %r11d,%r11d", .ax = 0);
P(id_flag, "pushfq\nxorl $0x200000, (%rsp)\npopfq\npushfq\npop %rax\nand $0x200000, %eax", .ax = 0);
P(iopl_flag, "pushfq\norl $0x3000, (%rsp)\nandl $~0x200, (%rsp)\npopfq\npushfq\npop %rax\nand $0x3200, %eax", .ax = 0);
P(popf_rf, "pushfq\norl $0x10000, (%rsp)\npopfq\npushfq\npop %rax\nand $0x30000, %eax", .ax = 0);

static void traps(void)
{
    S(int3); S(int80); S(int81); S(int4); S(div0); S(idiv_over); S(idiv_min8); S(div_mem0); S(ud2); S(ud1); S(lock_bad);
    S(lock_reg); S(push_es64); S(too_long); S(movaps); S(movaps_cross); S(paddd_un); S(nt_flag); S(id_flag);
    S(iopl_flag); S(popf_rf); S(sysenter_arith);
}

static void privileged(void)
{
    S(hlt); S(cli); S(sti); S(in8); S(outdx); S(insb); S(rdmsr); S(wrmsr); S(mov_cr0); S(mov_dr7); S(lgdt); S(clts); S(invlpg);
    S(swapgs); S(sysretq); S(wbinvd); S(xsetbv);
}

static void pages(void)
{
    S(null_read); S(null_write); S(null_exec); S(null_call); S(null_rmw); S(ro_write); S(ro_rmw); S(ro_bts); S(bt_below);
    S(ro_cmpxchg_ne); S(nx_exec); S(kernel_read); S(noncanon_read); S(noncanon_write); S(noncanon_edge);
    S(jmp_hole); S(jmp_end);
}

static void floating(void)
{
    S(xm_div); S(xm_inv); S(xm_prec); S(xm_masked); S(mxcsr_bad); S(mf_div); S(mf_inv); S(mf_stack); S(mf_mmx); S(mf_fnstsw);
    S(fxrstor_bad); S(fxrstor_odd); S(xrstor_bad); S(xrstor_odd); S(xrstor_hole); S(maskmov_hole); S(movntdqa_odd);
}

static void crossing(void)
{
    S(cross_read); S(cross_write); S(cross_write_ro); S(cross_from_hole); S(cross_down); S(cross_sse); S(cross_rmw); S(cross_lock);
    S(cross_ok); S(cross_fxsave); S(cross_fild); S(cross_fstpt);
}

static void midway(void)
{
    S(push_fault); S(push_mem); S(push_rsp); S(pop_rsp_mem); S(pop_hole); S(call_fault); S(call_ind_fault); S(ret_fault);
    S(ret_imm_fault); S(enter_size); S(enter_ok); S(leave_fault); S(pushf_fault); S(popf_fault); S(xchg_fault);
    S(cmpxchg_fault); S(cmpxchg16b_odd); S(cmpxchg16b_hole); S(cmpxchg8b_ro);
}

static void strings(void)
{
    S(movs_src); S(movs_dst); S(movs_ro); S(movs_dst_mid); S(movs_down); S(movs_down_q); S(movs_both); S(stos_fault); S(stos_ok);
    S(lods_fault); S(scas_fault); S(cmps_fault); S(cmps_ok); S(movs_overlap); S(movs_zero); S(movs_addr32); S(xlat_fault);
}

const struct subtest fault_tests[] = {
    { "traps", traps }, { "privileged", privileged }, { "pages", pages }, { "floating", floating }, { "crossing", crossing },
    { "midway", midway }, { "strings", strings }, { 0 },
};
