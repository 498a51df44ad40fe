/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Words to calls: quoting, `;`, options by name and by position. */
#include "vireo.h"

#include <errno.h>
#include <string.h>

static void option_free(gpointer p)
{
    struct command_option *o = p;
    g_free(o->name);
    g_free(o->target);
    g_free(o->value);
    g_free(o);
}

static struct command_option *option_parse(const char *word)
{
    struct command_option *o = g_new0(struct command_option, 1);
    const char *alias = strchr(word, '>');
    if (alias) {
        o->kind = OPTION_ALIAS;
        o->name = g_strndup(word, alias - word);
        const char *value = strchr(alias, '=');
        o->target = value ? g_strndup(alias + 1, value - alias - 1) : g_strdup(alias + 1);
        o->value = value ? g_strdup(value + 1) : NULL;
        return o;
    }
    size_t n = strcspn(word, "=#!.@");
    o->name = g_strndup(word, n);
    o->kind = strstr(word + n, "...") ? OPTION_ARGV : strchr(word + n, '#') ? OPTION_INT : word[n] ? OPTION_STRING : OPTION_BOOL;
    o->required = strchr(word + n, '!') != NULL;
    o->named_only = strchr(word + n, '@') != NULL;
    return o;
}

GPtrArray *command_options(const struct command *cmd)
{
    GPtrArray *all = g_ptr_array_new_with_free_func(option_free);
    g_auto(GStrv) words = g_strsplit(cmd->options, " ", -1);
    for (char **w = words; *w; w++)
        if (**w)
            g_ptr_array_add(all, option_parse(*w));
    if (cmd->flags & COMMAND_LIST)
        g_ptr_array_add(all, option_parse("output=@"));
    return all;
}

const struct command *command_find(const char *name)
{
    for (const struct command *const *list = vireo_commands; *list; list++)
        for (const struct command *cmd = *list; cmd->name; cmd++)
            if (!strcmp(cmd->name, name))
                return cmd;
    return NULL;
}

static void call_free(gpointer p)
{
    struct call *c = p;
    g_ptr_array_unref(c->options);
    g_hash_table_unref(c->values);
    g_free(c);
}

static struct call *call_new(struct vireo *v, const struct command *cmd)
{
    struct call *c = g_new0(struct call, 1);
    c->v = v;
    c->command = cmd;
    c->options = command_options(cmd);
    c->values = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)g_ptr_array_unref);
    return c;
}

/* By name; `_` counts as `-`, as old names had it. */
static struct command_option *option_find(struct call *c, const char *name)
{
    g_autofree char *dashed = g_strdelimit(g_strdup(name), "_", '-');
    for (guint i = 0; i < c->options->len; i++) {
        struct command_option *o = c->options->pdata[i];
        if (!strcmp(o->name, name) || !strcmp(o->name, dashed))
            return o;
    }
    return NULL;
}

static bool value_add(struct call *c, struct command_option *o, const char *value)
{
    GPtrArray *list = g_hash_table_lookup(c->values, o->name);
    if (list && o->kind != OPTION_ARGV)
        return complain(c, "option --%s already seen", o->name);
    if (!list) {
        list = g_ptr_array_new_with_free_func(g_free);
        g_hash_table_insert(c->values, o->name, list);
    }
    g_ptr_array_add(list, g_strdup(value));
    return true;
}

/* One word "--name" or "--name=value"; *next is the word after it, taken when the option needs one. */
static bool take_option(struct call *c, const char *word, char **next, bool *ret_took)
{
    const char *equals = strchr(word, '='), *start = word[1] == '-' ? word + 2 : word + 1;
    g_autofree char *name = equals ? g_strndup(start, equals - start) : g_strdup(start);
    struct command_option *o = option_find(c, name);
    *ret_took = false;
    if (!o)
        return complain(c, "command '%s' doesn't support option --%s", c->command->name, name);
    const char *value = equals ? equals + 1 : NULL;
    if (o->kind == OPTION_ALIAS) {
        value = o->value ? o->value : value;
        o = option_find(c, o->target);
    }
    if (o->kind == OPTION_BOOL)
        return value ? complain(c, "invalid '=' after option --%s", o->name) : value_add(c, o, "");
    if (!value) {
        if (!*next)
            return complain(c, "expected syntax: --%s <%s>", o->name, o->kind == OPTION_INT ? "number" : "string");
        value = *next;
        *ret_took = true;
    }
    return value_add(c, o, value);
}

