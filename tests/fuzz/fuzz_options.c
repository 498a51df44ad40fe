/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A command line, its words on lines of their own. Parsing opens and creates nothing; only -add-fd touches descriptors. */
#define main options_test_main
#include "vmm/options_test.c"
#undef main

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 2048)
        return 0;
    g_autofree char *text = g_strndup((const char *)data, size);
    if (strstr(text, "add-fd"))
        return 0;
    g_autofree char *full = g_strconcat("vireo-vmm\n", text, NULL);
    g_auto(GStrv) argv = g_strsplit(full, "\n", 64);
    g_autoptr(GError) error = NULL;
    struct options o = { 0 };
    enum options_result r = options_parse(&o, (int)g_strv_length(argv), argv, &error);
    g_assert(!!error == (r == OPTIONS_ERROR));
    options_clear(&o);
    return 0;
}
