/*
 * What can be seen without asking another machine: ports, files, the audit log, limits.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "dagward/audit/chain.h"
#include "inside.h"

enum { TAIL_BYTES = 256 * 1024, HEALTH_MS = 2000, SUBJECT = 160 };

void file_look(const char *path, struct file_seen *seen)
{
        struct stat status;
        char block[512];
        bool blank = true;

        *seen = (struct file_seen){.path = path};
        if (stat(path, &status) == 0) {
                seen->mode = status.st_mode & 07777;
                seen->owner = status.st_uid;
                seen->regular = S_ISREG(status.st_mode);
        }
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0) {
                seen->error = errno;
                return;
        }
        ssize_t n = seen->regular ? read(fd, block, sizeof(block)) : 0;
        for (ssize_t i = 0; i < n && blank; i++)
                blank = str_empty(str_trim(str_view(block + i, 1)));
        seen->empty = n >= 0 && n < (ssize_t)sizeof(block) && blank;
        secret_wipe(block, sizeof(block));
        close(fd);
}

/* --- ports --- */

/* errno of binding it, without ever listening; 0: it can be had. */
static int port_look(const struct config_address *address)
{
        int on = 1, error = 0;
        int fd = socket(address->socket.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0)
                return errno;
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        if (bind(fd, (const struct sockaddr *)&address->socket, address->socket_len) != 0)
                error = errno;
        close(fd);
        return error;
}

/* --- audit --- */

/* Whether a file can be made in the folder; what it makes for that it removes. */
static int folder_look(const char *folder)
{
        char name[600];

        snprintf(name, sizeof(name), "%s/.dagward-doctor-XXXXXX", folder);
        int fd = mkostemp(name, O_CLOEXEC);
        if (fd < 0)
                return errno;
        unlink(name);
        close(fd);
        return 0;
}

/* The last whole record of the file's end. */
static void chain_look(int fd, uint64_t size, struct audit_seen *seen)
{
        size_t len = size < TAIL_BYTES ? (size_t)size : TAIL_BYTES;
        char *tail = malloc(len + 1);
        struct chain *chain = chain_new();
        struct chain_line line;

        if (!tail)
                abort();
        ssize_t got = pread(fd, tail, len, (off_t)(size - len));
        struct str rest = str_view(tail, got > 0 ? (size_t)got : 0);
        seen->torn = rest.len && rest.ptr[rest.len - 1] != '\n';
        while (rest.len && !seen->seq) {
                if (rest.ptr[rest.len - 1] == '\n')
                        rest.len--;
                const char *before = rest.len ? memrchr(rest.ptr, '\n', rest.len) : NULL;
                size_t start = before ? (size_t)(before - rest.ptr) + 1 : 0;
                if (chain_read(chain, str_from(rest, start), &line) == CHAIN_GOOD)
                        seen->seq = line.seq;
                else if (!seen->torn)
                        break; /* a whole line that is none of ours, or was edited */
                rest.len = start;
        }
        seen->foreign = size > 0 && seen->seq == 0;
        chain_free(chain);
        free(tail);
}

/* Who holds the lock on that file, as the kernel lists it. */
static void holder_look(const struct stat *status, struct audit_seen *seen)
{
        FILE *locks = fopen("/proc/locks", "re");
        char line[256], wanted[64], path[64];

        snprintf(wanted, sizeof(wanted), " %02x:%02x:%llu ", major(status->st_dev),
                minor(status->st_dev), (unsigned long long)status->st_ino);
        while (locks && fgets(line, sizeof(line), locks)) {
                int pid = 0;
                if (strstr(line, wanted) && strstr(line, "FLOCK") &&
                        sscanf(line, "%*s %*s %*s %*s %d", &pid) == 1 && pid > 0)
                        seen->holder = pid;
        }
        if (locks)
                fclose(locks);
        snprintf(path, sizeof(path), "/proc/%lld/comm", (long long)seen->holder);
        FILE *comm = seen->holder ? fopen(path, "re") : NULL;
        if (!comm)
                return;
        if (fgets(seen->holder_name, sizeof(seen->holder_name), comm))
                seen->holder_name[strcspn(seen->holder_name, "\n")] = '\0';
        fclose(comm);
}

