; SPDX-License-Identifier: GPL-2.0-or-later
; A triple fault: an exception with no IDT.
%include "flat.inc"
start:  PRINT `falling\n`
        lidt [nothing]
        int3
        EXIT 7
nothing: dw 0
        dd 0
%include "tail.inc"
