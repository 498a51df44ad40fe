; SPDX-License-Identifier: GPL-2.0-or-later
; Reports a panic through the ISA pvpanic device (port 0x505, bit 0) and halts.
%include "flat.inc"
start:  PRINT `panicking\n`
        mov dx, 0x505
        mov al, 1
        out dx, al
.hang:  cli
        hlt
        jmp .hang
%include "tail.inc"
