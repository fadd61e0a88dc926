/* What `dagward policy diff` prints. */
#ifndef DAGWARD_PROXY_POLICY_DIFF_H
#define DAGWARD_PROXY_POLICY_DIFF_H

enum policy_format { FORMAT_TEXT, FORMAT_MARKDOWN, FORMAT_JSON };

/* `old` and `new_one`: policy files, or directories of *.yaml. An exit status: 0 no difference. */
int policy_print_diff(const char *old, const char *new_one, enum policy_format format);

#endif
