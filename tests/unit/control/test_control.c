#include "control_kit.h"

#include <poll.h>
#include <signal.h>

#include "../net/certificate_kit.h"
#include "dagward/control/control.h"

#define TOKEN_PATH "/contoso-tenant/oauth2/v2.0/token"
#define POLICY(role)                                                                               \
        "version: 1\n"                                                                             \
        "roles:\n"                                                                                 \
        "  " role ":\n"                                                                            \
        "    allow: [{access: [read], projects: [\"*\"]}]\n"                                       \
        "bindings:\n"                                                                              \
        "  - callers: {issuer: airflow, subject: \"*\"}\n"                                         \
        "    roles: [" role "]\n"                                                                  \
        "    credential: etl\n"

/* A control thread with two workers that are nothing but mailboxes, read by the test's thread. */
struct worker {
        struct mailbox *box;
        struct world *world; /* the newest */
        unsigned worlds, drains;
        bool deaf; /* does not answer counts and drains */
        struct ask asks[64];
        unsigned answered;
        uint64_t generation_at_answer;
};

struct rig {
        char folder[64], config_path[96], policy_path[96], secret_path[96], audit_path[96];
        bool tls; /* the listener has a certificate */
        struct stub *stub;
        struct control *control;
        struct scribe *scribe;
        struct worker workers[2];
        pthread_t thread;
        int status;
};

static void on_world(struct mail *mail, void *receiver)
{
        struct world_mail *letter = (struct world_mail *)mail;
        struct worker *worker = receiver;

        if (worker->world)
                assert_true(letter->world->generation > worker->world->generation);
        world_unref(worker->world);
        worker->world = letter->world;
        worker->worlds++;
        free(letter);
}

static void on_count(struct mail *mail, void *receiver)
{
        struct count_mail *letter = (struct count_mail *)mail;
        struct worker *worker = receiver;

        if (worker->deaf)
                return;
        letter->sum.requests[0][0][2] += 21;
        letter->sum.latency[3] += 2;
        letter->mail.deliver = letter->answered;
        mailbox_post(letter->reply_to, &letter->mail);
}

static void on_drain(struct mail *mail, void *receiver)
{
        struct drain_mail *letter = (struct drain_mail *)mail;
        struct worker *worker = receiver;

        worker->drains++;
        if (worker->deaf)
                return;
        letter->mail.deliver = letter->answered;
        mailbox_post(letter->reply_to, &letter->mail);
}

static void on_answered(struct mail *mail, void *receiver)
{
        struct worker *worker = receiver;

        (void)mail;
        worker->answered++;
        worker->generation_at_answer = worker->world ? worker->world->generation : 0;
}

static void config_write(struct rig *rig, const char *more)
{
        char text[4096];

        snprintf(text, sizeof(text),
                "listen: [{address: 127.0.0.1:18080%s}]\n"
                "admin: {address: 127.0.0.1:0}\n"
                "issuers:\n"
                "  - name: airflow\n"
                "    issuer: http://127.0.0.1:%u\n"
                "    audiences: [dagward]\n"
                "    algorithms: [ES256]\n"
                "    keys: {discovery: true, cooldown: 30s}\n"
                "upstream: {organizations: [contoso], hosts: {\"*\": \"http://127.0.0.1:9443\"}}\n"
                "credentials:\n"
                "  - {name: etl, type: client_secret, tenant: contoso-tenant, client_id: c,\n"
                "     secret_file: secret, authority: \"http://127.0.0.1:%u\"}\n"
                "policy: {files: [policy*.yaml]}\n"
                "audit: {file: audit.jsonl}\n"
                "%s",
                rig->tls ? ", tls: {certificate: tls.crt, key: tls.key}" : "", rig->stub->port,
                rig->stub->port, more);
        file_write(rig->config_path, text);
}

