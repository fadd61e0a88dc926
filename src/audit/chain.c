#include "dagward/audit/chain.h"

#include <openssl/evp.h>
#include <stdlib.h>

enum { HASH_BYTES = 32 };

static const char seq_name[] = "{\"seq\":";
static const char prev_name[] = ",\"prev\":\"";
static const char hash_name[] = ",\"hash\":\"";
/* ,"prev":"<hex>","hash":"<hex>"} */
enum { TAIL = sizeof(prev_name) - 1 + CHAIN_HEX + 1 + sizeof(hash_name) - 1 + CHAIN_HEX + 2 };

struct chain {
        EVP_MD *sha256; /* fetched once: a fetch costs more than a hash */
        EVP_MD_CTX *context;
};

struct chain *chain_new(void)
{
        struct chain *chain = calloc(1, sizeof(*chain));

        if (!chain)
                abort();
        chain->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
        chain->context = EVP_MD_CTX_new();
        if (!chain->sha256 || !chain->context)
                abort();
        return chain;
}

void chain_free(struct chain *chain)
{
        if (!chain)
                return;
        EVP_MD_CTX_free(chain->context);
        EVP_MD_free(chain->sha256);
        free(chain);
}

void chain_head_init(struct chain_head *head)
{
        head->seq = 0;
        memset(head->hash, '0', CHAIN_HEX);
        head->hash[CHAIN_HEX] = '\0';
}

/* SHA-256 of the two parts one behind the other, as hex without a NUL. */
static void digest(struct chain *chain, struct str a, struct str b, char out[CHAIN_HEX])
{
        static const char digits[] = "0123456789abcdef";
        unsigned char bytes[HASH_BYTES];

        /* Nothing here depends on the input: a failure is a broken library. */
        if (!EVP_DigestInit_ex2(chain->context, chain->sha256, NULL) ||
                !EVP_DigestUpdate(chain->context, a.ptr, a.len) ||
                (b.len && !EVP_DigestUpdate(chain->context, b.ptr, b.len)) ||
                !EVP_DigestFinal_ex(chain->context, bytes, NULL))
                abort();
        for (size_t i = 0; i < HASH_BYTES; i++) {
                out[2 * i] = digits[bytes[i] >> 4];
                out[2 * i + 1] = digits[bytes[i] & 15];
        }
}

void chain_digest(struct chain *chain, struct str bytes, char out[CHAIN_HEX + 1])
{
        digest(chain, str_empty(bytes) ? STR("") : bytes, STR_NONE, out);
        out[CHAIN_HEX] = '\0';
}

bool chain_write(struct chain *chain, struct chain_head *head, struct str members, struct buf *out)
{
        size_t start = out->len;

        if (str_empty(members) || members.len > CHAIN_LINE_MOST - CHAIN_OVERHEAD ||
                memchr(members.ptr, '\n', members.len))
                return false;
        if (!buf_reserve(out, members.len + CHAIN_OVERHEAD)) {
                out->overflow = false; /* what stands in it is whole */
                return false;
        }
        buf_add(out, seq_name, sizeof(seq_name) - 1);
        buf_u64(out, head->seq + 1);
        buf_char(out, ',');
        buf_str_add(out, members);
        buf_add(out, prev_name, sizeof(prev_name) - 1);
        buf_add(out, head->hash, CHAIN_HEX);
        BUF_LITERAL(out, "\"}");
        digest(chain, str_view(out->data + start, out->len - start), STR_NONE, head->hash);
        out->len--; /* the brace goes behind the hash */
        buf_add(out, hash_name, sizeof(hash_name) - 1);
        buf_add(out, head->hash, CHAIN_HEX);
        BUF_LITERAL(out, "\"}\n");
        head->seq++;
        return true;
}

/* CHAIN_HEX digits; without a way out in between, so that compilers take many at once. */
static bool is_hex(const char *text)
{
        unsigned char bad = 0;

        for (size_t i = 0; i < CHAIN_HEX; i++) {
                unsigned char c = (unsigned char)text[i];
                bad |= (unsigned char)!(
                        (unsigned char)(c - '0') < 10 || (unsigned char)(c - 'a') < 6);
        }
        return !bad;
}

/* Takes `literal` off the head of `*s`. */
static bool skip(struct str *s, const char *literal)
{
        size_t len = strlen(literal);

        if (s->len < len || memcmp(s->ptr, literal, len) != 0)
                return false;
        *s = str_from(*s, len);
        return true;
}

static bool take_hex(struct str *s, struct str *out)
{
        *out = str_head(*s, CHAIN_HEX);
        *s = str_from(*s, CHAIN_HEX);
        return out->len == CHAIN_HEX && is_hex(out->ptr);
}

enum chain_verdict chain_read(struct chain *chain, struct str line, struct chain_line *out)
{
        struct str rest = line, seq, tail;
        char hash[CHAIN_HEX];

        if (line.len > CHAIN_LINE_MOST || line.len < sizeof(seq_name) + TAIL ||
                !skip(&rest, seq_name))
                return CHAIN_FOREIGN;
        tail = str_from(rest, rest.len - TAIL);
        rest.len -= TAIL;
        out->members = str_cut(rest, ',', &seq);
        if (str_empty(out->members) || seq.ptr[0] == '0' || !str_to_u64(seq, &out->seq))
                return CHAIN_FOREIGN;
        if (!skip(&tail, prev_name) || !take_hex(&tail, &out->prev) || !skip(&tail, "\"") ||
                !skip(&tail, hash_name) || !take_hex(&tail, &out->hash) || !skip(&tail, "\"}"))
                return CHAIN_FOREIGN;
        size_t hashed = line.len - (sizeof(hash_name) - 1 + CHAIN_HEX + 2);
        digest(chain, str_head(line, hashed), STR("}"), hash);
        return memcmp(hash, out->hash.ptr, CHAIN_HEX) == 0 ? CHAIN_GOOD : CHAIN_EDITED;
}
