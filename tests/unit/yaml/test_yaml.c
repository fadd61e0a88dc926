#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "dagward/base/buf.h"
#include "dagward/yaml/yaml.h"

/* The findings as `line:column: text`, joined by newlines. */
static void findings_of(struct error_list *errors, char *out, size_t size)
{
        size_t len = 0;

        out[0] = '\0';
        for (size_t i = 0; i < errors->n && len < size; i++)
                len += (size_t)snprintf(out + len, size - len, "%s%u:%u: %s", i ? "\n" : "",
                        errors->findings[i].line, errors->findings[i].column,
                        errors->findings[i].text);
}

/* The tree in JSON's shape; quoted text in quotes, plain text bare, null as ~. */
static void show(struct buf *out, const struct yaml_node *node)
{
        switch (node->kind) {
        case YAML_NULL: buf_char(out, '~'); break;
        case YAML_SCALAR:
                if (node->quoted)
                        buf_json_str(out, node->text);
                else
                        buf_str_add(out, node->text);
                break;
        case YAML_SEQUENCE:
                buf_char(out, '[');
                for (size_t i = 0; i < node->n; i++) {
                        if (i)
                                buf_char(out, ',');
                        show(out, node->items[i]);
                }
                buf_char(out, ']');
                break;
        case YAML_MAPPING:
                buf_char(out, '{');
                for (size_t i = 0; i < node->n; i++) {
                        if (i)
                                buf_char(out, ',');
                        show(out, node->entries[i].key);
                        buf_char(out, ':');
                        show(out, node->entries[i].value);
                }
                buf_char(out, '}');
                break;
        }
}

static void what_yaml_and_json_say_becomes_the_same_tree(void **state)
{
        static const struct {
                const char *text, *tree;
        } cases[] = {
                {"", "~"},
                {"# only a comment\n", "~"},
                {"\xef\xbb\xbf"
                 "a: 1\n",
                        "{a:1}"},
                {"a: 1\nb: [x, 'y', \"z\"]\n", "{a:1,b:[x,\"y\",\"z\"]}"},
                {"a:\n  b:\n    - c\n    - d: e\n      f:\n", "{a:{b:[c,{d:e,f:~}]}}"},
                {"a: ~\nb: null\nc:\nd: 'null'\ne: Null\n", "{a:~,b:~,c:~,d:\"null\",e:Null}"},
                {"a: yes\nb: on\nc: true\nd: 0x10\n", "{a:yes,b:on,c:true,d:0x10}"},
                {"text: |\n  one\n  two\n", "{text:\"one\\ntwo\\n\"}"},
                {"{\"a\":{\"b\":[1,2.5,true,null,\"\\u00e9\"]}}",
                        "{\"a\":{\"b\":[1,2.5,true,~,\"\xc3\xa9\"]}}"},
                {"{\n\t\"a\": [\n\t\t1\n\t]\n}\n", "{\"a\":[1]}"},
                {"%YAML 1.1\n---\na: b\n...\n", "{a:b}"},
                {"- - - x\n", "[[[x]]]"},
                {"url: http://127.0.0.1:80/a#b\n", "{url:http://127.0.0.1:80/a#b}"},
                {"a: []\nb: {}\n", "{a:[],b:{}}"},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                struct yaml_document doc;
                struct error_list errors;
                struct buf out;
                error_list_init(&errors);
                buf_init(&out, 4096);
                assert_true(yaml_load_text("t", str_of(cases[i].text), &doc, &errors));
                assert_int_equal(errors.n, 0);
                show(&out, doc.root);
                buf_char(&out, '\0');
                assert_string_equal(out.data, cases[i].tree);
                buf_clear(&out);
                yaml_clear(&doc);
                error_list_clear(&errors);
        }
}

