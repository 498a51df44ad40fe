; SPDX-License-Identifier: GPL-2.0-or-later
; The smallest guest: a line on COM1, a letter on the debug port, and an exit value. Without a stack and without waiting: the
; benchmark measures the start of the program with it.
BITS 32
MAGIC equ 0x1badb002
FLAGS equ 0x00010003
%ifndef VALUE
%define VALUE 0x2a
%endif
        org 0x100000
header: dd MAGIC, FLAGS, -(MAGIC + FLAGS)
        dd header, header, end, end, start
start:  mov esi, text
        mov dx, 0x3f8
next:   lodsb
        test al, al
        jz done
        out dx, al
        jmp next
done:   mov al, 'E'
        out 0xe9, al
        mov al, VALUE
        out 0xf4, al
hang:   hlt
        jmp hang
text:   db 'few bytes', 10, 0
end:
