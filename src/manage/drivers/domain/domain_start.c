/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A machine's process is made: live document, directory, status file, log, process, monitor, vCPUs. The status file is on disk before the process exists, so
 * that a daemon that is killed in between finds the process again (domain_reattach.c). What fails undoes all of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <json-c/json.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "manage/drivers/domain/domain.h"
#include "manage/drivers/domain/tune/domain_tune.h"

enum { MONITOR_WAIT_MS = 30000, LAST_WORDS = 4096 };

/* ---- directory and monitor's socket ---- */

static bool make_dir(struct domain *d, int id, GError **error)
{
    const char *end = d->name;
    while (*end && end - d->name < 20)
        end = g_utf8_next_char(end);
    char *dir = g_strdup_printf("%s/domain-%d-%.*s", d->driver->state_dir, id, (int)(end - d->name), d->name);
    g_mutex_lock(&d->lock);
    g_free(d->dir);
    d->dir = dir;
    g_mutex_unlock(&d->lock);
    if (g_mkdir_with_parents(dir, 0700) < 0)
        return manage_fail_errno(error, errno, "cannot make the directory '%s'", dir);
    return true;
}

/* A listening socket: who connects waits in its queue until the machine is there, and is told when it is not. */
static int listen_monitor(struct domain *d, GError **error)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int at = open(d->dir, O_PATH | O_DIRECTORY | O_CLOEXEC), fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/monitor.sock", at);
    bool ok = at >= 0 && fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(fd, 1) == 0;
    int err = errno;
    if (at >= 0)
        close(at);
    if (ok)
        return fd;
    if (fd >= 0)
        close(fd);
    manage_fail_errno(error, err, "cannot listen on '%s/monitor.sock'", d->dir);
    return -1;
}

/* ---- log ---- */

/* As a shell would take it, with the variables that the document sets. */
static char *quoted(struct domain *d, GPtrArray *argv)
{
    GString *s = g_string_new(NULL);
    el_each(own, el_find(doc_root(d->live), "qemu:commandline"), "qemu:env") {
        g_autofree char *q = g_shell_quote(el_get_or(own, "@value", ""));
        g_string_append_printf(s, "%s=%s \\\n", el_get(own, "@name"), q);
    }
    for (unsigned i = 0; i < argv->len && argv->pdata[i]; i++) {
        const char *word = argv->pdata[i];
        bool plain = *word && strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=,./:+@%") == strlen(word);
        g_autofree char *q = plain ? g_strdup(word) : g_shell_quote(word);
        g_string_append_printf(s, "%s%s", i == 0 ? "" : word[0] == '-' ? " \\\n" : " ", q);
    }
    return g_string_free(s, FALSE);
}

static char *log_path(struct domain *d) { return g_strdup_printf("%s/%s.log", d->driver->log_dir, d->name); }

static void log_line(struct domain *d, int fd, const char *format, const char *detail)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *date = g_date_time_format(now, "%Y-%m-%d %H:%M:%S"), *text = g_strdup_printf(format, detail);
    int usec = g_date_time_get_microsecond(now);
    dprintf(fd, "%s.%03d+0000: %s\n", date, usec / 1000, text);
}

void domain_log(struct domain *d, const char *text)
{
    g_autofree char *path = log_path(d);
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return;
    log_line(d, fd, "%s", text);
    close(fd);
}

/* Opens the log, with the command line in it; *ret_at: where the machine's own words begin. */
static int open_log(struct domain *d, GPtrArray *argv, off_t *ret_at, GError **error)
{
    g_autofree char *path = log_path(d), *line = quoted(d, argv);
    if (g_mkdir_with_parents(d->driver->log_dir, 0711) < 0)
        return manage_fail_errno(error, errno, "cannot make the directory '%s'", d->driver->log_dir), -1;
    int fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return manage_fail_errno(error, errno, "cannot write the log '%s'", path), -1;
    log_line(d, fd, "starting up\n%s", line);
    *ret_at = lseek(fd, 0, SEEK_END);
    return fd;
}

/* The end of what the machine wrote to its log since `at`. */
static char *last_words(int log, off_t at)
{
    char text[LAST_WORDS + 1];
    off_t size = lseek(log, 0, SEEK_END), from = MAX(at, size - LAST_WORDS);
    ssize_t n = size > from ? pread(log, text, (size_t)(size - from), from) : 0;
    text[MAX(n, 0)] = '\0';
    char *valid = g_utf8_make_valid(text, -1);
    return g_strstrip(valid);
}

/* ---- process ---- */