static void rig_init(struct rig *rig)
{
        char document[300];

        *rig = (struct rig){.stub = stub_start()};
        snprintf(rig->folder, sizeof(rig->folder), "/tmp/dagward-control-XXXXXX");
        assert_non_null(mkdtemp(rig->folder));
        snprintf(rig->config_path, sizeof(rig->config_path), "%s/dagward.yaml", rig->folder);
        snprintf(rig->policy_path, sizeof(rig->policy_path), "%s/policy.yaml", rig->folder);
        snprintf(rig->secret_path, sizeof(rig->secret_path), "%s/secret", rig->folder);
        snprintf(rig->audit_path, sizeof(rig->audit_path), "%s/audit.jsonl", rig->folder);
        config_write(rig, "timeouts: {drain: 300ms}\n");
        file_write(rig->policy_path, POLICY("reader"));
        file_write(rig->secret_path, "hunter2");
        snprintf(document, sizeof(document),
                "{\"issuer\":\"http://127.0.0.1:%u\",\"jwks_uri\":\"http://127.0.0.1:%u/keys\"}",
                rig->stub->port, rig->stub->port);
        stub_set(rig->stub, "/.well-known/openid-configuration", 200, "", document);
        stub_set(rig->stub, "/keys", 200, "", KEYS(KEY_1));
        stub_set(rig->stub, TOKEN_PATH, 200, "Content-Type: application/json\r\n",
                "{\"token_type\":\"Bearer\",\"expires_in\":3600,\"access_token\":\"tok1\"}");
}

static void *rig_run(void *arg)
{
        struct rig *rig = arg;

        rig->status = control_run(rig->control);
        return NULL;
}

static void rig_start(struct rig *rig, int64_t wait_ms)
{
        struct error_list errors;
        struct error err;
        struct worker_port ports[2];
        struct scribe_settings audit = {.path = rig->audit_path};

        error_list_init(&errors);
        rig->control = control_new(rig->config_path, &errors);
        error_list_print(&errors, stderr);
        assert_non_null(rig->control);
        error_list_clear(&errors);
        rig->scribe = scribe_open(&audit, &err);
        assert_non_null(rig->scribe);
        for (int i = 0; i < 2; i++) {
                rig->workers[i].box = mailbox_new(&rig->workers[i]);
                rig->workers[i].world = control_world(rig->control);
                ports[i] = (struct worker_port){rig->workers[i].box, on_world, on_count, on_drain};
        }
        control_attach(rig->control, ports, 2, rig->scribe);
        assert_true(control_boot(rig->control, wait_ms, &err));
        pthread_create(&rig->thread, NULL, rig_run, rig);
}

static void workers_turn(struct rig *rig, int ms)
{
        struct pollfd waiting[2] = {{.fd = mailbox_fd(rig->workers[0].box), .events = POLLIN},
                {.fd = mailbox_fd(rig->workers[1].box), .events = POLLIN}};

        poll(waiting, 2, ms);
        mailbox_drain(rig->workers[0].box);
        mailbox_drain(rig->workers[1].box);
}

#define WORKERS_UNTIL(rig, condition)                                                              \
        do {                                                                                       \
                int64_t until_ms = clock_mono_ms() + 8000;                                         \
                while (!(condition) && clock_mono_ms() < until_ms)                                 \
                        workers_turn((rig), 10);                                                   \
                assert_true(condition);                                                            \
        } while (0)

static void ask(struct rig *rig, unsigned worker, unsigned slot, enum ask_kind kind, uint64_t seen)
{
        struct worker *from = &rig->workers[worker];
        struct control_port port = control_port(rig->control);

        from->asks[slot] = (struct ask){.mail = {.deliver = port.asked},
                .kind = kind,
                .index = 0,
                .seen = seen,
                .world_reload = from->world->reload,
                .reply_to = from->box,
                .answered = on_answered};
        mailbox_post(port.box, &from->asks[slot].mail);
}

