#include "dagward/audit/signing.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
        PUBLIC_BYTES = 44, /* SubjectPublicKeyInfo: 12 bytes that say Ed25519, and the key */
        PREFIX_BYTES = 12,
        SIGNATURE_BYTES = 64,
        FILE_MOST_BYTES = 64 * 1024,
        PEM_MOST_BYTES = 256,
};

struct signing_key {
        EVP_PKEY *pair;
        char text[SIGNING_KEY_LEN + 1];
        char pem[PEM_MOST_BYTES];
};

/* --- texts --- */

static bool key_text(EVP_PKEY *key, char out[SIGNING_KEY_LEN + 1])
{
        unsigned char bytes[PUBLIC_BYTES], *end = bytes;

        if (EVP_PKEY_get_base_id(key) != EVP_PKEY_ED25519 ||
                i2d_PUBKEY(key, NULL) != PUBLIC_BYTES || i2d_PUBKEY(key, &end) != PUBLIC_BYTES)
                return false;
        return EVP_EncodeBlock((unsigned char *)out, bytes, PUBLIC_BYTES) == SIGNING_KEY_LEN;
}

/* Base64 in its one canonical spelling, of exactly `n` bytes. */
static bool decode(struct str text, unsigned char *out, size_t n)
{
        unsigned char bytes[SIGNATURE_BYTES + 2], again[SIGNING_LEN + 1];
        int encoded = (int)((n + 2) / 3 * 4);

        if (text.len != (size_t)encoded || n > SIGNATURE_BYTES ||
                EVP_DecodeBlock(bytes, (const unsigned char *)text.ptr, encoded) < (int)n ||
                EVP_EncodeBlock(again, bytes, (int)n) != encoded ||
                memcmp(again, text.ptr, text.len) != 0)
                return false;
        memcpy(out, bytes, n);
        return true;
}

static EVP_PKEY *public_of(struct str text)
{
        static const unsigned char prefix[PREFIX_BYTES] = {
                0x30, 0x2A, 0x30, 0x05, 0x06, 0x03, 0x2B, 0x65, 0x70, 0x03, 0x21, 0x00};
        unsigned char bytes[PUBLIC_BYTES];

        if (!decode(text, bytes, sizeof(bytes)) || memcmp(bytes, prefix, sizeof(prefix)) != 0)
                return NULL;
        return EVP_PKEY_new_raw_public_key(
                EVP_PKEY_ED25519, NULL, bytes + PREFIX_BYTES, PUBLIC_BYTES - PREFIX_BYTES);
}

/* --- files --- */

/* A key with a passphrase is not asked about on a terminal. */
static int no_passphrase(char *out, int size, int writing, void *owner)
{
        (void)out;
        (void)size;
        (void)writing;
        (void)owner;
        return -1;
}

static bool read_file(const char *path, char **out, size_t *len, struct error *err)
{
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        char *bytes = malloc(FILE_MOST_BYTES + 1);
        ssize_t n = -1;

        if (!bytes)
                abort();
        *len = 0;
        while (fd >= 0 && *len <= FILE_MOST_BYTES) {
                n = read(fd, bytes + *len, FILE_MOST_BYTES + 1 - *len);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        break;
                *len += (size_t)n;
        }
        int why = errno;
        if (fd >= 0)
                close(fd);
        if (n == 0) {
                *out = bytes;
                return true;
        }
        OPENSSL_cleanse(bytes, *len);
        free(bytes);
        errno = why;
        if (n > 0)
                return error_set(err, "%s: is too long for a key", path);
        return error_set(err, "%s: %s", path, strerror(why));
}

static EVP_PKEY *read_pem(const char *path, bool may_be_public, struct error *err)
{
        EVP_PKEY *key = NULL;
        char *bytes = NULL;
        size_t len = 0;

        if (!read_file(path, &bytes, &len, err))
                return NULL;
        for (int attempt = 0; attempt < 2 && !key; attempt++) {
                BIO *bio = BIO_new_mem_buf(bytes, (int)len);
                if (!bio)
                        abort();
                if (attempt == 0)
                        key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
                else if (may_be_public)
                        key = PEM_read_bio_PUBKEY(bio, NULL, no_passphrase, NULL);
                BIO_free(bio);
        }
        OPENSSL_cleanse(bytes, len);
        free(bytes);
        if (!key) {
                error_set(err, "%s: holds no %s in PEM", path,
                        may_be_public ? "key" : "private key without a passphrase");
        } else if (EVP_PKEY_get_base_id(key) != EVP_PKEY_ED25519) {
                error_set(err, "%s: the key is not Ed25519", path);
                EVP_PKEY_free(key);
                key = NULL;
        }
        return key;
}

