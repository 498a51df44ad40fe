/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Keys under their three names: evdev code (linux/input-event-codes.h), QMP's QKeyCode, X keysyms without and with Shift (X11 protocol, appendix A) on
 * a US keyboard: viewers send what the person's layout gives, and the guest's own layout turns codes into letters again. */
#include <linux/input-event-codes.h>
#include <string.h>

#include "vmm/display/display.h"

static const struct key {
    uint16_t code;
    const char *qcode;
    uint32_t plain, shifted; /* 0: none */
} keys[] = {
    { KEY_ESC, "esc", 0xff1b, 0 }, { KEY_1, "1", '1', '!' }, { KEY_2, "2", '2', '@' }, { KEY_3, "3", '3', '#' }, { KEY_4, "4", '4', '$' },
    { KEY_5, "5", '5', '%' }, { KEY_6, "6", '6', '^' }, { KEY_7, "7", '7', '&' }, { KEY_8, "8", '8', '*' }, { KEY_9, "9", '9', '(' }, { KEY_0, "0", '0', ')' },
    { KEY_MINUS, "minus", '-', '_' }, { KEY_EQUAL, "equal", '=', '+' }, { KEY_BACKSPACE, "backspace", 0xff08, 0 }, { KEY_TAB, "tab", 0xff09, 0xfe20 },
    { KEY_Q, "q", 'q', 'Q' }, { KEY_W, "w", 'w', 'W' }, { KEY_E, "e", 'e', 'E' }, { KEY_R, "r", 'r', 'R' }, { KEY_T, "t", 't', 'T' }, { KEY_Y, "y", 'y', 'Y' },
    { KEY_U, "u", 'u', 'U' }, { KEY_I, "i", 'i', 'I' }, { KEY_O, "o", 'o', 'O' }, { KEY_P, "p", 'p', 'P' }, { KEY_LEFTBRACE, "bracket_left", '[', '{' },
    { KEY_RIGHTBRACE, "bracket_right", ']', '}' }, { KEY_ENTER, "ret", 0xff0d, 0 }, { KEY_LEFTCTRL, "ctrl", 0xffe3, 0 }, { KEY_A, "a", 'a', 'A' },
    { KEY_S, "s", 's', 'S' }, { KEY_D, "d", 'd', 'D' }, { KEY_F, "f", 'f', 'F' }, { KEY_G, "g", 'g', 'G' }, { KEY_H, "h", 'h', 'H' }, { KEY_J, "j", 'j', 'J' },
    { KEY_K, "k", 'k', 'K' }, { KEY_L, "l", 'l', 'L' }, { KEY_SEMICOLON, "semicolon", ';', ':' }, { KEY_APOSTROPHE, "apostrophe", '\'', '"' },
    { KEY_GRAVE, "grave_accent", '`', '~' }, { KEY_LEFTSHIFT, "shift", 0xffe1, 0 }, { KEY_BACKSLASH, "backslash", '\\', '|' }, { KEY_Z, "z", 'z', 'Z' },
    { KEY_X, "x", 'x', 'X' }, { KEY_C, "c", 'c', 'C' }, { KEY_V, "v", 'v', 'V' }, { KEY_B, "b", 'b', 'B' }, { KEY_N, "n", 'n', 'N' }, { KEY_M, "m", 'm', 'M' },
    { KEY_COMMA, "comma", ',', '<' }, { KEY_DOT, "dot", '.', '>' }, { KEY_SLASH, "slash", '/', '?' }, { KEY_RIGHTSHIFT, "shift_r", 0xffe2, 0 },
    { KEY_KPASTERISK, "kp_multiply", 0xffaa, 0 }, { KEY_LEFTALT, "alt", 0xffe9, 0xffe7 }, { KEY_SPACE, "spc", ' ', 0 }, { KEY_CAPSLOCK, "caps_lock", 0xffe5, 0 },
    { KEY_F1, "f1", 0xffbe, 0 }, { KEY_F2, "f2", 0xffbf, 0 }, { KEY_F3, "f3", 0xffc0, 0 }, { KEY_F4, "f4", 0xffc1, 0 }, { KEY_F5, "f5", 0xffc2, 0 },
    { KEY_F6, "f6", 0xffc3, 0 }, { KEY_F7, "f7", 0xffc4, 0 }, { KEY_F8, "f8", 0xffc5, 0 }, { KEY_F9, "f9", 0xffc6, 0 }, { KEY_F10, "f10", 0xffc7, 0 },
    { KEY_F11, "f11", 0xffc8, 0 }, { KEY_F12, "f12", 0xffc9, 0 }, { KEY_NUMLOCK, "num_lock", 0xff7f, 0 }, { KEY_SCROLLLOCK, "scroll_lock", 0xff14, 0 },
    { KEY_KP7, "kp_7", 0xffb7, 0xff95 }, { KEY_KP8, "kp_8", 0xffb8, 0xff97 }, { KEY_KP9, "kp_9", 0xffb9, 0xff9a }, { KEY_KPMINUS, "kp_subtract", 0xffad, 0 },
    { KEY_KP4, "kp_4", 0xffb4, 0xff96 }, { KEY_KP5, "kp_5", 0xffb5, 0xff9d }, { KEY_KP6, "kp_6", 0xffb6, 0xff98 }, { KEY_KPPLUS, "kp_add", 0xffab, 0 },
    { KEY_KP1, "kp_1", 0xffb1, 0xff9c }, { KEY_KP2, "kp_2", 0xffb2, 0xff99 }, { KEY_KP3, "kp_3", 0xffb3, 0xff9b }, { KEY_KP0, "kp_0", 0xffb0, 0xff9e },
    { KEY_KPDOT, "kp_decimal", 0xffae, 0xff9f }, { KEY_KPENTER, "kp_enter", 0xff8d, 0 }, { KEY_KPSLASH, "kp_divide", 0xffaf, 0 }, { KEY_102ND, "less", 0, 0 }, { KEY_KPASTERISK, "asterisk", 0, 0 },
    { KEY_RIGHTCTRL, "ctrl_r", 0xffe4, 0 }, { KEY_SYSRQ, "print", 0xff61, 0xff15 }, { KEY_SYSRQ, "sysrq", 0, 0 }, { KEY_RIGHTALT, "alt_r", 0xffea, 0xfe03 },
    { KEY_HOME, "home", 0xff50, 0 }, { KEY_UP, "up", 0xff52, 0 }, { KEY_PAGEUP, "pgup", 0xff55, 0 }, { KEY_LEFT, "left", 0xff51, 0 }, { KEY_RIGHT, "right", 0xff53, 0 },
    { KEY_END, "end", 0xff57, 0 }, { KEY_DOWN, "down", 0xff54, 0 }, { KEY_PAGEDOWN, "pgdn", 0xff56, 0 }, { KEY_INSERT, "insert", 0xff63, 0 },
    { KEY_DELETE, "delete", 0xffff, 0 }, { KEY_PAUSE, "pause", 0xff13, 0 }, { KEY_LEFTMETA, "meta_l", 0xffeb, 0 }, { KEY_RIGHTMETA, "meta_r", 0xffec, 0 },
    { KEY_COMPOSE, "compose", 0xff67, 0 }, { KEY_MUTE, "audiomute", 0x1008ff12, 0 }, { KEY_VOLUMEDOWN, "volumedown", 0x1008ff11, 0 },
    { KEY_VOLUMEUP, "volumeup", 0x1008ff13, 0 }, { KEY_POWER, "power", 0x1008ff2a, 0 }, { KEY_SLEEP, "sleep", 0x1008ff2f, 0 },
    { KEY_MENU, "menu", 0, 0 }, { KEY_STOP, "stop", 0xff69, 0 }, { KEY_AGAIN, "again", 0xff66, 0 }, { KEY_PROPS, "props", 0, 0 }, { KEY_UNDO, "undo", 0xff65, 0 },
    { KEY_FRONT, "front", 0, 0 }, { KEY_COPY, "copy", 0x1008ff57, 0 }, { KEY_OPEN, "open", 0x1008ff6b, 0 }, { KEY_PASTE, "paste", 0x1008ff6d, 0 },
    { KEY_FIND, "find", 0xff68, 0 }, { KEY_CUT, "cut", 0x1008ff58, 0 }, { KEY_LINEFEED, "lf", 0xff0a, 0 }, { KEY_HELP, "help", 0xff6a, 0 },
    { KEY_RO, "ro", 0, 0 }, { KEY_HIRAGANA, "hiragana", 0xff25, 0 }, { KEY_HENKAN, "henkan", 0xff23, 0 }, { KEY_YEN, "yen", 0xa5, 0 },
    { KEY_MUHENKAN, "muhenkan", 0xff22, 0 }, { KEY_KATAKANAHIRAGANA, "katakanahiragana", 0xff27, 0 }, { KEY_KPJPCOMMA, "kp_comma", 0xffac, 0 },
    { KEY_KPEQUAL, "kp_equals", 0xffbd, 0 }, { KEY_WAKEUP, "wake", 0x1008ff2b, 0 }, { KEY_NEXTSONG, "audionext", 0x1008ff17, 0 },
    { KEY_PREVIOUSSONG, "audioprev", 0x1008ff16, 0 }, { KEY_STOPCD, "audiostop", 0x1008ff15, 0 }, { KEY_PLAYPAUSE, "audioplay", 0x1008ff14, 0 },
    { KEY_MEDIA, "mediaselect", 0x1008ff32, 0 }, { KEY_MAIL, "mail", 0x1008ff19, 0 }, { KEY_CALC, "calculator", 0x1008ff1d, 0 },
    { KEY_COMPUTER, "computer", 0x1008ff33, 0 }, { KEY_HOMEPAGE, "ac_home", 0x1008ff18, 0 }, { KEY_BACK, "ac_back", 0x1008ff26, 0 },
    { KEY_FORWARD, "ac_forward", 0x1008ff27, 0 }, { KEY_REFRESH, "ac_refresh", 0x1008ff29, 0 }, { KEY_BOOKMARKS, "ac_bookmarks", 0x1008ff30, 0 },
    { KEY_HANGEUL, "lang1", 0xff31, 0 }, { KEY_HANJA, "lang2", 0xff34, 0 },
};