static void rig_stop(struct rig *rig)
{
        char command[128];

        control_stop(rig->control);
        WORKERS_UNTIL(rig, rig->workers[0].drains && rig->workers[1].drains);
        assert_true(rig->workers[0].world->draining);
        pthread_join(rig->thread, NULL);
        assert_int_equal(rig->status, 0);
        scribe_close(rig->scribe);
        /* An ask that comes when nobody runs any more is answered as well: it is allocated. */
        unsigned answered = rig->workers[0].answered;
        ask(rig, 0, 63, ASK_CREDENTIAL, 0);
        control_free(rig->control);
        mailbox_drain(rig->workers[0].box);
        assert_int_equal(rig->workers[0].answered, answered + 1);
        assert_false(rig->workers[0].asks[63].ok);
        for (int i = 0; i < 2; i++) {
                mailbox_drain(rig->workers[i].box);
                world_unref(rig->workers[i].world);
                mailbox_free(rig->workers[i].box);
        }
        stub_stop(rig->stub);
        snprintf(command, sizeof(command), "rm -rf %s", rig->folder);
        assert_int_equal(system(command), 0);
}

/* What the admin listener says to `request`, whole; while the workers go on reading their mail. */
static const char *admin_says(struct rig *rig, const char *request)
{
        static char answer[256 * 1024];
        struct sockaddr_in at = {.sin_family = AF_INET,
                .sin_port = htons(control_admin_port(rig->control)),
                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        size_t len = 0;

        assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
        assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
        for (;;) {
                struct pollfd waiting = {.fd = fd, .events = POLLIN};
                if (poll(&waiting, 1, 10) > 0) {
                        ssize_t n = read(fd, answer + len, sizeof(answer) - 1 - len);
                        if (n <= 0)
                                break;
                        len += (size_t)n;
                }
                workers_turn(rig, 0);
        }
        close(fd);
        answer[len] = '\0';
        return answer;
}

static const char *admin_get(struct rig *rig, const char *path)
{
        char request[200];

        snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path);
        return admin_says(rig, request);
}

static bool audit_holds(const struct rig *rig, const char *text)
{
        char *all = calloc(1, 256 * 1024);
        FILE *file = fopen(rig->audit_path, "r");
        size_t n = fread(all, 1, 256 * 1024 - 1, file);
        bool found = n > 0 && strstr(all, text) != NULL;

        assert_null(strstr(all, "hunter2"));
        assert_null(strstr(all, "tok1"));
        fclose(file);
        free(all);
        return found;
}

static void workers_get_a_world_with_keys_credentials_and_addresses(void **state)
{
        struct rig rig;

        (void)state;
        rig_init(&rig);
        rig_start(&rig, 0);
        const struct worker *worker = &rig.workers[0];
        WORKERS_UNTIL(&rig,
                worker->world->issuers[0].keys && worker->world->credentials->slots[0].credential);
        const struct world *world = worker->world;
        assert_int_equal(world->issuers[0].keys->n, 1);
        assert_true(str_eq(world->issuers[0].rules->name, STR("airflow")));
        assert_int_equal(world->issuers[0].rules->algorithms, TOKEN_ALG_BIT(TOKEN_ES256));
        const struct credential *lent = credential_lend(world->credentials, 0, clock_mono_ms());
        assert_non_null(lent);
        assert_true(str_eq(secret_reveal(&lent->line), STR("Authorization: Bearer tok1\r\n")));
        assert_true(str_eq(world->credentials->slots[0].type, STR("client_secret")));
        const struct endpoint *dev = &world->endpoints[SERVICE_DEV];
        assert_string_equal(dev->host, "127.0.0.1");
        assert_string_equal(dev->authority, "127.0.0.1:9443");
        assert_false(dev->tls);
        assert_int_equal(dev->n_addresses, 1);
        assert_int_equal(strlen(world->policy_digest), 64);
        assert_false(world->draining);
        rig_stop(&rig);
}

