#include "dagward/azdo/links.h"

/* Members whose values clients follow (Azure DevOps REST, git-lfs batch, NuGet, npm, Cargo). */
static const struct str members[] = {
        STR("@id"),
        STR("@odata.context"),
        STR("@odata.nextLink"),
        STR("accessPoint"),
        STR("api"),
        STR("contentLocation"),
        STR("dl"),
        STR("downloadUrl"),
        STR("href"),
        STR("imageUrl"),
        STR("location"),
        STR("locationUrl"),
        STR("logsContainerUrl"),
        STR("nextLink"),
        STR("nextPage"),
        STR("packageContent"),
        STR("registration"),
        STR("remoteUrl"),
        STR("serverUrl"),
        STR("tarball"),
        STR("url"),
        STR("webUrl"),
};

enum { MEMBER_MOST = 24 };

/* What of a link has been seen. */
enum state {
        BETWEEN, /* none has begun */
        SCHEME,
        SLASHES,
        AUTHORITY,
        SERVICE_SLASH, /* the slash behind the authority */
        SERVICE_TILDE,
        SERVICE_NAME,
};

enum links_form links_form_of(const struct operation *op, struct str content_type)
{
        struct str type;

        if (op && op->is_content)
                return LINKS_NONE;
        str_cut(content_type, ';', &type);
        type = str_trim(type);
        if (str_eq_fold(type, STR("application/json")) || str_eq_fold(type, STR("text/json")) ||
                str_ends_fold(type, STR("+json")))
                return LINKS_JSON;
        /* A PyPI index (PEP 503) is a page of links; other pages are for people. */
        if (op && str_eq_fold(type, STR("text/html")) &&
                str_eq(str_of(op->id), STR("packages.pypi.simple")))
                return LINKS_HTML;
        return LINKS_NONE;
}

void links_init(struct links *links, enum links_form form, links_writer *write, void *owner)
{
        *links = (struct links){.form = form, .write = write, .owner = owner};
}

/* --- where a URL stands --- */

/* The byte that stands `back` before `at` of `in`; 0: that far back nothing is remembered, or would
 * be if the body had come in other pieces. */
static char byte_before(const struct links *links, struct str in, size_t at, size_t back)
{
        if (back > LINKS_BEFORE)
                return '\0';
        if (back <= at)
                return in.ptr[at - back];
        back -= at;
        return back <= links->n_before ? links->before[links->n_before - back] : '\0';
}

