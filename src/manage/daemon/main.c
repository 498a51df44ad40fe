/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vireod from start to end. */
#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "manage/core/manage_error.h"
#include "manage/daemon/daemon.h"

struct daemon {
    struct daemon_options options;
    struct daemon_config config;
    struct manage_state *state;
    struct server *server;
    char *config_path, *pid_path;
    int pid_fd, parent; /* parent: pipe to the process that waits for --daemon to be ready */
    GMainContext *context;
    GMainLoop *loop, *main_loop; /* the drivers' and the main thread's */
    GThread *loop_thread;
    bool ending;
};

/* ---- the drivers' loop ---- */

static gpointer run_loop(gpointer opaque)
{
    struct daemon *d = opaque;
    g_main_context_push_thread_default(d->context);
    g_main_loop_run(d->loop);
    g_main_context_pop_thread_default(d->context);
    return NULL;
}

static void start_loop(struct daemon *d)
{
    d->context = g_main_context_new();
    d->loop = g_main_loop_new(d->context, FALSE);
    d->loop_thread = g_thread_new("loop", run_loop, d);
}

static gboolean quit_loop(gpointer loop)
{
    g_main_loop_quit(loop);
    return G_SOURCE_REMOVE;
}

static void stop_loop(struct daemon *d)
{
    GSource *s = g_idle_source_new(); /* from inside: a loop that has not begun to run would miss the word */
    g_source_set_callback(s, quit_loop, d->loop, NULL);
    g_source_attach(s, d->context);
    g_source_unref(s);
    g_thread_join(d->loop_thread);
    g_main_loop_unref(d->loop);
    g_main_context_unref(d->context);
}

/* ---- process ---- */

static void no_action(int number) {}

/* SIGPIPE has a handler and is not ignored: programs that are started inherit what is ignored. */
static void prepare_process(void)
{
    struct sigaction a = { .sa_handler = no_action, .sa_flags = SA_RESTART };
    struct rlimit r;
    sigaction(SIGPIPE, &a, NULL);
    mallopt(M_ARENA_MAX, 4); /* not one per worker: each keeps what its biggest answer took */
    if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
        r.rlim_cur = MIN(r.rlim_max, 65536);
        setrlimit(RLIMIT_NOFILE, &r);
    }
}

/* The file is locked as long as the process lives: two daemons on the same directories would destroy each other's state. */
static bool take_pid_file(struct daemon *d, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(d->pid_path), *text = g_strdup_printf("%d\n", (int)getpid());
    if (g_mkdir_with_parents(dir, geteuid() == 0 ? 0755 : 0700) < 0)
        return manage_fail_errno(error, errno, "cannot make the directory '%s'", dir);
    d->pid_fd = open(d->pid_path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (d->pid_fd < 0)
        return manage_fail_errno(error, errno, "cannot write '%s'", d->pid_path);
    /* A process that a daemon was just making when it was killed holds its descriptors for a moment longer. */
    bool mine = flock(d->pid_fd, LOCK_EX | LOCK_NB) == 0;
    for (unsigned i = 0; !mine && i < 50; i++) {
        g_usleep(20000);
        mine = flock(d->pid_fd, LOCK_EX | LOCK_NB) == 0;
    }
    if (!mine)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "another vireod runs already: it holds '%s'", d->pid_path);
    if (ftruncate(d->pid_fd, 0) < 0 || write(d->pid_fd, text, strlen(text)) < 0)
        return manage_fail_errno(error, errno, "cannot write '%s'", d->pid_path);
    return true;
}

/* The parent waits until the child is ready, and ends with its word. */
static void go_to_background(struct daemon *d)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) {
        perror("vireod: cannot make a pipe");
        exit(1);
    }
    pid_t child = fork();
    if (child != 0) {
        char ready = 0;
        close(ends[1]);
        _exit(child > 0 && read(ends[0], &ready, 1) == 1 && ready ? 0 : 1);
    }
    close(ends[0]);
    setsid();
    d->parent = ends[1];
}

static void detach(struct daemon *d)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    char ready = 1;
    if (d->parent < 0)
        return;
    daemon_log_to_syslog();
    dup2(null, 0);
    dup2(null, 1);
    dup2(null, 2);
    close(null);
    (void)!write(d->parent, &ready, 1);
    close(d->parent);
}

/* sd_notify(3) */
static void tell_systemd(const char *text)
{
    const char *path = g_getenv("NOTIFY_SOCKET");
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    if (!path || g_strlcpy(a.sun_path, path, sizeof(a.sun_path)) >= sizeof(a.sun_path))
        return;
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    if (a.sun_path[0] == '@')
        a.sun_path[0] = 0;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        (void)!sendto(fd, text, strlen(text), MSG_NOSIGNAL, (const struct sockaddr *)&a, size);
        close(fd);
    }
}

/* ---- signals and time ---- */

static gboolean on_end(gpointer opaque)
{
    struct daemon *d = opaque;
    if (d->ending)
        _exit(1);
    d->ending = true;
    daemon_debug("ending");
    g_main_loop_quit(d->main_loop);
    return G_SOURCE_CONTINUE;
}

