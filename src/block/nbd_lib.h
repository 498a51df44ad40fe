/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libnbd, loaded when the first NBD node is opened: it brings TLS and XML libraries along that no other machine should pay for. */
#pragma once

#include <glib.h>
#include <libnbd.h>

#define NBD_LIB_CALLS(X) \
    X(add_meta_context) X(aio_block_status) X(aio_connect_socket) X(aio_disconnect) X(aio_flush) X(aio_get_direction) X(aio_get_fd) \
    X(aio_is_closed) X(aio_is_connecting) X(aio_is_dead) X(aio_is_ready) X(aio_notify_read) X(aio_notify_write) X(aio_pread) X(aio_pwrite) \
    X(aio_trim) X(aio_zero) X(can_fast_zero) X(can_flush) X(can_fua) X(can_meta_context) X(can_multi_conn) X(can_trim) X(can_zero) X(close) \
    X(create) X(get_block_size) X(get_errno) X(get_error) X(get_size) X(is_read_only) X(set_export_name) X(set_pread_initialize) X(set_tls) \
    X(set_tls_certificates) X(set_tls_psk_file) X(set_tls_username) X(set_tls_verify_peer)

struct nbd_lib {
#define X(name) __typeof__(&nbd_##name) name;
    NBD_LIB_CALLS(X)
#undef X
};
/* NULL: it is not there. The same for the whole process. */
const struct nbd_lib *nbd_lib_load(GError **error) G_GNUC_WARN_UNUSED_RESULT;
