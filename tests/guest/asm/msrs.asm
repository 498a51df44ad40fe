; SPDX-License-Identifier: GPL-2.0-or-later
; Reads every MSR of the usual ranges and writes random values to each: what does not exist or is not legal raises #GP, and the
; machine survives the rest. Counted: how many were readable.
%include "flat.inc"
%include "faults.inc"
start:  call setup_idt
        mov dword [range], ranges
next_range:
        mov esi, [range]
        mov eax, [esi]
        mov [msr], eax
        cmp dword [esi + 4], 0
        je done
one:    mov dword [state], 0
        mov ecx, [msr]
        rdmsr
        inc dword [readable]
        mov [old], eax
        mov [old + 4], edx
        mov dword [state], 1
        mov ecx, [msr]
        cmp ecx, 0x1b                   ; the APIC's base: moving it is not what this is about
        je after
        call random
        mov ebx, eax
        call random
        mov edx, ebx
        mov ecx, [msr]
        wrmsr
        inc dword [written]
restore: mov dword [state], 2
        mov ecx, [msr]
        mov eax, [old]
        mov edx, [old + 4]
        wrmsr
after:  inc dword [msr]
        mov esi, [range]
        mov eax, [msr]
        cmp eax, [esi + 4]
        jbe one
        add dword [range], 8
        jmp next_range
fault:  cmp eax, 13
        jne strange
        cmp dword [state], 1
        jb write_unreadable
        je restore
        jmp after
write_unreadable:                       ; what cannot be read may still be written
        mov dword [state], 2
        mov ecx, [msr]
        cmp ecx, 0x79                   ; microcode
        je after
        call random
        xor edx, edx
        mov ecx, [msr]
        cmp ecx, 0x830                  ; the interrupt command of x2APIC: may be an INIT to oneself
        je after
        wrmsr
        jmp after
strange: push ecx
        PRINT "vector "
        call hex32
        PRINT " at MSR "
        mov eax, [msr]
        call hex32
        PRINT `\n`
        EXIT 2
done:   cmp dword [readable], 8
        jb few
        PRINT `MSRs survived\n`
        EXIT 1
few:    PRINT `hardly any MSR can be read\n`
        EXIT 3
ranges: dd 0, 0x1fff, 0x40000000, 0x400001ff, 0xc0000000, 0xc00003ff, 0xc0010000, 0xc00103ff, 0xfffffff0, 0xfffffffe, 0, 0
range:  dd 0
msr:    dd 0
state:  dd 0
old:    dd 0, 0
readable: dd 0
written: dd 0
%include "tail.inc"
