/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The decoder: encodings with known answers, and instruction lengths against capstone on random bytes. */
#define x86_insn capstone_x86_insn /* its name for an enum */
#include <capstone/capstone.h>
#undef x86_insn
#include <glib.h>

#include "accel/jit/guest-x86/x86_insn.h"

struct known {
    const char *hex;
    unsigned code_size;
    enum x86_decoded verdict;
    unsigned len;
};

static const struct known known_lengths[] = {
    { "90", 8, X86_DECODED, 1 },
    { "48b8112233445566778899", 8, X86_DECODED, 10 }, /* mov rax, imm64 */
    { "66b81122", 8, X86_DECODED, 4 },
    { "b81122", 2, X86_DECODED, 3 },
    { "66b811223344", 2, X86_DECODED, 6 },
    { "8b4705", 2, X86_DECODED, 3 },          /* mov ax, [bx+5] */
    { "678b4424f8", 2, X86_DECODED, 5 },      /* mov ax, [esp-8] */
    { "8b061234", 2, X86_DECODED, 4 },        /* mov ax, [0x3412] */
    { "8b0578563412", 8, X86_DECODED, 6 },    /* rip-relative */
    { "8b042578563412", 8, X86_DECODED, 7 },  /* absolute by SIB */
    { "488b8424f0000000", 8, X86_DECODED, 8 },
    { "a17856341211223344", 8, X86_DECODED, 9 }, /* moffs64 */
    { "67a178563412", 8, X86_DECODED, 6 },
    { "9a112233445566", 4, X86_DECODED, 7 },  /* far pointers */
    { "ea11223344", 2, X86_DECODED, 5 },
    { "c8112203", 8, X86_DECODED, 4 },        /* enter */
    { "f6c011", 8, X86_DECODED, 3 },          /* test has an immediate, */
    { "f6d0", 8, X86_DECODED, 2 },            /* not has none */
    { "f70011223344", 8, X86_DECODED, 6 },
    { "c4e2f0f2c2", 8, X86_DECODED, 5 },      /* andn rax, rcx, rdx */
    { "c407", 4, X86_DECODED, 2 },            /* les eax, [edi] */
    { "c4e270f2c2", 4, X86_DECODED, 5 },      /* andn eax, ecx, edx */
    { "0f20c0", 8, X86_DECODED, 3 },
    { "0f2000", 8, X86_DECODED, 3 },          /* mod is ignored */
    { "6207", 4, X86_DECODED, 2 },            /* bound */
    { "62f17c481000", 8, X86_UNKNOWN, 1 },    /* EVEX */
    { "66c5f877", 8, X86_UNKNOWN, 2 },        /* 66 before VEX */
    { "0f04", 8, X86_UNKNOWN, 2 },
    { "48", 8, X86_NEED_MORE, 1 },
    { "8b05785634", 8, X86_NEED_MORE, 5 },
    { "6666666666666666666666666666666690", 8, X86_TOO_LONG, 15 },
    { "666666666666666666666666666690", 8, X86_DECODED, 15 },
};

static unsigned parse_hex(const char *hex, uint8_t *ret)
{
    unsigned n = 0;
    for (; hex[2 * n]; n++)
        ret[n] = (uint8_t)(g_ascii_xdigit_value(hex[2 * n]) << 4 | g_ascii_xdigit_value(hex[2 * n + 1]));
    return n;
}

static void test_known(void)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(known_lengths); i++) {
        const struct known *k = &known_lengths[i];
        uint8_t code[32];
        struct x86_insn in;
        unsigned n = parse_hex(k->hex, code);
        enum x86_decoded verdict = x86_decode(code, n, k->code_size, &in);
        if (verdict != k->verdict || in.len != k->len)
            g_error("%s as %u-bit code: verdict %d, length %u; expected %d, %u", k->hex, k->code_size * 8, verdict, in.len,
                    k->verdict, k->len);
    }
}

static struct x86_insn decode(const char *hex, unsigned code_size)
{
    uint8_t code[32];
    struct x86_insn in;
    g_assert_cmpint(x86_decode(code, parse_hex(hex, code), code_size, &in), ==, X86_DECODED);
    return in;
}

