/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A domain's memory in a file: save, managed save, dump; and its picture. */
#include "vireo_commands.h"
#include "vireo_domain.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static unsigned state_flags(struct call *c)
{
    return opt_flags(c, "bypass-cache", VIR_DOMAIN_SAVE_BYPASS_CACHE, "running", VIR_DOMAIN_SAVE_RUNNING, "paused", VIR_DOMAIN_SAVE_PAUSED,
        "reset-nvram", VIR_DOMAIN_SAVE_RESET_NVRAM, NULL);
}

/* --xml: NULL if not given; false said if the file cannot be read. */
static bool xml_option(struct call *c, char **ret_text)
{
    *ret_text = opt_str(c, "xml") ? opt_file(c, "xml") : NULL;
    return *ret_text || !opt_str(c, "xml");
}

/* A long call in a thread of its own, while this one shows how far it is and asks for its end on ^C. */
struct job {
    struct call *c;
    virDomainPtr domain;
    const char *file, *xml, *dump_format;
    unsigned flags;
    int (*work)(struct job *j);
    int result;
    virErrorPtr error;
    gint done;
};

static gpointer job_thread(gpointer opaque)
{
    struct job *j = opaque;
    j->result = j->work(j);
    j->error = j->result < 0 ? virSaveLastError() : NULL;
    g_atomic_int_set(&j->done, 1);
    return NULL;
}

static bool job_run(struct job *j, const char *label)
{
    bool verbose = opt_bool(j->c, "verbose");
    GThread *thread = g_thread_new("job", job_thread, j);
    int shown = -1;
    vireo_catch_interrupt(true);
    for (unsigned tick = 0; !g_atomic_int_get(&j->done); tick++) {
        g_usleep(20000);
        virDomainJobInfo info;
        if (vireo_interrupted())
            virDomainAbortJob(j->domain);
        if (!verbose || tick % 10 || virDomainGetJobInfo(j->domain, &info) < 0 || !info.dataTotal)
            continue;
        int percent = 100 - (int)(100.0 * info.dataRemaining / info.dataTotal);
        if (percent != shown)
            fprintf(stderr, "\r%s: [%3d %%]", label, percent);
        shown = percent;
    }
    vireo_catch_interrupt(false);
    g_thread_join(thread);
    if (verbose && j->result == 0)
        fprintf(stderr, "\r%s: [%3d %%]\n", label, 100);
    if (j->result < 0) {
        forget_library_error(j->c->v);
        j->c->v->last_error = j->error;
    }
    return j->result == 0;
}

static int save_work(struct job *j)
{
    return j->flags || j->xml ? virDomainSaveFlags(j->domain, j->file, j->xml, j->flags) : virDomainSave(j->domain, j->file);
}

static bool cmd_save(struct call *c)
{
    g_autofree char *xml = NULL;
    if (!opt_exclusive(c, "running", "paused", NULL) || !xml_option(c, &xml))
        return false;
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain)
        return false;
    struct job j = {.c = c, .domain = domain, .file = opt_str(c, "file"), .xml = xml, .flags = state_flags(c), .work = save_work};
    g_autofree char *path = g_canonicalize_filename(j.file, NULL);
    j.file = path;
    if (!job_run(&j, "Save"))
        return complain(c, "Failed to save domain '%s' to %s", virDomainGetName(domain), opt_str(c, "file"));
    note(c, "\nDomain '%s' saved to %s\n", virDomainGetName(domain), opt_str(c, "file"));
    return true;
}

static int managed_save_work(struct job *j)
{
    return virDomainManagedSave(j->domain, j->flags);
}

static bool cmd_managedsave(struct call *c)
{
    if (!opt_exclusive(c, "running", "paused", NULL))
        return false;
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain)
        return false;
    struct job j = {.c = c, .domain = domain, .flags = state_flags(c), .work = managed_save_work};
    if (!job_run(&j, "Managedsave"))
        return complain(c, "Failed to save domain '%s' state", virDomainGetName(domain));
    note(c, "\nDomain '%s' state saved by libvirt\n", virDomainGetName(domain));
    return true;
}

static int dump_work(struct job *j)
{
    static const char *const formats[] = {"elf", "kdump-zlib", "kdump-lzo", "kdump-snappy", "win-dmp"};
    int format = VIR_DOMAIN_CORE_DUMP_FORMAT_RAW;
    for (unsigned i = 1; j->dump_format && i < G_N_ELEMENTS(formats); i++)
        if (!strcmp(j->dump_format, formats[i]))
            format = i;
    return format ? virDomainCoreDumpWithFormat(j->domain, j->file, format, j->flags) : virDomainCoreDump(j->domain, j->file, j->flags);
}

