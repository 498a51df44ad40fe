/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Streams: bytes and holes both ways, waiting or not, by calls or by callbacks from the event loop. */
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "manage/api/api.h"

#define CHUNK (256 * 1024 - 24) /* what one message of a stream carries at most */

virStreamPtr virStreamNew(virConnectPtr conn, unsigned int flags)
{
    if (!BEGIN(conn))
        return NULL;
    if (flags & ~(unsigned)VIR_STREAM_NONBLOCK) {
        api_fail(conn, VIR_ERR_INVALID_ARG, "unsupported flags (0x%x) in function %s", flags, __func__);
        return NULL;
    }
    virStreamPtr st = api_object_new(conn, API_STREAM, NULL);
    st->flags = flags;
    st->watch = st->wake = -1;
    g_mutex_init(&st->lock);
    return st;
}

/* Is there a transfer? */
static bool in_use(const char *func, virStreamPtr st)
{
    if (!api_begin(func, st, API_STREAM))
        return false;
    if (st->link)
        return true;
    api_fail(st->o.conn, VIR_ERR_INVALID_STREAM, "%s: the stream is not in use: it carries data after a call such as virStorageVolDownload()", func);
    return false;
}

static int result(virStreamPtr st, int ret, GError *error)
{
    if (ret == -1)
        api_fail_error(st->o.conn, error, 0);
    return ret;
}

/* ---- single transfers ---- */

int virStreamSend(virStreamPtr stream, const char *data, size_t nbytes)
{
    if (!in_use(__func__, stream))
        return -1;
    GError *error = NULL;
    int n = stream->o.conn->backend->send(stream, data, MIN(nbytes, (size_t)CHUNK), !(stream->flags & VIR_STREAM_NONBLOCK), &error);
    return result(stream, n, error);
}

int virStreamSendHole(virStreamPtr stream, long long length, unsigned int flags)
{
    if (!in_use(__func__, stream))
        return -1;
    GError *error = NULL;
    if (length < 0)
        manage_fail(&error, VIR_ERR_INVALID_ARG, "a hole of %lld bytes", length);
    return result(stream, length >= 0 && stream->o.conn->backend->send_hole(stream, length, &error) ? 0 : -1, error);
}

/* -3: at a hole, where the caller has asked to stop there. */
static int receive(virStreamPtr st, char *data, size_t size, bool stop_at_hole)
{
    GError *error = NULL;
    int64_t hole = 0;
    if (stop_at_hole && st->hole)
        return -3;
    if (st->hole) { /* the rest of a hole reads as zeroes */
        int n = (int)MIN(st->hole, (int64_t)MIN(size, (size_t)CHUNK));
        memset(data, 0, (size_t)n);
        st->hole -= n;
        return n;
    }
    int n = st->o.conn->backend->recv(st, data, MIN(size, (size_t)G_MAXINT), !(st->flags & VIR_STREAM_NONBLOCK), &hole, &error);
    if (n != 0 || hole <= 0)
        return result(st, n, error);
    st->hole = hole;
    return receive(st, data, size, stop_at_hole);
}

int virStreamRecv(virStreamPtr stream, char *data, size_t nbytes) { return in_use(__func__, stream) ? receive(stream, data, nbytes, false) : -1; }

int virStreamRecvFlags(virStreamPtr stream, char *data, size_t nbytes, unsigned int flags)
{
    if (!in_use(__func__, stream))
        return -1;
    if (flags & ~(unsigned)VIR_STREAM_RECV_STOP_AT_HOLE) {
        api_fail(stream->o.conn, VIR_ERR_INVALID_ARG, "unsupported flags (0x%x) in function %s", flags, __func__);
        return -1;
    }
    return receive(stream, data, nbytes, flags & VIR_STREAM_RECV_STOP_AT_HOLE);
}

int virStreamRecvHole(virStreamPtr stream, long long *length, unsigned int flags)
{
    if (!in_use(__func__, stream))
        return -1;
    if (!length) {
        api_fail(stream->o.conn, VIR_ERR_INVALID_ARG, "length in %s must not be NULL", __func__);
        return -1;
    }
    *length = stream->hole;
    stream->hole = 0;
    return 0;
}

static int end(const char *func, virStreamPtr st, bool abort)
{
    if (!in_use(func, st))
        return -1;
    GError *error = NULL;
    bool good = st->o.conn->backend->finish(st, abort, &error);
    st->o.conn->backend->forget(st);
    st->link = NULL;
    st->hole = 0;
    return result(st, good ? 0 : -1, error);
}