static bool take_data(struct call *c, const char *word)
{
    for (guint i = 0; i < c->options->len; i++) {
        struct command_option *o = c->options->pdata[i];
        if (o->kind == OPTION_BOOL || o->kind == OPTION_ALIAS || o->named_only)
            continue;
        if (o->kind == OPTION_ARGV || !g_hash_table_contains(c->values, o->name))
            return value_add(c, o, word);
    }
    return complain(c, "unexpected data '%s'", word);
}

static bool check_required(struct call *c)
{
    bool good = true;
    for (guint i = 0; i < c->options->len; i++) {
        struct command_option *o = c->options->pdata[i];
        if (o->required && !g_hash_table_contains(c->values, o->name))
            good = complain(c, o->named_only ? "command '%s' requires --%s option" : "command '%s' requires <%s> option", c->command->name, o->name);
    }
    return good;
}

/* One command: words[0] is its name. The value of --help is a call of `help`. */
static struct call *parse_call(struct vireo *v, char **words, int n)
{
    const struct command *cmd = command_find(words[0]);
    if (!cmd) {
        vireo_error(v, "unknown command: '%s'", words[0]);
        return NULL;
    }
    struct call *c = call_new(v, cmd);
    bool data_only = false, good = true;
    for (int i = 1; i < n && good; i++) {
        const char *w = words[i];
        if (!data_only && !strcmp(w, "--help")) {
            char *help[] = {(char *)"help", words[0]};
            call_free(c);
            return parse_call(v, help, 2);
        }
        if (!data_only && !strcmp(w, "--")) {
            data_only = true;
        } else if (!data_only && w[0] == '-' && (w[1] == '-' || (g_ascii_isalpha(w[1]) && !w[2] && option_find(c, w + 1)))) {
            bool took;
            char *next = i + 1 < n ? words[i + 1] : NULL;
            good = take_option(c, w, &next, &took);
            i += took;
        } else {
            good = take_data(c, w);
        }
    }
    if (good && check_required(c))
        return c;
    call_free(c);
    return NULL;
}

GPtrArray *parse_words(struct vireo *v, int n, char **words)
{
    GPtrArray *calls = g_ptr_array_new_with_free_func(call_free);
    struct call *c = n ? parse_call(v, words, n) : NULL;
    if (!c) {
        g_ptr_array_unref(calls);
        return NULL;
    }
    g_ptr_array_add(calls, c);
    return calls;
}

/* One word of a line, with quotes and backslashes taken off. Returns where it ends, NULL if a quote is open. */
static const char *scan_word(const char *p, GString *word)
{
    bool single = false, twice = false;
    for (; *p; p++) {
        if (!single && !twice && (g_ascii_isspace(*p) || *p == ';'))
            break;
        if (!twice && *p == '\'') {
            single = !single;
        } else if (!single && *p == '"') {
            twice = !twice;
        } else if (!single && *p == '\\' && p[1]) {
            p++;
            if (*p != '\n')
                g_string_append_c(word, *p);
        } else {
            g_string_append_c(word, *p);
        }
    }
    return single || twice ? NULL : p;
}

static bool end_command(struct vireo *v, GPtrArray *words, GPtrArray *calls)
{
    if (!words->len)
        return true;
    struct call *c = parse_call(v, (char **)words->pdata, words->len);
    g_ptr_array_set_size(words, 0);
    if (c)
        g_ptr_array_add(calls, c);
    return c != NULL;
}

