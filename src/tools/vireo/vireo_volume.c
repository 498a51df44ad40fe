/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Storage volumes: making, copying, moving data in and out. */
#include "vireo_commands.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *volume_type(int type)
{
    static const char *const types[] = {"file", "block", "dir", "network", "netdir", "ploop"};
    return type >= 0 && type < (int)G_N_ELEMENTS(types) ? types[type] : "unknown";
}

static int by_name(const void *a, const void *b)
{
    return strcasecmp(virStorageVolGetName(*(virStorageVolPtr *)a), virStorageVolGetName(*(virStorageVolPtr *)b));
}

static char *size_text(unsigned long long n)
{
    const char *unit;
    double value = pretty_size(n, &unit);
    return g_strdup_printf("%.2lf %s", value, unit);
}

static void vol_row(struct table *t, virStorageVolPtr volume, bool details)
{
    g_autofree char *path = virStorageVolGetPath(volume);
    virStorageVolInfo info;
    if (!details) {
        table_row(t, virStorageVolGetName(volume), path ? path : "-", NULL);
        return;
    }
    bool known = virStorageVolGetInfo(volume, &info) == 0;
    g_autofree char *capacity = known ? size_text(info.capacity) : g_strdup("-");
    g_autofree char *allocation = known ? size_text(info.allocation) : g_strdup("-");
    table_row(t, virStorageVolGetName(volume), path ? path : "-", known ? volume_type(info.type) : "unknown", capacity, allocation, NULL);
}

static bool cmd_vol_list(struct call *c)
{
    g_autoptr(virStoragePool) pool = arg_pool(c, "pool");
    bool details = opt_bool(c, "details");
    virStorageVolPtr *all = NULL;
    if (!pool)
        return false;
    int n = virStoragePoolListAllVolumes(pool, &all, 0);
    if (n < 0)
        return complain(c, "Failed to list volumes");
    qsort(all, n, sizeof *all, by_name);
    struct table *t = table_new(c, "Name", "Path", details ? "Type" : NULL, "Capacity", "Allocation", NULL);
    for (int i = 0; i < n; i++) {
        vol_row(t, all[i], details);
        virStorageVolFree(all[i]);
    }
    free(all);
    return table_print(t);
}

static void size_field(struct call *c, struct fields *f, const char *label, unsigned long long n)
{
    const char *unit;
    double value = pretty_size(n, &unit);
    if (call_json(c))
        field(f, label, "%llu", n);
    else if (opt_bool(c, "bytes"))
        field(f, label, "%llu %s", n, "bytes");
    else
        field(f, label, "%2.2lf %s", value, unit);
}

static bool cmd_vol_info(struct call *c)
{
    g_autoptr(virStorageVol) volume = arg_volume(c, "vol", "pool");
    bool physical = opt_bool(c, "physical");
    virStorageVolInfo info;
    if (!volume)
        return false;
    struct fields *f = fields_new(c, 15);
    field(f, "Name:", "%s", virStorageVolGetName(volume));
    int result = physical ? virStorageVolGetInfoFlags(volume, &info, VIR_STORAGE_VOL_GET_PHYSICAL) : virStorageVolGetInfo(volume, &info);
    if (result == 0) {
        field(f, "Type:", "%s", volume_type(info.type));
        size_field(c, f, "Capacity:", info.capacity);
        size_field(c, f, physical ? "Physical:" : "Allocation:", info.allocation);
    }
    return fields_print(f) && result == 0;
}

static bool cmd_vol_name(struct call *c)
{
    g_autoptr(virStorageVol) volume = arg_volume(c, "vol", NULL);
    return volume && say_value(c, "name", "%s", virStorageVolGetName(volume));
}

static bool cmd_vol_key(struct call *c)
{
    g_autoptr(virStorageVol) volume = arg_volume(c, "vol", "pool");
    return volume && say_value(c, "key", "%s", virStorageVolGetKey(volume));
}

static bool cmd_vol_path(struct call *c)
{
    g_autoptr(virStorageVol) volume = arg_volume(c, "vol", "pool");
    g_autofree char *path = volume ? virStorageVolGetPath(volume) : NULL;
    return path && say_value(c, "path", "%s", path);
}

