/* What `dagward policy diff` prints. */
#ifndef DAGWARD_PROXY_POLICY_DIFF_H
#define DAGWARD_PROXY_POLICY_DIFF_H

#include "dagward/base/report.h"

/* `old` and `new_one`: policy files, or directories of *.yaml. An exit status: 0 no difference. */
int policy_print_diff(const char *old, const char *new_one, size_t most, enum report_format format);

#endif
