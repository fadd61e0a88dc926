/*
 * token_file: what is particular about a token that stands in a file itself, where the life of any
 * token (token_source.h) is not enough. Private to control.
 */
#ifndef DAGWARD_CONTROL_TOKEN_FILE_H
#define DAGWARD_CONTROL_TOKEN_FILE_H

#include "token_source.h"

/* A file that did not change holds a token that ends when it did, whatever the wall clock says now:
 * one that is set back makes nothing live longer. Takes over the reference of `fresh`; the result
 * is what counts. */
struct credential *token_file_not_longer(struct token_source *source, struct credential *fresh);
/* It could not be read. Whether it has been gone for so long that it was taken away, and is not in
 * the middle of being replaced; a file that is there and cannot be read is not gone. */
bool token_file_is_gone(struct token_source *source);

#endif
