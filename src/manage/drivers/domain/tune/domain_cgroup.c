/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Groups are found, made, filled and taken away (domain_cgroup.h). */
#include "manage/drivers/domain/tune/domain_cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manage/core/manage.h"
#include "manage/core/manage_error.h"

enum { NAME_MAX_BYTES = 64, REMOVE_TRIES = 100, THREADED = 1 << CGROUP_CPU | 1 << CGROUP_CPUACCT | 1 << CGROUP_CPUSET };

static const struct {
    const char *v1, *v2; /* v2 NULL: always there */
} names[CGROUP_NCONTROLLERS] = { { "cpu", "cpu" }, { "cpuacct", NULL }, { "cpuset", "cpuset" }, { "memory", "memory" }, { "blkio", "io" } };

const char *cgroup_controller_name(enum cgroup_controller c) { return names[c].v1; }

/* ---- the host ---- */

/* "1:cpu,cpuacct:/a/b", v2 "0::/a/b": the daemon's own group of a controller; NULL: not in the list. Free it. */
static char *own_group(char **lines, const char *controller)
{
    for (char **l = lines; *l; l++) {
        char *list = strchr(*l, ':'), *path = list ? strchr(list + 1, ':') : NULL;
        if (!path || path[1] != '/')
            continue;
        g_autofree char *text = g_strndup(list + 1, (gsize)(path - list - 1));
        g_auto(GStrv) words = g_strsplit(text, ",", 32);
        if (controller ? g_strv_contains((const char *const *)words, controller) : !*text)
            return g_strdup(path + 1);
    }
    return NULL;
}

/* A service's or session's own unit is not for others: what it starts is to outlive it. A container's group is a limit that holds for its machines, too. */
static void leave_units(char *path)
{
    static const char *const units[] = { ".service", ".scope", ".slice", ".socket" };
    for (char *slash; (slash = strrchr(path, '/')) && slash[1];) {
        bool unit = false;
        for (unsigned i = 0; i < G_N_ELEMENTS(units); i++)
            unit |= g_str_has_suffix(slash, units[i]);
        if (!unit && strcmp(slash, "/init")) /* where managers of cgroup v2 put themselves, beside their groups */
            break;
        *slash = '\0';
    }
    if (g_str_equal(path, "/"))
        *path = '\0';
}

/* What mountinfo writes as \040 (proc(5)). */
static void unescape(char *s)
{
    char *to = s;
    for (; *s; s++)
        if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' && s[3] >= '0' && s[3] <= '7') {
            *to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
            s += 3;
        } else {
            *to++ = *s;
        }
    *to = '\0';
}

static void set_place(struct cgroup_host *h, unsigned c, const char *root, const char *mount, const char *top, const char *own, bool v2)
{
    g_autofree char *path = g_strdup(own ? own : "/");
    gsize n = strlen(top);
    if (n > 1 && !strncmp(path, top, n) && (!path[n] || path[n] == '/'))
        memmove(path, path + n, strlen(path + n) + 1); /* the mount shows a part of the tree only */
    if (strstr(path, "/.."))
        *path = '\0';
    leave_units(path);
    g_free(h->at[c].base);
    h->at[c].base = g_strconcat(root, mount, path, NULL);
    h->at[c].v2 = v2;
}

