/*
 * dagward audit verify: are these files what was written?
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "audit.h"
#include "audit_files.h"
#include "dagward/audit/unzip.h"
#include "dagward/audit/verify.h"
#include "dagward/audit/window.h"

enum {
        CHUNK = 128 *
                1024, /* stays in a processor's cache: with twice that, reading costs thrice */
        PEEK = 64,
        ANCHOR_LINE_MOST = 1 << 20, /* a record and what a collector puts in front of it */
};

struct input {
        const char *name;
        uint64_t first_seq;
        size_t place; /* among the arguments */
};

struct verifying {
        struct verify verify;
        struct input *inputs;
        size_t n;
        const char *anchor;
        uint64_t anchor_others; /* lines of the anchor that count for nothing */
        bool closed, json, live;
        char *chunk;
};

/* --- reading --- */

static bool is_standard(const char *file)
{
        return strcmp(file, "-") == 0;
}

static int open_input(const char *file)
{
        return is_standard(file) ? STDIN_FILENO : audit_open(file);
}

static void feed(void *owner, const char *bytes, size_t len)
{
        verify_feed(&((struct verifying *)owner)->verify, bytes, len);
}

/* What cannot be mapped. */
static bool read_all(struct verifying *v, int fd)
{
        ssize_t n;

        posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
        while ((n = read(fd, v->chunk, CHUNK)) > 0 || (n < 0 && errno == EINTR))
                if (n > 0)
                        feed(v, v->chunk, (size_t)n);
        return n == 0;
}

/* Feeds the whole file; false with errno when it cannot be read. */
static bool feed_all(struct verifying *v, const char *file)
{
        int fd = open_input(file);

        if (fd < 0)
                return false;
        bool ok = window_feed(fd, feed, v) || (errno == EFBIG && read_all(v, fd));
        int why = errno;
        /* A log that is written now is locked by who writes it. */
        v->live = ok && !is_standard(file) && flock(fd, LOCK_SH | LOCK_NB) != 0 &&
                  errno == EWOULDBLOCK;
        if (!is_standard(file))
                close(fd);
        errno = why;
        return ok;
}

static bool verify_one(struct verifying *v, const char *file)
{
        verify_file(&v->verify, is_standard(file) ? "<stdin>" : file);
        if (!feed_all(v, file))
                return false;
        verify_file_end(&v->verify);
        return true;
}

/* --- the order of the files --- */

static bool keep_head(void *owner, const char *bytes, size_t len)
{
        struct buf *head = owner;

        buf_str_add(head, str_head(str_view(bytes, len), head->cap - head->len));
        return head->len < head->cap;
}

/* The seq at the beginning of a file; `otherwise` where there is none, and for standard input. */
static bool peek(const char *file, uint64_t otherwise, uint64_t *seq)
{
        static const char begin[] = "{\"seq\":";
        char memory[PEEK], chunk[4096];
        struct buf head;
        ssize_t n;

        *seq = otherwise;
        if (is_standard(file))
                return true;
        int fd = open_input(file);
        if (fd < 0)
                return false;
        struct unzip *unzip = unzip_new();
        buf_init_fixed(&head, memory, sizeof(memory));
        while ((n = read(fd, chunk, sizeof(chunk))) > 0 &&
                unzip_feed(unzip, chunk, (size_t)n, keep_head, &head) == UNZIP_GOOD) {
        }
        int why = errno;
        unzip_free(unzip);
        close(fd);
        errno = why;
        struct str number, text = buf_str(&head);
        if (head.len > sizeof(begin) && memcmp(text.ptr, begin, sizeof(begin) - 1) == 0) {
                (void)str_cut(str_from(text, sizeof(begin) - 1), ',', &number);
                if (!str_to_u64(number, seq))
                        *seq = otherwise;
        }
        return n >= 0;
}

static int by_seq(const void *a, const void *b)
{
        const struct input *x = a, *y = b;

        if (x->first_seq != y->first_seq)
                return x->first_seq < y->first_seq ? -1 : 1;
        return x->place < y->place ? -1 : 1;
}

static int put_in_order(struct verifying *v, char **files)
{
        uint64_t seq = 0;

        for (size_t i = 0; i < v->n; i++) {
                v->inputs[i] = (struct input){.name = files[i], .place = i};
                if (!peek(files[i], seq, &seq))
                        return audit_unreadable(files[i]);
                v->inputs[i].first_seq = seq;
        }
        qsort(v->inputs, v->n, sizeof(*v->inputs), by_seq);
        return 0;
}

/* --- the anchor --- */

/* The record in a line: the line itself, or what a syslog server or a collector has put something
 * in front of. Whether it is one, its hash and signature tell. */
static struct str record_in(struct str line)
{
        ssize_t at = str_find_str(line, STR("{\"seq\":"));

        return at > 0 ? str_trim(str_from(line, (size_t)at)) : line;
}

