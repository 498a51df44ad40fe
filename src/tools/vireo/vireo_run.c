/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * run: from nothing to a running guest. An overlay over the image, a seed with user and key, both volumes of the pool 'default'; a
 * domain that uses them, started; its address waited for; the ssh line printed. What was made is written into the domain's metadata,
 * so that rm can take it away; when a step fails, the steps before it are undone.
 */
#include "vireo_commands.h"
#include "vireo_run.h"
#include "vireo_debian.h" /* the script that makes the Debian image */

#include <errno.h>
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct run {
    struct call *c;
    char *name, *image, *format; /* the file below the overlay and its format */
    char *kernel, *initrd;       /* NULL: the image boots by itself */
    bool cdrom;                  /* the image is an installation medium */
    unsigned long long memory, disk; /* bytes */
    unsigned vcpus, port;
    const char *user;
    char *public_key, *private_key;
    virStoragePoolPtr pool;
    virStorageVolPtr overlay, seed;
    virDomainPtr domain;
};

static void run_clear(struct run *r)
{
    g_free(r->name);
    g_free(r->image);
    g_free(r->format);
    g_free(r->kernel);
    g_free(r->initrd);
    g_free(r->public_key);
    g_free(r->private_key);
    if (r->overlay)
        virStorageVolFree(r->overlay);
    if (r->seed)
        virStorageVolFree(r->seed);
    if (r->pool)
        virStoragePoolFree(r->pool);
    if (r->domain)
        virDomainFree(r->domain);
}

/* The script gets its signals from us, so that all its programs get them once. */
static void own_group(G_GNUC_UNUSED gpointer data)
{
    setpgid(0, 0);
}

bool debian_image(struct call *c, const char *folder)
{
    g_autofree char *disk = g_build_filename(folder, "disk.img", NULL);
    if (g_file_test(disk, G_FILE_TEST_EXISTS))
        return true;
    if (g_mkdir_with_parents(folder, 0755) < 0)
        return complain(c, "the directory '%s' for the Debian image cannot be made", folder);
    g_autoptr(GError) error = NULL;
    char *argv[] = {"/bin/sh", "-s", "--", (char *)folder, NULL};
    GPid pid;
    int input;
    if (!g_spawn_async_with_pipes(NULL, argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD, own_group, NULL, &pid, &input, NULL, NULL, &error))
        return complain(c, "the Debian image cannot be made: %s", error->message);
    FILE *f = fdopen(input, "w");
    if (f) {
        fputs(vireo_debian_script, f);
        fclose(f);
    }
    int status = 0;
    bool told = false;
    for (pid_t ended = 0; (ended = waitpid(pid, &status, WNOHANG)) == 0 || (ended < 0 && errno == EINTR); g_usleep(50000)) {
        if (vireo_interrupted() && !told)
            told = kill(-pid, SIGINT) == 0; /* the script takes away what it has begun; that takes a moment */
    }
    if (vireo_interrupted())
        return complain(c, "interrupted: nothing was made");
    return (WIFEXITED(status) && !WEXITSTATUS(status)) || complain(c, "the Debian image was not made; '%s/image.log' may tell more", folder);
}

/* Where images are kept that guests stand on: the emulator must be able to read them. */
static char *image_folder(const char *name)
{
    return geteuid() == 0 ? g_build_filename("/var/cache/vireo/images", name, NULL) : g_build_filename(g_get_user_cache_dir(), "vireo", "images", name, NULL);
}

/* The guest's disk is never smaller than the one in the image. */
static bool disk_fits(struct run *r, unsigned long long size)
{
    if (r->disk < size && opt_str(r->c, "disk"))
        return complain(r->c, "the disk of the image has %llu bytes, --disk cannot be less", size);
    r->disk = MAX(r->disk, size);
    return true;
}

