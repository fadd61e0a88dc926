/*
 * Names that a test decides about: preloaded, it stands before libc's getaddrinfo. The file
 * DAGWARD_HOSTS_FILE has a line for each name, `name address address ...`, in the order that is to
 * be told; it may be written anew (in place) at any time. A name without an address is not found,
 * one with `again` fails for now, one with `later` is not answered before its line says something
 * else. What is a literal address is left to libc.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int hosts = -1;

__attribute__((constructor)) static void begin(void)
{
        const char *name = getenv("DAGWARD_HOSTS_FILE");

        if (name)
                hosts = open(name, O_RDONLY | O_CLOEXEC); /* before it is confined */
}

enum { LATER = 12345 };

typedef int lookup(
        const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **out);

static int append(lookup *libc, const char *address, const char *service,
        const struct addrinfo *hints, struct addrinfo **end)
{
        struct addrinfo numeric = *hints;

        numeric.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
        return libc(address, service, &numeric, end);
}

static int look_up(lookup *libc, const char *node, const char *service,
        const struct addrinfo *hints, struct addrinfo **out)
{
        char text[4096], *line, *lines = text;
        struct addrinfo **end = out;
        ssize_t n = pread(hosts, text, sizeof(text) - 1, 0);

        text[n > 0 ? n : 0] = '\0';
        *out = NULL;
        while ((line = strsep(&lines, "\n")) != NULL) {
                char *name = strsep(&line, " "), *address;
                if (strcmp(name, node) != 0)
                        continue;
                while ((address = strsep(&line, " ")) != NULL) {
                        if (strcmp(address, "later") == 0)
                                return LATER;
                        if (strcmp(address, "again") == 0)
                                return EAI_AGAIN;
                        if (*address && append(libc, address, service, hints, end) == 0)
                                end = &(*end)->ai_next;
                }
        }
        return *out ? 0 : EAI_NONAME;
}

int getaddrinfo(
        const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **out)
{
        lookup *libc;
        int found;

        *(void **)&libc = dlsym(RTLD_NEXT, "getaddrinfo");
        if (hosts < 0 || !node || !hints || hints->ai_flags & AI_NUMERICHOST)
                return libc(node, service, hints, out);
        while ((found = look_up(libc, node, service, hints, out)) == LATER)
                usleep(20 * 1000);
        return found;
}
