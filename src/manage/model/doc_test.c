/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Documents: reading, changing, order, errors with their lines, limits, hostile input. With arguments it is a tool for tests and for people:
 *   doc_test format SCHEMA FILE...   prints what the file is in canonical form
 *   doc_test same SCHEMA FILE...     is each file in canonical form? prints the first lines that differ
 *   doc_test golden all DIR          the same for all DIR/SCHEMA/?*.xml
 *   doc_test check SCHEMA FILE       FILE holds documents with zero bytes between them: a line with the verdict on each
 *   doc_test roundtrip SCHEMA FILE   the same, but the documents in canonical form, with a zero byte after each
 *   doc_test describe SCHEMA -        what the schema allows
 *   doc_test bench SCHEMA FILE       time and memory of one document
 */
#include "manage/core/manage_error.h"
#include "manage/model/doc.h"
#include "manage/model/doc_private.h"

#include <stdio.h>
#include <string.h>

static const struct schema *const all[] = { &schema_domain, &schema_network, &schema_pool, &schema_volume, &schema_secret, &schema_nodedev, &schema_snapshot,
    &schema_checkpoint, &schema_interface, &schema_nwfilter, &schema_capabilities, &schema_domaincaps, &schema_cpu, &schema_backup, &schema_poolcaps,
    &schema_networkport, &schema_nwfilterbinding };

static const struct schema *schema_named(const char *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(all); i++) {
        if (!strcmp(all[i]->name, name)) {
            return all[i];
        }
    }
    g_printerr("no schema %s\n", name);
    exit(2);
}

static const char minimal[] = "<domain type='kvm'>\n  <name>a</name>\n  <memory unit='KiB'>1024</memory>\n  <os>\n    <type>hvm</type>\n  </os>\n</domain>\n";

static struct doc *parse(const char *xml)
{
    g_autoptr(GError) error = NULL;
    struct doc *d = doc_parse(&schema_domain, xml, -1, &error);
    g_assert_no_error(error);
    return d;
}

/* The text is refused and the message holds these words. */
static void refused(const struct schema *s, const char *xml, const char *words)
{
    g_autoptr(GError) error = NULL;
    g_assert_null(doc_parse(s, xml, -1, &error));
    if (!strstr(error->message, words)) {
        g_error("'%s' lacks '%s'", error->message, words);
    }
}

static void test_same(void)
{
    doc_auto *d = parse(minimal);
    g_autofree char *text = doc_format(d);
    g_assert_cmpstr(text, ==, minimal);
    doc_auto *copy = doc_copy(d);
    g_autofree char *again = doc_format(copy);
    g_assert_cmpstr(again, ==, minimal);
    g_assert_true(el_equal(doc_root(d), doc_root(copy)));
}

static void test_order(void)
{
    doc_auto *d = parse("<domain type='kvm'><os><type>hvm</type></os><!-- a comment -->\n<memory unit='MiB'> 1 </memory><name>a</name></domain>");
    g_autofree char *text = doc_format(d);
    g_assert_cmpstr(text, ==, minimal);
}

static void test_edit(void)
{
    doc_auto *d = parse(minimal);
    struct el *root = doc_root(d);
    el_set(root, "vcpu", "2");
    el_set(root, "vcpu/@placement", "static");
    el_set(root, "devices/disk/@device", "disk");
    el_set(root, "devices/disk/@type", "file");
    struct el *serial = el_add(el_find(root, "devices"), "serial");
    el_set(serial, "@type", "pty");
    struct el *second = el_add(el_find(root, "devices"), "disk");
    el_setf(second, "target/@dev", "vd%c", 'b');
    el_set(root, "currentMemory", NULL);
    g_autofree char *text = el_format(el_find(root, "devices"), 0);
    g_assert_cmpstr(text, ==, "<devices>\n  <disk type='file' device='disk'/>\n  <disk>\n    <target dev='vdb'/>\n  </disk>\n  <serial type='pty'/>\n</devices>\n");
    g_assert_cmpstr(el_get(root, "vcpu"), ==, "2");
    g_assert_cmpstr(el_get(root, "os/type"), ==, "hvm");
    g_assert_null(el_get(root, "os/type/@arch"));
    g_assert_cmpstr(el_get(root, "devices"), ==, "");
    uint64_t bytes;
    g_assert_true(el_get_bytes(root, "memory", "KiB", &bytes) && bytes == 1 << 20);
    el_remove(second);
    g_assert_null(el_next(el_find(root, "devices/disk"), "disk"));
    el_set(root, "vcpu/@placement", NULL);
    g_assert_null(el_get(root, "vcpu/@placement"));
}