static void what_is_refused_is_named_with_its_place(void **state)
{
        /* tree: whether there is still a tree to look into */
        static const struct {
                const char *text;
                bool tree;
                const char *findings;
        } cases[] = {
                {"a: &x 1\nb: *x\n", true,
                        "1:4: anchors (`&x`) are not supported\n"
                        "2:4: aliases (`*x`) are not supported"},
                {"a: !!str 1\n", true, "1:4: tags (`tag:yaml.org,2002:str`) are not supported"},
                {"a: ! b\n", true, "1:4: tags (`!`) are not supported"},
                {"a: !x {b: c}\nd: !y [e]\n", true,
                        "1:4: tags (`!x`) are not supported\n"
                        "2:4: tags (`!y`) are not supported"},
                {"a: 1\nb: 2\na: 3\n\"a\": 4\n", true,
                        "3:1: duplicate key `a`, already given in line 1\n"
                        "4:1: duplicate key `a`, already given in line 1"},
                {"x:\n  - {k: 1, k: 2}\n", true,
                        "2:12: duplicate key `k`, already given in line 2"},
                {"{\"a\": 1, \"\\u0061\": 2}", true,
                        "1:10: duplicate key `a`, already given in line 1"},
                {"a: 1\n---\nb: 2\n", false,
                        "2:1: a second document begins here; a file holds one"},
                {"a: 1 # x\xE2\x80\xA8"
                 "b: 2\n",
                        false,
                        "1:9: a line ends here that many editors do not show: end lines with LF or "
                        "CR LF"},
                {"a: 1 # x\xC2\x85"
                 "b: 2\n",
                        false,
                        "1:9: a line ends here that many editors do not show: end lines with LF or "
                        "CR LF"},
                {"a: 1 # x\rb: 2\n", false,
                        "1:9: a line ends here that many editors do not show: end lines with LF or "
                        "CR LF"},
                {"a: 1\nb\xE2\x80\x8B: 2 # \xE2\x80\xAE\n", false,
                        "2:2: an invisible character, or one that turns the direction of text "
                        "around: leave it out, or write it as an escape in quotes"},
                {"<<: {a: b}\n", true, "1:1: merge keys (`<<`) are not supported"},
                {"? [a]\n: b\n", false, "1:3: a key must be text (write it in quotes), not a list"},
                {"{a: b}: c\n", false,
                        "1:1: a key must be text (write it in quotes), not a mapping"},
                {"null: c\n", false, "1:1: a key must be text (write it in quotes), not nothing"},
                {"a: b\n?\n: c\n", false,
                        "2:2: a key must be text (write it in quotes), not nothing"},
                {"%TAG ! tag:x,2000:\n---\na: b\n", true,
                        "1:1: `%TAG` directives are not supported"},
                {"a: 1\n  b: 2\n", false,
                        "2:4: not valid YAML: mapping values are not allowed in this context"},
                {"a: [1, 2\nb: 3\n", false,
                        "2:2: not valid YAML: did not find expected ',' or ']' (while parsing a "
                        "flow sequence)"},
                {"a:\n\t- b\n", false,
                        "2:1: not valid YAML: found character that cannot start any token (while "
                        "scanning for the next token)"},
                {"a: 'b\n", false,
                        "2:1: not valid YAML: found unexpected end of stream (while scanning a "
                        "quoted scalar)"},
                {"a: b\nc: d\xff\n", false, "2:5: not valid UTF-8"},
                {"\xc3\xa9: \xc0\x80\n", false, "1:4: not valid UTF-8"},
                {"a: b\n\xc3\xa9: \x01\n", false, "2:4: control characters are not allowed"},
                {"\xff\xfe"
                 "a\0",
                        false, "1:1: not valid UTF-8"},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                struct yaml_document doc;
                struct error_list errors;
                char text[1024];
                error_list_init(&errors);
                bool tree = yaml_load_text("t", str_of(cases[i].text), &doc, &errors);
                findings_of(&errors, text, sizeof(text));
                assert_string_equal(text, cases[i].findings);
                assert_int_equal(tree, cases[i].tree);
                assert_string_equal(errors.findings[0].file, "t");
                yaml_clear(&doc);
                error_list_clear(&errors);
        }
}

