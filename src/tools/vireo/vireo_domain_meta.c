/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is said about a domain: title, description, metadata; its displays; other formats; commands to the emulator. */
#include "vireo_commands.h"
#include "vireo_domain.h"

#include "base/json.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

struct meta_edit {
    virDomainPtr domain;
    int kind;
    const char *key, *uri;
    unsigned flags;
    bool stored;
};

static bool store_meta(struct call *c, const char *text, void *opaque)
{
    struct meta_edit *e = opaque;
    g_autofree char *line = g_strdup(text);
    if (e->kind != VIR_DOMAIN_METADATA_ELEMENT)
        g_strchomp(line);
    e->stored = virDomainSetMetadata(e->domain, e->kind, line, e->key, e->uri, e->flags) == 0;
    return e->stored;
}

static bool cmd_desc(struct call *c)
{
    bool title = opt_bool(c, "title");
    const char *what = title ? "title" : "description";
    struct meta_edit e = {.kind = title ? VIR_DOMAIN_METADATA_TITLE : VIR_DOMAIN_METADATA_DESCRIPTION};
    if (!opt_affect(c, &e.flags))
        return false;
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain)
        return false;
    e.domain = domain;
    char **words = opt_list(c, "new-desc");
    g_autofree char *text = words ? g_strjoinv(" ", words) : NULL;
    if (!words || opt_bool(c, "edit")) {
        g_autofree char *now = virDomainGetMetadata(domain, e.kind, NULL, e.flags);
        if (!now && c->v->last_error && c->v->last_error->code != VIR_ERR_NO_DOMAIN_METADATA)
            return false;
        forget_library_error(c->v);
        if (opt_bool(c, "edit")) {
            g_autofree char *nothing = g_strdup_printf("Domain %s not changed.\n", what);
            bool good = edit_document(c, text ? text : now ? now : "", store_meta, &e, nothing);
            if (good && e.stored)
                note(c, "%s", title ? "Domain title updated successfully" : "Domain description updated successfully");
            return good;
        }
        if (now)
            json_member(c, what, "%s", now);
        if (now)
            say(c, "%s", now);
        else
            note(c, title ? "No title for domain: %s" : "No description for domain: %s", virDomainGetName(domain));
        return true;
    }
    if (virDomainSetMetadata(domain, e.kind, text, NULL, NULL, e.flags) < 0)
        return complain(c, "%s", title ? "Failed to set new domain title" : "Failed to set new domain description");
    note(c, "%s", title ? "Domain title updated successfully" : "Domain description updated successfully");
    return true;
}

static bool cmd_metadata(struct call *c)
{
    struct meta_edit e = {.kind = VIR_DOMAIN_METADATA_ELEMENT, .key = opt_str(c, "key"), .uri = opt_str(c, "uri")};
    const char *set = opt_str(c, "set");
    bool remove = opt_bool(c, "remove"), edit = opt_bool(c, "edit");
    if (!opt_affect(c, &e.flags) || !opt_exclusive(c, "edit", "set", NULL) || !opt_exclusive(c, "remove", "set", NULL) || !opt_exclusive(c, "remove", "edit", NULL))
        return false;
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain)
        return false;
    e.domain = domain;
    if ((set || edit) && !e.key)
        return complain(c, "namespace key is required when modifying metadata");
    if (set || remove) {
        if (virDomainSetMetadata(domain, e.kind, remove ? NULL : set, e.key, e.uri, e.flags) < 0)
            return false;
        note(c, "%s\n", remove ? "Metadata removed" : "Metadata modified");
        return true;
    }
    g_autofree char *now = virDomainGetMetadata(domain, e.kind, e.uri, e.flags);
    if (edit) {
        forget_library_error(c->v);
        bool good = edit_document(c, now ? now : "\n", store_meta, &e, "Metadata not changed\n");
        if (good && e.stored)
            note(c, "Metadata modified\n");
        return good;
    }
    if (!now)
        return false;
    say(c, "%s\n", now);
    return true;
}