static void the_first_request_after_a_rotation_is_answered_with_the_new_keys(void **state)
{
        struct rig rig;

        (void)state;
        rig_init(&rig);
        rig_start(&rig, 5000);
        struct worker *worker = &rig.workers[0];
        WORKERS_UNTIL(
                &rig, worker->world->issuers[0].keys && rig.workers[1].world->issuers[0].keys);
        uint64_t seen = worker->world->issuers[0].keys->generation;
        stub_set(rig.stub, "/keys", 200, "", KEYS(KEY_2));
        for (unsigned i = 0; i < 64; i++) {
                ask(&rig, 0, i, ASK_KEYS, seen);
                ask(&rig, 1, i, ASK_KEYS, seen);
        }
        WORKERS_UNTIL(&rig, worker->answered == 64 && rig.workers[1].answered == 64);
        assert_int_equal(stub_hits(rig.stub, "/keys"), 2);
        for (unsigned i = 0; i < 64; i++)
                assert_true(worker->asks[i].ok && rig.workers[1].asks[i].ok);
        /* The world came before the answer. */
        assert_true(worker->world->issuers[0].keys->generation != seen);
        assert_int_equal(worker->generation_at_answer, worker->world->generation);
        /* Now unknown kids: the cooldown answers, not the issuer. */
        seen = worker->world->issuers[0].keys->generation;
        worker->answered = 0;
        for (unsigned i = 0; i < 64; i++)
                ask(&rig, 0, i, ASK_KEYS, seen);
        WORKERS_UNTIL(&rig, worker->answered == 64);
        assert_false(worker->asks[63].ok);
        assert_true(holds(worker->asks[63].why, "airflow"));
        assert_int_equal(stub_hits(rig.stub, "/keys"), 2);
        WORKERS_UNTIL(&rig, audit_holds(&rig, "keys.changed"));
        rig_stop(&rig);
}

static void a_rejected_credential_is_replaced_for_everybody(void **state)
{
        struct rig rig;

        (void)state;
        rig_init(&rig);
        rig_start(&rig, 5000);
        struct worker *worker = &rig.workers[0];
        WORKERS_UNTIL(&rig, worker->world->credentials->slots[0].credential);
        uint64_t seen = credential_generation(worker->world->credentials, 0);
        stub_set(rig.stub, TOKEN_PATH, 200, "Content-Type: application/json\r\n",
                "{\"token_type\":\"Bearer\",\"expires_in\":3600,\"access_token\":\"tok2\"}");
        ask(&rig, 0, 0, ASK_CREDENTIAL_REPLACE, seen);
        ask(&rig, 1, 0, ASK_CREDENTIAL_REPLACE, seen);
        ask(&rig, 1, 1, ASK_CREDENTIAL, seen);
        WORKERS_UNTIL(&rig, worker->answered == 1 && rig.workers[1].answered == 2);
        assert_true(worker->asks[0].ok && rig.workers[1].asks[0].ok && rig.workers[1].asks[1].ok);
        assert_true(credential_generation(worker->world->credentials, 0) > seen);
        assert_int_equal(stub_hits(rig.stub, TOKEN_PATH), 2);
        rig_stop(&rig);
}

static void asks_that_name_nothing_are_answered_all_the_same(void **state)
{
        struct rig rig;

        (void)state;
        rig_init(&rig);
        rig_start(&rig, 5000);
        struct worker *worker = &rig.workers[0];
        struct control_port port = control_port(rig.control);
        WORKERS_UNTIL(&rig, worker->world->issuers[0].keys);
        for (unsigned i = 0; i < 4; i++) {
                worker->asks[i] = (struct ask){.mail = {.deliver = port.asked},
                        .kind = (enum ask_kind)(i % 3),
                        .index = 99,
                        .world_reload = worker->world->reload + (i == 3),
                        .reply_to = worker->box,
                        .answered = on_answered};
                mailbox_post(port.box, &worker->asks[i].mail);
        }
        WORKERS_UNTIL(&rig, worker->answered == 4);
        assert_false(worker->asks[0].ok || worker->asks[1].ok || worker->asks[2].ok);
        assert_true(worker->asks[3].ok); /* of another configuration: look again */
        rig_stop(&rig);
}

