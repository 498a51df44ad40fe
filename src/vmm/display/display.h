/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the guest shows and what people do to it. A graphics device owns one head and puts pixels on it; servers (VNC) and screendump
 * read them. Input goes the other way: whoever has keys and a pointer gives them to the input devices of the machine.
 *
 * Pixels are 32 bits, 0x00RRGGBB in host byte order. Locks: display->lock covers the head's picture and the list of listeners; it is
 * the innermost lock (a device holds its own when it draws), so listeners must only note what changed and wake their thread.
 * display->devices covers the list of input devices and the refresh method, and is held while they are called; it comes before
 * the devices' own locks. So a device adds, removes and sets itself without holding its own.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct machine;
struct display;

#define DISPLAY_MAX_SIZE 8192u /* pixels a side */

/* ---- pictures ---- */

/* Called with the display's lock held, from any thread. */
struct display_listener {
    void (*resized)(void *opaque);
    void (*changed)(void *opaque, unsigned x, unsigned y, unsigned width, unsigned height);
    void (*cursor)(void *opaque); /* its shape, or whether it is there */
    void *opaque;
};

/* The machine's display; made at the first call. Freed by display_destroy (NULL allowed). */
struct display *display_of(struct machine *m);
void display_destroy(struct display *d);
/* A graphics device came: false when there is one already (one head). */
bool display_claim(struct display *d, const char *device, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void display_release(struct display *d);
bool display_claimed(const struct display *d);
const char *display_card(const struct display *d); /* class name of the card; NULL: none. Main thread */
/* For cards that must look for what the guest wrote: called, on the thread of whoever looks, before a screendump and regularly while somebody
 * watches; it takes the device's lock and draws. NULL, and display_release: no more; when it returns, none is under way. */
void display_set_refresh(struct display *d, void (*refresh)(void *opaque), void *opaque);
/* Brings the picture up to date. False: the card draws what changes by itself. */
bool display_refresh(struct display *d);

/* The head's size in pixels; 0, 0: nothing is shown. The picture becomes black. */
void display_resize(struct display *d, unsigned width, unsigned height);
/* Rows of `stride` bytes; the part outside the head is left out. */
void display_draw(struct display *d, unsigned x, unsigned y, unsigned width, unsigned height, const void *pixels, size_t stride);
/* The pointer's picture, ARGB, premultiplied or not as the guest gives it; pixels NULL: none. */
void display_set_cursor(struct display *d, unsigned width, unsigned height, unsigned hot_x, unsigned hot_y, const uint32_t *pixels);

void display_add_listener(struct display *d, const struct display_listener *l);
void display_remove_listener(struct display *d, const void *opaque);

/* A picture under the lock: call lock, look, unlock. */
struct display_picture {
    unsigned width, height; /* stride: width * 4 */
    const uint32_t *pixels;
    unsigned cursor_width, cursor_height, hot_x, hot_y;
    const uint32_t *cursor; /* NULL: none */
};
const struct display_picture *display_lock(struct display *d);
void display_unlock(struct display *d);

/* The picture as a file's content: PPM (binary, "P6") or PNG. Free it with g_free; false: there is no graphics card. Black, 640 by 480, where the guest shows nothing. */
bool display_dump(struct display *d, bool png, guint8 **ret_data, gsize *ret_size, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- input ---- */

enum { DISPLAY_BUTTON_LEFT = 1, DISPLAY_BUTTON_MIDDLE = 2, DISPLAY_BUTTON_RIGHT = 4, DISPLAY_BUTTON_WHEEL_UP = 8, DISPLAY_BUTTON_WHEEL_DOWN = 16,
       DISPLAY_BUTTON_SIDE = 32, DISPLAY_BUTTON_EXTRA = 64, DISPLAY_BUTTON_WHEEL_LEFT = 128, DISPLAY_BUTTON_WHEEL_RIGHT = 256 };
#define DISPLAY_POINTER_MAX 0x7fffu

/* What an input device takes; a member may be NULL. Called from any thread; the device takes its own lock. */
struct display_input {
    void (*key)(void *opaque, unsigned code, bool down);                            /* KEY_... of linux/input-event-codes.h */
    void (*pointer)(void *opaque, unsigned x, unsigned y, unsigned buttons);        /* 0 to DISPLAY_POINTER_MAX; all buttons that are down */
    void (*motion)(void *opaque, int dx, int dy, unsigned buttons);                 /* relative, where nobody takes a place */
    void *opaque;
    const char *name;              /* as QMP query-mice shows it */
    bool (*ready)(void *opaque);   /* NULL: always. False while the guest's driver does not listen: input goes to the next device */
};
void display_add_input(struct display *d, const struct display_input *in);
void display_remove_input(struct display *d, const void *opaque);
/* To the device that came last and takes it; ignored where none does. */
void display_key(struct display *d, unsigned code, bool down);
/* A place becomes a motion where only relative pointers listen. */
void display_pointer(struct display *d, unsigned x, unsigned y, unsigned buttons);
void display_motion(struct display *d, int dx, int dy, unsigned buttons);
bool display_has_absolute_pointer(struct display *d);
/* The n-th pointer, the one that came last first. False: there are no more. */
struct display_mouse { const char *name; bool absolute, current; };
bool display_mouse(struct display *d, unsigned n, struct display_mouse *ret);
/* Where the pointer was last, and the buttons that are down. */
struct display_pointer_state { unsigned x, y, buttons; };
struct display_pointer_state display_pointer_state(struct display *d);
/* KEY_... of an X keysym on a US keyboard (0: unknown), of a QMP QKeyCode name, of a scan code of set 1 (bit 7: behind E0). */
unsigned display_code_of_keysym(uint32_t keysym);
unsigned display_code_of_qcode(const char *name);
unsigned display_code_of_number(unsigned number);
/* Presses these keys, holds them for so long and lets go of them, after what is being typed already. Main thread. */
void display_type(struct display *d, const unsigned *codes, unsigned n, unsigned hold_ms);

/* ---- the VNC server (vnc.c) ---- */

struct vnc;
struct json_object;
/* What follows -vnc: HOST:NUMBER[,KEY=VALUE]..., unix:PATH[,...] or none[,...]. Loads the module vireo-vnc that stands beside the program or in the library
 * directory. It ends with the display. One a machine. */
bool display_start_vnc(struct machine *m, const char *argument, GError **error) G_GNUC_WARN_UNUSED_RESULT;
struct vnc *display_vnc(const struct display *d); /* NULL: there is none; d may be NULL */
void display_set_vnc(struct display *d, struct vnc *v);
void vnc_destroy(struct vnc *v); /* NULL allowed */
/* The answers of QMP query-vnc and query-vnc-servers; v may be NULL. */
struct json_object *vnc_query(struct vnc *v);
struct json_object *vnc_query_servers(struct vnc *v);
/* password NULL: not changed; expires NULL: not changed, else seconds since the epoch, 0: never. False: no server, or one without password. */
bool vnc_set_password(struct vnc *v, const char *password, const int64_t *expires) G_GNUC_WARN_UNUSED_RESULT;
/* A client on a connected socket, which is taken over. False: there is no server, and the socket is still the caller's. */
bool vnc_add_client(struct vnc *v, int fd, bool skip_password) G_GNUC_WARN_UNUSED_RESULT;