static void depth_is_limited(void **state)
{
        char text[2 * YAML_MAX_DEPTH + 4];
        struct yaml_document doc;
        struct error_list errors;

        (void)state;
        for (size_t depth = YAML_MAX_DEPTH; depth <= YAML_MAX_DEPTH + 1; depth++) {
                memset(text, '[', depth);
                memset(text + depth, ']', depth);
                error_list_init(&errors);
                bool good = yaml_load_text("t", str_view(text, 2 * depth), &doc, &errors);
                assert_int_equal(good, depth == YAML_MAX_DEPTH);
                if (!good) {
                        assert_string_equal(
                                errors.findings[0].text, "nested deeper than 32 levels");
                        assert_int_equal(errors.findings[0].column, YAML_MAX_DEPTH + 1);
                }
                yaml_clear(&doc);
                error_list_clear(&errors);
        }
}

static void size_is_limited_and_large_files_are_quick(void **state)
{
        enum { most = YAML_MAX_BYTES + 1 };
        char *text = malloc(most + 32);
        struct yaml_document doc;
        struct error_list errors;
        size_t len = 0;

        (void)state;
        assert_non_null(text);
        error_list_init(&errors);
        memset(text, ' ', most);
        assert_false(yaml_load_text("t", str_view(text, most), &doc, &errors));
        assert_string_equal(errors.findings[0].text, "is larger than 4 MiB");
        assert_true(yaml_load_text("t", str_view(text, most - 1), &doc, &errors));
        yaml_clear(&doc);
        /* 100,000 keys of one mapping, the last twice */
        for (unsigned i = 0; i < 100000; i++)
                len += (size_t)sprintf(text + len, "key%u: %u\n", i, i);
        len += (size_t)sprintf(text + len, "key99999: again\n");
        error_list_clear(&errors);
        assert_true(yaml_load_text("t", str_view(text, len), &doc, &errors));
        assert_int_equal(doc.root->n, 100000);
        assert_int_equal(errors.n, 1);
        assert_int_equal(errors.findings[0].line, 100001);
        yaml_clear(&doc);
        /* more nodes than the tree's memory holds */
        memcpy(text, "[", 1);
        for (len = 1; len + 2 <= YAML_MAX_BYTES; len += 2)
                memcpy(text + len, "a,", 2);
        error_list_clear(&errors);
        assert_false(yaml_load_text("t", str_view(text, len), &doc, &errors));
        assert_non_null(strstr(errors.findings[0].text, "too many values"));
        error_list_clear(&errors);
        free(text);
}

static void every_node_knows_where_it_begins(void **state)
{
        static const char text[] = "a: 1\n\xc3\xa9: {b: [x,\n  y]}\n";
        static const struct {
                const char *text;
                unsigned line, column;
        } nodes[] = {{"", 1, 1}, {"a", 1, 1}, {"1", 1, 4}, {"\xc3\xa9", 2, 1}, {"", 2, 4},
                {"b", 2, 5}, {"", 2, 8}, {"x", 2, 9}, {"y", 3, 3}};
        struct yaml_document doc;
        struct error_list errors;
        size_t i = 0;

        (void)state;
        error_list_init(&errors);
        assert_true(yaml_load_text("t", str_of(text), &doc, &errors));
        for (const struct yaml_node *n = doc.root; n; n = n->following, i++) {
                assert_true(i < sizeof(nodes) / sizeof(*nodes));
                assert_true(str_eq(n->text, str_of(nodes[i].text)));
                assert_int_equal(n->at.line, nodes[i].line);
                assert_int_equal(n->at.column, nodes[i].column);
                assert_string_equal(n->at.file, "t");
        }
        assert_int_equal(i, sizeof(nodes) / sizeof(*nodes));
        assert_ptr_equal(yaml_get(doc.root, "a"), doc.root->entries[0].value);
        assert_null(yaml_get(doc.root, "A"));
        assert_null(yaml_get(yaml_get(doc.root, "a"), "b"));
        assert_null(yaml_get(NULL, "a"));
        yaml_clear(&doc);
}

