/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "hostile.h"

/* Multiboot 0.6.96, 3.1. eax and ebx are the magic number and the information. Vectors 0 to 31 go back to `recover`, but NMI, #DB and
 * #MC, which the guest may have brought upon itself some time ago: those return, as all interrupts do. */
asm(".text\n"
    ".balign 4\n"
    ".long 0x1badb002, 3, -(0x1badb002 + 3)\n"
    ".globl _start\n_start: cli\n cld\n mov $0x90000, %esp\n push %ebx\n call guest_main\n"
    "halt: cli\n hlt\n jmp halt\n"
    ".balign 8\nstub_recover: mov recover_esp, %esp\n cld\n mov $0x10, %ax\n mov %ax, %ds\n mov %ax, %es\n mov %ax, %ss\n jmp *recover_eip\n"
    ".balign 8\nstub_return: iret\n"
    ".globl load_tables\nload_tables: lgdt gdtr\n ljmp $8, $1f\n1: mov $0x10, %eax\n mov %ax, %ds\n mov %ax, %es\n mov %ax, %fs\n mov %ax, %gs\n"
    " mov %ax, %ss\n lidt idtr\n ret\n"
    ".data\n.balign 8\ngdt: .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff\ngdtr: .word 23\n .long gdt\nidtr: .word 2047\n .long idt\n.text\n");

uint32_t recover_esp, recover_eip;
uint64_t idt[256];
static uint32_t seed = 0x12345678;
static const char *command_line = "";

void load_tables(void);
extern const char stub_recover[], stub_return[];

bool read_msr(uint32_t msr, uint64_t *ret)
{
    uint32_t low = 0, high = 0, ok;
    asm volatile("mov %%esp, recover_esp\n movl $3f, recover_eip\n rdmsr\n mov $1, %%ebx\n jmp 2f\n3: xor %%ebx, %%ebx\n2:\n"
                 : "=a"(low), "=d"(high), "=b"(ok) : "c"(msr) : "memory", "cc");
    *ret = (uint64_t)high << 32 | low;
    return ok;
}

bool write_msr(uint32_t msr, uint64_t value)
{
    uint32_t ok, a = value, d = value >> 32;
    asm volatile("mov %%esp, recover_esp\n movl $3f, recover_eip\n wrmsr\n mov $1, %%ebx\n jmp 2f\n3: xor %%ebx, %%ebx\n2:\n"
                 : "=b"(ok), "+a"(a), "+d"(d) : "c"(msr) : "memory", "cc");
    return ok;
}

bool poke(uint32_t address, unsigned kind, uint32_t value)
{
    uint32_t ok, a = value;
    asm volatile("mov %%esp, recover_esp\n movl $3f, recover_eip\n mov $1, %%ebx\n jmp *7f(,%%ecx,4)\n"
                 ".balign 4\n7: .long 10f, 11f, 12f, 13f, 14f, 15f, 16f, 17f\n"
                 "10: movb %%al, (%%edx)\n jmp 2f\n11: movw %%ax, (%%edx)\n jmp 2f\n12: movl %%eax, (%%edx)\n jmp 2f\n"
                 "13: movb (%%edx), %%al\n jmp 2f\n14: movw (%%edx), %%ax\n jmp 2f\n15: movl (%%edx), %%eax\n jmp 2f\n"
                 "16: lock xaddl %%eax, (%%edx)\n jmp 2f\n17: pushl (%%edx)\n popl %%eax\n jmp 2f\n"
                 "3: xor %%ebx, %%ebx\n2:\n"
                 : "=b"(ok), "+a"(a), "+d"(address), "+c"(kind) : : "memory", "cc");
    return ok;
}

uint32_t in(unsigned port, unsigned size)
{
    uint32_t value = 0;
    if (size == 1)
        asm volatile("inb %%dx, %%al" : "+a"(value) : "d"(port));
    else if (size == 2)
        asm volatile("inw %%dx, %%ax" : "+a"(value) : "d"(port));
    else
        asm volatile("inl %%dx, %%eax" : "+a"(value) : "d"(port));
    return value;
}

void out(unsigned port, unsigned size, uint32_t value)
{
    if (size == 1)
        asm volatile("outb %%al, %%dx" : : "a"(value), "d"(port));
    else if (size == 2)
        asm volatile("outw %%ax, %%dx" : : "a"(value), "d"(port));
    else
        asm volatile("outl %%eax, %%dx" : : "a"(value), "d"(port));
}

void print(const char *text)
{
    for (; *text; text++) {
        for (unsigned i = 0; i < 10000 && !(in(0x3fd, 1) & 0x20); i++)
            ;
        out(0x3f8, 1, *text);
    }
}

void print_hex(uint32_t value)
{
    char text[11] = "0x";
    for (unsigned i = 0; i < 8; i++)
        text[2 + i] = "0123456789abcdef"[value >> (28 - 4 * i) & 15];
    print(text);
}

uint32_t rnd(void) /* xorshift32 */
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    return seed ^= seed << 5;
}

void *memset(void *to, int c, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((volatile uint8_t *)to)[i] = c;
    return to;
}

void *memcpy(void *to, const void *from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((volatile uint8_t *)to)[i] = ((const uint8_t *)from)[i];
    return to;
}

static const char *find(const char *name)
{
    for (const char *at = command_line; *at; at++) {
        unsigned i = 0;
        while (name[i] && at[i] == name[i])
            i++;
        if (!name[i] && (at == command_line || at[-1] == ' '))
            return at + i;
    }
    return NULL;
}

bool argument(const char *name)
{
    return find(name);
}

static void read_seed(void)
{
    const char *at = find("seed=");
    if (!at)
        return;
    for (seed = 0; *at >= '0' && *at <= '9'; at++)
        seed = seed * 10 + (*at - '0');
    seed = seed ? seed : 1;
}

uint32_t pci_read(unsigned function, unsigned offset)
{
    out(0xcf8, 4, 0x80000000 | function << 8 | (offset & 0xfc));
    return in(0xcfc, 4);
}

void pci_write(unsigned function, unsigned offset, uint32_t value)
{
    out(0xcf8, 4, 0x80000000 | function << 8 | (offset & 0xfc));
    out(0xcfc, 4, value);
}

void guest_main(const uint32_t *info)
{
    bool good = true;
    for (unsigned i = 0; i < 256; i++) {
        uint32_t at = (uint32_t)(i < 32 && i != 1 && i != 2 && i != 18 ? stub_recover : stub_return);
        idt[i] = (uint64_t)(at >> 16) << 48 | 0x8e0000080000ull | (at & 0xffff);
    }
    load_tables();
    if (info[0] & 4)
        command_line = (const char *)info[4];
    read_seed();
    print("start\n");
    if (argument("msrs"))
        run_msrs();
    if (argument("ports"))
        run_ports();
    if (argument("pci"))
        run_pci();
    if (argument("rings"))
        good = run_rings();
    if (argument("ahci"))
        good = run_ahci();
    if (argument("usb"))
        good = run_usb();
    out(0x3fb, 1, 3); /* COM1 as it was */
    print(good ? "alive\n" : "wrong\n");
}
