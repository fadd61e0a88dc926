/* Names that look like others: what a reviewer reads is not what is compared. */
#include <stdio.h>

#include "policy_internal.h"

enum script { SCRIPT_NONE, SCRIPT_LATIN, SCRIPT_OTHER, SCRIPT_COPY };

struct range {
        uint32_t first, last;
        enum script script;
};

/* Alphabets that have letters which look like Latin ones, and characters that are drawn as another
 * one. Unicode 15, blocks. */
static const struct range ranges[] = {
        {'A', 'Z', SCRIPT_LATIN}, {'a', 'z', SCRIPT_LATIN}, {0xC0, 0x24F, SCRIPT_LATIN},
        {0x250, 0x2AF, SCRIPT_COPY},                                    /* phonetic */
        {0x370, 0x3FF, SCRIPT_OTHER},                                   /* Greek */
        {0x400, 0x52F, SCRIPT_OTHER},                                   /* Cyrillic */
        {0x530, 0x58F, SCRIPT_OTHER},                                   /* Armenian */
        {0x13A0, 0x13FF, SCRIPT_OTHER},                                 /* Cherokee */
        {0x1D00, 0x1DBF, SCRIPT_COPY},                                  /* phonetic */
        {0x1E00, 0x1EFF, SCRIPT_LATIN}, {0x1F00, 0x1FFF, SCRIPT_OTHER}, /* Greek */
        {0x2010, 0x2015, SCRIPT_COPY},                                  /* hyphens and dashes */
        {0x2044, 0x2044, SCRIPT_COPY},                                  /* a slash */
        {0x2100, 0x218F, SCRIPT_COPY},   /* letters as signs, Roman numbers */
        {0x2212, 0x2215, SCRIPT_COPY},   /* minus, slash */
        {0xAB70, 0xABBF, SCRIPT_OTHER},  /* Cherokee */
        {0xFF01, 0xFF5E, SCRIPT_COPY},   /* full width */
        {0x1D400, 0x1D7FF, SCRIPT_COPY}, /* mathematical letters and digits */
};

static enum script script_of(uint32_t c)
{
        for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
                if (c >= ranges[i].first && c <= ranges[i].last)
                        return ranges[i].script;
        return SCRIPT_NONE;
}

/* Letters of other alphabets that Latin ones are mistaken for. */
static bool is_latin_lookalike(uint32_t c)
{
        static const uint32_t alike[] = {0x391, 0x392, 0x395, 0x396, 0x397, 0x399, 0x39A, 0x39C,
                0x39D, 0x39F, 0x3A1, 0x3A4, 0x3A5, 0x3A7, 0x3BF, 0x3BD, 0x405, 0x406, 0x408, 0x410,
                0x412, 0x415, 0x41A, 0x41C, 0x41D, 0x41E, 0x420, 0x421, 0x422, 0x425, 0x430, 0x435,
                0x43E, 0x440, 0x441, 0x443, 0x445, 0x455, 0x456, 0x458, 0x4BB, 0x501, 0x51B, 0x51D};

        for (size_t i = 0; i < sizeof(alike) / sizeof(alike[0]); i++)
                if (alike[i] == c)
                        return true;
        return false;
}

/* What was met of one word. */
struct word {
        uint32_t other; /* a letter of another alphabet; 0: none */
        bool latin, unlike;
};

static const char *judge_word(const struct word *word, uint32_t *which)
{
        *which = word->other;
        if (!word->other)
                return NULL;
        if (word->latin)
                return "mixes Latin letters with ones of another alphabet that look like them";
        return word->unlike ? NULL
                            : "has no letter that does not look like a Latin one, and none is";
}

static const char *deceives(struct str text, uint32_t *which)
{
        struct word word = {0};
        const char *why;

        *which = 0;
        if (text.len && (text.ptr[0] == ' ' || text.ptr[text.len - 1] == ' '))
                return "begins or ends with a blank";
        for (size_t i = 0, at = 0; i < text.len; at = i) {
                uint32_t c = str_code_point(text, &i);
                enum script script = script_of(c);
                *which = c;
                if (c < 0x20 || c == 0x7F || str_invisible_at(text, at))
                        return "has a character that is not seen";
                if (script == SCRIPT_COPY)
                        return "has a character that looks like another one";
                if (script == SCRIPT_OTHER) {
                        word.other = c;
                        word.unlike |= !is_latin_lookalike(c);
                } else if (script == SCRIPT_LATIN) {
                        word.latin = true;
                } else if (c < 0x80) {
                        if ((why = judge_word(&word, which)))
                                return why;
                        word = (struct word){0};
                }
        }
        return judge_word(&word, which);
}

bool looks_deceptive(struct str text, char *why, size_t bytes)
{
        uint32_t which;
        const char *what = str_utf8_valid(text) ? deceives(text, &which) : NULL;

        if (!what)
                return false;
        if (which)
                snprintf(why, bytes, "%s: U+%04X", what, (unsigned)which);
        else
                snprintf(why, bytes, "%s", what);
        return true;
}

/* Digits that are read as letters, as these. */
static char read_as(char c)
{
        return c == '0' ? 'o' : c == '1' || c == 'i' || c == '|' ? 'l' : c == '_' ? '-' : c;
}

bool looks_alike(struct str a, struct str b)
{
        if (a.len != b.len || str_eq(a, b))
                return false;
        for (size_t i = 0; i < a.len; i++)
                if (read_as(char_lower(a.ptr[i])) != read_as(char_lower(b.ptr[i])))
                        return false;
        return true;
}

uint32_t looks_hash(struct str text)
{
        uint32_t hash = 2166136261u;

        for (size_t i = 0; i < text.len; i++)
                hash = (hash ^ (unsigned char)read_as(char_lower(text.ptr[i]))) * 16777619u;
        return hash;
}