static bool take_debian(struct run *r)
{
    g_autofree char *folder = opt_str(r->c, "base-dir") ? g_canonicalize_filename(opt_str(r->c, "base-dir"), NULL) : image_folder("debian-12");
    struct stat st;
    if (!debian_image(r->c, folder))
        return false;
    r->image = g_build_filename(folder, "disk.img", NULL);
    if (stat(r->image, &st) < 0 || !disk_fits(r, st.st_size))
        return false;
    r->kernel = g_build_filename(folder, "vmlinuz", NULL);
    r->initrd = g_build_filename(folder, "initrd.img", NULL);
    r->format = g_strdup("raw");
    return true;
}

/* A file by its first bytes: qcow2, an installation CD, or anything else as a raw disk. *ret_size: bytes of the guest's disk. */
static bool look_at_file(struct run *r, FILE *f, unsigned long long *ret_size)
{
    guint8 head[32] = {0};
    char magic[6] = "";
    struct stat st;
    size_t n = fread(head, 1, sizeof head, f);
    if (fstat(fileno(f), &st) < 0 || !S_ISREG(st.st_mode) || !n)
        return false;
    bool qcow2 = n == sizeof head && !memcmp(head, "QFI\373", 4);
    *ret_size = qcow2 ? 0 : st.st_size;
    for (unsigned i = 24; qcow2 && i < 32; i++) /* big-endian, at byte 24 */
        *ret_size = *ret_size << 8 | head[i];
    r->cdrom = !qcow2 && fseek(f, 32769, SEEK_SET) == 0 && fread(magic, 1, 5, f) == 5 && !memcmp(magic, "CD001", 5);
    r->format = g_strdup(qcow2 ? "qcow2" : "raw");
    return true;
}

static bool take_file(struct run *r, const char *path)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return complain(r->c, "there is no image '%s'; name a file (a cloud image or an ISO), or 'debian'", path);
    unsigned long long size;
    bool good = look_at_file(r, f, &size);
    fclose(f);
    if (!good)
        return complain(r->c, "'%s' is no image: an empty file or none at all", path);
    r->image = g_canonicalize_filename(path, NULL);
    return r->cdrom || disk_fits(r, size);
}

static bool find_key(struct run *r)
{
    static const char *const names[] = {"id_ed25519", "id_ecdsa", "id_rsa"};
    const char *given = opt_str(r->c, "ssh-key");
    g_autofree char *public = given ? g_strdup(given) : NULL;
    for (unsigned i = 0; !public && i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = g_strdup_printf("%s/.ssh/%s.pub", g_get_home_dir(), names[i]);
        if (g_file_test(path, G_FILE_TEST_EXISTS))
            public = g_steal_pointer(&path);
    }
    if (!public) {
        g_autofree char *folder = g_build_filename(g_get_user_config_dir(), "vireo", NULL), *path = g_build_filename(folder, "id_ed25519", NULL);
        public = g_strconcat(path, ".pub", NULL);
        const char *argv[] = {"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "vireo", "-f", path, NULL};
        if (!g_file_test(public, G_FILE_TEST_EXISTS)
            && (g_mkdir_with_parents(folder, 0700) < 0 || !g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL, NULL, NULL, NULL, NULL)))
            return complain(r->c, "no SSH key in ~/.ssh and ssh-keygen cannot make one: name one with --ssh-key FILE.pub");
    }
    if (!g_str_has_suffix(public, ".pub")) {
        char *with = g_strconcat(public, ".pub", NULL);
        g_free(public);
        public = with;
    }
    if (!g_file_get_contents(public, &r->public_key, NULL, NULL))
        return complain(r->c, "the SSH key '%s' cannot be read", public);
    g_strstrip(r->public_key);
    if (strchr(r->public_key, '\n') || !*r->public_key)
        return complain(r->c, "'%s' is not one public SSH key", public);
    g_autofree char *whole = g_canonicalize_filename(public, NULL);
    r->private_key = g_strndup(whole, strlen(whole) - 4);
    return true;
}