static bool cmd_ttyconsole(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    struct xml x;
    if (!domain || !domain_xml(c, domain, 0, &x))
        return false;
    g_autofree char *tty = xml_text(&x, NULL, "/domain/devices/console/@tty");
    xml_close(&x);
    if (!tty)
        return false;
    return say_value(c, "tty", "%s", tty);
}

/* The address a client shall connect to: a display that listens everywhere is on the host this connection goes to. */
static char *display_host(struct call *c, struct xml *x, xmlNodePtr graphics)
{
    char *listen = xml_text(x, graphics, "./listen[@type='address' or @type='network']/@address");
    if (!listen)
        listen = xml_text(x, graphics, "./@listen");
    if (listen && *listen && strcmp(listen, "0.0.0.0") && strcmp(listen, "::"))
        return listen;
    bool wild = listen && *listen;
    g_free(listen);
    g_autofree char *uri = virConnectGetURI(c->v->connection);
    g_autoptr(GUri) parsed = uri ? g_uri_parse(uri, G_URI_FLAGS_NONE, NULL) : NULL;
    const char *host = parsed ? g_uri_get_host(parsed) : NULL;
    if (wild && host && *host)
        return g_strdup(host);
    return g_strdup("localhost");
}

static char *display_uri(struct call *c, struct xml *x, xmlNodePtr g, const char *type)
{
    g_autofree char *socket = xml_text(x, g, "./listen[@type='socket']/@socket");
    if (!socket)
        socket = xml_text(x, g, "./@socket");
    if (socket)
        return g_strdup_printf("%s+unix://%s", type, socket);
    g_autofree char *port = xml_text(x, g, "./@port"), *tls = xml_text(x, g, "./@tlsPort"), *host = display_host(c, x, g);
    g_autofree char *password = opt_bool(c, "include-password") ? xml_text(x, g, "./@passwd") : NULL;
    int number = port ? atoi(port) : 0, secure = tls ? atoi(tls) : 0;
    if (number <= 0 && secure <= 0)
        return NULL;
    GString *s = g_string_new(NULL);
    g_string_append_printf(s, "%s://", type);
    if (password && strcmp(type, "spice"))
        g_string_append_printf(s, ":%s@", password);
    g_string_append_printf(s, strchr(host, ':') ? "[%s]" : "%s", host);
    if (number > 0)
        g_string_append_printf(s, ":%d", !strcmp(type, "vnc") ? number - 5900 : number);
    if (!strcmp(type, "spice") && (secure > 0 || password)) {
        g_string_append_printf(s, "?");
        if (secure > 0)
            g_string_append_printf(s, "tls-port=%d&", secure);
        if (password)
            g_string_append_printf(s, "password=%s&", password);
        g_string_truncate(s, s->len - 1);
    }
    return g_string_free(s, false);
}

static bool cmd_domdisplay(struct call *c)
{
    const char *wanted = opt_str(c, "type");
    g_autoptr(virDomain) domain = arg_domain(c);
    struct xml x;
    if (!domain)
        return false;
    if (virDomainIsActive(domain) != 1)
        return complain(c, "Domain is not running");
    if (!domain_xml(c, domain, opt_bool(c, "include-password") ? VIR_DOMAIN_XML_SECURE : 0, &x))
        return false;
    static const char *const kinds[] = {"vnc", "spice", "rdp", "dbus"};
    unsigned found = 0;
    struct table *t = json_table(c, "URI");
    for (unsigned k = 0; k < G_N_ELEMENTS(kinds); k++) {
        if (wanted && strcmp(kinds[k], wanted))
            continue;
        g_autoptr(GPtrArray) all = xml_nodes(&x, NULL, "/domain/devices/graphics[@type='%s']", kinds[k]);
        for (guint i = 0; i < all->len && (!found || opt_bool(c, "all")); i++) {
            g_autofree char *uri = display_uri(c, &x, all->pdata[i], kinds[k]);
            if (uri) {
                table_row(t, uri, NULL);
                say(c, "%s%s", found ? "\n" : "", uri);
                found++;
            }
        }
    }
    xml_close(&x);
    if (found)
        return table_print(t);
    table_drop(t);
    if (wanted)
        return complain(c, "No graphical display with type '%s' found", wanted);
    return complain(c, "No graphical display found");
}

