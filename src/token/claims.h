/*
 * claims: reading what the second part of a token says.
 */
#ifndef DAGWARD_SRC_TOKEN_CLAIMS_H
#define DAGWARD_SRC_TOKEN_CLAIMS_H

#include "dagward/token/token.h"

enum claims_date { DATE_ABSENT, DATE_OK, DATE_BAD };

/* A NumericDate (RFC 7519 2), also fractional; rounded down, or up if `up`. DATE_BAD for what is no
 * number or not a time within 2^53 seconds. */
enum claims_date claims_date(const struct tree *claims, struct str name, bool up, int64_t *seconds);
/* True if `aud` is one of `audiences`, or an array of nothing but strings that holds one. */
bool claims_audience(const struct tree *claims, const struct str *audiences, size_t n);
/* The first `require` that is not met, or NULL. Strings compare by bytes, whole numbers and
 * booleans by their JSON spelling, anything else never. */
const struct pair *claims_unmet(const struct tree *claims, const struct pair *require, size_t n);
/* Gathers role names into `caller`; false when there are more than TOKEN_MOST_ROLES. */
bool claims_roles(
        const struct tree *claims, const struct str *paths, size_t n, struct caller *caller);
/* Says that there are groups which the token does not hold (Entra's overage). */
bool claims_groups_unknown(const struct tree *claims);

#endif