/* One line of mountinfo: "ID PARENT DEV ROOT MOUNT OPTIONS [more] - TYPE SOURCE SUPER". v1 has a mount for some controllers, v2 one for all that no v1 has. */
static void read_mount(struct cgroup_host *h, const char *root, const char *line, char **own)
{
    g_auto(GStrv) halves = g_strsplit(line, " - ", 2), left = g_strsplit(halves[0] ? halves[0] : "", " ", -1);
    if (!halves[0] || !halves[1] || g_strv_length(left) < 6)
        return;
    g_auto(GStrv) right = g_strsplit(halves[1], " ", 3);
    if (g_strv_length(right) < 3)
        return;
    unescape(left[3]);
    unescape(left[4]);
    bool v2 = g_str_equal(right[0], "cgroup2");
    if (!v2 && !g_str_equal(right[0], "cgroup"))
        return;
    g_auto(GStrv) options = g_strsplit(right[2], ",", -1);
    g_autofree char *mine = v2 ? own_group(own, NULL) : NULL, *file = g_strconcat(root, left[4], "/cgroup.controllers", NULL), *text = NULL;
    if (v2 && !g_file_get_contents(file, &text, NULL, NULL))
        return;
    g_auto(GStrv) words = g_strsplit_set(text ? text : "", " \n", -1);
    bool useful = false;
    for (unsigned c = 0; c < CGROUP_NCONTROLLERS; c++) {
        if (!v2 && g_strv_contains((const char *const *)options, names[c].v1)) {
            g_autofree char *group = own_group(own, names[c].v1);
            set_place(h, c, root, left[4], left[3], group, false);
        } else if (v2 && names[c].v2 && !h->at[c].base && g_strv_contains((const char *const *)words, names[c].v2)) {
            set_place(h, c, root, left[4], left[3], mine, true);
            useful = true;
        }
    }
    if (useful && !h->at[CGROUP_CPUACCT].base)
        set_place(h, CGROUP_CPUACCT, root, left[4], left[3], mine, true);
}

struct cgroup_host *cgroup_host_new(const char *root)
{
    struct cgroup_host *h = g_atomic_rc_box_new0(struct cgroup_host);
    g_autofree char *mounts = g_strconcat(root, "/proc/self/mountinfo", NULL), *groups = g_strconcat(root, "/proc/self/cgroup", NULL), *text = NULL, *own = NULL;
    if (!g_file_get_contents(mounts, &text, NULL, NULL) || !g_file_get_contents(groups, &own, NULL, NULL))
        return h;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1), own_lines = g_strsplit(own, "\n", -1);
    for (unsigned pass = 0; pass < 2; pass++) /* v1 first: it has what it has mounted for itself */
        for (char **l = lines; *l; l++)
            if ((strstr(*l, " - cgroup2 ") != NULL) == pass)
                read_mount(h, root, *l, own_lines);
    return h;
}

static void host_clear(struct cgroup_host *h)
{
    for (unsigned c = 0; c < CGROUP_NCONTROLLERS; c++)
        g_free(h->at[c].base);
}

void cgroup_host_unref(struct cgroup_host *h)
{
    if (h)
        g_atomic_rc_box_release_full(h, (GDestroyNotify)host_clear);
}

/* The first controller of each hierarchy stands for it. */
static bool leads(const struct cgroup_host *h, unsigned c, unsigned among)
{
    if (!h->at[c].base || !(among & 1u << c))
        return false;
    for (unsigned o = 0; o < c; o++)
        if ((among & 1u << o) && h->at[o].base && g_str_equal(h->at[o].base, h->at[c].base))
            return false;
    return true;
}

/* ---- names ---- */

char *cgroup_machine_name(int id, const char *name, const char *salt)
{
    g_autoptr(GString) s = g_string_new(NULL);
    g_string_append_printf(s, "qemu-%d-", id);
    for (; *name && s->len < NAME_MAX_BYTES; name++)
        if (g_ascii_isalnum(*name) || strchr("-._", *name))
            g_string_append_c(s, *name);
    if (salt)
        g_string_append_printf(s, "-%s", salt);
    g_string_append(s, ".libvirt-qemu");
    return g_strdup(s->str);
}

char *cgroup_partition_path(const char *partition)
{
    static const char *const plain[] = { "machine", "user", "system" };
    g_auto(GStrv) parts = g_strsplit(partition, "/", -1);
    g_autoptr(GString) s = g_string_new(NULL);
    for (char **p = parts; *p; p++) {
        bool top = !s->len, known = g_str_has_suffix(*p, ".slice") || g_str_has_suffix(*p, ".partition");
        if (!**p || g_str_equal(*p, ".") || g_str_equal(*p, ".."))
            continue;
        for (unsigned i = 0; i < G_N_ELEMENTS(plain); i++)
            known |= top && g_str_equal(*p, plain[i]);
        g_string_append_printf(s, "%s%s%s", top ? "" : "/", *p, known ? "" : ".partition");
    }
    return g_strdup(s->str);
}

/* ---- files ---- */

