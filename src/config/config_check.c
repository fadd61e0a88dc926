#include "settings.h"

struct mark config_at(const struct reader *r, const void *field, const void *section)
{
        struct mark at = config_place(r->config, field);

        return at.line ? at : config_place(r->config, section);
}

bool config_given(const struct reader *r, const void *field)
{
        return config_place(r->config, field).line != 0;
}

static void check_listeners(struct reader *r)
{
        const struct config *c = r->config;

        for (size_t i = 0; i < c->n_listeners; i++) {
                const struct config_listener *l = &c->listeners[i];
                struct mark at = config_at(r, &l->address, l);
                if (!l->address.text.ptr)
                        continue;
                if (!l->has_tls && !l->address.loopback && !l->insecure)
                        error_list_add(r->errors, at,
                                "plain HTTP on `%s`, which is not loopback: add `tls`, or "
                                "`insecure: true` if something in front ends TLS",
                                yaml_shown(l->address.text));
                for (size_t before = 0; before < i; before++)
                        if (str_eq(c->listeners[before].address.text, l->address.text) &&
                                !str_ends(l->address.text, STR(":0")))
                                error_list_add(r->errors, at, "`%s` is listened on twice",
                                        yaml_shown(l->address.text));
                if (str_eq(l->address.text, c->admin.address.text) &&
                        !str_ends(l->address.text, STR(":0")))
                        error_list_add(r->errors, at, "`%s` is the address of `admin`",
                                yaml_shown(l->address.text));
        }
        if (c->admin.address.text.ptr && !c->admin.address.loopback && !c->admin.insecure)
                error_list_add(r->errors, config_place(c, &c->admin.address),
                        "`admin` on `%s`, which is not loopback: add `insecure: true` if that is "
                        "wanted",
                        yaml_shown(c->admin.address.text));
}

void config_check_confidential(struct reader *r, const char *key, const struct config_url *url)
{
        if (url->text.ptr && !url->https && !url->loopback)
                error_list_add(r->errors, config_place(r->config, url),
                        "`%s` must begin with https://; http:// is for loopback only", key);
}

static void check_discovery(struct reader *r, const struct config_issuer *issuer)
{
        struct config_url url;
        struct error err;

        if (issuer->n_issuers == 0)
                return;
        struct mark at = config_place(r->config, &issuer->issuers[0]);
        if (!config_url_parse(&r->doc->arena, issuer->issuers[0], &url, &err))
                error_list_add(r->errors, at,
                        "`issuer` %s, because its keys are found by discovery; or set `keys`",
                        err.text);
        else if (!url.https && !url.loopback)
                error_list_add(r->errors, at,
                        "`issuer` must begin with https://, because its keys are found by "
                        "discovery; http:// is for loopback only");
        else if (str_find(url.path, '?') >= 0)
                error_list_add(
                        r->errors, at, "`issuer` has a query and cannot be discovered; set `keys`");
}

static void check_keys(struct reader *r, struct config_issuer *issuer)
{
        struct config_keys *k = &issuer->keys;
        unsigned sources = 0;

        sources += k->discovery;
        sources += config_given(r, &k->url);
        sources += config_given(r, &k->file);
        if (sources == 0 && !config_given(r, &k->discovery)) {
                k->discovery = true;
                sources = 1;
        }
        if (sources != 1)
                error_list_add(r->errors, config_at(r, k, issuer),
                        "`keys` must have exactly one of `discovery: true`, `url` and `file`");
        if (k->discovery)
                check_discovery(r, issuer);
        config_check_confidential(r, "url", &k->url);
        if (k->file.ptr && k->bearer_file.ptr)
                error_list_add(r->errors, config_place(r->config, &k->bearer_file),
                        "`bearer_file` has no meaning for keys from a `file`");
        if (k->file.ptr && k->ca.ptr)
                error_list_add(r->errors, config_place(r->config, &k->ca),
                        "`ca` has no meaning for keys from a `file`");
}

static void check_issuers(struct reader *r)
{
        struct config *c = r->config;

        for (size_t i = 0; i < c->n_issuers; i++) {
                struct config_issuer *one = &c->issuers[i];
                check_keys(r, one);
                for (size_t before = 0; before < i; before++) {
                        const struct config_issuer *other = &c->issuers[before];
                        if (one->name.ptr && str_eq(one->name, other->name))
                                error_list_add(r->errors, config_place(c, &one->name),
                                        "there are two issuers named `%s`", yaml_shown(one->name));
                        for (size_t a = 0; a < one->n_issuers; a++)
                                for (size_t b = 0; b < other->n_issuers; b++)
                                        if (str_eq(one->issuers[a], other->issuers[b]))
                                                error_list_add(r->errors,
                                                        config_place(c, &one->issuers[a]),
                                                        "`%s` is already the issuer `%s`",
                                                        yaml_shown(one->issuers[a]),
                                                        yaml_shown(other->name));
                }
        }
}

