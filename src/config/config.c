#include "dagward/config/config.h"

#include <stdlib.h>

#include "settings.h"

static void drop(struct snapshot *snap)
{
        struct config *config = (struct config *)snap;

        free(config->places);
        arena_clear(&config->arena);
        free(config);
}

void config_unref(struct config *config)
{
        if (config)
                snapshot_unref(&config->snap);
}

static const char *from_getenv(const char *name)
{
        return getenv(name);
}

/* Takes the document: the configuration's texts and marks live in its arena. */
static struct config *build(struct yaml_document *doc, const char *name, const char *folder,
        const char *(*environment)(const char *name), struct error_list *errors)
{
        struct config *config = calloc(1, sizeof(*config));
        size_t len = folder ? strlen(folder) : 0;
        struct reader r = {.config = config,
                .doc = doc,
                .errors = errors,
                .environment = environment ? environment : from_getenv};

        if (!config)
                abort();
        while (len > 1 && folder[len - 1] == '/')
                len--;
        snapshot_init(&config->snap, drop);
        r.folder = arena_copy(&doc->arena, str_view(folder, len)).ptr;
        config->file = arena_copy(&doc->arena, str_of(name));
        if (!r.folder || !config->file.ptr)
                abort();
        config_expand(&r);
        config_read(&r);
        config_check(&r);
        config->boot = arena_copy(&doc->arena, buf_str(&r.boot));
        buf_clear(&r.boot);
        config->arena = doc->arena;
        *doc = (struct yaml_document){0};
        return config;
}

static struct config *finish(struct config *config, size_t errors_before, struct error_list *errors)
{
        if (errors->errors == errors_before)
                return config;
        config_unref(config);
        return NULL;
}

struct config *config_load(const char *path, struct error_list *errors)
{
        size_t before = errors->errors;
        struct yaml_document doc;
        char *folder = str_dup(str_of(path));
        char *slash = strrchr(folder, '/');

        /* "/x" stands in "/", "x" in the current folder, whatever that is */
        if (slash)
                slash[slash == folder] = '\0';
        else
                folder[0] = '\0';
        struct config *config = NULL;
        if (yaml_load_file(path, &doc, errors))
                config = build(&doc, path, folder, NULL, errors);
        free(folder);
        return finish(config, before, errors);
}

struct config *config_load_text(const struct config_source *source, struct error_list *errors)
{
        size_t before = errors->errors;
        struct yaml_document doc;
        struct config *config = NULL;

        if (yaml_load_text(source->name, source->text, &doc, errors))
                config = build(&doc, source->name, source->folder, source->environment, errors);
        return finish(config, before, errors);
}

struct mark config_place(const struct config *config, const void *field)
{
        /* from the end: an item and its first setting have one address, and the setting, which
         * came later, is the better place */
        for (size_t i = config->n_places; i-- > 0;)
                if (config->places[i].field == field)
                        return config->places[i].at;
        return (struct mark){config->file.ptr, 0, 0};
}

/* Cuts a line of config->boot off: `path=value`, and its place. */
static struct str next_boot(struct str text, struct str *setting, struct str *place)
{
        struct str line, rest = str_cut(text, '\n', &line);

        *place = str_cut(line, '\t', setting);
        return rest;
}

static bool has_boot(struct str text, struct str wanted)
{
        struct str setting, place;

        while (text.ptr && text.len) {
                text = next_boot(text, &setting, &place);
                if (str_eq(setting, wanted))
                        return true;
        }
        return false;
}

/* Where it stands, in the words of note_boot; no line when a default stands in for it. */
static void read_place(struct str place, struct mark *at)
{
        struct str line, column = str_cut(place, ':', &line);
        uint64_t number, of_line;

        if (!str_to_u64(line, &number) || !number || !str_to_u64(column, &of_line))
                return;
        at->line = (unsigned)number;
        at->column = (unsigned)of_line;
}

/* Adds the name of each setting of `one` that `other` does not have like this. `at` becomes the
 * first one's place, if it has none yet (NULL: nobody asks). */
static void add_changes(struct str one, struct str other, struct buf *names, struct mark *at)
{
        while (one.ptr && one.len) {
                struct str setting, place, name;
                one = next_boot(one, &setting, &place);
                if (has_boot(other, setting))
                        continue;
                if (at && !at->line)
                        read_place(place, at);
                str_cut(setting, '=', &name);
                if (str_find_str(buf_str(names), name) >= 0)
                        continue;
                if (names->len)
                        BUF_LITERAL(names, ", ");
                buf_str_add(names, name);
        }
}

void config_restart_needed(const struct config *running, const struct config *fresh,
        struct mark *at, char *out, size_t size)
{
        struct buf names;

        buf_init_fixed(&names, out, size - 1);
        *at = (struct mark){fresh->file.ptr, 0, 0};
        add_changes(running->boot, fresh->boot, &names, NULL);
        add_changes(fresh->boot, running->boot, &names, at);
        out[names.len] = '\0';
}

static void tell_paths(
        const struct settings *table, const char *base, config_tell_path *tell, void *owner)
{
        for (size_t i = 0; i < table->n; i++) {
                const struct setting *s = &table->rows[i];
                const void *field = base + s->offset, *count = base + s->count_offset;
                if (s->type == SETTING_PATH && ((const struct str *)field)->ptr)
                        tell(owner, field, false);
                if (s->type == SETTING_SECTION)
                        tell_paths(s->section, field, tell, owner);
                if (s->type != SETTING_PATHS && s->type != SETTING_SECTIONS)
                        continue;
                const char *items = *(const char *const *)field;
                for (size_t item = 0; item < *(const size_t *)count; item++) {
                        if (s->type == SETTING_PATHS)
                                tell(owner, (const struct str *)(const void *)items + item, true);
                        else
                                tell_paths(
                                        s->section, items + item * s->section->bytes, tell, owner);
                }
        }
}

void config_paths(const struct config *config, config_tell_path *tell, void *owner)
{
        tell_paths(&settings_root, (const char *)config, tell, owner);
}

const struct config_url *config_host_override(
        const struct config_upstream *upstream, const char *host)
{
        const struct config_url *all = NULL;

        for (size_t i = 0; i < upstream->n_hosts; i++) {
                if (str_eq_fold(upstream->hosts[i].pattern, str_of(host)))
                        return &upstream->hosts[i].url;
                if (str_eq(upstream->hosts[i].pattern, STR("*")))
                        all = &upstream->hosts[i].url;
        }
        return all;
}