int virStreamFinish(virStreamPtr stream) { return end(__func__, stream, false); }
int virStreamAbort(virStreamPtr stream) { return end(__func__, stream, true); }

/* ---- whole transfers ---- */

static bool blocking(const char *func, virStreamPtr st, const void *handler)
{
    if (!in_use(func, st))
        return false;
    if (!handler)
        api_fail(st->o.conn, VIR_ERR_INVALID_ARG, "handler in %s must not be NULL", func);
    else if (st->flags & VIR_STREAM_NONBLOCK)
        api_fail(st->o.conn, VIR_ERR_OPERATION_INVALID, "%s cannot be used on a stream that does not block", func);
    else
        return true;
    return false;
}

/* The handler has failed: the transfer is given up, and the error that stays is the first. */
static int give_up(virStreamPtr st, const char *who)
{
    virErrorPtr first = virGetLastError() ? virSaveLastError() : NULL;
    GError *error = NULL;
    if (st->link) {
        st->o.conn->backend->finish(st, true, &error);
        g_clear_error(&error);
        st->o.conn->backend->forget(st);
        st->link = NULL;
    }
    if (first)
        api_fail_error(st->o.conn, g_error_new_literal(MANAGE_ERROR, first->code, first->message ? first->message : ""), first->domain);
    else
        api_fail(st->o.conn, VIR_ERR_OPERATION_ABORTED, "the transfer was ended by the program's %s function", who);
    virFreeError(first);
    return -1;
}

static bool send_everything(virStreamPtr st, const char *data, size_t size)
{
    for (size_t at = 0; at < size;) {
        int n = virStreamSend(st, data + at, size - at);
        if (n < 0)
            return false;
        at += (size_t)n;
    }
    return true;
}

int virStreamSendAll(virStreamPtr stream, virStreamSourceFunc handler, void *opaque)
{
    if (!blocking(__func__, stream, handler))
        return -1;
    g_autofree char *buffer = g_malloc(CHUNK);
    for (;;) {
        int n = handler(stream, buffer, CHUNK, opaque);
        if (n < 0 || (n > 0 && !send_everything(stream, buffer, (size_t)MIN(n, CHUNK))))
            return give_up(stream, "source");
        if (n == 0)
            return 0;
    }
}

int virStreamSparseSendAll(virStreamPtr stream, virStreamSourceFunc handler, virStreamSourceHoleFunc holeHandler, virStreamSourceSkipFunc skipHandler,
                           void *opaque)
{
    if (!blocking(__func__, stream, handler) || !holeHandler || !skipHandler)
        return -1;
    g_autofree char *buffer = g_malloc(CHUNK);
    for (;;) {
        int in_data = 0;
        long long length = 0;
        if (holeHandler(stream, &in_data, &length, opaque) < 0)
            return give_up(stream, "hole");
        if (!in_data && length > 0) {
            if (virStreamSendHole(stream, length, 0) < 0 || skipHandler(stream, length, opaque) < 0)
                return give_up(stream, "skip");
            continue;
        }
        int n = handler(stream, buffer, in_data ? (size_t)MIN(length, CHUNK) : CHUNK, opaque);
        if (n < 0 || (n > 0 && !send_everything(stream, buffer, (size_t)MIN(n, CHUNK))))
            return give_up(stream, "source");
        if (n == 0)
            return 0;
    }
}

static bool sink_everything(virStreamPtr st, virStreamSinkFunc handler, const char *data, int size, void *opaque)
{
    for (int at = 0; at < size;) {
        int n = handler(st, data + at, (size_t)(size - at), opaque);
        if (n < 0)
            return false;
        at += n;
    }
    return true;
}

int virStreamRecvAll(virStreamPtr stream, virStreamSinkFunc handler, void *opaque)
{
    if (!blocking(__func__, stream, handler))
        return -1;
    g_autofree char *buffer = g_malloc(CHUNK);
    for (;;) {
        int n = receive(stream, buffer, CHUNK, false);
        if (n < 0 || !sink_everything(stream, handler, buffer, n, opaque))
            return give_up(stream, "sink");
        if (n == 0)
            return 0;
    }
}

int virStreamSparseRecvAll(virStreamPtr stream, virStreamSinkFunc handler, virStreamSinkHoleFunc holeHandler, void *opaque)
{
    if (!blocking(__func__, stream, handler) || !holeHandler)
        return -1;
    g_autofree char *buffer = g_malloc(CHUNK);
    for (;;) {
        int n = receive(stream, buffer, CHUNK, true);
        if (n == -3) {
            long long length = stream->hole;
            stream->hole = 0;
            if (holeHandler(stream, length, opaque) < 0)
                return give_up(stream, "hole");
        } else if (n < 0 || !sink_everything(stream, handler, buffer, n, opaque)) {
            return give_up(stream, "sink");
        } else if (n == 0) {
            return 0;
        }
    }
}