static char **environment(struct domain *d)
{
    static const char *const kept[] = { "HOME", "USER", "LOGNAME", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME" };
    char **env = g_environ_setenv(NULL, "PATH", g_getenv("PATH") ? g_getenv("PATH") : "/usr/sbin:/usr/bin:/sbin:/bin", TRUE);
    env = g_environ_setenv(env, "LC_ALL", "C", TRUE);
    for (unsigned i = 0; i < G_N_ELEMENTS(kept); i++)
        if (g_getenv(kept[i]))
            env = g_environ_setenv(env, kept[i], g_getenv(kept[i]), TRUE);
    el_each(own, el_find(doc_root(d->live), "qemu:commandline"), "qemu:env")
        env = g_environ_setenv(env, el_get(own, "@name"), el_get_or(own, "@value", ""), TRUE);
    return g_environ_setenv(env, "VIREO_DOMAIN", d->dir, TRUE); /* by which a new daemon knows it */
}

/* In a session of its own, with no descriptor but these. */
static pid_t spawn(struct domain *d, const struct domain_command *cmd, int log, int monitor, GError **error)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none, all;
    pid_t pid = -1;
    g_auto(GStrv) env = environment(d);
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, log, 1);
    posix_spawn_file_actions_adddup2(&files, log, 2);
    posix_spawn_file_actions_adddup2(&files, monitor, monitor); /* the same number: it stays open */
    for (unsigned i = 0; i < cmd->fds->len; i++)
        posix_spawn_file_actions_adddup2(&files, g_array_index(cmd->fds, int, i), g_array_index(cmd->fds, int, i));
    int err = posix_spawn(&pid, cmd->argv->pdata[0], &files, &attr, (char **)cmd->argv->pdata, env);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attr);
    if (err)
        manage_fail_errno(error, err, "cannot run the emulator '%s' of domain '%s'", (char *)cmd->argv->pdata[0], d->name);
    return err ? -1 : pid;
}

/* What the life cycle itself asks of the machine. */
static void add_arguments(struct domain_command *cmd, const struct doc *live, int monitor, bool incoming)
{
    const struct el *r = doc_root(live);
    GPtrArray *a = cmd->argv;
    while (a->len && !a->pdata[a->len - 1])
        g_ptr_array_set_size(a, (int)a->len - 1); /* the NULL at its end */
    g_ptr_array_add(a, g_strdup("-S"));
    g_ptr_array_add(a, g_strdup("-no-shutdown"));
    if (el_is(r, "on_reboot", "destroy") && !el_is(r, "on_poweroff", "restart")) /* -no-reboot knows no difference */
        g_ptr_array_add(a, g_strdup("-no-reboot"));
    if (incoming) {
        g_ptr_array_add(a, g_strdup("-incoming"));
        g_ptr_array_add(a, g_strdup("defer"));
    }
    g_ptr_array_add(a, g_strdup("-chardev"));
    g_ptr_array_add(a, g_strdup_printf("socket,id=charmonitor,fd=%d,server=on,wait=off", monitor));
    g_ptr_array_add(a, g_strdup("-mon"));
    g_ptr_array_add(a, g_strdup("chardev=charmonitor,id=monitor,mode=control"));
    g_ptr_array_add(a, NULL);
}

uint64_t domain_pid_start(pid_t pid)
{
    char path[32];
    g_autofree char *text = NULL;
    g_snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    if (pid <= 0 || !g_file_get_contents(path, &text, NULL, NULL))
        return 0;
    const char *at = strrchr(text, ')'); /* the name before it may contain anything */
    if (!at || (at[1] && (at[2] == 'Z' || at[2] == 'X')))
        return 0;
    for (unsigned field = 2; at && field < 22; field++) /* ')' ends field 2 */
        at = strchr(at + 1, ' ');
    return at ? g_ascii_strtoull(at + 1, NULL, 10) : 0;
}

/* Waits a second for the end of a child that has just closed its monitor: how it ended; NULL: it lives. */
static char *how_it_ended(struct domain *d)
{
    int status = 0;
    pid_t got = 0;
    for (unsigned i = 0; i < 100 && (got = waitpid(d->pid, &status, WNOHANG)) == 0; i++)
        g_usleep(10000);
    if (got == 0)
        return NULL;
    g_mutex_lock(&d->lock);
    d->pid = 0; /* the number may be another's by now */
    g_mutex_unlock(&d->lock);
    return got < 0 ? g_strdup("no exit status") : WIFEXITED(status) ? g_strdup_printf("exit status %d", WEXITSTATUS(status)) :
           g_strdup_printf("signal %d, %s", WTERMSIG(status), strsignal(WTERMSIG(status)));
}