static bool cmd_vol_pool(struct call *c)
{
    g_autoptr(virStorageVol) volume = arg_volume(c, "vol", NULL);
    g_autoptr(virStoragePool) pool = volume ? virStoragePoolLookupByVolume(volume) : NULL;
    char uuid[VIR_UUID_STRING_BUFLEN];
    if (!pool)
        return volume && complain(c, "failed to get parent pool");
    if (opt_bool(c, "uuid") && virStoragePoolGetUUIDString(pool, uuid) == 0)
        return say_value(c, "uuid", "%s", uuid);
    return say_value(c, "pool", "%s", virStoragePoolGetName(pool));
}

static bool cmd_vol_dumpxml(struct call *c)
{
    g_autoptr(virStorageVol) volume = arg_volume(c, "vol", "pool");
    g_autofree char *text = volume ? virStorageVolGetXMLDesc(volume, 0) : NULL;
    return text && print_document(c, text);
}

/* The volume that a new one shall stand on: by name in its pool, by key or by path. */
static virStorageVolPtr backing_volume(struct call *c, virStoragePoolPtr pool)
{
    const char *name = opt_str(c, "backing-vol");
    virStorageVolPtr volume = virStorageVolLookupByName(pool, name);
    if (!volume)
        volume = virStorageVolLookupByKey(c->v->connection, name);
    if (!volume)
        volume = virStorageVolLookupByPath(c->v->connection, name);
    if (!volume)
        complain(c, "failed to get vol '%s'", name);
    return volume;
}

static char *volume_document(struct call *c, virStoragePoolPtr pool)
{
    unsigned long long capacity = 0, allocation = 0;
    const char *allocated = opt_str(c, "allocation");
    if (!parse_size(opt_str(c, "capacity"), &capacity, 1) || (allocated && !parse_size(allocated, &allocation, 1))) {
        complain(c, "Malformed size %s", allocated ? allocated : opt_str(c, "capacity"));
        return NULL;
    }
    g_autoptr(GString) s = g_string_new("<volume>\n");
    g_autofree char *name = g_markup_printf_escaped("  <name>%s</name>\n", opt_str(c, "name"));
    g_string_append_printf(s, "%s  <capacity>%llu</capacity>\n", name, capacity);
    if (allocated)
        g_string_append_printf(s, "  <allocation>%llu</allocation>\n", allocation);
    if (opt_str(c, "format")) {
        g_autofree char *format = g_markup_printf_escaped("  <target>\n    <format type='%s'/>\n  </target>\n", opt_str(c, "format"));
        g_string_append(s, format);
    }
    if (opt_str(c, "backing-vol")) {
        g_autoptr(virStorageVol) backing = backing_volume(c, pool);
        g_autofree char *path = backing ? virStorageVolGetPath(backing) : NULL;
        if (!path)
            return NULL;
        g_autofree char *place = g_markup_printf_escaped("  <backingStore>\n    <path>%s</path>\n", path);
        g_string_append(s, place);
        if (opt_str(c, "backing-vol-format")) {
            g_autofree char *format = g_markup_printf_escaped("    <format type='%s'/>\n", opt_str(c, "backing-vol-format"));
            g_string_append(s, format);
        }
        g_string_append(s, "  </backingStore>\n");
    }
    g_string_append(s, "</volume>\n");
    return g_strdup(s->str);
}

static bool cmd_create_as(struct call *c)
{
    g_autoptr(virStoragePool) pool = arg_pool(c, "pool");
    g_autofree char *text = pool ? volume_document(c, pool) : NULL;
    if (!text)
        return false;
    if (opt_bool(c, "print-xml")) {
        say(c, "%s", text);
        return true;
    }
    g_autoptr(virStorageVol) volume = virStorageVolCreateXML(pool, text, opt_flags(c, "prealloc-metadata", VIR_STORAGE_VOL_CREATE_PREALLOC_METADATA, NULL));
    if (!volume)
        return complain(c, "Failed to create vol %s", opt_str(c, "name"));
    note(c, "Vol %s created\n", opt_str(c, "name"));
    return true;
}

#define CREATE_FLAGS(c) \
    opt_flags(c, "prealloc-metadata", VIR_STORAGE_VOL_CREATE_PREALLOC_METADATA, "reflink", VIR_STORAGE_VOL_CREATE_REFLINK, \
        "validate", VIR_STORAGE_VOL_CREATE_VALIDATE, NULL)

static bool cmd_create(struct call *c)
{
    g_autoptr(virStoragePool) pool = arg_pool(c, "pool");
    g_autofree char *text = pool ? opt_file(c, "file") : NULL;
    if (!text)
        return false;
    g_autoptr(virStorageVol) volume = virStorageVolCreateXML(pool, text, CREATE_FLAGS(c));
    if (!volume)
        return complain(c, "Failed to create vol from %s", opt_str(c, "file"));
    note(c, "Vol %s created from %s\n", virStorageVolGetName(volume), opt_str(c, "file"));
    return true;
}