static void a_file_that_cannot_be_read_is_an_error_of_the_file(void **state)
{
        struct yaml_document doc;
        struct error_list errors;

        (void)state;
        error_list_init(&errors);
        assert_false(yaml_load_file("/nonexistent/file.yaml", &doc, &errors));
        assert_string_equal(errors.findings[0].text, "cannot be read: No such file or directory");
        assert_string_equal(errors.findings[0].file, "/nonexistent/file.yaml");
        assert_int_equal(errors.findings[0].line, 0);
        assert_false(yaml_load_file("/", &doc, &errors));
        assert_string_equal(errors.findings[1].text, "cannot be read: Is a directory");
        error_list_clear(&errors);
}

static void a_file_is_read_as_text_is(void **state)
{
        char path[] = "/tmp/dagward-yaml-XXXXXX";
        struct yaml_document doc;
        struct error_list errors;
        int fd = mkstemp(path);

        (void)state;
        assert_true(fd >= 0);
        assert_int_equal(write(fd, "a: b\n", 5), 5);
        close(fd);
        error_list_init(&errors);
        assert_true(yaml_load_file(path, &doc, &errors));
        assert_string_equal(yaml_get(doc.root, "a")->text.ptr, "b");
        assert_string_equal(doc.root->at.file, path);
        yaml_clear(&doc);
        unlink(path);
}

static void unknown_keys_are_reported_with_a_guess(void **state)
{
        static const struct str names[] = {STR("listen"), STR("issuers"), STR("upstream")};
        struct yaml_document doc;
        struct error_list errors;
        char text[512];

        (void)state;
        error_list_init(&errors);
        assert_true(yaml_load_text("t",
                STR("listen: 1\nisuers: 2\n\"bad\\nkey\": 3\nxyz: 4\nupstream: 5\n"), &doc,
                &errors));
        assert_false(yaml_known_keys(doc.root, names, 3, &errors));
        findings_of(&errors, text, sizeof(text));
        assert_string_equal(text, "2:1: unknown key `isuers`; did you mean `issuers`?\n"
                                  "3:1: unknown key `bad?key`\n"
                                  "4:1: unknown key `xyz`");
        assert_true(yaml_known_keys(yaml_get(doc.root, "listen"), names, 3, &errors));
        yaml_clear(&doc);
        error_list_clear(&errors);
}

enum reader { BOOL, NUMBER, DURATION, SIZE, TEXT, LIST, MAPPING, SEQUENCE };

/* What a reader makes of the one value of `v: ...`, as text. */
static void read_value(enum reader reader, const char *yaml, char *out, size_t size)
{
        struct yaml_document doc;
        struct error_list errors;
        struct str text = STR_NONE, *list = NULL;
        uint64_t number = 0;
        int64_t ms = 0;
        size_t n = 0;
        bool truth = false, good = false;

        error_list_init(&errors);
        assert_true(yaml_load_text("t", str_of(yaml), &doc, &errors));
        const struct yaml_node *node = yaml_get(doc.root, "v");
        assert_non_null(node);
        switch (reader) {
        case BOOL:
                good = yaml_bool(node, "`v`", &truth, &errors);
                snprintf(out, size, "%s", truth ? "true" : "false");
                break;
        case NUMBER:
                good = yaml_u64(node, "`v`", 1, 256, &number, &errors);
                snprintf(out, size, "%llu", (unsigned long long)number);
                break;
        case DURATION:
                good = yaml_duration_ms(node, "`v`", &ms, &errors);
                snprintf(out, size, "%lld", (long long)ms);
                break;
        case SIZE:
                good = yaml_size_bytes(node, "`v`", &number, &errors);
                snprintf(out, size, "%llu", (unsigned long long)number);
                break;
        case TEXT:
                good = yaml_str(node, "`v`", &text, &errors);
                snprintf(out, size, "%.*s", STR_FMT(text));
                break;
        case LIST:
                good = yaml_str_list(&doc, node, "`v`", &list, &n, &errors);
                out[0] = '\0';
                for (size_t i = 0; good && i < n; i++)
                        snprintf(out + strlen(out), size - strlen(out), "<%.*s>", STR_FMT(list[i]));
                break;
        case MAPPING:
                good = yaml_is_mapping(node, "`v`", &errors);
                snprintf(out, size, "mapping");
                break;
        case SEQUENCE:
                good = yaml_is_sequence(node, "`v`", &errors);
                snprintf(out, size, "sequence");
                break;
        }
        assert_int_equal(good, errors.n == 0);
        if (!good)
                findings_of(&errors, out, size);
        yaml_clear(&doc);
        error_list_clear(&errors);
}