static bool organization_ok(struct str name)
{
        for (size_t i = 0; i < name.len; i++) {
                char c = char_lower(name.ptr[i]);
                if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'))
                        return false;
        }
        return name.len > 0 && name.len <= 50 && name.ptr[0] != '-' &&
               name.ptr[name.len - 1] != '-';
}

static void check_upstream(struct reader *r)
{
        const struct config *c = r->config;
        const struct config_upstream *u = &c->upstream;

        for (size_t i = 0; i < u->n_organizations; i++) {
                struct str name = u->organizations[i];
                struct mark at = config_place(c, &u->organizations[i]);
                if (str_find(name, '*') >= 0)
                        error_list_add(r->errors, at,
                                "`organizations` must be named one by one: credentials go to no "
                                "other");
                else if (!organization_ok(name))
                        error_list_add(r->errors, at,
                                "`%s` is not the name of an organization (letters, digits and `-`, "
                                "at most 50)",
                                yaml_shown(name));
                for (size_t before = 0; before < i; before++)
                        if (str_eq_fold(u->organizations[before], name) &&
                                !str_eq(u->organizations[before], name))
                                error_list_add(r->errors, at,
                                        "`organizations`: `%s` is there twice", yaml_shown(name));
        }
        for (size_t i = 0; i < u->n_storage; i++) {
                if (u->storage[i].ptr[0] != '.' || str_find_str(u->storage[i], STR("..")) >= 0 ||
                        str_find(str_from(u->storage[i], 1), '.') < 0)
                        error_list_add(r->errors, config_place(r->config, &u->storage[i]),
                                "`storage`: `%s` is not the end of a host name, like "
                                "`.blob.core.windows.net`",
                                u->storage[i].ptr);
        }
        for (size_t i = 0; i < u->n_hosts; i++) {
                const struct config_url *url = &u->hosts[i].url;
                if (url->text.ptr && !url->https && !url->loopback && !u->insecure)
                        error_list_add(r->errors, config_place(c, url),
                                "`hosts`: http:// beyond loopback sends credentials in the clear; "
                                "use https://, or add `insecure: true` to `upstream`");
        }
}

static void check_tag(struct reader *r, const struct str *tag)
{
        static const char *const known[] = {"{correlation_id}", "{request_id}", "{dag_id}",
                "{run_id}", "{task_id}", "{map_index}", "{try_number}", "{subject}"};
        struct mark at = config_place(r->config, tag);
        struct str rest = *tag;
        ssize_t open;

        if (!tag->len || tag->len > 200)
                error_list_add(r->errors, at, "a tag has 1 to 200 characters");
        while ((open = str_find(rest, '{')) >= 0) {
                bool found = false;
                rest = str_from(rest, (size_t)open);
                for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
                        found |= str_starts(rest, str_of(known[i]));
                if (!found)
                        error_list_add(
                                r->errors, at, "`%s`: no such placeholder", yaml_shown(*tag));
                rest = str_from(rest, 1);
        }
}

static void check_triggers(struct reader *r)
{
        struct config *c = r->config;
        struct config_idempotency *i = &c->idempotency;

        for (size_t t = 0; t < c->correlation.n_tags; t++)
                check_tag(r, &c->correlation.tags[t]);
        if (!i->file.ptr && c->audit.file.ptr)
                i->file = arena_printf(&r->doc->arena, "%.*s.triggers", STR_FMT(c->audit.file));
        if (i->file.ptr && str_eq(i->file, c->audit.file))
                error_list_add(r->errors, config_place(c, &i->file),
                        "`file` is the audit log: the journal of triggers is a file of its own");
}

void config_check(struct reader *r)
{
        if (r->doc->root->kind != YAML_MAPPING)
                return;
        check_listeners(r);
        check_issuers(r);
        check_upstream(r);
        config_check_credentials(r);
        config_check_outgoing_proxy(r);
        config_check_limits(r);
        config_check_sinks(r);
        check_triggers(r);
}