static void a_good_reload_is_taken_whole(void **state)
{
        struct rig rig;

        (void)state;
        rig_init(&rig);
        rig_start(&rig, 5000);
        struct worker *worker = &rig.workers[0];
        WORKERS_UNTIL(&rig,
                worker->world->credentials->slots[0].credential && worker->world->issuers[0].keys);
        char before[65];
        memcpy(before, worker->world->policy_digest, sizeof(before));
        uint64_t policy = worker->world->policy_generation;
        file_write(rig.policy_path, POLICY("onlooker"));
        kill(getpid(), SIGHUP);
        WORKERS_UNTIL(&rig, worker->world->reload == 2);
        assert_string_not_equal(worker->world->policy_digest, before);
        assert_true(worker->world->policy_generation > policy);
        /* What did not change goes on without a gap. */
        assert_non_null(worker->world->issuers[0].keys);
        assert_non_null(credential_lend(worker->world->credentials, 0, clock_mono_ms()));
        assert_int_equal(stub_hits(rig.stub, TOKEN_PATH), 1);
        assert_true(holds(admin_get(&rig, "/metrics"), "dagward_reloads_total{result=\"done\"} 1"));
        WORKERS_UNTIL(&rig, audit_holds(&rig, "reload.done"));
        WORKERS_UNTIL(&rig, audit_holds(&rig, before));
        WORKERS_UNTIL(&rig, audit_holds(&rig, worker->world->policy_digest));
        rig_stop(&rig);
}

static void a_bad_reload_changes_nothing(void **state)
{
        static const struct {
                const char *config, *policy, *said;
        } cases[] = {
                {NULL, "version: 1\nroles: {", "policy.yaml"},
                {NULL, "version: 1\nroles:\n  r: {allow: [{operatoins: [x]}]}\n", "operatoins"},
                {"timeouts: {drain: 300ms}\nsurprise: 1\n", NULL, "surprise"},
                {"timeouts: {drain: 300ms}\nworkers: 7\n", NULL, "need a restart"},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                struct rig rig;
                rig_init(&rig);
                rig_start(&rig, 5000);
                struct worker *worker = &rig.workers[0];
                WORKERS_UNTIL(&rig, worker->world->issuers[0].keys);
                if (cases[i].config)
                        config_write(&rig, cases[i].config);
                if (cases[i].policy)
                        file_write(rig.policy_path, cases[i].policy);
                kill(getpid(), SIGHUP);
                WORKERS_UNTIL(&rig, holds(admin_get(&rig, "/metrics"),
                                            "dagward_reloads_total{result=\"refused\"} 1\n"));
                assert_int_equal(worker->world->reload, 1);
                WORKERS_UNTIL(&rig, audit_holds(&rig, "reload.failed"));
                WORKERS_UNTIL(&rig, audit_holds(&rig, cases[i].said));
                assert_true(holds(admin_get(&rig, "/readyz"), "HTTP/1.1 200 "));
                rig_stop(&rig);
        }
}

static void a_changed_file_reloads_without_a_signal(void **state)
{
        struct rig rig;

        (void)state;
        rig_init(&rig);
        rig_start(&rig, 5000);
        file_write(rig.policy_path, POLICY("onlooker"));
        WORKERS_UNTIL(&rig, rig.workers[0].world->reload == 2);
        WORKERS_UNTIL(&rig, audit_holds(&rig, "a changed file"));
        rig_stop(&rig);
}

static void a_renewed_certificate_reaches_the_listeners(void **state)
{
        struct rig rig;
        char certificate[128], key[128];

        (void)state;
        rig_init(&rig);
        snprintf(certificate, sizeof(certificate), "%s/tls.crt", rig.folder);
        snprintf(key, sizeof(key), "%s/tls.key", rig.folder);
        assert_true(certificate_write("DNS:localhost", 86400, certificate, key));
        rig.tls = true;
        config_write(&rig, "timeouts: {drain: 300ms}\n");
        rig_start(&rig, 5000);
        struct worker *worker = &rig.workers[0];
        struct tls_context *before = tls_ref(worker->world->listener_tls[0]);
        assert_non_null(before);
        /* Certificate and key that do not fit together, as in the middle of a renewal. */
        char aside[160];
        snprintf(aside, sizeof(aside), "%s.old", key);
        assert_int_equal(rename(key, aside), 0);
        assert_true(certificate_write("DNS:localhost", 86400, certificate, key));
        assert_int_equal(rename(aside, key), 0);
        kill(getpid(), SIGHUP);
        WORKERS_UNTIL(&rig, audit_holds(&rig, "reload.failed"));
        assert_ptr_equal(worker->world->listener_tls[0], before);
        assert_true(certificate_write("DNS:localhost", 86400, certificate, key));
        kill(getpid(), SIGHUP);
        WORKERS_UNTIL(&rig, worker->world->reload == 2);
        assert_non_null(worker->world->listener_tls[0]);
        assert_ptr_not_equal(worker->world->listener_tls[0], before);
        tls_unref(before);
        rig_stop(&rig);
}