static bool cmd_vncdisplay(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    struct xml x;
    if (!domain)
        return false;
    if (virDomainIsActive(domain) != 1)
        return complain(c, "Domain is not running");
    if (!domain_xml(c, domain, 0, &x))
        return false;
    g_autofree char *port = xml_text(&x, NULL, "/domain/devices/graphics[@type='vnc']/@port");
    g_autofree char *listen = xml_text(&x, NULL, "/domain/devices/graphics[@type='vnc']/@listen");
    xml_close(&x);
    if (!port || atoi(port) < 0)
        return complain(c, "Failed to get VNC port. Is this domain using VNC?");
    const char *host = listen && strcmp(listen, "0.0.0.0") ? listen : "";
    g_autofree char *display = g_strdup_printf(strchr(host, ':') ? "[%s]:%d" : "%s:%d", host, atoi(port) - 5900);
    return say_value(c, "display", "%s", display);
}

static bool cmd_from_native(struct call *c)
{
    g_autofree char *config = opt_file(c, "config");
    g_autofree char *text = config ? virConnectDomainXMLFromNative(c->v->connection, opt_str(c, "format"), config, 0) : NULL;
    if (text)
        say(c, "%s", text);
    return text != NULL;
}

static bool cmd_to_native(struct call *c)
{
    if (!opt_str(c, "domain") == !opt_str(c, "xml"))
        return complain(c, opt_str(c, "xml") ? "Options --domain and --xml are mutually exclusive" : "need either domain or domain XML");
    g_autofree char *xml = NULL;
    if (opt_str(c, "xml")) {
        xml = opt_file(c, "xml");
    } else {
        g_autoptr(virDomain) domain = arg_domain(c);
        xml = domain ? virDomainGetXMLDesc(domain, 0) : NULL;
    }
    g_autofree char *text = xml ? virConnectDomainXMLToNative(c->v->connection, opt_str(c, "format"), xml, 0) : NULL;
    if (text)
        say(c, "%s", text);
    return text != NULL;
}

