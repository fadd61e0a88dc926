/* What the admin listener says about the running proxy. */
#include "dagward/base/clock.h"
#include "inside.h"

/* --- readiness --- */

static bool check(struct buf *out, bool good, const char *what, struct str name, const char *why)
{
        if (out) {
                buf_printf(out, "%s %s", good ? "ok  " : "FAIL", what);
                if (name.ptr)
                        buf_printf(out, " %.*s", STR_FMT(name));
                if (!good && why && why[0])
                        buf_printf(out, ": %s", why);
                buf_char(out, '\n');
        }
        return good;
}

/* What only opens vaults for others, or is for sinks, is obtained when they need it. */
static bool check_credential(const struct token_source *source, struct buf *out)
{
        const struct config_credential *config = source->config;
        enum config_credential_type used = token_source_used(source);
        char name[200];

        snprintf(name, sizeof(name), "%s%s%s%s%s", config->name.ptr,
                used != config->type ? " uses " : "",
                used != config->type ? config_credential_type_name(used).ptr : "",
                config->assertion_is_callers ? " for each caller"
                : source->on_demand          ? " on demand"
                                             : "",
                config_credential_is_emergency(config) ? " EMERGENCY" : "");
        return check(out, source->on_demand || token_source_usable(source), "credential",
                str_of(name), source->failures ? source->last_error.text : "not obtained yet");
}

static bool check_audit(const struct control_counts *counts, struct buf *out)
{
        if (!counts || !counts->has_scribe)
                return true;
        if (!counts->scribe_answered)
                return check(out, false, "audit", STR_NONE, "the audit thread does not answer");
        return check(out, counts->scribe.ok, "audit", STR_NONE, counts->scribe.error);
}

/* Nobody is less ready because of a sink. */
static void note_sinks(const struct control *control, struct buf *out)
{
        const struct config_audit *audit = &control->first_config->audit;

        for (size_t i = 0; out && control->sink_states && i < audit->n_sinks; i++) {
                const struct sink_stats *stats = &control->sink_states[i].stats;
                if (!control->sink_states[i].told || (stats->ok && !stats->position_failing))
                        continue;
                buf_printf(out, "note sink %s: %s\n", audit->sinks[i].name.ptr,
                        stats->ok ? "its position is not kept" : stats->error);
        }
}

bool control_ready(struct control *control, const struct control_counts *counts, struct buf *out)
{
        const struct config *config = control->parts->config;
        const struct endpoint *dev = &control->names->endpoints[SERVICE_DEV];
        bool ready = check(out, !control->draining, "serving", STR_NONE, "draining");

        for (size_t i = 0; i < config->n_issuers; i++) {
                const struct issuer *issuer = control->issuers[i];
                ready = check(out, issuer->keys != NULL, "keys", config->issuers[i].name,
                                issuer->failures ? issuer->last_error.text : "not fetched yet") &&
                        ready;
        }
        for (size_t i = 0; i < config->n_credentials; i++) {
                const struct token_source *source = control->sources[i];
                ready = check_credential(source, out) && ready;
        }
        ready = check(out, control->parts->policy != NULL, "policy", STR_NONE, "") && ready;
        ready = check_audit(counts, out) && ready;
        ready = check(out, dev->n_addresses > 0, "upstream", str_of(dev->host),
                        "its name is not resolved") &&
                ready;
        note_sinks(control, out);
        return ready;
}

/* --- metrics --- */

static void head(struct buf *out, const char *name, const char *type, const char *help)
{
        buf_printf(out, "# HELP dagward_%s %s\n# TYPE dagward_%s %s\n", name, help, name, type);
}

/* A label's value (Prometheus text format: backslash, quote and newline are escaped). */
static void label(struct buf *out, const char *name, struct str value)
{
        buf_printf(out, "%s=\"", name);
        for (size_t i = 0; i < value.len; i++) {
                char c = value.ptr[i];
                if (c == '\\' || c == '"')
                        buf_char(out, '\\');
                if (c == '\n')
                        buf_add(out, "\\n", 2);
                else
                        buf_char(out, c);
        }
        buf_char(out, '"');
}

