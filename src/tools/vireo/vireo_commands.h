/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The tables of commands: each file that has one is named here once. */
#pragma once

#include "vireo.h"

#define COMMAND_TABLES \
    COMMAND_TABLE(domain) \
    COMMAND_TABLE(domain_state) \
    COMMAND_TABLE(domain_tune) \
    COMMAND_TABLE(domain_device) \
    COMMAND_TABLE(domain_block) \
    COMMAND_TABLE(domain_guest) \
    COMMAND_TABLE(domain_meta) \
    COMMAND_TABLE(domain_migrate) \
    COMMAND_TABLE(domain_list) \
    COMMAND_TABLE(event) \
    COMMAND_TABLE(snapshot) \
    COMMAND_TABLE(checkpoint) \
    COMMAND_TABLE(monitor) \
    COMMAND_TABLE(console) \
    COMMAND_TABLE(host) \
    COMMAND_TABLE(interface) \
    COMMAND_TABLE(nwfilter) \
    COMMAND_TABLE(network) \
    COMMAND_TABLE(nodedev) \
    COMMAND_TABLE(secret) \
    COMMAND_TABLE(pool) \
    COMMAND_TABLE(volume) \
    COMMAND_TABLE(run) \
    COMMAND_TABLE(quick) \
    COMMAND_TABLE(top) \
    COMMAND_TABLE(shell)

#define COMMAND_TABLE(name) extern const struct command name##_commands[];
COMMAND_TABLES
#undef COMMAND_TABLE
