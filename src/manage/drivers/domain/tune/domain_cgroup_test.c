/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Control groups: which hierarchies a host has (made-up lists of mounts), what is written where (a made-up tree of v2), and a real v2 hierarchy with a process
 * in it, where the host has one (tests/guest/test_cgroup.py boots a guest that has).
 */
#include <errno.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "manage/drivers/domain/tune/domain_cgroup.h"

/* ---- made-up hosts ---- */

struct fake {
    char *root;
};

static void put(const struct fake *f, const char *path, const char *text)
{
    g_autofree char *file = g_strconcat(f->root, path, NULL), *dir = g_path_get_dirname(file);
    g_assert_cmpint(g_mkdir_with_parents(dir, 0755), ==, 0);
    g_assert_true(g_file_set_contents(file, text, -1, NULL));
}

static char *get(const struct fake *f, const char *path)
{
    g_autofree char *file = g_strconcat(f->root, path, NULL);
    char *text = NULL;
    return g_file_get_contents(file, &text, NULL, NULL) ? text : NULL;
}

static void fake_init(struct fake *f, const char *mounts, const char *own)
{
    f->root = g_dir_make_tmp("vireo-cgroup-XXXXXX", NULL);
    put(f, "/proc/self/mountinfo", mounts);
    put(f, "/proc/self/cgroup", own);
}

static void remove_tree(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    for (const char *name; dir && (name = g_dir_read_name(dir));) {
        g_autofree char *child = g_build_filename(path, name, NULL);
        remove_tree(child);
    }
    g_remove(path);
}

static void fake_finish(struct fake *f)
{
    remove_tree(f->root);
    g_free(f->root);
}

static void assert_base(const struct fake *f, const struct cgroup_host *h, enum cgroup_controller c, const char *base, bool v2)
{
    g_autofree char *want = base ? g_strconcat(f->root, base, NULL) : NULL;
    g_assert_cmpstr(h->at[c].base, ==, want);
    g_assert_true(!base || h->at[c].v2 == v2);
}

static void test_v1(void)
{
    struct fake f;
    fake_init(&f, "30 1 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n31 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
                  "32 30 0:30 / /sys/fs/cgroup/my\\040sets rw - cgroup cgroup rw,cpuset\n33 30 0:31 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
                  "34 30 0:32 / /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio\nnonsense\n35 30 0:33 / /sys/fs/cgroup/x rw - cgroup\n",
              "5:blkio:/lxc/c1\n4:memory:/docker/abc\n3:cpuset:/\n2:cpu,cpuacct:/system.slice/vireod.service\n1:name=systemd:/init.scope\nbad\n");
    struct cgroup_host *h = cgroup_host_new(f.root);
    assert_base(&f, h, CGROUP_CPU, "/sys/fs/cgroup/cpu,cpuacct", false); /* a service's own group is left */
    assert_base(&f, h, CGROUP_CPUACCT, "/sys/fs/cgroup/cpu,cpuacct", false);
    assert_base(&f, h, CGROUP_CPUSET, "/sys/fs/cgroup/my sets", false);
    assert_base(&f, h, CGROUP_MEMORY, "/sys/fs/cgroup/memory", false); /* the mount is that group */
    assert_base(&f, h, CGROUP_IO, "/sys/fs/cgroup/blkio/lxc/c1", false); /* a container's limits hold */
    cgroup_host_unref(h);
    fake_finish(&f);
}

static void test_none(void)
{
    struct fake f;
    fake_init(&f, "30 1 0:28 / / rw - ext4 /dev/sda rw\n", "0::/\n");
    struct cgroup_host *h = cgroup_host_new(f.root);
    for (unsigned c = 0; c < CGROUP_NCONTROLLERS; c++)
        g_assert_null(h->at[c].base);
    g_autoptr(GError) error = NULL;
    g_assert_null(cgroup_make(h, "/machine", "m", &error));
    g_assert_no_error(error);
    cgroup_host_unref(h);
    h = cgroup_host_new("/nowhere/at/all");
    g_assert_null(h->at[CGROUP_CPU].base);
    cgroup_host_unref(h);
    fake_finish(&f);
}

