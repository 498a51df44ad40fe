; SPDX-License-Identifier: GPL-2.0-or-later
; What leaving the guest costs: COUNT times each of a port read of the ACPI PM timer, an MMIO read of the HPET, a message to the
; other CPU and its answer while both are halted, and the same while both spin (a quarter of COUNT, those). Prints "NAME COUNT
; TICKS PERIOD", hex; a tick is the HPET's, the period is in femtoseconds (IA-PC HPET 1.0a, 2.3.4), so each may take 40 seconds.
; Wants -smp 2.
%include "flat.inc"
%include "faults.inc"
%include "smp.inc"
%ifndef COUNT
%define COUNT 20000
%endif
PM_TIMER equ 0x608
HPET equ 0xfed00000
PING equ 0x40
PONG equ 0x41
start:  call setup_idt
        mov al, 0xff                    ; a BIOS may have left the 8259s open
        out 0x21, al
        out 0xa1, al
        mov eax, on_ping
        mov ecx, PING
        call set_gate
        mov eax, on_pong
        mov ecx, PONG
        call set_gate
        mov eax, on_spurious
        mov ecx, 0xff
        call set_gate
        call apic_on
        call start_ap
        mov dword [HPET + 0x10], 1      ; it counts
        ; Once for warming up, once for the measure.
%macro MEASURE 3                        ; name, count, routine
        mov ecx, %2 / 10
        call %3
        push dword [HPET + 0xf0]
        mov ecx, %2
        call %3
        mov eax, [HPET + 0xf0]
        pop edx
        sub eax, edx
        push eax
        PRINT %1
        mov eax, %2
        call hex32
        mov al, ' '
        call putc
        pop eax
        call hex32
        mov al, ' '
        call putc
        mov eax, [HPET + 4]
        call hex32
        mov al, `\n`
        call putc
%endmacro
        MEASURE "port-read ", COUNT, port_read
        MEASURE "mmio-read ", COUNT, mmio_read
        MEASURE "ipi ", COUNT / 4, ipi
        mov dword [ap_halts], 1
        MEASURE "halt ", COUNT / 4, halt
        EXIT 1
port_read:
        mov dx, PM_TIMER
.next:  in eax, dx
        dec ecx
        jnz .next
        ret
mmio_read:
        mov eax, [HPET + 0xf0]
        dec ecx
        jnz mmio_read
        ret
ping:   mov dword [pong], 0
        mov dword [APIC + 0x300], 0x000c4000 | PING     ; to all but this
        ret
ipi:    sti
.next:  call ping
.wait:  pause
        cmp dword [pong], 0
        je .wait
        dec ecx
        jnz .next
        cli
        ret
halt:   cli
        call ping
.wait:  cmp dword [pong], 0
        jne .here
        sti                             ; no interrupt comes between STI and HLT (SDM vol. 2, STI)
        hlt
        cli
        jmp .wait
.here:  dec ecx
        jnz halt
        ret
on_pong:
        mov dword [pong], 1
        mov dword [APIC + 0xb0], 0
        iret
on_ping:
        mov dword [APIC + 0xb0], 0
        mov dword [APIC + 0x300], 0x000c4000 | PONG
on_spurious:
        iret
ap_main:
        sti
        cmp dword [ap_halts], 0
        je .spin
        hlt
        jmp ap_main
.spin:  pause
        jmp ap_main
fault:  call hex32
        PRINT ` fault\n`
        EXIT 2
pong:   dd 0
ap_halts: dd 0
%include "tail.inc"
