/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The screen and the keyboard of a running machine: pictures of what it shows, viewers that come by a descriptor, keys, and what it tells of viewers. */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "manage/drivers/domain/command/domain_plan.h"

static const struct el *nth(const struct doc *live, const char *element, unsigned index)
{
    unsigned n = 0;
    el_each(e, el_find(doc_root(live), "devices"), element)
        if (n++ == index)
            return e;
    return NULL;
}

static bool tell(struct domain *d, const char *command, struct json_object *args, const int *fd, GError **error)
{
    struct json_object *o = monitor_command_fds(d, command, args, fd, fd ? 1 : 0, error);
    json_object_put(o);
    return o != NULL;
}

/* ---- the port ---- */

static struct el *with_port(struct doc *live)
{
    el_each(e, live ? el_find(doc_root(live), "devices") : NULL, "graphics")
        if (el_is(e, "@type", "vnc") && el_get(e, "@listen") && el_get(e, "@port"))
            return e;
    return NULL;
}

void domain_read_vnc(struct domain *d)
{
    g_mutex_lock(&d->lock);
    bool has = with_port(d->live) != NULL;
    g_mutex_unlock(&d->lock);
    struct json_object *o = has ? monitor_command(d, "query-vnc", NULL, NULL) : NULL;
    guint64 port = 0;
    const char *service = json_object_get_string(json_object_object_get(o, "service"));
    if (service && g_ascii_string_to_unsigned(service, 10, 1, 65535, &port, NULL)) {
        g_mutex_lock(&d->lock);
        struct el *e = with_port(d->live);
        if (e)
            el_setf(e, "@port", "%u", (unsigned)port);
        g_mutex_unlock(&d->lock);
    }
    json_object_put(o);
}

/* ---- screenshot ---- */

/* The machine writes into memory that we share with it: it opens no file, and none is left behind. */
static bool take_picture(struct domain *d, const struct el *video, unsigned head, int memory, GError **error)
{
    int64_t set;
    g_autofree char *name = domain_lend_file(d, memory, &set, error);
    if (!name)
        return false;
    struct json_object *args = json_object_new_object();
    js_set(args, "filename", name);
    js_set(args, "format", "png");
    js_set(args, "device", el_get(video, "alias/@name"));
    if (el_get(video, "alias/@name"))
        js_int(args, "head", head);
    bool good = tell(d, "screendump", args, NULL, error);
    domain_lend_end(d, set);
    return good;
}

/* Which card and which of its heads is screen number `screen`: heads are counted over all cards. */
static const struct el *card_of_screen(const struct doc *live, unsigned screen, unsigned *ret_head)
{
    const struct el *video;
    for (unsigned i = 0; (video = nth(live, "video", i)); i++) {
        unsigned heads = el_is(video, "model/@type", "none") ? 0 : MAX(domain_number(video, "model/@heads", 1), 1);
        if (screen < heads) {
            *ret_head = screen;
            return video;
        }
        screen -= heads;
    }
    return NULL;
}

static bool begin(struct manage_call *c, const char *what, struct domain **ret, struct doc **ret_live, GError **error)
{
    struct domain *d = domain_of_call(c, 0, error);
    if (!d || !domain_begin(d, what, true, error)) {
        if (d)
            domain_unref(d);
        return false;
    }
    *ret_live = domain_live(d, error);
    *ret = d;
    if (*ret_live)
        return true;
    domain_end(d);
    domain_unref(d);
    return false;
}

static GVariant *end(struct domain *d, struct doc *live, GVariant *answer)
{
    doc_free(live);
    domain_end(d);
    domain_unref(d);
    return answer;
}

