/*
 * What an audit record costs on one thread: its JSON, its place in the chain, and the checkpoints.
 *
 *     audit_bench N [FILE]     N records; FILE gets them as a log that `dagward audit verify` reads
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "dagward/audit/checkpoint.h"
#include "dagward/audit/record.h"

enum { CHECKPOINT_EVERY = 1000 };

static struct audit_fields typical(void)
{
        static const struct str roles[] = {STR("operator")};
        static const struct pair query[] = {{STR("api-version"), STR("7.1")}};
        static const struct pair resources[] = {{STR("pipeline"), STR("42")}};

        return (struct audit_fields){
                .time_ms = 1795425153123,
                .kind = AUDIT_OUTCOME,
                .request_id = STR("019ab1c2-0000-7000-8000-000000000001"),
                .correlation_id = STR("019ab1c2-0000-7000-8000-000000000002"),
                .caller = {.issuer = STR("airflow"),
                        .subject = STR("system:serviceaccount:airflow:worker"),
                        .roles = roles,
                        .n_roles = 1,
                        .token_id = STR("0f8fad5bd9cb469fa16570867728950e"),
                        .via = STR("bearer"),
                        .address = STR("10.42.0.17")},
                .claimed = {.dag_id = STR("daily_ingest"),
                        .run_id = STR("scheduled__2026-11-23T00:00:00+00:00"),
                        .task_id = STR("trigger"),
                        .try_number = STR("1"),
                        .user_agent = STR("python-requests/2.32.3")},
                .request = {.method = STR("GET"),
                        .host = STR("dagward.example"),
                        .path = STR("/contoso/analytics/_apis/pipelines/42/runs/1001"),
                        .query = query,
                        .n_query = 1,
                        .operation = STR("pipelines.runs.get"),
                        .access = STR("read"),
                        .organization = STR("contoso"),
                        .project = STR("analytics"),
                        .resources = resources,
                        .n_resources = 1},
                .decision = {.effect = AUDIT_ALLOW,
                        .binding = STR("operators"),
                        .role = STR("operator"),
                        .rule = STR("policy.yaml:12"),
                        .reason = STR("allowed by operator"),
                        .policy = STR("0123456789abcdef0123456789abcdef0123456789abcdef0123456789"
                                      "abcdef")},
                .credential = {.name = STR("etl"), .type = STR("federated")},
                .upstream = {.host = STR("dev.azure.com"),
                        .status = 200,
                        .activity_id = STR("019ab1c2-0000-7000-8000-00000000000a"),
                        .attempts = 1,
                        .duration_us = 41234},
                .response = {.status = 200, .bytes = 1024},
                .duration_us = 42345,
        };
}

struct spent {
        int64_t record_ns, chain_ns, checkpoint_ns;
};

/* Time on the processor: other work on the machine does not count. */
static int64_t now_ns(void)
{
        struct timespec t;

        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void write_out(FILE *file, struct buf *lines)
{
        if (file && fwrite(lines->data, 1, lines->len, file) != lines->len) {
                perror("audit_bench");
                exit(1);
        }
        buf_reset(lines);
}

/* One block of records, and a checkpoint behind it. */
static void block(struct chain *chain, struct signing_key *key, struct chain_head *head,
        struct buf *lines, unsigned long n, struct spent *spent)
{
        static struct buf bodies[CHECKPOINT_EVERY];
        struct audit_fields fields = typical();
        int64_t start = now_ns();

        for (unsigned long i = 0; i < n; i++) {
                if (!bodies[i].ceiling)
                        buf_init(&bodies[i], AUDIT_RECORD_MOST);
                buf_reset(&bodies[i]);
                if (!audit_record_write(&bodies[i], &fields))
                        abort();
        }
        int64_t recorded = now_ns();
        for (unsigned long i = 0; i < n; i++)
                if (!chain_write(chain, head, buf_str(&bodies[i]), lines))
                        abort();
        int64_t chained = now_ns();
        buf_reset(&bodies[0]);
        checkpoint_write(key, head, fields.time_ms, STR("interval"), &bodies[0]);
        if (!chain_write(chain, head, buf_str(&bodies[0]), lines))
                abort();
        spent->record_ns += recorded - start;
        spent->chain_ns += chained - recorded;
        spent->checkpoint_ns += now_ns() - chained;
}

int main(int argc, char **argv)
{
        unsigned long n = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000000, left = n, blocks = 0;
        FILE *file = argc > 2 ? fopen(argv[2], "we") : NULL;
        struct chain *chain = chain_new();
        struct chain_head head;
        struct spent spent = {0};
        struct error err;
        struct buf lines;
        char path[64];

        snprintf(path, sizeof(path), "/tmp/audit_bench.%d.key", (int)getpid());
        struct signing_key *key = signing_key_load_or_make(path, &err);
        if (!key) {
                fprintf(stderr, "audit_bench: %s\n", err.text);
                return 1;
        }
        unlink(path);
        chain_head_init(&head);
        buf_init(&lines, (size_t)64 << 20);
        char opened[256];
        int len = snprintf(opened, sizeof(opened),
                "\"time\":\"2026-11-23T09:12:33.123Z\",\"kind\":\"event\",\"event\":{\"name\":"
                "\"log.opened\",\"detail\":{\"public_key\":\"%s\"}}",
                signing_key_text(key));
        if (!chain_write(chain, &head, str_view(opened, (size_t)len), &lines))
                abort();
        while (left) {
                unsigned long now = left < CHECKPOINT_EVERY ? left : CHECKPOINT_EVERY;
                block(chain, key, &head, &lines, now, &spent);
                write_out(file, &lines);
                left -= now;
                blocks++;
        }
        if (file && fclose(file) != 0)
                perror("audit_bench");
        printf("record %.0f ns, chain %.0f ns, checkpoint %.1f us, which is %.0f ns a record\n",
                (double)spent.record_ns / (double)n, (double)spent.chain_ns / (double)n,
                (double)spent.checkpoint_ns / 1e3 / (double)blocks,
                (double)spent.checkpoint_ns / (double)n);
        signing_key_free(key);
        chain_free(chain);
        buf_clear(&lines);
        return 0;
}
