/*
 * certificate: what certificates say, for people who look for a mistake.
 *
 * Reads the chain in a file, and looks at the one a server shows whether or not it can be trusted.
 * Nothing here decides about a connection that carries anything: that is tls.h. Texts are cut to
 * their room and hold printable characters only.
 */
#ifndef DAGWARD_NET_CERTIFICATE_H
#define DAGWARD_NET_CERTIFICATE_H

#include "dagward/base/error.h"

enum { CERTIFICATE_TEXT = 256, CERTIFICATE_NAMES = 512, CERTIFICATE_CHAIN_MOST = 10 };

struct certificate {
        char subject[CERTIFICATE_TEXT], issuer[CERTIFICATE_TEXT]; /* "CN=..., O=..." */
        char names[CERTIFICATE_NAMES]; /* of the subjectAltName: "a.example, *.b.example" */
        int64_t not_before_s, not_after_s;
        bool self_issued;
        bool issuer_url; /* says where its issuer's certificate can be had (RFC 5280 4.2.2.1) */
};

/* The certificates of a PEM file, in its order. */
struct certificate_file {
        struct certificate chain[CERTIFICATE_CHAIN_MOST];
        size_t n;
        size_t broken_at;   /* chain[broken_at] was not issued by the one behind it; n: none such */
        bool system_trusts; /* the first one verifies with the others and the system's authorities
                             */
};

/* False with a reason when there is no certificate to be read. */
bool certificate_file_read(const char *path, struct certificate_file *out, struct error *err)
        __attribute__((warn_unused_result));
/* Whether the first certificate of the file is for `host`, a DNS name or an IP address. */
bool certificate_covers(const char *path, const char *host);

enum key_fit {
        KEY_FITS,
        KEY_OTHER,      /* it belongs to another certificate */
        KEY_UNREADABLE, /* no private key in PEM, or one with a passphrase */
};
enum key_fit certificate_key_fit(const char *certificate, const char *key);

enum tls_trust {
        TLS_TRUSTED,
        TLS_UNKNOWN_ISSUER, /* no way from it to an authority; see unknown_issuer */
        TLS_SELF_SIGNED,
        TLS_EXPIRED,
        TLS_NOT_YET_VALID,
        TLS_WRONG_NAME,
        TLS_DISTRUSTED, /* something else; see why */
};

/* What a server shows. */
struct tls_seen {
        bool shaken;    /* a handshake came to its end; else `why` says why not */
        bool timed_out; /* it did not in time */
        bool not_tls;   /* what answers speaks something else */
        char why[CERTIFICATE_TEXT];
        enum tls_trust trust;
        struct certificate leaf;
        struct certificate faulty; /* the one that is untrusted, expired, ...: may be the leaf */
        char unknown_issuer[CERTIFICATE_TEXT];
        size_t n_chain; /* certificates sent */
};

/* Handshakes on a connected, non-blocking descriptor, which stays the caller's, and looks. `ca` is
 * a PEM bundle, NULL for the system's. False with a reason only when `ca` cannot be used. */
bool tls_look(int fd, const char *host, const char *ca, int64_t deadline_mono_ms,
        struct tls_seen *out, struct error *err) __attribute__((warn_unused_result));

#endif
