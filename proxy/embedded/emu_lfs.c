/*
 * LFS: batch, objects below {data}/lfs/{oid}, and locks that nobody has.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dagward/azdo/catalogue.h"
#include "dagward/base/id.h"
#include "embedded/emu.h"

enum { OID_LEN = 64, PART = 65536, OBJECTS_MOST = 1000 };

static const char lfs_type[] = "application/vnd.git-lfs+json; charset=utf-8";

static void lfs_json(struct emu_call *call, int status, json_t *body)
{
        char *text = json_dumps(body, JSON_COMPACT);

        if (!text)
                abort();
        emu_reply(call->request, status, lfs_type, str_of(text));
        free(text);
        json_decref(body);
}

static void lfs_error(struct emu_call *call, int status, const char *message)
{
        lfs_json(call, status, json_pack("{ss}", "message", message));
}

static bool oid_good(struct str oid)
{
        for (size_t i = 0; i < oid.len; i++) {
                if (!strchr("0123456789abcdef", oid.ptr[i]) || !oid.ptr[i])
                        return false;
        }
        return oid.len == OID_LEN;
}

static void object_path(const struct emu_call *call, struct str oid, char out[4096])
{
        snprintf(out, 4096, "%s/lfs/%.*s", call->azure->data, STR_FMT(oid));
}

/* The base that the client sees: what it called this host. */
static struct str base(struct emu_call *call, const struct emu_repository *r)
{
        struct str host = call->request->head.host, organization;
        enum service service;
        bool tls = call->request->tls || service_of_host(host, &service, &organization);

        return arena_printf(call->request->arena,
                "http%s://%.*s/" EMU_ORGANIZATION "/%s/_git/%s.git/info/lfs", tls ? "s" : "",
                STR_FMT(host), emu_projects[r->project].name, r->name);
}

static json_t *batch_object(
        struct emu_call *call, const char *href, const json_t *asked, bool upload)
{
        struct str oid = str_of(json_string_value(json_object_get(asked, "oid")));
        json_int_t size = json_integer_value(json_object_get(asked, "size"));
        json_t *object =
                json_pack("{ss% sI}", "oid", oid.ptr ? oid.ptr : "", oid.len, "size", size);
        char path[4096], url[4096];
        struct stat st;

        if (!oid_good(oid)) {
                json_object_set_new(object, "error",
                        json_pack("{si ss}", "code", 422, "message", "this is no object id"));
                return object;
        }
        object_path(call, oid, path);
        bool there = stat(path, &st) == 0;
        snprintf(url, sizeof(url), "%s/objects/%.*s", href, STR_FMT(oid));
        if (!upload && !there)
                json_object_set_new(object, "error",
                        json_pack("{si ss}", "code", 404, "message", "the object is not here"));
        else if (!upload || !there)
                json_object_set_new(object, "actions",
                        json_pack("{s{ss}}", upload ? "upload" : "download", "href", url));
        return object;
}

static void batch(struct emu_call *call, const struct emu_repository *r)
{
        json_t *body = emu_body_json(call), *asked, *list, *answer;
        const char *operation = json_string_value(json_object_get(body, "operation"));
        json_t *objects = json_object_get(body, "objects");
        struct str href = base(call, r);
        size_t i;

        if (!body)
                return;
        bool upload = operation && strcmp(operation, "upload") == 0;
        if (!operation || (!upload && strcmp(operation, "download") != 0) ||
                !json_is_array(objects) || json_array_size(objects) > OBJECTS_MOST || !href.ptr) {
                lfs_error(call, 422, "operation is download or upload, objects a list");
        } else {
                list = json_array();
                json_array_foreach(objects, i, asked)
                        json_array_append_new(list, batch_object(call, href.ptr, asked, upload));
                answer = json_pack("{ss so}", "transfer", "basic", "objects", list);
                lfs_json(call, 200, answer);
        }
        json_decref(body);
}

static void object_get(struct emu_call *call, struct str oid)
{
        char path[4096];

        object_path(call, oid, path);
        if (!emu_send_file(call->request, path, "application/octet-stream"))
                lfs_error(call, 404, "the object is not here");
}

/* Writes the body to `fd`; false when it cannot, or is not what its id says. */
static bool object_receive(struct emu_call *call, int fd, struct str oid)
{
        unsigned char digest[EVP_MAX_MD_SIZE];
        EVP_MD_CTX *md = EVP_MD_CTX_new();
        char part[PART];
        struct buf hex;
        ssize_t n = 0;
        bool good = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1;

        while (good && (n = emu_body_read(call->request, part, sizeof(part))) > 0)
                good = EVP_DigestUpdate(md, part, (size_t)n) == 1 &&
                       write(fd, part, (size_t)n) == n;
        good = good && n == 0 && EVP_DigestFinal_ex(md, digest, NULL) == 1;
        EVP_MD_CTX_free(md);
        buf_init(&hex, OID_LEN * 2);
        if (good)
                buf_hex(&hex, digest, 32);
        good = good && str_eq(buf_str(&hex), oid);
        buf_clear(&hex);
        return good;
}

static void object_put(struct emu_call *call, struct str oid)
{
        char path[4096], beside[4200];
        uint64_t unique;

        snprintf(path, sizeof(path), "%s/lfs", call->azure->data);
        mkdir(path, 0700);
        object_path(call, oid, path);
        id_random(&unique, sizeof(unique));
        snprintf(beside, sizeof(beside), "%s.%016llx", path, (unsigned long long)unique);
        int fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        bool good = fd >= 0 && object_receive(call, fd, oid);
        if (fd >= 0)
                close(fd);
        if (good && rename(beside, path) == 0) {
                emu_reply(call->request, 200, NULL, STR_NONE);
        } else {
                unlink(beside);
                lfs_error(call, 422, "these bytes are not what the object id says");
        }
}

void emu_lfs(struct emu_call *call, const struct emu_repository *repository, size_t at)
{
        const struct str *s = call->segments + at;
        size_t n = call->n_segments - at;
        bool get = str_eq(call->method, STR("GET")) || str_eq(call->method, STR("HEAD"));
        bool post = str_eq(call->method, STR("POST"));

        if (n == 2 && post && str_eq(s[0], STR("objects")) && str_eq(s[1], STR("batch"))) {
                batch(call, repository);
        } else if (n == 2 && str_eq(s[0], STR("objects")) && oid_good(s[1]) && get) {
                object_get(call, s[1]);
        } else if (n == 2 && str_eq(s[0], STR("objects")) && oid_good(s[1]) &&
                   str_eq(call->method, STR("PUT"))) {
                object_put(call, s[1]);
        } else if (n == 2 && post && str_eq(s[0], STR("locks")) && str_eq(s[1], STR("verify"))) {
                emu_body_discard(call->request);
                lfs_json(call, 200, json_pack("{s[] s[]}", "ours", "theirs"));
        } else if (n == 1 && get && str_eq(s[0], STR("locks"))) {
                lfs_json(call, 200, json_pack("{s[]}", "locks"));
        } else {
                lfs_error(call, 404, "there is no such thing");
        }
}