static bool cmd_create_from(struct call *c)
{
    g_autoptr(virStoragePool) pool = arg_pool(c, "pool");
    g_autofree char *text = pool ? opt_file(c, "file") : NULL;
    g_autoptr(virStorageVol) source = text ? arg_volume(c, "vol", "inputpool") : NULL;
    if (!source)
        return false;
    g_autoptr(virStorageVol) volume = virStorageVolCreateXMLFrom(pool, text, source, CREATE_FLAGS(c));
    if (!volume)
        return complain(c, "Failed to create vol from %s", opt_str(c, "file"));
    note(c, "Vol %s created from input vol %s\n", virStorageVolGetName(volume), virStorageVolGetName(source));
    return true;
}

/* A clone's document: the original's with another name. */
static char *clone_document(virStorageVolPtr source, const char *name)
{
    g_autofree char *text = virStorageVolGetXMLDesc(source, 0);
    struct xml x;
    if (!xml_open(&x, text))
        return NULL;
    g_autoptr(GPtrArray) names = xml_nodes(&x, NULL, "/volume/name");
    for (guint i = 0; i < names->len; i++)
        xmlNodeSetContent(names->pdata[i], (const xmlChar *)name);
    char *changed = xml_dump(&x, xmlDocGetRootElement(x.doc));
    xml_close(&x);
    return changed;
}

static bool cmd_clone(struct call *c)
{
    g_autoptr(virStorageVol) source = arg_volume(c, "vol", "pool");
    g_autoptr(virStoragePool) pool = source ? virStoragePoolLookupByVolume(source) : NULL;
    const char *name = opt_str(c, "newname");
    if (!pool)
        return source && complain(c, "failed to get parent pool");
    g_autofree char *text = clone_document(source, name);
    if (!text)
        return complain(c, "Failed to clone vol from %s", virStorageVolGetName(source));
    if (opt_bool(c, "print-xml")) {
        say(c, "%s", text);
        return true;
    }
    g_autoptr(virStorageVol) volume = virStorageVolCreateXMLFrom(pool, text, source, CREATE_FLAGS(c));
    if (!volume)
        return complain(c, "Failed to clone vol from %s", virStorageVolGetName(source));
    note(c, "Vol %s cloned from %s\n", virStorageVolGetName(volume), virStorageVolGetName(source));
    return true;
}

static bool cmd_delete(struct call *c)
{
    g_autoptr(virStorageVol) volume = arg_volume(c, "vol", "pool");
    if (!volume)
        return false;
    if (virStorageVolDelete(volume, opt_flags(c, "delete-snapshots", VIR_STORAGE_VOL_DELETE_WITH_SNAPSHOTS, NULL)) < 0)
        return complain(c, "Failed to delete vol %s", opt_str(c, "vol"));
    note(c, "Vol %s deleted\n", opt_str(c, "vol"));
    return true;
}

static bool cmd_wipe(struct call *c)
{
    static const char *const algorithms[] = {"zero", "nnsa", "dod", "bsi", "gutmann", "schneier", "pfitzner7", "pfitzner33", "random", "trim"};
    const char *name = opt_str(c, "algorithm");
    unsigned i = 0;
    g_autoptr(virStorageVol) volume = arg_volume(c, "vol", "pool");
    if (!volume)
        return false;
    while (name && i < G_N_ELEMENTS(algorithms) && strcmp(algorithms[i], name))
        i++;
    if (i == G_N_ELEMENTS(algorithms))
        return complain(c, "Unsupported algorithm '%s'", name);
    int result = name ? virStorageVolWipePattern(volume, i, 0) : virStorageVolWipe(volume, 0);
    if (result < 0)
        return complain(c, "Failed to wipe vol %s", opt_str(c, "vol"));
    note(c, "Vol %s wiped\n", opt_str(c, "vol"));
    return true;
}

