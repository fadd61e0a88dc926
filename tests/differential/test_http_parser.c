/*
 * What we accept, http-parser (the parser of Node.js until 12) must understand the same way.
 *
 * Method, target, fields, body, end and persistence of every request that we read out of the
 * corpus and its mutants are compared. We may refuse more; it may refuse nothing that we accept
 * but what two functions below name: it is stricter than RFC 9112 5.1 there, or mistaken.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <http_parser.h>

#include "mutants.h"

enum { MUTANTS_PER_CASE = 400 };

/* A request as http-parser tells it. */
struct told {
        char method[32], target[MESSAGE_BYTES];
        size_t target_len;
        char names[MESSAGE_BYTES], values[MESSAGE_BYTES];
        struct h1_field fields[H1_MAX_FIELDS + 8];
        size_t names_len, values_len, n_fields;
        bool in_value, in_trailers;
        char body[MESSAGE_BYTES];
        size_t body_len;
        bool complete, keep_alive;
};

static struct told told[MESSAGES_MAX + 2];
static size_t n_told;

static struct told *current(void)
{
        assert_true(n_told > 0);
        return &told[n_told - 1];
}

static int on_begin(http_parser *parser)
{
        (void)parser;
        assert_true(n_told < MESSAGES_MAX + 1);
        struct told *t = &told[n_told++];
        t->target_len = t->names_len = t->values_len = t->n_fields = t->body_len = 0;
        t->in_value = true;
        t->complete = t->keep_alive = t->in_trailers = false;
        return 0;
}

static int on_url(http_parser *parser, const char *at, size_t len)
{
        (void)parser;
        memcpy(current()->target + current()->target_len, at, len);
        current()->target_len += len;
        return 0;
}

static int on_name(http_parser *parser, const char *at, size_t len)
{
        struct told *t = current();

        (void)parser;
        if (t->in_trailers)
                return 0;
        if (t->in_value) {
                assert_true(t->n_fields < H1_MAX_FIELDS + 8);
                t->fields[t->n_fields++] =
                        (struct h1_field){.name = str_view(t->names + t->names_len, 0),
                                .value = str_view(t->values + t->values_len, 0)};
                t->in_value = false;
        }
        memcpy(t->names + t->names_len, at, len);
        t->names_len += len;
        t->fields[t->n_fields - 1].name.len += len;
        return 0;
}

static int on_value(http_parser *parser, const char *at, size_t len)
{
        struct told *t = current();

        (void)parser;
        if (t->in_trailers)
                return 0;
        t->in_value = true;
        memcpy(t->values + t->values_len, at, len);
        t->values_len += len;
        t->fields[t->n_fields - 1].value.len += len;
        return 0;
}

static int on_head(http_parser *parser)
{
        snprintf(current()->method, sizeof(current()->method), "%s",
                http_method_str((enum http_method)parser->method));
        current()->in_trailers = true;
        return 0;
}

static int on_body(http_parser *parser, const char *at, size_t len)
{
        (void)parser;
        memcpy(current()->body + current()->body_len, at, len);
        current()->body_len += len;
        return 0;
}

static int on_complete(http_parser *parser)
{
        current()->complete = true;
        current()->keep_alive = http_should_keep_alive(parser) != 0;
        return 0;
}

static const char *first_difference(const struct seen *seen, const struct told *t)
{
        if (!str_eq(seen->method, str_of(t->method)))
                return "method";
        if (!str_eq(seen->target, str_view(t->target, t->target_len)))
                return "target";
        if (seen->n_fields != t->n_fields)
                return "number of fields";
        for (size_t i = 0; i < seen->n_fields; i++)
                if (!str_eq(seen->fields[i].name, t->fields[i].name) ||
                        !str_eq(seen->fields[i].value, str_trim(t->fields[i].value)))
                        return "field";
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

/* It does not know that blanks may stand behind `chunked`, and tabs behind a length. */
static bool blank_behind_framing(void)
{
        for (size_t i = 0; i < reading.n; i++)
                for (size_t j = 0; j < reading.seen[i].n_fields; j++) {
                        const struct h1_field *field = &reading.seen[i].fields[j];
                        if ((field->id == H1_TRANSFER_ENCODING || field->id == H1_CONTENT_LENGTH) &&
                                field->value.ptr[field->value.len] != '\r')
                                return true;
                }
        return false;
}

/* http-parser takes Transfer-Encodings for Transfer-Encoding when it looks for contradictions. */
static bool longer_than_transfer_encoding(void)
{
        struct str name = STR("Transfer-Encoding");

        for (size_t i = 0; i < reading.n; i++)
                for (size_t j = 0; j < reading.seen[i].n_fields; j++)
                        if (str_starts_fold(reading.seen[i].fields[j].name, name) &&
                                reading.seen[i].fields[j].name.len > name.len)
                                return true;
        return false;
}

/* NULL, or in what the two differ. */
static const char *compare(const struct message_case *message)
{
        static const http_parser_settings settings = {.on_message_begin = on_begin,
                .on_url = on_url,
                .on_header_field = on_name,
                .on_header_value = on_value,
                .on_headers_complete = on_head,
                .on_body = on_body,
                .on_message_complete = on_complete};
        http_parser parser;

        reading_run(&reading, message->raw, message->len);
        if (reading.n == 0)
                return NULL;
        http_parser_init(&parser, HTTP_REQUEST);
        n_told = 0;
        size_t used = http_parser_execute(&parser, &settings, message->raw, reading.used);
        if (HTTP_PARSER_ERRNO(&parser) != HPE_OK && blank_behind_framing())
                return NULL;
        if (HTTP_PARSER_ERRNO(&parser) != HPE_OK && longer_than_transfer_encoding())
                return NULL;
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
