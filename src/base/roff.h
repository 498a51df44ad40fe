/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Manual pages made from option tables. */
#pragma once

#include <glib.h>

/* Appends text so that roff shows it as it is: a backslash and a minus sign need an escape, a line must not begin with a dot or an
 * apostrophe. */
static inline void roff_text(GString *s, const char *text)
{
    if (*text == '.' || *text == '\'')
        g_string_append(s, "\\&");
    for (; *text; text++) {
        if (*text == '-' || *text == '\\')
            g_string_append_c(s, '\\');
        g_string_append_c(s, *text);
    }
}