static char *path_of(const struct cgroup *g, unsigned c, const char *child, const char *file)
{
    const char *base = g->host->at[c].base;
    return child ? g_build_filename(base, g->path, child, file, NULL) : g_build_filename(base, g->path, file, NULL);
}

static char *child_name(unsigned c, const char *child) { return THREADED & 1u << c ? (char *)child : NULL; }

static bool write_file(const char *path, const char *value)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool ok = write(fd, value, strlen(value)) == (ssize_t)strlen(value);
    int err = errno;
    close(fd);
    errno = err;
    return ok;
}

static char *read_file(const char *path)
{
    char small[2048], *text = NULL;
    gssize n = manage_read_small(path, small, sizeof(small));
    if (n >= 0 && n < (gssize)sizeof(small) - 1)
        return g_strchomp(g_strdup(small));
    return g_file_get_contents(path, &text, NULL, NULL) ? g_strchomp(text) : NULL;
}

char *cgroup_read(const struct cgroup *g, const char *child, enum cgroup_controller c, const char *file)
{
    if (!cgroup_has(g, c))
        return NULL;
    g_autofree char *path = path_of(g, c, child_name(c, child), file);
    return read_file(path);
}

bool cgroup_write(const struct cgroup *g, const char *child, enum cgroup_controller c, const char *file, const char *value, GError **error)
{
    if (!cgroup_has(g, c))
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "cgroup %s controller is not mounted", names[c].v1);
    g_autofree char *path = path_of(g, c, child_name(c, child), file);
    return write_file(path, value) || manage_fail_errno(error, errno, "cannot write '%s' to '%s'", value, path);
}

bool cgroup_has(const struct cgroup *g, enum cgroup_controller c) { return g && (g->have & 1u << c); }
bool cgroup_is_v2(const struct cgroup *g, enum cgroup_controller c) { return g->host->at[c].v2; }

/* ---- making ---- */

/* A new v1 cpuset has nothing in it and takes nobody: it begins as its parent is. */
static void inherit_cpuset(const char *dir)
{
    static const char *const files[] = { "cpuset.cpus", "cpuset.mems" };
    for (unsigned i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *mine = g_build_filename(dir, files[i], NULL), *theirs = g_build_filename(dir, "..", files[i], NULL), *have = read_file(mine);
        g_autofree char *parent = have && !*have ? read_file(theirs) : NULL;
        if (parent && *parent && !write_file(mine, parent))
            g_debug("%s: %s", mine, g_strerror(errno));
    }
}

/* Controllers of v2 are handed down from each group to those in it. What the parent does not have is left out. */
static void hand_down(const char *dir, bool threaded)
{
    g_autofree char *have = g_build_filename(dir, "cgroup.controllers", NULL), *to = g_build_filename(dir, "cgroup.subtree_control", NULL), *text = read_file(have);
    g_auto(GStrv) words = g_strsplit(text ? text : "", " ", -1);
    for (unsigned c = 0; c < CGROUP_NCONTROLLERS; c++) {
        g_autofree char *word = g_strconcat("+", names[c].v2 ? names[c].v2 : "", NULL);
        if (names[c].v2 && (!threaded || (THREADED & 1u << c)) && g_strv_contains((const char *const *)words, names[c].v2) && !write_file(to, word))
            g_debug("%s: %s: %s", to, word, g_strerror(errno));
    }
}

static bool make_dir(const struct cgroup_place *at, const char *dir)
{
    if (mkdir(dir, 0755) < 0 && errno != EEXIST)
        return false;
    if (!at->v2)
        inherit_cpuset(dir);
    return true;
}

/* The partition in one hierarchy: "machine" is made, others must be there. */
static bool make_partition(const struct cgroup_place *at, const char *partition)
{
    g_autofree char *dir = g_build_filename(at->base, partition, NULL);
    if (at->v2)
        hand_down(at->base, false);
    bool ok = g_str_equal(partition, "machine") ? make_dir(at, dir) : g_file_test(dir, G_FILE_TEST_IS_DIR) || (errno = ENOENT, false);
    if (ok && at->v2)
        hand_down(dir, false);
    return ok;
}

static bool occupied(const char *dir)
{
    g_autofree char *procs = g_build_filename(dir, "cgroup.procs", NULL), *text = read_file(procs);
    return text && *text;
}

