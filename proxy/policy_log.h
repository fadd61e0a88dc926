/* What `dagward policy replay` and `suggest` print: policies against what was really asked. */
#ifndef DAGWARD_PROXY_POLICY_LOG_H
#define DAGWARD_PROXY_POLICY_LOG_H

#include "dagward/base/report.h"
#include "dagward/policy/policy.h"
#include "past.h"

/* Decides recorded requests again. An exit status: 0 nothing would change. */
int policy_print_replay(
        const struct policy *policy, const struct past_log *log, enum report_format format);

/* The least policy that allows what was allowed; and what `policy` (NULL: none given) grants beside
 * it. With `since_ms` also what was used after it and never before. An exit status: 0 something was
 * used. */
int policy_print_suggestion(const struct policy *policy, const struct past_log *log,
        int64_t since_ms, enum report_format format);

#endif
