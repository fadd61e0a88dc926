/* What `dagward policy lint`, `who-can` and `can` print. Each answers with an exit status. */
#ifndef DAGWARD_PROXY_POLICY_ANALYSE_H
#define DAGWARD_PROXY_POLICY_ANALYSE_H

#include "dagward/base/report.h"
#include "dagward/policy/policy.h"

/* 0: nothing found. */
int policy_print_lint(const struct policy *policy, int64_t now_ms, enum report_format format);
/* 0: some binding applies. */
int policy_print_can(const struct policy *policy, const struct policy_caller *caller,
        int64_t now_ms, enum report_format format);
/* `words`: an operation's id, then SELECTOR=VALUE. 0: somebody can. */
int policy_print_who_can(const struct policy *policy, char **words, int n, int64_t now_ms,
        enum report_format format);

#endif
