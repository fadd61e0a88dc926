/* Certificates for tests, made on the spot. */
#ifndef CERTIFICATE_KIT_H
#define CERTIFICATE_KIT_H

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>

/* A new key and a self-signed certificate for `names` ("IP:127.0.0.1,DNS:localhost"), which is its
 * own authority, as PEM files. */
static inline bool certificate_write(
        const char *names, long lifetime_s, const char *certificate_path, const char *key_path)
{
        EVP_PKEY *key = EVP_EC_gen("P-256");
        X509 *certificate = X509_new();
        X509_NAME *name = X509_get_subject_name(certificate);
        X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, names);
        FILE *certificate_file = fopen(certificate_path, "w");
        FILE *key_file = fopen(key_path, "w");

        X509_set_version(certificate, 2);
        ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
        X509_gmtime_adj(X509_getm_notBefore(certificate), -7200);
        X509_gmtime_adj(X509_getm_notAfter(certificate), lifetime_s);
        X509_NAME_add_entry_by_txt(
                name, "CN", MBSTRING_ASC, (const unsigned char *)"stub", -1, -1, 0);
        X509_set_issuer_name(certificate, name);
        X509_set_pubkey(certificate, key);
        X509_add_ext(certificate, extension, -1);
        bool ok = X509_sign(certificate, key, EVP_sha256()) > 0 && certificate_file && key_file &&
                  PEM_write_X509(certificate_file, certificate) &&
                  PEM_write_PrivateKey(key_file, key, NULL, NULL, 0, NULL, NULL);
        fclose(certificate_file);
        fclose(key_file);
        X509_EXTENSION_free(extension);
        X509_free(certificate);
        EVP_PKEY_free(key);
        return ok;
}

#endif