static void typed_readers_take_what_they_should_and_say_what_they_want(void **state)
{
        static const struct {
                enum reader reader;
                const char *yaml, *expected;
        } cases[] = {
                {BOOL, "v: true", "true"},
                {BOOL, "v: false", "false"},
                {BOOL, "v: yes", "1:4: `v` must be true or false, not `yes`"},
                {BOOL, "v: 'true'", "1:4: `v` must be true or false without quotes, not `true`"},
                {BOOL, "v:", "1:3: `v` must be true or false, not nothing"},
                {NUMBER, "v: 1", "1"},
                {NUMBER, "v: 256", "256"},
                {NUMBER, "v: 0", "1:4: `v` must be a whole number from 1 to 256, not `0`"},
                {NUMBER, "v: 257", "1:4: `v` must be a whole number from 1 to 256, not `257`"},
                {NUMBER, "v: 007", "1:4: `v` must be a whole number from 1 to 256, not `007`"},
                {NUMBER, "v: -1", "1:4: `v` must be a whole number from 1 to 256, not `-1`"},
                {NUMBER, "v: 99999999999999999999999",
                        "1:4: `v` must be a whole number from 1 to 256, not "
                        "`99999999999999999999999`"},
                {NUMBER, "v: '8'",
                        "1:4: `v` must be a whole number from 1 to 256 without quotes, not `8`"},
                {DURATION, "v: 250ms", "250"},
                {DURATION, "v: 30s", "30000"},
                {DURATION, "v: 5m", "300000"},
                {DURATION, "v: 24h", "86400000"},
                {DURATION, "v: 7d", "604800000"},
                {DURATION, "v: 0s", "0"},
                {DURATION, "v: '30s'", "30000"},
                {DURATION, "v: 30",
                        "1:4: `v` must be a duration such as 250ms, 30s, 5m, 24h or 7d, not "
                        "`30`"},
                {DURATION, "v: -5s",
                        "1:4: `v` must be a duration such as 250ms, 30s, 5m, 24h or 7d, not "
                        "`-5s`"},
                {DURATION, "v: 1.5s",
                        "1:4: `v` must be a duration such as 250ms, 30s, 5m, 24h or 7d, not "
                        "`1.5s`"},
                {DURATION, "v: 99999999999h",
                        "1:4: `v` must be a duration such as 250ms, 30s, 5m, 24h or 7d, not "
                        "`99999999999h`"},
                {DURATION, "v: [1s]",
                        "1:4: `v` must be a duration such as 250ms, 30s, 5m, 24h or 7d, not a "
                        "list"},
                {SIZE, "v: 512B", "512"},
                {SIZE, "v: 64KiB", "65536"},
                {SIZE, "v: 1MiB", "1048576"},
                {SIZE, "v: 2GiB", "2147483648"},
                {SIZE, "v: 64KB",
                        "1:4: `v` must be a size such as 512B, 64KiB or 1MiB, not `64KB`"},
                {SIZE, "v: 18446744073709551615GiB",
                        "1:4: `v` must be a size such as 512B, 64KiB or 1MiB, not "
                        "`18446744073709551615GiB`"},
                {TEXT, "v: a b", "a b"},
                {TEXT, "v: 42", "42"},
                {TEXT, "v: ''", "1:4: `v` must not be empty"},
                {TEXT, "v: \"a\\0b\"", "1:4: `v` must not hold a NUL character"},
                {TEXT, "v: {a: b}", "1:4: `v` must be text, not a mapping"},
                {LIST, "v: a", "<a>"},
                {LIST, "v: [a, b]", "<a><b>"},
                {LIST, "v: []", ""},
                {LIST, "v: [a, [b], ~]",
                        "1:8: `v` must be text, not a list\n1:13: `v` must be text, not nothing"},
                {LIST, "v: {a: b}", "1:4: `v` must be text or a list of texts, not a mapping"},
                {MAPPING, "v: {a: b}", "mapping"},
                {MAPPING, "v: a", "1:4: `v` must be a mapping, not `a`"},
                {SEQUENCE, "v: [a]", "sequence"},
                {SEQUENCE, "v: {a: b}", "1:4: `v` must be a list, not a mapping"},
        };
        char text[512];

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                read_value(cases[i].reader, cases[i].yaml, text, sizeof(text));
                assert_string_equal(text, cases[i].expected);
        }
}

