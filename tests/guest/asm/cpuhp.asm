; SPDX-License-Identifier: GPL-2.0-or-later
; Misuses the registers of vCPU hot-plug (cpu_hotplug.h): selects everything, acknowledges, reports and ejects everything.
%include "flat.inc"
BASE equ 0x680
start:  xor ebp, ebp
.slot:  mov eax, ebp
        cmp ebp, 300
        jb .select
        call random                     ; then slots far away
.select:
        mov edx, BASE
        out dx, eax
        mov edx, BASE + 4
        in eax, dx
        mov edx, BASE + 8
        mov eax, 0x103
        out dx, eax
        mov edx, BASE + 12
        mov eax, ebp
        out dx, eax
        mov edx, BASE + 4
        mov eax, 0xffffffff             ; acknowledges and ejects
        out dx, eax
        out dx, eax
        inc ebp
        cmp ebp, 600
        jb .slot
        PRINT `next `
        mov edx, BASE + 8
        in eax, dx
        call hex32
        PRINT `\nend\n`
.halt:  cli
        hlt
        jmp .halt
%include "tail.inc"