/* A line without its newline. */
static void take_anchor_line(struct verifying *v, struct str line)
{
        if (!verify_anchor(&v->verify, record_in(line)))
                v->anchor_others++;
}

/* The lines of a piece; what has no end yet stands in `part`, of which `*skip` says that it is too
 * long for any. */
static void take_anchor(struct verifying *v, struct str piece, struct buf *part, bool *skip)
{
        while (piece.len) {
                ssize_t newline = str_find(piece, '\n');
                struct str text = newline < 0 ? piece : str_head(piece, (size_t)newline);
                *skip = *skip || part->len + text.len > ANCHOR_LINE_MOST;
                if (!*skip)
                        buf_str_add(part, text);
                if (newline < 0)
                        return;
                if (*skip)
                        v->anchor_others++;
                else
                        take_anchor_line(v, buf_str(part));
                buf_reset(part);
                *skip = false;
                piece = str_from(piece, text.len + 1);
        }
}

static int read_anchor(struct verifying *v)
{
        int fd = audit_open(v->anchor);
        struct buf part;
        bool skip = false;
        ssize_t n;

        if (fd < 0)
                return audit_unreadable(v->anchor);
        buf_init(&part, ANCHOR_LINE_MOST + 1);
        while ((n = read(fd, v->chunk, CHUNK)) > 0 || (n < 0 && errno == EINTR))
                if (n > 0)
                        take_anchor(v, str_view(v->chunk, (size_t)n), &part, &skip);
        int why = errno;
        v->anchor_others += part.len || skip; /* it has no end */
        buf_clear(&part);
        close(fd);
        errno = why;
        return n == 0 ? 0 : audit_unreadable(v->anchor);
}

/* --- telling --- */

static void print_json(const struct verifying *v, bool good)
{
        const struct verify *verify = &v->verify;
        struct buf out;

        buf_init(&out, (size_t)4 * CHAIN_LINE_MOST);
        buf_printf(&out, "{\"ok\":%s,\"records\":%llu,\"first_seq\":%llu,\"last_seq\":%llu",
                good ? "true" : "false", (unsigned long long)verify->records,
                (unsigned long long)verify->first_seq, (unsigned long long)verify->head.seq);
        buf_printf(&out,
                ",\"last_hash\":\"%s\",\"lines\":%llu,\"began\":%s,\"closed\":%s,\"live\":%s",
                verify->head.hash, (unsigned long long)verify->lines,
                verify_began(verify) ? "true" : "false", verify->closed ? "true" : "false",
                v->live ? "true" : "false");
        buf_printf(&out, ",\"checkpoints\":%llu,\"signed_seq\":%llu,\"signed_time\":",
                (unsigned long long)verify->checkpoints, (unsigned long long)verify->signed_seq);
        buf_json_str(&out, str_of(verify->signed_time));
        buf_printf(&out, ",\"pinned\":%s,\"keys\":[", verify->pinned ? "true" : "false");
        for (size_t i = 0; i < verify->n_keys; i++) {
                if (i)
                        buf_char(&out, ',');
                buf_json_str(&out, str_of(verify->keys[i]));
        }
        buf_printf(&out, "],\"deleted_seq\":%llu", (unsigned long long)verify->deleted_seq);
        if (v->anchor)
                buf_printf(&out, ",\"anchor\":{\"checkpoints\":%zu,\"met\":%zu,\"others\":%llu}",
                        verify->n_anchors, verify->anchors_met,
                        (unsigned long long)v->anchor_others);
        if (!verify_good(verify)) {
                buf_printf(&out, ",\"fault\":{\"kind\":\"%s\",\"file\":",
                        verify_fault_name(verify->first.fault));
                buf_json_str(&out, str_of(verify->first.file));
                buf_printf(
                        &out, ",\"line\":%llu,\"text\":", (unsigned long long)verify->first.line);
                buf_json_str(&out, str_of(verify->first.text));
                buf_char(&out, '}');
        }
        BUF_LITERAL(&out, "}\n");
        fwrite(out.data, 1, out.len, stdout);
        buf_clear(&out);
}

static void print_anchor(const struct verifying *v)
{
        printf("anchor: %zu checkpoint(s), %zu of them in these files; %llu other line(s)\n",
                v->verify.n_anchors, v->verify.anchors_met, (unsigned long long)v->anchor_others);
}

static void print_signatures(const struct verifying *v)
{
        const struct verify *verify = &v->verify;

        if (!verify->checkpoints) {
                printf("signed: nothing\n");
                return;
        }
        printf("signed: up to seq %llu at %s, by %llu checkpoint(s); %llu record(s) after that\n",
                (unsigned long long)verify->signed_seq, verify->signed_time,
                (unsigned long long)verify->checkpoints,
                (unsigned long long)(verify->head.seq - verify->signed_seq));
        for (size_t i = 0; i < verify->n_keys && !verify->pinned; i++)
                printf("key: %s, which the log itself names; --key says which one is right\n",
                        verify->keys[i]);
        if (v->anchor)
                print_anchor(v);
}