/* Some controllers on v1, the others on v2. */
static void test_hybrid(void)
{
    struct fake f;
    fake_init(&f, "31 30 0:29 / /cg/unified rw - cgroup2 cgroup2 rw\n32 30 0:30 / /cg/cpu rw - cgroup cgroup rw,cpu\n33 30 0:31 / /cg/acct rw - cgroup cgroup rw,cpuacct\n",
              "2:cpu:/\n3:cpuacct:/\n0::/user.slice/user-0.slice/session-1.scope\n");
    put(&f, "/cg/unified/cgroup.controllers", "memory io pids\n");
    struct cgroup_host *h = cgroup_host_new(f.root);
    assert_base(&f, h, CGROUP_CPU, "/cg/cpu", false);
    assert_base(&f, h, CGROUP_CPUACCT, "/cg/acct", false);
    assert_base(&f, h, CGROUP_CPUSET, NULL, false);
    assert_base(&f, h, CGROUP_MEMORY, "/cg/unified", true);
    assert_base(&f, h, CGROUP_IO, "/cg/unified", true);
    cgroup_host_unref(h);
    fake_finish(&f);
}

static void test_names(void)
{
    static const char *const rows[][2] = { { "/machine", "machine" }, { "/machine/a/b", "machine/a.partition/b.partition" }, { "/machine/../x", "machine/x.partition" },
                                           { "/web/machine", "web.partition/machine.partition" }, { "/machine.slice/a.partition", "machine.slice/a.partition" } };
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *path = cgroup_partition_path(rows[i][0]);
        g_assert_cmpstr(path, ==, rows[i][1]);
    }
    g_autofree char *plain = cgroup_machine_name(3, "web server/1", NULL), *salted = cgroup_machine_name(3, "../..", "0badcafe"), *name = g_strnfill(300, 'x');
    g_autofree char *longest = cgroup_machine_name(1, name, "0badcafe");
    g_assert_cmpstr(plain, ==, "qemu-3-webserver1.libvirt-qemu");
    g_assert_cmpstr(salted, ==, "qemu-3-....-0badcafe.libvirt-qemu");
    g_assert_cmpuint(strlen(longest), <, 100);
}

/* ---- a made-up v2: what is written where ---- */

#define GROUP "/cg/machine/qemu-1-a.libvirt-qemu"

static struct cgroup *fake_v2(struct fake *f, struct cgroup_host **ret_host)
{
    static const char *const dirs[] = { "/cg", "/cg/machine", GROUP, GROUP "/emulator", GROUP "/vcpu0" };
    static const char *const files[] = { "cgroup.subtree_control", "cgroup.type", "cgroup.procs", "cgroup.threads", "cpu.max", "cpu.weight", "memory.max", "memory.high", "memory.swap.max", "io.weight",
                                         "cpuset.cpus", "cpuset.mems" };
    fake_init(f, "31 30 0:29 / /cg rw - cgroup2 cgroup2 rw\n", "0::/\n");
    for (unsigned d = 0; d < G_N_ELEMENTS(dirs); d++) {
        g_autofree char *controllers = g_strconcat(dirs[d], "/cgroup.controllers", NULL);
        put(f, controllers, "cpuset cpu io memory pids\n");
        for (unsigned i = 0; i < G_N_ELEMENTS(files); i++) {
            g_autofree char *path = g_strconcat(dirs[d], "/", files[i], NULL);
            put(f, path, "");
        }
    }
    *ret_host = cgroup_host_new(f->root);
    g_autoptr(GError) error = NULL;
    struct cgroup *g = cgroup_make(*ret_host, "/machine", "qemu-1-a.libvirt-qemu", &error);
    g_assert_no_error(error);
    g_assert_nonnull(g);
    return g;
}

static void assert_file(const struct fake *f, const char *path, const char *want)
{
    g_autofree char *text = get(f, path);
    g_assert_cmpstr(text, ==, want);
}

