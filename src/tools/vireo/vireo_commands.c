/* SPDX-License-Identifier: GPL-2.0-or-later */
/* All commands: the tables of the files, and the groups in which help shows them. */
#include "vireo.h"
#include "vireo_commands.h"

const struct command *const vireo_commands[] = {
#define COMMAND_TABLE(name) name##_commands,
    COMMAND_TABLES
#undef COMMAND_TABLE
    NULL,
};

const struct command_group vireo_groups[] = {
    {"domain", "Domain Management"},
    {"monitor", "Domain Monitoring"},
    {"events", "Domain Events"},
    {"host", "Host and Hypervisor"},
    {"checkpoint", "Checkpoint"},
    {"interface", "Interface"},
    {"filter", "Network Filter"},
    {"network", "Networking"},
    {"nodedev", "Node Device"},
    {"secret", "Secret"},
    {"snapshot", "Snapshot"},
    {"backup", "Backup"},
    {"pool", "Storage Pool"},
    {"volume", "Storage Volume"},
    {"quick", "Short Ways"},
    {"vireo", "Vireo itself"},
    {},
};
