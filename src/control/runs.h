/*
 * runs: looks whether a run that was asked for has been started. Private to control.
 *
 * Lists what was started at that time, page by page, and gets the one that has the mark. Nothing is
 * kept here: the ledger of triggers does that.
 */
#ifndef DAGWARD_CONTROL_RUNS_H
#define DAGWARD_CONTROL_RUNS_H

#include "dagward/world/ports.h"

struct control;
struct runs;

enum { RUNS_AT_ONCE = 16, RUNS_TIMEOUT_MS = 8000, RUNS_BOUND_MS = 12000, RUNS_PAGES_MOST = 25 };

struct runs *runs_new(struct control *control);
/* Takes an ASK_RUN; it is answered within RUNS_BOUND_MS and one RUNS_TIMEOUT_MS. */
void runs_ask(struct runs *runs, struct ask *ask);
/* Answers all of them with no. */
void runs_cancel(struct runs *runs, const char *why);
/* The same. Harmless on NULL. */
void runs_free(struct runs *runs);

#endif
