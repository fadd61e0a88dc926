#include "dagward/base/error.h"

#include <stdarg.h>
#include <stdlib.h>

bool error_set(struct error *err, const char *format, ...)
{
        va_list args;

        if (!err)
                return false;
        va_start(args, format);
        vsnprintf(err->text, sizeof(err->text), format, args);
        va_end(args);
        return false;
}

bool error_wrap(struct error *err, const char *format, ...)
{
        struct error inner;
        va_list args;

        if (!err)
                return false;
        inner = *err;
        va_start(args, format);
        int len = vsnprintf(err->text, sizeof(err->text), format, args);
        va_end(args);
        if (len >= 0 && (size_t)len < sizeof(err->text))
                snprintf(err->text + len, sizeof(err->text) - (size_t)len, ": %s", inner.text);
        return false;
}

void error_list_init(struct error_list *list)
{
        *list = (struct error_list){0};
}

void error_list_clear(struct error_list *list)
{
        for (size_t i = 0; i < list->n; i++) {
                free(list->findings[i].file);
                free(list->findings[i].text);
        }
        free(list->findings);
        error_list_init(list);
}

static void add(
        struct error_list *list, struct mark at, bool warning, const char *format, va_list args)
{
        enum { most = 200 };
        char text[512];

        if (!warning)
                list->errors++;
        if (list->n == most)
                return;
        vsnprintf(text, sizeof(text), format, args);
        struct finding *findings = realloc(list->findings, (list->n + 1) * sizeof(*findings));
        if (!findings)
                abort();
        list->findings = findings;
        list->findings[list->n++] = (struct finding){
                .file = str_dup(str_of(at.file ? at.file : "")),
                .line = at.line,
                .column = at.column,
                .warning = warning,
                .text = str_dup(str_of(text)),
        };
}

void error_list_add(struct error_list *list, struct mark at, const char *format, ...)
{
        va_list args;

        va_start(args, format);
        add(list, at, false, format, args);
        va_end(args);
}

void error_list_warn(struct error_list *list, struct mark at, const char *format, ...)
{
        va_list args;

        va_start(args, format);
        add(list, at, true, format, args);
        va_end(args);
}

static int by_place(const void *left, const void *right)
{
        const struct finding *a = left, *b = right;
        int order = strcmp(a->file, b->file);

        if (order)
                return order;
        if (a->line != b->line)
                return a->line < b->line ? -1 : 1;
        return a->column < b->column ? -1 : a->column > b->column;
}

void error_list_print(struct error_list *list, FILE *out)
{
        if (list->n)
                qsort(list->findings, list->n, sizeof(*list->findings), by_place);
        for (size_t i = 0; i < list->n; i++) {
                const struct finding *f = &list->findings[i];
                if (f->line)
                        fprintf(out, "%s:%u:%u: ", f->file, f->line, f->column);
                else if (f->file[0])
                        fprintf(out, "%s: ", f->file);
                fprintf(out, "%s%s\n", f->warning ? "warning: " : "", f->text);
        }
        if (list->errors > list->n)
                fprintf(out, "and %zu more\n", list->errors - list->n);
}

const char *error_did_you_mean(struct str word, const struct str *names, size_t n)
{
        static _Thread_local char text[128];
        unsigned best = word.len < 4 ? 2 : 3; /* names further off than this are no help */
        struct str found = STR_NONE;

        for (size_t i = 0; i < n; i++) {
                size_t longer =
                        word.len > names[i].len ? word.len - names[i].len : names[i].len - word.len;
                if (longer >= best)
                        continue; /* so many letters are missing at least */
                unsigned distance = str_distance(word, names[i]);
                if (distance < best) {
                        best = distance;
                        found = names[i];
                }
        }
        if (!found.ptr)
                return "";
        snprintf(text, sizeof(text), "; did you mean `%.*s`?", STR_FMT(found));
        return text;
}