static void one(struct buf *out, const char *name, const char *type, const char *help, double value)
{
        head(out, name, type, help);
        buf_printf(out, "dagward_%s %.15g\n", name, value);
}

/* A series with one label that the configuration names. */
static void named(
        struct buf *out, const char *name, const char *key, struct str value, double number)
{
        buf_printf(out, "dagward_%s{", name);
        label(out, key, value);
        buf_printf(out, "} %.15g\n", number);
}

static void write_requests(const struct metrics *m, struct buf *out)
{
        static const char *const access[METRICS_ACCESS] = {
                "read", "write", "execute", "manage", "delete", "unknown"};
        static const char *const effect[METRICS_EFFECT] = {"allow", "deny", "error"};
        static const char *const status[METRICS_STATUS] = {
                "none", "1xx", "2xx", "3xx", "4xx", "5xx"};

        head(out, "requests_total", "counter",
                "Requests by access class of the operation, decision and status of the answer.");
        for (int a = 0; a < METRICS_ACCESS; a++) {
                for (int e = 0; e < METRICS_EFFECT; e++) {
                        for (int s = 0; s < METRICS_STATUS; s++) {
                                if (m->requests[a][e][s])
                                        buf_printf(out,
                                                "dagward_requests_total{access=\"%s\",decision="
                                                "\"%s\",status=\"%s\"} %llu\n",
                                                access[a], effect[e], status[s],
                                                (unsigned long long)m->requests[a][e][s]);
                        }
                }
        }
        head(out, "refusals_total", "counter", "Requests that were not forwarded, by reason.");
        for (int r = 0; r < REFUSAL_COUNT; r++)
                named(out, "refusals_total", "reason", str_of(metrics_refusal_names[r]),
                        (double)m->refusals[r]);
}

static void write_shadow(const struct metrics *m, struct buf *out)
{
        static const char *const live[METRICS_SHADOW_LIVE] = {"allow", "deny"};
        static const char *const shadow[METRICS_SHADOW] = {"allow", "deny", "unclear"};

        head(out, "shadow_decisions_total", "counter",
                "Requests that live and shadow policy both decided, by what each says.");
        for (int l = 0; l < METRICS_SHADOW_LIVE; l++)
                for (int s = 0; s < METRICS_SHADOW; s++)
                        buf_printf(out,
                                "dagward_shadow_decisions_total{live=\"%s\",shadow=\"%s\"} "
                                "%llu\n",
                                live[l], shadow[s], (unsigned long long)m->shadow[l][s]);
        one(out, "shadow_disagreements_total", "counter",
                "Of these, those whose record says so; also an allow with another credential.",
                (double)m->shadow_disagreements);
}

static void write_histogram(struct buf *out, const char *name, const char *help,
        const uint64_t latency[METRICS_LATENCY], uint64_t sum_ms)
{
        uint64_t so_far = 0;

        head(out, name, "histogram", help);
        for (int i = 0; i < METRICS_LATENCY; i++) {
                so_far += latency[i];
                if (i < METRICS_LATENCY - 1)
                        buf_printf(out, "dagward_%s_bucket{le=\"%g\"} %llu\n", name,
                                metrics_latency_ms[i] / 1000.0, (unsigned long long)so_far);
                else
                        buf_printf(out, "dagward_%s_bucket{le=\"+Inf\"} %llu\n", name,
                                (unsigned long long)so_far);
        }
        buf_printf(out, "dagward_%s_sum %.15g\ndagward_%s_count %llu\n", name,
                (double)sum_ms / 1000.0, name, (unsigned long long)so_far);
}

static void write_overload(const struct metrics *m, struct buf *out)
{
        head(out, "client_connections_refused_total", "counter",
                "Client connections closed when they came: no room at all, or none for their "
                "address.");
        named(out, "client_connections_refused_total", "reason", STR("full"),
                (double)m->clients_refused_full);
        named(out, "client_connections_refused_total", "reason", STR("address"),
                (double)m->clients_refused_address);
        head(out, "client_connections_evicted_total", "counter",
                "Client connections closed to make room: of who never showed a valid token, or "
                "idle ones.");
        named(out, "client_connections_evicted_total", "which", STR("stranger"),
                (double)m->clients_evicted_strangers);
        named(out, "client_connections_evicted_total", "which", STR("idle"),
                (double)m->clients_evicted_idle);
        one(out, "client_handshakes_delayed_total", "counter",
                "Steps of TLS handshakes that had to let others go first.",
                (double)m->handshakes_delayed);
        one(out, "identities_crowded_total", "counter",
                "Requests counted in the account that identities share when there are too many.",
                (double)m->identities_crowded);
        one(out, "memory_bytes", "gauge", "Bytes of requests and answers that are held now.",
                (double)m->memory_bytes);
}

