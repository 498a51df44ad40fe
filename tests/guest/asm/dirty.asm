; SPDX-License-Identifier: GPL-2.0-or-later
; Writes pages and keeps a record of them: 4096 pages from 16 MiB on, one bit each. Obeys letters on COM1:
;   w  writes to 300 pages at random          g  writes at random, both CPUs if -D AP, until another letter comes
;   p  prints the record (1024 hex digits, the last page's bit first) and empties it         q  leaves
%include "flat.inc"
%include "faults.inc"
%include "smp.inc"
PAGES equ 4096
FIRST equ 0x1000000
RECORD equ 0x200000
start:  call setup_idt
        mov edi, RECORD
        mov ecx, PAGES / 32
        xor eax, eax
        rep stosd
%ifdef AP
        call apic_on
        call start_ap
%endif
        PRINT `ready\n`
next:   call getc
        cmp al, 'w'
        je write
        cmp al, 'g'
        je go
        cmp al, 'p'
        je print
        cmp al, 'q'
        jne next
        EXIT 1
write:  mov ecx, 300
.one:   call touch
        loop .one
        PRINT `wrote\n`
        jmp next
go:     mov dword [going], 1
        PRINT `going\n`
.one:   call touch
        mov dx, 0x3fd
        mov ecx, 20                     ; not so fast that every page is written between two looks
.poll:  in al, dx
        test al, 1
        jnz .end
        loop .poll
        jmp .one
.end:   mov dx, 0x3f8
        in al, dx
        mov dword [going], 0
%ifdef AP
.wait:  pause
        cmp dword [ap_writing], 0
        jne .wait
%endif
        PRINT `stopped\n`
        jmp next
print:  mov ebx, PAGES / 32
.word:  dec ebx
        mov eax, [RECORD + ebx * 4]
        mov dword [RECORD + ebx * 4], 0
        call hex32
        test ebx, ebx
        jnz .word
        mov al, `\n`
        call putc
        jmp next
; touch: one page at random; the record first, so that no page is written without
touch:  call random
        mov edx, eax
        and eax, PAGES - 1
        lock bts [RECORD], eax
        shl eax, 12
        shr edx, 18
        and edx, 0xffc
        add [FIRST + eax + edx], ecx
        ret
getc:   mov dx, 0x3fd
.wait:  in al, dx
        test al, 1
        jz .wait
        mov dx, 0x3f8
        in al, dx
        ret
ap_main:
        pause
        cmp dword [going], 0
        je ap_main
        mov dword [ap_writing], 1
.one:   call touch
        mov dx, 0x3fd
        mov ecx, 20
.poll:  in al, dx
        loop .poll
        cmp dword [going], 0
        jne .one
        mov dword [ap_writing], 0
        jmp ap_main
fault:  call hex32
        EXIT 2
going:  dd 0
ap_writing: dd 0
%include "tail.inc"
