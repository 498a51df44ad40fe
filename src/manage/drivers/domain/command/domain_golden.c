/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Shows what becomes of a domain document, for the tests that compare it with files and with libvirt:
 *   domain_golden complete FILE   the definition as it is kept
 *   domain_golden argv FILE       one line an argument
 * --vmm PATH before them: which vireo-vmm is the default emulator.
 */
#include "manage/drivers/domain/command/domain_command.h"

#include <stdio.h>
#include <string.h>

static int complain(const GError *e)
{
    fprintf(stderr, "%s\n", e->message);
    return 1;
}

static int show(struct domain_driver *dr, const char *how, const char *file)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    if (!g_file_get_contents(file, &text, NULL, &error))
        return complain(error);
    doc_auto *d = doc_parse(&schema_domain, text, -1, &error);
    if (!d || !domain_complete(dr, d, &error))
        return complain(error);
    if (g_str_equal(how, "complete")) {
        g_autofree char *out = doc_format(d);
        fputs(out, stdout);
        return 0;
    }
    struct domain_build b;
    domain_build_init(&b, NULL, dr, d);
    bool good = domain_build_all(&b, &error);
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    if (good) {
        domain_plan_argv(b.plan, argv, fds);
        printf("%s\n", b.m.emulator);
        for (unsigned i = 0; i < argv->len; i++)
            printf("%s%s", (const char *)argv->pdata[i], i + 1 < argv->len && *(const char *)argv->pdata[i + 1] != '-' && *(const char *)argv->pdata[i] == '-' ? " " : "\n");
        for (unsigned i = 0; i < b.plan->notes->len; i++)
            printf("# %s\n", (const char *)b.plan->notes->pdata[i]);
    }
    domain_build_finish(&b);
    return good ? 0 : complain(error);
}

int main(int argc, char **argv)
{
    struct manage_services services = { 0 };
    struct manage_state state = { .services = &services, .vmm = (char *)"/usr/bin/vireo-vmm" };
    struct domain_driver dr = { .state = &state, .state_dir = (char *)"/run/vireo/qemu", .lib_dir = (char *)"/var/lib/vireo/qemu" };
    int i = 1;
    if (i + 1 < argc && !strcmp(argv[i], "--vmm")) {
        state.vmm = argv[i + 1];
        i += 2;
    }
    if (argc - i != 2 || (strcmp(argv[i], "complete") && strcmp(argv[i], "argv"))) {
        fprintf(stderr, "usage: domain_golden [--vmm PATH] complete|argv FILE\n");
        return 2;
    }
    int rc = show(&dr, argv[i], argv[i + 1]);
    if (dr.emulators)
        g_hash_table_unref(dr.emulators);
    return rc;
}
