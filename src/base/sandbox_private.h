/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between sandbox.c and sandbox_compile.c. */
#pragma once

/* In a compiled filter: the id of the process, which is known when it is installed. */
#define SANDBOX_SELF 0x5e1f5e1fu