/* Empty optional elements and attributes are none, as in libvirt. */
static void test_empty(void)
{
    doc_auto *d = parse("<domain type='kvm'><name>a</name><uuid/><memory>1024</memory><memtune><hard_limit unit='KiB'/><soft_limit/></memtune>"
                        "<os><type>hvm</type></os><devices><emulator/><disk type='file'><source file=''/><target dev='vda'/><serial/></disk></devices></domain>");
    g_autofree char *text = doc_format(d);
    g_assert_cmpstr(text, ==,
                    "<domain type='kvm'>\n  <name>a</name>\n  <memory unit='KiB'>1024</memory>\n  <memtune/>\n  <os>\n    <type>hvm</type>\n  </os>\n  <devices>\n"
                    "    <disk type='file' device='disk'>\n      <source/>\n      <target dev='vda'/>\n    </disk>\n  </devices>\n</domain>\n");
    refused(&schema_domain, "<domain type='kvm'><name/></domain>", "<name> is '', expected is a name");
}

static void test_errors(void)
{
    refused(&schema_domain, "<domain type='kvm'>\n<name>a</name>\n<nmae>b</nmae></domain>", "line 3: unknown element <nmae> in <domain>");
    refused(&schema_domain, "<domain type='kvm'>\n<name>a</name>\n<name>b</name></domain>", "<name> stands twice in <domain>; the first is in line 2");
    refused(&schema_domain, "<domain type='kwm'/>", "attribute 'type' of <domain> is 'kwm', expected is one of: ");
    refused(&schema_domain, "<domain tpye='kvm'/>", "unknown attribute 'tpye' of <domain>");
    refused(&schema_domain, "<domain type='kvm'>\n<name>a</name>", "line 2: not well-formed");
    refused(&schema_domain, "<network/>", "the document is <network>, expected is <domain>");
    refused(&schema_domain, "<domain type='kvm'/>", "lacks the element <name>");
    refused(&schema_domain, "<domain/>", "lacks the attribute 'type'");
    refused(&schema_domain, "", "empty");
    refused(&schema_domain, "<domain type='kvm'>hello</domain>", "text 'hello' in <domain>");
    refused(&schema_domain, "<domain type='kvm'><vcpu>x</vcpu></domain>", "<vcpu> is 'x', expected is a whole number");
}

