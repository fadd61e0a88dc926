/* Which entries can make a difference to a subject, for policy_diff.c. */
#include "policy_diff_internal.h"

/* Changed entries of one subject of which it is worth while to see what matters beside them. */
enum { MOST_CHANGED = 500 };

/* --- entries that say the same --- */

struct entry_text {
        char *text;
        unsigned *number;
};

static void add_part(struct buf *out, const char *name, unsigned kind, struct str shown)
{
        buf_printf(out, "\x1f%s %u\x1e", name, kind);
        buf_str_add(out, shown);
}

static char *text_of(const struct entry *entry)
{
        struct buf out;

        buf_init(&out, 64 << 20);
        buf_char(&out, entry->effect == EFFECT_ALLOW ? 'a' : 'd');
        for (unsigned i = 0; i < CHOICES; i++)
                if (entry->choices[i].n)
                        add_part(&out, "choice", i, entry->choices[i].shown);
        if (entry->methods.n)
                add_part(&out, "method", 0, entry->methods.shown);
        if (entry->n_paths)
                add_part(&out, "path", 0, entry->paths_shown);
        for (size_t i = 0; i < entry->n_selectors; i++)
                add_part(&out, "resource", entry->selectors[i].kind, entry->selectors[i].shown);
        for (size_t i = 0; i < entry->n_conditions; i++)
                add_part(&out, "where", entry->conditions[i].fact, entry->conditions[i].shown);
        for (size_t i = 0; i < entry->n_claimed; i++) {
                add_part(&out, "claimed", 0, entry->claimed[i].name);
                buf_str_add(&out, entry->claimed[i].shown);
        }
        if (entry->n_windows)
                add_part(&out, "time", 0, entry->windows_shown);
        char *text = str_dup(buf_str(&out));
        buf_clear(&out);
        return must(text);
}

static int by_text(const void *a, const void *b)
{
        return strcmp(((const struct entry_text *)a)->text, ((const struct entry_text *)b)->text);
}

/* Samples that are named would say nothing of what is not: `ax1` fits both `a*` and `ax1*`. */
static void choose_samples(struct diffing *d, const struct entry_text *all, size_t n)
{
        uint32_t hash = 0;
        bool taken = true;

        for (size_t i = 0; i < n; i++)
                hash = hash * 31 + str_hash_fold(str_of(all[i].text));
        /* After the first they depend on the policies, so that no file can take them all. */
        for (uint32_t number = 1; taken; number = number == 1 ? hash | 2 : number + 1) {
                snprintf(d->rest, sizeof(d->rest), "x%u", number);
                snprintf(d->other, sizeof(d->other), number > 1 ? "elsewhere%u" : "elsewhere",
                        number);
                taken = false;
                for (size_t i = 0; i < n && !taken; i++)
                        taken = strcasestr(all[i].text, d->rest) ||
                                strcasestr(all[i].text, d->other);
        }
}

void diff_number_texts(struct diffing *d)
{
        struct side *sides = d->sides;
        size_t n = sides[0].policy->n_entries + sides[1].policy->n_entries, k = 0;
        struct entry_text *all = must(calloc(n + 1, sizeof(*all)));
        unsigned number = 0;

        for (int s = 0; s < 2; s++) {
                const struct policy *policy = sides[s].policy;
                sides[s].texts = must(calloc(policy->n_entries + 1, sizeof(unsigned)));
                for (size_t i = 0; i < policy->n_entries; i++)
                        all[k++] = (struct entry_text){
                                text_of(&policy->entries[i]), &sides[s].texts[i]};
        }
        choose_samples(d, all, n);
        qsort(all, n, sizeof(*all), by_text);
        for (size_t i = 0; i < n; i++) {
                if (i && strcmp(all[i - 1].text, all[i].text) != 0)
                        number++;
                *all[i].number = number;
        }
        for (size_t i = 0; i < n; i++)
                free(all[i].text);
        free(all);
}

/* --- what is in play for an operation --- */

static void begin_play(struct side *side)
{
        side->n = 0;
        side->stamp++;
}

