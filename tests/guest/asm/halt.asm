; SPDX-License-Identifier: GPL-2.0-or-later
; Halts with interrupts off: nothing but the outside can end this machine.
%include "flat.inc"
start:  PRINT `halting\n`
        cli
.again: hlt
        PRINT `awake\n`
        jmp .again
%include "tail.inc"
