/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The subcommands, as main.c lists them, and what stands around each run. */
#pragma once

#include "tools/img/img.h"

extern const struct img_command img_amend, img_bench, img_bitmap, img_check, img_commit, img_compare, img_convert, img_create, img_dd, img_info,
    img_map, img_measure, img_rebase, img_resize, img_snapshot;

/* img_open.c: makes the graph and the secrets, runs the command, releases them. */
int img_run(struct img *img, void *args, char **operands, unsigned n, GError **error);
/* img_watch.c: removes what was not finished; ends by the signal that interrupted. */
void img_finish(struct img *img);