static void asks_that_wait_during_a_reload_are_told_to_look_again(void **state)
{
        struct rig rig;

        (void)state;
        rig_init(&rig);
        rig_start(&rig, 5000);
        struct worker *worker = &rig.workers[0];
        WORKERS_UNTIL(&rig, worker->world->issuers[0].keys);
        stub_delay(rig.stub, "/keys", 1000);
        ask(&rig, 0, 0, ASK_KEYS, worker->world->issuers[0].keys->generation);
        workers_turn(&rig, 100);
        assert_int_equal(worker->answered, 0);
        kill(getpid(), SIGHUP);
        WORKERS_UNTIL(&rig, worker->answered == 1);
        assert_true(worker->asks[0].ok);
        assert_int_equal(worker->world->reload, 2);
        rig_stop(&rig);
}

static void readiness_names_what_is_missing(void **state)
{
        struct rig rig;

        (void)state;
        rig_init(&rig);
        stub_set(rig.stub, "/keys", 500, "", "");
        stub_set(rig.stub, TOKEN_PATH, 401, "",
                "{\"error\":\"invalid_client\",\"error_codes\":[7000215]}");
        rig_start(&rig, 300);
        const char *said = admin_get(&rig, "/readyz");
        assert_true(holds(said, "HTTP/1.1 503 "));
        assert_true(holds(said, "FAIL keys airflow: http://127.0.0.1:"));
        assert_true(holds(said, "FAIL credential etl: credential etl: AADSTS7000215"));
        assert_true(holds(said, "ok   policy\n"));
        assert_true(holds(said, "ok   audit\n"));
        assert_true(holds(said, "ok   upstream 127.0.0.1\n"));
        assert_false(holds(said, "hunter2"));
        assert_true(holds(admin_get(&rig, "/healthz"), "\r\n\r\nok\n"));
        rig_stop(&rig);
}

static void metrics_add_up_what_the_workers_tell(void **state)
{
        struct rig rig;

        (void)state;
        rig_init(&rig);
        rig_start(&rig, 5000);
        const char *said = admin_get(&rig, "/metrics");
        assert_true(holds(said, "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"));
        static const char *const lines[] = {
                "\ndagward_requests_total{access=\"read\",decision=\"allow\",status=\"2xx\"} 42\n",
                "\ndagward_request_duration_seconds_bucket{le=\"0.005\"} 0\n",
                "\ndagward_request_duration_seconds_bucket{le=\"0.01\"} 4\n",
                "\ndagward_request_duration_seconds_bucket{le=\"+Inf\"} 4\n",
                "\ndagward_request_duration_seconds_count 4\n",
                "\ndagward_issuer_keys{issuer=\"airflow\"} 1\n",
                "\ndagward_credential_usable{credential=\"etl\"} 1\n",
                "\ndagward_audit_ok 1\n",
                "\ndagward_workers 2\n",
                "\ndagward_workers_silent 0\n",
                "\ndagward_ready 1\n",
        };
        for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
                if (!holds(said, lines[i]))
                        fail_msg("no line%s", lines[i]);
        }
        assert_false(holds(said, "tok1"));
        /* A worker that hangs is counted with what it told last, after a second. */
        rig.workers[1].deaf = true;
        said = admin_get(&rig, "/metrics");
        assert_true(holds(said, lines[0]));
        assert_true(holds(said, "\ndagward_workers_silent 1\n"));
        rig_stop(&rig);
}

