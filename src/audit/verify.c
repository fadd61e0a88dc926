#include "dagward/audit/verify.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void verify_init(struct verify *verify)
{
        memset(verify, 0, sizeof(*verify));
        verify->chain = chain_new();
        chain_head_init(&verify->head);
        verify->partial = malloc(CHAIN_LINE_MOST + 1);
        if (!verify->partial)
                abort();
}

void verify_clear(struct verify *verify)
{
        chain_free(verify->chain);
        free(verify->partial);
        memset(verify, 0, sizeof(*verify));
}

const char *verify_fault_name(enum verify_fault fault)
{
        switch (fault) {
        case VERIFY_NONE: return "none";
        case VERIFY_FOREIGN: return "foreign";
        case VERIFY_TRUNCATED: return "truncated";
        case VERIFY_EDITED: return "edited";
        case VERIFY_REPLACED: return "replaced";
        case VERIFY_MISSING: return "missing";
        case VERIFY_REORDERED: return "reordered";
        case VERIFY_DUPLICATE: return "duplicate";
        case VERIFY_HEADLESS: return "headless";
        case VERIFY_RESTARTED: return "restarted";
        }
        return "?";
}

void verify_file(struct verify *verify, const char *name)
{
        verify->file = name;
        verify->file_lines = 0;
        verify->partial_len = 0;
        verify->too_long = false;
}

__attribute__((format(printf, 3, 4))) static void fault(
        struct verify *verify, enum verify_fault what, const char *format, ...)
{
        va_list args;

        if (!verify_good(verify))
                return;
        verify->first.fault = what;
        verify->first.file = verify->file;
        verify->first.line = verify->file_lines;
        va_start(args, format);
        vsnprintf(verify->first.text, sizeof(verify->first.text), format, args);
        va_end(args);
}

/* A record that is good in itself, at a place where another seq is due. */
static void out_of_turn(struct verify *verify, const struct chain_line *line)
{
        uint64_t due = verify->head.seq + 1;

        if (line->seq == 1 && verify->file_lines == 1) {
                fault(verify, VERIFY_RESTARTED,
                        "a new chain starts here: nothing ties it to the records up to seq %llu "
                        "before it",
                        (unsigned long long)verify->head.seq);
        } else if (line->seq < due) {
                fault(verify, VERIFY_DUPLICATE,
                        "seq %llu again, after seq %llu: the record was copied or moved here",
                        (unsigned long long)line->seq, (unsigned long long)verify->head.seq);
        } else {
                verify->missing_from = due;
                fault(verify, VERIFY_MISSING,
                        "seq %llu follows seq %llu: %llu record(s) between them are gone",
                        (unsigned long long)line->seq, (unsigned long long)verify->head.seq,
                        (unsigned long long)(line->seq - due));
        }
}

/* After the first fault only one question is left: do missing records turn up further down? */
static void look_for_missing(struct verify *verify, const struct chain_line *line)
{
        if (verify->first.fault != VERIFY_MISSING || line->seq != verify->missing_from)
                return;
        verify->first.fault = VERIFY_REORDERED;
        snprintf(verify->first.text, sizeof(verify->first.text),
                "records stand in another order: seq %llu was due here and stands at line %llu "
                "of %s",
                (unsigned long long)line->seq, (unsigned long long)verify->file_lines,
                verify->file);
}

static bool opens_a_file(struct str members)
{
        return str_find_str(members, STR("\"kind\":\"event\"")) >= 0 &&
               str_find_str(members, STR("\"event\":{\"name\":\"log.opened\"")) >= 0;
}

/* The first record of a file: of the whole chain that is fed, or after another file. */
static bool may_begin(struct verify *verify, const struct chain_line *line)
{
        if (verify->file_lines != 1 || opens_a_file(line->members))
                return true;
        fault(verify, VERIFY_HEADLESS,
                "the file begins with seq %llu, which is no log.opened: records in front of it "
                "are gone",
                (unsigned long long)line->seq);
        return false;
}

static void good_line(struct verify *verify, const struct chain_line *line)
{
        if (verify->records == 0) {
                struct chain_head none;
                chain_head_init(&none);
                if (!may_begin(verify, line))
                        return;
                if (line->seq == 1 && !str_eq(line->prev, str_view(none.hash, CHAIN_HEX))) {
                        fault(verify, VERIFY_REPLACED, "seq 1 names a record before it");
                        return;
                }
                verify->first_seq = line->seq;
        } else if (line->seq != verify->head.seq + 1) {
                out_of_turn(verify, line);
                return;
        } else if (!str_eq(line->prev, str_view(verify->head.hash, CHAIN_HEX))) {
                fault(verify, VERIFY_REPLACED,
                        "seq %llu does not follow the record before it: one of the two was "
                        "replaced",
                        (unsigned long long)line->seq);
                return;
        } else if (!may_begin(verify, line)) {
                return;
        }
        verify->head.seq = line->seq;
        memcpy(verify->head.hash, line->hash.ptr, CHAIN_HEX);
        verify->records++;
}

static void whole_line(struct verify *verify, struct str text)
{
        struct chain_line line;

        verify->lines++;
        verify->file_lines++;
        /* Once something is wrong, hashing the rest is only of use to find what is missing. */
        if (!verify_good(verify) && verify->first.fault != VERIFY_MISSING)
                return;
        switch (chain_read(verify->chain, text, &line)) {
        case CHAIN_GOOD:
                if (verify_good(verify))
                        good_line(verify, &line);
                else
                        look_for_missing(verify, &line);
                break;
        case CHAIN_EDITED:
                fault(verify, VERIFY_EDITED,
                        "the record says seq %llu and its bytes are not the ones that were hashed: "
                        "it was edited",
                        (unsigned long long)line.seq);
                break;
        case CHAIN_FOREIGN:
                fault(verify, VERIFY_FOREIGN, "this line is not an audit record (%zu bytes)",
                        text.len);
                break;
        }
}

static void too_long(struct verify *verify)
{
        verify->lines++;
        verify->file_lines++;
        fault(verify, VERIFY_FOREIGN, "this line is not an audit record (over %d bytes)",
                CHAIN_LINE_MOST);
}

void verify_feed(struct verify *verify, const char *bytes, size_t len)
{
        while (len) {
                const char *newline = memchr(bytes, '\n', len);
                size_t n = newline ? (size_t)(newline - bytes) : len;
                bool fits = !verify->too_long && n <= CHAIN_LINE_MOST - verify->partial_len;

                if (fits && newline && verify->partial_len == 0) {
                        whole_line(verify, str_view(bytes, n)); /* without copying it */
                } else if (fits) {
                        memcpy(verify->partial + verify->partial_len, bytes, n);
                        verify->partial_len += n;
                        if (newline)
                                whole_line(verify, str_view(verify->partial, verify->partial_len));
                } else {
                        verify->too_long = true;
                        if (newline)
                                too_long(verify);
                }
                if (newline) {
                        verify->partial_len = 0;
                        verify->too_long = false;
                        n++;
                }
                bytes += n;
                len -= n;
        }
}

void verify_file_end(struct verify *verify)
{
        if (verify->too_long) {
                too_long(verify);
        } else if (verify->partial_len) {
                verify->lines++;
                verify->file_lines++;
                fault(verify, VERIFY_TRUNCATED,
                        "the last line has no end (%zu bytes): cut off by a crash or by hand",
                        verify->partial_len);
        }
        verify->partial_len = 0;
        verify->too_long = false;
}
