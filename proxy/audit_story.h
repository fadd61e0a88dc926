/*
 * audit_story: the records of one story, in order of time, for people and programs.
 */
#ifndef DAGWARD_PROXY_AUDIT_STORY_H
#define DAGWARD_PROXY_AUDIT_STORY_H

#include "dagward/audit/read.h"
#include "dagward/base/report.h"

/* Why a record belongs to the story. */
enum story_tie {
        TIE_ID = 1 << 0,   /* it has the id that was asked for */
        TIE_RUN = 1 << 1,  /* it started the run, or is about it */
        TIE_TASK = 1 << 2, /* its caller claims the same Airflow task */
};

struct story_record {
        struct str line; /* the bytes of the log; owned by the story's maker */
        const char *file;
        uint64_t at; /* offset in the file's text */
        int64_t time_ms;
        uint64_t seq;
        unsigned ties;
        bool intact; /* its bytes are those that its own hash is of */
};

struct story {
        const char *asked; /* as the user wrote it */
        struct story_record *records;
        size_t n;
        size_t left_out; /* records that there was no room for */
        size_t damaged;  /* lines met that are no record */
        size_t n_files;
};

void story_print(const struct story *story, enum report_format format);

#endif
