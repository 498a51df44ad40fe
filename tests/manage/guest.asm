; SPDX-License-Identifier: GPL-2.0-or-later
; The smallest guest that lives: a Multiboot kernel with addresses in its header. It says "up" on the first serial port, answers each byte with the
; same byte, and does as these say: q powers off, r resets, p panics (pvpanic), h stops for good. The power button powers it off.
bits 32
org 0x100000
    dd 0x1badb002, 0x10000, -(0x1badb002 + 0x10000), 0x100000, 0x100000, end, end, start
start:
    mov esi, hello
.say:
    lodsb
    test al, al
    jz wait_event
    call put
    jmp .say
wait_event:
    mov ecx, 3000           ; looks now and then, so that a waiting guest costs little
.idle:
    pause
    loop .idle
    mov dx, 0x600           ; PM1 status: the power button
    in ax, dx
    test ah, 1
    jnz off
    mov dx, 0x3fd
    in al, dx
    test al, 1
    jz wait_event
    mov dx, 0x3f8
    in al, dx
    call put
    cmp al, 'q'
    je off
    cmp al, 'r'
    je reset
    cmp al, 'p'
    je panic
    cmp al, 'h'
    jne wait_event
stop:
    cli
    hlt
    jmp stop
off:
    mov dx, 0x604
    mov ax, 0x2000 | 5 << 10
    out dx, ax
    jmp stop
reset:
    mov dx, 0xcf9
    mov al, 6
    out dx, al
    jmp stop
panic:
    mov dx, 0x505
    mov al, 1
    out dx, al
    jmp wait_event
put:
    push eax
.full:
    mov dx, 0x3fd
    in al, dx
    test al, 0x20
    jz .full
    pop eax
    mov dx, 0x3f8
    out dx, al
    ret
hello: db "up", 13, 10, 0
end:
