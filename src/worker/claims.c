/*
 * claims: what a caller asserts about itself and nobody has verified.
 *
 * Recorded, and at most a reason to refuse.
 */
#include "inside.h"

#include <stdlib.h>

/* The decoded value of an X-Airflow-* field (percent-encoded UTF-8). */
static struct str decoded(struct exchange *x, enum h1_name name)
{
        struct str value = h1_field_value(&x->request, name);
        char *out;

        if (value.len == 0 || value.len > 750 || !(out = arena_alloc(&x->arena, value.len)))
                return STR_NONE;
        size_t len = 0;
        for (size_t i = 0; i < value.len; i++, len++) {
                char hex[3] = {0};
                char *end;
                out[len] = value.ptr[i];
                if (value.ptr[i] != '%' || i + 2 >= value.len)
                        continue;
                memcpy(hex, value.ptr + i + 1, 2);
                long byte = strtol(hex, &end, 16);
                if (end == hex + 2 && hex[0] != '+' && hex[0] != '-' && hex[0] != ' ') {
                        out[len] = (char)byte;
                        i += 2;
                }
        }
        return str_head(str_view(out, len), 250);
}

void claims_read(struct exchange *x)
{
        static const struct {
                const char *name;
                enum h1_name field;
        } sources[CLAIMS] = {
                [CLAIM_DAG_ID] = {"dag_id", H1_X_AIRFLOW_DAG_ID},
                [CLAIM_RUN_ID] = {"run_id", H1_X_AIRFLOW_RUN_ID},
                [CLAIM_TASK_ID] = {"task_id", H1_X_AIRFLOW_TASK_ID},
                [CLAIM_MAP_INDEX] = {"map_index", H1_X_AIRFLOW_MAP_INDEX},
                [CLAIM_TRY_NUMBER] = {"try_number", H1_X_AIRFLOW_TRY_NUMBER},
                [CLAIM_USER_AGENT] = {"user_agent", H1_USER_AGENT},
        };

        if (x->claims_known)
                return;
        for (unsigned i = 0; i < CLAIMS; i++)
                x->claims[i] = (struct pair){str_of(sources[i].name),
                        i == CLAIM_USER_AGENT ? h1_field_value(&x->request, sources[i].field)
                                              : decoded(x, sources[i].field)};
        x->claims_known = true;
}
