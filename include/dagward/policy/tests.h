/*
 * policy tests: the `tests:` of policy files.
 *
 * A test says who asks what and what the answer must be. The request is written as a person would
 * write it (method, URL, body); turning it into an operation and its resources is not policy's
 * business, so the caller passes a function that does it.
 */
#ifndef DAGWARD_POLICY_TESTS_H
#define DAGWARD_POLICY_TESTS_H

#include <stdio.h>

#include "dagward/base/report.h"
#include "dagward/policy/policy.h"

/* A request as a person writes it. */
struct policy_question {
        struct str method;
        struct str url;             /* "/contoso/analytics/_apis/..." or "https://host/..." */
        struct str body;            /* JSON text; ptr NULL: no body */
        const struct pair *claimed; /* see struct policy_request */
        size_t n_claimed;
        int64_t at_ms; /* when; for the reader of a difference that depends on it, else 0 */
};

/* Names a question: fills all of `out` but now_ms and reason_chars, with views that live as long as
 * `arena`. False with `err` when the proxy would refuse the request as malformed (400). */
typedef bool (*policy_namer)(void *context, const struct policy_question *question,
        struct arena *arena, struct policy_request *out, struct error *err);

struct policy_test_counts {
        size_t passed, failed;
        size_t entries, reached; /* entries of all roles, and those that decided a test */
};

struct policy_test_options {
        policy_namer namer;
        void *context;
        int64_t now_ms; /* for tests without `at` */
        FILE *out;      /* NULL: print nothing */
        bool verbose;   /* text: also tests that pass, and entries that no test reaches */
        enum report_format format;
        const char *which; /* what text calls the policy, where there are several; NULL: nothing */
};

/* Runs all tests in file order. A failed one prints `file:line:column: test "name": ...` and why it
 * was decided as it was. A test without an outcome (malformed request) is failed. As JSON and as
 * Markdown it is written at the end, with the entries that no test reaches. */
struct policy_test_counts policy_run_tests(
        const struct policy *policy, const struct policy_test_options *options);

#endif