/* Takes the pair over. */
static struct signing_key *key_of(EVP_PKEY *pair)
{
        struct signing_key *key = calloc(1, sizeof(*key));

        if (!key || !key_text(pair, key->text))
                abort();
        key->pair = pair;
        snprintf(key->pem, sizeof(key->pem),
                "-----BEGIN PUBLIC KEY-----\n%s\n-----END PUBLIC KEY-----\n", key->text);
        return key;
}

struct signing_key *signing_key_load(const char *path, struct error *err)
{
        EVP_PKEY *pair = read_pem(path, false, err);

        return pair ? key_of(pair) : NULL;
}

/* Under another name first: a crash leaves no half key at the path. */
static bool write_key(EVP_PKEY *pair, const char *path, struct error *err)
{
        char name[4096], *text;
        BIO *bio = BIO_new(BIO_s_mem());

        if (!bio || !PEM_write_bio_PKCS8PrivateKey(bio, pair, NULL, NULL, 0, NULL, NULL))
                abort();
        long len = BIO_get_mem_data(bio, &text);
        snprintf(name, sizeof(name), "%s.tmp", path);
        unlink(name);
        int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        /* Not every file system has second names; where it has, no key is ever written over. */
        bool ok = fd >= 0 && write(fd, text, (size_t)len) == len && fsync(fd) == 0 &&
                  (link(name, path) == 0 || (errno != EEXIST && rename(name, path) == 0));
        if (!ok)
                error_set(err, "%s: the key that signs checkpoints cannot be made here: %s", path,
                        strerror(errno));
        if (fd >= 0) {
                close(fd);
                unlink(name);
        }
        OPENSSL_cleanse(text, (size_t)len);
        BIO_free(bio);
        return ok;
}

struct signing_key *signing_key_load_or_make(const char *path, struct error *err)
{
        if (access(path, F_OK) == 0 || errno != ENOENT)
                return signing_key_load(path, err);
        EVP_PKEY *pair = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
        if (!pair)
                abort();
        if (!write_key(pair, path, err)) {
                EVP_PKEY_free(pair);
                return NULL;
        }
        return key_of(pair);
}

void signing_key_free(struct signing_key *key)
{
        if (!key)
                return;
        EVP_PKEY_free(key->pair);
        free(key);
}

const char *signing_key_text(const struct signing_key *key)
{
        return key->text;
}

const char *signing_key_pem(const struct signing_key *key)
{
        return key->pem;
}

bool signing_public_load(const char *path, char out[SIGNING_KEY_LEN + 1], struct error *err)
{
        EVP_PKEY *key = read_pem(path, true, err);

        if (!key)
                return false;
        bool ok = key_text(key, out);
        EVP_PKEY_free(key);
        return ok || error_set(err, "%s: the key cannot be written as text", path);
}

/* --- signatures --- */

void signing_sign(const struct signing_key *key, struct str text, char out[SIGNING_LEN + 1])
{
        unsigned char bytes[SIGNATURE_BYTES];
        size_t len = sizeof(bytes);
        EVP_MD_CTX *context = EVP_MD_CTX_new();

        /* Nothing here depends on the text: a failure is a broken library. */
        if (!context || !EVP_DigestSignInit(context, NULL, NULL, NULL, key->pair) ||
                !EVP_DigestSign(context, bytes, &len, (const unsigned char *)text.ptr, text.len) ||
                len != sizeof(bytes))
                abort();
        EVP_MD_CTX_free(context);
        EVP_EncodeBlock((unsigned char *)out, bytes, sizeof(bytes));
}

bool signing_verify(struct str key, struct str text, struct str signature)
{
        unsigned char bytes[SIGNATURE_BYTES];
        EVP_PKEY *public = public_of(key);
        EVP_MD_CTX *context = EVP_MD_CTX_new();

        if (!context)
                abort();
        bool good = public && decode(signature, bytes, sizeof(bytes)) &&
                    EVP_DigestVerifyInit(context, NULL, NULL, NULL, public) == 1 &&
                    EVP_DigestVerify(context, bytes, sizeof(bytes), (const unsigned char *)text.ptr,
                            text.len) == 1;
        EVP_MD_CTX_free(context);
        EVP_PKEY_free(public);
        return good;
}
