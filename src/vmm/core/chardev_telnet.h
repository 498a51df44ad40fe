/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Telnet's part of a connection (RFC 854), for telnet=on: this side offers to echo (RFC 857), without go-aheads (RFC 858), eight bits wide (RFC 856) both
 * ways, refuses all else, and takes commands out of what the client sends. Main thread, but for telnet_plain, which any thread may call.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TELNET_IAC = 255 /* in data twice */, TELNET_REPLY = 3, TELNET_GREETING = 12 };

struct chardev_telnet {
    enum { TELNET_DATA, TELNET_AFTER_CR, TELNET_COMMAND, TELNET_OPTION, TELNET_SUB, TELNET_SUB_COMMAND } state;
    uint8_t verb;      /* TELNET_OPTION: what about the option that follows */
    bool binary;       /* the client sends eight bits, and a CR alone */
};

/* For a new client: what to send first. */
void telnet_start(struct chardev_telnet *t, uint8_t ret_greeting[TELNET_GREETING]);
/* Takes the commands out of n bytes, in place: how many are left. ret_break: BREAK was among them. ret_reply: room for n + TELNET_REPLY bytes (the first
 * byte may be the end of a command that began before), what to send; *ret_nreply of them. */
size_t telnet_input(struct chardev_telnet *t, uint8_t *data, size_t n, bool *ret_break, uint8_t *ret_reply, size_t *ret_nreply);
/* How many bytes from the start can be sent as they are; the next one is an IAC. */
size_t telnet_plain(const uint8_t *data, size_t n);
