; SPDX-License-Identifier: GPL-2.0-or-later
; A known number of accesses of each kind and nothing else, then halts for good.
%include "flat.inc"
start:  mov ecx, 12345
.in:    in al, 0x80
        loop .in
        mov ecx, 678
.out:   out 0x80, al
        loop .out
        mov ecx, 91
.read:  mov eax, [0xfec00000]           ; I/O APIC
        loop .read
        mov ecx, 23
.write: mov [0xfec00000], ecx
        loop .write
        mov esi, buffer                 ; each element of a string instruction is an access
        mov edi, buffer
        mov edx, 0x80
        mov ecx, 55
        rep insb
        mov ecx, 11
        rep outsb
        cli
.halt:  hlt
        jmp .halt
buffer: times 64 db 0
%include "tail.inc"