unsigned display_code_of_keysym(uint32_t keysym)
{
    for (unsigned i = 0; keysym && i < G_N_ELEMENTS(keys); i++)
        if (keys[i].plain == keysym || keys[i].shifted == keysym)
            return keys[i].code;
    return 0;
}

unsigned display_code_of_qcode(const char *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(keys); i++)
        if (!strcmp(keys[i].qcode, name))
            return keys[i].code;
    return 0;
}

/* Scan codes of set 1, with bit 7 for those behind E0. Below 89 they are the kernel's codes. */
unsigned display_code_of_number(unsigned number)
{
    static const struct { uint8_t number; uint16_t code; } others[] = {
        { 0x70, KEY_KATAKANAHIRAGANA }, { 0x73, KEY_RO }, { 0x79, KEY_HENKAN }, { 0x7b, KEY_MUHENKAN }, { 0x7d, KEY_YEN },
        { 0x90, KEY_PREVIOUSSONG }, { 0x99, KEY_NEXTSONG }, { 0x9c, KEY_KPENTER }, { 0x9d, KEY_RIGHTCTRL }, { 0xa0, KEY_MUTE }, { 0xa1, KEY_CALC },
        { 0xa2, KEY_PLAYPAUSE }, { 0xa4, KEY_STOPCD }, { 0xae, KEY_VOLUMEDOWN }, { 0xb0, KEY_VOLUMEUP }, { 0xb2, KEY_HOMEPAGE }, { 0xb5, KEY_KPSLASH },
        { 0xb7, KEY_SYSRQ }, { 0xb8, KEY_RIGHTALT }, { 0xc6, KEY_PAUSE }, { 0xc7, KEY_HOME }, { 0xc8, KEY_UP }, { 0xc9, KEY_PAGEUP }, { 0xcb, KEY_LEFT },
        { 0xcd, KEY_RIGHT }, { 0xcf, KEY_END }, { 0xd0, KEY_DOWN }, { 0xd1, KEY_PAGEDOWN }, { 0xd2, KEY_INSERT }, { 0xd3, KEY_DELETE },
        { 0xdb, KEY_LEFTMETA }, { 0xdc, KEY_RIGHTMETA }, { 0xdd, KEY_COMPOSE }, { 0xde, KEY_POWER }, { 0xdf, KEY_SLEEP }, { 0xe3, KEY_WAKEUP },
        { 0xec, KEY_MAIL },
    };
    if (number <= KEY_KPDOT || (number >= KEY_102ND && number <= KEY_F12))
        return number;
    for (unsigned i = 0; i < G_N_ELEMENTS(others); i++)
        if (others[i].number == number)
            return others[i].code;
    return number == 0x54 ? KEY_SYSRQ : 0;
}
