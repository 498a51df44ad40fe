; SPDX-License-Identifier: GPL-2.0-or-later
; Opcodes that do not exist raise #UD at their own address (SDM vol. 2, appendix A), in a block after instructions that do.
%include "flat.inc"
%include "faults.inc"
start:  call setup_idt
        mov dword [index], 0
next:   mov eax, [index]
        cmp eax, COUNT
        jae all
        mov esi, eax
        shl esi, 4
        add esi, codes                  ; 16 bytes each
        mov edi, slot
        mov ecx, 4
        rep movsd
        mov dword [reached], 0
slot_entry:
        inc dword [reached]             ; the same block, before the bad instruction
        jmp slot
fault:  cmp eax, 6
        jne wrong
        cmp ecx, slot
        jne wrong
        cmp dword [reached], 1
        jne wrong
        inc dword [index]
        jmp next
wrong:  push ecx
        push eax
        PRINT "opcode number "
        mov eax, [index]
        call hex32
        PRINT " raised vector "
        pop eax
        call hex32
        PRINT " at "
        pop eax
        call hex32
        PRINT `\n`
        EXIT 2
all:    PRINT `every undefined opcode raised #UD\n`
        EXIT 1
; Each entry is padded with INT3, so that execution past it is noticed.
%macro CODE 1+
        %%at: db %1
        times 16 - ($ - %%at) db 0xcc
%endmacro
align 16
codes:  CODE 0x0f, 0x0b                 ; UD2
        CODE 0x0f, 0xb9, 0xc0           ; UD1
        CODE 0x0f, 0xff, 0xc0           ; UD0
        CODE 0x0f, 0x04
        CODE 0x0f, 0x0a
        CODE 0x0f, 0x0c
        CODE 0x0f, 0x24, 0xc0
        CODE 0x0f, 0x36
        CODE 0x0f, 0x39
        CODE 0x0f, 0xa6, 0xc0
        CODE 0xff, 0xf8                 ; group 5, /7
        CODE 0xfe, 0xd0                 ; group 4, /2
        CODE 0xc6, 0xc8, 0x00           ; group 11, /1
        CODE 0x8c, 0xf0                 ; MOV from a segment register that does not exist
        CODE 0x8e, 0xc8                 ; MOV to CS
        CODE 0x0f, 0x20, 0xc8           ; MOV from CR1
        CODE 0x0f, 0xba, 0xc0, 0x00     ; group 8, /0
        CODE 0x8d, 0xc0                 ; LEA of a register
        CODE 0xf0, 0x90                 ; LOCK NOP
        CODE 0xf0, 0x01, 0xc0           ; LOCK with a register destination
        CODE 0xf0, 0x8b, 0x05, 0, 0, 0, 0 ; LOCK MOV
        CODE 0x0f, 0xc7, 0xc8           ; CMPXCHG8B of a register
        CODE 0xc4, 0xc0                 ; LES of a register: a VEX prefix of nothing, in 32-bit mode
        CODE 0x62, 0xc0                 ; BOUND of a register
COUNT equ ($ - codes) / 16
align 16
index:  dd 0
reached: dd 0
align 64
slot:   times 64 db 0xcc
%include "tail.inc"
