; SPDX-License-Identifier: GPL-2.0-or-later
; A boot sector that firmware loads at 0000:7c00: prints TEXT on the first serial port, says what BIOS it met, and ends the machine
; through the debug exit device at port f4h.
bits 16
org 0x7c00
%ifndef LETTER
%define LETTER A
%endif
%defstr TEXT LETTER
    cli                     ; or the BIOS's timer puts what it still has to print between the letters
    xor ax, ax
    mov ds, ax
    mov ss, ax
    mov sp, 0x7c00
    mov si, text
.next:
    lodsb
    test al, al
    jz .memory
    call put
    jmp .next
.memory:                    ; KiB of base memory, and the memory map's number of entries (INT 15h E820h)
    xor bp, bp
    xor ebx, ebx
    mov es, bx
.entry:
    mov eax, 0xe820
    mov edx, 0x534d4150
    mov ecx, 20
    mov di, 0x8000
    int 0x15
    jc .end
    inc bp
    test ebx, ebx
    jnz .entry
.end:
    mov ax, bp
    add al, '0'
    call put
    mov al, 10
    call put
%ifdef REBOOT
    mov al, 0x06            ; once more: the flag in low memory does not survive, CMOS does
    mov dx, 0x70
    push ax
    mov al, 0x7f
    out dx, al
    in al, 0x71
    cmp al, 0x5a
    je .quit
    mov al, 0x7f
    out dx, al
    mov al, 0x5a
    out 0x71, al
    pop ax
    mov dx, 0xcf9
    out dx, al
.wait:
    hlt
    jmp .wait
%endif
.quit:
    mov dx, 0xf4
    mov al, 0x2a
    out dx, al
    hlt

put:
    mov ah, al
    mov dx, 0x3fd
.full:
    in al, dx
    test al, 0x20
    jz .full
    mov dx, 0x3f8
    mov al, ah
    out dx, al
    ret

text: db "boot sector ", TEXT, ", map entries: ", 0
    times 510 - ($ - $$) db 0
    dw 0xaa55