/* Why it does not begin with seq 1. */
static void print_beginning(const struct verify *verify)
{
        unsigned long long before = verify->first_seq - 1;

        if (before == 0)
                return;
        if (verify->deleted_seq == before)
                printf("note: seq 1 to %llu were deleted when their time was over, as the log "
                       "tells, signed\n",
                        before);
        else if (verify->deleted_told == before)
                printf("note: seq 1 to %llu are missing. The log says that they were deleted when "
                       "their time was over; %s: do not believe it\n",
                        before,
                        verify->pinned ? "no checkpoint behind that is signed by a key that was "
                                         "given"
                                       : "whose key signed that, only --key can tell");
        else
                printf("note: the chain begins before these files: seq 1 to %llu are missing; give "
                       "the older ones too\n",
                        before);
}

static void print_text(const struct verifying *v, bool good)
{
        const struct verify *verify = &v->verify;
        unsigned long long first = verify->first_seq, last = verify->head.seq;

        if (!verify_good(verify))
                printf("%s:%llu: %s: %s\n", audit_shown(verify->first.file),
                        (unsigned long long)verify->first.line,
                        verify_fault_name(verify->first.fault), audit_shown(verify->first.text));
        if (verify->records == 0) {
                printf("no good record%s\n", verify->empty ? ": no first record is there" : "");
                if (v->anchor)
                        print_anchor(v);
                return;
        }
        printf("%s: %llu record(s), seq %llu to %llu\n", good ? "whole" : "good up to there",
                (unsigned long long)verify->records, first, last);
        printf("hash of seq %llu: %s\n", last, verify->head.hash);
        print_signatures(v);
        if (good && !verify->closed)
                printf("end: %s\n",
                        v->live ? "the log is being written"
                                : "open: no checkpoint of a rotation or a stop is the last record; "
                                  "the proxy was killed, runs elsewhere, or the end was cut off");
        print_beginning(verify);
}

/* --- the command --- */

static int verify_option(struct verifying *v, int option, const char *value)
{
        char key[SIGNING_KEY_LEN + 1];
        struct error err;

        switch (option) {
        case 'j': v->json = true; return 0;
        case 'c': v->closed = true; return 0;
        case 'a': v->anchor = value; return 0;
        case 'h': return 0;
        case 'k':
                if (!signing_public_load(value, key, &err))
                        return audit_usage("%s", err.text);
                return verify_pin(&v->verify, key) ? 0 : audit_usage("too many keys");
        }
        return 2; /* getopt has said why */
}

static int unreadable(const char *file)
{
        if (errno != ESTALE)
                return audit_unreadable(file);
        fprintf(stderr, "dagward audit: %s: it was cut short while it was verified\n",
                audit_shown(file));
        return 2;
}

static int verify_all(struct verifying *v, char **files)
{
        int status = v->anchor ? read_anchor(v) : 0;

        if (status == 0)
                status = put_in_order(v, files);
        for (size_t i = 0; i < v->n && status == 0; i++)
                if (!verify_one(v, v->inputs[i].name))
                        status = unreadable(v->inputs[i].name);
        if (status)
                return status;
        verify_end(&v->verify, v->closed);
        bool good = verify_good(&v->verify) && v->verify.records > 0;
        (v->json ? print_json : print_text)(v, good);
        return good ? 0 : 1;
}

int audit_verify(int argc, char **argv)
{
        static const struct option options[] = {{"json", no_argument, NULL, 'j'},
                {"key", required_argument, NULL, 'k'}, {"anchor", required_argument, NULL, 'a'},
                {"closed", no_argument, NULL, 'c'}, {"help", no_argument, NULL, 'h'}, {0}};
        struct audit_options taken = {.shorts = "h", .longs = options, .repeatable = "k"};
        struct verifying v = {0};
        int option, status = 0;

        verify_init(&v.verify);
        while (status == 0 && (option = audit_option(&taken, argc, argv)) != -1)
                status = verify_option(&v, option, optarg);
        if (taken.seen['h'] && status == 0) {
                verify_clear(&v.verify);
                return audit_help();
        }
        if (status == 0 && optind == argc)
                status = audit_usage("verify needs at least one FILE");
        else if (status == 0) {
                v.n = audit_files_logs("verify", argv + optind, (size_t)(argc - optind));
                v.inputs = calloc(v.n, sizeof(*v.inputs));
                v.chunk = malloc(CHUNK);
                if (!v.inputs || !v.chunk)
                        abort();
                status = verify_all(&v, argv + optind);
        }
        verify_clear(&v.verify);
        free(v.inputs);
        free(v.chunk);
        return status;
}