/* Nothing comes from the machine: where the process has ended, its last words say more than the monitor's error does. */
static bool explain(struct domain *d, int log, off_t at, GError *e, GError **error)
{
    g_autofree char *how = how_it_ended(d), *words = last_words(log, at), *file = log_path(d);
    if (!how)
        return manage_fail(error, manage_error_code(e), "domain '%s': %s; see '%s'", d->name, e->message, file);
    if (*words)
        return manage_fail(error, VIR_ERR_INTERNAL_ERROR, "the emulator of domain '%s' ended at once (%s): %s", d->name, how, words);
    return manage_fail(error, VIR_ERR_INTERNAL_ERROR, "the emulator of domain '%s' ended at once (%s) without a word; see '%s'", d->name, how, file);
}

/* ---- steps ---- */

/* The process exists: from here to its monitor. */
static bool meet(struct domain *d, pid_t pid, int log, off_t at, GError **error)
{
    g_autoptr(GError) e = NULL;
    g_autofree char *path = g_build_filename(d->dir, "monitor.sock", NULL);
    g_mutex_lock(&d->lock);
    d->pid = pid;
    d->pid_start = domain_pid_start(pid);
    g_mutex_unlock(&d->lock);
    if (!domain_write_status(d, error) || !domain_tune_process(d, error))
        return false;
    struct monitor *m = monitor_open(d, path, MONITOR_WAIT_MS, domain_on_event, &e);
    if (!m)
        return explain(d, log, at, e, error);
    g_mutex_lock(&d->lock);
    d->monitor = m;
    g_mutex_unlock(&d->lock);
    return domain_watch(d) || manage_fail(error, VIR_ERR_OPERATION_FAILED, "the emulator of domain '%s' ended at once", d->name);
}

/* log: open, with the machine's own words from *ret_at on, to be closed by the caller; -1: none. */
static bool run_machine(struct domain *d, struct domain_command *cmd, bool incoming, int *ret_log, off_t *ret_at, GError **error)
{
    int monitor = listen_monitor(d, error);
    *ret_log = -1;
    if (monitor < 0)
        return false;
    add_arguments(cmd, d->live, monitor, incoming);
    int log = *ret_log = open_log(d, cmd->argv, ret_at, error);
    pid_t pid = log < 0 ? -1 : spawn(d, cmd, log, monitor, error);
    close(monitor); /* the machine's copy alone: its end is seen at once */
    return pid > 0 && meet(d, pid, log, *ret_at, error);
}

/* The state that it begins with. A machine that cannot use it ends, with a word about it. */
static bool take_in(struct domain *d, const struct domain_incoming *in, int log, off_t at, GError **error)
{
    g_autoptr(GError) e = NULL;
    domain_read_ptys(d); /* before: what the guest has open is told while it is read */
    if ((in->uri || in->fd >= 0) && !domain_take_state(d, in->uri, in->fd, &e))
        return explain(d, log, at, e, error);
    g_mutex_lock(&d->lock);
    d->balloon_kib = d->memory_kib;
    g_mutex_unlock(&d->lock);
    return !in->loaded || in->loaded(d, in->opaque, error);
}

/* The memory that the guest is to have now, where that is less than it may have. */
static void set_balloon(struct domain *d)
{
    g_autoptr(GError) error = NULL;
    g_mutex_lock(&d->lock);
    uint64_t now = d->memory_kib, max = d->max_kib;
    d->balloon_kib = max;
    g_mutex_unlock(&d->lock);
    if (now >= max)
        return;
    struct json_object *args = json_object_new_object();
    json_object_object_add(args, "value", json_object_new_int64((int64_t)(now << 10)));
    struct json_object *o = monitor_command(d, "balloon", args, &error);
    json_object_put(o); /* without a balloon it keeps all: not an error */
}

/* What clients are told of a start, by where the machine's state is from. */
static const struct start_told {
    uint32_t flag;
    int started, suspended, resumed; /* details of events; resumed < 0: not told */
    int running, paused;             /* reasons */
} told[] = {
    { DOMAIN_START_RESTORED, VIR_DOMAIN_EVENT_STARTED_RESTORED, VIR_DOMAIN_EVENT_SUSPENDED_RESTORED, VIR_DOMAIN_EVENT_RESUMED_FROM_SNAPSHOT, VIR_DOMAIN_RUNNING_RESTORED, VIR_DOMAIN_PAUSED_USER },
    { DOMAIN_START_FROM_SNAPSHOT, VIR_DOMAIN_EVENT_STARTED_FROM_SNAPSHOT, VIR_DOMAIN_EVENT_SUSPENDED_PAUSED, -1, VIR_DOMAIN_RUNNING_BOOTED, VIR_DOMAIN_PAUSED_USER },
    { 0, VIR_DOMAIN_EVENT_STARTED_BOOTED, VIR_DOMAIN_EVENT_SUSPENDED_PAUSED, -1, VIR_DOMAIN_RUNNING_BOOTED, VIR_DOMAIN_PAUSED_USER },
};

