/*
 * agent: the proxy's helper beside a client, for clients that should hold no credential.
 *
 *      client --plain, loopback or Unix socket--> agent --TLS, with the token of a file--> proxy
 *
 * One thread for each connection, one request for each connection: the head is read and written
 * anew, the rest is passed on as it comes, both ways. It judges nothing; the proxy does.
 */
#ifndef DAGWARD_PROXY_AGENT_H
#define DAGWARD_PROXY_AGENT_H

#include "dagward/base/secret.h"
#include "dagward/config/config.h"
#include "dagward/net/tls.h"

struct agent_settings {
        struct arena arena;      /* of the texts */
        struct str listen;       /* "127.0.0.1:8021"; ptr NULL: none */
        struct str socket;       /* path of a Unix socket; ptr NULL: none */
        struct config_url proxy; /* an origin */
        struct str ca;           /* PEM bundle for it; ptr NULL: the system's */
        struct str token_file;
        struct str user;  /* what /askpass says beside the token */
        bool askpass;     /* /askpass is served */
        unsigned confine; /* enum confine_mode */
};

/* Reads the configuration of an agent; false with all findings. Free with arena_clear(&out->arena).
 */
bool agent_settings_load(const char *path, struct agent_settings *out, struct error_list *errors)
        __attribute__((warn_unused_result));

/* The token of the file, without blanks around it; drop it. False with a reason when it cannot be
 * read, or holds something that cannot be a token. */
bool agent_token_read(const char *path, struct secret *token, struct error *err)
        __attribute__((warn_unused_result));

struct agent {
        const struct agent_settings *settings;
        struct tls_context *tls; /* NULL: the proxy is plain */
};

/* Serves the client on `fd`, which it closes. */
void agent_connection(const struct agent *agent, int fd);

#endif