static void scalars_are_told_apart_as_json_does(void **state)
{
        static const struct {
                const char *yaml;
                enum yaml_scalar scalar;
        } cases[] = {{"true", YAML_TRUE}, {"false", YAML_FALSE}, {"True", YAML_TEXT},
                {"'true'", YAML_TEXT}, {"0", YAML_INTEGER}, {"-12", YAML_INTEGER},
                {"012", YAML_TEXT}, {"+1", YAML_TEXT}, {"1.5", YAML_REAL}, {"-0.5e+10", YAML_REAL},
                {"1e5", YAML_REAL}, {"1.", YAML_TEXT}, {".5", YAML_TEXT}, {"1e", YAML_TEXT},
                {"\"1\"", YAML_TEXT}, {"1_000", YAML_TEXT}, {"-", YAML_TEXT}};

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                struct yaml_document doc;
                struct error_list errors;
                char text[64];
                error_list_init(&errors);
                snprintf(text, sizeof(text), "[%s]", cases[i].yaml);
                if (str_eq(str_of(cases[i].yaml), STR("-")))
                        snprintf(text, sizeof(text), "['-']");
                assert_true(yaml_load_text("t", str_of(text), &doc, &errors));
                assert_int_equal(yaml_scalar_of(doc.root->items[0]), cases[i].scalar);
                yaml_clear(&doc);
        }
}

static void text_in_messages_is_short_and_on_one_line(void **state)
{
        char text[200], expected[80];

        (void)state;
        assert_string_equal(yaml_shown(STR("a\nb\x1b[0m")), "a?b?[0m");
        assert_string_equal(yaml_shown(STR_NONE), "");
        memset(text, 'x', sizeof(text));
        memset(expected, 'x', 59);
        memcpy(expected + 59, "...", 4);
        memcpy(text + 59, "\xc3\xa9", 2); /* would be cut in the middle */
        assert_string_equal(yaml_shown(str_view(text, sizeof(text))), expected);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_yaml_and_json_say_becomes_the_same_tree),
                cmocka_unit_test(what_is_refused_is_named_with_its_place),
                cmocka_unit_test(depth_is_limited),
                cmocka_unit_test(size_is_limited_and_large_files_are_quick),
                cmocka_unit_test(every_node_knows_where_it_begins),
                cmocka_unit_test(a_file_that_cannot_be_read_is_an_error_of_the_file),
                cmocka_unit_test(a_file_is_read_as_text_is),
                cmocka_unit_test(unknown_keys_are_reported_with_a_guess),
                cmocka_unit_test(typed_readers_take_what_they_should_and_say_what_they_want),
                cmocka_unit_test(scalars_are_told_apart_as_json_does),
                cmocka_unit_test(text_in_messages_is_short_and_on_one_line),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
