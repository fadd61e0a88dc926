/*
 * told: what http-parser reports of the messages it is fed, gathered so that it can be compared.
 */
#ifndef TESTS_DIFFERENTIAL_TOLD_H
#define TESTS_DIFFERENTIAL_TOLD_H

#include <http_parser.h>

#include "mutants.h"

/* A message as http-parser tells it. */
struct told {
        unsigned status;
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

static bool body_skipped; /* the answer being read is one to a HEAD */

static int on_head(http_parser *parser)
{
        current()->status = parser->status_code;
        snprintf(current()->method, sizeof(current()->method), "%s",
                http_method_str((enum http_method)parser->method));
        current()->in_trailers = true;
        return body_skipped;
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

static const http_parser_settings told_settings = {.on_message_begin = on_begin,
        .on_url = on_url,
        .on_header_field = on_name,
        .on_header_value = on_value,
        .on_headers_complete = on_head,
        .on_body = on_body,
        .on_message_complete = on_complete};

static inline bool same_fields(const struct h1_field *fields, size_t n_fields, const struct told *t)
{
        if (n_fields != t->n_fields)
                return false;
        for (size_t i = 0; i < n_fields; i++)
                if (!str_eq(fields[i].name, t->fields[i].name) ||
                        !str_eq(fields[i].value, str_trim(t->fields[i].value)))
                        return false;
        return true;
}

/* Where http-parser is stricter than RFC 9112 5.1 or mistaken, so that its word does not count: it
 * knows no blanks behind `chunked` and no tabs behind a length, and takes a name that only begins
 * with Transfer-Encoding for that. (Such names are not forwarded.) */
static inline bool beyond_http_parser(const struct h1_field *fields, size_t n_fields)
{
        struct str name = STR("Transfer-Encoding");

        for (const struct h1_field *field = fields; field < fields + n_fields; field++) {
                bool framing = field->id == H1_TRANSFER_ENCODING || field->id == H1_CONTENT_LENGTH;
                if (framing && field->value.ptr[field->value.len] != '\r')
                        return true;
                if (str_starts_fold(field->name, name) && field->name.len > name.len)
                        return true;
        }
        return false;
}

#endif
