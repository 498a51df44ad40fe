/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/board/aml.h"

#include <string.h>

enum { OP_ZERO = 0x00, OP_ONE = 0x01, OP_NAME = 0x08, OP_BYTE = 0x0a, OP_WORD = 0x0b, OP_DWORD = 0x0c, OP_STRING = 0x0d, OP_QWORD = 0x0e,
       OP_SCOPE = 0x10, OP_BUFFER = 0x11, OP_PACKAGE = 0x12, OP_METHOD = 0x14, OP_EXT = 0x5b, OP_LOCAL0 = 0x60, OP_ARG0 = 0x68, OP_STORE = 0x70, OP_AND = 0x7b, OP_DEVICE = 0x82, OP_QWORD_FIELD = 0x8f, OP_RETURN = 0xa4,
       OP_NOTIFY = 0x86, OP_EQUAL = 0x93, OP_IF = 0xa0, OP_ELSE = 0xa1, OP_WHILE = 0xa2, OP_BREAK = 0xa5,
       /* after OP_EXT */ OP_MUTEX = 0x01, OP_ACQUIRE = 0x23, OP_RELEASE = 0x27, OP_REGION = 0x80, OP_FIELD = 0x81 };

static void byte(GByteArray *out, uint8_t v)
{
    g_byte_array_append(out, &v, 1);
}

static void little(GByteArray *out, uint64_t v, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        byte(out, (uint8_t)(v >> i * 8));
}

static void begin(struct aml *a)
{
    g_assert(a->depth < G_N_ELEMENTS(a->open));
    a->open[a->depth++] = a->out->len;
}

/* PkgLength counts itself (20.2.4): put in when the package is complete. */
void aml_end(struct aml *a)
{
    guint at = a->open[--a->depth], n = a->out->len - at;
    uint8_t len[4];
    unsigned size = n + 1 <= 0x3f ? 1 : n + 2 <= 0xfff ? 2 : n + 3 <= 0xfffff ? 3 : 4;
    n += size;
    if (size == 1) {
        len[0] = (uint8_t)n;
    } else {
        len[0] = (uint8_t)((size - 1) << 6 | (n & 15));
        for (unsigned i = 1; i < size; i++)
            len[i] = (uint8_t)(n >> (4 + 8 * (i - 1)));
    }
    guint old = a->out->len;
    g_byte_array_set_size(a->out, old + size);
    memmove(a->out->data + at + size, a->out->data + at, old - at);
    memcpy(a->out->data + at, len, size);
}

/* 20.2.2: one segment, two, or more, of four characters each. */
static void name_string(struct aml *a, const char *path)
{
    if (*path == '\\')
        byte(a->out, (uint8_t)*path++);
    g_auto(GStrv) parts = g_strsplit(path, ".", -1);
    unsigned n = g_strv_length(parts);
    if (n == 2) {
        byte(a->out, 0x2e);
    } else if (n > 2) {
        byte(a->out, 0x2f);
        byte(a->out, (uint8_t)n);
    }
    for (unsigned i = 0; i < n; i++) {
        char seg[5] = "____";
        memcpy(seg, parts[i], MIN(strlen(parts[i]), 4u));
        g_byte_array_append(a->out, (const uint8_t *)seg, 4);
    }
}

void aml_begin_scope(struct aml *a, const char *path)
{
    byte(a->out, OP_SCOPE);
    begin(a);
    name_string(a, path);
}

void aml_begin_device(struct aml *a, const char *name)
{
    byte(a->out, OP_EXT);
    byte(a->out, OP_DEVICE);
    begin(a);
    name_string(a, name);
}

void aml_begin_method(struct aml *a, const char *name, unsigned nargs)
{
    byte(a->out, OP_METHOD);
    begin(a);
    name_string(a, name);
    byte(a->out, (uint8_t)nargs);
}

void aml_begin_package(struct aml *a, unsigned n)
{
    byte(a->out, OP_PACKAGE);
    begin(a);
    byte(a->out, (uint8_t)n);
}

void aml_name(struct aml *a, const char *name)
{
    byte(a->out, OP_NAME);
    name_string(a, name);
}