/* Those that one hierarchy gives to a group: the ones mounted there, on v2 those that were handed down. */
static unsigned given(const struct cgroup *g, unsigned lead, unsigned among)
{
    const struct cgroup_place *at = &g->host->at[lead];
    g_autofree char *file = at->v2 ? path_of(g, lead, NULL, "cgroup.controllers") : NULL, *text = file ? read_file(file) : NULL;
    g_auto(GStrv) words = g_strsplit(text ? text : "", " ", -1);
    unsigned have = 0;
    for (unsigned c = 0; c < CGROUP_NCONTROLLERS; c++)
        if ((among & 1u << c) && g->host->at[c].base && g_str_equal(g->host->at[c].base, at->base) &&
            (!at->v2 || !names[c].v2 || g_strv_contains((const char *const *)words, names[c].v2)))
            have |= 1u << c;
    return have;
}

/* In one hierarchy; false with error: what must not be overlooked. Where we may not, the controllers are left out. */
static bool make_in(struct cgroup *g, unsigned c, const char *partition, const char *wanted, GError **error)
{
    const struct cgroup_place *at = &g->host->at[c];
    g_autofree char *dir = path_of(g, c, NULL, NULL), *child = path_of(g, c, "emulator", NULL);
    if (!make_partition(at, partition)) {
        if (errno != ENOENT || g_str_equal(partition, "machine"))
            return true;
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the resource partition '%s' is not there: make the directory '%s/%s'", wanted, at->base, partition);
    }
    bool made = make_dir(at, dir);
    for (unsigned i = 0; !made && errno == ENOENT && i < 10; i++) /* another machine's end took the partition with it */
        made = make_partition(at, partition) && make_dir(at, dir);
    if (!made)
        return true;
    if (occupied(dir) || occupied(child))
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "the control group '%s' is in use by other processes: is there a machine of another daemon with this number and name?", dir);
    g->have |= given(g, c, ~0u);
    return true;
}

static struct cgroup *group_new(struct cgroup_host *h, const char *partition, const char *name)
{
    struct cgroup *g = g_atomic_rc_box_new0(struct cgroup);
    g->host = g_atomic_rc_box_acquire(h);
    g->path = g_build_filename(partition, name, NULL);
    return g;
}

struct cgroup *cgroup_make(struct cgroup_host *h, const char *wanted, const char *name, GError **error)
{
    g_autofree char *partition = cgroup_partition_path(wanted);
    struct cgroup *g = group_new(h, partition, name);
    bool ok = true;
    for (unsigned c = 0; ok && c < CGROUP_NCONTROLLERS; c++)
        if (leads(h, c, ~0u))
            ok = make_in(g, c, partition, wanted, error);
    ok = ok && g->have && cgroup_make_child(g, "emulator", error);
    if (ok)
        return g;
    if (g->have)
        cgroup_remove(g);
    cgroup_unref(g);
    return NULL;
}

struct cgroup *cgroup_open(struct cgroup_host *h, const char *wanted, const char *name)
{
    g_autofree char *partition = cgroup_partition_path(wanted);
    struct cgroup *g = group_new(h, partition, name);
    for (unsigned c = 0; c < CGROUP_NCONTROLLERS; c++) {
        g_autofree char *dir = h->at[c].base ? path_of(g, c, NULL, NULL) : NULL;
        if (dir && leads(h, c, ~0u) && g_file_test(dir, G_FILE_TEST_IS_DIR))
            g->have |= given(g, c, ~0u);
    }
    if (g->have)
        return g;
    cgroup_unref(g);
    return NULL;
}

struct cgroup *cgroup_ref(struct cgroup *g) { return g ? g_atomic_rc_box_acquire(g) : NULL; }

static void group_clear(struct cgroup *g)
{
    cgroup_host_unref(g->host);
    g_free(g->path);
}

void cgroup_unref(struct cgroup *g)
{
    if (g)
        g_atomic_rc_box_release_full(g, (GDestroyNotify)group_clear);
}

