#!/bin/bash
# Checks who includes whom: a module includes base, itself and the modules its floor allows
# (docs/architecture.md). Prints every include that breaks a rule; exit status 1 if there is one.
set -u
cd "$(dirname "$0")/.." || exit 2

declare -A allowed=(
    [base]=""
    [yaml]="base"
    [http]="base"
    [token]="base"
    [azdo]="base"
    [policy]="base yaml azdo"
    [credential]="base"
    [audit]="base"
    [trigger]="base"
    [config]="base yaml"
    [net]="base"
    [confine]="base"
    [sink]="base audit credential net"
    [world]="base yaml http token azdo policy credential audit config net confine"
    [control]="base http token azdo policy credential audit config net sink world"
    [doctor]="base http token azdo policy audit config net world control"
    [worker]="base http token azdo policy credential audit trigger config net world"
)
bad=0
complain() { echo "floors: $*"; bad=1; }

for module in "${!allowed[@]}"; do
    while IFS=: read -r file line text; do
        used=$(sed -n 's|.*"dagward/\([a-z]*\)/.*|\1|p' <<<"$text")
        [[ -z $used || $used == "$module" || " ${allowed[$module]} " == *" $used "* ]] && continue
        complain "$file:$line: $module may not include $used"
    done < <(grep -nH '#include "dagward/' "src/$module"/* "include/dagward/$module"/* 2>/dev/null)
done

# only FILES... may match PATTERN: what a library's name may be used by.
only() {
    local pattern=$1 file
    shift
    while read -r file; do
        [[ " $* " == *" $file "* ]] || complain "$file names $pattern"
    done < <(grep -lE "$pattern" -r src include)
}
only '\bCURL\b|curl/curl\.h' src/net/fetch.c
only '\bjwt_t\b|#include <jwt\.h>' src/token/mint.c
only '#include <yaml\.h>' src/yaml/yaml_load.c
for file in $(grep -lE '#include <openssl/' -r src include); do
    case $file in
    src/token/* | include/dagward/token/* | src/audit/chain.c | src/audit/signing.c | \
        src/trigger/key.c | src/net/tls.c | src/net/stream.c | src/net/certificate.c | src/net/dial.c | \
        include/dagward/net/tls.h | include/dagward/net/stream.h) ;;
    *) complain "$file includes OpenSSL" ;;
    esac
done
# A worker never opens files, resolves names or waits.
for word in 'fopen\(' '\bopen\(' 'getaddrinfo\(' 'usleep\(' '\bsleep\(' 'pthread_mutex'; do
    for file in $(grep -lE "$word" src/worker/*.c); do complain "$file uses $word"; done
done
for file in $(grep -lE 'pthread_mutex' -r src include); do
    [[ $file == src/base/mailbox.c ]] || complain "$file has a mutex"
done
for file in $(grep -lE '\batomic_|_Atomic' -r src include); do
    case $file in
    src/base/snapshot.c | include/dagward/base/snapshot.h | src/base/mailbox.c | \
        src/base/log.c | src/world/budget.c) ;;
    # What is learnt of a key while it is used: a count and a table, by src/token/fixed_base.h.
    src/token/fixed_base.h | src/token/keyset.c | src/token/verify.c) ;;
    *) complain "$file has an atomic" ;;
    esac
done
((bad)) || echo "floors: every include is allowed"
exit $bad
