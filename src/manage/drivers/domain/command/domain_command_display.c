/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a person sees, hears and touches: displays, graphics cards, sound, keyboards and pointers, and their places on USB. */
#include "manage/drivers/domain/command/domain_command.h"
#include "manage/drivers/domain/complete/domain_complete.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

bool domain_plan_usb(struct domain_build *b, struct json_object *o, const struct el *e, GError **error)
{
    unsigned bus = domain_number(e, "address/@bus", 0);
    const struct el *at = domain_controller(b->devices, "usb", bus);
    if (b->m.is_vireo && (!at || el_is(at, "@model", "none")))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<%s>%s: there is no USB controller %u; add <controller type='usb' index='%u' model='qemu-xhci'/>", el_name(e), domain_line(e),
                           bus, bus);
    g_autofree char *name = bus ? g_strdup_printf("%s.0", el_get_or(at, "alias/@name", "usb")) : g_strdup("usb.0");
    js_set(o, "bus", name);
    js_set(o, "port", el_get(e, "address/@port"));
    return true;
}

bool domain_plan_input(struct domain_build *b, struct el *e, GError **error)
{
    static const struct { const char *type, *usb, *virtio; } rows[] = { { "tablet", "usb-tablet", "virtio-tablet-pci" }, { "mouse", "usb-mouse", "virtio-mouse-pci" },
                                                                        { "keyboard", "usb-kbd", "virtio-keyboard-pci" } };
    if (el_is(e, "@bus", "ps2"))
        return true;
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (!el_is(e, "@type", rows[i].type))
            continue;
        bool usb = el_is(e, "@bus", "usb");
        struct json_object *o = domain_plan_device(b, usb ? rows[i].usb : rows[i].virtio, e);
        return !usb || domain_plan_usb(b, o, e, error);
    }
    return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<input type='%s'>%s is not there: tablet, mouse and keyboard are", el_get_or(e, "@type", ""), domain_line(e));
}

/* What every driver of QEMU can be told of its input and output; vireo-vmm plays at the pace and in the format of the guest. */
static void add_audio_side(struct json_object *o, const char *key, const struct el *side)
{
    static const struct { const char *path, *key; } switches[] = { { "@mixingEngine", "mixing-engine" }, { "@fixedSettings", "fixed-settings" } },
        numbers[] = { { "@voices", "voices" }, { "@bufferLength", "buffer-length" }, { "settings/@frequency", "frequency" }, { "settings/@channels", "channels" } };
    if (!side)
        return;
    struct json_object *s = json_object_new_object();
    for (unsigned i = 0; i < G_N_ELEMENTS(switches); i++)
        if (el_get(side, switches[i].path))
            js_bool(s, switches[i].key, el_is(side, switches[i].path, "yes"));
    for (unsigned i = 0; i < G_N_ELEMENTS(numbers); i++)
        if (el_get(side, numbers[i].path))
            js_int(s, numbers[i].key, (int64_t)domain_number(side, numbers[i].path, 0));
    js_set(s, "format", el_get(side, "settings/@format"));
    json_object_object_add(o, key, s);
}