bool cgroup_make_child(struct cgroup *g, const char *child, GError **error)
{
    for (unsigned c = 0; c < CGROUP_NCONTROLLERS; c++) {
        if (!(g->have & 1u << c) || !leads(g->host, c, g->have & THREADED))
            continue;
        g_autofree char *dir = path_of(g, c, child, NULL), *type = path_of(g, c, child, "cgroup.type"), *above = path_of(g, c, NULL, NULL);
        if (!make_dir(&g->host->at[c], dir))
            return manage_fail_errno(error, errno, "cannot make the control group '%s'", dir);
        if (!g->host->at[c].v2)
            continue;
        g_autofree char *now = read_file(type);
        if (g_strcmp0(now, "threaded") && !write_file(type, "threaded"))
            return manage_fail_errno(error, errno, "the control group '%s' cannot hold single threads", dir);
        hand_down(above, true);
    }
    return true;
}

/* ---- members ---- */

static bool add(struct cgroup *g, unsigned c, const char *child, bool thread, pid_t pid, GError **error)
{
    const char *file = !thread ? "cgroup.procs" : g->host->at[c].v2 ? "cgroup.threads" : "tasks";
    g_autofree char *path = path_of(g, c, child, file), *text = g_strdup_printf("%d", (int)pid);
    return write_file(path, text) || errno == ESRCH || /* it has ended: who follows it says more */
           manage_fail_errno(error, errno, "cannot put process %d into the control group '%s'", (int)pid, path);
}

bool cgroup_add_process(struct cgroup *g, const char *child, pid_t pid, GError **error)
{
    for (unsigned c = 0; c < CGROUP_NCONTROLLERS; c++) {
        if ((g->have & 1u << c) && leads(g->host, c, g->have) && !add(g, c, child_name(c, child), false, pid, error))
            return false;
    }
    return true;
}

bool cgroup_add_thread(struct cgroup *g, const char *child, pid_t tid, GError **error)
{
    for (unsigned c = 0; c < CGROUP_NCONTROLLERS; c++)
        if ((g->have & 1u << c) && leads(g->host, c, g->have & THREADED) && !add(g, c, child, true, tid, error))
            return false;
    return true;
}

/* ---- the end ---- */

static bool remove_dir(const char *dir)
{
    for (unsigned i = 0; i < REMOVE_TRIES; i++) {
        if (rmdir(dir) == 0 || errno == ENOENT)
            return true;
        if (errno != EBUSY)
            return false;
        g_usleep(10000); /* its last thread is on the way out */
    }
    return false;
}

static void remove_children(const char *dir)
{
    g_autoptr(GDir) d = g_dir_open(dir, 0, NULL);
    for (const char *name; d && (name = g_dir_read_name(d));) {
        g_autofree char *path = g_build_filename(dir, name, NULL);
        if (g_file_test(path, G_FILE_TEST_IS_DIR))
            (void)remove_dir(path);
    }
}

void cgroup_remove_child(struct cgroup *g, const char *child)
{
    for (unsigned c = 0; c < CGROUP_NCONTROLLERS; c++)
        if ((g->have & 1u << c) && leads(g->host, c, g->have & THREADED)) {
            g_autofree char *dir = path_of(g, c, child, NULL);
            (void)rmdir(dir); /* a vCPU may not have gone yet: it goes with the rest */
        }
}

/* Not at the top of the hierarchy: only there are these files (not). */
static bool confined(const struct cgroup_place *at)
{
    g_autofree char *file = g_build_filename(at->base, at->v2 ? "cgroup.type" : "release_agent", NULL);
    return g_file_test(file, G_FILE_TEST_EXISTS) == at->v2;
}

void cgroup_remove(struct cgroup *g)
{
    for (unsigned c = 0; c < CGROUP_NCONTROLLERS; c++) {
        if (!(g->have & 1u << c) || !leads(g->host, c, g->have))
            continue;
        g_autofree char *dir = path_of(g, c, NULL, NULL), *partition = g_path_get_dirname(dir);
        remove_children(dir);
        if (!remove_dir(dir))
            g_warning("the control group '%s' cannot be taken away: %s", dir, g_strerror(errno));
        if (g_str_has_prefix(g->path, "machine/") && !strchr(g->path + 8, '/') && confined(&g->host->at[c]))
            (void)rmdir(partition); /* the last machine has gone: a container's group can go as well */
    }
}
