/*
 * settings: the table of everything that can be configured. Private to config.
 *
 * One row per setting. Reading, defaults, the JSON Schema and the Markdown reference walk the same
 * rows; nothing about a setting is said anywhere else but what only makes sense across settings
 * (config_check.c).
 */
#ifndef DAGWARD_CONFIG_SETTINGS_H
#define DAGWARD_CONFIG_SETTINGS_H

#include "dagward/config/config.h"
#include "dagward/yaml/yaml.h"

enum setting_type {
        SETTING_TEXT,     /* struct str */
        SETTING_NAME,     /* struct str: letters, digits, `.`, `_`, `-` */
        SETTING_PATH,     /* struct str, joined to the folder of the file */
        SETTING_TEXTS,    /* struct str * and a count; one text is a list of one */
        SETTING_PATHS,    /* the same, joined */
        SETTING_PAIRS,    /* struct pair * and a count: a mapping of text to text */
        SETTING_HOSTS,    /* struct config_host * and a count: a mapping of host to origin */
        SETTING_BOOL,     /* bool */
        SETTING_COUNT,    /* uint64_t */
        SETTING_AUTO,     /* uint64_t, or `auto`, which is 0 */
        SETTING_DURATION, /* int64_t, ms */
        SETTING_SIZE,     /* uint64_t, bytes */
        SETTING_CHOICE,   /* an enum */
        SETTING_CHOICES,  /* struct str * and a count, each one of the choices */
        SETTING_ADDRESS,  /* struct config_address */
        SETTING_URL,      /* struct config_url */
        SETTING_BASE_URL, /* struct config_url without query, slash at the end left off */
        SETTING_ORIGIN,   /* struct config_url without path */
        SETTING_SECTION,  /* a struct embedded in this one */
        SETTING_SECTIONS, /* pointer to structs and a count */
};

struct choice {
        const char *name; /* NULL ends the list */
        unsigned value;
        bool later; /* known, but not available yet */
        const char *help;
};

struct settings;

struct setting {
        const char *key;
        enum setting_type type;
        bool required;
        bool restart;        /* a reload does not change it; not on sections */
        size_t offset;       /* in the struct that the table fills */
        size_t count_offset; /* lists: of the count; sections: of the bool "is there", or 0 */
        uint64_t least;      /* counts, durations (ms), sizes (bytes): range; lists: items */
        uint64_t most;
        const char *fallback; /* the default as one would write it; lists with ", " */
        const struct choice *choices;
        const struct settings *section;
        const char *without; /* what holds when there is no default, for the reference */
        const char *word;    /* sections: a word that may stand in its place, */
        size_t word_offset;  /* and the bool that it sets */
        const char *help;
};

/* The rows of one mapping. */
struct settings {
        const struct setting *rows;
        size_t n;
        size_t bytes; /* of the struct */
};

extern const struct settings settings_root;
extern const struct settings settings_credentials;    /* settings_credential.c */
extern const struct settings settings_limits;         /* settings_limits.c */
extern const struct settings settings_outgoing_proxy; /* config_proxy.c */
extern const struct settings settings_sinks;          /* settings_sink.c */
/* settings_evidence.c */
extern const struct settings settings_audit, settings_idempotency, settings_correlation;

/* For tables. */
#define SECOND 1000ull
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define KIB 1024ull
#define MIB (1024 * KIB)

#define TABLE(type, list)                                                                          \
        {                                                                                          \
                .rows = (list), .n = sizeof(list) / sizeof(*(list)), .bytes = sizeof(type),        \
        }
#define AT(type, field) .offset = offsetof(struct type, field)
#define LIST(type, field) AT(type, field), .count_offset = offsetof(struct type, n_##field)

/* The file being read. */
struct reader {
        struct config *config;
        struct yaml_document *doc;
        struct error_list *errors;
        const char *folder; /* without slash at the end; "" for none */
        const char *(*environment)(const char *name);
        struct buf boot;  /* becomes config->boot */
        size_t place_cap; /* of config->places */
};

struct config_place {
        const void *field;
        struct mark at;
};

/* config_env.c: replaces ${env:NAME} in all values and reports values that look like secrets. */
void config_expand(struct reader *r);
/* Whether config_expand reported the value: nothing more is to be said about it, or shown. */
bool config_expand_failed(const struct yaml_node *node);
/* config_read.c: fills `config` from the tree. */
void config_read(struct reader *r);
void config_place_add(struct reader *r, const void *field, struct mark at);
/* config_check.c: fills credentials from the environment, checks what spans settings. */
void config_check(struct reader *r);
/* Whether the file has the setting that is stored at `field`. */
bool config_given(const struct reader *r, const void *field);
/* The place of a setting, or of the section around it when the file does not have it. */
struct mark config_at(const struct reader *r, const void *field, const void *section);
/* Keys and secrets are worth TLS even inside a cluster: there is no way to allow plain http. */
void config_check_confidential(struct reader *r, const char *key, const struct config_url *url);
/* config_credential.c */
void config_check_credentials(struct reader *r);
/* config_limits.c */
void config_check_limits(struct reader *r);
/* config_proxy.c: looks into the environment, if that is wanted. */
void config_check_outgoing_proxy(struct reader *r);
/* config_sink.c */
void config_check_sinks(struct reader *r);

/* "90s", "24h"; "1MiB": in the largest unit that divides it. */
void config_duration_text(uint64_t ms, char out[32]);
void config_size_text(uint64_t bytes, char out[32]);

/* Never NULL: configuration files are far smaller than the arena's ceiling allows. */
void *config_alloc(struct reader *r, size_t bytes);

#endif