/* The pool 'default', made if there is none, started if it is stopped. */
static bool find_pool(struct run *r)
{
    struct call *c = r->c;
    const char *name = opt_str(c, "pool") ? opt_str(c, "pool") : "default";
    r->pool = virStoragePoolLookupByName(c->v->connection, name);
    forget_library_error(c->v);
    if (!r->pool) {
        if (opt_str(c, "pool"))
            return complain(c, "there is no pool '%s'", name);
        g_autofree char *uri = virConnectGetURI(c->v->connection);
        bool session = uri && strstr(uri, "/session");
        g_autofree char *path = session ? g_build_filename(g_get_user_data_dir(), "vireo", "images", NULL) : g_strdup("/var/lib/vireo/images");
        g_autofree char *xml = g_markup_printf_escaped("<pool type='dir'><name>default</name><target><path>%s</path></target></pool>", path);
        r->pool = virStoragePoolDefineXML(c->v->connection, xml, 0);
        if (!r->pool || virStoragePoolBuild(r->pool, 0) < 0)
            return complain(c, "the pool 'default' cannot be made in '%s'", path);
        virStoragePoolSetAutostart(r->pool, 1);
    }
    if (virStoragePoolIsActive(r->pool) != 1 && virStoragePoolCreate(r->pool, 0) < 0)
        return complain(c, "the pool '%s' cannot be started", name);
    return true;
}

/* Why a guest cannot have this name: a domain has it, or a volume that it would need; NULL if it can. */
static char *name_taken(struct run *r, const char *name)
{
    struct call *c = r->c;
    g_autoptr(virDomain) other = virDomainLookupByName(c->v->connection, name);
    char *why = other ? g_strdup_printf("there is a domain '%s' already: choose another name, or take it away with `vireo rm %s`", name, name) : NULL;
    static const char *const endings[] = {".qcow2", "-seed.iso"};
    for (unsigned i = 0; !why && r->pool && i < G_N_ELEMENTS(endings); i++) {
        g_autofree char *volume = g_strconcat(name, endings[i], NULL);
        g_autoptr(virStorageVol) old = virStorageVolLookupByName(r->pool, volume);
        if (old)
            why = g_strdup_printf("there is a volume '%s' in the pool '%s' already: choose another name, or delete it with `vireo vol-delete %s %s`", volume,
                                  virStoragePoolGetName(r->pool), volume, virStoragePoolGetName(r->pool));
    }
    forget_library_error(c->v);
    return why;
}

static bool free_name(struct run *r)
{
    struct call *c = r->c;
    if (opt_str(c, "name")) {
        r->name = g_strdup(opt_str(c, "name"));
        for (const char *p = r->name; *p; p++)
            if (!g_ascii_isalnum(*p) && *p != '_' && *p != '-' && *p != '.')
                return complain(c, "'%s' is no name for a guest: letters, digits, '-', '_' and '.'", r->name);
        if (!*r->name || *r->name == '.' || *r->name == '-')
            return complain(c, "'%s' is no name for a guest: it begins with a letter or a digit", r->name);
        g_autofree char *why = name_taken(r, r->name);
        return !why || complain(c, "%s", why);
    }
    g_autofree char *base = g_path_get_basename(opt_str(c, "image"));
    base[strcspn(base, ".")] = 0;
    for (char *p = base; *p; p++)
        if (!g_ascii_isalnum(*p) && *p != '-' && *p != '_')
            *p = '-';
    for (unsigned i = 1; i < 10000; i++) {
        g_autofree char *name = i == 1 ? g_strdup(*base ? base : "guest") : g_strdup_printf("%s-%u", *base ? base : "guest", i);
        g_autofree char *why = name_taken(r, name);
        if (!why) {
            r->name = g_steal_pointer(&name);
            return true;
        }
    }
    return complain(c, "give the guest a name with --name");
}