static void write_traffic(const struct metrics *m, struct buf *out)
{
        write_histogram(out, "request_duration_seconds", "Whole exchanges with clients.",
                m->latency, m->latency_sum_ms);
        write_histogram(out, "upstream_first_byte_seconds", "Waiting for Azure DevOps.",
                m->upstream_latency, m->upstream_latency_sum_ms);
        one(out, "token_cache_hits_total", "counter", "Tokens that were verified before.",
                (double)m->verdict_hits);
        one(out, "token_cache_misses_total", "counter", "Tokens that had to be verified.",
                (double)m->verdict_misses);
        one(out, "challenges_total", "counter", "Requests without a token, answered 401.",
                (double)m->challenges);
        one(out, "client_connections_total", "counter", "Client connections taken.",
                (double)m->clients_accepted);
        one(out, "client_connections", "gauge", "Client connections open now.",
                (double)m->clients_now);
        one(out, "exchanges", "gauge", "Requests being served now.", (double)m->exchanges_now);
        write_overload(m, out);
        one(out, "upstream_connections_opened_total", "counter", "Connections to upstream made.",
                (double)m->upstream_opened);
        one(out, "upstream_connections_reused_total", "counter",
                "Requests that went over a connection that was there already.",
                (double)m->upstream_reused);
        one(out, "upstream_connections_failed_total", "counter",
                "Connections to upstream that could not be made.", (double)m->upstream_failed);
        one(out, "upstream_connections", "gauge", "Connections to upstream open now.",
                (double)m->upstream_now);
        one(out, "upstream_connections_idle", "gauge", "Of these, those that wait for a request.",
                (double)m->upstream_idle);
        one(out, "retries_total", "counter", "Requests sent upstream a second time.",
                (double)m->retries);
        one(out, "retries_refused_total", "counter",
                "And those that were not, because too many were.", (double)m->retries_refused);
        one(out, "credential_rejections_total", "counter", "Answers that rejected our credential.",
                (double)m->credential_rejected);
        one(out, "received_bytes_total", "counter", "Bytes from clients.",
                (double)m->bytes_from_clients);
        one(out, "sent_bytes_total", "counter", "Bytes to clients.", (double)m->bytes_to_clients);
        one(out, "strangers_counted_total", "counter",
                "Requests of unknown callers that were counted, and have no record each.",
                (double)m->strangers_counted);
        one(out, "audit_waits_total", "counter", "Requests that waited for a durable record.",
                (double)m->audit_waits);
        one(out, "break_glass_total", "counter", "Requests that broke glass.",
                (double)m->break_glass);
}

/* Addresses are told by service: what they are is nobody's label. */
static void write_addresses(struct control *control, const struct metrics *m, struct buf *out)
{
        _Static_assert(
                (int)METRICS_SERVICES == (int)SERVICE_COUNT, "a service has no place in metrics");

        head(out, "upstream_addresses", "gauge", "Addresses that a service's host has.");
        for (unsigned s = 0; s < SERVICE_COUNT; s++)
                named(out, "upstream_addresses", "service", str_of(service_name((enum service)s)),
                        (double)control->names->endpoints[s].n_addresses);
        head(out, "upstream_addresses_ejected", "gauge",
                "Of these, those that are not used for now: the sum of all workers.");
        for (unsigned s = 0; s < SERVICE_COUNT; s++)
                named(out, "upstream_addresses_ejected", "service",
                        str_of(service_name((enum service)s)), (double)m->addresses_ejected[s]);
        one(out, "upstream_bad_answers_total", "counter",
                "Connections that brought no answer, no HTTP, or 502 to 504 without a word.",
                (double)m->upstream_bad_answers);
        one(out, "upstream_ejections_total", "counter",
                "Times an address was left alone after failures in a row.",
                (double)m->upstream_ejections);
        one(out, "upstream_probes_total", "counter",
                "Requests that tried whether such an address is back.", (double)m->upstream_probes);
        one(out, "upstream_unreachable_refusals_total", "counter",
                "Requests refused at once because no address can be reached.",
                (double)m->upstream_shed);
}