/* A call of the emulator's own part of the library, which need not be there. */
void *qemu_call(struct call *c, const char *name)
{
    void *found = dlsym(RTLD_DEFAULT, name);
    for (unsigned i = 0; !found && i < 2; i++) {
        static const char *const libraries[] = {"libvireo-qemu.so.0", "libvirt-qemu.so.0"};
        void *library = dlopen(libraries[i], RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
        if (library) {
            found = dlsym(library, name);
            dlclose(library);
        }
    }
    if (!found)
        complain(c, "the library has no %s", name);
    return found;
}

/* The words as a QMP command: as they are if they are a document, else {"execute": first, "arguments": rest}. */
static char *qmp_command(struct call *c)
{
    char **words = opt_list(c, "cmd");
    g_autofree char *joined = g_strjoinv(" ", words);
    if (opt_bool(c, "hmp") || *joined == '{')
        return g_steal_pointer(&joined);
    json_auto *o = json_object_new_object();
    json_object_object_add(o, "execute", json_object_new_string(words[0]));
    if (words[1]) {
        g_autofree char *rest = g_strjoinv(" ", words + 1);
        struct json_object *arguments = json_tokener_parse(rest);
        if (!arguments) {
            complain(c, "failed to wrap arguments '%s' into a QMP command wrapper", rest);
            return NULL;
        }
        json_object_object_add(o, "arguments", arguments);
    }
    return g_strdup(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
}

static bool cmd_monitor(struct call *c)
{
    int (*run)(virDomainPtr, const char *, char **, unsigned) = qemu_call(c, "virDomainQemuMonitorCommand");
    if (!run)
        return false;
    if (opt_str(c, "pass-fds"))
        return complain(c, "--pass-fds is not available in this version of vireo");
    if (!opt_exclusive(c, "hmp", "pretty", NULL) || !opt_exclusive(c, "hmp", "return-value", NULL))
        return false;
    g_autoptr(virDomain) domain = arg_domain(c);
    g_autofree char *command = domain ? qmp_command(c) : NULL;
    g_autofree char *result = NULL;
    if (!command || run(domain, command, &result, opt_bool(c, "hmp") ? 1 : 0) < 0)
        return false;
    if (!opt_bool(c, "pretty") && !opt_bool(c, "return-value")) {
        say(c, "%s\n", result);
        return true;
    }
    json_auto *o = json_tokener_parse(result);
    struct json_object *part = o;
    if (o && opt_bool(c, "return-value") && !json_object_object_get_ex(o, "return", &part))
        return complain(c, "'return' member missing");
    int style = opt_bool(c, "pretty") ? JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED : JSON_C_TO_STRING_PLAIN;
    say(c, "%s%s", o ? json_object_to_json_string_ext(part, style | JSON_C_TO_STRING_NOSLASHESCAPE) : result, opt_bool(c, "pretty") ? "" : "\n");
    return true;
}

static bool cmd_agent(struct call *c)
{
    char *(*run)(virDomainPtr, const char *, int, unsigned) = qemu_call(c, "virDomainQemuAgentCommand");
    int timeout = -2; /* the daemon's default; -1 blocks, 0 does not wait */
    if (!run || !opt_exclusive(c, "timeout", "async", "block", NULL) || opt_int(c, "timeout", &timeout) < 0)
        return false;
    if (opt_str(c, "timeout") && timeout < 1)
        return complain(c, "timeout must be positive");
    if (opt_bool(c, "async"))
        timeout = 0;
    if (opt_bool(c, "block"))
        timeout = -1;
    g_autoptr(virDomain) domain = arg_domain(c);
    g_autofree char *command = domain ? g_strjoinv(" ", opt_list(c, "cmd")) : NULL;
    g_autofree char *result = command ? run(domain, command, timeout, 0) : NULL;
    if (!result)
        return false;
    json_auto *o = opt_bool(c, "pretty") ? json_tokener_parse(result) : NULL;
    say(c, "%s\n", o ? json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_NOSLASHESCAPE) : result);
    return true;
}

static bool cmd_qemu_attach(struct call *c)
{
    virDomainPtr (*run)(virConnectPtr, unsigned, unsigned) = qemu_call(c, "virDomainQemuAttach");
    unsigned pid;
    if (!run || opt_uint(c, "pid", &pid) <= 0)
        return false;
    g_autoptr(virDomain) domain = run(c->v->connection, pid, 0);
    if (!domain)
        return complain(c, "Failed to attach to pid %u", pid);
    note(c, "Domain '%s' attached to pid %u", virDomainGetName(domain), pid);
    return true;
}

const struct command domain_meta_commands[] = {
    {"desc", "domain", "domain! live config current title edit new-desc...", cmd_desc, COMMAND_LIST, "Show or set a domain's description or title"},
    {"domdisplay", "domain", "domain! include-password type= all", cmd_domdisplay, COMMAND_LIST, "Print the URI of a domain's display"},
    {"domxml-from-native", "domain", "format! config!", cmd_from_native, 0, "Turn an emulator's command line into a document"},
    {"domxml-to-native", "domain", "format! domain=@ xml=", cmd_to_native, 0, "Turn a document into an emulator's command line"},
    {"metadata", "domain",
        "domain! uri! live config current edit key= set= remove",
        cmd_metadata, 0, "Show or set what other programs keep with a domain"},
    {"qemu-agent-command", "domain", "domain! timeout#@ async block pretty cmd...!", cmd_agent, 0, "Send a command to the guest's agent"},
    {"qemu-attach", "domain", "pid!", cmd_qemu_attach, 0, "Take over an emulator that was started by hand"},
    {"qemu-monitor-command", "domain", "domain! hmp pretty return-value pass-fds=@ cmd...!", cmd_monitor, 0, "Send a command to the emulator"},
    {"ttyconsole", "domain", "domain!", cmd_ttyconsole, COMMAND_LIST, "Print the terminal that a guest's console is on"},
    {"vncdisplay", "domain", "domain!", cmd_vncdisplay, COMMAND_LIST, "Print the address of a domain's VNC display"},
    {"lxc-enter-namespace", "domain", "domain! noseclabel cmd...!", NULL, 0, "Run a command inside a container"},
    {},
};