static bool make_overlay(struct run *r)
{
    g_autofree char *backing = r->cdrom ? g_strdup("")
        : g_markup_printf_escaped("<backingStore><path>%s</path><format type='%s'/></backingStore>", r->image, r->format);
    g_autofree char *xml = g_markup_printf_escaped("<volume><name>%s.qcow2</name><capacity>%llu</capacity><target><format type='qcow2'/></target>", r->name, r->disk);
    g_autofree char *whole = g_strdup_printf("%s%s</volume>", xml, backing);
    r->overlay = virStorageVolCreateXML(r->pool, whole, 0);
    return r->overlay || complain(r->c, "the disk of '%s' cannot be made", r->name);
}

static char *user_data(struct run *r)
{
    return g_strdup_printf("#cloud-config\nhostname: %s\nusers:\n  - name: %s\n    sudo: ALL=(ALL) NOPASSWD:ALL\n    shell: /bin/bash\n    lock_passwd: true\n"
        "    ssh_authorized_keys:\n      - %s\nssh_pwauth: false\ngrowpart:\n  mode: auto\n", r->name, r->user, r->public_key);
}

static bool make_seed(struct run *r)
{
    struct call *c = r->c;
    g_autofree char *user = user_data(r), *meta = g_strdup_printf("instance-id: %s-%lld\nlocal-hostname: %s\n", r->name, (long long)g_get_real_time(), r->name);
    const struct seed_file files[] = {{"meta-data", meta}, {"user-data", user}};
    g_autoptr(GByteArray) image = seed_image(files, G_N_ELEMENTS(files));
    g_autofree char *xml = g_markup_printf_escaped("<volume><name>%s-seed.iso</name><capacity>%u</capacity><target><format type='raw'/></target></volume>", r->name, image->len);
    r->seed = virStorageVolCreateXML(r->pool, xml, 0);
    g_autoptr(virStream) stream = r->seed ? virStreamNew(c->v->connection, 0) : NULL;
    bool good = stream && virStorageVolUpload(r->seed, stream, 0, image->len, 0) == 0;
    for (guint at = 0; good && at < image->len;) {
        int n = virStreamSend(stream, (char *)image->data + at, MIN(image->len - at, 65536));
        good = n > 0;
        at += MAX(n, 0);
    }
    good = good && virStreamFinish(stream) == 0;
    return good || complain(c, "the seed of '%s' cannot be written", r->name);
}

/* The network card: of the network 'default' if there is one here, else user mode with a forward of this host's port to the guest's ssh. */
static char *network_document(struct run *r)
{
    struct call *c = r->c;
    g_autofree char *uri = virConnectGetURI(c->v->connection);
    /* networks of a session have no bridge that this host could reach the guest by */
    const char *wanted = opt_str(c, "network") ? opt_str(c, "network") : uri && strstr(uri, "/session") ? "user" : NULL;
    g_autoptr(virNetwork) network = g_strcmp0(wanted, "user") ? virNetworkLookupByName(c->v->connection, wanted ? wanted : "default") : NULL;
    forget_library_error(c->v);
    if (network && (virNetworkIsActive(network) == 1 || virNetworkCreate(network) == 0))
        return g_markup_printf_escaped("    <interface type='network'>\n      <source network='%s'/>\n      <model type='virtio'/>\n    </interface>\n", virNetworkGetName(network));
    if (wanted && strcmp(wanted, "user")) {
        complain(c, network ? "the network '%s' cannot be started" : "there is no network '%s'", wanted);
        return NULL;
    }
    report_library_error(c->v); /* why the network 'default' was not started, if it was that */
    /* a port that is free now; another program could take it before the guest starts, which then says so */
    g_autoptr(GSocket) s = g_socket_new(G_SOCKET_FAMILY_IPV4, G_SOCKET_TYPE_STREAM, G_SOCKET_PROTOCOL_TCP, NULL);
    g_autoptr(GInetAddress) loopback = g_inet_address_new_loopback(G_SOCKET_FAMILY_IPV4);
    g_autoptr(GSocketAddress) any = g_inet_socket_address_new(loopback, 0), got = NULL;
    if (!s || !g_socket_bind(s, any, false, NULL) || !(got = g_socket_get_local_address(s, NULL))) {
        complain(c, "no free port for the guest's ssh");
        return NULL;
    }
    r->port = g_inet_socket_address_get_port(G_INET_SOCKET_ADDRESS(got));
    return g_strdup_printf("    <interface type='user'>\n      <portForward proto='tcp' address='127.0.0.1'>\n        <range start='%u' to='22'/>\n      </portForward>\n"
        "      <model type='virtio'/>\n    </interface>\n", r->port);
}