static gboolean on_reload(gpointer opaque)
{
    struct daemon *d = opaque;
    g_autoptr(GError) error = NULL;
    struct daemon_config config;
    if (!daemon_config_load(&config, d->config_path, false, d->state->privileged, &error))
        daemon_log("the configuration stays as it was: %s", error->message);
    else
        server_reload(d->server, &config);
    daemon_config_clear(&config);
    manage_state_reload(d->state);
    return G_SOURCE_CONTINUE;
}

/* Running domains need nobody to serve them, but their restarts and events do. */
static bool has_running_domains(struct daemon *d)
{
    const struct rpc_proc *p = rpc_proc(RPC_CONNECT_NUM_OF_DOMAINS);
    if (!manage_find(d->state, p->number))
        return false;
    struct manage_conn *conn = manage_conn_new(d->state);
    conn->open = true;
    g_autoptr(GVariant) args = g_variant_ref_sink(manage_void());
    struct manage_call call = { .conn = conn, .proc = p, .args = args };
    g_autoptr(GVariant) ret = manage_dispatch(&call, NULL);
    int n = 0;
    if (ret)
        g_variant_get(ret, "(i)", &n);
    manage_conn_unref(conn);
    return n > 0;
}

static void on_idle(void *opaque)
{
    struct daemon *d = opaque;
    if (has_running_domains(d))
        return;
    daemon_debug("nobody has needed this daemon for %d seconds", d->options.timeout);
    g_main_loop_quit(d->main_loop);
}

/* ---- start and end ---- */

static bool set_host_uuid(struct daemon *d, GError **error)
{
    uint8_t uuid[16];
    char text[37];
    if (!*d->config.host_uuid)
        return true;
    if (!manage_uuid_parse(d->config.host_uuid, uuid))
        return manage_fail(error, VIR_ERR_CONF_SYNTAX, "%s: host_uuid '%s' is no UUID", d->config_path, d->config.host_uuid);
    manage_uuid_format(uuid, text);
    d->state->host_uuid = g_strdup(text);
    return true;
}

static bool start(struct daemon *d, GError **error)
{
    bool privileged = geteuid() == 0;
    struct manage_dirs dirs;
    manage_dirs_find(&dirs, d->options.root, privileged);
    d->pid_path = d->options.pid_file ? g_strdup(d->options.pid_file) : g_build_filename(dirs.state, "vireod.pid", NULL);
    d->config_path = d->options.config ? g_strdup(d->options.config) : g_build_filename(dirs.config, "vireod.conf", NULL);
    manage_dirs_clear(&dirs);
    if (!daemon_config_load(&d->config, d->config_path, d->options.config != NULL, privileged, error) || !take_pid_file(d, error))
        return false;
    start_loop(d);
    d->main_loop = g_main_loop_new(NULL, FALSE);
    /* Before anybody can know of this process: they are answered when the loop runs. */
    g_unix_signal_add(SIGTERM, on_end, d);
    g_unix_signal_add(SIGINT, on_end, d);
    g_unix_signal_add(SIGHUP, on_reload, d);
    d->state = manage_state_new(&manage_table_host, d->options.root, d->context, error);
    if (!d->state || !set_host_uuid(d, error))
        return false;
    GPtrArray *listeners = daemon_listen(&d->state->dirs, &d->options, &d->config, privileged, error);
    if (!listeners)
        return false;
    d->server = server_new(d->state, &d->config, listeners);
    server_set_timeout(d->server, d->options.timeout, on_idle, d);
    return server_start(d->server, error);
}

static void run(struct daemon *d)
{
    detach(d);
    tell_systemd("READY=1");
    g_main_loop_run(d->main_loop);
    tell_systemd("STOPPING=1");
}

static void finish(struct daemon *d)
{
    server_free(d->server);
    manage_state_free(d->state);
    if (d->loop_thread)
        stop_loop(d);
    if (d->main_loop)
        g_main_loop_unref(d->main_loop);
    if (d->server) /* else it may be the other daemon's */
        unlink(d->pid_path);
    if (d->pid_fd >= 0)
        close(d->pid_fd);
    daemon_config_clear(&d->config);
    g_free(d->config_path);
    g_free(d->pid_path);
    daemon_options_free(&d->options);
}

int main(int argc, char **argv)
{
    struct daemon d = { .pid_fd = -1, .parent = -1 };
    g_autoptr(GError) error = NULL;
    int code;
    daemon_options_parse(argc, argv, &d.options, &code);
    if (code >= 0) {
        daemon_options_free(&d.options);
        return code;
    }
    daemon_log_init(d.options.verbose);
    prepare_process();
    d.options.inherited = daemon_inherited();
    if (d.options.daemonize)
        go_to_background(&d);
    bool ok = start(&d, &error);
    if (ok)
        run(&d);
    else
        daemon_log("%s", error->message);
    finish(&d);
    return ok ? 0 : 1;
}
