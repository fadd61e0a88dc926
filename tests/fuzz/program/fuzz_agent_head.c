/* A request to the agent: what it sends on is one request, with the agent's token as the only
 * credential and nothing that the connection names. The static functions are reached by including
 * their file. */
#include <assert.h>

#include "../../../proxy/agent_connection.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct h1_request request, sent;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const struct h1_limits limits = {HEAD_MOST, 32 * 1024, H1_MAX_FIELDS};
        static const struct h1_limits wide = {2 * HEAD_MOST, 40 * 1024, H1_MAX_FIELDS};
        struct h1_fault fault;
        size_t scanned = 0, credentials = 0, agents = 0;
        struct secret token = {0};
        struct buf out;

        if (h1_parse_request((const char *)data, size, &scanned, &limits, &request, &fault) <= 0)
                return 0;
        (void)is_of_a_browser(&request);
        secret_set(&token, STR("the-token"));
        buf_init(&out, 4 * HEAD_MOST);
        assert(compose(&request, &token, &out));
        scanned = 0;
        ssize_t got = h1_parse_request(out.data, out.len, &scanned, &wide, &sent, &fault);
        /* Three fields of its own may be too many for another parser of the same kind. */
        if (got == H1_BAD) {
                assert(request.n_fields + 3 > H1_MAX_FIELDS);
        } else {
                assert(got == (ssize_t)out.len);
                assert(str_eq(sent.method, request.method) && str_eq(sent.target, request.target));
                assert(sent.framing == request.framing &&
                        sent.content_length == request.content_length);
                assert(!sent.keep_alive);
                for (size_t i = 0; i < sent.n_fields; i++) {
                        struct str name = sent.fields[i].name, value = sent.fields[i].value;
                        if (str_eq_fold(name, STR("Authorization"))) {
                                assert(str_eq(value, STR("Bearer the-token")));
                                credentials++;
                        }
                        agents += str_eq_fold(name, STR("X-Dagward-Agent"));
                        assert(!str_eq_fold(name, STR("X-Dagward-Token")));
                        assert(!str_eq_fold(name, STR("Cookie")));
                }
                assert(credentials == 1 && agents == 1);
        }
        buf_clear(&out);
        secret_drop(&token);
        return 0;
}
