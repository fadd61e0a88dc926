#include "dagward/audit/verify.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "dagward/audit/unzip.h"

void verify_init(struct verify *verify)
{
        memset(verify, 0, sizeof(*verify));
        verify->chain = chain_new();
        verify->unzip = unzip_new();
        chain_head_init(&verify->head);
        verify->partial = malloc(CHAIN_LINE_MOST + 1);
        if (!verify->partial)
                abort();
}

void verify_clear(struct verify *verify)
{
        chain_free(verify->chain);
        unzip_free(verify->unzip);
        free(verify->partial);
        free(verify->anchors);
        memset(verify, 0, sizeof(*verify));
}

const char *verify_fault_name(enum verify_fault fault)
{
        switch (fault) {
        case VERIFY_NONE: return "none";
        case VERIFY_FOREIGN: return "foreign";
        case VERIFY_TORN: return "torn";
        case VERIFY_EDITED: return "edited";
        case VERIFY_REPLACED: return "replaced";
        case VERIFY_DELETED: return "deleted";
        case VERIFY_REORDERED: return "reordered";
        case VERIFY_INSERTED: return "inserted";
        case VERIFY_HEADLESS: return "headless";
        case VERIFY_RESTARTED: return "restarted";
        case VERIFY_GAP: return "gap";
        case VERIFY_TRUNCATED: return "truncated";
        case VERIFY_SIGNATURE: return "bad-signature";
        case VERIFY_UNKNOWN_KEY: return "unknown-key";
        case VERIFY_UNSIGNED: return "unsigned";
        case VERIFY_FORKED: return "forked";
        case VERIFY_DAMAGED: return "damaged";
        }
        return "?";
}

/* --- what is known beforehand --- */

static bool known_key(const struct verify *verify, struct str key)
{
        for (size_t i = 0; i < verify->n_keys; i++)
                if (str_eq(key, str_of(verify->keys[i])))
                        return true;
        return false;
}

bool verify_pin(struct verify *verify, const char key[SIGNING_KEY_LEN + 1])
{
        verify->pinned = true;
        if (known_key(verify, str_of(key)))
                return true;
        if (verify->n_keys == VERIFY_KEYS_MOST)
                return false;
        memcpy(verify->keys[verify->n_keys++], key, SIGNING_KEY_LEN + 1);
        return true;
}

bool verify_anchor(struct verify *verify, struct str line)
{
        struct checkpoint checkpoint;
        struct chain_line record;

        if (chain_read(verify->chain, line, &record) != CHAIN_GOOD ||
                !checkpoint_read(&record, &checkpoint) || !checkpoint_good(&record, &checkpoint) ||
                (verify->pinned && !known_key(verify, checkpoint.key)))
                return false;
        /* Grows to the next power of two. */
        if ((verify->n_anchors & (verify->n_anchors - 1)) == 0) {
                size_t n = verify->n_anchors ? 2 * verify->n_anchors : 1;
                verify->anchors = realloc(verify->anchors, n * sizeof(*verify->anchors));
                if (!verify->anchors)
                        abort();
        }
        struct verify_anchor *anchor = &verify->anchors[verify->n_anchors++];
        anchor->seq = record.seq;
        memcpy(anchor->hash, record.hash.ptr, CHAIN_HEX);
        return true;
}

static int by_seq(const void *a, const void *b)
{
        const struct verify_anchor *x = a, *y = b;

        return x->seq < y->seq ? -1 : x->seq > y->seq;
}

/* --- faults --- */

void verify_file(struct verify *verify, const char *name)
{
        if (verify->n_anchors && !verify->anchors_sorted)
                qsort(verify->anchors, verify->n_anchors, sizeof(*verify->anchors), by_seq);
        verify->anchors_sorted = true;
        verify->file_before = verify->file;
        verify->file = name;
        verify->file_key[0] = '\0';
        verify->unreadable = false;
        unzip_reset(verify->unzip);
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

/* The first record of a file, whose seq is not the next one. */
static void not_the_next_file(struct verify *verify, const struct chain_line *line)
{
        unsigned long long due = verify->head.seq + 1, seq = line->seq;

        if (verify->closed)
                fault(verify, VERIFY_GAP,
                        "seq %llu to %llu are missing: %s ends with seq %llu as it should, so that "
                        "a whole file is not here, whose name ends in -%012llu if it was not "
                        "renamed",
                        due, seq - 1, verify->file_before, due - 1, seq - 1);
        else
                fault(verify, VERIFY_GAP,
                        "seq %llu to %llu are missing: the end of %s was cut off, or a file is not "
                        "here, whose name ends in -%012llu if it was not renamed",
                        due, seq - 1, verify->file_before, seq - 1);
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
                fault(verify, VERIFY_INSERTED,
                        "seq %llu again, after seq %llu: a record was copied or put in",
                        (unsigned long long)line->seq, (unsigned long long)verify->head.seq);
        } else if (verify->file_lines == 1) {
                not_the_next_file(verify, line);
        } else {
                verify->missing_from = due;
                fault(verify, VERIFY_DELETED,
                        "seq %llu follows seq %llu: %llu record(s) between them are gone",
                        (unsigned long long)line->seq, (unsigned long long)verify->head.seq,
                        (unsigned long long)(line->seq - due));
        }
}

