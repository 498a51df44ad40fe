/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Typed parameters: from options, to text. */
#include "vireo.h"

void params_clear(struct params *p)
{
    virTypedParamsFree(p->list, p->n);
    *p = (struct params){};
}

char *param_text(const virTypedParameter *p)
{
    switch (p->type) {
    case VIR_TYPED_PARAM_INT: return g_strdup_printf("%d", p->value.i);
    case VIR_TYPED_PARAM_UINT: return g_strdup_printf("%u", p->value.ui);
    case VIR_TYPED_PARAM_LLONG: return g_strdup_printf("%lld", p->value.l);
    case VIR_TYPED_PARAM_ULLONG: return g_strdup_printf("%llu", p->value.ul);
    case VIR_TYPED_PARAM_DOUBLE: return g_strdup_printf("%f", p->value.d);
    case VIR_TYPED_PARAM_BOOLEAN: return g_strdup(p->value.b ? "yes" : "no");
    case VIR_TYPED_PARAM_STRING: return g_strdup(p->value.s ? p->value.s : "");
    }
    return g_strdup_printf("?%d", p->type);
}

bool params_from_option(struct call *c, struct params *p, const char *name, const char *key, int kind)
{
    const char *text = opt_str(c, name);
    unsigned long long wide;
    int number;
    unsigned plain;
    if (!text)
        return true;
    switch (kind) {
    case VIR_TYPED_PARAM_STRING:
        return virTypedParamsAddString(&p->list, &p->n, &p->max, key, text) == 0;
    case VIR_TYPED_PARAM_INT:
        return opt_int(c, name, &number) > 0 && virTypedParamsAddInt(&p->list, &p->n, &p->max, key, number) == 0;
    case VIR_TYPED_PARAM_UINT:
        return opt_uint(c, name, &plain) > 0 && virTypedParamsAddUInt(&p->list, &p->n, &p->max, key, plain) == 0;
    default:
        return opt_size(c, name, &wide, 1) > 0 && virTypedParamsAddULLong(&p->list, &p->n, &p->max, key, wide) == 0;
    }
}
