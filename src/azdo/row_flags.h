/* The flags of resources.def, by the names that they have there. */
#ifndef DAGWARD_AZDO_ROW_FLAGS_H
#define DAGWARD_AZDO_ROW_FLAGS_H

#include "catalogue_table.h"

#define LIST ROW_LIST
#define NUMBER ROW_NUMBER
#define ALSO ROW_ALSO
#define FALLBACK ROW_FALLBACK
#define REF ROW_REF
#define HIDES ROW_HIDES
#define FEED ROW_FEED
#define VEILS ROW_VEILS
#define MAIN ROW_MAIN
#define DEFERS ROW_DEFERS
#define ASIDE ROW_ASIDE
#define FOLLOWS ROW_FOLLOWS
#define LINK ROW_LINK
#define FINDS ROW_FINDS
#define UPSTREAM ROW_UPSTREAM
#define PAIR ROW_PAIR

#endif
