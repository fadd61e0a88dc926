/* Pages of the one wiki, guarded by ETag and If-Match (RFC 9110 13.1.1). */
#include <stdio.h>
#include <stdlib.h>

#include "embedded/emu.h"

static struct str field(const struct emu_call *call, const char *name)
{
        for (size_t i = 0; i < call->request->head.n_fields; i++)
                if (str_eq_fold(call->request->head.fields[i].name, str_of(name)))
                        return call->request->head.fields[i].value;
        return STR_NONE;
}

static struct emu_page *page_find(struct azure_devops *azure, struct str path, bool make)
{
        for (size_t i = 0; i < azure->n_pages; i++)
                if (str_eq_fold(str_of(azure->pages[i].path), path))
                        return &azure->pages[i];
        if (!make || azure->n_pages == EMU_PAGES)
                return NULL;
        azure->pages[azure->n_pages] = (struct emu_page){.path = str_dup(path)};
        return &azure->pages[azure->n_pages++];
}

static void answer(struct emu_call *call, int status, const struct emu_page *page)
{
        char etag[32];

        snprintf(etag, sizeof(etag), "\"%llu\"", (unsigned long long)page->version);
        emu_header(call->request, STR("ETag"), str_of(etag));
        emu_json(call, status,
                json_pack("{ss ss sI}", "path", page->path, "content",
                        page->content ? page->content : "", "id", (json_int_t)page->version));
}

void emu_page_get(struct emu_call *call)
{
        pthread_mutex_lock(&call->azure->lock);
        struct emu_page *page = page_find(call->azure, emu_query(call, "path"), false);
        if (page)
                answer(call, 200, page);
        pthread_mutex_unlock(&call->azure->lock);
        if (!page)
                emu_error(call, 404, "WikiPageNotFoundException",
                        "TF401174: The page '%.*s' could not be found.",
                        STR_FMT(emu_query(call, "path")));
}

/* A new page is 201; one that is there wants its ETag. */
void emu_page_put(struct emu_call *call)
{
        json_t *body = emu_body_json(call);
        const char *content = json_string_value(json_object_get(body, "content"));
        struct str path = emu_query(call, "path"), match = field(call, "If-Match");
        char etag[32];

        if (!body)
                return;
        pthread_mutex_lock(&call->azure->lock);
        struct emu_page *page = path.len ? page_find(call->azure, path, true) : NULL;
        snprintf(etag, sizeof(etag), "\"%llu\"", page ? (unsigned long long)page->version : 0);
        bool fits = page && (page->version ? str_eq(match, str_of(etag)) : !match.len);
        if (fits) {
                bool fresh = page->version++ == 0;
                free(page->content);
                page->content = str_dup(str_of(content ? content : ""));
                answer(call, fresh ? 201 : 200, page);
        }
        pthread_mutex_unlock(&call->azure->lock);
        json_decref(body);
        if (!fits)
                emu_error(call, 412, "WikiPageHasConflictsException",
                        "The page has changed, or If-Match is missing.");
}

void emu_pages_free(struct azure_devops *azure)
{
        for (size_t i = 0; i < azure->n_pages; i++) {
                free(azure->pages[i].path);
                free(azure->pages[i].content);
        }
}