static GVariant *screenshot(struct manage_call *c, GError **error)
{
    uint32_t screen, flags;
    unsigned head = 0;
    struct domain *d;
    struct doc *live;
    g_variant_get_child(c->args, 1, "u", &screen);
    g_variant_get_child(c->args, 2, "u", &flags);
    if (!manage_check_flags(flags, 0, error) || !begin(c, "screenshot", &d, &live, error))
        return NULL;
    const struct el *video = card_of_screen(live, screen, &head);
    if (!video) {
        manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "the domain has no screen %u: %s", screen, nth(live, "video", 0) ? "its graphics cards have fewer" : "it has no graphics card");
        return end(d, live, NULL);
    }
    int fd = memfd_create("vireo-screen", MFD_CLOEXEC);
    bool good = fd >= 0 ? take_picture(d, video, head, fd, error) : manage_fail_errno(error, errno, "cannot make memory for the picture");
    good = good && (lseek(fd, 0, SEEK_SET) == 0 || manage_fail_errno(error, errno, "cannot read the picture"));
    if (good)
        manage_call_stream_fd(c, fd);
    else if (fd >= 0)
        close(fd);
    return end(d, live, good ? g_variant_new("(ms)", "image/png") : NULL);
}

/* ---- viewers by descriptor ---- */

static bool add_viewer(struct domain *d, const struct doc *live, unsigned index, bool skip_password, int fd, GError **error)
{
    const struct el *graphics = nth(live, "graphics", index);
    if (!graphics)
        return manage_fail(error, VIR_ERR_INTERNAL_ERROR, "No graphics backend with index %u", index);
    const char *type = el_get_or(graphics, "@type", "");
    if (strcmp(type, "vnc") && strcmp(type, "spice"))
        return manage_fail(error, VIR_ERR_INTERNAL_ERROR, "Can only open VNC or SPICE graphics backends, not %s", type);
    struct json_object *args = json_object_new_object();
    js_set(args, "fdname", "graphicsfd");
    if (!tell(d, "getfd", args, &fd, error))
        return false;
    args = json_object_new_object();
    js_set(args, "protocol", type);
    js_set(args, "fdname", "graphicsfd");
    js_bool(args, "skipauth", skip_password);
    if (tell(d, "add_client", args, NULL, error))
        return true;
    args = json_object_new_object();
    js_set(args, "fdname", "graphicsfd");
    (void)tell(d, "closefd", args, NULL, NULL);
    return false;
}

static bool open_arguments(struct manage_call *c, uint32_t *ret_index, uint32_t *ret_flags, GError **error)
{
    g_variant_get_child(c->args, 1, "u", ret_index);
    g_variant_get_child(c->args, 2, "u", ret_flags);
    return manage_check_flags(*ret_flags, VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH, error);
}

static GVariant *open_graphics(struct manage_call *c, GError **error)
{
    uint32_t index, flags;
    struct domain *d;
    struct doc *live;
    if (c->nfds != 1)
        return manage_null(error, VIR_ERR_INVALID_ARG, "the viewer's socket has to come along as one descriptor");
    if (!open_arguments(c, &index, &flags, error) || !begin(c, "open graphics", &d, &live, error))
        return NULL;
    bool good = add_viewer(d, live, index, flags & VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH, c->fds[0], error);
    return end(d, live, good ? manage_void() : NULL);
}

static GVariant *open_graphics_fd(struct manage_call *c, GError **error)
{
    uint32_t index, flags;
    struct domain *d;
    struct doc *live;
    int pair[2];
    if (!open_arguments(c, &index, &flags, error) || !begin(c, "open graphics", &d, &live, error))
        return NULL;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        manage_fail_errno(error, errno, "cannot make a pair of sockets");
        return end(d, live, NULL);
    }
    bool good = add_viewer(d, live, index, flags & VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH, pair[1], error);
    close(pair[1]);
    if (!good) {
        close(pair[0]);
        return end(d, live, NULL);
    }
    if (!c->ret_fds)
        c->ret_fds = g_array_new(FALSE, FALSE, sizeof(int));
    g_array_append_val(c->ret_fds, pair[0]);
    return end(d, live, manage_void());
}

/* ---- viewers come and go ---- */