static bool cmd_resize(struct call *c)
{
    const char *text = opt_str(c, "capacity");
    unsigned long long capacity;
    unsigned flags = opt_flags(c, "allocate", VIR_STORAGE_VOL_RESIZE_ALLOCATE, "delta", VIR_STORAGE_VOL_RESIZE_DELTA, "shrink", VIR_STORAGE_VOL_RESIZE_SHRINK, NULL);
    bool less = *text == '-';
    if (less && !(flags & VIR_STORAGE_VOL_RESIZE_SHRINK))
        return complain(c, "negative size requires --shrink");
    g_autoptr(virStorageVol) volume = arg_volume(c, "vol", "pool");
    if (!volume)
        return false;
    if (less)
        flags |= VIR_STORAGE_VOL_RESIZE_DELTA;
    if (!parse_size(text + less, &capacity, 1))
        return complain(c, "Malformed size %s", text);
    bool delta = flags & VIR_STORAGE_VOL_RESIZE_DELTA;
    if (virStorageVolResize(volume, capacity, flags) < 0)
        return complain(c, delta ? "Failed to change size of volume '%s' by %s" : "Failed to change size of volume '%s' to %s", virStorageVolGetName(volume), text);
    note(c, delta ? "Size of volume '%s' successfully changed by %s\n" : "Size of volume '%s' successfully changed to %s\n", virStorageVolGetName(volume), text);
    return true;
}

/* Data on its way to or from a volume. */
struct transfer {
    struct call *c;
    int fd;
    unsigned long long done, total, shown;
};

static void transfer_show(struct transfer *t, const char *what, int n)
{
    t->done += MAX(n, 0);
    if (t->total && t->done > t->shown && (t->done - t->shown > t->total / 100 || t->done >= t->total)) {
        progress(t->c, what, t->done, t->total);
        t->shown = t->done;
    }
}

static int transfer_read(virStreamPtr stream, char *data, size_t size, void *opaque)
{
    struct transfer *t = opaque;
    ssize_t n = read(t->fd, data, size);
    transfer_show(t, "upload", n);
    return n;
}

static int transfer_write(virStreamPtr stream, const char *data, size_t size, void *opaque)
{
    struct transfer *t = opaque;
    ssize_t n = write(t->fd, data, size);
    transfer_show(t, "download", n);
    return n;
}

static int transfer_hole(virStreamPtr stream, long long length, void *opaque)
{
    struct transfer *t = opaque;
    off_t end = lseek(t->fd, length, SEEK_CUR);
    transfer_show(t, "download", 0);
    t->done += length;
    return end < 0 || ftruncate(t->fd, end) < 0 ? -1 : 0;
}

/* How much of the file follows, and whether it is data or a hole. */
static int transfer_in_data(virStreamPtr stream, int *in_data, long long *length, void *opaque)
{
    struct transfer *t = opaque;
    off_t here = lseek(t->fd, 0, SEEK_CUR), data = lseek(t->fd, here, SEEK_DATA), end = lseek(t->fd, 0, SEEK_END);
    if (here < 0 || end < 0)
        return -1;
    *in_data = data == here;
    off_t next = *in_data ? lseek(t->fd, here, SEEK_HOLE) : data < 0 ? end : data;
    *length = (next < 0 ? end : next) - here;
    return lseek(t->fd, here, SEEK_SET) < 0 ? -1 : 0;
}

static int transfer_skip(virStreamPtr stream, long long length, void *opaque)
{
    struct transfer *t = opaque;
    t->done += length;
    return lseek(t->fd, length, SEEK_CUR) < 0 ? -1 : 0;
}

static bool range(struct call *c, unsigned long long *offset, unsigned long long *length)
{
    *offset = *length = 0;
    return opt_size(c, "offset", offset, 1) >= 0 && opt_size(c, "length", length, 1) >= 0;
}

static bool cmd_upload(struct call *c)
{
    const char *file = opt_str(c, "file"), *name;
    unsigned long long offset, length;
    bool sparse = opt_bool(c, "sparse");
    struct stat st;
    g_autoptr(virStorageVol) volume = range(c, &offset, &length) ? arg_volume(c, "vol", "pool") : NULL;
    if (!volume)
        return false;
    name = virStorageVolGetName(volume);
    struct transfer t = {.c = c, .fd = open(file, O_RDONLY | O_CLOEXEC)};
    if (t.fd < 0 || fstat(t.fd, &st) < 0) {
        if (t.fd >= 0)
            close(t.fd);
        return complain(c, "cannot read %s", file);
    }
    t.total = length ? length : (unsigned long long)st.st_size;
    g_autoptr(virStream) stream = virStreamNew(c->v->connection, 0);
    bool good = stream && virStorageVolUpload(volume, stream, offset, length, sparse ? VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM : 0) == 0;
    if (!good)
        complain(c, "cannot upload to volume %s", name);
    if (good) {
        int result = sparse ? virStreamSparseSendAll(stream, transfer_read, transfer_in_data, transfer_skip, &t) : virStreamSendAll(stream, transfer_read, &t);
        good = result == 0 || complain(c, "cannot send data to volume %s", name);
        good = good && (virStreamFinish(stream) == 0 || complain(c, "cannot close volume %s", name));
        if (!good && result < 0)
            virStreamAbort(stream);
    }
    close(t.fd);
    return good;
}

