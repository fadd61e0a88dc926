#include "dagward/azdo/push.h"

enum { LINE_MOST = 65520, PREFIX = 4, BAND_MOST = 1000, REASON_MOST = 300 };

bool operation_is_push(const struct operation *op)
{
        return op && strcmp(op->id, "gitHttp.pack.push") == 0;
}

static int hex_digit(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        if (c >= 'A' && c <= 'F')
                return c - 'A' + 10;
        return -1;
}

static const char *const part_names[] = {"gitHttp.push.createBranch", "gitHttp.push.updateBranch",
        "gitHttp.push.deleteBranch", "gitHttp.push.createTag", "gitHttp.push.moveTag",
        "gitHttp.push.deleteTag", "gitHttp.push.createRef", "gitHttp.push.updateRef",
        "gitHttp.push.deleteRef"};
enum { PARTS = sizeof(part_names) / sizeof(part_names[0]) };

const char *const *push_operation_ids(size_t *n)
{
        *n = PARTS;
        return part_names;
}

const struct operation *push_operation(enum push_change change, struct str ref)
{
        /* Some stores beneath git do not tell letter case apart. */
        size_t kind = str_starts_fold(ref, STR("refs/heads/"))  ? 0
                      : str_starts_fold(ref, STR("refs/tags/")) ? 1
                                                                : 2;

        return catalogue_find(str_of(part_names[3 * kind + change]));
}

/* The next pkt-line: its payload, which is without a newline at its end; ptr NULL for a flush. */
static enum push_result next_line(struct str *rest, struct str *line, const char **why)
{
        unsigned length = 0;

        *why = "the push does not begin with pkt-lines";
        for (size_t i = 0; i < PREFIX; i++) {
                int digit = i < rest->len ? hex_digit(rest->ptr[i]) : 0;
                if (digit < 0)
                        return PUSH_BAD;
                length = length << 4 | (unsigned)digit;
        }
        if (rest->len < PREFIX)
                return PUSH_MORE;
        if (length == 0) {
                *line = STR_NONE;
                *rest = str_from(*rest, PREFIX);
                return PUSH_READ;
        }
        if (length < PREFIX || length > LINE_MOST)
                return PUSH_BAD;
        if (rest->len < length)
                return PUSH_MORE;
        *line = str_view(rest->ptr + PREFIX, length - PREFIX);
        *rest = str_from(*rest, length);
        if (str_ends(*line, STR("\n")))
                *line = str_head(*line, line->len - 1);
        return PUSH_READ;
}

/* 40 or 64 lower-case hexadecimal digits. */
static bool is_object_id(struct str id)
{
        for (size_t i = 0; i < id.len; i++)
                if (hex_digit(id.ptr[i]) < 0 || (id.ptr[i] >= 'A' && id.ptr[i] <= 'F'))
                        return false;
        return id.len == 40 || id.len == 64;
}

/* No object: the ref is not there before, or not afterwards. */
static bool is_zeros(struct str id)
{
        for (size_t i = 0; i < id.len; i++)
                if (id.ptr[i] != '0')
                        return false;
        return true;
}

/* As git-check-ref-format(1), below refs/. */
static bool is_ref_name(struct str ref)
{
        struct str rest = str_from(ref, 5), part;

        if (!str_starts(ref, STR("refs/")) || !str_utf8_valid(ref) ||
                str_find_str(ref, STR("..")) >= 0 || str_find_str(ref, STR("@{")) >= 0)
                return false;
        for (size_t i = 0; i < ref.len; i++)
                if ((unsigned char)ref.ptr[i] <= ' ' || ref.ptr[i] == 0x7f ||
                        str_find(STR("~^:?*[\\"), ref.ptr[i]) >= 0)
                        return false;
        do {
                rest = str_cut(rest, '/', &part);
                if (!part.len || part.ptr[0] == '.' || str_ends(part, STR(".")) ||
                        str_ends(part, STR(".lock")))
                        return false;
        } while (rest.ptr);
        return true;
}

