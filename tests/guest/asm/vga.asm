; SPDX-License-Identifier: GPL-2.0-or-later
; A boot sector that shows something on a VGA, then says "ready" on the first serial port and sleeps.
;   TEXT    all characters from 20h to 7eh in one line, by the BIOS
;   MODE13  320x200 in 256 colours: colour of pixel n (n + n / 256) mod 256; DAC entry i: i / 4, 63 - i / 4, i mod 64
;   VBE     1024x768, 32 bits, through the linear frame buffer: pixel n has the value n
;   DISPI   800x600, 16 bits, by Bochs' registers and the window at A0000h: pixel n of the first 64 KiB has the value n
bits 16
org 0x7c00
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x7c00
    cld
%ifdef TEXT
    mov al, 13
    call type
    mov al, 10
    call type
    mov al, 0x20
.next:
    call type
    inc al
    cmp al, 0x7f
    jne .next
    jmp done
type:
    pusha
    mov ah, 0x0e
    mov bx, 7
    int 0x10
    popa
    ret
%endif
%ifdef MODE13
    mov ax, 0x13
    int 0x10
    mov dx, 0x3c8
    xor ax, ax
    out dx, al
    inc dx
    xor cx, cx
.colour:
    mov al, cl
    shr al, 2
    out dx, al
    neg al
    add al, 63
    out dx, al
    mov al, cl
    and al, 63
    out dx, al
    inc cl
    jnz .colour
    mov ax, 0xa000
    mov es, ax
    xor di, di
.pixel:
    mov ax, di
    add al, ah
    stosb
    cmp di, 64000
    jne .pixel
%endif
%ifdef VBE
    mov ax, 0x4f01
    mov cx, 0x144
    mov di, 0x8000
    int 0x10
    cmp ax, 0x4f
    jne failed
    mov ax, 0x4f02
    mov bx, 0x4144
    int 0x10
    cmp ax, 0x4f
    jne failed
    cli                     ; a segment of 4 GiB stays when protected mode is left
    lgdt [gdt]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    mov bx, 8
    mov fs, bx
    and al, 0xfe
    mov cr0, eax
    mov edi, [0x8028]
    xor eax, eax
.pixel:
    mov [fs:edi], eax
    add edi, 4
    inc eax
    cmp eax, 1024 * 768
    jne .pixel
%endif
%ifdef DISPI
    mov si, registers
.register:
    lodsw
    cmp ax, -1
    je .filled
    mov dx, 0x1ce
    out dx, ax
    lodsw
    inc dx
    out dx, ax
    jmp .register
.filled:
    mov ax, 0xa000
    mov es, ax
    xor di, di
    xor ax, ax
.pixel:
    stosw
    inc ax
    test di, di
    jnz .pixel
%endif
done:
    mov si, ready
say:
    lodsb
    test al, al
    jz sleep
    mov dx, 0x3f8
    out dx, al
    jmp say
sleep:
    cli
    hlt
    jmp sleep
failed:
    mov si, wrong
    jmp say
ready: db "ready", 10, 0
wrong: db "failed", 10, 0
registers: dw 4, 0, 1, 800, 2, 600, 3, 16, 4, 1, 5, 0, -1
align 8
table: dq 0, 0x00cf92000000ffff
gdt: dw 15
    dd table
    times 510 - ($ - $$) db 0
    dw 0xaa55
