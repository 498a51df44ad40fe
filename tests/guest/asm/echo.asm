; SPDX-License-Identifier: GPL-2.0-or-later
; Prints each byte received on COM1 as <hex>; 'q' leaves.
%include "flat.inc"
start:  PRINT `echoing\n`
next:   mov dx, 0x3fd
        in al, dx
        test al, 1
        jz next
        mov dx, 0x3f8
        in al, dx
        cmp al, 'q'
        je quit
        mov bl, al
        mov al, '<'
        call putc
        mov al, bl
        shr al, 4
        call digit
        mov al, bl
        and al, 15
        call digit
        mov al, '>'
        call putc
        jmp next
digit:  cmp al, 10
        sbb al, 0x69
        das
        call putc
        ret
quit:   EXIT 1
%include "tail.inc"
