/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/board/board.h"

#include <string.h>

extern const struct board board_q35, board_pc, board_microvm, board_none;
static const struct board *const boards[] = { &board_q35, &board_pc, &board_microvm, &board_none, NULL };

const struct board *board_find(const char *name)
{
    if (!name)
        return boards[0];
    for (unsigned i = 0; boards[i]; i++) {
        if (!strcmp(boards[i]->name, name))
            return boards[i];
    }
    return NULL;
}

const struct board *const *board_list(void)
{
    return boards;
}
