/*
 * mutants: small changes to raw messages, the same ones in every run.
 *
 * Bytes that matter to some parser are put in, put over or taken out, and lines are doubled: what
 * survives our parser after that is what the others must agree on.
 */
#ifndef TESTS_DIFFERENTIAL_MUTANTS_H
#define TESTS_DIFFERENTIAL_MUTANTS_H

#include "../unit/http/messages.h"

static inline uint32_t mutants_random(uint32_t *state)
{
        *state ^= *state << 13;
        *state ^= *state >> 17;
        *state ^= *state << 5;
        return *state;
}

/* Puts `len` bytes in at `at`. */
static inline void mutants_insert(
        struct message_case *message, size_t at, const char *bytes, size_t len)
{
        if (message->len + len > MESSAGE_BYTES)
                return;
        memmove(message->raw + at + len, message->raw + at, message->len - at);
        memcpy(message->raw + at, bytes, len);
        message->len += len;
}

/* Doubles the line that `at` stands in. */
static inline void mutants_double_line(struct message_case *message, size_t at)
{
        char line[1024];
        size_t from = at, to = at;

        while (from > 0 && message->raw[from - 1] != '\n')
                from--;
        while (to < message->len && message->raw[to++] != '\n')
                ;
        if (to - from > sizeof(line))
                return;
        memcpy(line, message->raw + from, to - from);
        mutants_insert(message, from, line, to - from);
}

/* Changes `message` in one to three places. */
static inline void mutants_change(struct message_case *message, uint32_t *state)
{
        static const char bytes[] =
                "\r\n\t :;,=%#?&/\\\"'0123456789aAfFxXgG+-_.@*\0\x01\x0b\x0c\x7f"
                "\x80\xa0\xff";
        static const char *const words[] = {"chunked", "close", "keep-alive",
                "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n", "Connection: close\r\n",
                "0\r\n\r\n", "\r\n", "\r\n\r\n", " ", ";a=b", ", ", "HTTP/1.0", "POST", "HEAD",
                "Expect: 100-continue\r\n", "X: \r\n", "http://", "TE: trailers\r\n",
                "Proxy-Connection: close\r\n", "Connection: keep-alive, te\r\n",
                "Connection: upgrade\r\n", "; x=\"y\"", "Trailer: x\r\n", "\tx", "%20"};

        for (uint32_t n = 1 + mutants_random(state) % 3; n && message->len; n--) {
                size_t at = mutants_random(state) % message->len;
                char c = bytes[mutants_random(state) % (sizeof(bytes) - 1)];
                const char *word = words[mutants_random(state) % (sizeof(words) / sizeof(*words))];
                switch (mutants_random(state) % 6) {
                case 0: message->raw[at] = c; break;
                case 1: mutants_insert(message, at, &c, 1); break;
                case 2:
                        memmove(message->raw + at, message->raw + at + 1, message->len - at - 1);
                        message->len--;
                        break;
                case 3: mutants_double_line(message, at); break;
                case 4: mutants_insert(message, at, word, strlen(word)); break;
                default: /* at the begin of a line */
                        while (at > 0 && message->raw[at - 1] != '\n')
                                at--;
                        mutants_insert(message, at, word, strlen(word));
                }
        }
}

#endif
