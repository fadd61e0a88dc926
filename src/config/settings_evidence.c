/* The rows of `audit`, `idempotency` and `correlation`: what is kept of requests, and told. */
#include "settings.h"

static const struct choice durability_choices[] = {
        {.name = "writes",
                .value = DURABILITY_WRITES,
                .help = "a request whose access class is not read goes upstream only when its "
                        "intent "
                        "is on disk"},
        {.name = "all", .value = DURABILITY_ALL, .help = "every request does"},
        {.name = "none",
                .value = DURABILITY_NONE,
                .help = "records are written, nobody waits for the disk"},
        {0}};
static const struct choice failure_choices[] = {
        {.name = "refuse",
                .value = ON_FAILURE_REFUSE,
                .help = "a request whose record cannot be written is refused with 503"},
        {.name = "allow-reads",
                .value = ON_FAILURE_ALLOW_READS,
                .help = "requests of access class read go on without"},
        {0}};

static const struct choice strangers_choices[] = {
        {.name = "counted",
                .value = STRANGERS_COUNTED,
                .help = "the first 100 of an address that end for the same reason have a record "
                        "each, and one a second from then on; the others are counted in events "
                        "`strangers.refused`"},
        {.name = "each",
                .value = STRANGERS_EACH,
                .help = "each has one: whoever reaches the port can fill the disk"},
        {0}};

static const struct setting checkpoint_rows[] = {
        {.key = "records",
                .type = SETTING_COUNT,
                .restart = true,
                AT(config_checkpoints, records),
                .fallback = "1000",
                .least = 1,
                .most = 1000000,
                .help = "At most so many records are written without a signature behind them."},
        {.key = "interval",
                .type = SETTING_DURATION,
                .restart = true,
                AT(config_checkpoints, interval_ms),
                .fallback = "1m",
                .least = 1 * SECOND,
                .most = 1 * DAY,
                .help = "A record waits for a signature at most so long."},
};
static const struct settings checkpoints = TABLE(struct config_checkpoints, checkpoint_rows);

static const struct setting rotate_rows[] = {
        {.key = "size",
                .type = SETTING_SIZE,
                .restart = true,
                AT(config_rotate, size_bytes),
                .fallback = "1GiB",
                .least = 64 * KIB,
                .most = 1024 * 1024 * MIB,
                .help = "A file that is so large is closed, and a new one begun."},
        {.key = "age",
                .type = SETTING_DURATION,
                .restart = true,
                AT(config_rotate, age_ms),
                .without = "files are not closed for their age",
                .least = 1 * SECOND,
                .most = 3650 * DAY,
                .help = "A file whose first record is so old is closed."},
        {.key = "keep",
                .type = SETTING_COUNT,
                .restart = true,
                AT(config_rotate, keep),
                .without = "all are kept",
                .least = 1,
                .most = 1000000,
                .help = "How many closed files stay; older ones are deleted."},
        {.key = "keep_for",
                .type = SETTING_DURATION,
                .restart = true,
                AT(config_rotate, keep_ms),
                .without = "files are not deleted for their age",
                .least = 1 * SECOND,
                .most = 36500 * DAY,
                .help = "How long a closed file stays. With `keep` set as well, a file is deleted "
                        "when it is over both."},
        {.key = "wait_for_sinks",
                .type = SETTING_BOOL,
                .restart = true,
                AT(config_rotate, wait_for_sinks),
                .fallback = "false",
                .help = "Closed files are not deleted before every sink has what is in them. A "
                        "sink that is dead then fills the disk."},
        {.key = "compress",
                .type = SETTING_BOOL,
                .restart = true,
                AT(config_rotate, compress),
                .fallback = "true",
                .help = "Closed files become gzip."},
};
static const struct settings rotate = TABLE(struct config_rotate, rotate_rows);