static void the_admin_listener_takes_get_and_head_only(void **state)
{
        static const struct {
                const char *request, *answer;
        } cases[] = {
                {"POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 405 "},
                {"DELETE /metrics HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 405 "},
                {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 404 "},
                {"GET /healthz?verbose HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 "},
                {"GET /healthz HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "},
                {"nonsense\r\n\r\n", "HTTP/1.1 400 "},
        };
        struct rig rig;

        (void)state;
        rig_init(&rig);
        rig_start(&rig, 0);
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                const char *said = admin_says(&rig, cases[i].request);
                if (!str_starts(str_of(said), str_of(cases[i].answer)))
                        fail_msg("%s got %s", cases[i].request, said);
        }
        const char *said = admin_says(&rig, "HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_true(holds(said, "Content-Length: 3\r\n"));
        assert_true(str_ends(str_of(said), STR("\r\n\r\n")));
        rig_stop(&rig);
}

static void asks_that_wait_when_it_ends_are_answered(void **state)
{
        struct rig rig;

        (void)state;
        rig_init(&rig);
        rig_start(&rig, 5000);
        struct worker *worker = &rig.workers[0];
        WORKERS_UNTIL(&rig, worker->world->issuers[0].keys);
        stub_delay(rig.stub, "/keys", 1000);
        ask(&rig, 0, 0, ASK_KEYS, worker->world->issuers[0].keys->generation);
        workers_turn(&rig, 100);
        assert_int_equal(worker->answered, 0);
        control_stop(rig.control);
        WORKERS_UNTIL(&rig, worker->answered == 1);
        assert_false(worker->asks[0].ok);
        assert_true(holds(worker->asks[0].why, "stopping"));
        rig_stop(&rig);
}

static void a_drain_waits_for_workers_only_until_its_deadline(void **state)
{
        struct rig rig;

        (void)state;
        rig_init(&rig);
        rig_start(&rig, 5000);
        rig.workers[0].deaf = rig.workers[1].deaf = true;
        int64_t start = clock_mono_ms();
        kill(getpid(), SIGTERM);
        WORKERS_UNTIL(&rig, rig.workers[0].drains && rig.workers[1].drains);
        rig_stop(&rig); /* a second word ends it at once, or the deadline does */
        assert_true(clock_mono_ms() - start < 4000);
}

static void what_cannot_be_loaded_is_said_with_its_place(void **state)
{
        struct rig rig;
        struct error_list errors;
        char command[128];

        (void)state;
        rig_init(&rig);
        file_write(rig.policy_path, "version: 1\nroles: {reader: {allow: [{acess: [read]}]}}\n");
        error_list_init(&errors);
        assert_null(control_new(rig.config_path, &errors));
        assert_true(errors.errors > 0);
        assert_non_null(errors.findings[0].file);
        assert_int_equal(errors.findings[0].line, 2);
        error_list_clear(&errors);
        stub_stop(rig.stub);
        snprintf(command, sizeof(command), "rm -rf %s", rig.folder);
        assert_int_equal(system(command), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(workers_get_a_world_with_keys_credentials_and_addresses),
                cmocka_unit_test(the_first_request_after_a_rotation_is_answered_with_the_new_keys),
                cmocka_unit_test(a_rejected_credential_is_replaced_for_everybody),
                cmocka_unit_test(asks_that_name_nothing_are_answered_all_the_same),
                cmocka_unit_test(a_good_reload_is_taken_whole),
                cmocka_unit_test(a_bad_reload_changes_nothing),
                cmocka_unit_test(a_changed_file_reloads_without_a_signal),
                cmocka_unit_test(a_renewed_certificate_reaches_the_listeners),
                cmocka_unit_test(asks_that_wait_during_a_reload_are_told_to_look_again),
                cmocka_unit_test(readiness_names_what_is_missing),
                cmocka_unit_test(metrics_add_up_what_the_workers_tell),
                cmocka_unit_test(the_admin_listener_takes_get_and_head_only),
                cmocka_unit_test(asks_that_wait_when_it_ends_are_answered),
                cmocka_unit_test(a_drain_waits_for_workers_only_until_its_deadline),
                cmocka_unit_test(what_cannot_be_loaded_is_said_with_its_place),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
