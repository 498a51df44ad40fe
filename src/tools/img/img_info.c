/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vireo-img info */
#include <stdio.h>
#include <string.h>

#include "tools/img/img.h"
#include "tools/img/img_commands.h"

struct args {
    struct img_common common;
    bool chain;
};
static const struct img_option options[] = {
    IMG_OBJECT, IMG_IMAGE_OPTS, IMG_FORMAT, IMG_OUTPUT,
    { 0, "backing-chain", IMG_FLAG, offsetof(struct args, chain), NULL, "the backing images too" },
    IMG_SHARE, IMG_END
};

static struct json_object *snapshots_json(const GPtrArray *list)
{
    struct json_object *a = json_object_new_array();
    for (guint i = 0; i < list->len; i++) {
        const struct block_snapshot *s = list->pdata[i];
        struct json_object *o = json_make(
            "vm-clock-nsec", json_object_new_int64((int64_t)(s->vm_clock_nsec % 1000000000)), "name", json_object_new_string(s->name), "date-sec",
            json_object_new_int64((int64_t)s->date_sec), "date-nsec", json_object_new_int64((int64_t)s->date_nsec), "vm-clock-sec",
            json_object_new_int64((int64_t)(s->vm_clock_nsec / 1000000000)), "id", json_object_new_string(s->id), "vm-state-size",
            json_object_new_int64((int64_t)s->vm_state_size), NULL);
        if (s->icount != UINT64_MAX)
            json_object_object_add(o, "icount", json_object_new_int64((int64_t)s->icount));
        json_object_array_add(a, o);
    }
    return a;
}

static const char *text(struct json_object *o, const char *key)
{
    struct json_object *v;
    return json_object_object_get_ex(o, key, &v) ? json_object_get_string(v) : NULL;
}

/* Format-specific facts: "compression-type" is shown as "compression type". */
static void print_specific(struct json_object *o, int depth)
{
    if (json_object_is_type(o, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(o); i++) {
            struct json_object *v = json_object_array_get_idx(o, i);
            bool nested = json_object_is_type(v, json_type_object) || json_object_is_type(v, json_type_array);
            printf("%*s[%zu]:%s", depth * 4, "", i, nested ? "\n" : " ");
            if (nested)
                print_specific(v, depth + 1);
            else
                puts(json_object_get_string(v));
        }
        return;
    }
    json_object_object_foreach(o, key, v) {
        bool nested = json_object_is_type(v, json_type_object) || json_object_is_type(v, json_type_array);
        g_autofree char *words = g_strdelimit(g_strdup(key), "-", ' ');
        printf("%*s%s:%s", depth * 4, "", words, nested ? "\n" : " ");
        if (nested)
            print_specific(v, depth + 1);
        else
            puts(json_object_get_string(v));
    }
}

static void print_human(struct json_object *o, const GPtrArray *snapshots)
{
    struct json_object *v, *specific, *data;
    g_autofree char *size = img_size_text((uint64_t)g_ascii_strtoull(text(o, "virtual-size"), NULL, 10)),
                    *actual = img_size_text(g_ascii_strtoull(text(o, "actual-size"), NULL, 10));
    printf("image: %s\nfile format: %s\nvirtual size: %s (%s bytes)\ndisk size: %s\n", text(o, "filename"), text(o, "format"), size,
           text(o, "virtual-size"), actual);
    if (json_object_object_get_ex(o, "encrypted", &v) && json_object_get_boolean(v))
        puts("encrypted: yes");
    if (text(o, "cluster-size"))
        printf("cluster_size: %s\n", text(o, "cluster-size"));
    if (json_object_object_get_ex(o, "dirty-flag", &v) && json_object_get_boolean(v))
        puts("cleanly shut down: no");
    if (text(o, "backing-filename")) {
        const char *file = text(o, "backing-filename"), *full = text(o, "full-backing-filename"), *format = text(o, "backing-filename-format");
        printf("backing file: %s", file);
        if (full && strcmp(full, file))
            printf(" (actual path: %s)", full);
        puts("");
        if (format)
            printf("backing file format: %s\n", format);
    }
    if (snapshots)
        img_print_snapshots(snapshots);
    if (json_object_object_get_ex(o, "format-specific", &specific) && json_object_object_get_ex(specific, "data", &data) &&
        json_object_is_type(data, json_type_object) && json_object_object_length(data)) {
        puts("Format specific information:");
        print_specific(data, 1);
    }
}

struct one { /* image of the chain */
    struct json_object *info;
    GPtrArray *snapshots; /* NULL: the format has none */
};

static void one_free(void *p)
{
    struct one *o = p;
    json_object_put(o->info);
    if (o->snapshots)
        g_ptr_array_unref(o->snapshots);
    g_free(o);
}

/* Each image of the chain is opened alone, so that a chain whose end is missing is no reason to show nothing of what can be found out. */
static bool collect(struct img *img, const struct args *a, const char *filename, GPtrArray *list, GError **error)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autofree char *name = g_strdup(filename), *format = g_strdup(a->common.format);
    bool image_opts = a->common.image_opts;
    if (image_opts && format)
        return vireo_fail(error, VIREO_ERROR_INVALID, "--image-opts and --format are mutually exclusive");
    do {
        if (!g_hash_table_add(seen, g_strdup(name)))
            return vireo_fail(error, VIREO_ERROR_INVALID, "Backing file '%s' creates an infinite loop.", name);
        block_node_auto *n = img_open_as(img, name, format, image_opts, BLOCK_NO_BACKING | BLOCK_NO_IO | (a->common.force_share ? BLOCK_FORCE_SHARE : 0), error);
        if (!n)
            return false;
        struct one *o = g_new0(struct one, 1);
        g_ptr_array_add(list, o);
        o->info = block_image_info(n, false);
        o->snapshots = block_snapshot_list(n, NULL);
        if (o->snapshots && o->snapshots->len)
            json_object_object_add(o->info, "snapshots", snapshots_json(o->snapshots));
        g_free(name);
        g_free(format);
        name = g_strdup(text(o->info, "full-backing-filename"));
        format = g_strdup(text(o->info, "backing-filename-format"));
        image_opts = false;
    } while (a->chain && name);
    return true;
}

static int run(struct img *img, void *args, char **operands, unsigned n, GError **error)
{
    const struct args *a = args;
    bool json;
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(one_free);
    if (!img_output_json(&a->common, &json, error) || !collect(img, a, operands[0], list, error))
        return -1;
    if (json && a->chain) {
        json_auto *all = json_object_new_array();
        for (guint i = 0; i < list->len; i++)
            json_object_array_add(all, json_object_get(((struct one *)list->pdata[i])->info));
        img_print_json(all);
    } else if (json) {
        img_print_json(((struct one *)list->pdata[0])->info);
    }
    for (guint i = 0; i < list->len && !json; i++) {
        const struct one *o = list->pdata[i];
        if (i)
            puts("");
        print_human(o->info, o->snapshots);
    }
    return 0;
}

const struct img_command img_info = {
    .name = "info", .operands = "FILE", .summary = "shows what an image is", .options = options, .args_size = sizeof(struct args), .min = 1, .max = 1,
    .expect = "Expecting one image file name", .run = run,
};
