/*
 * reasons: denials that no policy makes.
 *
 * The record of such a request has no rule and this reason, so that nobody takes it for what a
 * policy said.
 */
#ifndef DAGWARD_WORLD_REASONS_H
#define DAGWARD_WORLD_REASONS_H

#define REASON_ORGANIZATION "the proxy does not serve this organization"
#define REASON_NOT_SPELT_OUT                                                                       \
        "this address belongs to no organization; it is open only to rules that name its "         \
        "`method` "                                                                                \
        "and `path`"

#endif