/* "qemu" (the translator) where the host has a /dev/kvm that works without help of the processor, which is slower; else the other side chooses. */
static const char *virtualization(struct run *r)
{
    const char *asked = opt_str(r->c, "virt-type");
    g_autofree char *uri = virConnectGetURI(r->c->v->connection), *cpu = NULL;
    bool local = uri && strstr(uri, ":///");
    if (asked || !local || !g_file_get_contents("/proc/cpuinfo", &cpu, NULL, NULL) || !strstr(cpu, "flags\t"))
        return asked;
    return strstr(cpu, " vmx") || strstr(cpu, " svm") ? NULL : "qemu";
}

/* What the other side can: kvm or not, and which emulator, machine. */
static char *head_document(struct run *r)
{
    g_autofree char *caps = virConnectGetDomainCapabilities(r->c->v->connection, NULL, NULL, NULL, virtualization(r), 0);
    forget_library_error(r->c->v);
    struct xml x;
    bool known = xml_open(&x, caps);
    g_autofree char *type = known ? xml_text(&x, NULL, "/domainCapabilities/domain") : NULL, *emulator = known ? xml_text(&x, NULL, "/domainCapabilities/path") : NULL;
    g_autofree char *model = known && !g_strcmp0(type, "kvm") ? xml_text(&x, NULL, "/domainCapabilities/cpu/mode[@name='host-passthrough']/@supported") : NULL;
    xml_close(&x);
    GString *s = g_string_new(NULL);
    g_autofree char *notes = g_markup_printf_escaped("<vireo:run xmlns:vireo='" RUN_NAMESPACE "' user='%s' key='%s' pool='%s'", r->user, r->private_key, virStoragePoolGetName(r->pool));
    g_string_append_printf(s, "<domain type='%s'>\n  <name>%s</name>\n  <metadata>\n    %s", type ? type : "qemu", r->name, notes);
    if (r->port)
        g_string_append_printf(s, " port='%u'", r->port);
    g_string_append_printf(s, ">\n      <vireo:volume>%s.qcow2</vireo:volume>\n", r->name);
    if (!r->cdrom)
        g_string_append_printf(s, "      <vireo:volume>%s-seed.iso</vireo:volume>\n", r->name);
    g_string_append_printf(s, "    </vireo:run>\n  </metadata>\n  <memory unit='KiB'>%llu</memory>\n  <vcpu>%u</vcpu>\n", r->memory / 1024, r->vcpus);
    g_string_append(s, "  <os>\n    <type arch='x86_64' machine='q35'>hvm</type>\n");
    if (r->kernel) {
        g_autofree char *boot = g_markup_printf_escaped("    <kernel>%s</kernel>\n    <initrd>%s</initrd>\n    <cmdline>root=/dev/vda rw console=ttyS0</cmdline>\n", r->kernel, r->initrd);
        g_string_append(s, boot);
    } else {
        g_string_append(s, r->cdrom ? "    <boot dev='hd'/>\n    <boot dev='cdrom'/>\n" : "    <boot dev='hd'/>\n");
    }
    g_string_append(s, "  </os>\n  <features>\n    <acpi/>\n    <apic/>\n  </features>\n");
    if (!g_strcmp0(model, "yes"))
        g_string_append(s, "  <cpu mode='host-passthrough'/>\n");
    g_string_append(s, "  <devices>\n");
    if (emulator) {
        g_autofree char *line = g_markup_printf_escaped("    <emulator>%s</emulator>\n", emulator);
        g_string_append(s, line);
    }
    return g_string_free(s, false);
}

