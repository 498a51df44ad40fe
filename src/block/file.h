/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What others than the drivers know about files of the host. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct block_node;

bool block_file_is_device(const char *path);
/* For nodes with a descriptor (block_node_fd): whether it is open past the host's cache, and to what everything must be aligned. */
bool block_file_direct(struct block_node *n, uint32_t *ret_align);
