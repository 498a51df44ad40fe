; SPDX-License-Identifier: GPL-2.0-or-later
; Shows the module in slot 0, then misuses the registers of memory modules (mem_hotplug.h): selects everything, writes every register,
; acknowledges, reports and ejects everything.
%include "flat.inc"
BASE equ 0x6c0
start:  mov edx, BASE
        xor eax, eax
        out dx, eax
        PRINT `module`
        mov ebp, 4
.show:  PRINT ` `
        mov edx, BASE
        add edx, ebp
        in eax, dx
        call hex32
        add ebp, 4
        cmp ebp, 44
        jb .show
        PRINT `\n`
        xor ebp, ebp
.slot:  mov eax, ebp
        cmp ebp, 300
        jb .select
        call random                     ; then slots far away
.select:
        mov edx, BASE
        out dx, eax
        mov esi, 8
.write: call random
        mov edx, BASE
        add edx, esi
        out dx, eax
        in eax, dx
        add esi, 4
        cmp esi, 44
        jb .write
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
