; SPDX-License-Identifier: GPL-2.0-or-later
; Random values to random I/O ports, in all sizes, and reads of them; COUNT of each. Reset and exit ports are left out, so that
; the guest lives to say so; whatever else happens is the machine's to survive.
%include "flat.inc"
%include "faults.inc"
%ifndef COUNT
%define COUNT 200000
%endif
start:  call setup_idt
        mov ebp, COUNT
again:  call random
        mov ebx, eax
        movzx edx, ax
        test ebx, 0x00300000            ; three of four: the ports where devices are
        jz .any
        and edx, 0x7ff
.any:   cmp edx, 0xf1
        jb .low
        cmp edx, 0xf8
        jb skip                         ; isa-debug-exit
.low:   cmp edx, 0x61
        jb .ok
        cmp edx, 0x65
        jb skip                         ; keyboard controller: pulses reset
        cmp edx, 0x8f
        jb .ok
        cmp edx, 0x93
        jb skip                         ; fast A20 and reset
        cmp edx, 0x3f5
        jb .ok
        cmp edx, 0x400
        jb skip                         ; COM1: its output is read by the test
        cmp edx, 0x5fd
        jb .ok
        cmp edx, 0x620
        jb skip                         ; ACPI power management
        cmp edx, 0xb00
        jb .ok
        cmp edx, 0xd00
        jb skip                         ; ACPI of other boards, PCI configuration and reset
.ok:    push edx
        call random
        pop edx
        mov ecx, ebx
        shr ecx, 24
        and ecx, 7
        jmp [table + ecx * 4]
t_w8: out dx, al
        jmp skip
t_w16: out dx, ax
        jmp skip
t_w32: out dx, eax
        jmp skip
t_r8: in al, dx
        jmp skip
t_r16: in ax, dx
        jmp skip
t_r32: in eax, dx
        jmp skip
p_ins:  mov edi, bss_start
        mov ecx, 16
        rep insd
        jmp skip
p_outs: mov esi, bss_start
        mov ecx, 16
        rep outsw
skip:   dec ebp
        jnz again
        mov dx, 0x3fb                   ; COM1 as it was
        mov al, 3
        out dx, al
        PRINT `ports survived\n`
        EXIT 1
fault:  jmp skip
table:  dd t_w8, t_w16, t_w32, t_r8, t_r16, t_r32, p_ins, p_outs
%include "tail.inc"