/* After the first fault only one question is left: do missing records turn up further down? */
static void look_for_missing(struct verify *verify, const struct chain_line *line)
{
        if (verify->first.fault != VERIFY_DELETED || line->seq != verify->missing_from)
                return;
        verify->first.fault = VERIFY_REORDERED;
        snprintf(verify->first.text, sizeof(verify->first.text),
                "records stand in another order: seq %llu was due here and stands at line %llu "
                "of %s",
                (unsigned long long)line->seq, (unsigned long long)verify->file_lines,
                verify->file);
}

/* The first record of a file: of the whole chain that is fed, or after another file. */
static bool may_begin(struct verify *verify, const struct chain_line *line)
{
        struct str detail, key;

        if (verify->file_lines != 1)
                return true;
        if (!log_event_read(line, STR("opened"), &detail)) {
                fault(verify, VERIFY_HEADLESS,
                        "the file begins with seq %llu, which is no log.opened: records in front "
                        "of it are gone",
                        (unsigned long long)line->seq);
                return false;
        }
        key = log_event_detail(detail, STR("public_key"));
        if (key.len == SIGNING_KEY_LEN) {
                memcpy(verify->file_key, key.ptr, key.len);
                verify->file_key[key.len] = '\0';
        }
        return true;
}

static bool follows(struct verify *verify, const struct chain_line *line)
{
        struct chain_head none;

        if (verify->records == 0) {
                if (!may_begin(verify, line))
                        return false;
                chain_head_init(&none);
                if (line->seq == 1 && !str_eq(line->prev, str_view(none.hash, CHAIN_HEX))) {
                        fault(verify, VERIFY_REPLACED, "seq 1 names a record before it");
                        return false;
                }
                verify->first_seq = line->seq;
                memcpy(verify->before, line->prev.ptr, CHAIN_HEX);
                return true;
        }
        if (line->seq != verify->head.seq + 1) {
                out_of_turn(verify, line);
                return false;
        }
        if (!str_eq(line->prev, str_view(verify->head.hash, CHAIN_HEX))) {
                fault(verify, VERIFY_REPLACED,
                        "seq %llu does not follow the record before it: one of the two was "
                        "replaced",
                        (unsigned long long)line->seq);
                return false;
        }
        return may_begin(verify, line);
}

/* --- checkpoints and the anchor --- */

static bool fits_anchor(struct verify *verify, const struct chain_line *line)
{
        while (verify->anchor_at < verify->n_anchors) {
                const struct verify_anchor *anchor = &verify->anchors[verify->anchor_at];
                if (anchor->seq > line->seq)
                        break;
                verify->anchor_at++;
                if (anchor->seq < line->seq)
                        continue; /* before the files that were given */
                if (memcmp(anchor->hash, line->hash.ptr, CHAIN_HEX) != 0) {
                        fault(verify, VERIFY_FORKED,
                                "the anchor has a signed checkpoint with seq %llu, and this is "
                                "another record: the log was written anew from some record on",
                                (unsigned long long)line->seq);
                        return false;
                }
                verify->anchors_met++;
        }
        return true;
}

static bool trusted(struct verify *verify, struct str key)
{
        if (verify->pinned)
                return known_key(verify, key);
        if (verify->file_key[0] && !str_eq(key, str_of(verify->file_key)))
                return false;
        if (!known_key(verify, key) && key.len == SIGNING_KEY_LEN &&
                verify->n_keys < VERIFY_KEYS_MOST) {
                memcpy(verify->keys[verify->n_keys], key.ptr, key.len);
                verify->keys[verify->n_keys++][key.len] = '\0';
        }
        return true;
}

static bool good_checkpoint(
        struct verify *verify, const struct chain_line *line, const struct checkpoint *checkpoint)
{
        if (!checkpoint_good(line, checkpoint)) {
                fault(verify, VERIFY_SIGNATURE,
                        "the checkpoint with seq %llu is not signed by the key it names: it, or "
                        "records after seq %llu, were made anew",
                        (unsigned long long)line->seq, (unsigned long long)verify->signed_seq);
                return false;
        }
        if (!trusted(verify, checkpoint->key)) {
                fault(verify, VERIFY_UNKNOWN_KEY,
                        "the checkpoint with seq %llu is signed by %.*s, which is not %s",
                        (unsigned long long)line->seq, STR_FMT(str_head(checkpoint->key, 80)),
                        verify->pinned ? "one of the keys that were given"
                                       : "the key in the file's first record");
                return false;
        }
        verify->checkpoints++;
        verify->signed_seq = line->seq;
        /* Whoever can write the file can write that its beginning was deleted on purpose, and a key
         * that only the log names is whose that was. */
        if (verify->pinned)
                verify->deleted_seq = verify->deleted_told;
        snprintf(verify->signed_time, sizeof(verify->signed_time), "%.*s",
                STR_FMT(checkpoint->time));
        return true;
}

