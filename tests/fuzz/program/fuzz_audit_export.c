/* Any line of a log that is a record, in the words of others: OCSF is one JSON object on a line,
 * CSV one row of always the same number of columns whose cells are no formulas, and a page holds no
 * markup that is not its own. */
#include <assert.h>
#include <jansson.h>

#include "audit_export.h"
#include "audit_html.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* RFC 4180: how many cells one row has; it ends with the text. */
static size_t cells_of(struct str row)
{
        size_t i = 0, cells = 0;

        for (;;) {
                bool quoted = i < row.len && row.ptr[i] == '"';
                size_t from = quoted ? ++i : i;
                if (i < row.len)
                        assert(!strchr("=+-@", row.ptr[from]) || !row.ptr[from]);
                while (i < row.len) {
                        if (quoted && row.ptr[i] == '"') {
                                if (i + 1 >= row.len || row.ptr[i + 1] != '"')
                                        break;
                                i++;
                        } else if (!quoted && strchr(",\r\n", row.ptr[i])) {
                                break;
                        }
                        assert((unsigned char)row.ptr[i] >= 0x20);
                        i++;
                }
                i += quoted;
                cells++;
                if (i + 2 == row.len && memcmp(row.ptr + i, "\r\n", 2) == 0)
                        return cells;
                assert(i < row.len && row.ptr[i] == ',');
                i++;
        }
}

static void page(struct str text)
{
        struct buf out;

        buf_init(&out, 64 * text.len + 64);
        html_text(&out, text);
        assert(!out.overflow && str_utf8_valid(buf_str(&out)));
        assert(str_find(buf_str(&out), '<') < 0 && str_find(buf_str(&out), '"') < 0);
        buf_clear(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct str text = str_view((const char *)data, size);
        struct audit_line line;
        struct arena arena;
        struct buf head, out;

        page(text);
        arena_init(&arena, 4096, 4 << 20);
        buf_init(&head, 1 << 16);
        buf_init(&out, 64 << 20);
        if (audit_line_read(text, &arena, &line)) {
                export_ocsf(&out, &line);
                assert(!out.overflow && out.len && out.data[out.len - 1] == '\n');
                assert(!memchr(out.data, '\n', out.len - 1));
                json_t *json = json_loadb(
                        out.data, out.len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
                assert(json_is_object(json));
                json_decref(json);
                buf_reset(&out);
                export_csv_head(&head);
                export_csv(&out, &line);
                assert(!out.overflow && cells_of(buf_str(&out)) == cells_of(buf_str(&head)));
        }
        buf_clear(&head);
        buf_clear(&out);
        arena_clear(&arena);
        return 0;
}