static void test_hostile(void)
{
    refused(&schema_domain, "<!DOCTYPE d [<!ENTITY a 'b'>]><domain type='kvm'><name>&a;</name></domain>", "not allowed");
    refused(&schema_domain, "<!DOCTYPE d SYSTEM 'file:///etc/passwd'><domain type='kvm'/>", "not allowed");
    refused(&schema_domain, "<domain type='kvm'><name>&a;</name></domain>", "not well-formed");
    g_autoptr(GString) deep = g_string_new("<domain type='kvm'><metadata>");
    for (unsigned i = 0; i < 100000; i++) {
        g_string_append(deep, "<a>");
    }
    refused(&schema_domain, deep->str, "deep");
    g_autoptr(GString) wide = g_string_new("<domain type='kvm'><devices>");
    for (unsigned i = 0; i < 600000; i++) {
        g_string_append(wide, i % 2 ? "<disk/>" : "<input type='mouse'/>");
    }
    refused(&schema_domain, wide->str, "more than");
    g_autoptr(GString) crowd = g_string_new("<domain type='kvm'><name>\n</name><metadata><a ");
    for (unsigned i = 0; i < 500000; i++) {
        g_string_append_printf(crowd, "a%x='' ", i);
    }
    g_string_append(crowd, "/></metadata></domain>");
    refused(&schema_domain, crowd->str, "line 2: an element with more than 120 attributes");
    refused(&schema_domain, crowd->str + crowd->len - 9, "not well-formed");
    g_autoptr(GString) spaces = g_string_new("<domain type='kvm'><metadata><a");
    for (unsigned i = 0; i < 20000; i++) {
        g_string_append_printf(spaces, i % 100 ? " xmlns:n%u='u'" : "><a xmlns:n%u='u'", i);
    }
    refused(&schema_domain, spaces->str, "namespaces");
    g_autofree char *name = g_strnfill(1 << 20, 'u');
    g_autoptr(GString) again = g_string_new(NULL);
    g_string_printf(again, "<domain type='kvm' xmlns:a='%s'><metadata>", name);
    for (unsigned i = 0; i < 10000; i++) {
        g_string_append(again, "<a:b/>");
    }
    refused(&schema_domain, again->str, "the content of <metadata> is longer than");
}

/* Long lists in any order take time that grows with their length, not with its square: seconds would be minutes else. */
static void test_slow(void)
{
    g_autoptr(GString) x = g_string_new("<domain type='kvm'><name>n</name><memory>1</memory><os><type>hvm</type></os><devices>");
    for (unsigned i = 0; i < 60000; i++) {
        g_string_append(x, i % 2 ? "<hub type='usb'/>" : "<sound model='usb'/><emulator/>");
    }
    g_string_append(x, "</devices><metadata xmlns:a='u'>");
    for (unsigned i = 0; i < 60000; i++) {
        g_string_append(x, "<a:b c='d'>e</a:b>\n\n");
    }
    g_string_append(x, "</metadata></domain>");
    gint64 start = g_get_monotonic_time();
    doc_auto *d = parse(x->str);
    g_autofree char *text = doc_format(d);
    doc_auto *again = parse(text);
    g_autofree char *twice = doc_format(again);
    g_assert_cmpstr(text, ==, twice);
    g_assert_cmpint(g_get_monotonic_time() - start, <, 20 * G_USEC_PER_SEC);
}

/* Texts and lists that do not fit in one chunk of memory. */
static void test_big(void)
{
    g_autofree char *text = g_strnfill(5 << 20, 't');
    g_autoptr(GString) x = g_string_new(NULL);
    g_string_printf(x, "<domain type='kvm'>\n  <name>n</name>\n  <title>%.3000000s</title>\n  <description>%s</description>\n  <memory unit='KiB'>1</memory>\n  <os>\n    <type>hvm</type>\n"
                       "  </os>\n  <devices>\n", text, text);
    for (unsigned i = 0; i < 75000; i++) {
        g_string_append_printf(x, "    <sound model='usb'>\n      <alias name='ua-%u'/>\n    </sound>\n", i);
    }
    g_string_append(x, "  </devices>\n</domain>\n");
    doc_auto *d = parse(x->str);
    doc_auto *copy = doc_copy(d);
    g_autofree char *same = doc_format(copy);
    g_assert_true(!strcmp(same, x->str));
    el_set(doc_root(copy), "title", text);
    el_set(doc_root(copy), "name", "other");
    g_assert_cmpstr(el_get(doc_root(copy), "name"), ==, "other");
    g_assert_true(!strcmp(el_get(doc_root(copy), "title"), text));
}