/* What upstream said to each credential. */
static void write_throttles(struct control *control, const struct metrics *m, struct buf *out)
{
        const struct config *config = control->parts->config;
        const struct {
                const char *name, *type, *help;
                const uint64_t *values;
        } series[] = {
                {"credential_throttled_total", "counter",
                        "Answers 429, or 503 with Retry-After, to a credential.", m->throttled},
                {"credential_throttle_refusals_total", "counter",
                        "Requests that were not sent because of such an answer.", m->throttle_shed},
                {"credential_delayed_total", "counter",
                        "Other answers that say that they were delayed.", m->throttle_delayed},
                {"credential_throttled", "gauge", "Workers that send nothing with it for now.",
                        m->throttle_now},
        };

        for (size_t i = 0; i < sizeof(series) / sizeof(series[0]); i++) {
                head(out, series[i].name, series[i].type, series[i].help);
                for (size_t c = 0; c < config->n_credentials && c < METRICS_CREDENTIALS; c++)
                        named(out, series[i].name, "credential",
                                c == METRICS_CREDENTIALS - 1 ? STR("(others)")
                                                             : config->credentials[c].name,
                                (double)series[i].values[c]);
        }
}

static void write_triggers(const struct metrics *m, struct buf *out)
{
        const struct {
                const char *outcome;
                uint64_t n;
        } all[] = {{"sent", m->triggers_first}, {"replayed", m->triggers_replayed},
                {"lost", m->triggers_lost}, {"found", m->triggers_found},
                {"sent-again", m->triggers_renewed}};

        head(out, "triggers_total", "counter", "Triggers that are told apart, by what came of it.");
        for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
                named(out, "triggers_total", "outcome", str_of(all[i].outcome), (double)all[i].n);
}

static void write_issuers(struct control *control, struct buf *out)
{
        const struct config *config = control->parts->config;
        int64_t now = clock_mono_ms();

        head(out, "issuer_keys", "gauge", "Usable keys of an issuer; 0: its callers are refused.");
        for (size_t i = 0; i < config->n_issuers; i++) {
                const struct issuer *issuer = control->issuers[i];
                named(out, "issuer_keys", "issuer", config->issuers[i].name,
                        issuer->keys ? (double)issuer->keys->n : 0);
        }
        head(out, "issuer_keys_age_seconds", "gauge", "Since the keys were confirmed last.");
        for (size_t i = 0; i < config->n_issuers; i++) {
                if (control->issuers[i]->keys)
                        named(out, "issuer_keys_age_seconds", "issuer", config->issuers[i].name,
                                (double)(now - control->issuers[i]->refreshed_mono_ms) / 1000);
        }
        head(out, "issuer_refreshes_total", "counter",
                "Attempts to read an issuer's keys that worked.");
        for (size_t i = 0; i < config->n_issuers; i++)
                named(out, "issuer_refreshes_total", "issuer", config->issuers[i].name,
                        (double)control->issuers[i]->n_refreshed);
        head(out, "issuer_refresh_failures_total", "counter", "And those that did not.");
        for (size_t i = 0; i < config->n_issuers; i++)
                named(out, "issuer_refresh_failures_total", "issuer", config->issuers[i].name,
                        (double)control->issuers[i]->n_failed);
        head(out, "issuer_unknown_key_asks_total", "counter",
                "Times a worker asked for keys because a token named one it did not know.");
        for (size_t i = 0; i < config->n_issuers; i++)
                named(out, "issuer_unknown_key_asks_total", "issuer", config->issuers[i].name,
                        (double)control->issuers[i]->n_asked);
}

