/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between the files of the SCSI unit. Values in commands and answers are big endian. */
#pragma once

#include "vmm/dev/disk/scsi_unit.h"

static inline uint16_t be16(const uint8_t *p) { return p[0] << 8 | p[1]; }
static inline uint32_t be32(const uint8_t *p) { return (uint32_t)be16(p) << 16 | be16(p + 2); }
static inline uint64_t be64(const uint8_t *p) { return (uint64_t)be32(p) << 32 | be32(p + 4); }
static inline void put16(uint8_t *p, uint16_t v) { p[0] = v >> 8; p[1] = v; }
static inline void put24(uint8_t *p, uint32_t v) { p[0] = v >> 16; put16(p + 1, v); }
static inline void put32(uint8_t *p, uint32_t v) { put16(p, v >> 16); put16(p + 2, v); }
static inline void put64(uint8_t *p, uint64_t v) { put32(p, v >> 32); put32(p + 4, v); }

enum { SCSI_ANSWER_MAX = 4096 };

/* Ends with status GOOD and data of `length` bytes, of which the command allows `allocated`. */
void scsi_answer(struct scsi_command *c, const uint8_t *data, size_t length, uint64_t allocated);
void scsi_good(struct scsi_command *c);
/* Copies the data that came with the command, at most n bytes; returns how many. */
size_t scsi_take(struct scsi_command *c, void *ret, size_t n);
uint64_t scsi_blocks(const struct scsi_unit *u);
/* False: it has ended with NOT READY. */
bool scsi_need_medium(struct scsi_command *c) G_GNUC_WARN_UNUSED_RESULT;

/* scsi_inquiry.c */
void scsi_inquiry(struct scsi_command *c);
/* scsi_mode.c */
void scsi_mode_sense(struct scsi_command *c);
void scsi_mode_select(struct scsi_command *c);
/* scsi_mmc.c: true: it was one of a CD drive's */
bool scsi_mmc(struct scsi_command *c);
void scsi_mmc_start_stop(struct scsi_command *c);
