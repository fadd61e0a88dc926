#include "sinks.h"

#include <stdlib.h>

#include "inside.h"

struct sink_token {
        struct sink_tokens *all;
        unsigned sink;                   /* its index */
        struct config_credential config; /* a copy: for whom the token is differs */
        struct token_source *source;
};

struct sink_tokens {
        struct control *control;
        struct sink_token *items;
        struct token_source **sources; /* the same, for supply */
        size_t n;
        struct supply *supply;
};

static void lend(const struct sink_token *token)
{
        struct control *control = token->all->control;

        if (control->sinks && token_source_usable(token->source))
                sinks_lend(control->sinks, token->sink, token->source->credential);
}

static void on_changed(void *owner)
{
        lend(owner);
}

static void on_settled(void *owner, unsigned index, bool ok, const char *why)
{
        (void)owner, (void)index, (void)ok, (void)why;
}

static void on_event(void *owner, const char *name, const struct pair *detail, size_t n)
{
        const struct sink_token *token = owner;

        control_event(token->all->control, name, detail, n);
}

static void rescope(struct config_credential *config, struct str scope)
{
        config->scope = scope;
        config->on_demand = false;
        if (!config->n_candidates)
                return;
        struct config_credential *copy = calloc(config->n_candidates, sizeof(*copy));
        if (!copy)
                abort();
        for (size_t i = 0; i < config->n_candidates; i++) {
                copy[i] = config->candidates[i];
                copy[i].scope = scope;
        }
        config->candidates = copy;
}

struct sink_tokens *sink_tokens_new(struct control *control)
{
        const struct config *config = control->parts->config;
        const struct config_audit *audit = &config->audit;
        struct sink_tokens *tokens = calloc(1, sizeof(*tokens));

        if (!tokens)
                abort();
        tokens->control = control;
        tokens->items = calloc(audit->n_sinks + 1, sizeof(*tokens->items));
        tokens->sources = calloc(audit->n_sinks + 1, sizeof(struct token_source *));
        if (!tokens->items || !tokens->sources)
                abort();
        for (unsigned i = 0; i < audit->n_sinks; i++) {
                if (audit->sinks[i].type != CONFIG_SINK_MONITOR)
                        continue;
                struct sink_token *token = &tokens->items[tokens->n];
                const struct source_hooks hooks = {on_changed, on_settled, on_event, token};
                token->all = tokens;
                token->sink = i;
                token->config = config->credentials[audit->sinks[i].credential_index];
                rescope(&token->config, audit->sinks[i].scope);
                token->source = token_source_new(&token->config, i, control->base, control->fetcher,
                        &control->credential_generations, &hooks);
                tokens->sources[tokens->n++] = token->source;
        }
        const struct source_hooks hooks = {on_changed, on_settled, on_event, tokens->items};
        tokens->supply = supply_new(config, tokens->sources, tokens->n, control->base,
                control->fetcher, &control->credential_generations, &hooks);
        return tokens;
}

void sink_tokens_adopt(struct sink_tokens *tokens, const struct sink_tokens *old)
{
        for (size_t i = 0; i < tokens->n; i++)
                for (size_t j = 0; old && j < old->n; j++)
                        if (tokens->items[i].sink == old->items[j].sink)
                                token_source_adopt(tokens->sources[i], old->sources[j]);
}

void sink_tokens_start(struct sink_tokens *tokens)
{
        for (size_t i = 0; i < tokens->n; i++) {
                token_source_start(tokens->sources[i]);
                lend(&tokens->items[i]); /* one that was taken over */
        }
}

void sink_tokens_free(struct sink_tokens *tokens)
{
        if (!tokens)
                return;
        for (size_t i = 0; i < tokens->n; i++) {
                token_source_free(tokens->sources[i]);
                if (tokens->items[i].config.n_candidates)
                        free(tokens->items[i].config.candidates);
        }
        supply_free(tokens->supply);
        free(tokens->items);
        free(tokens->sources);
        free(tokens);
}

/* --- mails of the sinks --- */

static void on_told(void *receiver, unsigned index, const struct sink_stats *stats)
{
        struct control *control = receiver;

        control->sink_states[index] = (struct sink_state){*stats, true};
}

static void on_rejected(void *receiver, unsigned index, uint64_t generation)
{
        struct control *control = receiver;
        const struct sink_tokens *tokens = control->sink_tokens;
        struct error why;

        if (control->stopped)
                return;
        for (size_t i = 0; i < tokens->n; i++)
                /* Not now: the one there is has to do. */
                if (tokens->items[i].sink == index &&
                        token_source_replace(tokens->sources[i], generation, NULL, &why) !=
                                SOURCE_WAIT)
                        lend(&tokens->items[i]);
}

void control_attach_sinks(struct control *control, struct sinks *sinks)
{
        const struct sinks_watch watch = {control->box, on_told, on_rejected};

        control->sinks = sinks;
        control->sink_states =
                calloc(control->parts->config->audit.n_sinks + 1, sizeof(struct sink_state));
        if (!control->sink_states)
                abort();
        sinks_watch(sinks, &watch);
        for (size_t i = 0; control->sink_tokens && i < control->sink_tokens->n; i++)
                lend(&control->sink_tokens->items[i]);
}
