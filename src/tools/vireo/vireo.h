/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line `vireo`. Each command is one row of a table (struct command): name, options, handler, summary. main.c reads the
 * program's own options, vireo_parse.c turns words into calls, a handler in vireo_OBJECT.c does one libvirt API call and
 * says what came of it, vireo_table.c prints listings (as text or JSON), vireo_shell.c is the interactive shell.
 * Only the public C API is used, so that the same program serves vireod and libvirtd.
 */
#pragma once

#include <glib.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <stdbool.h>
#include <stdio.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(virDomain, virDomainFree)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(virNetwork, virNetworkFree)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(virNetworkPort, virNetworkPortFree)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(virStoragePool, virStoragePoolFree)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(virStorageVol, virStorageVolFree)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(virSecret, virSecretFree)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(virNodeDevice, virNodeDeviceFree)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(virInterface, virInterfaceFree)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(virNWFilter, virNWFilterFree)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(virNWFilterBinding, virNWFilterBindingFree)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(virDomainSnapshot, virDomainSnapshotFree)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(virDomainCheckpoint, virDomainCheckpointFree)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(virStream, virStreamFree)

/* What one run of the program knows. */
struct vireo {
    char *uri; /* NULL: the library's default */
    virConnectPtr connection;
    bool readonly, quiet, timing, interactive, leave;
    bool json; /* --output json for all listings */
    int keepalive_interval, keepalive_count; /* -1: not asked for */
    int debug;
    char escape; /* control character that leaves the console */
    FILE *log;
    gint loop_runs; /* the event loop's thread is there; atomic */
    virErrorPtr last_error;
    int gone; /* why the connection was lost, plus one; atomic */
};

struct call;

enum command_flags {
    COMMAND_LOCAL = 1,  /* needs no connection */
    COMMAND_LIST = 2,   /* a listing: takes --output */
    COMMAND_HIDDEN = 4, /* an old or internal name: not in help */
};

/*
 * One command. `options` names its options in order, separated by blanks; what follows the name tells the kind:
 *   name      a switch               name=   a string                    name#   a number (sizes with their suffix)
 *   name!     a string, required     name#!  a number, required          name... all that is left (name...! at least one)
 *   @ at the end: only as --name, never by position                      old>new, old>new=value: another spelling
 * A command without a handler is known and not yet there.
 */
struct command {
    const char *name;
    const char *group; /* keyword of the group in help */
    const char *options;
    bool (*run)(struct call *c);
    unsigned flags;
    const char *summary;
};

/* The table of all commands: lists of rows, each ended by a row without a name. */
extern const struct command *const vireo_commands[];
struct command_group {
    const char *keyword, *title;
};
extern const struct command_group vireo_groups[];
const struct command *command_find(const char *name);

/* An option of a command, read from its row. */
enum option_kind { OPTION_BOOL, OPTION_STRING, OPTION_INT, OPTION_ARGV, OPTION_ALIAS };
struct command_option {
    char *name, *target, *value; /* target and value: of an alias */
    enum option_kind kind;
    bool required, named_only;
};
/* The options of a row, in order; free with g_ptr_array_unref. */
GPtrArray *command_options(const struct command *cmd);
const char *option_help(const struct command *cmd, const char *option);
/* More about a command than its summary: sentences on lines, or NULL. */
const char *command_notes(const struct command *cmd);

/* One command with its arguments. */
struct call {
    struct vireo *v;
    const struct command *command;
    GPtrArray *options;
    GHashTable *values; /* option name -> GPtrArray of strings */
    struct fields *told; /* what json_member has collected; run_calls prints it */
    bool printed;        /* JSON has been printed */
};

/* vireo_parse.c: words to calls. Both print what is wrong and return NULL then. */
GPtrArray *parse_words(struct vireo *v, int n, char **words);
GPtrArray *parse_line(struct vireo *v, const char *line);
bool run_calls(struct vireo *v, GPtrArray *calls);

/* Values of a call. opt_int and its kin: 1 and *ret_value set, 0 if not given, -1 if malformed (said already). */
bool opt_bool(struct call *c, const char *name);
const char *opt_str(struct call *c, const char *name);
int opt_int(struct call *c, const char *name, int *ret_value);
int opt_uint(struct call *c, const char *name, unsigned *ret_value);
int opt_ull(struct call *c, const char *name, unsigned long long *ret_value);
/* A size: plain numbers count in `scale` bytes; the result is in bytes. */
int opt_size(struct call *c, const char *name, unsigned long long *ret_value, unsigned long long scale);
char **opt_list(struct call *c, const char *name); /* NULL-terminated, owned by the call; NULL if not given */
/* Flags from switches: pairs of (const char *option, unsigned flag), ended by NULL. */
unsigned opt_flags(struct call *c, ...) G_GNUC_NULL_TERMINATED;
/* False, said, if more than one of the switches is given; names ended by NULL. */
bool opt_exclusive(struct call *c, ...) G_GNUC_NULL_TERMINATED;
/* --live, --config, --current and --persistent as VIR_DOMAIN_AFFECT_*; false if they contradict each other. */
bool opt_affect(struct call *c, unsigned *ret_flags);
/* The contents of the file that option `name` names. */
char *opt_file(struct call *c, const char *name);
bool parse_size(const char *text, unsigned long long *ret_bytes, unsigned long long scale);