GPtrArray *parse_line(struct vireo *v, const char *line)
{
    GPtrArray *calls = g_ptr_array_new_with_free_func(call_free);
    g_autoptr(GPtrArray) words = g_ptr_array_new_with_free_func(g_free);
    bool good = true;
    for (const char *p = line; good && p;) {
        while (*p == ' ' || *p == '\t' || *p == '\r')
            p++;
        if (*p == '#')
            p += strcspn(p, "\n");
        if (!*p)
            break;
        if (*p == ';' || *p == '\n') {
            good = end_command(v, words, calls);
            p++;
            continue;
        }
        GString *word = g_string_new(NULL);
        p = scan_word(p, word);
        g_ptr_array_add(words, g_string_free(word, false));
        if (!p) {
            vireo_error(v, "missing \"");
            good = false;
        }
    }
    if (good)
        good = end_command(v, words, calls);
    if (good)
        return calls;
    g_ptr_array_unref(calls);
    return NULL;
}

static bool run_one(struct call *c)
{
    struct vireo *v = c->v;
    if (!c->command->run)
        return complain(c, "command '%s' is not available in this version of vireo", c->command->name);
    if (!(c->command->flags & COMMAND_LOCAL) && !vireo_connect(v))
        return false;
    bool good = c->command->run(c);
    if (c->told || (good && call_json(c) && !c->printed))
        fields_print(c->told ? g_steal_pointer(&c->told) : fields_new(c, 0));
    return good;
}

bool run_calls(struct vireo *v, GPtrArray *calls)
{
    bool good = true;
    for (guint i = 0; i < calls->len && !v->leave; i++) {
        struct call *c = calls->pdata[i];
        forget_library_error(v);
        gint64 start = g_get_monotonic_time();
        good = run_one(c);
        fflush(stdout);
        if (!good)
            report_library_error(v);
        else
            forget_library_error(v);
        if (v->leave)
            break;
        if (v->timing) {
            double ms = (g_get_monotonic_time() - start) / 1000.0;
            printf("\n(Time: %.3f ms)\n\n", ms);
        } else {
            note(c, "\n");
        }
        fflush(stdout);
    }
    return good;
}

bool run_command(struct call *c, ...)
{
    g_autoptr(GPtrArray) words = g_ptr_array_new();
    va_list ap;
    va_start(ap, c);
    for (char *w; (w = va_arg(ap, char *));)
        g_ptr_array_add(words, w);
    va_end(ap);
    struct call *inner = parse_call(c->v, (char **)words->pdata, words->len);
    bool good = inner && run_one(inner);
    if (inner)
        call_free(inner);
    return good;
}

bool opt_bool(struct call *c, const char *name)
{
    return g_hash_table_contains(c->values, name);
}

const char *opt_str(struct call *c, const char *name)
{
    GPtrArray *list = g_hash_table_lookup(c->values, name);
    return list ? list->pdata[0] : NULL;
}

char **opt_list(struct call *c, const char *name)
{
    GPtrArray *list = g_hash_table_lookup(c->values, name);
    if (!list)
        return NULL;
    if (list->pdata[list->len - 1])
        g_ptr_array_add(list, NULL);
    return (char **)list->pdata;
}

static int malformed(struct call *c, const char *kind, const char *text, const char *name)
{
    complain(c, "%s value '%s' for <%s> option is malformed or out of range", kind, text, name);
    return -1;
}

static int opt_number(struct call *c, const char *name, gint64 min, gint64 max, gint64 *ret_value)
{
    const char *text = opt_str(c, name);
    if (!text)
        return 0;
    char *end;
    errno = 0;
    gint64 n = g_ascii_strtoll(text, &end, 0);
    if (errno || end == text || *end || n < min || n > max)
        return malformed(c, "Numeric", text, name);
    *ret_value = n;
    return 1;
}

int opt_int(struct call *c, const char *name, int *ret_value)
{
    gint64 n;
    int found = opt_number(c, name, G_MININT, G_MAXINT, &n);
    if (found > 0)
        *ret_value = n;
    return found;
}

