/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Documents: reading by path, printing, editing. */
#include "vireo.h"
#include "vireo_domain.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <libxml/parser.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

bool xml_open(struct xml *x, const char *text)
{
    *x = (struct xml){};
    x->doc = text ? xmlReadMemory(text, strlen(text), "document.xml", NULL, XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING) : NULL;
    if (!x->doc)
        return false;
    x->xpath = xmlXPathNewContext(x->doc);
    return x->xpath != NULL;
}

void xml_close(struct xml *x)
{
    if (x->xpath)
        xmlXPathFreeContext(x->xpath);
    if (x->doc)
        xmlFreeDoc(x->doc);
    *x = (struct xml){};
}

static xmlXPathObjectPtr evaluate(struct xml *x, xmlNodePtr from, const char *path)
{
    if (!x->xpath)
        return NULL;
    x->xpath->node = from ? from : xmlDocGetRootElement(x->doc);
    return xmlXPathEval((const xmlChar *)path, x->xpath);
}

GPtrArray *xml_nodes(struct xml *x, xmlNodePtr from, const char *path, ...)
{
    va_list ap;
    va_start(ap, path);
    g_autofree char *full = g_strdup_vprintf(path, ap);
    va_end(ap);
    GPtrArray *nodes = g_ptr_array_new();
    xmlXPathObjectPtr o = evaluate(x, from, full);
    for (int i = 0; o && o->type == XPATH_NODESET && o->nodesetval && i < o->nodesetval->nodeNr; i++)
        g_ptr_array_add(nodes, o->nodesetval->nodeTab[i]);
    xmlXPathFreeObject(o);
    return nodes;
}

char *xml_text(struct xml *x, xmlNodePtr from, const char *path, ...)
{
    va_list ap;
    va_start(ap, path);
    g_autofree char *full = g_strdup_vprintf(path, ap);
    va_end(ap);
    xmlXPathObjectPtr o = evaluate(x, from, full);
    char *text = NULL;
    if (o && (o->type != XPATH_NODESET || (o->nodesetval && o->nodesetval->nodeNr > 0))) {
        xmlChar *s = xmlXPathCastToString(o);
        text = g_strdup((char *)s);
        xmlFree(s);
    }
    xmlXPathFreeObject(o);
    return text;
}

char *xml_dump(struct xml *x, xmlNodePtr node)
{
    xmlBufferPtr buffer = xmlBufferCreate();
    xmlNodeDump(buffer, x->doc, node, 0, 1);
    char *text = g_strdup((const char *)xmlBufferContent(buffer));
    xmlBufferFree(buffer);
    return text;
}

static void wrap_nodes(struct xml *x, GPtrArray *nodes)
{
    xmlDocPtr doc = xmlNewDoc((const xmlChar *)"1.0");
    xmlNodePtr root = xmlNewNode(NULL, (const xmlChar *)"nodes");
    xmlDocSetRootElement(doc, root);
    for (guint i = 0; i < nodes->len; i++)
        xmlAddChild(root, xmlDocCopyNode(nodes->pdata[i], doc, 1));
    struct xml wrapped = {.doc = doc};
    g_autofree char *text = xml_dump(&wrapped, root);
    puts(text);
    xmlFreeDoc(doc);
}

bool print_document(struct call *c, const char *text)
{
    const char *path = opt_str(c, "xpath");
    if (!path) {
        say(c, "%s", text);
        return true;
    }
    struct xml x;
    if (!xml_open(&x, text))
        return complain(c, "the document cannot be parsed");
    g_autoptr(GPtrArray) nodes = xml_nodes(&x, NULL, "%s", path);
    if (opt_bool(c, "wrap"))
        wrap_nodes(&x, nodes);
    for (guint i = 0; i < nodes->len && !opt_bool(c, "wrap"); i++) {
        g_autofree char *one = xml_dump(&x, nodes->pdata[i]);
        puts(one);
    }
    xml_close(&x);
    return true;
}

/* Runs the editor on a file; $VISUAL and $EDITOR may hold arguments, so the shell reads them. */
static bool run_editor(struct call *c, const char *path)
{
    const char *editor = g_getenv("VISUAL") ? g_getenv("VISUAL") : g_getenv("EDITOR");
    g_autofree char *quoted = g_shell_quote(path);
    g_autofree char *line = g_strdup_printf("%s %s", editor && *editor ? editor : "vi", quoted);
    const char *argv[] = {"/bin/sh", "-c", line, NULL};
    int status = 0;
    g_autoptr(GError) error = NULL;
    if (!g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_CHILD_INHERITS_STDIN, NULL, NULL, NULL, NULL, &status, &error))
        return complain(c, "the editor cannot be started: %s", error->message);
    return (WIFEXITED(status) && WEXITSTATUS(status) == 0) || complain(c, "the editor '%s' ended with an error", editor ? editor : "vi");
}

/* What to do with a document that was refused: 'y' edit again, 'n' give up, 'f' try once more as it is. */
static char ask_again(struct call *c)
{
    char answer[16];
    for (;;) {
        fprintf(stderr, "Failed. Try again? [y,n,f,?]: ");
        fflush(stderr);
        if (!fgets(answer, sizeof answer, stdin))
            return 'n';
        char ch = g_ascii_tolower(answer[0]);
        if (ch == 'y' || ch == 'n' || ch == 'f')
            return ch;
        fprintf(stderr, "y - edit the text again\nn - give up, change nothing\nf - store the text as it is once more\n");
    }
}

static char *temporary_file(struct call *c, const char *text)
{
    char *path = g_build_filename(g_get_tmp_dir(), "vireoXXXXXX.xml", NULL);
    int fd = g_mkstemp_full(path, O_RDWR | O_CLOEXEC, 0600);
    bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0 && close(fd) < 0)
        good = false;
    if (good)
        return path;
    complain(c, "%s: failed to write to temporary file: %s", path, g_strerror(errno));
    unlink(path);
    g_free(path);
    return NULL;
}

bool edit_document(struct call *c, const char *text, bool (*store)(struct call *c, const char *text, void *opaque), void *opaque, const char *nothing)
{
    g_autofree char *path = temporary_file(c, text);
    if (!path)
        return false;
    bool done = false, edit = true;
    while (!done) {
        g_autofree char *edited = NULL;
        if ((edit && !run_editor(c, path)) || !g_file_get_contents(path, &edited, NULL, NULL))
            break;
        if (!strcmp(edited, text)) {
            note(c, "%s", nothing);
            done = true;
            break;
        }
        done = store(c, edited, opaque);
        if (done)
            break;
        report_library_error(c->v);
        char answer = ask_again(c);
        if (answer == 'n')
            break;
        edit = answer == 'y';
    }
    unlink(path);
    return done;
}

bool domain_xml(struct call *c, virDomainPtr domain, unsigned flags, struct xml *ret_xml)
{
    g_autofree char *text = virDomainGetXMLDesc(domain, flags);
    *ret_xml = (struct xml){};
    if (!text)
        return complain(c, "Failed to get domain description xml");
    return xml_open(ret_xml, text) || complain(c, "the document of domain '%s' cannot be parsed", virDomainGetName(domain));
}