static void test_operands(void)
{
    struct x86_insn in = decode("654a8b84a378563412", 8); /* mov rax, gs:[rbx+r12*4+0x12345678] */
    g_assert_cmpint(in.base, ==, X86_RBX);
    g_assert_cmpint(in.index, ==, X86_R12);
    g_assert_cmpint(in.scale, ==, 2);
    g_assert_cmpint(in.disp, ==, 0x12345678);
    g_assert_cmpint(in.mem_seg, ==, X86_GS);
    g_assert_cmpint(in.opsize, ==, 8);
    in = decode("8b42fe", 2); /* mov ax, [bp+si-2] */
    g_assert_cmpint(in.base, ==, X86_RBP);
    g_assert_cmpint(in.index, ==, X86_RSI);
    g_assert_cmpint(in.disp, ==, -2);
    g_assert_cmpint(in.mem_seg, ==, X86_SS);
    in = decode("368b07", 2); /* mov ax, ss:[bx] */
    g_assert_cmpint(in.mem_seg, ==, X86_SS);
    in = decode("2ea10010", 2); /* mov ax, cs:[0x1000] */
    g_assert_cmpint(in.mem_seg, ==, X86_CS);
    g_assert_cmpuint(in.imm2, ==, 0x1000);
    in = decode("9a785634122300", 4);
    g_assert_cmpuint(in.imm, ==, 0x12345678);
    g_assert_cmpuint(in.imm2, ==, 0x23);
    in = decode("6aff", 8);
    g_assert_cmpuint(in.imm, ==, UINT64_MAX);
    in = decode("4890", 8);
    g_assert_cmpuint(in.rex, ==, 0x48);
    in = decode("486690", 8); /* a REX that does not touch the opcode is void */
    g_assert_cmpuint(in.rex, ==, 0);
    in = decode("c4e2f0f2c2", 8);
    g_assert_true(in.vex && in.vex_w && !in.vex_l);
    g_assert_cmpuint(in.map, ==, X86_MAP_0F38);
    g_assert_cmpuint(in.vex_v, ==, X86_RCX);
    in = decode("8b4500", 8); /* mov eax, [rbp] */
    g_assert_cmpint(in.mem_seg, ==, X86_SS);
    in = decode("41ff7424f8", 8); /* push [r12-8] */
    g_assert_cmpint(in.base, ==, X86_R12);
    g_assert_cmpint(in.index, ==, -1);
    g_assert_cmpint(in.mem_seg, ==, X86_DS);
}

/* Encodings that capstone takes for something we do not have, or reads by another rule. */
static bool comparable(const struct x86_insn *in, unsigned code_size)
{
    bool near_branch = (in->map == X86_MAP_ONE && (in->opcode == 0xe8 || in->opcode == 0xe9)) ||
                       (in->map == X86_MAP_0F && (in->opcode & 0xf0) == 0x80);
    bool stack_imm = in->map == X86_MAP_ONE && (in->opcode == 0x68 || (in->opcode & 0xf7) == 0xc2);
    if (code_size != 2 && (in->opsize_prefix || in->addrsize_prefix) && (near_branch || stack_imm))
        return false; /* 66 with these differs between processors in 64-bit code; capstone is unsure with more prefixes */
    if (in->map == X86_MAP_0F && in->opcode >= 0x78 && in->opcode <= 0x79)
        return false; /* SSE4a has immediates there */
    if (in->map == X86_MAP_ONE && in->opcode == 0x8f && in->modrm & 0x38)
        return false; /* XOP */
    if (in->map == X86_MAP_0F && (in->opcode == 0xff || in->opcode == 0xb9))
        return false; /* UD0, UD1: with or without ModRM */
    if (in->map == X86_MAP_0F && in->opcode >= 0x20 && in->opcode <= 0x23)
        return false; /* mod is ignored by processors only */
    return true;
}

static void random_code(GRand *rand, unsigned code_size, uint8_t *code)
{
    static const uint8_t prefixes[] = { 0x66, 0x67, 0xf2, 0xf3, 0x2e, 0x64, 0x48, 0x44, 0x41, 0x4f };
    unsigned at = 0;
    for (unsigned i = 0; i < 16; i++)
        code[i] = (uint8_t)g_rand_int(rand);
    while (g_rand_boolean(rand) && at < 3)
        code[at++] = prefixes[g_rand_int_range(rand, 0, code_size == 8 ? 10 : 6)];
    if (g_rand_boolean(rand))
        code[at++] = 0x0f;
}

static void compare(unsigned code_size, cs_mode mode, unsigned rounds)
{
    csh cs;
    unsigned compared = 0;
    g_assert_cmpint(cs_open(CS_ARCH_X86, mode, &cs), ==, CS_ERR_OK);
    cs_insn *insn = cs_malloc(cs);
    GRand *rand = g_rand_new_with_seed(20240 + code_size);
    for (unsigned i = 0; i < rounds; i++) {
        uint8_t code[16];
        random_code(rand, code_size, code);
        const uint8_t *p = code;
        size_t left = 15;
        uint64_t address = 0;
        struct x86_insn in;
        if (!cs_disasm_iter(cs, &p, &left, &address, insn))
            continue;
        enum x86_decoded verdict = x86_decode(code, 15, code_size, &in);
        if (verdict == X86_UNKNOWN || verdict == X86_NEED_MORE || verdict == X86_TOO_LONG || !comparable(&in, code_size))
            continue;
        compared++;
        if (in.len != insn->size) {
            g_autoptr(GString) hex = g_string_new(NULL);
            for (unsigned j = 0; j < 15; j++)
                g_string_append_printf(hex, "%02x", code[j]);
            g_test_message("%u-bit %s: length %u, capstone says %u (%s %s)", code_size * 8, hex->str, in.len, insn->size,
                           insn->mnemonic, insn->op_str);
            g_test_fail();
        }
    }
    g_assert_cmpuint(compared, >, rounds / 4);
    g_rand_free(rand);
    cs_free(insn, 1);
    cs_close(&cs);
}

static void test_compare16(void) { compare(2, CS_MODE_16, 200000); }
static void test_compare32(void) { compare(4, CS_MODE_32, 200000); }
static void test_compare64(void) { compare(8, CS_MODE_64, 200000); }

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/x86-decode/known", test_known);
    g_test_add_func("/x86-decode/operands", test_operands);
    g_test_add_func("/x86-decode/capstone-16", test_compare16);
    g_test_add_func("/x86-decode/capstone-32", test_compare32);
    g_test_add_func("/x86-decode/capstone-64", test_compare64);
    return g_test_run();
}
