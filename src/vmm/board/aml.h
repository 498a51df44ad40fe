/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writes ACPI Machine Language (ACPI 6.5, chapter 20) and resource templates (6.4). */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* Things with a PkgLength nest: aml_begin_* ... aml_end. */
struct aml {
    GByteArray *out;
    guint open[16]; /* where the PkgLength of each open package goes */
    unsigned depth;
};

void aml_begin_scope(struct aml *a, const char *path);  /* "\\_SB_" */
void aml_begin_device(struct aml *a, const char *name); /* 4 characters */
void aml_begin_method(struct aml *a, const char *name, unsigned nargs);
void aml_begin_package(struct aml *a, unsigned n);
void aml_end(struct aml *a);

/* Statements and expressions (20.2.5). An operand that is an object's name is written by aml_path; "\\_SB_.CPHS" is a path. */
void aml_path(struct aml *a, const char *path);
void aml_arg(struct aml *a, unsigned n);
void aml_local(struct aml *a, unsigned n);
void aml_begin_if(struct aml *a);      /* the condition follows, then the statements */
void aml_begin_else(struct aml *a);
void aml_begin_while(struct aml *a);
void aml_break(struct aml *a);
void aml_return(struct aml *a);        /* the value follows */
void aml_store(struct aml *a);         /* value, then target */
void aml_equal(struct aml *a);         /* two operands follow */
void aml_and(struct aml *a);           /* two operands follow, then target: aml_no_target */
void aml_no_target(struct aml *a);
void aml_notify(struct aml *a, const char *device); /* the value follows */
void aml_mutex(struct aml *a, const char *name);
void aml_acquire(struct aml *a, const char *mutex);
void aml_release(struct aml *a, const char *mutex);
/* CreateQWordField (buffer, offset, name): 64 bits of a buffer under a name of their own. */
void aml_qword_field(struct aml *a, const char *buffer, unsigned offset, const char *name);
void aml_buffer(struct aml *a, const void *bytes, unsigned n);
/* OperationRegion in I/O space, and the 32-bit fields that follow one another in it; a name "" leaves one out, one that begins with "+" has
 * 64 bits. */
void aml_port_region(struct aml *a, const char *name, uint16_t port, uint8_t size);
void aml_fields32(struct aml *a, const char *region, const char *const *names);
void aml_name(struct aml *a, const char *name);         /* Name (name, ...): the object follows */
void aml_int(struct aml *a, uint64_t v);
void aml_string(struct aml *a, const char *s);
void aml_eisaid(struct aml *a, const char *id);         /* "PNP0A08" */
void aml_name_int(struct aml *a, const char *name, uint64_t v);
void aml_name_eisaid(struct aml *a, const char *name, const char *id);
void aml_name_string(struct aml *a, const char *name, const char *s);
void aml_return_arg(struct aml *a, unsigned n);         /* Return (ArgN) */

/* Name (_CRS, ResourceTemplate): aml_begin_crs, descriptors, aml_end_crs. */
GByteArray *aml_begin_crs(void);
void aml_end_crs(struct aml *a, GByteArray *crs); /* frees crs */
void crs_io(GByteArray *crs, uint16_t base, uint8_t length);
void crs_irq(GByteArray *crs, uint8_t irq); /* edge, active high, exclusive */
void crs_gsi(GByteArray *crs, uint32_t gsi, bool level);
void crs_memory32(GByteArray *crs, uint32_t base, uint32_t length);
enum crs_kind { CRS_MEMORY, CRS_IO, CRS_BUS };
void crs_word_range(GByteArray *crs, enum crs_kind kind, uint16_t base, uint32_t length);
void crs_dword_range(GByteArray *crs, uint32_t base, uint32_t length);
void crs_qword_range(GByteArray *crs, uint64_t base, uint64_t length);