static void write_credentials(struct control *control, struct buf *out)
{
        const struct config *config = control->parts->config;
        int64_t now = clock_mono_ms();

        head(out, "credential_usable", "gauge",
                "Whether there is a token to lend; absent for what is obtained on demand.");
        for (size_t i = 0; i < config->n_credentials; i++) {
                if (!control->sources[i]->on_demand)
                        named(out, "credential_usable", "credential", config->credentials[i].name,
                                token_source_usable(control->sources[i]));
        }
        head(out, "credential_age_seconds", "gauge", "Since the token was obtained.");
        for (size_t i = 0; i < config->n_credentials; i++) {
                if (control->sources[i]->credential)
                        named(out, "credential_age_seconds", "credential",
                                config->credentials[i].name,
                                (double)(now - control->sources[i]->obtained_mono_ms) / 1000);
        }
        head(out, "credential_expires_seconds", "gauge",
                "Until the token is not lent any more; absent when its end is not known.");
        for (size_t i = 0; i < config->n_credentials; i++) {
                const struct credential *held = control->sources[i]->credential;
                if (held && held->until_mono_ms != INT64_MAX)
                        named(out, "credential_expires_seconds", "credential",
                                config->credentials[i].name,
                                (double)(held->until_mono_ms - now) / 1000);
        }
        head(out, "credential_emergency", "gauge",
                "1: something long-lived in a file or vault that is lent as it is.");
        for (size_t i = 0; i < config->n_credentials; i++)
                named(out, "credential_emergency", "credential", config->credentials[i].name,
                        config_credential_is_emergency(&config->credentials[i]));
        head(out, "credential_proof_expires_seconds", "gauge",
                "Until the certificate or the vault's secret ends that it is obtained with; absent "
                "when that is not known.");
        for (size_t i = 0; i < config->n_credentials; i++) {
                int64_t end_s = control->sources[i]->memory.proof_until_s;
                if (end_s)
                        named(out, "credential_proof_expires_seconds", "credential",
                                config->credentials[i].name,
                                (double)(end_s - clock_wall_ms() / 1000));
        }
        head(out, "credential_obtained_total", "counter", "Tokens obtained.");
        for (size_t i = 0; i < config->n_credentials; i++)
                named(out, "credential_obtained_total", "credential", config->credentials[i].name,
                        (double)control->sources[i]->n_obtained);
        head(out, "credential_failures_total", "counter", "Attempts to obtain one that failed.");
        for (size_t i = 0; i < config->n_credentials; i++)
                named(out, "credential_failures_total", "credential", config->credentials[i].name,
                        (double)control->sources[i]->n_failed);
        head(out, "credential_replaced_total", "counter",
                "Tokens given up because of a rejection.");
        for (size_t i = 0; i < config->n_credentials; i++)
                named(out, "credential_replaced_total", "credential", config->credentials[i].name,
                        (double)control->sources[i]->n_replaced);
}

/* Of `assertion: caller`, all such credentials together. */
static void write_assertions(struct control *control, const struct metrics *m, struct buf *out)
{
        struct assertions_counts counts;

        assertions_count(control->assertions, &counts);
        one(out, "caller_exchanges_total", "counter",
                "Callers' own tokens that Entra gave a token for.", (double)counts.obtained);
        one(out, "caller_exchange_failures_total", "counter", "And those that it did not.",
                (double)counts.failed);
        one(out, "caller_exchanges_busy_total", "counter",
                "Requests refused because too many exchanges were under way.", (double)counts.busy);
        one(out, "caller_credentials_replaced_total", "counter",
                "Callers' tokens given up because of a rejection.", (double)counts.replaced);
        one(out, "caller_exchanges", "gauge", "Exchanges under way now.", (double)counts.running);
        one(out, "caller_credentials", "gauge", "Callers whose token is kept for all workers.",
                (double)counts.kept);
        one(out, "caller_credentials_cached", "gauge", "The same in the workers' own caches.",
                (double)m->lent_held);
        one(out, "caller_credential_hits_total", "counter",
                "Requests whose caller's token the worker had.", (double)m->lent_hits);
        one(out, "caller_credential_misses_total", "counter", "Times a worker had to ask for it.",
                (double)m->lent_misses);
}

