#include "dagward/trigger/key.h"

#include <openssl/evp.h>
#include <stdlib.h>

struct digest {
        EVP_MD_CTX *context;
};

static void digest_begin(struct digest *digest, const char *domain)
{
        digest->context = EVP_MD_CTX_new();
        if (!digest->context || !EVP_DigestInit_ex(digest->context, EVP_sha256(), NULL) ||
                !EVP_DigestUpdate(digest->context, domain, strlen(domain) + 1))
                abort();
}

/* With its length in front: no two lists of parts read the same. */
static void digest_add(struct digest *digest, struct str part)
{
        unsigned char length[8];

        for (int i = 0; i < 8; i++)
                length[i] = (unsigned char)((uint64_t)part.len >> (8 * i));
        if (!EVP_DigestUpdate(digest->context, length, sizeof(length)) ||
                (part.len && !EVP_DigestUpdate(digest->context, part.ptr, part.len)))
                abort();
}

static void digest_end(struct digest *digest, unsigned char out[TRIGGER_DIGEST])
{
        if (!EVP_DigestFinal_ex(digest->context, out, NULL))
                abort();
        EVP_MD_CTX_free(digest->context);
}

static void digest_request(const struct trigger_parts *parts, unsigned char out[TRIGGER_DIGEST])
{
        struct digest digest;

        digest_begin(&digest, "dagward trigger request 1");
        digest_add(&digest, parts->method);
        digest_add(&digest, parts->service);
        digest_add(&digest, parts->operation);
        digest_add(&digest, parts->path);
        for (size_t i = 0; i < parts->n_query; i++) {
                digest_add(&digest, parts->query[i].name);
                digest_add(&digest, parts->query[i].value);
        }
        digest_add(&digest, parts->body);
        digest_end(&digest, out);
}

static void digest_caller(const struct trigger_parts *parts, unsigned char out[TRIGGER_DIGEST])
{
        struct digest digest;

        digest_begin(&digest, "dagward trigger caller 1");
        digest_add(&digest, parts->issuer);
        digest_add(&digest, parts->subject);
        digest_end(&digest, out);
}

bool trigger_caller_known(const struct trigger_key *key)
{
        static const unsigned char unknown[TRIGGER_DIGEST];

        return memcmp(key->caller, unknown, TRIGGER_DIGEST) != 0;
}

enum trigger_keyed trigger_key_make(const struct trigger_parts *parts, struct trigger_key *out)
{
        bool task = parts->dag_id.len && parts->run_id.len && parts->task_id.len;
        struct digest digest;

        if (!parts->chosen.ptr && !task)
                return TRIGGER_UNKEYED;
        digest_request(parts, out->request);
        digest_caller(parts, out->caller);
        digest_begin(
                &digest, parts->chosen.ptr ? "dagward trigger choice 1" : "dagward trigger task 1");
        digest_add(&digest, parts->issuer);
        digest_add(&digest, parts->subject);
        if (parts->chosen.ptr) {
                digest_add(&digest, parts->chosen);
        } else {
                digest_add(&digest, parts->dag_id);
                digest_add(&digest, parts->run_id);
                digest_add(&digest, parts->task_id);
                /* A task that is not mapped has index -1, whether it says so or not. */
                digest_add(&digest, parts->map_index.len ? parts->map_index : STR("-1"));
                digest_add(&digest, parts->max_tries);
                digest_add(&digest, str_view((const char *)out->request, TRIGGER_DIGEST));
        }
        digest_end(&digest, out->key);
        return parts->chosen.ptr ? TRIGGER_BY_CHOICE : TRIGGER_BY_TASK;
}

bool trigger_chosen_read(struct str field, struct str *chosen)
{
        struct str text = str_trim(field);

        if (text.len >= 2 && text.ptr[0] == '"' && text.ptr[text.len - 1] == '"')
                text = str_view(text.ptr + 1, text.len - 2);
        if (!text.len || text.len > TRIGGER_CHOSEN_MOST)
                return false;
        for (size_t i = 0; i < text.len; i++) {
                /* Escapes would make two spellings of one key. */
                if (text.ptr[i] <= 0x20 || text.ptr[i] > 0x7e || strchr("\"\\,;", text.ptr[i]))
                        return false;
        }
        *chosen = text;
        return true;
}