static void read_capabilities(struct str words, struct push *out)
{
        struct str word;

        while (words.ptr) {
                words = str_cut(words, ' ', &word);
                if (str_eq(word, STR("report-status")) || str_eq(word, STR("report-status-v2")))
                        out->report_status = true;
                if (str_eq(word, STR("side-band-64k")))
                        out->side_band = true;
        }
}

/* One line that is no flush. False with `*why`. */
static bool read_command(struct str line, struct arena *arena, struct push *out, const char **why)
{
        struct str capabilities, old_id, new_id, ref;

        capabilities = str_cut(line, '\0', &line);
        if (capabilities.ptr && out->n > 0)
                return *why = "a command of the push holds a NUL", false;
        if (str_starts(line, STR("push-cert")))
                return *why = "signed pushes are not understood here", false;
        if (str_starts(line, STR("shallow "))) {
                *why = "the push names a shallow commit that is no object id";
                return is_object_id(str_from(line, 8));
        }
        read_capabilities(capabilities, out);
        ref = str_cut(str_cut(line, ' ', &old_id), ' ', &new_id);
        *why = "a command of the push is not `old new ref`";
        if (!ref.ptr || !is_object_id(old_id) || !is_object_id(new_id) || old_id.len != new_id.len)
                return false;
        *why = "the push names a ref that git does not allow";
        if (!is_ref_name(ref))
                return false;
        *why = "the push names a ref twice";
        for (size_t i = 0; i < out->n; i++)
                if (str_eq(out->refs[i], ref))
                        return false;
        *why = "the push names more refs than are judged in one; push fewer at a time";
        if (out->n == PUSH_REFS_MOST)
                return false;
        out->changes[out->n] = is_zeros(new_id)   ? PUSH_DELETES
                               : is_zeros(old_id) ? PUSH_CREATES
                                                  : PUSH_UPDATES;
        out->refs[out->n] = arena_copy(arena, ref);
        return out->refs[out->n++].ptr != NULL;
}

enum push_result push_read(struct str body, struct arena *arena, struct push *out, const char **why)
{
        struct str rest = body, line = STR("");

        while (line.ptr) { /* nothing is kept before all of it is there */
                enum push_result result = next_line(&rest, &line, why);
                if (result != PUSH_READ)
                        return result;
        }
        *out = (struct push){0};
        rest = body;
        for (;;) {
                if (next_line(&rest, &line, why) != PUSH_READ)
                        return PUSH_BAD;
                if (!line.ptr)
                        return PUSH_READ;
                if (!read_command(line, arena, out, why))
                        return PUSH_BAD;
        }
}

static void write_line(struct buf *out, struct str payload)
{
        buf_printf(out, "%04zx", payload.len + PREFIX);
        buf_str_add(out, payload);
}

/* In packets of side-band channel 1. */
static void write_band(struct buf *out, struct str data)
{
        while (data.len) {
                struct str part = str_head(data, BAND_MOST);
                buf_printf(out, "%04zx\1", part.len + PREFIX + 1);
                buf_str_add(out, part);
                data = str_from(data, part.len);
        }
}

void push_refusal_write(const struct push *push, const char *const *reasons, struct buf *out)
{
        char memory[PREFIX + 3 + 4096 + REASON_MOST + 8];
        struct buf report, line;

        if (!push->report_status)
                return;
        buf_init(&report, 1024 * 1024);
        write_line(&report, STR("unpack ok\n"));
        for (size_t i = 0; i < push->n; i++) {
                buf_init_fixed(&line, memory, sizeof(memory));
                buf_printf(&line, "ng %.*s ", STR_FMT(str_head(push->refs[i], 4096)));
                for (size_t k = 0; reasons[i][k] && k < REASON_MOST; k++) {
                        unsigned char c = (unsigned char)reasons[i][k];
                        buf_char(&line, c < ' ' || c == 0x7f ? '?' : (char)c);
                }
                buf_char(&line, '\n');
                write_line(&report, buf_str(&line));
        }
        buf_str_add(&report, STR("0000"));
        if (push->side_band) {
                write_band(out, buf_str(&report));
                buf_str_add(out, STR("0000"));
        } else {
                buf_str_add(out, buf_str(&report));
        }
        buf_clear(&report);
}
