; SPDX-License-Identifier: GPL-2.0-or-later
; A loop of one instruction with interrupts off: the program must still answer and end.
%include "flat.inc"
start:  PRINT `spinning\n`
        cli
        jmp $
%include "tail.inc"
