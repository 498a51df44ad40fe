/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/core/chardev_telnet.h"

#include <string.h>

enum { SE = 240, BREAK = 243, SB = 250, WILL = 251, WONT = 252, DO = 253, DONT = 254, IAC = TELNET_IAC };
enum { BINARY = 0, ECHO = 1, SUPPRESS_GO_AHEAD = 3 };

void telnet_start(struct chardev_telnet *t, uint8_t ret_greeting[TELNET_GREETING])
{
    static const uint8_t greeting[TELNET_GREETING] = { IAC, WILL, ECHO, IAC, WILL, SUPPRESS_GO_AHEAD, IAC, WILL, BINARY, IAC, DO, BINARY };
    *t = (struct chardev_telnet){ 0 };
    memcpy(ret_greeting, greeting, sizeof(greeting));
}

/* The answer to WILL or DO of an option that was not asked for or offered is no; WONT and DONT need none. 0 or TELNET_REPLY bytes. */
static size_t option(struct chardev_telnet *t, uint8_t o, uint8_t *ret_reply)
{
    if (o == BINARY && (t->verb == WILL || t->verb == WONT))
        t->binary = t->verb == WILL;
    bool known = o == BINARY || o == SUPPRESS_GO_AHEAD || (o == ECHO && t->verb == DO);
    if (known || t->verb == WONT || t->verb == DONT)
        return 0;
    ret_reply[0] = IAC;
    ret_reply[1] = t->verb == WILL ? DONT : WONT;
    ret_reply[2] = o;
    return TELNET_REPLY;
}

/* true: the byte is data. */
static bool command(struct chardev_telnet *t, uint8_t byte, bool *ret_break)
{
    t->verb = byte;
    t->state = byte >= WILL && byte <= DONT ? TELNET_OPTION : byte == SB ? TELNET_SUB : TELNET_DATA;
    *ret_break |= byte == BREAK;
    return byte == IAC;
}

size_t telnet_input(struct chardev_telnet *t, uint8_t *data, size_t n, bool *ret_break, uint8_t *ret_reply, size_t *ret_nreply)
{
    size_t kept = 0;
    *ret_break = false;
    *ret_nreply = 0;
    for (size_t i = 0; i < n; i++) {
        uint8_t byte = data[i];
        bool after_cr = t->state == TELNET_AFTER_CR, is_data = false;
        switch (t->state) {
        case TELNET_DATA:
        case TELNET_AFTER_CR:
            t->state = byte == IAC ? TELNET_COMMAND : byte == '\r' && !t->binary ? TELNET_AFTER_CR : TELNET_DATA;
            is_data = byte != IAC && !(after_cr && !byte); /* CR NUL is CR */
            break;
        case TELNET_COMMAND:
            is_data = command(t, byte, ret_break);
            break;
        case TELNET_OPTION:
            *ret_nreply += option(t, byte, ret_reply + *ret_nreply);
            t->state = TELNET_DATA;
            break;
        case TELNET_SUB:
            t->state = byte == IAC ? TELNET_SUB_COMMAND : TELNET_SUB;
            break;
        case TELNET_SUB_COMMAND:
            t->state = byte == SE ? TELNET_DATA : TELNET_SUB;
            break;
        }
        if (is_data)
            data[kept++] = byte;
    }
    return kept;
}

size_t telnet_plain(const uint8_t *data, size_t n)
{
    const uint8_t *at = memchr(data, IAC, n);
    return at ? (size_t)(at - data) : n;
}