static char *domain_document(struct run *r)
{
    g_autofree char *network = network_document(r);
    if (!network)
        return NULL;
    g_autofree char *head = head_document(r), *overlay = r->overlay ? virStorageVolGetPath(r->overlay) : g_strdup_printf("%s.qcow2", r->name);
    g_autofree char *seed = r->cdrom ? NULL : r->seed ? virStorageVolGetPath(r->seed) : g_strdup_printf("%s-seed.iso", r->name);
    g_autoptr(GString) s = g_string_new(head);
    g_autofree char *disk = g_markup_printf_escaped("    <disk type='file' device='disk'>\n      <driver name='qemu' type='qcow2'/>\n      <source file='%s'/>\n"
        "      <target dev='vda' bus='virtio'/>\n    </disk>\n", overlay);
    g_autofree char *second = seed ? g_markup_printf_escaped("    <disk type='file' device='disk'>\n      <driver name='qemu' type='raw'/>\n      <source file='%s'/>\n"
        "      <target dev='vdb' bus='virtio'/>\n      <readonly/>\n    </disk>\n", seed)
        : g_markup_printf_escaped("    <disk type='file' device='cdrom'>\n      <driver name='qemu' type='raw'/>\n      <source file='%s'/>\n"
        "      <target dev='sda' bus='sata'/>\n      <readonly/>\n    </disk>\n", r->image);
    g_string_append_printf(s, "%s%s%s    <serial type='pty'/>\n    <console type='pty'/>\n    <rng model='virtio'>\n      <backend model='random'>/dev/urandom</backend>\n    </rng>\n"
        "  </devices>\n</domain>\n", disk, second, network);
    return g_strdup(s->str);
}

/* Takes away what an unfinished run has made. */
static void undo(struct run *r)
{
    virErrorPtr why = r->c->v->last_error;
    r->c->v->last_error = NULL;
    if (r->domain) {
        virDomainDestroy(r->domain);
        virDomainUndefine(r->domain);
    }
    if (r->overlay)
        virStorageVolDelete(r->overlay, 0);
    if (r->seed)
        virStorageVolDelete(r->seed, 0);
    forget_library_error(r->c->v);
    r->c->v->last_error = why;
}

static bool start_domain(struct run *r)
{
    g_autofree char *xml = domain_document(r);
    if (!xml)
        return false;
    r->domain = virDomainDefineXML(r->c->v->connection, xml);
    if (!r->domain)
        return complain(r->c, "the domain '%s' cannot be defined", r->name);
    return virDomainCreate(r->domain) == 0 || complain(r->c, "the domain '%s' cannot be started", r->name);
}

/* True when something listens at the guest's ssh port. */
static bool answers(const char *address, unsigned port)
{
    g_autoptr(GSocketClient) client = g_socket_client_new();
    g_socket_client_set_timeout(client, 2);
    g_autoptr(GSocketConnection) connection = g_socket_client_connect_to_host(client, address, port, NULL, NULL);
    char byte;
    return connection && g_input_stream_read(g_io_stream_get_input_stream(G_IO_STREAM(connection)), &byte, 1, NULL, NULL) == 1;
}

static bool wait_guest(struct run *r)
{
    struct call *c = r->c;
    int seconds = 300;
    if (opt_int(c, "timeout", &seconds) < 0)
        return false;
    bool shown = isatty(STDERR_FILENO) && !c->v->quiet;
    if (!shown)
        note(c, "Waiting for the guest to answer ...\n");
    fflush(stdout);
    vireo_catch_interrupt(true);
    gint64 start = g_get_monotonic_time(), end = start + seconds * G_USEC_PER_SEC;
    bool up = false;
    g_autofree char *address = NULL;
    while (!up && !vireo_interrupted() && g_get_monotonic_time() < end && virDomainIsActive(r->domain) == 1) {
        g_free(address);
        address = r->port ? g_strdup("127.0.0.1") : guest_address(c, r->domain);
        if (shown)
            fprintf(stderr, "\rWaiting for the guest to answer: %lld s, %s (^C stops waiting, the guest goes on) ", (long long)((g_get_monotonic_time() - start) / G_USEC_PER_SEC),
                    r->port ? "it starts" : address ? address : "no address yet");
        up = address && answers(address, r->port ? r->port : 22);
        if (!up)
            g_usleep(500000);
    }
    if (shown)
        fprintf(stderr, "\r%100s\r", "");
    vireo_catch_interrupt(false);
    forget_library_error(c->v);
    if (!up && virDomainIsActive(r->domain) != 1)
        return complain(c, "the guest '%s' has ended; its log tells why", r->name);
    if (!up)
        return complain(c, "the guest '%s' does not answer yet; `vireo console %s` shows what it does, `vireo ssh %s` tries again", r->name, r->name, r->name);
    return true;
}

