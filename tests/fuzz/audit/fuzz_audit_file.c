/* An audit file of any bytes, plain or gzip: read whole and in pieces it must be judged the same,
 * whether its checkpoints are taken for an anchor or not, and be shown as text that a terminal does
 * not obey; any bytes as fields of a record must come out as a line that
 * can be chained, verified and parsed. */
#include <assert.h>
#include <jansson.h>
#include <stdlib.h>

#include "dagward/audit/record.h"
#include "dagward/audit/verify.h"
#include "dagward/audit/view.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Its own checkpoints, given as the anchor, never contradict a log: they are lines of it, or there
 * are two of one seq, and then it is damaged anyway. */
static void judge(struct str bytes, size_t piece, bool anchored, struct verify *verify)
{
        verify_init(verify);
        for (struct str line, rest = bytes; anchored && rest.len;) {
                rest = str_cut(rest, '\n', &line);
                if (!verify_anchor(verify, line))
                        continue;
        }
        verify_file(verify, "fuzz");
        for (; bytes.len; bytes = str_from(bytes, piece))
                verify_feed(verify, bytes.ptr, bytes.len < piece ? bytes.len : piece);
        verify_file_end(verify);
        verify_end(verify, false);
}

static void show(struct str bytes)
{
        static const struct view_filter everything = {.intents = true};
        struct buf text;

        buf_init(&text, (size_t)1 << 24);
        while (bytes.len) {
                struct str line;
                bytes = str_cut(bytes, '\n', &line);
                buf_reset(&text);
                if (view_line(line, &everything, &text) != VIEW_SHOWN)
                        continue;
                assert(text.len > 0 && text.data[text.len - 1] == '\n');
                for (size_t i = 0; i < text.len - 1; i++)
                        assert((unsigned char)text.data[i] >= 0x20 && text.data[i] != 0x7F);
        }
        buf_clear(&text);
}

static void record(struct str s)
{
        struct str head = str_head(s, s.len / 2), tail = str_from(s, s.len / 2);
        struct pair pairs[] = {{head, tail}, {STR("api-version"), s}, {STR("path"), tail}};
        struct audit_fields fields = {
                .kind = AUDIT_OUTCOME,
                .correlation_id = tail,
                .caller = {.subject = s, .roles = &s, .n_roles = 1},
                .claimed = {.dag_id = tail, .user_agent = s},
                .request = {.method = head,
                        .path = s,
                        .query = pairs,
                        .n_query = 3,
                        .resources = pairs,
                        .n_resources = 3},
                .decision = {.effect = AUDIT_DENY, .reason = s},
        };
        struct chain *chain = chain_new();
        struct chain_head at;
        struct chain_line line;
        struct buf members, out;

        chain_head_init(&at);
        buf_init(&members, AUDIT_RECORD_MOST);
        buf_init(&out, AUDIT_RECORD_MOST + CHAIN_OVERHEAD);
        if (!audit_record_write(&members, &fields) ||
                !chain_write(chain, &at, buf_str(&members), &out))
                abort();
        struct str text = str_head(buf_str(&out), out.len - 1);
        assert(!memchr(text.ptr, '\n', text.len));
        assert(chain_read(chain, text, &line) == CHAIN_GOOD && line.seq == 1);
        json_t *json =
                json_loadb(text.ptr, text.len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
        assert(json);
        json_decref(json);
        buf_clear(&members);
        buf_clear(&out);
        chain_free(chain);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct str bytes = str_view((const char *)data, size);
        struct verify whole, pieces, anchored;

        judge(bytes, size + 1, false, &whole);
        judge(bytes, 13, false, &pieces);
        judge(bytes, 1000, true, &anchored);
        assert(!verify_good(&whole) || verify_good(&anchored));
        assert(whole.checkpoints == pieces.checkpoints && whole.signed_seq <= whole.head.seq);
        assert(whole.n_keys <= whole.checkpoints && anchored.anchors_met <= anchored.n_anchors);
        verify_clear(&anchored);
        assert(whole.first.fault == pieces.first.fault);
        assert(whole.first.line == pieces.first.line);
        assert(whole.records == pieces.records && whole.lines == pieces.lines);
        verify_clear(&whole);
        verify_clear(&pieces);
        show(bytes);
        record(bytes);
        return 0;
}
