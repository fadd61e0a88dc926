/*
 * azure_devops: an organization of Azure DevOps that exists nowhere, for the demo and the tests.
 *
 * Organization `contoso`; projects analytics and platform; pipelines 42 nightly-load, 7
 * train-models and 99 drop-everything in analytics; repositories analytics/dags, analytics/models
 * and platform/platform; release definitions 5 warehouse and 6 platform; feeds analytics/data and
 * shared. Speaks the part of the REST API that clients of Airflow use, discovery, npm, git over
 * HTTP
 * (`git http-backend` has to be installed) and LFS. Downloads are redirected to a second listener
 * with signed URLs, which refuses every credential. Refuses, delays and fails like the original, on
 * demand: see emu_recorder.c for the control endpoint `/~emulator`.
 */
#ifndef DAGWARD_EMBEDDED_AZURE_DEVOPS_H
#define DAGWARD_EMBEDDED_AZURE_DEVOPS_H

#include "dagward/base/error.h"

struct azure_devops;

struct azure_devops_settings {
        uint16_t port;                 /* 0: any */
        bool tls;                      /* listen with TLS too */
        uint16_t tls_port;             /* 0: any */
        const char *certificate, *key; /* PEM files, when `tls` */
        const char *data;              /* folder for repositories and objects; made when missing */
        const struct str *tokens;      /* taken besides everything that begins with "emulated-" */
        size_t n_tokens;
};

/* Makes what is missing in the data folder and listens on 127.0.0.1. Copies what it needs of
 * `settings`. NULL with `err` when it cannot. */
struct azure_devops *azure_devops_start(
        const struct azure_devops_settings *settings, struct error *err);
uint16_t azure_devops_port(const struct azure_devops *azure);
/* Where downloads are redirected to: `*.blob.core.windows.net`. */
uint16_t azure_devops_storage_port(const struct azure_devops *azure);
/* 0 without TLS. */
uint16_t azure_devops_tls_port(const struct azure_devops *azure);
/* Ends all connections and frees `azure` (may be NULL). */
void azure_devops_stop(struct azure_devops *azure);

#endif