static void test_v2_values(void)
{
    struct fake f;
    struct cgroup_host *h;
    cgroup_auto *g = fake_v2(&f, &h);
    g_autoptr(GError) error = NULL;
    uint64_t v;
    for (unsigned c = 0; c < CGROUP_NCONTROLLERS; c++)
        g_assert_true(cgroup_has(g, c) && cgroup_is_v2(g, c));
    assert_file(&f, GROUP "/emulator/cgroup.type", "threaded");
    g_assert_true(cgroup_set_shares(g, 200, &error));
    assert_file(&f, GROUP "/cpu.weight", "200");
    g_assert_false(cgroup_set_shares(g, 20000, NULL));
    g_assert_true(cgroup_set_bandwidth(g, "vcpu0", 50000, 20000, &error));
    assert_file(&f, GROUP "/vcpu0/cpu.max", "20000 50000");
    uint64_t period;
    int64_t quota;
    g_assert_true(cgroup_get_bandwidth(g, "vcpu0", &period, &quota));
    g_assert_true(period == 50000 && quota == 20000);
    put(&f, GROUP "/cpu.max", "max 100000\n");
    g_assert_true(cgroup_get_bandwidth(g, NULL, &period, &quota));
    g_assert_true(period == 100000 && quota == -1);
    put(&f, GROUP "/memory.max", "max\n");
    g_assert_false(cgroup_set_memory(g, CGROUP_SWAP, 4096, NULL)); /* needs a limit of memory */
    put(&f, GROUP "/memory.max", "");
    g_assert_true(cgroup_set_memory(g, CGROUP_HARD, 1024, &error));
    assert_file(&f, GROUP "/memory.max", "1048576");
    g_assert_true(cgroup_set_memory(g, CGROUP_SWAP, 4096, &error));
    assert_file(&f, GROUP "/memory.swap.max", "3145728");
    g_assert_true(cgroup_get_memory(g, CGROUP_SWAP, &v));
    g_assert_cmpuint(v, ==, 4096);
    put(&f, GROUP "/memory.high", "max\n");
    g_assert_true(cgroup_get_memory(g, CGROUP_SOFT, &v));
    g_assert_cmpuint(v, ==, CGROUP_UNLIMITED);
    g_assert_true(cgroup_set_weight(g, 300, &error));
    assert_file(&f, GROUP "/io.weight", "default 300");
    unsigned weight;
    g_assert_true(cgroup_get_weight(g, &weight));
    g_assert_cmpuint(weight, ==, 300);
    g_assert_true(cgroup_set_cpus(g, "emulator", "0-1", &error) && cgroup_set_mems(g, "emulator", "0", &error));
    assert_file(&f, GROUP "/emulator/cpuset.cpus", "0-1");
    g_assert_true(cgroup_add_process(g, "emulator", 4711, &error) && cgroup_add_thread(g, "vcpu0", 4712, &error));
    assert_file(&f, GROUP "/emulator/cgroup.procs", "4711");
    assert_file(&f, GROUP "/vcpu0/cgroup.threads", "4712");
    g_assert_null(cgroup_get_time_by_cpu(g, NULL));
    g_assert_no_error(error);
    cgroup_host_unref(h);
    fake_finish(&f);
}

/* A machine's group is nobody else's. */
static void test_occupied(void)
{
    struct fake f;
    struct cgroup_host *h;
    cgroup_auto *g = fake_v2(&f, &h);
    put(&f, GROUP "/emulator/cgroup.procs", "99\n");
    g_autoptr(GError) error = NULL, missing = NULL;
    g_assert_null(cgroup_make(h, "/machine", "qemu-1-a.libvirt-qemu", &error));
    g_assert_nonnull(strstr(error->message, "in use by other processes"));
    g_assert_null(cgroup_make(h, "/machine/b", "qemu-1-a.libvirt-qemu", &missing));
    g_assert_nonnull(strstr(missing->message, "machine/b.partition"));
    cgroup_host_unref(h);
    fake_finish(&f);
}

/* ---- a real v2 ---- */

static gpointer sleeper(gpointer fd)
{
    pid_t tid = gettid();
    g_assert_cmpint(write(GPOINTER_TO_INT(fd), &tid, sizeof(tid)), ==, sizeof(tid));
    for (;;)
        pause();
    return NULL;
}

/* A process with two threads; the second one's number. */
static pid_t start_process(pid_t *ret_tid)
{
    int fds[2];
    g_assert_cmpint(pipe(fds), ==, 0);
    pid_t pid = fork();
    if (pid == 0) {
        g_thread_new("second", sleeper, GINT_TO_POINTER(fds[1]));
        for (;;)
            pause();
    }
    g_assert_cmpint(read(fds[0], ret_tid, sizeof(*ret_tid)), ==, sizeof(*ret_tid));
    close(fds[0]);
    close(fds[1]);
    return pid;
}

static void assert_group_of(pid_t pid, pid_t tid, const char *want)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/task/%d/cgroup", (int)pid, (int)tid), *text = NULL, *line = g_strdup_printf("0::%s\n", want);
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    if (!strstr(text, line))
        g_error("thread %d is not in %s: %s", (int)tid, want, text);
}