static bool cmd_dump(struct call *c)
{
    static const char *const formats[] = {"elf", "kdump-zlib", "kdump-lzo", "kdump-snappy", "win-dmp", NULL};
    const char *format = opt_str(c, "format");
    unsigned flags = opt_flags(c, "live", VIR_DUMP_LIVE, "crash", VIR_DUMP_CRASH, "bypass-cache", VIR_DUMP_BYPASS_CACHE, "reset", VIR_DUMP_RESET,
        "memory-only", VIR_DUMP_MEMORY_ONLY, NULL);
    if (!opt_exclusive(c, "live", "crash", NULL) || !opt_exclusive(c, "live", "reset", NULL) || !opt_exclusive(c, "crash", "reset", NULL))
        return false;
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain)
        return false;
    if (format && !opt_bool(c, "memory-only"))
        return complain(c, "--format only works with --memory-only");
    if (format && !g_strv_contains(formats, format))
        return complain(c, "format '%s' is not supported, expecting 'kdump-zlib', 'kdump-lzo', 'kdump-snappy', 'win-dmp' or 'elf'", format);
    g_autofree char *path = g_canonicalize_filename(opt_str(c, "file"), NULL);
    struct job j = {.c = c, .domain = domain, .file = path, .dump_format = format, .flags = flags, .work = dump_work};
    if (!job_run(&j, "Dump"))
        return complain(c, "Failed to core dump domain '%s' to %s", virDomainGetName(domain), opt_str(c, "file"));
    note(c, "\nDomain '%s' dumped to %s\n", virDomainGetName(domain), opt_str(c, "file"));
    return true;
}

static bool cmd_restore(struct call *c)
{
    g_autofree char *xml = NULL, *path = g_canonicalize_filename(opt_str(c, "file"), NULL);
    if (!opt_exclusive(c, "running", "paused", NULL) || !xml_option(c, &xml))
        return false;
    unsigned flags = state_flags(c);
    int result = flags || xml ? virDomainRestoreFlags(c->v->connection, path, xml, flags) : virDomainRestore(c->v->connection, path);
    if (result < 0)
        return complain(c, "Failed to restore domain from %s", opt_str(c, "file"));
    note(c, "Domain restored from %s\n", opt_str(c, "file"));
    return true;
}

static bool cmd_managedsave_remove(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain)
        return false;
    int saved = virDomainHasManagedSaveImage(domain, 0);
    if (saved < 0)
        return complain(c, "Failed to check for domain managed save image");
    if (!saved) {
        note(c, "Domain '%s' has no manage save image; removal skipped", virDomainGetName(domain));
        return true;
    }
    if (virDomainManagedSaveRemove(domain, 0) < 0)
        return complain(c, "Failed to remove managed save image for domain '%s'", virDomainGetName(domain));
    note(c, "Removed managedsave image for domain '%s'", virDomainGetName(domain));
    return true;
}

static bool cmd_managedsave_dumpxml(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    g_autofree char *text = domain ? virDomainManagedSaveGetXMLDesc(domain, opt_flags(c, "security-info", VIR_DOMAIN_SAVE_IMAGE_XML_SECURE, NULL)) : NULL;
    return text && print_document(c, text);
}

static bool cmd_managedsave_define(struct call *c)
{
    g_autofree char *text = opt_exclusive(c, "running", "paused", NULL) ? opt_file(c, "xml") : NULL;
    g_autoptr(virDomain) domain = text ? arg_domain(c) : NULL;
    if (!domain)
        return false;
    if (virDomainManagedSaveDefineXML(domain, text, state_flags(c)) < 0)
        return complain(c, "Failed to update %s XML configuration", virDomainGetName(domain));
    note(c, "Managed save state file of domain '%s' updated.\n", virDomainGetName(domain));
    return true;
}

struct edited {
    virDomainPtr domain;
    bool stored;
};

static bool store_managed(struct call *c, const char *text, void *opaque)
{
    struct edited *e = opaque;
    e->stored = virDomainManagedSaveDefineXML(e->domain, text, state_flags(c)) == 0;
    return e->stored;
}

static bool cmd_managedsave_edit(struct call *c)
{
    g_autoptr(virDomain) domain = opt_exclusive(c, "running", "paused", NULL) ? arg_domain(c) : NULL;
    g_autofree char *text = domain ? virDomainManagedSaveGetXMLDesc(domain, VIR_DOMAIN_SAVE_IMAGE_XML_SECURE) : NULL;
    if (!text)
        return false;
    g_autofree char *nothing = g_strdup_printf("Managed save image of domain '%s' XML configuration not changed.\n", virDomainGetName(domain));
    struct edited e = {.domain = domain};
    if (!edit_document(c, text, store_managed, &e, nothing))
        return false;
    if (e.stored)
        note(c, "Managed save image of Domain '%s' XML configuration edited.\n", virDomainGetName(domain));
    return true;
}

static bool cmd_image_dumpxml(struct call *c)
{
    g_autofree char *text = virDomainSaveImageGetXMLDesc(c->v->connection, opt_str(c, "file"), opt_flags(c, "security-info", VIR_DOMAIN_SAVE_IMAGE_XML_SECURE, NULL));
    return text && print_document(c, text);
}

static bool cmd_image_define(struct call *c)
{
    g_autofree char *text = opt_exclusive(c, "running", "paused", NULL) ? opt_file(c, "xml") : NULL;
    if (!text)
        return false;
    if (virDomainSaveImageDefineXML(c->v->connection, opt_str(c, "file"), text, state_flags(c)) < 0)
        return complain(c, "Failed to update %s", opt_str(c, "file"));
    note(c, "State file %s updated.\n", opt_str(c, "file"));
    return true;
}