static void write_audit(const struct control_counts *counts, struct buf *out)
{
        const struct scribe_stats *s = &counts->scribe;

        if (!counts->has_scribe)
                return;
        one(out, "audit_ok", "gauge", "Whether the audit file could be written last.",
                counts->scribe_answered && s->ok ? 1 : 0);
        one(out, "audit_failing_seconds", "gauge", "For how long it could not.",
                (double)s->failing_ms / 1000);
        one(out, "audit_seq", "gauge", "Number of the last record.", (double)s->seq);
        one(out, "audit_file_bytes", "gauge", "Size of the audit file.", (double)s->file_bytes);
        one(out, "audit_records_total", "counter", "Records written.", (double)s->records);
        one(out, "audit_bytes_total", "counter", "Bytes written.", (double)s->bytes);
        one(out, "audit_batches_total", "counter", "Batches that workers handed over.",
                (double)s->batches);
        one(out, "audit_writes_total", "counter", "Writes (group commits).", (double)s->writes);
        one(out, "audit_syncs_total", "counter", "fdatasync calls.", (double)s->syncs);
        one(out, "audit_sync_seconds_total", "counter", "Time in fdatasync.",
                (double)s->sync_us / 1e6);
        one(out, "audit_sync_longest_seconds", "gauge", "The longest fdatasync.",
                (double)s->sync_most_us / 1e6);
        one(out, "audit_failures_total", "counter", "Group commits that failed.",
                (double)s->failures);
        one(out, "audit_refused_records_total", "counter", "Records that were not written.",
                (double)s->refused_records);
        one(out, "audit_reopens_total", "counter", "Files begun since the start.",
                (double)s->reopens);
        one(out, "audit_checkpoints_total", "counter", "Signed checkpoints written.",
                (double)s->checkpoints);
        one(out, "audit_unsigned_records", "gauge", "Records behind the last checkpoint.",
                (double)s->unsigned_records);
        one(out, "audit_anchor_ok", "gauge", "Whether the anchor took the last checkpoint.",
                counts->scribe_answered && s->anchor_ok ? 1 : 0);
}

/* One series for each sink. */
static void write_sink(struct control *control, struct buf *out, const char *name, const char *type,
        const char *help, double (*value)(const struct sink_stats *stats, uint64_t seq),
        uint64_t seq)
{
        const struct config_audit *audit = &control->first_config->audit;

        head(out, name, type, help);
        for (size_t i = 0; i < audit->n_sinks; i++)
                if (control->sink_states[i].told)
                        named(out, name, "sink", audit->sinks[i].name,
                                value(&control->sink_states[i].stats, seq));
}

static double sink_ok(const struct sink_stats *stats, uint64_t seq)
{
        (void)seq;
        return stats->ok;
}

static double sink_pending(const struct sink_stats *stats, uint64_t seq)
{
        return seq > stats->seq ? (double)(seq - stats->seq) : 0;
}

static double sink_lag(const struct sink_stats *stats, uint64_t seq)
{
        int64_t now = clock_wall_ms();

        if (seq <= stats->seq || !stats->oldest_ms || now <= stats->oldest_ms)
                return 0;
        return (double)(now - stats->oldest_ms) / 1000;
}

static double sink_delivered_records(const struct sink_stats *stats, uint64_t seq)
{
        (void)seq;
        return (double)stats->delivered;
}

static double sink_delivered_bytes(const struct sink_stats *stats, uint64_t seq)
{
        (void)seq;
        return (double)stats->bytes;
}

static double sink_failures(const struct sink_stats *stats, uint64_t seq)
{
        (void)seq;
        return (double)stats->attempts_failed;
}

static double sink_positions_failed(const struct sink_stats *stats, uint64_t seq)
{
        (void)seq;
        return (double)stats->positions_failed;
}

static double sink_unconfirmed(const struct sink_stats *stats, uint64_t seq)
{
        (void)seq;
        return (double)stats->unconfirmed;
}

static void write_sinks(
        struct control *control, const struct control_counts *counts, struct buf *out)
{
        const struct config_audit *audit = &control->first_config->audit;
        uint64_t seq = counts->scribe.seq;

