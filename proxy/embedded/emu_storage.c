/*
 * Storage: what Azure DevOps redirects downloads to. A host of its own, which knows signed URLs and
 * nothing else: whoever comes with a credential, a cookie or a session is refused, and remembered.
 *
 *   GET /{folder}/{name}?se={seconds since 1970}&sig={signature}
 *
 * serves {data}/blobs/{folder}/{name}, ranges included (RFC 9110 14).
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dagward/base/clock.h"
#include "embedded/emu.h"

#define STORAGE_HOST "dagwardemulator.blob.core.windows.net"

enum { PART = 65536, SIGNED_FOR_S = 600 };

/* --- files --- */

void emu_blob_path(const struct azure_devops *azure, struct str name, char out[4096])
{
        snprintf(out, 4096, "%s/blobs/%.*s", azure->data, STR_FMT(name));
}

bool emu_blob_write(struct azure_devops *azure, struct str name, struct str bytes)
{
        char path[4096];
        int fd;

        snprintf(path, sizeof(path), "%s/blobs", azure->data);
        mkdir(path, 0700);
        emu_blob_path(azure, name, path);
        char *slash = strrchr(path, '/');
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        bool good = fd >= 0;
        while (good && bytes.len) {
                ssize_t n = write(fd, bytes.ptr, bytes.len);
                good = n > 0;
                bytes = str_from(bytes, good ? (size_t)n : 0);
        }
        if (fd >= 0)
                close(fd);
        return good;
}

/* `bytes=from-to`, `bytes=from-`: one range, or false. */
static bool range_of(const struct emu_request *request, off_t size, off_t *from, off_t *to)
{
        struct str value = STR_NONE, first, unit;
        uint64_t a, b = (uint64_t)size - 1;

        for (size_t i = 0; i < request->head.n_fields; i++)
                if (str_eq_fold(request->head.fields[i].name, STR("Range")))
                        value = request->head.fields[i].value;
        struct str rest = str_cut(value, '=', &unit);
        struct str last = str_cut(rest, '-', &first);
        if (!str_eq(unit, STR("bytes")) || !str_to_u64(first, &a) || a >= (uint64_t)size ||
                (last.len && (!str_to_u64(last, &b) || b < a)))
                return false;
        *from = (off_t)a;
        *to = b < (uint64_t)size ? (off_t)b : size - 1;
        return true;
}

bool emu_send_file(struct emu_request *request, const char *path, const char *type)
{
        char part[PART], text[96];
        struct stat st;
        int fd = open(path, O_RDONLY | O_CLOEXEC);

        if (fd < 0 || fstat(fd, &st) < 0) {
                if (fd >= 0)
                        close(fd);
                return false;
        }
        off_t from = 0, to = st.st_size - 1;
        bool ranged = range_of(request, st.st_size, &from, &to);
        emu_header(request, STR("Accept-Ranges"), STR("bytes"));
        if (ranged) {
                snprintf(text, sizeof(text), "bytes %lld-%lld/%lld", (long long)from, (long long)to,
                        (long long)st.st_size);
                emu_header(request, STR("Content-Range"), str_of(text));
        }
        uint64_t left = (uint64_t)(to - from + 1);
        if (emu_reply_begin_length(request, ranged ? 206 : 200, type, left)) {
                bool good = lseek(fd, from, SEEK_SET) == from;
                while (good && left) {
                        ssize_t n = read(fd, part, left < PART ? (size_t)left : PART);
                        good = n > 0 && emu_write(request, str_view(part, (size_t)n));
                        left -= good ? (uint64_t)n : 0;
                }
                emu_reply_end(request);
        }
        close(fd);
        return true;
}

/* --- signed URLs --- */

