/* lent: the credentials that callers of this worker have of their own; see lent.c. Private to
 * worker. One thread's; NULL is an empty one to lent_clear, lent_free, lent_expire, lent_held. */
#ifndef DAGWARD_WORKER_LENT_H
#define DAGWARD_WORKER_LENT_H

#include "dagward/credential/credential.h"
#include "dagward/token/token.h"

struct lent;

/* Room for about `most`, all of it allocated at once. */
struct lent *lent_new(size_t most);
/* Forgets everything. */
void lent_clear(struct lent *lent);
void lent_free(struct lent *lent);
/* What credential `index` of the configuration has obtained for the token of `digest`
 * (TOKEN_DIGEST_BYTES), if it may be lent now; its reference stays the cache's. NULL: none. */
struct credential *lent_find(
        struct lent *lent, const unsigned char *digest, unsigned index, int64_t now_ms);
/* Whether what lent_find has just found is due to be renewed; true once in a while only, so that
 * one is asked for. */
bool lent_is_due(struct lent *lent, const unsigned char *digest, unsigned index, int64_t now_ms);
/* Takes a reference of its own. */
void lent_put(struct lent *lent, const unsigned char *digest, unsigned index,
        struct credential *credential);
/* Upstream has rejected it; a newer one than `generation` stays. */
void lent_forget(
        struct lent *lent, const unsigned char *digest, unsigned index, uint64_t generation);
/* Drops those that have ended, so that they are wiped. */
void lent_expire(struct lent *lent, int64_t now_ms);
size_t lent_held(const struct lent *lent);

#endif
