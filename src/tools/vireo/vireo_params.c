/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Typed parameters: from options, to text. */
#include "vireo.h"

void params_clear(struct params *p)
{
    virTypedParamsFree(p->list, p->n);
    *p = (struct params){};
}

const char *param_print(const virTypedParameter *p, char number[PARAM_NUMBER])
{
    switch (p->type) {
    case VIR_TYPED_PARAM_INT: g_snprintf(number, PARAM_NUMBER, "%d", p->value.i); break;
    case VIR_TYPED_PARAM_UINT: g_snprintf(number, PARAM_NUMBER, "%u", p->value.ui); break;
    case VIR_TYPED_PARAM_LLONG: g_snprintf(number, PARAM_NUMBER, "%lld", p->value.l); break;
    case VIR_TYPED_PARAM_ULLONG: g_snprintf(number, PARAM_NUMBER, "%llu", p->value.ul); break;
    case VIR_TYPED_PARAM_DOUBLE: g_snprintf(number, PARAM_NUMBER, "%f", p->value.d); break;
    case VIR_TYPED_PARAM_BOOLEAN: return p->value.b ? "yes" : "no";
    case VIR_TYPED_PARAM_STRING: return p->value.s ? p->value.s : "";
    default: g_snprintf(number, PARAM_NUMBER, "?%d", p->type);
    }
    return number;
}

char *param_text(const virTypedParameter *p)
{
    char number[PARAM_NUMBER];
    return g_strdup(param_print(p, number));
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
