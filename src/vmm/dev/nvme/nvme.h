/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An NVMe controller (NVM Express 1.4, PCI Express transport) and its namespaces. The controller's lock covers everything.
 *
 * nvme.c: registers, queues, life. nvme_admin.c: admin commands. nvme_io.c: data and the commands of namespaces.
 */
#pragma once

#include "vmm/bus/pci.h"
#include "vmm/dev/disk/disk.h"

enum { NVME_MAX_QUEUES = 65 /* the admin queues included */, NVME_MAX_ENTRIES = 2048, NVME_MAX_NS = 256, NVME_AER_MAX = 4, NVME_MAX_IOV = 1024 };
enum { NVME_SQE = 64, NVME_CQE = 16 };

/* 4.6.1.2; the type in bits 8 to 10. DNR: do not retry. */
enum { NVME_OK = 0, NVME_BAD_OPCODE = 0x01, NVME_BAD_FIELD = 0x02, NVME_DATA_ERROR = 0x04, NVME_INTERNAL = 0x06, NVME_ABORTED = 0x07,
       NVME_ABORTED_SQ = 0x08, NVME_BAD_NS = 0x0b, NVME_BAD_SGL_COUNT = 0x0d, NVME_BAD_SGL_LENGTH = 0x0f, NVME_BAD_SGL_TYPE = 0x11,
       NVME_BAD_PRP = 0x13, NVME_LBA_RANGE = 0x80, NVME_CAPACITY = 0x81, NVME_BAD_CQ = 0x100, NVME_BAD_QID = 0x101, NVME_BAD_QSIZE = 0x102,
       NVME_AER_LIMIT = 0x105, NVME_BAD_VECTOR = 0x108, NVME_BAD_LOG = 0x109, NVME_BAD_DELETION = 0x10c, NVME_NOT_SAVEABLE = 0x10d,
       NVME_NOT_CHANGEABLE = 0x10e, NVME_READ_ONLY = 0x182, NVME_WRITE_FAULT = 0x280, NVME_READ_FAULT = 0x281, NVME_DNR = 0x4000 };

struct nvme;
struct nvme_command;

struct nvme_cq {
    bool used, interrupts, notify; /* notify: an interrupt is due at the end of the batch */
    uint64_t base;
    uint32_t size, head, tail;
    uint16_t vector, users;        /* users: submission queues */
    bool phase;
    GQueue waiting;                /* struct nvme_command *: answers for which there is no room */
};

struct nvme_sq {
    bool used, deleting;
    uint64_t base;
    uint32_t size, head, tail, inflight;
    uint16_t id, cq, delete_cid;
};

struct nvme_ns {
    struct nvme *n;
    uint32_t nsid;
    struct disk disk;
    uint8_t uuid[16];
    bool changed;                  /* for the log of changed namespaces */
};

struct nvme {
    struct device dev;
    struct pci_device pci;
    struct nvme_ns own;            /* drive= of the controller itself */
    /* properties */
    int addr;
    char *serial;
    uint64_t max_ioqpairs, msix_qsize, mdts, bootindex, cmb_size_mb;
    bool ioeventfd, use_intel_id;
    /* registers */
    uint32_t cc, csts, aqa, intms;
    uint64_t asq, acq;
    struct nvme_sq sq[NVME_MAX_QUEUES];
    struct nvme_cq cq[NVME_MAX_QUEUES];
    struct nvme_ns *ns[NVME_MAX_NS]; /* by nsid - 1 */
    bool resetting;
    GQueue again;                  /* struct nvme_command *: of a loaded machine, to begin when it runs */
    unsigned flushing;             /* shutdown: namespaces that are not flushed yet */
    /* features (5.21.1) */
    uint32_t event_config, temperature, arbitration, coalescing, error_recovery;
    uint16_t aer[NVME_AER_MAX];    /* ids of waiting ASYNCHRONOUS EVENT REQUESTs */
    unsigned naer;
    bool event_pending, event_masked; /* namespace attribute notice: waits for a request; told, and its log not read yet */
};

struct nvme_command {
    struct disk_request d;
    struct nvme *n;
    struct nvme_sq *sq;
    struct nvme_ns *ns;
    uint8_t sqe[NVME_SQE];
    uint16_t cid, status;
    uint16_t sq_head;
    uint32_t result;
    bool to_guest;                 /* the data goes into guest memory */
    unsigned niov, at, nranges;
    struct iovec *iov;
    uint64_t *gpa;
    uint64_t length;               /* bytes of them */
    uint8_t *ranges;
};

static inline uint16_t nvme16(const uint8_t *p) { return pci_get16(p); }
static inline uint32_t nvme32(const uint8_t *p) { return pci_get32(p); }
static inline uint64_t nvme64(const uint8_t *p) { return pci_get32(p) | (uint64_t)pci_get32(p + 4) << 32; }
static inline void nvme_put64(uint8_t *p, uint64_t v) { pci_set32(p, v); pci_set32(p + 4, v >> 32); }
static inline uint32_t nvme_dw(const struct nvme_command *c, unsigned i) { return nvme32(c->sqe + 4 * i); }

/* nvme.c */
void nvme_complete(struct nvme_command *c, uint16_t status); /* owns the command from then on */
void nvme_answer_aer(struct nvme *n);                        /* what there is to tell goes into a waiting request */
void nvme_drop_waiting(struct nvme_cq *q);
struct nvme_ns *nvme_find_ns(const struct nvme *n, uint32_t nsid);
bool nvme_attach_ns(struct nvme *n, struct nvme_ns *ns, struct device *dev, uint32_t nsid, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void nvme_detach_ns(struct nvme_ns *ns);

/* nvme_admin.c */
void nvme_admin(struct nvme_command *c);

/* nvme_io.c */
void nvme_io(struct nvme_command *c);
/* The guest's memory of the command's data pointer, `length` bytes, into c->iov; a status. */
uint16_t nvme_map(struct nvme_command *c, uint64_t length, bool to_guest) G_GNUC_WARN_UNUSED_RESULT;
/* Small answers: maps, copies, and completes. */
void nvme_reply(struct nvme_command *c, const uint8_t *data, uint64_t length);
