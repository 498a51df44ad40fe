; SPDX-License-Identifier: GPL-2.0-or-later
; Code that changes itself: the very next instruction, an instruction of the loop that runs, one on another page, a call target
; that is rewritten between calls, and code that a string instruction overwrites.
%include "flat.inc"
start:  ; 1: the immediate of the next instruction, 1000 times
        xor ebx, ebx
        mov ecx, 1000
one:    mov [one_imm + 1], ecx
one_imm: mov eax, 0
        add ebx, eax
        loop one
        cmp ebx, 500500
        mov ebp, 1
        jne bad
        ; 2: an instruction behind, inside the running loop
        xor ebx, ebx
        mov ecx, 1000
two:    add ebx, 1
        inc byte [two + 2]
        and byte [two + 2], 3
        loop two
        cmp ebx, 1500
        mov ebp, 2
        jne bad
        ; 3: a routine on another page, rewritten between calls
        xor ebx, ebx
        mov ecx, 2000
three:  mov byte [routine], 0xb8        ; mov eax, ecx as immediate; ret
        mov [routine + 1], ecx
        mov byte [routine + 5], 0xc3
        call routine
        add ebx, eax
        loop three
        cmp ebx, 2001000
        mov ebp, 3
        jne bad
        ; 4: the same page holds data that is written all the time; the code on it must stay right
        xor ebx, ebx
        mov ecx, 20000
four:   inc dword [routine + 64]
        call routine
        add ebx, eax
        loop four
        cmp ebx, 20000
        mov ebp, 4
        jne bad
        cmp dword [routine + 64], 20000
        mov ebp, 5
        jne bad
        ; 5: a string copy overwrites what follows it
        mov edi, five
        mov esi, fresh
        mov ecx, 5
        rep movsb
five:   mov eax, 0
        cmp eax, 0x5a5a5a5a
        mov ebp, 6
        jne bad
        ; 6: a page boundary inside an instruction whose second half changes
        xor ebx, ebx
        mov ecx, 100
        mov byte [boundary - 2], 0xb8
        mov dword [boundary - 1], 0
        mov byte [boundary + 3], 0xc3
six:    mov [boundary], cl
        call boundary - 2
        add ebx, eax
        loop six
        cmp ebx, 5050 * 256
        mov ebp, 7
        jne bad
        PRINT `self-modifying code is right\n`
        EXIT 1
bad:    PRINT "self-modifying code is wrong in part "
        mov eax, ebp
        call hex32
        PRINT ", sum "
        mov eax, ebx
        call hex32
        PRINT `\n`
        EXIT 2
fresh:  mov eax, 0x5a5a5a5a
align 4096
routine: times 128 db 0
align 4096
        times 4096 - 16 db 0x90
        times 16 db 0xcc
boundary: times 16 db 0xcc
%include "tail.inc"
