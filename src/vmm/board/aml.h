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
