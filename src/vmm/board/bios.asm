; SPDX-License-Identifier: GPL-2.0-or-later
; The BIOS services that 16-bit kernels' setup code needs (Ralf Brown's Interrupt List: INT 10h, 11h-13h, 15h, 16h, 1Ah).
; Loaded at F000:C000. The first words are filled in by bios.c: see struct bios_header there.
bits 16
org 0xc000

header:
    dw hw_master            ; handler of IRQ 0-7
    dw hw_slave             ; of IRQ 8-15
    dw ignore               ; of everything else
    dw int10, int11, int12, int13, int15, int16, int1a
e820_count: dw 0
e820_table: dw 0            ; offset, 20 bytes each
ext_kib:    dw 0            ; memory above 1 MiB in KiB, up to 63 MiB (INT 15h 88h)
e801_low:   dw 0            ; KiB between 1 and 16 MiB
e801_high:  dw 0            ; 64 KiB blocks above 16 MiB
    dw restart              ; where the reset vector F000:FFF0 leads

restart:                    ; a kernel that restarts "through the BIOS" comes here: the reset register does it
    mov dx, 0xcf9
    mov al, 0x06
    out dx, al
.wait:
    cli
    hlt
    jmp .wait

ignore:
    iret

hw_slave:
    push ax
    mov al, 0x20
    out 0xa0, al
    jmp hw_master.tail
hw_master:
    push ax
    mov al, 0x20
.tail:
    out 0x20, al
    pop ax
    iret

int10:                      ; video: teletype goes to COM1, everything else does nothing
    cmp ah, 0x0e
    je .teletype
    cmp ah, 0x0f
    je .mode
    cmp ah, 0x03
    je .cursor
    iret
.mode:
    mov ax, 0x5003          ; 80 columns, mode 3
    xor bh, bh
    iret
.cursor:
    xor dx, dx
    mov cx, 0x0607
    iret
.teletype:
    push dx
    push ax
    push cx
    mov cx, 1000
    mov dx, 0x3fd
.wait:
    in al, dx
    test al, 0x20
    loopz .wait
    pop cx
    pop ax
    mov dx, 0x3f8
    out dx, al
    pop dx
    iret

int11:                      ; equipment
    mov ax, 0x0022
    iret
int12:                      ; KiB of base memory
    mov ax, 639
    iret

int13:                      ; disks: none
    mov ah, 0x01
    stc
    jmp set_carry

int15:
    cmp ax, 0xe820
    je .e820
    cmp ax, 0xe801
    je .e801
    cmp ah, 0x88
    je .ext
    cmp ah, 0x24
    je .a20
    mov ah, 0x86            ; no such function
    stc
    jmp set_carry
.ext:
    mov ax, [cs:ext_kib]
    clc
    jmp set_carry
.a20:
    xor ah, ah
    clc
    jmp set_carry
.e801:
    mov ax, [cs:e801_low]
    mov bx, [cs:e801_high]
    mov cx, ax
    mov dx, bx
    clc
    jmp set_carry
.e820:
    cmp edx, 0x534d4150     ; "SMAP"
    jne .bad
    cmp ecx, 20
    jb .bad
    cmp bx, [cs:e820_count]
    jae .bad
    push si
    push di
    push ds
    push cs
    pop ds
    mov ax, bx
    imul ax, ax, 20
    mov si, [e820_table]
    add si, ax
    mov cx, 10
    cld
    rep movsw
    pop ds
    pop di
    pop si
    inc bx
    movzx ebx, bx
    cmp bx, [cs:e820_count]
    jb .more
    xor ebx, ebx
.more:
    mov eax, 0x534d4150
    mov ecx, 20
    clc
    jmp set_carry
.bad:
    mov ah, 0x86
    stc

set_carry:                  ; IRET with the carry flag as it is now
    push bp
    mov bp, sp
    jc .set
    and byte [bp + 6], 0xfe
    pop bp
    iret
.set:
    or byte [bp + 6], 1
    pop bp
    iret

int16:                      ; keyboard: nothing typed
    test ah, 0xef
    jz .none                ; 00h, 10h: would wait for ever
    push bp
    mov bp, sp
    or byte [bp + 6], 0x40  ; zero flag: no key
    pop bp
    cmp ah, 0x02
    jne .end
    xor al, al
.end:
    iret
.none:
    xor ax, ax
    iret

int1a:                      ; time: ticks since midnight unknown
    xor cx, cx
    xor dx, dx
    xor al, al
    clc
    jmp set_carry