/* vireo_print.c: say prints results, note what --quiet leaves out, both nothing where the result is JSON; complain prints "error: ..." and returns false. */
void say(struct call *c, const char *format, ...) G_GNUC_PRINTF(2, 3);
void note(struct call *c, const char *format, ...) G_GNUC_PRINTF(2, 3);
bool complain(struct call *c, const char *format, ...) G_GNUC_PRINTF(2, 3);
void vireo_error(struct vireo *v, const char *format, ...) G_GNUC_PRINTF(2, 3);
void report_library_error(struct vireo *v);
void forget_library_error(struct vireo *v);
/* A size with its unit: value for printing and "B", "KiB", ... */
double pretty_size(unsigned long long bytes, const char **ret_unit);
bool confirm(struct call *c, const char *format, ...) G_GNUC_PRINTF(2, 3);
char *now_text(void); /* for --timestamp */
/* A progress bar on standard error (a line on a terminal, nothing else): begin is implicit, done < 0 ends it. */
void progress(struct call *c, const char *what, unsigned long long done, unsigned long long total);

/* vireo_table.c: a listing. Titles end in '#' where cells are numbers. table_print frees the table and returns true. */
struct table;
struct table *table_new(struct call *c, const char *title, ...) G_GNUC_NULL_TERMINATED;
void table_row(struct table *t, const char *cell, ...) G_GNUC_NULL_TERMINATED;
bool table_print(struct table *t);
/* Frees a table that is not to be printed; true. */
bool table_drop(struct table *t);
/* "Label:   value" lines, or one JSON object. A label is padded to `width`. */
struct fields;
struct fields *fields_new(struct call *c, int width);
void field(struct fields *f, const char *label, const char *format, ...) G_GNUC_PRINTF(3, 4);
bool fields_print(struct fields *f);
bool call_json(struct call *c);
/* For texts that have a shape of their own, beside say: these do nothing unless the result is JSON. A NULL table is none. */
#define json_table(c, ...) (call_json(c) ? table_new(c, __VA_ARGS__, NULL) : NULL)
/* A member of the one object that is printed at the end of the command; a number where `format` is one. */
void json_member(struct call *c, const char *key, const char *format, ...) G_GNUC_PRINTF(3, 4);
struct json_object;
/* Prints any value. */
void json_print(struct call *c, struct json_object *value);
/* One value of several that a command tells: a line as `format` says, or a member (a number if it looks like one). */
void value_line(struct call *c, const char *key, const char *value, const char *format, ...) G_GNUC_PRINTF(4, 5);
/* The only thing that a command tells: a line, or an object with one member. Returns true. */
bool say_value(struct call *c, const char *key, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* vireo_connect.c */
bool vireo_connect(struct vireo *v);
void vireo_disconnect(struct vireo *v);
bool vireo_loop(struct vireo *v); /* starts the event loop's thread once */

/* vireo_lookup.c: objects that options name; each says "failed to get ..." itself. */
virDomainPtr arg_domain(struct call *c);
virDomainPtr find_domain(struct call *c, const char *name);
virNetworkPtr arg_network(struct call *c);
virStoragePoolPtr arg_pool(struct call *c, const char *option);
virStorageVolPtr arg_volume(struct call *c, const char *option, const char *pool_option);
virSecretPtr arg_secret(struct call *c);
virInterfacePtr arg_interface(struct call *c, const char *option);
virNWFilterPtr arg_nwfilter(struct call *c);
virNodeDevicePtr arg_nodedev(struct call *c);

/* vireo_xml.c */
#include <libxml/xpath.h>
struct xml {
    xmlDocPtr doc;
    xmlXPathContextPtr xpath;
};
bool xml_open(struct xml *x, const char *text);
void xml_close(struct xml *x);
/* The nodes of a path relative to `from` (NULL: the document): an array of xmlNodePtr. */
GPtrArray *xml_nodes(struct xml *x, xmlNodePtr from, const char *path, ...) G_GNUC_PRINTF(3, 4);
/* The text at a path, or NULL. */
char *xml_text(struct xml *x, xmlNodePtr from, const char *path, ...) G_GNUC_PRINTF(3, 4);
char *xml_dump(struct xml *x, xmlNodePtr node);
/* Prints a document, or what --xpath (and --wrap) choose of it. */
bool print_document(struct call *c, const char *text);
/* Lets the user edit `text` in $VISUAL or $EDITOR; calls `store` with the new text until it succeeds or the user gives up. `nothing` is
 * said when the text was not changed. */
bool edit_document(struct call *c, const char *text, bool (*store)(struct call *c, const char *text, void *opaque), void *opaque, const char *nothing);

/* vireo_params.c: typed parameters */
struct params {
    virTypedParameterPtr list;
    int n, max;
};
void params_clear(struct params *p);
char *param_text(const virTypedParameter *p);
/* The same, where there are thousands: a string of p's own, or in `number`, which holds any double. */
enum { PARAM_NUMBER = 350 };
const char *param_print(const virTypedParameter *p, char number[PARAM_NUMBER]);
/* Adds option `name` of the call as parameter `field`; kinds are VIR_TYPED_PARAM_*. False if malformed. */
bool params_from_option(struct call *c, struct params *p, const char *name, const char *field, int kind);

/* vireo_event.c */
struct watch;
/* Waits for an ended job, an interruption or a lost connection. */
/* SIGINT, SIGTERM and SIGHUP only set a flag from on to off. */
bool vireo_interrupted(void);
void vireo_catch_interrupt(bool on);

/* Run a command of the table from inside another: name and words, ended by NULL. */
bool run_command(struct call *c, ...) G_GNUC_NULL_TERMINATED;

/* vireo_help.c */
bool help_command(struct call *c);
void help_usage(void);
bool help_special(const char *what); /* --help=man, commands, completion; false: no such */
int shell_main(struct vireo *v);
/* Candidates that complete the last word of a line; free with g_strfreev. */
char **complete_line(struct vireo *v, const char *line, const char *word);
/* The same for a line of n words. */
char **complete_words(struct vireo *v, char **words, int n, const char *word);
bool console_run(struct call *c, virDomainPtr domain, const char *device, unsigned flags);
