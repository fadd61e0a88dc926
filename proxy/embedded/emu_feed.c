/*
 * Feeds: their management, and a small npm registry, whose tarballs are in storage.
 *
 *   {project}/_packaging/{feed}/npm/registry/{package}          GET metadata, PUT publishes
 *   .../registry/{package}/-/{file}                             GET redirects to storage
 */
#include <stdio.h>
#include <stdlib.h>

#include "dagward/token/base64.h"
#include "embedded/emu.h"

static const struct {
        const char *id, *name;
        int project; /* -1: of the organization */
} feeds[] = {
        {"feed0000-7000-4b1e-9d5a-000000000001", "data", 0},
        {"feed0000-7000-4b1e-9d5a-000000000002", "shared", -1},
};
enum { FEEDS = sizeof(feeds) / sizeof(feeds[0]), TARBALL_MOST = 8 << 20 };

/* The feed of that name or id where the call looks, or FEEDS. */
static unsigned feed_named(const struct emu_call *call, struct str name)
{
        struct str view;

        (void)str_cut(name, '@', &view);
        for (unsigned i = 0; i < FEEDS; i++) {
                const struct emu_project *project =
                        feeds[i].project < 0 ? NULL : &emu_projects[feeds[i].project];
                if (project == call->project && (str_eq_fold(view, str_of(feeds[i].name)) ||
                                                        str_eq_fold(view, str_of(feeds[i].id))))
                        return i;
        }
        return FEEDS;
}

static void no_feed(struct emu_call *call, struct str name)
{
        emu_error(call, 404, "FeedIdNotFoundException",
                "VS800000: The feed with ID '%.*s' doesn't exist.", STR_FMT(name));
}

static json_t *feed_json(unsigned i)
{
        char url[256], project[80] = "";

        if (feeds[i].project >= 0)
                snprintf(project, sizeof(project), "%s/", emu_projects[feeds[i].project].id);
        snprintf(url, sizeof(url),
                "https://feeds.dev.azure.com/" EMU_ORGANIZATION "/%s_apis/Packaging/Feeds/%s",
                project, feeds[i].id);
        json_t *feed = json_pack("{ss ss ss sb}", "id", feeds[i].id, "name", feeds[i].name, "url",
                url, "upstreamEnabled", 0);
        if (feeds[i].project >= 0)
                json_object_set_new(
                        feed, "project", emu_project_json(&emu_projects[feeds[i].project]));
        return feed;
}

void emu_feed_list(struct emu_call *call)
{
        json_t *list = json_array();

        for (unsigned i = 0; i < FEEDS; i++)
                if (!call->project ||
                        (feeds[i].project >= 0 && &emu_projects[feeds[i].project] == call->project))
                        json_array_append_new(list, feed_json(i));
        emu_list(call, list);
}

void emu_feed_get(struct emu_call *call)
{
        unsigned feed = feed_named(call, call->arguments[0]);

        if (feed == FEEDS)
                no_feed(call, call->arguments[0]);
        else
                emu_json(call, 200, feed_json(feed));
}

/* --- npm --- */

/* A file's name for something of a package: no slash, no dot in front. */
static bool blob_name(unsigned feed, struct str package, const char *behind, char out[512])
{
        struct buf name;

        buf_init_fixed(&name, out, 511);
        buf_printf(&name, "npm/%s-", feeds[feed].name);
        for (size_t i = 0; i < package.len; i++)
                buf_char(&name, package.ptr[i] == '/' ? '+' : package.ptr[i]);
        buf_str_add(&name, str_of(behind));
        out[name.len] = '\0';
        return !name.overflow;
}

static json_t *metadata_load(struct emu_call *call, unsigned feed, struct str package)
{
        char name[512], path[4096];

        if (!blob_name(feed, package, ".json", name))
                return NULL;
        emu_blob_path(call->azure, str_of(name), path);
        return json_load_file(path, 0, NULL);
}

/* Where the client is told to find a tarball: upstream's own name, as the original does. */
static struct str tarball_url(
        struct emu_call *call, unsigned feed, struct str package, const char *version)
{
        struct str scope, bare = str_cut(package, '/', &scope);

        if (!bare.ptr)
                bare = package;
        return arena_printf(call->request->arena,
                "https://pkgs.dev.azure.com/" EMU_ORGANIZATION
                "/%s%s_packaging/%s/npm/registry/%.*s/-/%.*s-%s.tgz",
                call->project ? call->project->name : "", call->project ? "/" : "",
                feeds[feed].name, STR_FMT(package), STR_FMT(bare), version);
}