static bool is_blank(char c)
{
        return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Moves `back` over white space. */
static size_t over_blanks(const struct links *links, struct str in, size_t at, size_t back)
{
        while (is_blank(byte_before(links, in, at, back)))
                back++;
        return back;
}

static bool is_member(struct str name)
{
        for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
                if (members[i].len == name.len && str_eq_fold(members[i], name))
                        return true;
        return false;
}

/* Whether `"name": "` with a known name stands before `at`. */
static bool behind_member(const struct links *links, struct str in, size_t at)
{
        char name[MEMBER_MOST];
        size_t n = 0, back = 1;

        if (byte_before(links, in, at, back++) != '"')
                return false;
        back = over_blanks(links, in, at, back);
        if (byte_before(links, in, at, back++) != ':')
                return false;
        back = over_blanks(links, in, at, back);
        if (byte_before(links, in, at, back++) != '"')
                return false;
        for (;; back++) {
                char c = byte_before(links, in, at, back);
                if (c == '"')
                        break;
                if (c == '\0' || c == '\\' || n == sizeof(name))
                        return false;
                name[sizeof(name) - ++n] = c;
        }
        /* An escaped quote does not begin a name. */
        return byte_before(links, in, at, back + 1) != '\\' &&
               is_member(str_view(name + sizeof(name) - n, n));
}

/* Whether ` href="` stands before `at`. */
static bool behind_href(const struct links *links, struct str in, size_t at)
{
        static const char reversed[] = "ferh";
        char quote = byte_before(links, in, at, 1);
        size_t back = 2;

        if (quote != '"' && quote != '\'')
                return false;
        back = over_blanks(links, in, at, back);
        if (byte_before(links, in, at, back++) != '=')
                return false;
        back = over_blanks(links, in, at, back);
        for (const char *p = reversed; *p; p++)
                if (char_lower(byte_before(links, in, at, back++)) != *p)
                        return false;
        return is_blank(byte_before(links, in, at, back));
}

static bool is_link(const struct links *links, struct str in, size_t at)
{
        switch (links->form) {
        case LINKS_JSON: return behind_member(links, in, at);
        case LINKS_HTML: return behind_href(links, in, at);
        case LINKS_FIELD: return byte_before(links, in, at, 1) == '<';
        case LINKS_NONE: break;
        }
        return false;
}

/* --- the URL itself --- */

static const struct str scheme_start = STR("http");

static bool ends_authority(char c)
{
        return c == '/' || c == '?' || c == '#' || c == '"' || c == '\'' || c == '\\' || c == '<' ||
               c == '>' || is_blank(c);
}

enum step { TAKEN, WHOLE, NONE };

/* A byte of "https://" or "http://", whose slashes JSON may escape. */
static enum step step_scheme(struct links *links, char c)
{
        const char *hold = links->hold;
        size_t n = links->n_hold;

        if (links->state == SCHEME) {
                if (n < scheme_start.len)
                        return c == scheme_start.ptr[n] ? TAKEN : NONE;
                if (n == scheme_start.len && c == 's')
                        return TAKEN;
                if (c != ':')
                        return NONE;
                links->scheme_end = (unsigned short)n;
                links->state = SLASHES;
                return TAKEN;
        }
        if (c == '\\')
                return hold[n - 1] == '\\' ? NONE : TAKEN;
        if (c != '/')
                return NONE;
        /* The second slash is the one behind another slash, escapes aside. */
        size_t last = hold[n - 1] == '\\' ? n - 2 : n - 1;
        if (hold[last] == '/') {
                links->state = AUTHORITY;
                links->authority_start = (unsigned short)(n + 1);
                links->user_end = links->authority_start;
        }
        return TAKEN;
}

/* A byte behind the authority, where `/~service` may stand. */
static enum step step_service(struct links *links, char c)
{
        switch (links->state) {
        case SERVICE_SLASH: /* the held byte before is '/' or the escape of one */
                if (c == '/' && links->hold[links->n_hold - 1] == '\\') {
                        links->state = SERVICE_TILDE;
                        return TAKEN;
                }
                return WHOLE;
        case SERVICE_TILDE:
                if (c != '~')
                        return WHOLE;
                links->state = SERVICE_NAME;
                links->service_start = (unsigned short)(links->n_hold + 1);
                return TAKEN;
        default: return ends_authority(c) ? WHOLE : TAKEN;
        }
}

/* One more byte of a URL: whether it belongs to its start, ends it, or shows that it is none. */
static enum step step(struct links *links, char c)
{
        switch (links->state) {
        case SCHEME:
        case SLASHES: return step_scheme(links, c);
        case AUTHORITY:
                if (c == '@') {
                        links->user_end = (unsigned short)(links->n_hold + 1);
                        return TAKEN;
                }
                if (!ends_authority(c))
                        return TAKEN;
                links->authority_end = (unsigned short)links->n_hold;
                if (c != '/' && c != '\\')
                        return WHOLE;
                links->state = c == '/' ? SERVICE_TILDE : SERVICE_SLASH;
                return TAKEN;
        default: return step_service(links, c);
        }
}

static void release(struct links *links, struct buf *out)
{
        buf_add(out, links->hold, links->n_hold);
        links->n_hold = 0;
        links->state = BETWEEN;
}

/* The start of a link is whole: writes it, or what stands for it. */
static void tell(struct links *links, struct buf *out)
{
        struct str hold = str_view(links->hold, links->n_hold);
        bool service = links->state == SERVICE_NAME;
        struct link_start start = {
                .scheme = str_head(hold, links->scheme_end),
                .user = str_view(hold.ptr + links->authority_start,
                        (size_t)(links->user_end - links->authority_start)),
                .authority = str_view(hold.ptr + links->user_end,
                        (size_t)(links->authority_end - links->user_end)),
                .service = service ? str_from(hold, links->service_start) : STR_NONE,
        };

        if (!links->write(links->owner, &start, out)) {
                release(links, out);
                return;
        }
        links->told++;
        if (!service)
                buf_str_add(out, str_from(hold, links->authority_end));
        links->n_hold = 0;
        links->state = BETWEEN;
}

/* Takes bytes into the URL that has begun until it is whole or none: how many. */
static size_t go_on(struct links *links, struct str in, struct buf *out)
{
        for (size_t i = 0; i < in.len; i++) {
                enum step what =
                        links->n_hold == sizeof(links->hold) ? NONE : step(links, in.ptr[i]);
                switch (what) {
                case TAKEN: links->hold[links->n_hold++] = in.ptr[i]; break;
                case WHOLE: tell(links, out); return i;
                case NONE: release(links, out); return i;
                }
        }
        return in.len;
}

/* Where the next scheme, or the beginning of one that is cut off by the end, stands. */
static size_t next_scheme(struct str in)
{
        const char *at = in.ptr, *end = in.ptr + in.len;

        while (at < end && (at = memchr(at, scheme_start.ptr[0], (size_t)(end - at)))) {
                size_t left = (size_t)(end - at);
                size_t most = left < scheme_start.len ? left : scheme_start.len;
                if (memcmp(at, scheme_start.ptr, most) == 0)
                        return (size_t)(at - in.ptr);
                at++;
        }
        return in.len;
}

static void remember(struct links *links, struct str in)
{
        if (in.len >= sizeof(links->before)) {
                links->n_before = sizeof(links->before);
                memcpy(links->before, in.ptr + in.len - links->n_before, links->n_before);
                return;
        }
        size_t keep = sizeof(links->before) - in.len;
        if (links->n_before > keep) {
                memmove(links->before, links->before + links->n_before - keep, keep);
                links->n_before = keep;
        }
        memcpy(links->before + links->n_before, in.ptr, in.len);
        links->n_before += in.len;
}

size_t links_feed(struct links *links, struct str in, struct buf *out)
{
        size_t at = 0;

        while (at < in.len && out->cap - out->len >= LINKS_ROOM) {
                if (links->state != BETWEEN) {
                        at += go_on(links, str_from(in, at), out);
                        continue;
                }
                size_t run = next_scheme(str_from(in, at));
                size_t room = out->cap - out->len - LINKS_ROOM + 1;
                if (run > room)
                        run = room;
                buf_add(out, in.ptr + at, run);
                at += run;
                if (at == in.len || in.ptr[at] != scheme_start.ptr[0])
                        continue;
                if (is_link(links, in, at)) {
                        links->state = SCHEME;
                } else {
                        buf_char(out, in.ptr[at]);
                        at++;
                }
        }
        if (at)
                remember(links, str_head(in, at));
        return at;
}

void links_end(struct links *links, struct buf *out)
{
        release(links, out);
}
