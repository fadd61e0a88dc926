/* The rows of resources.def, for what reads them backwards (private to azdo). */
#ifndef DAGWARD_AZDO_RESOURCE_ROWS_H
#define DAGWARD_AZDO_RESOURCE_ROWS_H

#include "catalogue_table.h"

const struct gather_row *gather_row(size_t place);

#endif