bool domain_plan_audio(struct domain_build *b, struct el *e, GError **error)
{
    static const char *const known[] = { "none", "spice", "file" };
    const char *id = el_get_or(e, "@id", "1"), *path = el_get(e, "@path");
    for (unsigned i = 0; i < G_N_ELEMENTS(known); i++) {
        const char *driver = i == 2 ? "wav" : known[i];
        if (!el_is(e, "@type", known[i]))
            continue;
        if (b->m.is_vireo) {
            g_autofree char *file = i == 2 && path ? domain_plan_escape(path) : NULL;
            domain_plan_option(b, "-audiodev", "%s,id=audio%s%s%s", driver, id, file ? ",path=" : "", file ? file : "");
        } else {
            struct json_object *o = json_object_new_object();
            g_autofree char *name = g_strdup_printf("audio%s", id);
            js_set(o, "id", name);
            js_set(o, "driver", driver);
            js_set(o, "path", i == 2 ? path : NULL);
            if (el_get(e, "@timerPeriod"))
                js_int(o, "timer-period", (int64_t)domain_number(e, "@timerPeriod", 0));
            add_audio_side(o, "in", el_find(e, "input"));
            add_audio_side(o, "out", el_find(e, "output"));
            domain_plan_option(b, "-audiodev", "%s", json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
            json_object_put(o);
        }
        return true;
    }
    return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<audio type='%s'>%s is not there: none, spice and file are", el_get_or(e, "@type", ""), domain_line(e));
}

enum { PORT_FIRST = 5900, PORT_LAST = 6899, WEBSOCKET_FIRST = 5700, WEBSOCKET_LAST = 5899 };

/* A port that nobody listens on now. */
static unsigned free_port(const char *address, unsigned first, unsigned last)
{
    for (unsigned port = first; port <= last; port++) {
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
        int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (inet_pton(AF_INET, address, &a.sin_addr) != 1)
            a.sin_addr.s_addr = htonl(INADDR_ANY);
        bool good = s >= 0 && bind(s, (struct sockaddr *)&a, sizeof(a)) == 0;
        if (s >= 0)
            close(s);
        if (good)
            return port;
    }
    return 0;
}

char *domain_password_end(const struct el *graphics, GError **error)
{
    const char *until = el_get(graphics, "@passwdValidTo");
    g_autoptr(GTimeZone) utc = g_time_zone_new_utc();
    g_autoptr(GDateTime) t = until ? g_date_time_new_from_iso8601(until, utc) : NULL;
    if (until && !t)
        return manage_null(error, VIR_ERR_XML_ERROR, "<graphics>%s: passwdValidTo='%s' is not a time such as 2030-01-31T12:00:00", domain_line(graphics), until);
    return t ? g_strdup_printf("%" G_GINT64_FORMAT, g_date_time_to_unix(t)) : g_strdup("never");
}

/* The machine gets it by QMP: command lines can be read by everybody. An empty one lets nobody in. */
static bool add_password(struct domain_build *b, const struct el *e, GError **error)
{
    const char *protocol = el_get(e, "@type"); /* vnc or spice */
    g_autofree char *end = domain_password_end(e, error);
    if (!end)
        return false;
    struct json_object *args = domain_plan_after(b, "set_password");
    js_set(args, "protocol", protocol);
    js_set(args, "password", el_get(e, "@passwd"));
    js_set(args, "connected", el_get(e, "@connected"));
    args = domain_plan_after(b, "expire_password");
    js_set(args, "protocol", protocol);
    js_set(args, "time", *el_get(e, "@passwd") ? end : "now");
    return true;
}

/* The socket that a display listens at, of the machine's own directory where the document names none; NULL: it listens elsewhere. */
static const char *display_socket(struct domain_build *b, struct el *e)
{
    const char *named = el_get(e, "@socket") ? el_get(e, "@socket") : el_get(e, "listen/@socket");
    if (named || !el_is(e, "listen/@type", "socket"))
        return named;
    g_autofree char *path = g_strdup_printf("%s/%s.sock", b->dir ? b->dir : "", el_get_or(e, "@type", ""));
    el_set(e, "@socket", path);
    el_set(e, "listen/@socket", path);
    return el_get(e, "@socket");
}

/* QEMU translates what viewers send that send no scan codes; vireo-vmm takes such keys for those of a US keyboard. */
static void add_keymap(struct domain_build *b, const struct el *e)
{
    if (!b->m.is_vireo && el_get(e, "@keymap"))
        domain_plan_option(b, "-k", "%s", el_get(e, "@keymap"));
}

/* A port for viewers in browsers; -1: any; 0: none. */
static bool add_websocket(struct domain_build *b, struct el *e, GString *s, const char *address, GError **error)
{
    const char *asked = el_get(e, "@websocket");
    if (!asked || !strcmp(asked, "0"))
        return true;
    if (b->m.is_vireo)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<graphics>%s: vireo-vmm has no port for WebSocket; put a proxy such as websockify in front of the VNC port", domain_line(e));
    if (!el_is(e, "listen/@type", "address") && !el_is(e, "listen/@type", "network"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<graphics>%s: a port for WebSocket needs an address to listen at", domain_line(e));
    unsigned port = (unsigned)domain_number(e, "@websocket", 0);
    if (!port || port > 65535)
        port = b->d ? free_port(address, WEBSOCKET_FIRST, WEBSOCKET_LAST) : WEBSOCKET_FIRST;
    if (!port)
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "<graphics>%s: no port for WebSocket from %d to %d is free", domain_line(e), WEBSOCKET_FIRST, WEBSOCKET_LAST);
    el_setf(e, "@websocket", "%u", port);
    g_string_append_printf(s, ",websocket=%u", port);
    return true;
}

static bool add_vnc(struct domain_build *b, struct el *e, GError **error)
{
    const char *socket = display_socket(b, e), *address = el_get_or(e, "listen/@address", "127.0.0.1");
    g_autoptr(GString) s = g_string_new(NULL);
    if (socket) {
        g_autofree char *escaped = domain_plan_escape(socket);
        g_string_append_printf(s, "unix:%s", escaped);
    } else if (el_is(e, "listen/@type", "none")) {
        g_string_append(s, "none");
    } else {
        unsigned port = domain_number(e, "@port", 0);
        bool automatic = el_is(e, "@autoport", "yes") || !port || port < PORT_FIRST || port > 65535;
        if (automatic)
            port = b->d ? free_port(address, PORT_FIRST, PORT_LAST) : PORT_FIRST;
        if (!port)
            return manage_fail(error, VIR_ERR_OPERATION_FAILED, "<graphics>%s: no port from 5900 up is free", domain_line(e));
        el_setf(e, "@port", "%u", port);
        el_set(e, "@listen", address);
        el_set(e, "listen/@address", address);
        g_string_append_printf(s, strchr(address, ':') ? "[%s]:%u" : "%s:%u", address, port - PORT_FIRST);
        if (automatic && b->d) /* another machine may be on its way to the same port: the next one is taken then, and domain_read_vnc() finds out */
            g_string_append_printf(s, ",to=%u", PORT_LAST - PORT_FIRST);
    }
    if (!add_websocket(b, e, s, address, error))
        return false;
    if (b->m.is_vireo && el_is(e, "@powerControl", "yes"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<graphics>%s: viewers of a display of vireo-vmm do not switch the machine off; leave powerControl out", domain_line(e));
    if (el_get(e, "@passwd") && !add_password(b, e, error))
        return false;
    if (el_get(e, "@passwd"))
        g_string_append(s, ",password=on");
    if (!b->m.is_vireo && el_get(e, "@powerControl"))
        g_string_append(s, el_is(e, "@powerControl", "yes") ? ",power-control=on" : ",power-control=off");
    if (el_get(e, "@sharePolicy"))
        g_string_append_printf(s, ",share=%s", el_get(e, "@sharePolicy"));
    if (el_child(b->devices, "audio"))
        g_string_append_printf(s, ",audiodev=audio%s", el_get_or(el_child(b->devices, "audio"), "@id", "1"));
    domain_plan_option(b, "-vnc", "%s", s->str);
    add_keymap(b, e);
    return true;
}

/* What a SPICE server can be told: where the document says it; with the value, where it says that. */
static const struct { const char *path, *value, *option; } spice_options[] = {
    { "image/@compression", NULL, "image-compression=%s" }, { "jpeg/@compression", NULL, "jpeg-wan-compression=%s" }, { "zlib/@compression", NULL, "zlib-glz-wan-compression=%s" },
    { "playback/@compression", NULL, "playback-compression=%s" }, { "streaming/@mode", NULL, "streaming-video=%s" }, { "mouse/@mode", "server", "agent-mouse=off" },
    { "mouse/@mode", "client", "agent-mouse=on" }, { "clipboard/@copypaste", "no", "disable-copy-paste=on" }, { "filetransfer/@enable", "no", "disable-agent-file-xfer=on" },
    { "@defaultMode", "insecure", "plaintext-channel=default" },
};

/* where: its port or socket. */
static bool add_spice(struct domain_build *b, const struct el *e, const char *where, GError **error)
{
    g_autoptr(GString) s = g_string_new(where);
    bool secure = domain_number(e, "@tlsPort", 0) - 1 < 65535 || el_is(e, "@defaultMode", "secure");
    el_each(c, e, "channel") {
        secure |= el_is(c, "@mode", "secure");
        if (el_is(c, "@mode", "insecure"))
            g_string_append_printf(s, ",plaintext-channel=%s", el_get_or(c, "@name", ""));
    }
    if (secure)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<graphics type='spice'>%s: TLS is not there; leave tlsPort and the mode 'secure' out", domain_line(e));
    if (el_is(e, "gl/@enable", "yes"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<graphics type='spice'>%s: 3D acceleration (<gl enable='yes'>) is not there", domain_line(e));
    if (el_get(e, "@passwd") && !add_password(b, e, error))
        return false;
    if (!el_get(e, "@passwd"))
        g_string_append(s, ",disable-ticketing=on");
    for (unsigned i = 0; i < G_N_ELEMENTS(spice_options); i++) {
        const char *value = el_get(e, spice_options[i].path);
        if (!value || (spice_options[i].value && strcmp(value, spice_options[i].value)))
            continue;
        g_autoptr(GString) option = g_string_new(spice_options[i].option);
        g_string_replace(option, "%s", value, 0);
        g_string_append_printf(s, ",%s", option->str);
    }
    domain_plan_option(b, "-spice", "%s", s->str);
    add_keymap(b, e);
    return true;
}

bool domain_plan_graphics(struct domain_build *b, struct el *e, GError **error)
{
    if (el_is(e, "@type", "vnc"))
        return add_vnc(b, e, error);
    if (!el_is(e, "@type", "spice"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<graphics type='%s'>%s is not there: vnc is", el_get_or(e, "@type", ""), domain_line(e));
    const char *address = el_get_or(e, "listen/@address", "127.0.0.1");
    if (el_is(e, "listen/@type", "none"))
        return add_spice(b, e, "port=0", error);
    g_autofree char *where = NULL;
    if (el_is(e, "listen/@type", "socket")) {
        g_autofree char *escaped = domain_plan_escape(display_socket(b, e));
        el_set(e, "@socket", NULL); /* VNC's alone */
        where = g_strdup_printf("unix=on,addr=%s,seamless-migration=on", escaped);
        return add_spice(b, e, where, error);
    }
    unsigned port = domain_number(e, "@port", 0);
    if (!port || port > 65535)
        port = b->d ? free_port(address, PORT_FIRST, PORT_LAST) : PORT_FIRST;
    el_setf(e, "@port", "%u", port);
    el_set(e, "@listen", address);
    el_set(e, "listen/@address", address);
    where = g_strdup_printf("port=%u,addr=%s,seamless-migration=on", port, address);
    return add_spice(b, e, where, error);
}

bool domain_plan_video(struct domain_build *b, struct el *e, GError **error)
{
    static const struct { const char *type, *first, *other; } rows[] = { { "vga", "VGA", "secondary-vga" }, { "cirrus", "cirrus-vga", "cirrus-vga" }, { "qxl", "qxl-vga", "qxl" },
        { "virtio", "virtio-vga", "virtio-gpu-pci" }, { "vmvga", "vmware-svga", "vmware-svga" }, { "bochs", "bochs-display", "bochs-display" }, { "ramfb", "ramfb", "ramfb" } };
    if (el_is(e, "model/@type", "none"))
        return true;
    if (el_is(e, "model/acceleration/@accel3d", "yes") || el_is(e, "driver/@name", "vhostuser"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<video>%s: %s is not there", domain_line(e), el_is(e, "driver/@name", "vhostuser") ? "a graphics card in another process" : "3D acceleration");
    if (b->m.is_vireo && el_next(el_child(b->devices, "video"), "video"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<video>%s: vireo-vmm has one graphics card a machine", domain_line(el_next(el_child(b->devices, "video"), "video")));
    if (b->m.is_vireo && domain_number(e, "model/@heads", 1) > 1)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<video>%s: a graphics card of vireo-vmm has one head, not %s", domain_line(e), el_get(e, "model/@heads"));
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (!el_is(e, "model/@type", rows[i].type))
            continue;
        struct json_object *o = domain_plan_device(b, el_is(e, "model/@primary", "yes") ? rows[i].first : rows[i].other, e);
        uint64_t ram = domain_number(e, "model/@ram", 0), vram = domain_number(e, "model/@vram", 0);
        if (i == 3 || i == 2)
            js_int(o, "max_outputs", (int64_t)domain_number(e, "model/@heads", 1));
        if (i == 2 && ram)
            js_int(o, "ram_size", (int64_t)ram << 10);
        if (i == 2 && vram)
            js_int(o, "vram_size", (int64_t)vram << 10);
        if (i == 2 && el_get(e, "model/@vram64"))
            js_int(o, "vram64_size_mb", (int64_t)(domain_number(e, "model/@vram64", 0) + 1023) >> 10);
        if (i == 2)
            js_int(o, "vgamem_mb", (int64_t)MAX(domain_number(e, "model/@vgamem", 16384) >> 10, 1));
        if (i < 2 && vram)
            js_int(o, "vgamem_mb", (int64_t)MAX(vram >> 10, 1));
        if (i == 5 && vram) {
            g_autofree char *memory = g_strdup_printf("%" G_GUINT64_FORMAT "k", vram);
            js_set(o, "vgamem", memory);
        }
        if (el_find(e, "model/resolution") && (i == 0 || i == 2 || i == 3 || i == 5)) {
            js_int(o, "xres", (int64_t)domain_number(e, "model/resolution/@x", 0));
            js_int(o, "yres", (int64_t)domain_number(e, "model/resolution/@y", 0));
        }
        return true;
    }
    return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<video> <model type='%s'>%s is not there", el_get_or(e, "model/@type", ""), domain_line(e));
}

bool domain_plan_sound(struct domain_build *b, struct el *e, GError **error)
{
    static const struct { const char *model, *driver; bool codec; } rows[] = { { "ich9", "ich9-intel-hda", true }, { "ich6", "intel-hda", true }, { "ac97", "AC97", false },
                                                                             { "es1370", "ES1370", false }, { "sb16", "sb16", false }, { "usb", "usb-audio", false } };
    const char *audio = el_get_or(el_child(b->devices, "audio"), "@id", "1");
    g_autofree char *audiodev = g_strdup_printf("audio%s", audio), *alias = g_strdup(el_get_or(e, "alias/@name", "sound0"));
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (!el_is(e, "@model", rows[i].model))
            continue;
        struct json_object *o = domain_plan_device(b, rows[i].driver, e);
        if (!rows[i].codec) {
            js_set(o, "audiodev", audiodev);
            return true;
        }
        g_autofree char *id = g_strdup_printf("%s-codec0", alias), *bus = g_strdup_printf("%s.0", alias);
        o = domain_plan_device(b, el_is(e, "codec/@type", "micro") ? "hda-micro" : el_is(e, "codec/@type", "output") ? "hda-output" : "hda-duplex", NULL);
        js_set(o, "id", id);
        js_set(o, "bus", bus);
        js_int(o, "cad", 0);
        js_set(o, "audiodev", audiodev);
        return true;
    }
    return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<sound model='%s'>%s is not there", el_get_or(e, "@model", ""), domain_line(e));
}

bool domain_plan_hub(struct domain_build *b, struct el *e, GError **error)
{
    struct json_object *o = domain_plan_device(b, "usb-hub", e);
    return domain_plan_usb(b, o, e, error);
}