/* All controllers that this hierarchy hands down are set and read back. */
static void use_values(struct cgroup *g)
{
    g_autoptr(GError) error = NULL;
    uint64_t v, user, sys;
    int64_t quota;
    if (cgroup_has(g, CGROUP_CPU)) {
        g_assert_true(cgroup_set_shares(g, 250, &error) && cgroup_get_shares(g, &v) && v == 250);
        g_assert_true(cgroup_set_bandwidth(g, "vcpu0", 50000, 20000, &error) && cgroup_get_bandwidth(g, "vcpu0", &v, &quota) && v == 50000 && quota == 20000);
        g_assert_true(cgroup_set_bandwidth(g, "vcpu0", 0, -1, &error) && cgroup_get_bandwidth(g, "vcpu0", &v, &quota) && v == 50000 && quota == -1);
    }
    if (cgroup_has(g, CGROUP_CPUSET)) {
        g_assert_true(cgroup_set_cpus(g, "vcpu0", "0", &error) && cgroup_set_mems(g, "vcpu0", "0", &error));
        g_autofree char *cpus = cgroup_read(g, "vcpu0", CGROUP_CPUSET, "cpuset.cpus.effective");
        g_assert_cmpstr(cpus, ==, "0");
    }
    if (cgroup_has(g, CGROUP_MEMORY)) {
        g_assert_true(cgroup_set_memory(g, CGROUP_HARD, 65536, &error) && cgroup_get_memory(g, CGROUP_HARD, &v) && v == 65536);
        g_assert_true(cgroup_set_memory(g, CGROUP_SOFT, 32768, &error) && cgroup_get_memory(g, CGROUP_SOFT, &v) && v == 32768);
        g_assert_true(cgroup_set_memory(g, CGROUP_HARD, CGROUP_UNLIMITED, &error) && cgroup_get_memory(g, CGROUP_HARD, &v) && v == CGROUP_UNLIMITED);
    }
    g_assert_no_error(error);
    g_assert_true(cgroup_get_time(g, &v, &user, &sys));
    g_print("# v2 controllers: %s%s%s%s\n", cgroup_has(g, CGROUP_CPU) ? "cpu " : "", cgroup_has(g, CGROUP_CPUSET) ? "cpuset " : "", cgroup_has(g, CGROUP_MEMORY) ? "memory " : "",
            cgroup_has(g, CGROUP_IO) ? "io " : "");
}

static void test_real_v2(void)
{
    static const char *const mounts[] = { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" };
    struct cgroup_host *h = cgroup_host_new("");
    for (unsigned i = 0; i < G_N_ELEMENTS(mounts) && !(h->at[CGROUP_CPUACCT].base && h->at[CGROUP_CPUACCT].v2); i++) {
        g_autofree char *file = g_build_filename(mounts[i], "cgroup.controllers", NULL);
        if (!g_file_test(file, G_FILE_TEST_EXISTS))
            continue;
        cgroup_host_unref(h);
        h = cgroup_host_new("/nowhere"); /* all controllers are v1's: groups and times of v2 alone */
        h->at[CGROUP_CPUACCT] = (struct cgroup_place){ g_strdup(mounts[i]), true };
    }
    g_autoptr(GError) error = NULL;
    g_autofree char *name = g_strdup_printf("qemu-%d-test.libvirt-qemu", (int)getpid());
    bool v2 = h->at[CGROUP_CPUACCT].base && h->at[CGROUP_CPUACCT].v2;
    cgroup_auto *g = v2 && geteuid() == 0 ? cgroup_make(h, "/machine", name, &error) : NULL;
    g_assert_no_error(error);
    if (!g) {
        g_test_skip("no cgroup v2 that can be written to");
        cgroup_host_unref(h);
        return;
    }
    pid_t tid, pid = start_process(&tid);
    g_autofree char *emulator = g_strconcat("/machine/", name, "/emulator", NULL), *vcpu = g_strconcat("/machine/", name, "/vcpu0", NULL);
    g_assert_true(cgroup_make_child(g, "vcpu0", &error) && cgroup_add_process(g, "emulator", pid, &error));
    g_assert_no_error(error);
    assert_group_of(pid, tid, emulator);
    g_assert_true(cgroup_add_thread(g, "vcpu0", tid, &error));
    g_assert_no_error(error);
    assert_group_of(pid, pid, emulator);
    assert_group_of(pid, tid, vcpu);
    use_values(g);
    g_assert_null(cgroup_make(h, "/machine", name, &error)); /* it is taken */
    g_assert_nonnull(error);
    cgroup_auto *again = cgroup_open(h, "/machine", name);
    g_assert_true(again && again->have == g->have);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    cgroup_remove(g);
    g_assert_null(cgroup_open(h, "/machine", name));
    cgroup_host_unref(h);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cgroup/v1", test_v1);
    g_test_add_func("/cgroup/none", test_none);
    g_test_add_func("/cgroup/hybrid", test_hybrid);
    g_test_add_func("/cgroup/names", test_names);
    g_test_add_func("/cgroup/v2-values", test_v2_values);
    g_test_add_func("/cgroup/occupied", test_occupied);
    g_test_add_func("/cgroup/real-v2", test_real_v2);
    return g_test_run();
}
