#include "runs.h"

#include <stdlib.h>

#include "dagward/base/clock.h"
#include "inside.h"

/* One that is under way, or waits for its turn. */
struct look {
        struct look *next;
        struct runs *runs;
        struct ask *ask;
        struct fetch *fetch; /* NULL: it waits */
        struct started_seen seen;
        unsigned pages;
        int64_t until_mono_ms;
};

struct runs {
        struct control *control;
        struct look *active, *waiting, **last_waiting;
        unsigned n_active;
};

struct runs *runs_new(struct control *control)
{
        struct runs *runs = calloc(1, sizeof(*runs));

        if (!runs)
                abort();
        runs->control = control;
        runs->last_waiting = &runs->waiting;
        return runs;
}

static void begin_waiting(struct runs *runs);

/* Answers it; whoever calls this lets others begin. */
static void end(struct look *look, bool ok, const char *why)
{
        struct runs *runs = look->runs;
        struct look **link = &runs->active;

        while (*link != look)
                link = &(*link)->next;
        *link = look->next;
        runs->n_active--;
        control_reply(runs->control, look->ask, ok, why);
        free(look);
}

static bool ask_upstream(
        struct look *look, const char *path, enum service service, size_t most, fetch_done *done)
{
        const struct fetch_request request = {.timeout_ms = RUNS_TIMEOUT_MS, .most_bytes = most};

        look->fetch = control_fetch(look->runs->control, look->ask->index, look->ask->run->lent,
                service, path, request, done, look);
        return look->fetch != NULL;
}

/* --- the run itself --- */

static void on_item(const struct fetch_result *answer, void *arg)
{
        struct look *look = arg;
        struct runs *runs = look->runs;
        struct run_ask *run = look->ask->run;

        if (answer->answered && answer->status == 200) {
                run->found = RUN_FOUND;
                run->body = str_dup(answer->body);
                run->body_bytes = answer->body.len;
                end(look, true, "");
        } else {
                end(look, false,
                        answer->answered ? "Azure DevOps did not show the run that it listed"
                                         : answer->error.text);
        }
        begin_waiting(runs);
}

static void get_item(struct look *look)
{
        struct run_ask *run = look->ask->run;
        char memory[STARTED_PATH_MOST_BYTES];
        enum service service;
        struct buf path;

        snprintf(run->id, sizeof(run->id), "%s", look->seen.found);
        buf_init_fixed(&path, memory, sizeof(memory));
        bool ok = started_item_path(&run->wanted, str_of(run->id), &path, &service);
        buf_char(&path, '\0');
        if (!ok || path.overflow ||
                !ask_upstream(look, memory, service, STARTED_ITEM_MOST_BYTES, on_item))
                end(look, false, "there is no usable credential to ask with");
}

/* --- the list --- */

static void say_unsure(struct run_ask *run, const struct started_seen *seen)
{
        struct buf text;

        run->found = RUN_UNSURE;
        buf_init_fixed(&text, run->maybe, sizeof(run->maybe) - 1);
        for (size_t i = 0; i < seen->n_maybe && i < STARTED_SHOWN; i++)
                if (seen->shown[i][0])
                        buf_printf(&text, "%s%s", i ? ", " : "", seen->shown[i]);
        if (seen->n_maybe > STARTED_SHOWN)
                buf_printf(&text, " and %zu more", seen->n_maybe - STARTED_SHOWN);
        run->maybe[text.len] = '\0';
}

static void get_page(struct look *look);

static void read_page(struct look *look, const struct fetch_result *answer)
{
        struct run_ask *run = look->ask->run;
        const char *why = "Azure DevOps did not answer with 200";

        if (!answer->answered) {
                end(look, false, answer->error.text);
                return;
        }
        /* It is not shown to us, and will not be: people have to look. */
        if (answer->status >= 400 && answer->status < 500 && answer->status != 401 &&
                answer->status != 408 && answer->status != 429) {
                run->found = RUN_UNSURE;
                end(look, true, "");
                return;
        }
        if (answer->status != 200 ||
                !started_list_read(&run->wanted, answer->body, &look->seen, &why)) {
                end(look, false, why);
                return;
        }
        if (look->seen.found[0]) {
                get_item(look);
                return;
        }
        if (look->seen.more && ++look->pages < RUNS_PAGES_MOST &&
                clock_mono_ms() < look->until_mono_ms) {
                run->wanted.since_ms = look->seen.newest_ms;
                get_page(look);
                return;
        }
        run->found = RUN_ABSENT;
        if (look->seen.n_maybe || look->seen.more)
                say_unsure(run, &look->seen);
        end(look, true, "");
}

static void on_page(const struct fetch_result *answer, void *arg)
{
        struct look *look = arg;
        struct runs *runs = look->runs;

        read_page(look, answer);
        begin_waiting(runs);
}

static void get_page(struct look *look)
{
        char memory[STARTED_PATH_MOST_BYTES];
        enum service service;
        struct buf path;

        buf_init_fixed(&path, memory, sizeof(memory));
        bool ok = started_list_path(&look->ask->run->wanted, &path, &service);
        buf_char(&path, '\0');
        if (!ok || path.overflow)
                end(look, false, "the request does not say what it starts");
        else if (!ask_upstream(look, memory, service, STARTED_LIST_MOST_BYTES, on_page))
                end(look, false, "there is no usable credential to ask with");
}

static void begin_waiting(struct runs *runs)
{
        while (runs->waiting && runs->n_active < RUNS_AT_ONCE) {
                struct look *look = runs->waiting;
                runs->waiting = look->next;
                if (!runs->waiting)
                        runs->last_waiting = &runs->waiting;
                look->next = runs->active;
                runs->active = look;
                runs->n_active++;
                if (clock_mono_ms() >= look->until_mono_ms)
                        end(look, false, "too many runs are being looked for");
                else
                        get_page(look);
        }
}

void runs_ask(struct runs *runs, struct ask *ask)
{
        struct look *look = calloc(1, sizeof(*look));

        if (!look)
                abort();
        *look = (struct look){
                .runs = runs, .ask = ask, .until_mono_ms = clock_mono_ms() + RUNS_BOUND_MS};
        *runs->last_waiting = look;
        runs->last_waiting = &look->next;
        begin_waiting(runs);
}

void runs_cancel(struct runs *runs, const char *why)
{
        while (runs->active || runs->waiting) {
                struct look **link = runs->active ? &runs->active : &runs->waiting;
                struct look *look = *link;
                *link = look->next;
                fetch_cancel(look->fetch);
                control_reply(runs->control, look->ask, false, why);
                free(look);
        }
        runs->n_active = 0;
        runs->last_waiting = &runs->waiting;
}

void runs_free(struct runs *runs)
{
        if (!runs)
                return;
        runs_cancel(runs, "the proxy is stopping");
        free(runs);
}