static void npm_metadata(struct emu_call *call, unsigned feed, struct str package)
{
        json_t *metadata = metadata_load(call, feed, package), *version;
        const char *number;

        if (!metadata) {
                emu_error(call, 404, "PackageNotFoundException",
                        "Package '%.*s' does not exist in the feed.", STR_FMT(package));
                return;
        }
        json_object_foreach(json_object_get(metadata, "versions"), number, version)
                json_object_set_new(json_object_get(version, "dist"), "tarball",
                        json_string(tarball_url(call, feed, package, number).ptr));
        emu_json(call, 200, metadata);
}

/* Keeps the tarballs that came with the metadata, and adds their versions to those there are. */
static bool npm_take(struct emu_call *call, unsigned feed, struct str package, json_t *body)
{
        json_t *before = metadata_load(call, feed, package), *attachment, *version;
        const char *file, *number;
        char name[512];
        bool good = true;

        json_object_foreach(json_object_get(body, "_attachments"), file, attachment)
        {
                struct str text = str_of(json_string_value(json_object_get(attachment, "data")));
                const char *bare = strrchr(file, '/') ? strrchr(file, '/') + 1 : file;
                char *bytes = malloc(BASE64_DECODED(text.len) + 1);
                ssize_t n = bytes && text.len ? base64_decode(text, bytes) : -1;
                good = good && n > 0 && blob_name(feed, str_of(bare), "", name) &&
                       emu_blob_write(call->azure, str_of(name), str_view(bytes, (size_t)n));
                free(bytes);
        }
        json_object_del(body, "_attachments");
        json_object_foreach(json_object_get(before, "versions"), number,
                version) if (!json_object_get(json_object_get(body, "versions"), number))
                json_object_set(json_object_get(body, "versions"), number, version);
        char *text = json_dumps(body, JSON_COMPACT);
        good = good && text && blob_name(feed, package, ".json", name) &&
               emu_blob_write(call->azure, str_of(name), str_of(text));
        free(text);
        json_decref(before);
        return good;
}

static void npm_publish(struct emu_call *call, unsigned feed, struct str package)
{
        json_t *body = emu_body_json(call);

        if (!body)
                return;
        if (!json_is_object(json_object_get(body, "versions")) ||
                !npm_take(call, feed, package, body))
                emu_error(call, 400, "InvalidPackageException", "This is no package.");
        else
                emu_json(call, 200, json_pack("{sb}", "success", 1));
        json_decref(body);
}

static void npm_tarball(struct emu_call *call, unsigned feed, struct str file)
{
        char name[512];
        struct buf url;

        buf_init(&url, 4096);
        if (blob_name(feed, file, "", name))
                emu_signed_url(call->azure, str_of(name), &url);
        emu_header(call->request, STR("Location"), buf_str(&url));
        emu_reply(call->request, 303, NULL, STR_NONE);
        buf_clear(&url);
}

void emu_packaging(struct emu_call *call, size_t at)
{
        const struct str *s = call->segments + at;
        size_t n = call->n_segments - at;
        unsigned feed = n ? feed_named(call, s[0]) : FEEDS;

        if (feed == FEEDS) {
                no_feed(call, n ? s[0] : STR(""));
                return;
        }
        if (n < 4 || !str_eq_fold(s[1], STR("npm")) || !str_eq_fold(s[2], STR("registry"))) {
                emu_error(call, 404, "VssResourceNotFoundException", "Only npm is spoken here.");
                return;
        }
        s += 3;
        n -= 3;
        struct str package = s[0];
        if (n > 1 && package.ptr[0] == '@' && str_find(package, '/') < 0) {
                package = arena_printf(
                        call->request->arena, "%.*s/%.*s", STR_FMT(s[0]), STR_FMT(s[1]));
                s++;
                n--;
        }
        if (n == 1 && str_eq(call->method, STR("PUT")))
                npm_publish(call, feed, package);
        else if (n == 1 && str_eq(call->method, STR("GET")))
                npm_metadata(call, feed, package);
        else if (n == 3 && str_eq(s[1], STR("-")) && str_eq(call->method, STR("GET")))
                npm_tarball(call, feed, s[2]);
        else
                emu_error(call, 404, "VssResourceNotFoundException", "There is no such thing.");
}
