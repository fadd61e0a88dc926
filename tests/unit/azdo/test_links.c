/* Links in bodies: which strings are told anew, whatever the pieces in which the body comes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "dagward/azdo/links.h"

/* Stands in for the proxy: knows two hosts, and itself. */
static bool write_place(void *owner, const struct link_start *start, struct buf *out)
{
        (void)owner;
        if (str_eq(start->authority, STR("proxy:8080")) && start->service.ptr) {
                buf_printf(out, "%.*s://%.*s%.*s.dev.azure.com", STR_FMT(start->scheme),
                        STR_FMT(start->user), STR_FMT(start->service));
                return true;
        }
        if (!str_eq(start->authority, STR("dev.azure.com")) &&
                !str_eq(start->authority, STR("vsrm.dev.azure.com")))
                return false;
        buf_printf(out, "http://%.*sproxy:8080", STR_FMT(start->user));
        if (start->authority.ptr[0] == 'v')
                buf_str_add(out, STR("/~vsrm"));
        return true;
}

/* Feeds `in` in pieces of `size` bytes into outputs that have little room. */
static void rewrite(enum links_form form, struct str in, size_t size, struct buf *whole)
{
        static char memory[LINKS_ROOM + 7];
        struct links links;
        struct buf out;

        buf_reset(whole);
        links_init(&links, form, write_place, NULL);
        for (size_t at = 0; at < in.len;) {
                struct str piece =
                        str_head(str_from(in, at), size < in.len - at ? size : in.len - at);
                buf_init_fixed(&out, memory, sizeof(memory));
                size_t taken = links_feed(&links, piece, &out);
                assert_true((taken > 0 || out.len > 0) && taken <= piece.len);
                assert_false(out.overflow);
                buf_str_add(whole, buf_str(&out));
                at += taken;
        }
        buf_init_fixed(&out, memory, LINKS_ROOM);
        links_end(&links, &out);
        buf_str_add(whole, buf_str(&out));
}

static void expect(enum links_form form, const char *in, const char *wanted)
{
        struct buf whole;

        buf_init(&whole, 1 << 20);
        for (size_t size = 1; size <= strlen(in) + 1; size++) {
                rewrite(form, str_of(in), size, &whole);
                if (!str_eq(buf_str(&whole), str_of(wanted)))
                        fail_msg("in pieces of %zu: %.*s", size, STR_FMT(buf_str(&whole)));
        }
        buf_clear(&whole);
}

static void untouched(const char *in)
{
        expect(LINKS_JSON, in, in);
}

static void members_that_clients_follow_are_told_anew(void **state)
{
        (void)state;
        expect(LINKS_JSON, "{\"url\":\"https://dev.azure.com/contoso/_apis/x\"}",
                "{\"url\":\"http://proxy:8080/contoso/_apis/x\"}");
        expect(LINKS_JSON,
                "{\"_links\": {\"self\": {\n\t\"href\" :\r\n \"https://vsrm.dev.azure.com/c\"}}}",
                "{\"_links\": {\"self\": {\n\t\"href\" :\r\n \"http://proxy:8080/~vsrm/c\"}}}");
        expect(LINKS_JSON, "{\"remoteUrl\":\"https://contoso@dev.azure.com/contoso/p/_git/r\"}",
                "{\"remoteUrl\":\"http://contoso@proxy:8080/contoso/p/_git/r\"}");
        expect(LINKS_JSON,
                "[{\"locationUrl\":\"https://dev.azure.com\"},{\"@id\":\"https://"
                "dev.azure.com?a\"}]",
                "[{\"locationUrl\":\"http://proxy:8080\"},{\"@id\":\"http://proxy:8080?a\"}]");
        expect(LINKS_JSON, "{\"URL\":\"http:\\/\\/dev.azure.com\\/contoso\\/p\"}",
                "{\"URL\":\"http://proxy:8080\\/contoso\\/p\"}");
}

static void data_stays_as_it_is(void **state)
{
        (void)state;
        untouched("{\"content\":\"https://dev.azure.com/contoso\"}");
        untouched("{\"description\":\"{\\\"url\\\":\\\"https://dev.azure.com/x\\\"}\"}");
        untouched("{\"a\\\"url\":\"https://dev.azure.com/x\"}");
        untouched("{\"url\":\"see https://dev.azure.com/x\"}");
        untouched("{\"url\":[\"https://dev.azure.com/x\"]}");
        untouched("{\"url\":\"https://dev.azure.com.example/x\"}");
        untouched("{\"url\":\"https://dev.azure.com@example/x\"}");
        untouched("{\"url\":\"https://example/https://dev.azure.com/x\"}");
        untouched("{\"url\":\"httpx://dev.azure.com/x\",\"href\":\"https:dev.azure.com\"}");
        untouched("{\"url\":\"https:///x\",\"href\":\"http\",\"api\":\"https://\"}");
        untouched("url\":\"https://dev.azure.com/x");
        untouched("\"url\":\"https://dev.azure.co");
        untouched("hhhthtthttphttps://dev.azure.com/ \"http\":\"http\"");
        untouched("");
}

