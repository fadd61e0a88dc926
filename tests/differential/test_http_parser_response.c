/*
 * What we accept of an answer, http-parser must understand the same way: see test_http_parser.
 *
 * The answers are the seeds of the fuzz target (their first byte chooses the request's method) and
 * their mutants.
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "told.h"

#define SEEDS SOURCE_DIR "/tests/fuzz/http/seeds/fuzz_response_head"

enum { MUTANTS_PER_SEED = 20000 };

static struct h1_response response;
static char body_bytes[MESSAGE_BYTES];
static size_t body_len, used;
static bool body_done;
static unsigned long compared, framed;

/* Reads one answer; false when it is refused or its head is not complete. */
static bool read_answer(struct str raw, struct str method)
{
        static const struct h1_limits limits = {65536, 32768, 100};
        struct h1_fault fault;
        struct h1_body body;
        size_t scanned = 0;
        ssize_t got =
                h1_parse_response(raw.ptr, raw.len, &scanned, &limits, method, &response, &fault);

        if (got <= 0)
                return false;
        used = (size_t)got;
        body_len = 0;
        h1_body_init(&body, response.framing, response.content_length);
        while (!body.done && used < raw.len) {
                struct str payload;
                got = h1_body_next(&body, raw.ptr + used, raw.len - used, &payload, &fault);
                if (got == H1_BAD)
                        break;
                memcpy(body_bytes + body_len, payload.ptr, payload.len);
                body_len += payload.len;
                used += (size_t)got;
        }
        body_done = body.done;
        return true;
}

/* NULL, or in what the two differ. */
static const char *compare(struct str raw, bool head)
{
        http_parser parser;

        if (!read_answer(raw, head ? STR("HEAD") : STR("GET")))
                return NULL;
        if (beyond_http_parser(response.fields, response.n_fields))
                return NULL;
        http_parser_init(&parser, HTTP_RESPONSE);
        n_told = 0;
        body_skipped = head || response.status == 304; /* it has to be told so */
        size_t parsed = http_parser_execute(&parser, &told_settings, raw.ptr, used);
        if (HTTP_PARSER_ERRNO(&parser) != HPE_OK)
                return http_errno_name(HTTP_PARSER_ERRNO(&parser));
        if (parsed != used || parser.upgrade || n_told != 1)
                return "length";
        compared++;
        framed += response.framing != H1_NO_BODY && body_len > 0;
        if ((unsigned)response.status != told[0].status)
                return "status";
        if (!same_fields(response.fields, response.n_fields, &told[0]))
                return "fields";
        if (!str_eq(str_view(body_bytes, body_len), str_view(told[0].body, told[0].body_len)))
                return "body";
        if (body_done != told[0].complete)
                return "end";
        /* Of HTTP/1.0 it takes a list with empty members or a tab for no keep-alive. */
        if (body_done && response.minor == 1 && response.keep_alive && !told[0].keep_alive)
                return "persistence";
        return NULL;
}

static unsigned compare_mutants(const struct message_case *message, bool head, uint32_t *random)
{
        static struct message_case mutant;
        unsigned differences = 0;

        for (int i = 0; i <= MUTANTS_PER_SEED && differences < 5; i++) {
                mutant = *message;
                if (i)
                        mutants_change(&mutant, random);
                const char *difference = compare(str_view(mutant.raw, mutant.len), head);
                if (difference) {
                        print_error("%s: %s in\n%.*s\n", mutant.name, difference, (int)used,
                                mutant.raw);
                        differences++;
                }
        }
        return differences;
}

static void http_parser_understands_the_answers_we_accept_the_same_way(void **state)
{
        static struct message_case message;
        uint32_t random = 362436069;
        unsigned differences = 0;
        DIR *folder = opendir(SEEDS);

        (void)state;
        assert_non_null(folder);
        for (struct dirent *entry; (entry = readdir(folder));) {
                char path[1024];
                if (entry->d_name[0] == '.')
                        continue;
                snprintf(path, sizeof(path), SEEDS "/%s", entry->d_name);
                snprintf(message.name, sizeof(message.name), "%.90s", entry->d_name);
                FILE *file = fopen(path, "rb");
                assert_non_null(file);
                int first = fgetc(file);
                message.len = fread(message.raw, 1, MESSAGE_BYTES, file);
                fclose(file);
                differences += compare_mutants(&message, first % 2 == 0, &random);
        }
        closedir(folder);
        print_message("%lu answers compared, %lu with a body\n", compared, framed);
        assert_int_equal(differences, 0);
        assert_true(compared > 10000 && framed > 1000);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(http_parser_understands_the_answers_we_accept_the_same_way),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
