#include "redact.h"

enum {
        JWT_LEAST = 16, /* anything shorter is no token */
        PAT_LEAST = 52,
};

static bool alphanumeric(unsigned char c)
{
        return redact_token_char(c) && c != '-' && c != '_';
}

/* Length of a JWT's likeness at the start of `s`: `eyJ`, at least 12 more of the alphabet, a dot
 * and whatever follows of both. 0: none. */
static size_t jwt_like(struct str s)
{
        size_t n = 3;

        if (s.len < JWT_LEAST || memcmp(s.ptr, "eyJ", 3) != 0)
                return 0;
        while (n < s.len && redact_token_char((unsigned char)s.ptr[n]))
                n++;
        if (n + 1 < JWT_LEAST || n == s.len || s.ptr[n] != '.')
                return 0;
        while (n < s.len && (redact_token_char((unsigned char)s.ptr[n]) || s.ptr[n] == '.'))
                n++;
        return n;
}

/* A run of letters and digits as long as an Azure DevOps PAT (52 or 84); hex is a hash. */
static bool pat_like(struct str run)
{
        if (run.len != PAT_LEAST && run.len != 84)
                return false;
        for (size_t i = 0; i < run.len; i++) {
                char c = char_lower(run.ptr[i]);
                if (c > 'f')
                        return true;
        }
        return false;
}

/* The first run of letters and digits of a PAT's length. Looks at the end of where one would have
 * to be, and so at few bytes of ordinary text. */
static bool pat_find(struct str s, size_t *at, size_t *len)
{
        size_t start = 0; /* no run begins before */

        while (s.len - start >= PAT_LEAST) {
                size_t back = start + PAT_LEAST;
                while (back > start && alphanumeric((unsigned char)s.ptr[back - 1]))
                        back--;
                if (back > start) {
                        start = back;
                        continue;
                }
                size_t end = start + PAT_LEAST;
                while (end < s.len && alphanumeric((unsigned char)s.ptr[end]))
                        end++;
                if (pat_like(str_view(s.ptr + start, end - start))) {
                        *at = start;
                        *len = end - start;
                        return true;
                }
                start = end;
        }
        return false;
}

static bool jwt_find(struct str s, size_t *at, size_t *len)
{
        const char *end = s.ptr + s.len, *j = s.ptr + 2;

        while (j < end && (j = memchr(j, 'J', (size_t)(end - j)))) {
                *at = (size_t)(j - 2 - s.ptr);
                *len = jwt_like(str_from(s, *at));
                if (*len)
                        return true;
                j++;
        }
        return false;
}

bool redact_find(struct str s, size_t *at, size_t *len)
{
        size_t pat_at, pat_len;

        if (s.len < JWT_LEAST)
                return false;
        bool jwt = jwt_find(s, at, len);
        if (s.len < PAT_LEAST || !pat_find(jwt ? str_head(s, *at) : s, &pat_at, &pat_len))
                return jwt;
        *at = pat_at;
        *len = pat_len;
        return true;
}

/* Parameters whose values say what was asked for and never who may ask. */
static const struct str harmless[] = {
        STR("api-version"),
        STR("$top"),
        STR("$skip"),
        STR("$expand"),
        STR("$format"),
        STR("service"),
        STR("top"),
        STR("skip"),
        STR("asOf"),
        STR("branchName"),
        STR("buildIds"),
        STR("buildNumber"),
        STR("changeId"),
        STR("definitionId"),
        STR("definitions"),
        STR("deletedFilter"),
        STR("download"),
        STR("endLine"),
        STR("excludeUrls"),
        STR("ids"),
        STR("includeAllProperties"),
        STR("includeCapabilities"),
        STR("includeContent"),
        STR("includeContentMetadata"),
        STR("includeHidden"),
        STR("includeHistory"),
        STR("includeLinks"),
        STR("includeStatuses"),
        STR("isDeleted"),
        STR("latestProcessedChange"),
        STR("lookupIdentities"),
        STR("maxBuildsPerDefinition"),
        STR("maxTime"),
        STR("minTime"),
        STR("orderBy"),
        STR("$orderby"),
        STR("path"),
        STR("pipelineVersion"),
        STR("planId"),
        STR("queryOrder"),
        STR("queues"),
        STR("reasonFilter"),
        STR("recursionLevel"),
        STR("repositoryId"),
        STR("repositoryType"),
        STR("resolveLfs"),
        STR("resultFilter"),
        STR("retry"),
        STR("runId"),
        STR("scopePath"),
        STR("sourceBuildId"),
        STR("startLine"),
        STR("stateFilter"),
        STR("statusFilter"),
        STR("tagFilters"),
        STR("timelineId"),
        STR("type"),
        STR("versionDescriptor.version"),
        STR("versionDescriptor.versionOptions"),
        STR("versionDescriptor.versionType"),
};

bool redact_harmless(struct str name)
{
        for (size_t i = 0; i < sizeof(harmless) / sizeof(harmless[0]); i++)
                if (harmless[i].len == name.len && str_eq_fold(harmless[i], name))
                        return true;
        return false;
}

bool redact_plain_name(struct str name)
{
        if (name.len == 0 || name.len > 40)
                return false;
        for (size_t i = 0; i < name.len; i++) {
                char c = name.ptr[i];
                if (!redact_token_char((unsigned char)c) && c != '.' && c != '$')
                        return false;
        }
        return true;
}