void aml_int(struct aml *a, uint64_t v)
{
    if (v <= 1) {
        byte(a->out, v ? OP_ONE : OP_ZERO);
        return;
    }
    unsigned size = v <= 0xff ? 1 : v <= 0xffff ? 2 : v <= 0xffffffff ? 4 : 8;
    byte(a->out, size == 1 ? OP_BYTE : size == 2 ? OP_WORD : size == 4 ? OP_DWORD : OP_QWORD);
    little(a->out, v, size);
}

void aml_string(struct aml *a, const char *s)
{
    byte(a->out, OP_STRING);
    g_byte_array_append(a->out, (const uint8_t *)s, (guint)strlen(s) + 1);
}

/* 19.3.4: three 5-bit letters, four hexadecimal digits, big-endian. */
void aml_eisaid(struct aml *a, const char *id)
{
    uint32_t v = (uint32_t)(id[0] - 0x40) << 26 | (uint32_t)(id[1] - 0x40) << 21 | (uint32_t)(id[2] - 0x40) << 16;
    for (unsigned i = 0; i < 4; i++)
        v |= (uint32_t)g_ascii_xdigit_value(id[3 + i]) << (12 - 4 * i);
    byte(a->out, OP_DWORD);
    little(a->out, GUINT32_SWAP_LE_BE(v), 4);
}

void aml_name_int(struct aml *a, const char *name, uint64_t v)
{
    aml_name(a, name);
    aml_int(a, v);
}

void aml_name_eisaid(struct aml *a, const char *name, const char *id)
{
    aml_name(a, name);
    aml_eisaid(a, id);
}

void aml_name_string(struct aml *a, const char *name, const char *s)
{
    aml_name(a, name);
    aml_string(a, s);
}

void aml_return_arg(struct aml *a, unsigned n)
{
    byte(a->out, OP_RETURN);
    byte(a->out, (uint8_t)(OP_ARG0 + n));
}

void aml_path(struct aml *a, const char *path)
{
    name_string(a, path);
}

void aml_arg(struct aml *a, unsigned n)
{
    byte(a->out, (uint8_t)(OP_ARG0 + n));
}

void aml_local(struct aml *a, unsigned n)
{
    byte(a->out, (uint8_t)(OP_LOCAL0 + n));
}

static void begin_op(struct aml *a, uint8_t op)
{
    byte(a->out, op);
    begin(a);
}

void aml_begin_if(struct aml *a) { begin_op(a, OP_IF); }
void aml_begin_else(struct aml *a) { begin_op(a, OP_ELSE); }
void aml_begin_while(struct aml *a) { begin_op(a, OP_WHILE); }
void aml_break(struct aml *a) { byte(a->out, OP_BREAK); }
void aml_return(struct aml *a) { byte(a->out, OP_RETURN); }
void aml_store(struct aml *a) { byte(a->out, OP_STORE); }
void aml_equal(struct aml *a) { byte(a->out, OP_EQUAL); }
void aml_and(struct aml *a) { byte(a->out, OP_AND); }
void aml_no_target(struct aml *a) { byte(a->out, OP_ZERO); }

void aml_notify(struct aml *a, const char *device)
{
    byte(a->out, OP_NOTIFY);
    name_string(a, device);
}

static void extended(struct aml *a, uint8_t op, const char *name)
{
    byte(a->out, OP_EXT);
    byte(a->out, op);
    name_string(a, name);
}

void aml_mutex(struct aml *a, const char *name)
{
    extended(a, OP_MUTEX, name);
    byte(a->out, 0);
}

void aml_acquire(struct aml *a, const char *mutex)
{
    extended(a, OP_ACQUIRE, mutex);
    little(a->out, 0xffff, 2); /* waits without end */
}

void aml_release(struct aml *a, const char *mutex)
{
    extended(a, OP_RELEASE, mutex);
}

void aml_qword_field(struct aml *a, const char *buffer, unsigned offset, const char *name)
{
    byte(a->out, OP_QWORD_FIELD);
    aml_path(a, buffer);
    aml_int(a, offset);
    name_string(a, name);
}

