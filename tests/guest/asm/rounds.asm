; SPDX-License-Identifier: GPL-2.0-or-later
; The same long computation again and again, in all general, x87 and SSE registers, while two timers interrupt it: the local
; APIC's and the 8254's through the 8259. Each round must give what the first gave; each prints one line:
;   round N good TICKS8254 TICKSAPIC     (hex; BAD when the result is another, TSC when time went back)
%include "flat.inc"
%include "faults.inc"
%include "smp.inc"
%ifndef STEPS
%define STEPS 1000000
%endif
start:  call setup_idt
        mov eax, cr0
        and eax, ~4                     ; EM
        or eax, 2                       ; MP
        mov cr0, eax
        mov eax, cr4
        or eax, 0x600                   ; OSFXSR, OSXMMEXCPT
        mov cr4, eax
        mov eax, on_pit
        mov ecx, 0x30
        call set_gate
        mov eax, on_apic
        mov ecx, 0x40
        call set_gate
        mov eax, on_spurious
        mov ecx, 0xff
        call set_gate
        call apic_on
        mov dword [APIC + 0x350], 0x700 ; LINT0: ExtINT, the 8259 behind it
        mov al, 0x11                    ; 8259s: vectors 0x30 and 0x38, only the 8254
        out 0x20, al
        out 0xa0, al
        mov al, 0x30
        out 0x21, al
        mov al, 0x38
        out 0xa1, al
        mov al, 4
        out 0x21, al
        mov al, 2
        out 0xa1, al
        mov al, 1
        out 0x21, al
        out 0xa1, al
        mov al, 0xfe
        out 0x21, al
        mov al, 0xff
        out 0xa1, al
        mov al, 0x34                    ; 8254: channel 0, mode 2, 50 times a second
        out 0x43, al
        mov ax, 1193182 / 50
        out 0x40, al
        mov al, ah
        out 0x40, al
        mov dword [APIC + 0x3e0], 0x0b  ; divided by 1
        mov dword [APIC + 0x320], 0x20040
        mov dword [APIC + 0x380], 20000000
        sti
again:  call compute
        cmp dword [round], 0
        jne .compare
        mov [expected], eax
.compare:
        push eax
        PRINT "round "
        mov eax, [round]
        call hex32
        pop eax
        cmp eax, [expected]
        je .good
        PRINT " BAD "
        jmp .time
.good:  PRINT " good "
.time:  rdtsc
        cmp edx, [last_tsc + 4]
        jb .back
        ja .forward
        cmp eax, [last_tsc]
        jae .forward
.back:  PRINT "TSC "
.forward:
        mov [last_tsc], eax
        mov [last_tsc + 4], edx
        mov eax, [pit_ticks]
        call hex32
        mov al, ' '
        call putc
        mov eax, [apic_ticks]
        call hex32
        mov al, `\n`
        call putc
        inc dword [round]
        jmp again

; compute: eax = what all the registers come to after STEPS steps
compute:
        fninit
        fldpi
        fldl2e
        fldl2t
        fldlg2
        fldln2
        fld1
        mov eax, 0x01234567
        mov ebx, 0x89abcdef
        mov edx, 0xfedcba98
        mov esi, 0x76543210
        mov edi, 0x13579bdf
        mov ebp, 0x2468ace0
        movups xmm0, [pattern]
        movups xmm1, [pattern + 4]
        movaps xmm2, xmm0
        movaps xmm3, xmm1
        movaps xmm4, xmm0
        movaps xmm5, xmm1
        movaps xmm6, xmm0
        movaps xmm7, xmm1
        mov ecx, STEPS
.step:  rol eax, 5
        add eax, ebx
        ror ebx, 7
        xor ebx, edx
        adc edx, esi
        rol esi, 11
        sub esi, edi
        xor edi, ebp
        bswap ebp
        add ebp, ecx
        paddd xmm0, xmm1
        pxor xmm1, xmm2
        psubd xmm2, xmm3
        pshufd xmm3, xmm0, 0x39
        paddq xmm4, xmm0
        pxor xmm5, xmm4
        psllq xmm6, 1
        pxor xmm6, xmm5
        paddb xmm7, xmm6
        fmul st0, st1                   ; turned and scaled so that it stays finite
        fadd st0, st2
        fsqrt
        fxch st3
        fadd st0, st5
        fsqrt
        fxch st4
        dec ecx
        jnz .step
        push ebp
        xor eax, ebx
        xor eax, edx
        xor eax, esi
        xor eax, edi
        xor eax, ebp
        mov edi, results
        mov ebx, 6
.fpu:   fstp tword [edi]
        mov word [edi + 10], 0
        add edi, 12
        dec ebx
        jnz .fpu
        pxor xmm0, xmm1
        pxor xmm0, xmm2
        pxor xmm0, xmm3
        pxor xmm0, xmm4
        pxor xmm0, xmm5
        pxor xmm0, xmm6
        pxor xmm0, xmm7
        movups [edi], xmm0
        mov ecx, (6 * 12 + 16) / 4
        mov edi, results
.fold:  rol eax, 3
        add eax, [edi]
        add edi, 4
        loop .fold
        pop ebp
        ret
on_pit: push eax
        inc dword [pit_ticks]
        mov al, 0x20
        out 0x20, al
        pop eax
        iret
on_apic:
        inc dword [apic_ticks]
        mov dword [APIC + 0xb0], 0
on_spurious:
        iret
ap_main:
fault:  call hex32
        PRINT ` fault\n`
        EXIT 2
align 16
pattern: dd 0x3f8ccccd, 0x12345678, 0x9abcdef0, 0x0f1e2d3c, 0x4b5a6978
round:  dd 0
expected: dd 0
last_tsc: dd 0, 0
pit_ticks: dd 0
apic_ticks: dd 0
results: times 6 * 12 + 16 db 0
%include "tail.inc"
