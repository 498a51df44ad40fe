/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vireo: manages virtual machines, networks and storage. The program's own options, then commands. */
#include "vireo.h"

#include <getopt.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

static const struct option_row {
    char letter;
    const char *name;
    int argument;
} options[] = {
    {'c', "connect", required_argument}, {'d', "debug", required_argument}, {'e', "escape", required_argument},
    {'h', "help", optional_argument}, {'k', "keepalive-interval", required_argument}, {'K', "keepalive-count", required_argument},
    {'l', "log", required_argument}, {'q', "quiet", no_argument}, {'r', "readonly", no_argument},
    {'t', "timing", no_argument}, {'v', "version", optional_argument}, {'V', NULL, no_argument}, {'o', "output", required_argument},
};

static void print_version(bool longer)
{
    unsigned long version = 0;
    virGetVersion(&version, NULL, NULL);
    if (!longer) {
        printf("%s\n", VIREO_VERSION);
        return;
    }
    printf("vireo %s\nlibrary: libvirt API %lu.%lu.%lu\n", VIREO_VERSION, version / 1000000, version / 1000 % 1000, version % 1000);
}

static void fail_usage(struct vireo *v, const char *format, const char *what)
{
    vireo_error(v, format, what);
    exit(1);
}

static int positive(struct vireo *v, const char *name, const char *text)
{
    char *end;
    long n = strtol(text, &end, 10);
    if (end == text || *end || n < 0 || n > G_MAXINT)
        fail_usage(v, *end ? "Invalid value for option %s" : "option %s requires a positive integer argument", name);
    return n;
}

/* "^]" or "]" style: the control character that goes with it. */
static char escape_of(struct vireo *v, const char *text)
{
    size_t n = strlen(text);
    if (n == 1)
        return text[0];
    if (n == 2 && text[0] == '^' && g_ascii_toupper(text[1]) >= '@' && g_ascii_toupper(text[1]) <= '_')
        return g_ascii_toupper(text[1]) ^ 0x40;
    fail_usage(v, "Invalid string '%s' for escape sequence", text);
    return 0;
}

static void one_option(struct vireo *v, int letter, const char *value)
{
    switch (letter) {
    case 'c':
        g_free(v->uri);
        v->uri = g_strdup(value);
        break;
    case 'd': v->debug = positive(v, "-d", value); break;
    case 'e': v->escape = escape_of(v, value); break;
    case 'h':
        if (!value)
            help_usage();
        else if (!help_special(value))
            fail_usage(v, "--help knows 'man', 'commands' and 'completion', not '%s'", value);
        exit(0);
    case 'k': v->keepalive_interval = positive(v, "-k", value); break;
    case 'K': v->keepalive_count = positive(v, "-K", value); break;
    case 'l':
        v->log = fopen(value, "ae");
        if (!v->log)
            fail_usage(v, "failed to open the log file '%s'", value);
        break;
    case 'q': v->quiet = true; break;
    case 'r': v->readonly = true; break;
    case 't': v->timing = true; break;
    case 'v':
        print_version(value && !strcmp(value, "long"));
        exit(0);
    case 'V':
        print_version(true);
        exit(0);
    case 'o':
        if (strcmp(value, "json") && strcmp(value, "text"))
            fail_usage(v, "--output knows 'text' and 'json', not '%s'", value);
        v->json = !strcmp(value, "json");
        break;
    }
}

/* Reads the options before the command; returns the index of the first word that is none. */
static int read_options(struct vireo *v, int argc, char **argv)
{
    struct option list[G_N_ELEMENTS(options) + 1] = {};
    char letters[64] = "+:";
    unsigned n = 0;
    for (unsigned i = 0; i < G_N_ELEMENTS(options); i++) {
        const struct option_row *o = &options[i];
        if (o->name)
            list[n++] = (struct option){o->name, o->argument, NULL, o->letter};
        size_t at = strlen(letters);
        letters[at] = o->letter;
        letters[at + 1] = o->argument == required_argument ? ':' : 0;
    }
    int letter, index = -1;
    opterr = 0;
    while ((letter = getopt_long(argc, argv, letters, list, &index)) != -1) {
        char name[3] = {'-', optopt, 0};
        if (letter == ':')
            fail_usage(v, "option '%s' requires an argument", index >= 0 ? argv[optind - 1] : name);
        if (letter == '?')
            fail_usage(v, "unsupported option '%s'. See --help.", optopt ? name : argv[optind - 1]);
        one_option(v, letter, optarg);
    }
    return optind;
}

static void keep_error(void *opaque, virErrorPtr error)
{
    struct vireo *v = opaque;
    if (v->last_error)
        virFreeError(v->last_error);
    v->last_error = virSaveLastError();
}

static void read_environment(struct vireo *v)
{
    static const char *const names[] = {"VIREO_DEFAULT_URI", "VIRSH_DEFAULT_CONNECT_URI", "LIBVIRT_DEFAULT_URI"};
    for (unsigned i = 0; i < G_N_ELEMENTS(names) && !v->uri; i++) {
        const char *uri = getenv(names[i]);
        if (uri && *uri)
            v->uri = g_strdup(uri);
    }
}

int main(int argc, char **argv)
{
    struct vireo v = {.keepalive_interval = -1, .keepalive_count = -1, .escape = 0x1d};
    setlocale(LC_ALL, "");
    if (virInitialize() < 0) {
        vireo_error(&v, "the library cannot be initialized");
        return 1;
    }
    virSetErrorFunc(&v, keep_error);
    int first = read_options(&v, argc, argv);
    if (v.uri && first < argc && !vireo_connect(&v)) { /* a URI that leads nowhere is said before anything else */
        report_library_error(&v);
        return 1;
    }
    read_environment(&v);
    bool good;
    if (first == argc) {
        good = shell_main(&v) == 0;
    } else {
        GPtrArray *calls = argc - first == 1 ? parse_line(&v, argv[first]) : parse_words(&v, argc - first, argv + first);
        good = calls && run_calls(&v, calls);
        if (calls)
            g_ptr_array_unref(calls);
    }
    vireo_disconnect(&v);
    g_free(v.uri);
    if (v.log)
        fclose(v.log);
    if (fflush(stdout) || ferror(stdout)) {
        vireo_error(&v, "the output could not be written");
        return 1;
    }
    return good ? 0 : 1;
}