static GVariant *address(struct json_object *o)
{
    static const char *const families[] = { "ipv4", "ipv6", "unix" }; /* virDomainEventGraphicsAddressType */
    int family = VIR_DOMAIN_EVENT_GRAPHICS_ADDRESS_UNIX;
    const char *words[3] = { "", "", "" }, *keys[3] = { "family", "host", "service" };
    for (unsigned i = 0; i < 3; i++) {
        const char *s = json_object_get_string(json_object_object_get(o, keys[i]));
        words[i] = s && g_utf8_validate(s, -1, NULL) ? s : "";
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(families); i++)
        if (!strcmp(words[0], families[i]))
            family = (int)i;
    return g_variant_new("(iss)", family, words[1], words[2]);
}

GVariant *domain_viewer_event(struct domain *d, int phase, struct json_object *data)
{
    static const char *const kinds[][2] = { { "x509_dname", "x509dname" }, { "sasl_username", "saslUsername" } };
    struct json_object *client = json_object_object_get(data, "client"), *server = json_object_object_get(data, "server");
    const char *scheme = json_object_get_string(json_object_object_get(server, "auth"));
    GVariantBuilder subject;
    g_variant_builder_init(&subject, G_VARIANT_TYPE("a(ss)"));
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        const char *name = json_object_get_string(json_object_object_get(client, kinds[i][0]));
        if (name && g_utf8_validate(name, -1, NULL))
            g_variant_builder_add(&subject, "(ss)", kinds[i][1], name);
    }
    return g_variant_new("(@(sayi)i@(iss)@(iss)sa(ss))", domain_variant(d), phase, address(server), address(client),
                         scheme && g_utf8_validate(scheme, -1, NULL) ? scheme : "", &subject);
}

/* ---- keys ---- */

/* Linux input codes past those that a PC keyboard numbers alike: the number with 0x80 for keys that send 0xe0 first. */
static const struct { uint8_t linux_code, number; } keys[] = {
    { 89, 0x73 },  { 92, 0x79 },  { 93, 0x70 },  { 94, 0x7b },  { 96, 0x9c },  { 97, 0x9d },  { 98, 0xb5 },  { 99, 0x54 },  { 100, 0xb8 }, { 102, 0xc7 }, { 103, 0xc8 },
    { 104, 0xc9 }, { 105, 0xcb }, { 106, 0xcd }, { 107, 0xcf }, { 108, 0xd0 }, { 109, 0xd1 }, { 110, 0xd2 }, { 111, 0xd3 }, { 113, 0xa0 }, { 114, 0xae }, { 115, 0xb0 },
    { 116, 0xde }, { 117, 0x59 }, { 119, 0xc6 }, { 121, 0x7e }, { 124, 0x7d }, { 125, 0xdb }, { 126, 0xdc }, { 127, 0xdd }, { 128, 0xe8 }, { 140, 0xa1 }, { 142, 0xdf },
    { 143, 0xe3 }, { 155, 0xec }, { 158, 0xea }, { 159, 0xe9 }, { 163, 0x99 }, { 164, 0xa2 }, { 165, 0x90 }, { 166, 0xa4 }, { 172, 0xb2 }, { 173, 0xe7 },
};

/* HID usages (page 7) from 4 on as Linux input codes; 0: none. */
static const uint8_t usages[] = {
    30, 48, 46, 32, 18, 33, 34, 35, 23, 36, 37, 38, 50, 49, 24, 25, 16, 19, 31, 20, 22, 47, 17, 45, 21, 44, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 28, 1, 14, 15, 57, 12, 13, 26, 27, 43, 43, 39,
    40, 41, 51, 52, 53, 58, 59, 60, 61, 62, 63, 64, 65, 66, 67, 68, 87, 88, 99, 70, 119, 110, 102, 104, 111, 107, 109, 106, 105, 108, 103, 69, 98, 55, 74, 78, 96, 79, 80, 81, 75, 76,
    77, 71, 72, 73, 82, 83, 86, 127, 116, 117,
};
static const uint8_t modifiers[] = { 29, 42, 56, 125, 97, 54, 100, 126 }; /* usages 0xe0 to 0xe7 */

