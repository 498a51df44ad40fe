/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Output that scripts read: the forms are qemu-img's. */
#include <stdio.h>
#include <time.h>

#include "tools/img/img.h"

char *img_size_text(uint64_t bytes)
{
    static const char *const units[] = { "", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei" };
    double v = (double)bytes;
    unsigned i = 0;
    for (; v >= 1000 && i + 1 < G_N_ELEMENTS(units); i++)
        v /= 1024;
    return g_strdup_printf("%.3g %sB", v, units[i]);
}

static void indent(GString *s, int depth)
{
    g_string_append_c(s, '\n');
    for (int i = 0; i < depth; i++)
        g_string_append(s, "    ");
}

static void put_json(GString *s, struct json_object *o, int depth)
{
    const char *separator = "";
    if (json_object_is_type(o, json_type_object)) {
        g_string_append_c(s, '{');
        json_object_object_foreach(o, key, value) {
            struct json_object *name = json_object_new_string(key);
            g_string_append(s, separator);
            indent(s, depth + 1);
            g_string_append_printf(s, "%s: ", json_object_to_json_string_ext(name, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
            json_object_put(name);
            put_json(s, value, depth + 1);
            separator = ",";
        }
        indent(s, depth);
        g_string_append_c(s, '}');
    } else if (json_object_is_type(o, json_type_array)) {
        g_string_append_c(s, '[');
        for (size_t i = 0; i < json_object_array_length(o); i++) {
            g_string_append(s, separator);
            indent(s, depth + 1);
            put_json(s, json_object_array_get_idx(o, i), depth + 1);
            separator = ",";
        }
        indent(s, depth);
        g_string_append_c(s, ']');
    } else {
        g_string_append(s, json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
    }
}

void img_print_json(struct json_object *o)
{
    g_autoptr(GString) s = g_string_new(NULL);
    put_json(s, o, 0);
    puts(s->str);
}

static void print_snapshot(const struct block_snapshot *sn)
{
    time_t t = (time_t)sn->date_sec;
    struct tm tm;
    char date[64] = "";
    if (localtime_r(&t, &tm))
        strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
    uint64_t seconds = sn->vm_clock_nsec / 1000000000;
    g_autofree char *size = img_size_text(sn->vm_state_size);
    g_autofree char *clock = g_strdup_printf("%02d:%02d:%02d.%03d", (int)(seconds / 3600), (int)(seconds / 60 % 60), (int)(seconds % 60),
                                             (int)(sn->vm_clock_nsec / 1000000 % 1000));
    g_autofree char *icount = sn->icount == UINT64_MAX ? g_strdup("") : g_strdup_printf("%" G_GINT64_FORMAT, (gint64)sn->icount);
    printf("%-9s %-16s %8s%20s%13s%11s\n", sn->id, sn->name, size, date, clock, icount);
}

void img_print_snapshots(const GPtrArray *snapshots)
{
    if (!snapshots->len)
        return;
    puts("Snapshot list:");
    printf("%-9s %-16s %8s%20s%13s%11s\n", "ID", "TAG", "VM SIZE", "DATE", "VM CLOCK", "ICOUNT");
    for (guint i = 0; i < snapshots->len; i++)
        print_snapshot(snapshots->pdata[i]);
}
