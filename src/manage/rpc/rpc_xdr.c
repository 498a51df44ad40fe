/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "manage/rpc/rpc_xdr.h"
