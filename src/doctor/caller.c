#include <stdlib.h>

#include "dagward/world/build.h"
#include "inside.h"

enum { BINDINGS_MOST = 32 };

/* Whose token it says it is, when it was refused before that was asked; else the issuer whose name
 * differs a little only. */
static void find_near(struct doctor *doctor, struct token_seen *seen)
{
        const struct config *config = doctor->p.config;

        for (size_t i = 0; i < config->n_issuers; i++) {
                for (size_t n = 0; n < config->issuers[i].n_issuers; n++) {
                        enum issuer_difference difference = issuer_compare(
                                config->issuers[i].issuers[n], str_of(seen->claims.iss));
                        if (difference == ISSUER_SAME) {
                                seen->issuer = &config->issuers[i];
                        } else if (difference != ISSUER_OTHER) {
                                seen->near = &config->issuers[i];
                                seen->difference = difference;
                        }
                }
        }
}

static void list_kids(const struct keyset *keys, char *out, size_t size)
{
        struct buf text;

        buf_init_fixed(&text, out, size - 1);
        for (size_t i = 0; keys && i < keys->n; i++) {
                struct str kid = keys->keys[i].kid.ptr ? keys->keys[i].kid : STR("(unnamed)");
                if (text.len + kid.len + 3 < size)
                        buf_printf(&text, "%s%.*s", text.len ? ", " : "", STR_FMT(kid));
        }
        out[text.len] = '\0';
}

static void take_bindings(
        struct doctor *doctor, const struct caller *caller, struct token_seen *seen)
{
        struct policy_grant found[BINDINGS_MOST];
        struct buf text;
        const struct policy_caller who = {
                .issuer = caller->issuer,
                .subject = caller->subject,
                .roles = caller->roles,
                .n_roles = caller->n_roles,
                .claims = caller->claims,
        };

        buf_init_fixed(&text, seen->roles, sizeof(seen->roles) - 1);
        for (size_t i = 0; i < caller->n_roles; i++) {
                if (text.len + caller->roles[i].len + 3 < sizeof(seen->roles))
                        buf_printf(
                                &text, "%s%.*s", text.len ? ", " : "", STR_FMT(caller->roles[i]));
        }
        seen->roles[text.len] = '\0';
        snprintf(seen->subject, sizeof(seen->subject), "%.*s",
                (int)(caller->subject.len < 250 ? caller->subject.len : 250), caller->subject.ptr);
        struct policy_grants *grants = policy_grants_new(doctor->p.policy, &who);
        seen->n_bindings = policy_grants_list(
                doctor->p.policy, grants, doctor->now_s * 1000, found, BINDINGS_MOST);
        buf_init_fixed(&text, seen->bindings, sizeof(seen->bindings) - 1);
        for (size_t i = 0; i < seen->n_bindings && i < BINDINGS_MOST; i++) {
                if (text.len + found[i].binding.len + found[i].role.len + 40 <
                        sizeof(seen->bindings))
                        buf_printf(&text, "%s%.*s (%.*s%s)", text.len ? ", " : "",
                                STR_FMT(found[i].binding), STR_FMT(found[i].role),
                                found[i].glass_chars ? ", with a reason" : "");
        }
        seen->bindings[text.len] = '\0';
        policy_grants_free(grants);
}

static void verify(struct doctor *doctor, struct str token, struct token_seen *seen)
{
        const struct config *config = doctor->p.config;
        struct token_rules *rules = calloc(config->n_issuers, sizeof(*rules));
        struct issuer_view *views = calloc(config->n_issuers, sizeof(*views));
        struct caller *caller = NULL;
        unsigned index = 0;
        struct error why = {{0}};

        if (!rules || !views)
                abort();
        for (size_t i = 0; i < config->n_issuers; i++) {
                rules[i] = world_token_rules(&config->issuers[i]);
                views[i] = (struct issuer_view){&rules[i], doctor->issuers[i].keys};
        }
        token_claims_read(token, &seen->claims);
        seen->verdict =
                token_verify(token, views, config->n_issuers, doctor->now_s, &caller, &index, &why);
        snprintf(seen->why, sizeof(seen->why), "%s", why.text);
        if (index < config->n_issuers) {
                seen->issuer = &config->issuers[index];
                list_kids(doctor->issuers[index].keys, seen->kids, sizeof(seen->kids));
        }
        if (!seen->issuer)
                find_near(doctor, seen);
        seen->no_policy = doctor->p.policy == NULL;
        if (seen->verdict == TOKEN_OK && doctor->p.policy)
                take_bindings(doctor, caller, seen);
        caller_unref(caller);
        free(rules);
        free(views);
}

void caller_judge(struct doctor *doctor)
{
        const char *path = doctor->request->token_file;
        const struct about about = {DOCTOR_TOKEN, 0, path, "token"};
        struct token_seen seen = {.verdict = TOKEN_MALFORMED};
        struct file_seen file;
        struct secret token = {NULL, 0};
        struct error err;

        file_look(path, &file);
        if (!judge_file(doctor->out, &about, "--token", &file, CARE_NONE, doctor->uid))
                return;
        if (!secret_read(&token, path, TOKEN_MOST_BYTES, &err)) {
                struct diagnosis *d =
                        diagnose(doctor->out, &about, DOCTOR_PROBLEM, "refused", "%s", err.text);
                diagnosis_cause(d, "a token of more than 16 KiB is refused unread");
                diagnosis_remedy(d, "let %s hold nothing but the token", path);
                return;
        }
        verify(doctor, secret_reveal(&token), &seen);
        judge_token(doctor->out, &about, &seen, doctor->now_s);
        secret_drop(&token);
}
