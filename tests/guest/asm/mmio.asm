; SPDX-License-Identifier: GPL-2.0-or-later
; Random reads and writes of all sizes, misaligned ones too, where device registers lie: PCI Express configuration space, the PCI
; window, I/O APIC, HPET, local APIC, the last page below 4 GiB.
%include "flat.inc"
%include "faults.inc"
%ifndef COUNT
%define COUNT 100000
%endif
start:  call setup_idt
        mov ebp, COUNT
again:  call random
        mov ebx, eax
        mov ecx, eax
        shr ecx, 29
        mov esi, [bases + ecx * 8]
        mov edi, [bases + ecx * 8 + 4]
        call random
        and eax, edi
        add esi, eax
        call random
        mov ecx, ebx
        and ecx, 7
        jmp [table + ecx * 4]
t_w8: mov [esi], al
        jmp skip
t_w16: mov [esi], ax
        jmp skip
t_w32: mov [esi], eax
        jmp skip
t_r8: mov al, [esi]
        jmp skip
t_r16: mov ax, [esi]
        jmp skip
t_r32: mov eax, [esi]
        jmp skip
m_rmw:  lock xadd [esi], eax
        jmp skip
m_fpu:
%ifndef NO_FPU                          ; KVM does not emulate it
        fld qword [esi]
        fstp st0
%endif
skip:   dec ebp
        jnz again
        PRINT `registers in memory survived\n`
        EXIT 1
fault:  jmp skip
table:  dd t_w8, t_w16, t_w32, t_r8, t_r16, t_r32, m_rmw, m_fpu
bases:  dd 0xb0000000, 0xffff, 0xe0000000, 0xffff, 0xc0000000, 0x3ffffff, 0xfec00000, 0xfff
        dd 0xfed00000, 0xfff, 0xfee00000, 0xfff, 0xfffff000, 0xfff, 0xfeb00000, 0xffff
%include "tail.inc"
