/*
 * discovery: what clients ask before anything else, answered from the catalogue.
 *
 * SDKs ask which host serves an area (ResourceAreas) and which path template a location has
 * (OPTIONS). A client that gets no areas uses the URL that it was given for all of them, so one
 * list of all locations makes one base URL serve every service.
 */
#ifndef DAGWARD_AZDO_DISCOVERY_H
#define DAGWARD_AZDO_DISCOVERY_H

#include "dagward/azdo/catalogue.h"
#include "dagward/base/buf.h"

/* Writes the answer to OPTIONS `{organization}/_apis` or, with an area, `.../_apis/{area}`: the
 * locations of `service`, or of all services when `anywhere`. `organization` false: those that
 * belong to none. About 270 KB for all. */
void discovery_locations_write(
        struct str area, enum service service, bool anywhere, bool organization, struct buf *out);

/* Where the service of an area is found: writes a URL with a slash at its end. */
typedef void discovery_place(void *owner, enum service service, struct buf *out);
/* Writes the answer to GET `_apis/ResourceAreas`, or with an id to `.../ResourceAreas/{id}` (`null`
 * when there is none, which is what the service says). */
void discovery_areas_write(struct str id, discovery_place *place, void *owner, struct buf *out);

#endif