void aml_buffer(struct aml *a, const void *bytes, unsigned n)
{
    begin_op(a, OP_BUFFER);
    aml_int(a, n);
    g_byte_array_append(a->out, bytes, n);
    aml_end(a);
}

void aml_port_region(struct aml *a, const char *name, uint16_t port, uint8_t size)
{
    extended(a, OP_REGION, name);
    byte(a->out, 1); /* SystemIO */
    aml_int(a, port);
    aml_int(a, size);
}

void aml_fields32(struct aml *a, const char *region, const char *const *names)
{
    byte(a->out, OP_EXT);
    begin_op(a, OP_FIELD);
    name_string(a, region);
    byte(a->out, 0x03); /* DWordAcc, NoLock, Preserve */
    for (; *names; names++) {
        bool wide = **names == '+';
        if (**names)
            name_string(a, *names + wide);
        else
            byte(a->out, 0); /* reserved */
        byte(a->out, wide ? 0x40 : 32); /* PkgLength: the width in bits, of 64 in two bytes */
        if (wide)
            byte(a->out, 64 >> 4);
    }
    aml_end(a);
}

GByteArray *aml_begin_crs(void)
{
    return g_byte_array_new();
}

void aml_end_crs(struct aml *a, GByteArray *crs)
{
    byte(crs, 0x79); /* end tag; checksum 0: not computed */
    byte(crs, 0);
    aml_name(a, "_CRS");
    byte(a->out, OP_BUFFER);
    begin(a);
    aml_int(a, crs->len);
    g_byte_array_append(a->out, crs->data, crs->len);
    aml_end(a);
    g_byte_array_free(crs, TRUE);
}

/* 6.4.2.5 */
void crs_io(GByteArray *crs, uint16_t base, uint8_t length)
{
    byte(crs, 0x47);
    byte(crs, 1); /* 16-bit decode */
    little(crs, base, 2);
    little(crs, base, 2);
    byte(crs, 1);
    byte(crs, length);
}

/* 6.4.2.1 */
void crs_irq(GByteArray *crs, uint8_t irq)
{
    byte(crs, 0x22);
    little(crs, 1u << irq, 2);
}

/* 6.4.3.6 */
void crs_gsi(GByteArray *crs, uint32_t gsi, bool level)
{
    byte(crs, 0x89);
    little(crs, 6, 2);
    byte(crs, level ? 0x01 : 0x03); /* consumer; level or edge; active high; exclusive */
    byte(crs, 1);
    little(crs, gsi, 4);
}

/* 6.4.3.4 */
void crs_memory32(GByteArray *crs, uint32_t base, uint32_t length)
{
    byte(crs, 0x86);
    little(crs, 9, 2);
    byte(crs, 1); /* read-write */
    little(crs, base, 4);
    little(crs, length, 4);
}

/* 6.4.3.5: address space descriptors of a bridge: produced, positive decode, fixed minimum and maximum. */
static void space(GByteArray *crs, uint8_t tag, unsigned width, enum crs_kind kind, uint64_t base, uint64_t length)
{
    static const uint8_t type_flags[] = { [CRS_MEMORY] = 0x01, [CRS_IO] = 0x03, [CRS_BUS] = 0x00 };
    byte(crs, tag);
    little(crs, 3 + 5 * width, 2);
    byte(crs, (uint8_t)kind);
    byte(crs, 0x0c);
    byte(crs, type_flags[kind]);
    little(crs, 0, width);
    little(crs, base, width);
    little(crs, base + length - 1, width);
    little(crs, 0, width);
    little(crs, length, width);
}

void crs_word_range(GByteArray *crs, enum crs_kind kind, uint16_t base, uint32_t length)
{
    space(crs, 0x88, 2, kind, base, length);
}

void crs_dword_range(GByteArray *crs, uint32_t base, uint32_t length)
{
    space(crs, 0x87, 4, CRS_MEMORY, base, length);
}

void crs_qword_range(GByteArray *crs, uint64_t base, uint64_t length)
{
    space(crs, 0x8a, 8, CRS_MEMORY, base, length);
}