/* Of the path and the end of its time, with a key of this process. */
static void sign(struct azure_devops *azure, struct str name, uint64_t until, char out[65])
{
        unsigned char digest[EVP_MAX_MD_SIZE];
        unsigned length = 0;
        struct buf text, hex;

        buf_init(&text, 8192);
        buf_str_add(&text, name);
        buf_printf(&text, "\n%llu", (unsigned long long)until);
        HMAC(EVP_sha256(), azure->storage_key, sizeof(azure->storage_key),
                (const unsigned char *)text.data, text.len, digest, &length);
        buf_init_fixed(&hex, out, 65);
        buf_hex(&hex, digest, 32);
        out[64] = '\0';
        buf_clear(&text);
}

void emu_signed_url(struct azure_devops *azure, struct str name, struct buf *out)
{
        uint64_t until = (uint64_t)(clock_wall_ms() / 1000) + SIGNED_FOR_S;
        char signature[65];

        sign(azure, name, until, signature);
        buf_printf(out, "https://" STORAGE_HOST "/%.*s?sv=2024-11-04&se=%llu&sp=r&sig=%s",
                STR_FMT(name), (unsigned long long)until, signature);
}

/* What must never reach storage: it would use it, or keep it. */
static struct str unwanted_field(const struct emu_request *request)
{
        static const struct str starts[] = {{"Authorization", 13}, {"Cookie", 6}, {"X-TFS-", 6},
                {"X-VSS-", 6}, {"X-Airflow-", 10}, {"X-Correlation-", 14}};

        for (size_t i = 0; i < request->head.n_fields; i++)
                for (size_t k = 0; k < sizeof(starts) / sizeof(starts[0]); k++)
                        if (str_starts_fold(request->head.fields[i].name, starts[k]))
                                return request->head.fields[i].name;
        return STR_NONE;
}

static void refuse(struct emu_request *request, int status, const char *code, struct str detail)
{
        struct buf body;

        buf_init(&body, 4096);
        buf_printf(&body,
                "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>%s</Code>"
                "<Message>%.*s</Message></Error>",
                code, STR_FMT(detail));
        emu_reply(request, status, "application/xml", buf_str(&body));
        buf_clear(&body);
}

static struct str parameter(const struct emu_request *request, const char *name)
{
        for (size_t i = 0; i < request->target.n_query; i++)
                if (str_eq(request->target.query[i].name, str_of(name)))
                        return request->target.query[i].value;
        return STR_NONE;
}

static bool is_plain(struct str s)
{
        return s.len && s.ptr[0] != '.' && str_find(s, '/') < 0;
}

void emu_storage(struct emu_request *request, void *arg)
{
        struct azure_devops *azure = arg;
        const struct target *target = &request->target;
        struct str unwanted = unwanted_field(request);
        char signature[65], path[4096], name[1024];
        uint64_t until;

        emu_record(azure, request, true);
        if (unwanted.ptr) {
                pthread_mutex_lock(&azure->lock);
                azure->n_credentials_to_storage++;
                pthread_mutex_unlock(&azure->lock);
                refuse(request, 400, "InvalidAuthenticationInfo", unwanted);
                return;
        }
        if (target->n_segments != 2 || !is_plain(target->segments[0]) ||
                !is_plain(target->segments[1])) {
                refuse(request, 404, "ResourceNotFound", STR("no such blob"));
                return;
        }
        snprintf(name, sizeof(name), "%.*s/%.*s", STR_FMT(target->segments[0]),
                STR_FMT(target->segments[1]));
        bool good = str_to_u64(parameter(request, "se"), &until);
        sign(azure, str_of(name), good ? until : 0, signature);
        if (!good || until < (uint64_t)(clock_wall_ms() / 1000) ||
                !str_eq(parameter(request, "sig"), str_of(signature))) {
                refuse(request, 403, "AuthenticationFailed", STR("Signature did not match."));
                return;
        }
        emu_blob_path(azure, str_of(name), path);
        if (!emu_send_file(request, path, "application/octet-stream"))
                refuse(request, 404, "BlobNotFound", str_of(name));
}