static bool cmd_download(struct call *c)
{
    const char *file = opt_str(c, "file"), *name;
    unsigned long long offset, length;
    bool sparse = opt_bool(c, "sparse"), made = true;
    g_autoptr(virStorageVol) volume = range(c, &offset, &length) ? arg_volume(c, "vol", "pool") : NULL;
    virStorageVolInfo info = {};
    if (!volume)
        return false;
    name = virStorageVolGetName(volume);
    virStorageVolGetInfoFlags(volume, &info, VIR_STORAGE_VOL_GET_PHYSICAL);
    forget_library_error(c->v);
    struct transfer t = {.c = c, .fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666), .total = length ? length : info.allocation};
    if (t.fd < 0 && errno == EEXIST) {
        made = false;
        t.fd = open(file, O_WRONLY | O_TRUNC | O_CLOEXEC);
    }
    if (t.fd < 0)
        return complain(c, "cannot create %s", file);
    g_autoptr(virStream) stream = virStreamNew(c->v->connection, 0);
    bool good = stream && virStorageVolDownload(volume, stream, offset, length, sparse ? VIR_STORAGE_VOL_DOWNLOAD_SPARSE_STREAM : 0) == 0;
    if (!good)
        complain(c, "cannot download from volume %s", name);
    if (good) {
        int result = sparse ? virStreamSparseRecvAll(stream, transfer_write, transfer_hole, &t) : virStreamRecvAll(stream, transfer_write, &t);
        good = result == 0 || complain(c, "cannot receive data from volume %s", name);
        good = good && (virStreamFinish(stream) == 0 || complain(c, "cannot close volume %s", name));
        if (!good && result < 0)
            virStreamAbort(stream);
    }
    if (close(t.fd) < 0)
        good = complain(c, "cannot close file %s", file);
    if (!good && made)
        unlink(file);
    return good;
}

const struct command volume_commands[] = {
    {"vol-clone", "volume", "vol! newname! pool= prealloc-metadata reflink print-xml", cmd_clone, 0, "Copy a volume inside its pool"},
    {"vol-create-as", "volume",
        "pool! name! capacity! allocation= format= backing-vol= backing-vol-format= prealloc-metadata print-xml",
        cmd_create_as, 0, "Make a volume from arguments"},
    {"vol-create", "volume", "pool! file! prealloc-metadata validate", cmd_create, 0, "Make a volume from a document"},
    {"vol-create-from", "volume",
        "pool! file! vol! inputpool= prealloc-metadata reflink validate",
        cmd_create_from, 0, "Make a volume with the contents of another"},
    {"vol-delete", "volume", "vol! pool= delete-snapshots", cmd_delete, 0, "Delete a volume"},
    {"vol-download", "volume", "vol! file! pool= offset# length# sparse", cmd_download, 0, "Copy a volume into a file"},
    {"vol-dumpxml", "volume", "vol! pool= xpath=@ wrap", cmd_vol_dumpxml, 0, "Print the document of a volume"},
    {"vol-info", "volume", "vol! pool= bytes physical", cmd_vol_info, COMMAND_LIST, "Tell what a volume is and how large"},
    {"vol-key", "volume", "vol! pool=", cmd_vol_key, COMMAND_LIST, "Print the key of a volume"},
    {"vol-list", "volume", "pool! details", cmd_vol_list, COMMAND_LIST, "List the volumes of a pool"},
    {"vol-name", "volume", "vol!", cmd_vol_name, COMMAND_LIST, "Print the name of a volume"},
    {"vol-path", "volume", "vol! pool=", cmd_vol_path, COMMAND_LIST, "Print the path of a volume"},
    {"vol-pool", "volume", "vol! uuid", cmd_vol_pool, COMMAND_LIST, "Print the pool of a volume"},
    {"vol-resize", "volume", "vol! capacity! pool= allocate delta shrink", cmd_resize, 0, "Change the size of a volume"},
    {"vol-upload", "volume", "vol! file! pool= offset# length# sparse", cmd_upload, 0, "Copy a file into a volume"},
    {"vol-wipe", "volume", "vol! pool= algorithm=", cmd_wipe, 0, "Overwrite the contents of a volume"},
    {},
};