static bool store_image(struct call *c, const char *text, void *opaque)
{
    struct edited *e = opaque;
    e->stored = virDomainSaveImageDefineXML(c->v->connection, opt_str(c, "file"), text, state_flags(c)) == 0;
    return e->stored;
}

static bool cmd_image_edit(struct call *c)
{
    if (!opt_exclusive(c, "running", "paused", NULL))
        return false;
    g_autofree char *text = virDomainSaveImageGetXMLDesc(c->v->connection, opt_str(c, "file"), VIR_DOMAIN_SAVE_IMAGE_XML_SECURE);
    if (!text)
        return false;
    g_autofree char *nothing = g_strdup_printf("Saved image %s XML configuration not changed.\n", opt_str(c, "file"));
    struct edited e = {};
    if (!edit_document(c, text, store_image, &e, nothing))
        return false;
    if (e.stored)
        note(c, "State file %s edited.\n", opt_str(c, "file"));
    return true;
}

static int write_file(virStreamPtr stream, const char *data, size_t size, void *opaque)
{
    return write(*(int *)opaque, data, size);
}

/* domain-2026-11-21-12:00:00.ext, where the kind of picture tells the extension. */
static char *picture_name(virDomainPtr domain, const char *mime)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_local();
    g_autofree char *when = g_date_time_format(now, "%Y-%m-%d-%H:%M:%S");
    const char *extension = !g_strcmp0(mime, "image/x-portable-pixmap") ? ".ppm" : !g_strcmp0(mime, "image/png") ? ".png" : "";
    return g_strdup_printf("%s-%s%s", virDomainGetName(domain), when, extension);
}

static bool cmd_screenshot(struct call *c)
{
    unsigned screen = 0;
    g_autoptr(virDomain) domain = opt_uint(c, "screen", &screen) >= 0 ? arg_domain(c) : NULL;
    g_autoptr(virStream) stream = domain ? virStreamNew(c->v->connection, 0) : NULL;
    if (!stream)
        return false;
    g_autofree char *mime = virDomainScreenshot(domain, stream, screen, 0);
    if (!mime)
        return complain(c, "could not take a screenshot of %s", virDomainGetName(domain));
    g_autofree char *file = opt_str(c, "file") ? g_strdup(opt_str(c, "file")) : picture_name(domain, mime);
    bool made = true;
    int fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0 && errno == EEXIST) {
        made = false;
        fd = open(file, O_WRONLY | O_TRUNC | O_CLOEXEC);
    }
    if (fd < 0) {
        virStreamAbort(stream);
        return complain(c, "cannot create file %s", file);
    }
    bool good = virStreamRecvAll(stream, write_file, &fd) == 0 || complain(c, "could not receive data from domain '%s'", virDomainGetName(domain));
    if (close(fd) < 0)
        good = complain(c, "cannot close file %s", file);
    if (good && virStreamFinish(stream) < 0)
        good = complain(c, "cannot close stream on domain '%s'", virDomainGetName(domain));
    if (good)
        note(c, "Screenshot saved to %s, with type of %s", file, mime);
    else if (made)
        unlink(file);
    return good;
}

const struct command domain_state_commands[] = {
    {"dump", "domain",
        "domain! file! live crash bypass-cache reset verbose memory-only format=",
        cmd_dump, 0, "Write a guest's memory to a file for a debugger"},
    {"managedsave", "domain",
        "domain! bypass-cache running paused verbose",
        cmd_managedsave, 0, "Save a domain's memory and stop it; its next start goes on from there"},
    {"managedsave-define", "domain", "domain! xml! running paused", cmd_managedsave_define, 0, "Change the document inside a managed save"},
    {"managedsave-dumpxml", "domain", "domain! security-info xpath=@ wrap", cmd_managedsave_dumpxml, 0, "Print the document inside a managed save"},
    {"managedsave-edit", "domain", "domain! running paused", cmd_managedsave_edit, 0, "Change the document inside a managed save in an editor"},
    {"managedsave-remove", "domain", "domain!", cmd_managedsave_remove, 0, "Throw the managed save of a domain away"},
    {"restore", "domain", "file! bypass-cache xml= running paused reset-nvram", cmd_restore, 0, "Start a domain from a file made by save"},
    {"save", "domain", "domain! file! bypass-cache xml= running paused verbose", cmd_save, 0, "Save a domain's memory to a file and stop it"},
    {"save-image-define", "domain", "file! xml! running paused", cmd_image_define, 0, "Change the document inside a saved file"},
    {"save-image-dumpxml", "domain", "file! security-info xpath=@ wrap", cmd_image_dumpxml, 0, "Print the document inside a saved file"},
    {"save-image-edit", "domain", "file! running paused", cmd_image_edit, 0, "Change the document inside a saved file in an editor"},
    {"screenshot", "domain", "domain! file= screen#", cmd_screenshot, 0, "Take a picture of a guest's screen"},
    {},
};
