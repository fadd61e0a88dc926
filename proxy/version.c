#include <curl/curl.h>
#include <event2/event.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

#include "commands.h"

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZER "address"
#elif defined(__SANITIZE_THREAD__)
#define SANITIZER "thread"
#else
#define SANITIZER "none"
#endif

int command_version(int argc, char **argv)
{
        bool json = argc == 2 && strcmp(argv[1], "--json") == 0;

        if (argc == 2 && strcmp(argv[1], "--help") == 0) {
                puts("usage: dagward version [--json]");
                return EXIT_YES;
        }
        if (argc > 1 && !json) {
                fprintf(stderr, "usage: dagward version [--json]\n");
                return EXIT_USAGE;
        }
        const char *format =
                json ? "{\"version\":\"%s\",\"compiler\":\"%s\",\"sanitizer\":\"%s\",\"libevent\":"
                       "\"%s\","
                       "\"libcurl\":\"%s\",\"openssl\":\"%s\",\"jansson\":\"%s\",\"libyaml\":\"%"
                       "s\"}\n"
                     : "dagward %s\ncompiler   %s\nsanitizer  %s\nlibevent   %s\nlibcurl    %s\n"
                       "openssl    %s\njansson    %s\nlibyaml    %s\n";
        printf(format, DAGWARD_VERSION, __VERSION__, SANITIZER, event_get_version(),
                curl_version_info(CURLVERSION_NOW)->version,
                OpenSSL_version(OPENSSL_VERSION_STRING), JANSSON_VERSION,
                yaml_get_version_string());
        return EXIT_YES;
}