/* A document that is changed for ever does not grow: its copy is free of what was replaced. */
static void test_rebuild(void)
{
    doc_auto *d = parse(minimal);
    for (unsigned i = 0; i < 100000; i++) {
        el_setf(doc_root(d), "memory", "%u", i);
    }
    doc_auto *copy = doc_copy(d);
    g_assert_true(el_equal(doc_root(d), doc_root(copy)));
    g_autofree char *a = doc_format(d), *b = doc_format(copy);
    g_assert_cmpstr(a, ==, b);
}

static void test_raw(void)
{
    doc_auto *d = parse("<domain type='kvm' xmlns:o='urn:outer'><name>a</name><memory>1024</memory><os><type>hvm</type></os>"
                        "<metadata><x:a xmlns:x='urn:x' b='1&quot;&lt;'><x:c/>\n\n<!-- gone --><x:d>t<x:e/>\n</x:d></x:a><o:p/></metadata></domain>");
    static const char metadata[] = "<metadata>\n  <x:a xmlns:x=\"urn:x\" b=\"1&quot;&lt;\">\n    <x:c/>\n    <x:d>t<x:e/>&#10;</x:d>\n  </x:a>\n  <o:p xmlns:o=\"urn:outer\"/>\n</metadata>\n";
    g_autofree char *text = el_format(el_find(doc_root(d), "metadata"), 0);
    g_assert_cmpstr(text, ==, metadata);
    g_autofree char *whole = doc_format(d);
    doc_auto *again = parse(whole);
    g_autofree char *twice = doc_format(again);
    g_assert_cmpstr(twice, ==, whole);
}

static void test_namespace(void)
{
    doc_auto *d = parse("<domain type='kvm' xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><q:commandline><q:arg value='-s'/></q:commandline>"
                        "<name>a</name><memory>1024</memory><os><type>hvm</type></os></domain>");
    g_autofree char *text = doc_format(d);
    g_assert_nonnull(strstr(text, "<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"));
    g_assert_nonnull(strstr(text, "  <qemu:commandline>\n    <qemu:arg value='-s'/>\n  </qemu:commandline>\n</domain>\n"));
}

static void test_at(void)
{
    g_autoptr(GError) error = NULL;
    doc_auto *d = doc_parse_at(&schema_domain, "devices", "<disk type='file'><target dev='vda'/></disk>", -1, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(el_name(doc_root(d)), ==, "disk");
    g_assert_null(el_parent(doc_root(d)));
    doc_auto *domain = parse(minimal);
    el_set(doc_root(domain), "devices/emulator", "/bin/x");
    el_copy(el_find(doc_root(domain), "devices"), doc_root(d));
    g_assert_cmpstr(el_get(doc_root(domain), "devices/disk/target/@dev"), ==, "vda");
}

static void test_describe(void)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(all); i++) {
        g_autofree char *text = schema_describe(all[i]);
        g_assert_true(*text == '<');
    }
}

static char *read_file(const char *path, gsize *ret_size)
{
    char *text;
    g_autoptr(GError) error = NULL;
    if (!g_file_get_contents(path, &text, ret_size, &error)) {
        g_printerr("%s\n", error->message);
        exit(2);
    }
    return text;
}

static int compare(const char *path, const char *have, const char *want)
{
    unsigned line = 1;
    for (; *have && *have == *want; have++, want++) {
        line += *have == '\n';
    }
    if (*have != *want) {
        printf("%s:%u: from here it differs: '%.*s' instead of '%.*s'\n", path, line, (int)strcspn(have, "\n"), have, (int)strcspn(want, "\n"), want);
    }
    return *have != *want;
}

