/*
 * links: the absolute URLs in a body that a client would follow, found while the body passes.
 *
 *      in -> [ before | hold ] -> out        what was seen last | a URL that is not whole yet
 *
 * A URL counts as a link by where it stands: as the value of a JSON member of one of the known
 * names, as an HTML `href`, or between the angle brackets of a Link field (RFC 8288 3). Nothing
 * else is touched: file contents, logs and wiki pages hold such URLs as data. The scanner needs no
 * nesting: in JSON text (RFC 8259) a quote that is not escaped is a delimiter, so `"name": "http`
 * can be nothing but a member, wherever it stands. Memory is constant, the pieces in which a body
 * comes do not matter, and no byte waits but those of a URL that has begun.
 */
#ifndef DAGWARD_AZDO_LINKS_H
#define DAGWARD_AZDO_LINKS_H

#include "dagward/azdo/catalogue.h"
#include "dagward/base/buf.h"
#include "dagward/base/str.h"

enum links_form {
        LINKS_NONE, /* the body is none of ours to change */
        LINKS_JSON,
        LINKS_HTML,
        LINKS_FIELD, /* the value of a Link field */
};

/* The form in which an answer to `op` (NULL: unknown) of that media type tells links. Answers that
 * are content, files of a repository for example, tell none whatever their type. */
enum links_form links_form_of(const struct operation *op, struct str content_type);

/* How a link begins: `scheme://user@authority/~service`. Views of the link. */
struct link_start {
        struct str scheme;    /* "https", "http" */
        struct str user;      /* with its "@"; "" when there is none */
        struct str authority; /* host and port */
        struct str service;   /* "vsrm" of "/~vsrm"; ptr NULL: the path does not begin so */
};

/* Appends what stands for that start; false (and nothing appended): the link stays as it is. At
 * most LINKS_ROOM bytes. */
typedef bool links_writer(void *owner, const struct link_start *start, struct buf *out);

enum { LINKS_BEFORE = 64, LINKS_HOLD = 384, LINKS_ROOM = 1024 };

struct links {
        enum links_form form;
        links_writer *write;
        void *owner;
        char before[LINKS_BEFORE]; /* what went past last, as it came */
        size_t n_before;
        char hold[LINKS_HOLD]; /* of a URL, from its scheme on */
        size_t n_hold;
        unsigned char state; /* see links.c */
        unsigned short scheme_end, user_end, authority_start, authority_end, service_start;
        uint64_t told; /* links that were written otherwise */
};

void links_init(struct links *links, enum links_form form, links_writer *write, void *owner);
/* Takes bytes of `in` as long as `out` has room for LINKS_ROOM more: how many. */
size_t links_feed(struct links *links, struct str in, struct buf *out);
/* The body has ended: what is held goes as it came. `out` has room for LINKS_ROOM bytes. */
void links_end(struct links *links, struct buf *out);

#endif