static unsigned number_of_linux(unsigned code)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(keys); i++)
        if (keys[i].linux_code == code)
            return keys[i].number;
    return code <= 88 && code != 84 && code != 85 ? code : 0;
}

/* The machine's number of a key; 0: there is none. */
static unsigned key_number(unsigned set, unsigned code)
{
    switch (set) {
    case VIR_KEYCODE_SET_LINUX:
        return number_of_linux(code);
    case VIR_KEYCODE_SET_USB:
        return code >= 4 && code < 4 + G_N_ELEMENTS(usages) ? number_of_linux(usages[code - 4]) : code >= 0xe0 && code <= 0xe7 ? number_of_linux(modifiers[code - 0xe0]) : 0;
    case VIR_KEYCODE_SET_ATSET1:
    case VIR_KEYCODE_SET_XT:
        return code >> 8 == 0xe0 ? (code & 0x7f) | 0x80 : code < 0x100 ? code : 0;
    case VIR_KEYCODE_SET_QNUM:
    case VIR_KEYCODE_SET_XT_KBD:
        return code < 0x100 ? code : 0;
    default:
        return 0;
    }
}

static struct json_object *key_list(unsigned set, GVariant *codes, GError **error)
{
    struct json_object *list = json_object_new_array();
    for (gsize i = 0; i < g_variant_n_children(codes); i++) {
        uint32_t code;
        g_variant_get_child(codes, i, "u", &code);
        unsigned number = key_number(set, code);
        if (!number) {
            json_object_put(list);
            return manage_null(error, VIR_ERR_INVALID_ARG, "a PC keyboard has no key for code %u of this set", code);
        }
        struct json_object *key = json_object_new_object();
        js_set(key, "type", "number");
        js_int(key, "data", number);
        json_object_array_add(list, key);
    }
    return list;
}

static GVariant *send_key(struct manage_call *c, GError **error)
{
    static const char *const known[] = { [VIR_KEYCODE_SET_LINUX] = "linux", [VIR_KEYCODE_SET_XT] = "xt", [VIR_KEYCODE_SET_ATSET1] = "atset1", [VIR_KEYCODE_SET_XT_KBD] = "xt_kbd",
                                         [VIR_KEYCODE_SET_USB] = "usb", [VIR_KEYCODE_SET_QNUM] = "qnum" };
    uint32_t set, hold, flags;
    g_autoptr(GVariant) codes = g_variant_get_child_value(c->args, 3);
    struct domain *d;
    struct doc *live;
    g_variant_get_child(c->args, 1, "u", &set);
    g_variant_get_child(c->args, 2, "u", &hold);
    g_variant_get_child(c->args, 4, "u", &flags);
    if (!manage_check_flags(flags, 0, error))
        return NULL;
    if (set >= G_N_ELEMENTS(known) || !known[set])
        return manage_null(error, VIR_ERR_CONFIG_UNSUPPORTED, "key codes of set %u cannot be sent: linux, xt, atset1, xt_kbd, usb and qnum (rfb) can", set);
    struct json_object *list = key_list(set, codes, error);
    if (!list)
        return NULL;
    if (!begin(c, "send key", &d, &live, error)) {
        json_object_put(list);
        return NULL;
    }
    struct json_object *args = json_object_new_object();
    json_object_object_add(args, "keys", list);
    if (hold)
        js_int(args, "hold-time", hold);
    return end(d, live, tell(d, "send-key", args, NULL, error) ? manage_void() : NULL);
}

const struct manage_row domain_rows_display[] = {
    { RPC_DOMAIN_SCREENSHOT, screenshot },
    { RPC_DOMAIN_OPEN_GRAPHICS, open_graphics },
    { RPC_DOMAIN_OPEN_GRAPHICS_FD, open_graphics_fd },
    { RPC_DOMAIN_SEND_KEY, send_key },
    { 0, NULL },
};
