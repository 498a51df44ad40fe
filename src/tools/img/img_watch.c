/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Long commands: progress, and what happens on Ctrl-C. The signals are blocked everywhere and taken by a thread, so that the work
 * ends between two requests and not within one: images that were there before stay consistent, a new one is removed. A second
 * Ctrl-C does not wait for a request that hangs.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sandbox.h"
#include "tools/img/img.h"
#include "tools/img/img_commands.h"

struct img_watch {
    GMutex lock;      /* covers part, shown, target */
    GThread *thread;
    sigset_t signals;
    bool show;        /* -p */
    double part, shown;
    char *target;
    bool canceled;    /* atomic */
    bool at_once;     /* the work does not look at `canceled` */
    int signal;       /* atomic; 0: none */
    bool over;        /* atomic */
};

static void remove_target(struct img_watch *w)
{
    struct stat st;
    if (w->target && lstat(w->target, &st) == 0 && S_ISREG(st.st_mode))
        unlink(w->target);
}

static void print_part(struct img_watch *w, FILE *f, const char *end)
{
    fprintf(f, "    (%3.2f/100%%)%s", w->part * 100, end);
    fflush(f);
}

static void *watch(void *opaque)
{
    struct img_watch *w = opaque;
    int sig;
    while (sigwait(&w->signals, &sig) == 0 && !__atomic_load_n(&w->over, __ATOMIC_ACQUIRE)) {
        if (sig == SIGUSR1) {
            g_mutex_lock(&w->lock);
            print_part(w, stderr, "\n");
            g_mutex_unlock(&w->lock);
        } else if (__atomic_exchange_n(&w->canceled, true, __ATOMIC_ACQ_REL) || w->at_once) {
            remove_target(w);
            fprintf(stderr, "vireo-img: interrupted\n");
            _exit(128 + sig);
        } else {
            __atomic_store_n(&w->signal, sig, __ATOMIC_RELEASE);
        }
    }
    return NULL;
}

void img_watch_start(struct img *img, bool progress)
{
    struct img_watch *w = img->watch = g_new0(struct img_watch, 1);
    g_mutex_init(&w->lock);
    w->show = progress && !img->quiet;
    w->shown = -1;
    sigemptyset(&w->signals);
    for (const int *s = (const int[]){ SIGINT, SIGTERM, SIGHUP, SIGUSR1, 0 }; *s; s++)
        sigaddset(&w->signals, *s);
    pthread_sigmask(SIG_BLOCK, &w->signals, NULL);
    w->thread = sandbox_thread_new(SANDBOX_MAIN, "signals", watch, w);
    img_progress(img, 0);
}

void img_watch_end(struct img *img)
{
    struct img_watch *w = img->watch;
    if (!w || !w->thread)
        return;
    __atomic_store_n(&w->over, true, __ATOMIC_RELEASE);
    kill(getpid(), SIGUSR1);
    g_thread_join(g_steal_pointer(&w->thread));
    if (w->show)
        puts("");
}

void img_finish(struct img *img)
{
    struct img_watch *w = img->watch;
    if (!w)
        return;
    img_watch_end(img);
    remove_target(w);
    int sig = w->signal;
    g_free(w->target);
    g_mutex_clear(&w->lock);
    g_free(w);
    img->watch = NULL;
    if (sig) { /* the shell is to see what ended it */
        sigset_t one;
        signal(sig, SIG_DFL);
        raise(sig);
        sigemptyset(&one);
        sigaddset(&one, sig);
        sigprocmask(SIG_UNBLOCK, &one, NULL);
    }
}

void img_watch_target(struct img *img, const char *filename)
{
    struct img_watch *w = img->watch;
    g_mutex_lock(&w->lock);
    g_free(w->target);
    w->target = g_strdup(filename && g_str_has_prefix(filename, "file:") ? filename + 5 : filename);
    g_mutex_unlock(&w->lock);
}

void img_watch_at_once(struct img *img)
{
    img->watch->at_once = true;
}

void img_watch_keep(struct img *img)
{
    img_watch_target(img, NULL);
}

void img_progress(struct img *img, double part)
{
    struct img_watch *w = img->watch;
    if (!w)
        return;
    g_mutex_lock(&w->lock);
    w->part = CLAMP(part, 0, 1);
    if (w->show && (w->part >= w->shown + 0.01 || (w->part >= 1 && w->shown < 1))) {
        w->shown = w->part;
        print_part(w, stdout, "\r");
    }
    g_mutex_unlock(&w->lock);
}

void img_progress_cb(void *opaque, double part)
{
    img_progress(opaque, part);
}

const bool *img_cancel_flag(struct img *img)
{
    return img->watch ? &img->watch->canceled : NULL;
}

bool img_canceled(struct img *img)
{
    return img->watch && __atomic_load_n(&img->watch->canceled, __ATOMIC_ACQUIRE);
}

bool img_interrupted(struct img *img, GError **error)
{
    return vireo_fail(error, VIREO_ERROR_FAILED, "interrupted%s", img->watch && img->watch->target ? "; the new image is removed" :
                      "; the image is consistent");
}