/* ---- callbacks ---- */

static void wake(virStreamPtr st)
{
    uint64_t one = 1;
    if (st->wake >= 0)
        (void)!write(st->wake, &one, sizeof(one));
}

void api_stream_changed(virStreamPtr st)
{
    g_mutex_lock(&st->lock);
    wake(st);
    g_mutex_unlock(&st->lock);
}

static int possible(virStreamPtr st)
{
    int ready = st->link ? st->o.conn->backend->ready(st) : 0;
    return ready | (st->hole ? VIR_STREAM_EVENT_READABLE : 0);
}

/* In the event loop. What is possible is asked for anew after the callback: a callback is called as long as it has not used what there is. */
static void on_wake(int watch, int fd, int events, void *opaque)
{
    virStreamPtr st = opaque;
    uint64_t count;
    (void)!read(fd, &count, sizeof(count));
    g_mutex_lock(&st->lock);
    virStreamEventCallback fn = st->fn;
    void *data = st->fn_data;
    int wanted = st->wanted;
    g_mutex_unlock(&st->lock);
    int ready = possible(st) & (wanted | VIR_STREAM_EVENT_ERROR | VIR_STREAM_EVENT_HANGUP);
    if (!fn || !ready)
        return;
    fn(st, ready, data);
    g_mutex_lock(&st->lock);
    wanted = st->fn ? st->wanted : 0;
    g_mutex_unlock(&st->lock);
    if (wanted && (possible(st) & (wanted | VIR_STREAM_EVENT_ERROR | VIR_STREAM_EVENT_HANGUP)))
        api_stream_changed(st);
}

static void on_removed(void *opaque)
{
    virStreamPtr st = opaque;
    g_mutex_lock(&st->lock);
    virFreeCallback ff = st->fn_free;
    void *data = st->fn_data;
    int fd = st->wake;
    st->wake = st->watch = -1;
    st->fn_free = NULL;
    st->fn_data = NULL;
    g_mutex_unlock(&st->lock);
    if (fd >= 0)
        close(fd);
    if (ff)
        ff(data);
    api_object_unref(st);
}

int virStreamEventAddCallback(virStreamPtr stream, int events, virStreamEventCallback cb, void *opaque, virFreeCallback ff)
{
    if (!in_use(__func__, stream))
        return -1;
    if (!cb || stream->wake >= 0) {
        api_fail(stream->o.conn, cb ? VIR_ERR_INTERNAL_ERROR : VIR_ERR_INVALID_ARG, cb ? "the stream has a callback already" : "cb must not be NULL");
        return -1;
    }
    if (!api_loop_present()) {
        api_fail(stream->o.conn, VIR_ERR_INTERNAL_ERROR, "stream callbacks need an event loop: call virEventRegisterDefaultImpl() first");
        return -1;
    }
    int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    g_mutex_lock(&stream->lock);
    stream->fn = cb;
    stream->fn_data = opaque;
    stream->fn_free = ff;
    stream->wanted = events;
    stream->wake = fd;
    g_mutex_unlock(&stream->lock);
    stream->watch = virEventAddHandle(fd, VIR_EVENT_HANDLE_READABLE, on_wake, api_object_ref(stream), on_removed);
    return stream->watch < 0 ? -1 : 0;
}

int virStreamEventUpdateCallback(virStreamPtr stream, int events)
{
    if (!BEGIN(stream))
        return -1;
    if (!stream->fn) {
        api_fail(stream->o.conn, VIR_ERR_INTERNAL_ERROR, "the stream has no callback");
        return -1;
    }
    g_mutex_lock(&stream->lock);
    stream->wanted = events;
    wake(stream);
    g_mutex_unlock(&stream->lock);
    return 0;
}

int virStreamEventRemoveCallback(virStreamPtr stream)
{
    if (!BEGIN(stream))
        return -1;
    g_mutex_lock(&stream->lock);
    int watch = stream->fn ? stream->watch : -1;
    stream->fn = NULL;
    g_mutex_unlock(&stream->lock);
    if (watch < 0) {
        api_fail(stream->o.conn, VIR_ERR_INTERNAL_ERROR, "the stream has no callback");
        return -1;
    }
    virEventRemoveHandle(watch);
    return 0;
}
