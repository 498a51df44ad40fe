/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Secrets. */
#include "vireo_commands.h"

#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

static const char *usage_text(int type)
{
    static const char *const types[] = {"none", "volume", "ceph", "iscsi", "tls", "vtpm"};
    return type >= 0 && type < (int)G_N_ELEMENTS(types) ? types[type] : "unknown";
}

static int by_uuid(const void *a, const void *b)
{
    char x[VIR_UUID_STRING_BUFLEN] = "", y[VIR_UUID_STRING_BUFLEN] = "";
    virSecretGetUUIDString(*(virSecretPtr *)a, x);
    virSecretGetUUIDString(*(virSecretPtr *)b, y);
    return strcmp(x, y);
}

static bool cmd_list(struct call *c)
{
    unsigned flags = opt_flags(c, "ephemeral", VIR_CONNECT_LIST_SECRETS_EPHEMERAL, "no-ephemeral", VIR_CONNECT_LIST_SECRETS_NO_EPHEMERAL,
        "private", VIR_CONNECT_LIST_SECRETS_PRIVATE, "no-private", VIR_CONNECT_LIST_SECRETS_NO_PRIVATE, NULL);
    virSecretPtr *all = NULL;
    int n = virConnectListAllSecrets(c->v->connection, &all, flags);
    if (n < 0)
        return complain(c, "Failed to list secrets");
    qsort(all, n, sizeof *all, by_uuid);
    struct table *t = table_new(c, "UUID", "Usage", NULL);
    for (int i = 0; i < n; i++) {
        char uuid[VIR_UUID_STRING_BUFLEN] = "";
        int type = virSecretGetUsageType(all[i]);
        virSecretGetUUIDString(all[i], uuid);
        g_autofree char *usage = type ? g_strdup_printf("%s %s", usage_text(type), virSecretGetUsageID(all[i])) : g_strdup("Unused");
        table_row(t, uuid, usage, NULL);
        virSecretFree(all[i]);
    }
    free(all);
    return table_print(t);
}

static bool cmd_define(struct call *c)
{
    g_autofree char *text = opt_file(c, "file");
    char uuid[VIR_UUID_STRING_BUFLEN];
    if (!text)
        return false;
    g_autoptr(virSecret) secret = virSecretDefineXML(c->v->connection, text, opt_flags(c, "validate", VIR_SECRET_DEFINE_VALIDATE, NULL));
    if (!secret)
        return complain(c, "Failed to set attributes from %s", opt_str(c, "file"));
    if (virSecretGetUUIDString(secret, uuid) < 0)
        return complain(c, "Failed to get UUID of created secret");
    note(c, "Secret %s created\n", uuid);
    return true;
}

static bool cmd_dumpxml(struct call *c)
{
    g_autoptr(virSecret) secret = arg_secret(c);
    g_autofree char *text = secret ? virSecretGetXMLDesc(secret, 0) : NULL;
    return text && print_document(c, text);
}

static bool cmd_undefine(struct call *c)
{
    g_autoptr(virSecret) secret = arg_secret(c);
    if (!secret)
        return false;
    if (virSecretUndefine(secret) < 0)
        return complain(c, "Failed to delete secret %s", opt_str(c, "secret"));
    note(c, "Secret %s deleted\n", opt_str(c, "secret"));
    return true;
}

/* One line from the terminal, not shown. */
static char *ask_hidden(const char *question)
{
    struct termios before, quiet;
    bool terminal = tcgetattr(STDIN_FILENO, &before) == 0;
    fputs(question, stderr);
    fflush(stderr);
    if (terminal) {
        quiet = before;
        quiet.c_lflag &= ~ECHO;
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
    }
    char *line = NULL;
    size_t size = 0;
    ssize_t n = getline(&line, &size, stdin);
    if (terminal) {
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
        fputc('\n', stderr);
    }
    char *text = n < 0 ? NULL : g_strndup(line, n && line[n - 1] == '\n' ? n - 1 : n);
    if (line)
        explicit_bzero(line, size);
    free(line);
    return text;
}

/* What the user wants the secret to be, still in the form given; NULL said. */
static char *given_value(struct call *c, gsize *ret_size)
{
    char *text = NULL;
    if (opt_str(c, "base64")) {
        text = g_strdup(opt_str(c, "base64"));
        complain(c, "Passing secret value as command-line argument is insecure!");
    } else if (opt_str(c, "file")) {
        if (!g_file_get_contents(opt_str(c, "file"), &text, ret_size, NULL))
            complain(c, "the file '%s' cannot be read", opt_str(c, "file"));
        return text;
    } else if (opt_bool(c, "interactive")) {
        text = ask_hidden("Enter new value for secret:");
        if (!text)
            complain(c, "Failed to read secret");
    } else {
        complain(c, "Input secret value is missing");
    }
    *ret_size = text ? strlen(text) : 0;
    return text;
}

static bool cmd_set_value(struct call *c)
{
    if (!opt_exclusive(c, "file", "base64", NULL) || !opt_exclusive(c, "plain", "base64", NULL) || !opt_exclusive(c, "interactive", "base64", NULL)
        || !opt_exclusive(c, "interactive", "file", NULL))
        return false;
    g_autoptr(virSecret) secret = arg_secret(c);
    gsize size = 0;
    char *value = secret ? given_value(c, &size) : NULL;
    if (!value)
        return false;
    if (!opt_bool(c, "plain") && !opt_bool(c, "interactive")) {
        gsize decoded;
        guchar *raw = g_base64_decode(value, &decoded);
        explicit_bzero(value, size);
        g_free(value);
        value = (char *)raw;
        size = decoded;
    }
    int result = virSecretSetValue(secret, (const unsigned char *)value, size, 0);
    explicit_bzero(value, size);
    g_free(value);
    if (result < 0)
        return complain(c, "Failed to set secret value");
    note(c, "Secret value set\n");
    return true;
}

static bool cmd_get_value(struct call *c)
{
    g_autoptr(virSecret) secret = arg_secret(c);
    size_t size;
    unsigned char *value = secret ? virSecretGetValue(secret, &size, 0) : NULL;
    if (!value)
        return false;
    if (opt_bool(c, "plain")) {
        fwrite(value, 1, size, stdout);
    } else {
        g_autofree char *text = g_base64_encode(value, size);
        say(c, "%s", text);
        explicit_bzero(text, strlen(text));
    }
    explicit_bzero(value, size);
    free(value);
    return true;
}

const struct command secret_commands[] = {
    {"secret-define", "secret", "file! validate", cmd_define, 0, "Store a secret's description from a document"},
    {"secret-dumpxml", "secret", "secret! xpath=@ wrap", cmd_dumpxml, 0, "Print the document of a secret"},
    {"secret-get-value", "secret", "secret! plain", cmd_get_value, 0, "Print the value of a secret, in base64"},
    {"secret-list", "secret", "ephemeral no-ephemeral private no-private", cmd_list, COMMAND_LIST, "List secrets"},
    {"secret-set-value", "secret", "secret! file=@ plain interactive base64=", cmd_set_value, 0, "Give a secret its value"},
    {"secret-undefine", "secret", "secret!", cmd_undefine, 0, "Forget a secret"},
    {},
};
