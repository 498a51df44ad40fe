/* SPDX-License-Identifier: GPL-2.0-or-later */
/* In place of api_remote.c as long as the client's end of the wire is not there. */
#include "manage/api/api.h"

bool api_remote_open(virConnectPtr conn, const struct api_uri *uri, virConnectAuthPtr auth, unsigned flags, GError **error)
{
    return manage_fail(error, VIR_ERR_NO_CONNECT, "no connection driver available for %s: daemons cannot be reached yet; try test:///default", uri->text);
}