static void add_in_play(struct side *side, size_t index)
{
        if (side->stamps[index] == side->stamp)
                return;
        side->stamps[index] = side->stamp;
        side->text_stamps[side->texts[index]] = side->stamp;
        side->in_play = grow(side->in_play, side->n, &side->cap, sizeof(struct entry *));
        side->in_play[side->n++] = &side->policy->entries[index];
}

void diff_put_in_play(struct side *side, unsigned slot)
{
        begin_play(side);
        for (size_t g = 0; side->grants && g < side->grants->n; g++) {
                const struct role *role = side->grants->grants[g].role;
                const struct op_class *class = &role->classes[role->class_of[slot]];
                for (unsigned i = class->start; i < class->end; i++)
                        add_in_play(side, role->list[i]);
        }
}

bool diff_has_text(const struct side *side, unsigned text)
{
        return side->text_stamps[text] == side->stamp;
}

bool diff_all_in(const struct side *part, const struct side *whole)
{
        for (size_t i = 0; i < part->n; i++)
                if (!diff_has_text(whole, part->texts[part->in_play[i] - part->policy->entries]))
                        return false;
        return true;
}

/* --- what can matter --- */

static bool may_be_one(const struct pattern *a, const struct pattern *b)
{
        if (a->id != b->id)
                return true; /* a name and an id, or what begins so: nobody knows */
        if (!str_is_ascii(a->text) || !str_is_ascii(b->text))
                return true; /* upstream may fold them */
        if (a->prefix && (b->prefix ? b->text.len >= a->text.len : true))
                return str_starts_fold(b->text, a->text);
        return b->prefix ? str_starts_fold(a->text, b->text) : str_eq_fold(a->text, b->text);
}

static bool may_meet(const struct selector *a, const struct selector *b)
{
        for (size_t i = 0; i < a->n; i++)
                for (size_t k = 0; k < b->n; k++)
                        if (may_be_one(&a->values[i].name, &b->values[k].name))
                                return true;
        return false;
}

/* Whether some request may match both, as far as resources tell. */
static bool may_match_both(const struct entry *a, const struct entry *b)
{
        for (size_t i = 0; i < a->n_selectors; i++)
                for (size_t k = 0; k < b->n_selectors; k++)
                        if (a->selectors[i].kind == b->selectors[k].kind &&
                                !may_meet(&a->selectors[i], &b->selectors[k]))
                                return false;
        return true;
}

static void note_relevant(struct side *side, const struct entry *changed)
{
        for (size_t i = 0; i < side->n; i++) {
                bool *relevant = &side->relevant[side->in_play[i] - side->policy->entries];
                *relevant = *relevant || may_match_both(side->in_play[i], changed);
        }
}

/* A request that is decided otherwise matches an entry that came or went; so only these matter, and
 * what a request can match beside one of them. */
void diff_find_relevant(struct diffing *d)
{
        size_t n_changed = 0;

        for (int s = 0; s < 2; s++) {
                struct side *side = &d->sides[s];
                begin_play(side);
                for (size_t g = 0; side->grants && g < side->grants->n; g++) {
                        const struct role *role = side->grants->grants[g].role;
                        for (size_t i = 0; i < role->n; i++)
                                add_in_play(side, role->first + i);
                }
                memset(side->relevant, 0, side->policy->n_entries * sizeof(bool));
        }
        for (int s = 0; s < 2; s++) {
                const struct side *side = &d->sides[s];
                for (size_t i = 0; i < side->n; i++) {
                        const struct entry *entry = side->in_play[i];
                        if (diff_has_text(
                                    &d->sides[!s], side->texts[entry - side->policy->entries]))
                                continue;
                        for (int k = 0; k < 2 && n_changed < MOST_CHANGED; k++)
                                note_relevant(&d->sides[k], entry);
                        n_changed++;
                }
        }
        /* Too many to tell apart: all may. */
        for (int s = 0; s < 2 && n_changed > MOST_CHANGED; s++)
                for (size_t i = 0; i < d->sides[s].policy->n_entries; i++)
                        d->sides[s].relevant[i] = true;
}

void diff_keep_relevant(struct side *side)
{
        size_t n = 0;

        for (size_t i = 0; i < side->n; i++)
                if (side->relevant[side->in_play[i] - side->policy->entries])
                        side->in_play[n++] = side->in_play[i];
        side->n = n;
}