static void bench(const struct schema *s, const char *text, gsize size)
{
    enum { ROUNDS = 10000 };
    struct doc *docs[ROUNDS];
    gint64 start = g_get_monotonic_time();
    for (unsigned i = 0; i < ROUNDS; i++) {
        docs[i] = doc_parse(s, text, size, NULL);
    }
    gint64 parsed = g_get_monotonic_time();
    for (unsigned i = 0; i < ROUNDS; i++) {
        g_free(doc_format(docs[i]));
    }
    gint64 formatted = g_get_monotonic_time();
    size_t bytes = sizeof(struct doc) + sizeof(void *);
    for (unsigned i = 0; i < docs[0]->nchunks; i++) {
        bytes += docs[0]->chunks[i]->size;
    }
    printf("text %zu bytes, document %zu bytes, parse %.1f us, format %.1f us\n", size, bytes, (parsed - start) / (double)ROUNDS, (formatted - parsed) / (double)ROUNDS);
}

static int tool(int argc, char **argv);

/* DIR/SCHEMA/?*.xml: all in canonical form? */
static int golden(const char *dir)
{
    int bad = 0;
    for (unsigned i = 0; i < G_N_ELEMENTS(all); i++) {
        g_autofree char *path = g_build_filename(dir, all[i]->name, NULL);
        g_autoptr(GDir) files = g_dir_open(path, 0, NULL);
        for (const char *name; files && (name = g_dir_read_name(files));) {
            g_autofree char *file = g_build_filename(path, name, NULL);
            bad |= g_str_has_suffix(name, ".xml") && tool(4, (char *[]){ "doc_test", "same", (char *)all[i]->name, file });
        }
    }
    return bad;
}

static int check(const struct schema *s, const char *path, bool print)
{
    gsize size;
    g_autofree char *text = read_file(path, &size);
    for (gsize at = 0; at < size; at += strlen(text + at) + 1) {
        g_autoptr(GError) error = NULL;
        doc_auto *d = doc_parse(s, text + at, -1, &error);
        if (print) {
            g_autofree char *out = d ? doc_format(d) : g_strdup("");
            fwrite(out, 1, strlen(out) + 1, stdout);
        } else {
            puts(d ? "ok" : error->message);
        }
    }
    return 0;
}

static int tool(int argc, char **argv)
{
    if (!strcmp(argv[1], "describe")) {
        g_autofree char *text = schema_describe(schema_named(argv[2]));
        fputs(text, stdout);
        return 0;
    }
    if (!strcmp(argv[1], "check") || !strcmp(argv[1], "roundtrip")) {
        return check(schema_named(argv[2]), argv[3], !strcmp(argv[1], "roundtrip"));
    }
    if (!strcmp(argv[1], "golden")) {
        return golden(argv[3]);
    }
    const struct schema *s = schema_named(argv[2]);
    int bad = 0;
    for (int i = 3; i < argc; i++) {
        gsize size;
        g_autofree char *text = read_file(argv[i], &size);
        g_autoptr(GError) error = NULL;
        doc_auto *d = doc_parse(s, text, size, &error);
        g_autofree char *out = d ? doc_format(d) : NULL;
        if (!d) {
            printf("%s: %s\n", argv[i], error->message);
            bad = 1;
        } else if (!strcmp(argv[1], "format")) {
            fputs(out, stdout);
        } else if (!strcmp(argv[1], "bench")) {
            bench(s, text, size);
        } else {
            bad |= compare(argv[i], out, text);
        }
    }
    return bad;
}

int main(int argc, char **argv)
{
    if (argc > 3 && argv[1][0] != '-') {
        return tool(argc, argv);
    }
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/doc/same", test_same);
    g_test_add_func("/doc/order", test_order);
    g_test_add_func("/doc/edit", test_edit);
    g_test_add_func("/doc/empty", test_empty);
    g_test_add_func("/doc/errors", test_errors);
    g_test_add_func("/doc/hostile", test_hostile);
    g_test_add_func("/doc/slow", test_slow);
    g_test_add_func("/doc/big", test_big);
    g_test_add_func("/doc/rebuild", test_rebuild);
    g_test_add_func("/doc/raw", test_raw);
    g_test_add_func("/doc/namespace", test_namespace);
    g_test_add_func("/doc/at", test_at);
    g_test_add_func("/doc/describe", test_describe);
    return g_test_run();
}
