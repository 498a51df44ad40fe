; SPDX-License-Identifier: GPL-2.0-or-later
; Executes random bytes as code: every fault starts at the next random place. Ends after ROUNDS of them; the bytes may also
; loop, halt or destroy the machine's tables, which is for the outside to end.
%include "flat.inc"
%include "faults.inc"
%ifndef ROUNDS
%define ROUNDS 20000
%endif
start:  call setup_idt
        mov edi, bss_start
        mov ecx, 65536 / 4
.fill:  call random
        stosd
        loop .fill
        mov dword [rounds], ROUNDS
fault:  dec dword [rounds]
        jz done
        push dword 2
        popfd
        call random
        and eax, 0xffff
        add eax, bss_start
        push eax
        mov ebx, bss_start
        mov ecx, 100
        mov edx, 0x80
        mov esi, bss_start
        mov edi, bss_start
        mov ebp, bss_start
        xor eax, eax
        ret
done:   PRINT `random code survived\n`
        EXIT 1
rounds: dd 0
%include "tail.inc"
