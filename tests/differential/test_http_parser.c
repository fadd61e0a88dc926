/*
 * What we accept, http-parser (the parser of Node.js until 12) must understand the same way.
 *
 * Method, target, fields, body, end and persistence of every request that we read out of the
 * corpus and its mutants are compared. We may refuse more; it may refuse nothing that we accept
 * but what beyond_http_parser names.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include "told.h"

enum { MUTANTS_PER_CASE = 400 };

static const char *first_difference(const struct seen *seen, const struct told *t)
{
        if (!str_eq(seen->method, str_of(t->method)))
                return "method";
        if (!str_eq(seen->target, str_view(t->target, t->target_len)))
                return "target";
        if (!same_fields(seen->fields, seen->n_fields, t))
                return "fields";
        if (!str_eq(str_view(seen->body, seen->body_len), str_view(t->body, t->body_len)))
                return "body";
        if (seen->complete != t->complete)
                return "end";
        /* We may close where it goes on (`close, keep-alive`), never go on where it closes. */
        if (seen->complete && seen->keep_alive && !t->keep_alive)
                return "persistence";
        return NULL;
}

static struct reading reading;
static unsigned long compared, accepted_bodies;

/* NULL, or in what the two differ. */
static const char *compare(const struct message_case *message)
{
        http_parser parser;

        reading_run(&reading, message->raw, message->len);
        if (reading.n == 0)
                return NULL;
        for (size_t i = 0; i < reading.n; i++)
                if (beyond_http_parser(reading.seen[i].fields, reading.seen[i].n_fields))
                        return NULL;
        http_parser_init(&parser, HTTP_REQUEST);
        n_told = 0;
        size_t used = http_parser_execute(&parser, &told_settings, message->raw, reading.used);
        if (HTTP_PARSER_ERRNO(&parser) != HPE_OK)
                return http_errno_name(HTTP_PARSER_ERRNO(&parser));
        if (used != reading.used || parser.upgrade)
                return "length";
        if (n_told != reading.n)
                return "number of requests";
        for (size_t i = 0; i < n_told; i++) {
                const char *difference = first_difference(&reading.seen[i], &told[i]);
                if (difference)
                        return difference;
                compared++;
                accepted_bodies += reading.seen[i].body_len > 0;
        }
        return NULL;
}

static void http_parser_understands_what_we_accept_the_same_way(void **state)
{
        static struct message_case message, mutant;
        uint32_t random = 88172645;
        unsigned differences = 0;
        FILE *file = fopen(SOURCE_DIR "/tests/unit/http/data/messages.txt", "r");

        (void)state;
        assert_non_null(file);
        while (message_next(file, &message) && differences < 20)
                for (int i = 0; i <= MUTANTS_PER_CASE && differences < 20; i++) {
                        mutant = message;
                        if (i)
                                mutants_change(&mutant, &random);
                        const char *difference = compare(&mutant);
                        if (difference) {
                                print_error("%s: %s in\n%.*s\n", mutant.name, difference,
                                        (int)reading.used, mutant.raw);
                                differences++;
                        }
                }
        fclose(file);
        print_message("%lu requests compared, %lu with a body\n", compared, accepted_bodies);
        assert_int_equal(differences, 0);
        assert_true(compared > 10000 && accepted_bodies > 1000);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(http_parser_understands_what_we_accept_the_same_way),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