static void a_host_without_end_is_no_host(void **state)
{
        char in[1024] = "{\"url\":\"https://dev.azure.com";

        (void)state;
        memset(in + strlen(in), 'a', 700);
        untouched(in);
}

static void pages_and_fields_have_links_too(void **state)
{
        (void)state;
        expect(LINKS_HTML,
                "<a href=\"https://dev.azure.com/w.whl#sha256=0\">https://dev.azure.com/</a>"
                "<A HREF = 'https://vsrm.dev.azure.com/v'><a data-href=\"https://dev.azure.com/\">",
                "<a href=\"http://proxy:8080/w.whl#sha256=0\">https://dev.azure.com/</a>"
                "<A HREF = 'http://proxy:8080/~vsrm/v'><a data-href=\"https://dev.azure.com/\">");
        expect(LINKS_FIELD,
                "<https://dev.azure.com/a?b=https://dev.azure.com>; rel=\"next\", <https://x/>; "
                "rel=last",
                "<http://proxy:8080/a?b=https://dev.azure.com>; rel=\"next\", <https://x/>; "
                "rel=last");
}

static void a_service_behind_the_host_is_part_of_the_start(void **state)
{
        (void)state;
        expect(LINKS_JSON,
                "{\"url\":\"http://proxy:8080/~vsrm/contoso\",\"href\":\"http://proxy:8080/"
                "~feeds\"}",
                "{\"url\":\"http://vsrm.dev.azure.com/contoso\",\"href\":\"http://"
                "feeds.dev.azure.com\"}");
        expect(LINKS_JSON, "{\"url\":\"http:\\/\\/proxy:8080\\/~vsrm\\/contoso\"}",
                "{\"url\":\"http://vsrm.dev.azure.com\\/contoso\"}");
        untouched("{\"url\":\"http://proxy:8080/contoso\"}");
}

static void content_is_never_read(void **state)
{
        static const char *const content[] = {"git.items.get", "git.blobs.get",
                "wit.attachments.get", "build.artifacts.getFile", "packages.maven.get",
                "gitHttp.lfs.getObject", "gitHttp.pack.fetch", "gitHttp.refs.advertiseFetch",
                "tfvc.items.get", "artifactsPackageTypes.npm.downloadPackage",
                "build.attachments.get", "test.attachments.getTestRunAttachmentZip",
                "git.pullRequestAttachments.get"};
        static const char *const told[] = {"git.items.list", "gitHttp.lfs.batchDownload",
                "packages.npm.get", "packages.nuget.serviceIndex", "discovery.resourceAreas.list",
                "build.builds.list", "wit.workItems.get", "packages.cargo.index"};

        (void)state;
        for (size_t i = 0; i < sizeof(content) / sizeof(content[0]); i++) {
                const struct operation *op = catalogue_find(str_of(content[i]));
                assert_non_null(op);
                if (links_form_of(op, STR("application/json")) != LINKS_NONE)
                        fail_msg("%s", content[i]);
        }
        for (size_t i = 0; i < sizeof(told) / sizeof(told[0]); i++) {
                const struct operation *op = catalogue_find(str_of(told[i]));
                assert_non_null(op);
                if (links_form_of(op, STR("Application/vnd.git-lfs+json ; charset=utf-8")) !=
                        LINKS_JSON)
                        fail_msg("%s", told[i]);
                assert_int_equal(links_form_of(op, STR("text/html")), LINKS_NONE);
                assert_int_equal(links_form_of(op, STR("application/octet-stream")), LINKS_NONE);
        }
        assert_int_equal(links_form_of(NULL, STR("application/json")), LINKS_JSON);
        assert_int_equal(
                links_form_of(catalogue_find(STR("packages.pypi.simple")), STR("text/html")),
                LINKS_HTML);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(members_that_clients_follow_are_told_anew),
                cmocka_unit_test(data_stays_as_it_is),
                cmocka_unit_test(a_host_without_end_is_no_host),
                cmocka_unit_test(pages_and_fields_have_links_too),
                cmocka_unit_test(a_service_behind_the_host_is_part_of_the_start),
                cmocka_unit_test(content_is_never_read),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