static bool finish(struct run *r)
{
    struct call *c = r->c;
    note(c, "Domain '%s' started\n", r->name);
    if (r->cdrom) {
        say(c, "vireo console %s\n", r->name);
        return true;
    }
    if (opt_bool(c, "no-wait"))
        return true;
    if (!wait_guest(r))
        return false;
    struct run_notes notes;
    g_auto(GStrv) words = run_notes_read(r->domain, &notes) ? ssh_command(c, r->domain, &notes) : NULL;
    run_notes_clear(&notes);
    if (!words)
        return false;
    g_autofree char *line = g_strjoinv(" ", words);
    say(c, "%s\n", line);
    note(c, "(or: vireo ssh %s)\n", r->name);
    return true;
}

/* Reads the options into r. */
static bool prepare(struct run *r)
{
    struct call *c = r->c;
    const char *image = opt_str(c, "image");
    r->memory = 1ull << 30;
    r->disk = 10ull << 30;
    r->vcpus = 2;
    r->user = opt_str(c, "user") ? opt_str(c, "user") : "debian";
    for (const char *p = r->user; *p; p++)
        if (!g_ascii_islower(*p) && !g_ascii_isdigit(*p) && *p != '_' && *p != '-')
            return complain(c, "'%s' is no name for a user: small letters, digits, _ and -", r->user);
    if (opt_size(c, "memory", &r->memory, 1024) < 0 || opt_uint(c, "vcpus", &r->vcpus) < 0 || opt_size(c, "disk", &r->disk, 1) < 0)
        return false;
    bool file = strcmp(image, "debian") || g_file_test(image, G_FILE_TEST_EXISTS);
    if ((file && !take_file(r, image)) || !find_pool(r) || !free_name(r) || !find_key(r))
        return false;
    return file || take_debian(r);
}

/* Are we to stop? Said then. */
static bool stopped(struct run *r)
{
    return vireo_interrupted() && !complain(r->c, "interrupted: nothing was made");
}

/* The steps, each of which may be the last; an interruption until the guest runs undoes them. */
static bool make_guest(struct run *r)
{
    vireo_catch_interrupt(true);
    bool good = prepare(r) && !stopped(r);
    if (good && opt_bool(r->c, "print-xml")) {
        g_autofree char *xml = domain_document(r);
        if (xml)
            say(r->c, "%s", xml);
        vireo_catch_interrupt(false);
        return xml != NULL;
    }
    good = good && make_overlay(r) && !stopped(r) && (r->cdrom || make_seed(r)) && !stopped(r) && start_domain(r);
    if (!good)
        undo(r);
    vireo_catch_interrupt(false);
    return good && finish(r);
}

static bool cmd_run(struct call *c)
{
    struct run r = {.c = c};
    bool good = make_guest(&r);
    run_clear(&r);
    return good;
}

const struct command run_commands[] = {
    {"run", "quick",
        "image! name=@ memory#@ vcpus#@ disk#@ user=@ ssh-key=@ network=@ pool=@ base-dir=@ virt-type=@ timeout#@ no-wait print-xml",
        cmd_run, 0, "From an image, or 'debian', to a running guest that ssh reaches"},
    {},
};