static bool let_run(struct domain *d, uint32_t flags, GError **error)
{
    const struct start_told *t = told;
    while (t->flag && !(flags & t->flag))
        t++;
    if (flags & VIR_DOMAIN_START_PAUSED) {
        domain_set_state(d, VIR_DOMAIN_PAUSED, t->paused, VIR_DOMAIN_EVENT_STARTED, t->started);
        domain_event(d, VIR_DOMAIN_EVENT_SUSPENDED, t->suspended);
        return true;
    }
    /* Before `cont`: a machine that ends at once is not to be called running afterwards. */
    domain_set_state(d, VIR_DOMAIN_RUNNING, t->running, VIR_DOMAIN_EVENT_STARTED, t->started);
    struct json_object *o = monitor_command(d, "cont", NULL, error);
    json_object_put(o);
    if (o && t->resumed >= 0)
        domain_event(d, VIR_DOMAIN_EVENT_RESUMED, t->resumed);
    return o != NULL;
}

/* A machine that boots. */
static void first_words(struct domain *d)
{
    domain_read_ptys(d);
    set_balloon(d);
}

/* Everything that start needs before the process exists. */
static struct domain_command *prepare(struct domain *d, struct doc *live, GError **error)
{
    int id = g_atomic_int_add(&d->driver->next_id, 1) + 1;
    el_setf(doc_root(live), "@id", "%d", id);
    struct domain_run *run = g_new0(struct domain_run, 1);
    run->pidfd = -1;
    g_mutex_lock(&d->lock);
    d->live = live;
    d->run = run;
    d->pid = 0;
    d->pid_start = 0;
    d->nodes = 0;
    d->state = VIR_DOMAIN_PAUSED;
    d->reason = VIR_DOMAIN_PAUSED_STARTING_UP;
    d->started = g_get_real_time();
    d->updated = false;
    domain_summary_locked(d, live);
    g_mutex_unlock(&d->lock);
    domain_set_id(d, id);
    struct domain_command *cmd = make_dir(d, id, error) ? domain_command_new(d, live, error) : NULL;
    if (!cmd)
        return NULL;
    run->is_vireo = cmd->is_vireo;
    run->networks = g_ptr_array_new_with_free_func(g_free); /* domain_stop() detaches them: from here on they are not the command's */
    run->taps = g_ptr_array_new_with_free_func(g_free);
    for (unsigned i = 0; cmd->networks && i < cmd->networks->len; i++)
        g_ptr_array_add(run->networks, g_strdup(cmd->networks->pdata[i]));
    for (unsigned i = 0; cmd->taps && i < cmd->taps->len; i++)
        g_ptr_array_add(run->taps, g_strdup(cmd->taps->pdata[i]));
    if (cmd->networks)
        g_ptr_array_set_size(cmd->networks, 0);
    if (domain_write_status(d, error))
        return cmd;
    domain_command_free(cmd);
    return NULL;
}

bool domain_start(struct domain *d, struct manage_call *c, uint32_t flags, GError **error)
{
    struct doc *live = domain_definition(d, error);
    return live && domain_start_document(d, live, c, flags, error);
}

bool domain_start_document(struct domain *d, struct doc *live, struct manage_call *c, uint32_t flags, GError **error)
{
    return domain_start_incoming(d, live, c, flags, NULL, error);
}

bool domain_start_incoming(struct domain *d, struct doc *live, struct manage_call *c, uint32_t flags, const struct domain_incoming *in, GError **error)
{
    struct domain_command *cmd = prepare(d, live, error);
    int log = -1;
    off_t at = 0;
    bool ok = cmd && run_machine(d, cmd, in != NULL, &log, &at, error) && domain_command_after(d, cmd->after, error);
    if (ok)
        domain_read_vnc(d);
    if (cmd)
        domain_command_free(cmd); /* the process has its own copies of the descriptors */
    if (ok && (flags & VIR_DOMAIN_START_AUTODESTROY) && c) {
        g_mutex_lock(&d->lock);
        d->autodestroy = true;
        d->owner = c->conn->id;
        g_mutex_unlock(&d->lock);
    }
    ok = ok && domain_vcpus_start(d, error) && domain_tune_threads(d, error) && (!in || take_in(d, in, log, at, error));
    if (ok && !in)
        first_words(d);
    ok = ok && (flags & DOMAIN_START_HELD || let_run(d, flags, error));
    if (log >= 0)
        close(log);
    if (!ok)
        domain_stop(d, VIR_DOMAIN_SHUTOFF_FAILED);
    return ok;
}