        if (!control->sink_states)
                return;
        write_sink(control, out, "audit_sink_ok", "gauge",
                "Whether what the sink tried last worked.", sink_ok, seq);
        write_sink(control, out, "audit_sink_pending_records", "gauge",
                "Records that the sink's other side has not taken.", sink_pending, seq);
        write_sink(control, out, "audit_sink_lag_seconds", "gauge",
                "Age of the oldest of them, about.", sink_lag, seq);
        write_sink(control, out, "audit_sink_delivered_records_total", "counter",
                "Records handed on, repeated ones each time.", sink_delivered_records, seq);
        write_sink(control, out, "audit_sink_delivered_bytes_total", "counter",
                "Bytes of these records as they are in the file.", sink_delivered_bytes, seq);
        write_sink(control, out, "audit_sink_failures_total", "counter",
                "Attempts that failed and are made again.", sink_failures, seq);
        write_sink(control, out, "audit_sink_unconfirmed_records_total", "counter",
                "Records sent again because nobody can say whether they arrived.", sink_unconfirmed,
                seq);
        write_sink(control, out, "audit_sink_position_failures_total", "counter",
                "Times that the sink's position could not be kept: a restart repeats records.",
                sink_positions_failed, seq);
        head(out, "audit_sink_lost_records_total", "counter",
                "Records that are in the log and will not be handed on, by reason.");
        for (size_t i = 0; i < audit->n_sinks; i++) {
                for (int why = 0; why < SINK_LOSSES && control->sink_states[i].told; why++) {
                        buf_printf(out, "dagward_audit_sink_lost_records_total{");
                        label(out, "sink", audit->sinks[i].name);
                        buf_printf(out, ",reason=\"%s\"} %llu\n", sink_loss_names[why],
                                (unsigned long long)control->sink_states[i].stats.lost[why]);
                }
        }
}

static void write_process(
        struct control *control, const struct control_counts *counts, struct buf *out)
{
        head(out, "build_info", "gauge", "Which program this is.");
        named(out, "build_info", "version", STR(DAGWARD_VERSION), 1);
        head(out, "policy_info", "gauge", "Which policy decides: SHA-256 as in the audit records.");
        named(out, "policy_info", "digest", str_of(control->parts->policy_digest), 1);
        if (control->parts->shadow) {
                head(out, "shadow_policy_info", "gauge", "Which shadow policy is asked beside it.");
                named(out, "shadow_policy_info", "digest", str_of(control->parts->shadow_digest),
                        1);
        }
        one(out, "start_time_seconds", "gauge", "When the process started, Unix time.",
                (double)control->started_wall_ms / 1000);
        one(out, "loaded_time_seconds", "gauge", "When configuration and policy were loaded last.",
                (double)control->loaded_wall_ms / 1000);
        one(out, "ready", "gauge", "What /readyz says.",
                control_ready(control, counts, NULL) ? 1 : 0);
        one(out, "draining", "gauge", "Whether the process is about to end.", control->draining);
        one(out, "workers", "gauge", "Threads that serve requests.", (double)control->n_ports);
        one(out, "workers_silent", "gauge", "Of these, those that did not answer within a second.",
                (double)counts->n_silent);
        one(out, "world_generation", "gauge", "How often workers were given something new.",
                (double)control->generation);
        head(out, "reloads_total", "counter", "Reloads of configuration and policy by result.");
        named(out, "reloads_total", "result", STR("done"), (double)control->n_reloads);
        named(out, "reloads_total", "result", STR("refused"), (double)control->n_reloads_failed);
        one(out, "asks_total", "counter", "Questions of workers for keys and credentials.",
                (double)control->n_asks);
        one(out, "asks_refused_total", "counter", "Of these, those that got nothing.",
                (double)control->n_asks_refused);
        one(out, "name_failures_total", "counter", "Look-ups of upstream hosts that failed.",
                (double)control->names->n_failed);
}

void control_metrics_write(
        struct control *control, const struct control_counts *counts, struct buf *out)
{
        write_process(control, counts, out);
        write_requests(&counts->workers, out);
        write_shadow(&counts->workers, out);
        write_traffic(&counts->workers, out);
        write_addresses(control, &counts->workers, out);
        write_throttles(control, &counts->workers, out);
        write_triggers(&counts->workers, out);
        write_issuers(control, out);
        write_credentials(control, out);
        write_assertions(control, &counts->workers, out);
        write_audit(counts, out);
        write_sinks(control, counts, out);
}