int opt_uint(struct call *c, const char *name, unsigned *ret_value)
{
    gint64 n;
    int found = opt_number(c, name, 0, G_MAXUINT, &n);
    if (found > 0)
        *ret_value = n;
    return found;
}

int opt_ull(struct call *c, const char *name, unsigned long long *ret_value)
{
    const char *text = opt_str(c, name);
    if (!text)
        return 0;
    char *end;
    errno = 0;
    guint64 n = g_ascii_strtoull(text, &end, 0);
    if (errno || end == text || *end || strchr(text, '-'))
        return malformed(c, "Numeric", text, name);
    *ret_value = n;
    return 1;
}

/* k, KiB: 1024; KB: 1000; and so on up to E; b, bytes: one; nothing: `scale`. */
static bool size_unit(const char *suffix, unsigned long long scale, unsigned long long *ret_unit)
{
    if (!*suffix) {
        *ret_unit = scale;
        return true;
    }
    if (!g_ascii_strcasecmp(suffix, "b") || !g_ascii_strcasecmp(suffix, "byte") || !g_ascii_strcasecmp(suffix, "bytes")) {
        *ret_unit = 1;
        return true;
    }
    const char *letters = "kmgtpe", *at = strchr(letters, g_ascii_tolower(*suffix));
    unsigned long long base = !suffix[1] || !g_ascii_strcasecmp(suffix + 1, "ib") ? 1024 : !g_ascii_strcasecmp(suffix + 1, "b") ? 1000 : 0;
    if (!at || !base)
        return false;
    *ret_unit = 1;
    for (int i = 0; i <= at - letters; i++)
        *ret_unit *= base;
    return true;
}

bool parse_size(const char *text, unsigned long long *ret_bytes, unsigned long long scale)
{
    char *end;
    unsigned long long unit;
    errno = 0;
    guint64 n = g_ascii_strtoull(text, &end, 10);
    if (errno || end == text || strchr(text, '-'))
        return false;
    while (g_ascii_isspace(*end))
        end++;
    return size_unit(end, scale, &unit) && !__builtin_mul_overflow(n, unit, ret_bytes);
}

int opt_size(struct call *c, const char *name, unsigned long long *ret_value, unsigned long long scale)
{
    const char *text = opt_str(c, name);
    if (!text)
        return 0;
    if (!parse_size(text, ret_value, scale))
        return malformed(c, "Scaled numeric", text, name);
    return 1;
}

unsigned opt_flags(struct call *c, ...)
{
    unsigned flags = 0;
    va_list ap;
    va_start(ap, c);
    for (const char *name; (name = va_arg(ap, const char *));) {
        unsigned flag = va_arg(ap, unsigned);
        if (opt_bool(c, name))
            flags |= flag;
    }
    va_end(ap);
    return flags;
}

bool opt_exclusive(struct call *c, ...)
{
    const char *seen = NULL;
    bool good = true;
    va_list ap;
    va_start(ap, c);
    for (const char *name; good && (name = va_arg(ap, const char *));) {
        if (!opt_bool(c, name))
            continue;
        if (seen)
            good = complain(c, "Options --%s and --%s are mutually exclusive", seen, name);
        seen = name;
    }
    va_end(ap);
    return good;
}

bool opt_affect(struct call *c, unsigned *ret_flags)
{
    if (!opt_exclusive(c, "current", "live", NULL) || !opt_exclusive(c, "current", "config", NULL) || !opt_exclusive(c, "persistent", "current", NULL))
        return false;
    *ret_flags = opt_flags(c, "live", VIR_DOMAIN_AFFECT_LIVE, "config", VIR_DOMAIN_AFFECT_CONFIG, NULL);
    return true;
}

char *opt_file(struct call *c, const char *name)
{
    char *text;
    gsize size;
    g_autoptr(GError) error = NULL;
    const char *path = opt_str(c, name);
    if (!g_file_get_contents(path, &text, &size, &error)) {
        complain(c, "Failed to open file '%s': %s", path, g_strerror(errno));
        return NULL;
    }
    return text;
}
