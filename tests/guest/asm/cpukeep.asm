; SPDX-License-Identifier: GPL-2.0-or-later
; A guest that is asked to let a vCPU go and says by _OST that it does not (cpu_hotplug.h; ACPI 6.5, 6.3.5: event 3, status 1).
%include "flat.inc"
BASE equ 0x680
start:  PRINT `ready\n`
.wait:  mov edx, BASE + 8
        in eax, dx
        cmp eax, 0xffffffff
        je .wait
        mov edx, BASE
        out dx, eax
        mov edx, BASE + 4
        in eax, dx
        out dx, eax                     ; acknowledges what it was told
        test eax, 4
        jz .wait
        mov edx, BASE + 8
        mov eax, 3
        out dx, eax
        mov edx, BASE + 12
        mov eax, 1
        out dx, eax
        PRINT `kept\n`
        jmp .wait
%include "tail.inc"