static const struct setting audit_rows[] = {
        {.key = "file",
                .type = SETTING_PATH,
                .required = true,
                .restart = true,
                AT(config_audit, file),
                .help = "The audit log, one JSON object a line; made when it is not there. One "
                        "process writes it."},
        {.key = "durability",
                .type = SETTING_CHOICE,
                .restart = true,
                AT(config_audit, durability),
                .fallback = "writes",
                .choices = durability_choices,
                .help = "Who waits for the disk."},
        {.key = "on_failure",
                .type = SETTING_CHOICE,
                AT(config_audit, on_failure),
                .fallback = "refuse",
                .choices = failure_choices,
                .help = "What happens while records cannot be written."},
        {.key = "strangers",
                .type = SETTING_CHOICE,
                AT(config_audit, strangers),
                .fallback = "counted",
                .choices = strangers_choices,
                .help = "What is written of requests whose caller did not become known. None of "
                        "them is forwarded."},
        {.key = "signing_key",
                .type = SETTING_PATH,
                .restart = true,
                AT(config_audit, signing_key),
                .without = "`<file>.key`, which is made when it is not there",
                .help = "PEM file (PKCS #8) with the Ed25519 key that signs checkpoints."},
        {.key = "checkpoints",
                .type = SETTING_SECTION,
                AT(config_audit, checkpoints),
                .section = &checkpoints,
                .help = "When a signature over all records so far is written."},
        {.key = "anchor",
                .type = SETTING_PATH,
                .restart = true,
                AT(config_audit, anchor),
                .without = "checkpoints are in the log alone",
                .help = "A file or named pipe to which every checkpoint is written as well; best "
                        "where whoever can write the log cannot write."},
        {.key = "rotate",
                .type = SETTING_SECTION,
                AT(config_audit, rotate),
                .section = &rotate,
                .help = "When a file is closed, and how long closed ones stay."},
        {.key = "sinks",
                .type = SETTING_SECTIONS,
                LIST(config_audit, sinks),
                .section = &settings_sinks,
                .without = "the file is all there is",
                .help = "Where copies of all records go ([audit.md](audit.md#sinks))."},
};
const struct settings settings_audit = TABLE(struct config_audit, audit_rows);

static const struct setting idempotency_rows[] = {
        {.key = "enabled",
                .type = SETTING_BOOL,
                .restart = true,
                AT(config_idempotency, enabled),
                .fallback = "true",
                .help = "Whether a trigger that comes again is answered with the first answer. "
                        "`false`: it is sent again, whatever it says."},
        {.key = "window",
                .type = SETTING_DURATION,
                AT(config_idempotency, window_ms),
                .fallback = "24h",
                .least = 1 * SECOND,
                .most = 30 * DAY,
                .help = "How long after the first request the same one is answered again. Longer "
                        "than all retries of a task take."},
        {.key = "entries",
                .type = SETTING_COUNT,
                AT(config_idempotency, entries),
                .fallback = "100000",
                .least = 1,
                .most = 10000000,
                .help = "The most triggers that are kept within the window; more are refused with "
                        "503, and before that with 429 those of a caller that has at least as many "
                        "as are free: one alone gets half. About 400 bytes of memory each, and "
                        "their answers (5 KB or so) on disk."},
        {.key = "wait",
                .type = SETTING_DURATION,
                AT(config_idempotency, wait_ms),
                .fallback = "30s",
                .least = 100,
                .most = 10 * MINUTE,
                .help = "How long a request waits for the answer of the same one that came before, "
                        "or for it to be found out what became of it; then it is answered with "
                        "409. Shorter than the callers' own time limit."},
        {.key = "settle",
                .type = SETTING_DURATION,
                AT(config_idempotency, settle_ms),
                .fallback = "2m",
                .least = 1 * SECOND,
                .most = 1 * HOUR,
                .help = "When an answer was lost and Azure DevOps shows no run: how long after the "
                        "loss that counts as proof that none was started. Azure DevOps holds "
                        "requests back for up to 30 s."},
        {.key = "file",
                .type = SETTING_PATH,
                .restart = true,
                AT(config_idempotency, file),
                .without = "`audit.file` with `.triggers` behind it",
                .help = "The journal of triggers; made when it is not there. It holds first "
                        "answers, so it is nobody else's to read. One process has it."},
};
const struct settings settings_idempotency = TABLE(struct config_idempotency, idempotency_rows);

static const struct setting correlation_rows[] = {
        {.key = "tags",
                .type = SETTING_TEXTS,
                LIST(config_correlation, tags),
                .fallback = "correlation:{correlation_id}, airflow:{dag_id}",
                .most = 16,
                .help = "Tags put on runs of pipelines and builds after their answer; `[]` for "
                        "none. `{correlation_id}`, `{request_id}`, `{dag_id}`, `{run_id}`, "
                        "`{task_id}`, `{map_index}`, `{try_number}` and `{subject}` stand for "
                        "what the request said; a tag whose placeholder has no value is left "
                        "out."},
        {.key = "variable",
                .type = SETTING_NAME,
                AT(config_correlation, variable),
                .without = "no variable is set",
                .help = "Name of a variable that each run, build and release is started with: "
                        "`<correlation id>/<id of the first request>`. The body changes; the "
                        "pipeline must let it be set at queue time. With it a run whose answer was "
                        "lost can be found again without doubt."},
        {.key = "parameter",
                .type = SETTING_NAME,
                AT(config_correlation, parameter),
                .without = "no parameter is set",
                .help = "The same as a template parameter, which the pipeline must declare. "
                        "Releases have none."},
};
const struct settings settings_correlation = TABLE(struct config_correlation, correlation_rows);
