/* Texts from outside that are looked at everywhere: times, ids, numbers, UTF-8 and patterns. The
 * first byte says where the text is cut in two. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "dagward/base/buf.h"
#include "dagward/base/clock.h"
#include "dagward/base/id.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The plain way: what str_glob means, in quadratic time. */
static bool glob_slowly(struct str pattern, struct str s, bool fold)
{
        bool *now = calloc(s.len + 1, 1), *next = calloc(s.len + 1, 1);

        if (!now || !next)
                abort();
        now[0] = true;
        for (size_t i = 0; i < pattern.len; i++) {
                char p = pattern.ptr[i];
                memset(next, 0, s.len + 1);
                for (size_t j = 0; j <= s.len; j++) {
                        if (p == '*')
                                next[j] = now[j] || (j && next[j - 1]);
                        else if (j)
                                next[j] = now[j - 1] &&
                                          (fold ? char_lower(p) == char_lower(s.ptr[j - 1])
                                                : p == s.ptr[j - 1]);
                }
                bool *swap = now;
                now = next;
                next = swap;
        }
        bool matches = now[s.len];
        free(now);
        free(next);
        return matches;
}

static void times(struct str text)
{
        char written[CLOCK_RFC3339_LEN + 1];
        int64_t at, again;

        if (!clock_parse(text, &at) || at < 0 || at >= INT64_C(253402300800000))
                return;
        clock_rfc3339(at, written);
        assert(strlen(written) == CLOCK_RFC3339_LEN);
        assert(clock_parse(str_of(written), &again) && again == at);
}

static void ids(struct str text)
{
        char id[ID_UUID_LEN + 1], again[ID_UUID_LEN + 1];

        if (!id_uuid_canonical(text, id))
                return;
        assert(text.len == 32 || text.len == 36);
        assert(id_uuid_canonical(str_of(id), again) && strcmp(id, again) == 0);
}

static void numbers(struct str text)
{
        uint64_t number;
        char digits[32];

        if (!str_to_u64(text, &number))
                return;
        while (text.len > 1 && text.ptr[0] == '0')
                text = str_from(text, 1);
        snprintf(digits, sizeof(digits), "%llu", (unsigned long long)number);
        assert(str_eq(text, str_of(digits)));
}

static void utf8(struct str text)
{
        if (!str_utf8_valid(text))
                return;
        for (size_t i = 0; i < text.len; i++)
                assert(i + str_invisible_at(text, i) <= text.len);
        struct buf out;
        buf_init(&out, 6 * text.len + 16);
        buf_json_str(&out, text);
        assert(!out.overflow && str_is_ascii(text) <= str_utf8_valid(buf_str(&out)));
        buf_clear(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        if (size < 1)
                return 0;
        struct str text = str_view((const char *)data + 1, size - 1);
        struct str pattern = str_head(text, data[0] % 32), rest = str_from(text, pattern.len);
        times(text);
        ids(text);
        numbers(text);
        utf8(text);
        rest = str_head(rest, 64);
        assert(str_glob(pattern, rest, false) == glob_slowly(pattern, rest, false));
        assert(str_glob(pattern, rest, true) == glob_slowly(pattern, rest, true));
        unsigned distance = str_distance(pattern, rest);
        assert((distance == 0) == str_eq_fold(pattern, rest));
        assert(distance == str_distance(rest, pattern));
        ssize_t at = str_find_str(rest, pattern);
        assert(at < 0 || str_starts(str_from(rest, (size_t)at), pattern));
        return 0;
}
