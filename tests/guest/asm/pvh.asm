; SPDX-License-Identifier: GPL-2.0-or-later
; A PVH kernel (Xen "PVH direct boot" ABI): an ELF file with a note of type 18 that holds the 32-bit entry. Checks what the
; machine hands over: EBX points to a start_info with its magic, and the memory map in it holds RAM.
BITS 32
        org 0x100000
elf:    db 0x7f, 'ELF', 2, 1, 1, 0      ; 64-bit, little endian
        dq 0
        dw 2, 62                        ; executable, x86-64
        dd 1
        dq start, phdr - elf, 0
        dd 0
        dw 64, 56, 2, 64, 0, 0
phdr:   dd 1, 7                         ; PT_LOAD
        dq 0, elf, elf, end - elf, end - elf + 4096, 4096
        dd 4, 4                         ; PT_NOTE
        dq note - elf, note, note, note_end - note, note_end - note, 4
note:   dd 4, 4, 18
        db 'Xen', 0
        dd start
note_end:
start:  mov esp, 0x90000
        cmp dword [ebx], 0x336ec578
        jne bad_magic
        mov esi, [ebx + 24]             ; cmdline_paddr
        mov edi, cmdline_is
        call print_both
        mov edi, [ebx + 40]             ; memmap_paddr
        mov ecx, [ebx + 48]             ; memmap_entries
        jecxz no_ram
entry:  cmp dword [edi + 16], 1
        je has_ram
        add edi, 24
        loop entry
no_ram: mov esi, text_no_ram
        mov bl, 3
        jmp say
has_ram: mov esi, text_good
        mov bl, 1
        jmp say
bad_magic:
        mov esi, text_bad
        mov bl, 2
say:    call puts
        mov al, bl
        out 0xf4, al
hang:   hlt
        jmp hang
print_both:
        push esi
        mov esi, edi
        call puts
        pop esi
        test esi, esi
        jz .none
        call puts
.none:  mov al, 10
        mov dx, 0x3f8
        out dx, al
        ret
puts:   mov dx, 0x3f8
.next:  lodsb
        test al, al
        jz .end
        out dx, al
        jmp .next
.end:   ret
cmdline_is: db 'PVH command line: ', 0
text_good: db 'PVH start info good', 10, 0
text_no_ram: db 'PVH memory map without RAM', 10, 0
text_bad: db 'PVH start info bad', 10, 0
end:
