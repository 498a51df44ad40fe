; SPDX-License-Identifier: GPL-2.0-or-later
; A guest that counts: a Multiboot kernel that answers each byte on the first serial port with the next letter, a to z and again. The count is in memory and once more in a
; page far above; '?' instead of a letter says that they differ.
bits 32
org 0x100000
far_page equ 0x800000
    dd 0x1badb002, 0x10000, -(0x1badb002 + 0x10000), 0x100000, 0x100000, end, end, start
start:
    mov dword [count], 0
    mov dword [far_page], 0
wait_byte:
    mov ecx, 3000
.idle:
    pause
    loop .idle
    mov dx, 0x3fd
    in al, dx
    test al, 1
    jz wait_byte
    mov dx, 0x3f8
    in al, dx
    mov eax, [count]
    cmp eax, [far_page]
    mov bl, '?'
    jne .say
    lea ebx, [eax + 'a']
    inc eax
    cmp eax, 26
    jb .store
    xor eax, eax
.store:
    mov [count], eax
    mov [far_page], eax
.say:
    mov dx, 0x3fd
.full:
    in al, dx
    test al, 0x20
    jz .full
    mov al, bl
    mov dx, 0x3f8
    out dx, al
    jmp wait_byte
align 4
count: dd 0
end:
