/* SPDX-License-Identifier: GPL-2.0-or-later */
/* usage: jit-diff [--kind NAME] [--seed N] [--cases N] [--interp-only | --code-only]
 * Without --seed each kind starts at seed 1. Any failure prints the seed that repeats it, the code bytes and what differs. */
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "diff.h"

static const char *const reg_names[16] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15" };

/* Compares; prints differences when `where` is given. Not compared: FOP, FIP and FDP of x87, which the translator keeps zero; and the
 * arithmetic flags where the case ended at an instruction that faulted: flags that are overwritten before anybody reads them may
 * be stale there (docs/architecture.md, "Flags at a fault"). */
static unsigned compare(const struct diff_case *c, const struct diff_state *a, const struct diff_state *b, const char *where)
{
    unsigned bad = 0;
#define DIFFER(...) do { bad++; if (where) { printf("    %s: ", where); printf(__VA_ARGS__); printf("\n"); } } while (0)
    for (unsigned i = 0; i < 16; i++)
        if (a->gpr[i] != b->gpr[i])
            DIFFER("%s native %016lx, here %016lx", reg_names[i], a->gpr[i], b->gpr[i]);
    if (a->rip != b->rip)
        DIFFER("rip native +%lx, here +%lx", (unsigned long)(a->rip - DIFF_CODE - c->shift), (unsigned long)(b->rip - DIFF_CODE - c->shift));
    if (a->rip == DIFF_CODE + c->shift + c->size && ((a->rflags ^ b->rflags) & 0xcd5))
        DIFFER("flags native %03lx, here %03lx", a->rflags & 0xcd5, b->rflags & 0xcd5);
    if (memcmp(a->fxsave, b->fxsave, 5))
        DIFFER("x87 control/status/tag native %02x%02x %02x%02x %02x, here %02x%02x %02x%02x %02x", a->fxsave[1], a->fxsave[0], a->fxsave[3],
               a->fxsave[2], a->fxsave[4], b->fxsave[1], b->fxsave[0], b->fxsave[3], b->fxsave[2], b->fxsave[4]);
    if (memcmp(a->fxsave + 24, b->fxsave + 24, 4))
        DIFFER("mxcsr native %02x%02x, here %02x%02x", a->fxsave[25], a->fxsave[24], b->fxsave[25], b->fxsave[24]);
    for (unsigned i = 0; i < 8; i++)
        if (memcmp(a->fxsave + 32 + i * 16, b->fxsave + 32 + i * 16, 10))
            DIFFER("st%u", i);
    for (unsigned i = 0; i < 16; i++)
        if (memcmp(a->fxsave + 160 + i * 16, b->fxsave + 160 + i * 16, 16))
            DIFFER("xmm%u native %016lx %016lx, here %016lx %016lx", i, *(uint64_t *)(a->fxsave + 168 + i * 16), *(uint64_t *)(a->fxsave + 160 + i * 16),
                   *(uint64_t *)(b->fxsave + 168 + i * 16), *(uint64_t *)(b->fxsave + 160 + i * 16));
    for (unsigned i = 0; i < DIFF_DATA_SIZE; i++)
        if (a->data[i] != b->data[i]) {
            DIFFER("memory at data+%x native %02x, here %02x", i, a->data[i], b->data[i]);
            break;
        }
    return bad;
}

static void show(const struct diff_case *c)
{
    for (unsigned i = 0; i < c->ninsns; i++) {
        printf("    +%03x:", c->starts[i]);
        for (unsigned j = c->starts[i]; j < c->starts[i + 1]; j++)
            printf(" %02x", c->code[j]);
        printf("\n");
    }
}

/* Runs a case at both addresses. Returns 1 when something differs. translated: regions that were made at each. */
static unsigned run_case(struct diff_case *c, struct diff_state *init, struct diff_guest *const guests[2], const char *kind, gint64 seed,
                         unsigned translated[2])
{
    static const char *const names[2][2] = { { "interpreter", "generated code" }, { "interpreter, moved", "generated code, moved" } };
    g_autofree struct diff_state *want = g_new(struct diff_state, 1), *got = g_new(struct diff_state, 1);
    bool shown = false;
    for (unsigned moved = 0; moved < 2; moved++) {
        c->shift = moved ? DIFF_SHIFT : 0;
        c->in_place = moved;
        init->rip += c->shift;
        if (!diff_native(c, init, want)) {
            printf("%s: seed %ld: the host could not run it\n", kind, (long)seed);
            return 1;
        }
        for (unsigned i = 0; i < 2; i++) {
            if (!guests[i])
                continue;
            unsigned before = diff_guest_translated(guests[i]);
            memset(got, 0, sizeof(*got));
            bool ran = diff_guest_run(guests[i], c, init, got);
            translated[moved] += diff_guest_translated(guests[i]) - before;
            if (ran && !compare(c, want, got, NULL))
                continue;
            if (!shown) {
                printf("%s: --kind %s --seed %ld --cases 1\n", kind, kind, (long)seed);
                show(c);
                shown = true;
            }
            if (ran)
                compare(c, want, got, names[moved][i]);
            else
                printf("    %s: did not run\n", names[moved][i]);
            fflush(stdout);
        }
    }
    return shown;
}

int main(int argc, char **argv)
{
    g_autofree char *kind_name = NULL;
    gint64 first_seed = 1, cases = 300;
    gboolean interp_only = FALSE, code_only = FALSE;
    const GOptionEntry entries[] = {
        { "kind", 0, 0, G_OPTION_ARG_STRING, &kind_name, "only this kind of instructions", "NAME" },
        { "seed", 0, 0, G_OPTION_ARG_INT64, &first_seed, "first seed", "N" },
        { "cases", 0, 0, G_OPTION_ARG_INT64, &cases, "cases of each kind", "N" },
        { "interp-only", 0, 0, G_OPTION_ARG_NONE, &interp_only, "only the IR interpreter", NULL },
        { "code-only", 0, 0, G_OPTION_ARG_NONE, &code_only, "only generated code", NULL },
        { NULL, 0, 0, 0, NULL, NULL, NULL }
    };
    g_autoptr(GOptionContext) oc = g_option_context_new(NULL);
    g_autoptr(GError) error = NULL;
    g_option_context_add_main_entries(oc, entries, NULL);
    if (!g_option_context_parse(oc, &argc, &argv, &error)) {
        fprintf(stderr, "%s\n", error->message);
        return 2;
    }
    if (!diff_native_begin()) {
        fprintf(stderr, "cannot make a process for the cases on the host's CPU\n");
        return 2;
    }
    struct diff_guest *interp = code_only ? NULL : diff_guest_create(true);
    struct diff_guest *code = interp_only ? NULL : diff_guest_create(false);
    if ((!interp && !code_only) || (!code && !interp_only))
        return 1;
    g_autofree struct diff_case *c = g_new(struct diff_case, 1);
    g_autofree struct diff_state *init = g_new(struct diff_state, 1);
    struct diff_guest *guests[] = { interp, code };
    unsigned translated[2] = { 0, 0 };
    unsigned failures = 0, runs = 0;
    for (unsigned i = 0; i < 2; i++)
        failures += guests[i] && !diff_guest_next_page(guests[i]);
    for (unsigned kind = 0; diff_kinds[kind]; kind++) {
        if (kind_name && strcmp(kind_name, diff_kinds[kind]))
            continue;
        unsigned bad = 0;
        for (gint64 seed = first_seed; seed < first_seed + cases && bad < 3; seed++) {
            diff_generate((uint64_t)seed, kind, c, init);
            bad += run_case(c, init, guests, diff_kinds[kind], seed, translated);
            runs++;
        }
        failures += bad;
        printf("%-8s seeds %ld to %ld: %s\n", diff_kinds[kind], (long)first_seed, (long)(first_seed + cases - 1), bad ? "DIFFERENT" : "same");
        fflush(stdout);
    }
    printf("%u cases, %u different; regions translated %u, for the second address %u\n", runs, failures, translated[0], translated[1]);
    if (translated[1] > translated[0] / 20) {
        printf("translations are not shared between addresses\n");
        failures++;
    }
    diff_guest_destroy(interp);
    diff_guest_destroy(code);
    return failures != 0;
}