/* What the log says of itself. */
static bool good_event(struct verify *verify, const struct chain_line *line)
{
        struct checkpoint checkpoint;
        struct str detail;
        uint64_t seq;

        verify->closed = false;
        if (!log_event_read(line, STR_NONE, &detail))
                return true;
        if (checkpoint_read(line, &checkpoint)) {
                if (!good_checkpoint(verify, line, &checkpoint))
                        return false;
                verify->closed = checkpoint_closes(&checkpoint);
        } else if (log_event_read(line, STR("deleted"), &detail) &&
                   str_to_u64(log_event_detail(detail, STR("last_seq")), &seq) &&
                   seq > verify->deleted_told) {
                verify->deleted_told = seq;
        } else if (log_event_read(line, STR("checkpoint"), &detail)) {
                fault(verify, VERIFY_SIGNATURE,
                        "the checkpoint with seq %llu has another shape, or time, than ours: it "
                        "was "
                        "made anew",
                        (unsigned long long)line->seq);
                return false;
        }
        return true;
}

static void good_line(struct verify *verify, const struct chain_line *line)
{
        if (!follows(verify, line) || !fits_anchor(verify, line) || !good_event(verify, line))
                return;
        verify->head.seq = line->seq;
        memcpy(verify->head.hash, line->hash.ptr, CHAIN_HEX);
        struct str time = str_head(record_time(line), CLOCK_RFC3339_LEN);
        memcpy(verify->head_time, time.ptr, time.len);
        verify->head_time[time.len] = '\0';
        verify->records++;
}

/* --- lines --- */

static void whole_line(struct verify *verify, struct str text)
{
        struct chain_line line;

        verify->lines++;
        verify->file_lines++;
        /* Once something is wrong, hashing the rest is only of use to find what is missing. */
        if (!verify_good(verify) && verify->first.fault != VERIFY_DELETED)
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

static bool take_bytes(void *owner, const char *bytes, size_t len)
{
        struct verify *verify = owner;

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
        return true;
}

void verify_feed(struct verify *verify, const char *bytes, size_t len)
{
        if (verify->unreadable ||
                unzip_feed(verify->unzip, bytes, len, take_bytes, verify) == UNZIP_GOOD)
                return;
        verify->unreadable = true;
        fault(verify, VERIFY_DAMAGED,
                "behind this line the gzip file is damaged: nothing after it can be read");
}

void verify_file_end(struct verify *verify)
{
        if (!verify->unreadable && !unzip_whole(verify->unzip)) {
                fault(verify, VERIFY_DAMAGED, "behind this line the gzip file is cut off");
        } else if (verify->too_long) {
                too_long(verify);
        } else if (verify->partial_len) {
                verify->lines++;
                verify->file_lines++;
                fault(verify, VERIFY_TORN,
                        "the last line has no end (%zu bytes): cut off by a crash or by hand",
                        verify->partial_len);
        } else if (verify->file_lines == 0 && !verify->empty) {
                verify->empty = verify->file;
        }
        verify->partial_len = 0;
        verify->too_long = false;
}

void verify_end(struct verify *verify, bool closed)
{
        const struct verify_anchor *last =
                verify->n_anchors ? &verify->anchors[verify->n_anchors - 1] : NULL;

        if (last && last->seq > verify->head.seq)
                fault(verify, VERIFY_TRUNCATED,
                        "the anchor has a signed checkpoint with seq %llu, and the log ends with "
                        "seq %llu: what came after it is gone",
                        (unsigned long long)last->seq, (unsigned long long)verify->head.seq);
        if (closed && !verify->closed)
                fault(verify, VERIFY_TRUNCATED,
                        "the log does not end with the checkpoint of a rotation or a stop: records "
                        "after seq %llu are gone, or the proxy was killed",
                        (unsigned long long)verify->head.seq);
        if (verify->pinned && !verify->checkpoints)
                fault(verify, VERIFY_UNSIGNED, "no checkpoint is signed by a key that was given");
        if (verify->empty && verify->records) {
                verify->file = verify->empty;
                verify->file_lines = 0;
                /* But for a moment of its very first start, the proxy leaves no file empty. */
                fault(verify, VERIFY_HEADLESS,
                        "the file is empty: no first record is there, and what was in it is gone");
        }
}
