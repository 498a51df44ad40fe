/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the hostile guest's parts share: a 32-bit multiboot image without paging and with interrupts off that is given its task
 * and its seed on the command line ("msrs seed=0x1234") and prints what it found on COM1. It says "start" first and "alive" last.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* start.c: words on the console, random numbers, instructions that may fault */
void print(const char *text);
void print_hex(uint32_t value);
void *memset(void *to, int c, size_t n);
void *memcpy(void *to, const void *from, size_t n);
uint32_t rnd(void);
static inline uint32_t rnd_below(uint32_t n) { return rnd() % n; }
bool read_msr(uint32_t msr, uint64_t *ret);       /* false: it faulted */
bool write_msr(uint32_t msr, uint64_t value);
uint32_t in(unsigned port, unsigned size);
void out(unsigned port, unsigned size, uint32_t value);
bool poke(uint32_t address, unsigned kind, uint32_t value); /* one access of eight kinds */
bool argument(const char *name);                  /* a word of the command line */

/* PCI configuration: `function` is bus << 8 | device << 3 | function */
uint32_t pci_read(unsigned function, unsigned offset);
void pci_write(unsigned function, unsigned offset, uint32_t value);
#define ECAM 0xb0000000u                          /* q35 (docs/architecture.md: the machine's map) */

void run_msrs(void);
void run_ports(void);
void run_pci(void);
bool run_ahci(void);                              /* the same */
bool run_usb(void);                               /* and sound */
bool run_rings(void);                             /* false: the device did not do what it must */