static void audit_file_look(struct audit_seen *seen)
{
        struct stat status;

        if (stat(seen->path, &status) != 0)
                return;
        seen->there = true;
        seen->regular = S_ISREG(status.st_mode);
        seen->owner = status.st_uid;
        if (!seen->regular)
                return;
        int fd = open(seen->path, O_RDWR | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (fd < 0) {
                seen->file_error = errno;
                return;
        }
        /* Shared, and given back at once: a dagward that starts now is not kept from it. */
        if (flock(fd, LOCK_SH | LOCK_NB) == 0) {
                flock(fd, LOCK_UN);
        } else {
                seen->locked = true;
                holder_look(&status, seen);
        }
        chain_look(fd, (uint64_t)status.st_size, seen);
        close(fd);
}

static void audit_look(struct doctor *doctor)
{
        struct machine *machine = &doctor->machine;
        struct audit_seen *seen = &machine->audit;
        struct statvfs space;

        *seen = (struct audit_seen){.path = doctor->p.config->audit.file.ptr,
                .folder = machine->folder,
                .uid = doctor->uid};
        const char *slash = strrchr(seen->path, '/');
        if (!slash)
                snprintf(machine->folder, sizeof(machine->folder), ".");
        else
                snprintf(machine->folder, sizeof(machine->folder), "%.*s",
                        slash == seen->path ? 1 : (int)(slash - seen->path), seen->path);
        if (statvfs(seen->folder, &space) == 0) {
                seen->free_bytes = (uint64_t)space.f_bavail * space.f_frsize;
                seen->total_bytes = (uint64_t)space.f_blocks * space.f_frsize;
        }
        seen->folder_error = folder_look(seen->folder);
        audit_file_look(seen);
}

/* --- limits --- */

static void limits_look(struct doctor *doctor)
{
        static const char *const proxies[] = {
                "https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"};
        const struct config *config = doctor->p.config;
        struct limits_seen *seen = &doctor->machine.limits;
        struct rlimit files;
        long cpus = sysconf(_SC_NPROCESSORS_ONLN);

        if (getrlimit(RLIMIT_NOFILE, &files) == 0)
                seen->descriptors = files.rlim_max;
        seen->connections = config->limits.connections;
        seen->upstream = config->upstream.connections * (config->workers   ? config->workers
                                                                : cpus > 0 ? (uint64_t)cpus
                                                                           : 1);
        for (size_t i = 0; i < sizeof(proxies) / sizeof(*proxies); i++) {
                const char *value = getenv(proxies[i]);
                if (value && value[0] && !config->outgoing_proxy.environment)
                        seen->proxies[seen->n_proxies++] = proxies[i];
        }
        seen->admin = config->admin.address.text.ptr;
        seen->admin_open = !config->admin.address.loopback;
}

/* --- together --- */

static void on_health(struct ask_once *ask, const struct fetch_result *result)
{
        bool *running = ask->owner;

        *running = result->answered && result->status == 200 &&
                   str_eq(str_trim(result->body), STR("ok"));
}

void machine_look(struct doctor *doctor)
{
        const struct config *config = doctor->p.config;
        struct machine *machine = &doctor->machine;
        const struct ask_settings settings = {
                .plain = true, .timeout_ms = HEALTH_MS, .most_bytes = 4096};

        machine->ports = calloc(config->n_listeners + 1, sizeof(*machine->ports));
        if (!machine->ports)
                abort();
        for (size_t i = 0; i <= config->n_listeners; i++) {
                const struct config_address *address = i < config->n_listeners
                                                               ? &config->listeners[i].address
                                                               : &config->admin.address;
                machine->ports[i].address = address->text.ptr;
                machine->ports[i].error = port_look(address);
        }
        limits_look(doctor);
        audit_look(doctor);
        if (!config->admin.address.loopback)
                return;
        machine->health.done = on_health;
        machine->health.owner = &machine->answers;
        snprintf(machine->health.url, sizeof(machine->health.url), "http://%s/healthz",
                config->admin.address.text.ptr);
        ask_start(doctor, &machine->health, &settings);
}

static void listener_judge(
        struct doctor *doctor, const struct config_listener *listener, const struct about *about)
{
        const struct config_url *public_url = &doctor->p.config->public_url;
        const struct config_tls *tls = &listener->tls;
        struct certificate_file file;
        struct file_seen seen;
        struct error err;

        if (!listener->has_tls)
                return;
        file_look(tls->key.ptr, &seen);
        bool good = judge_file(doctor->out, about, "tls.key", &seen, CARE_GROUP, doctor->uid);
        file_look(tls->certificate.ptr, &seen);
        good &= judge_file(doctor->out, about, "tls.certificate", &seen, CARE_NONE, doctor->uid);
        if (tls->client_ca.ptr) {
                file_look(tls->client_ca.ptr, &seen);
                (void)judge_file(
                        doctor->out, about, "tls.client_ca", &seen, CARE_NONE, doctor->uid);
        }
        if (!good)
                return;
        if (!certificate_file_read(tls->certificate.ptr, &file, &err)) {
                struct diagnosis *d = diagnose(
                        doctor->out, about, DOCTOR_PROBLEM, "certificate-unusable", "%s", err.text);
                diagnosis_cause(d, "%s is not a certificate in PEM", tls->certificate.ptr);
                diagnosis_remedy(d,
                        "put the certificate chain in PEM, the server's own first, "
                        "into %s",
                        tls->certificate.ptr);
                return;
        }
        const struct certificate_seen certificate = {
                .path = tls->certificate.ptr,
                .key = tls->key.ptr,
                .file = &file,
                .fit = certificate_key_fit(tls->certificate.ptr, tls->key.ptr),
                .public_host = public_url->host.ptr,
                .covers = public_url->host.ptr &&
                          certificate_covers(tls->certificate.ptr, public_url->host.ptr),
        };
        judge_certificate(doctor->out, about, &certificate, doctor->now_s);
}

void machine_judge(struct doctor *doctor)
{
        const struct config *config = doctor->p.config;
        struct machine *machine = &doctor->machine;
        bool running = machine->answers || strcmp(machine->audit.holder_name, "dagward") == 0;

        for (size_t i = 0; i <= config->n_listeners && doctor_wants(doctor, DOCTOR_LISTENER); i++) {
                char subject[SUBJECT];
                snprintf(subject, sizeof(subject), "%s%s", i < config->n_listeners ? "" : "admin ",
                        machine->ports[i].address);
                const struct about about = {DOCTOR_LISTENER, (unsigned)i, subject, "listener"};
                machine->ports[i].running = running;
                judge_port(doctor->out, &about, &machine->ports[i]);
                if (i < config->n_listeners)
                        listener_judge(doctor, &config->listeners[i], &about);
        }
        const struct about audit = {DOCTOR_AUDIT, 0, machine->audit.path, "audit"};
        if (doctor_wants(doctor, DOCTOR_AUDIT))
                judge_audit(doctor->out, &audit, &machine->audit);
        const struct about limits = {DOCTOR_LIMITS, 0, "", "limits"};
        if (doctor_wants(doctor, DOCTOR_LIMITS))
                judge_limits(doctor->out, &limits, &machine->limits);
}

void machine_clear(struct doctor *doctor)
{
        ask_clear(&doctor->machine.health);
        free(doctor->machine.ports);
}
