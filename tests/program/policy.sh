#!/bin/sh
# `dagward policy`: exit status and what it prints. Usage: policy.sh PROGRAM SOURCE_DIR
set -u
program=$1 source=$2 python=${3-/usr/bin/python3}
policies=$source/policies
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failed=0

# expect STATUS WHAT ARGUMENT...: the program's status, its output in $work/out and $work/err
expect() {
        wanted=$1 what=$2
        shift 2
        "$program" policy "$@" >"$work/out" 2>"$work/err" </dev/null
        status=$?
        if [ $status -ne "$wanted" ]; then
                echo "FAILED: $what: status $status, not $wanted"
                cat "$work/out" "$work/err"
                failed=1
        fi
}

# says FILE TEXT: the output has that text
says() {
        if ! grep -qF -- "$2" "$work/$1"; then
                echo "FAILED: $what: no \"$2\" in std$1:"
                cat "$work/$1"
                failed=1
        fi
}

trigger="--policy $policies/trigger-only.yaml"
worker="--issuer airflow --subject system:serviceaccount:airflow:worker"
run42="POST /contoso/analytics/_apis/pipelines/42/runs"
echo '{"resources": {"repositories": {"self": {"refName": "refs/heads/main"}}}}' >"$work/main.json"

expect 0 "tests that pass" test $trigger
says out "11 passed, 0 failed; 2 of 2 entries reached by a test"
expect 0 "two files" test $trigger --policy "$policies/teams.yaml" --verbose
says out "teams.yaml"
sed 's/expect: allow/expect: deny/' "$policies/trigger-only.yaml" >"$work/wrong.yaml"
expect 1 "tests that fail" test --policy "$work/wrong.yaml"
says out "expected deny, was allowed by wrong.yaml:"
expect 1 "the same as JSON" test --policy "$work/wrong.yaml" --json
says out '"passed":false'
sed 's/projects:/project:/' "$policies/trigger-only.yaml" >"$work/bad.yaml"
expect 2 "a policy with errors" test --policy "$work/bad.yaml"
says err "bad.yaml:14:9: no selector \`project\`; did you mean \`projects\`?"
says err "bad.yaml:20:9: "
expect 2 "a file that is not there" test --policy "$work/none.yaml"

expect 0 "an allowed request" explain $trigger $worker $run42 --body "$work/main.json"
says out "ALLOWED"
says out "trigger-only.yaml:"
expect 1 "a denied request" explain $trigger $worker $run42
says out "one that the request does not name: cannot tell, so NO"
expect 1 "a denied request as JSON" explain $trigger $worker --json $run42
says out '"effect":"deny"'
expect 1 "a caller without a binding" explain $trigger --issuer airflow --subject x $run42
says out "no binding applies to this caller"
echo '{"sub": "ann", "roles": ["Viewer"]}' >"$work/ann.json"
expect 0 "claims from a file" explain --policy "$policies/read-only.yaml" --issuer entra \
        --claims "$work/ann.json" GET https://dev.azure.com/contoso/analytics/_apis/build/builds
echo '[]' >"$work/list.json"
expect 2 "claims that are no object" explain $trigger --issuer entra --claims "$work/list.json" $run42
expect 2 "a request that is malformed" explain $trigger $worker GET /contoso/../x
says err "the proxy refuses this request"
expect 1 "a time after the binding's" explain --policy "$policies/artifact-publisher.yaml" \
        --issuer airflow --subject system:serviceaccount:airflow:train-1 --at 2027-01-01 \
        POST /~pkgs/contoso/analytics/_packaging/models/pypi/upload
says out "expired"

expect 0 "who can" who-can --policy "$policies/airflow-roles.yaml" pipelines.runs.run pipelines=42
says out "users (issuer entra; claims.roles User)"
says out "airflow-roles.yaml:20, role User, only: organizations contoso; projects analytics"
expect 1 "nobody can" who-can --policy "$policies/teams.yaml" git.repositories.delete
says out "nobody may do git.repositories.delete"
expect 2 "no operation" who-can --policy "$policies/teams.yaml" git.repositories.remove
expect 2 "no selector" who-can --policy "$policies/teams.yaml" pipelines.runs.run pipeline=42
says err "did you mean \`pipelines\`"
expect 0 "who can as JSON" who-can --policy "$policies/teams.yaml" pipelines.runs.run --json
says out "\"binding\":\"team red\""
for policy in "$policies"/*.yaml; do
        case $policy in */dagward.example.yaml) continue ;; esac
        expect 0 "lint $policy" lint --policy "$policy" --at 2026-12-15
done
expect 1 "lint at another time" lint --policy "$policies/break-glass.yaml" --at 2027-05-01
says out "[expired]"
expect 2 "lint at no time" lint --policy "$policies/break-glass.yaml" --at noon
glass="--policy $policies/break-glass.yaml"
printf '{"sub": "ann", "groups": ["6f2c1f0e-7a52-4d5b-9f0a-3a1f0a6d7c11"]}' >"$work/on-call.json"
ann="--issuer entra --claims $work/on-call.json"
expect 0 "an example of glass" test $glass
says out "7 of 7 entries reached by a test"
expect 1 "no reason, by day" explain $glass $ann $run42 --at 2027-01-13T12:00:00Z
says out "binding emergency would allow it with a reason of 20 characters or more"
says out "break_glass    a reason of 20 characters or more; has none: NO"
says out "where.time     Mon-Thu 22:00-05:00 +01:00; has Wed 2027-01-13T12:00:00.000Z: NO"
expect 0 "a reason" explain $glass $ann $run42 --at 2027-01-13T12:00:00Z --reason "INC-4711, the load hangs"
says out "binding emergency, break-glass)"
expect 0 "the night" explain $glass $ann $run42 --at 2027-01-13T23:00:00Z --reason "INC-4711, the load hangs" --json
says out '"breaks_glass":false'
expect 1 "a reason that is too short" explain $glass $ann $run42 --at 2027-01-13T12:00:00Z --reason "INC-4711"
says out "has one of 8: NO"
expect 2 "a reason of two lines" explain $glass $ann $run42 --reason "INC-4711
is on fire"
says err "the --reason has control characters"
expect 0 "who can, with glass" who-can $glass pipelines.runs.run pipelines=42 --at 2027-01-13
says out "where.time Mon-Thu 22:00-05:00 +01:00"
says out "break-glass: needs a reason of 20 characters or more"
expect 0 "can, with glass" can $glass $ann --at 2027-01-13
says out "break-glass: needs a reason of 20 characters or more"
sed 's/reason_at_least: 20/reason_at_least: 30/; s/22:00-05:00/21:00-05:00/' "$policies/break-glass.yaml" >"$work/glass.yaml"
expect 1 "a difference of glass" diff "$policies/break-glass.yaml" "$work/glass.yaml"
says out "break-glass: needs a reason of 30 characters or more"
says out " at 2024-01-01T20:00:00.000Z (a Monday)"
expect 1 "the same as JSON" diff "$policies/break-glass.yaml" "$work/glass.yaml" --json
says out '"at":"2024-01-01T20:00:00.000Z"'
printf 'version: 1\nroles: {r: {allow: [{operations: ["*"]}]}}\nbindings: [{name: all, callers: {issuer: i}, roles: [r], credential: c, break_glass: true, expires: 2029-01-01}]\n' >"$work/wide-glass.yaml"
expect 1 "lint finds wide glass" lint --policy "$work/wide-glass.yaml"
says out "every caller of the issuer i may break the glass"
says out "may do everything, everywhere"
says out "lasts for more than 90 days [break-glass]"
sed 's/, expires: 2029-01-01//' "$work/wide-glass.yaml" >"$work/endless.yaml"
expect 2 "glass without an end" lint --policy "$work/endless.yaml"
says err "a break-glass binding needs \`expires\`"
printf 'version: 1\nroles: {r: {allow: [{access: [manage]}]}}\nbindings: [{callers: {issuer: i}, roles: [r], credential: c}]\n' >"$work/wide.yaml"
expect 1 "lint finds" lint --policy "$work/wide.yaml"
says out "wide.yaml:2:21: warning:"
says out "[every-project]"
says out "[everybody]"
expect 1 "lint as JSON" lint --policy "$work/wide.yaml" --json
says out "\"check\":\"every-project\""
# lint_says TEXT ENTRY [DENY]: of a role with that entry
lint_says() {
        printf 'version: 1\nroles:\n  r:\n    allow:\n    - %s\n    %s\nbindings: [{callers: {issuer: i, subject: s}, roles: [r], credential: c}]\n' "$2" "${3-}" >"$work/entry.yaml"
        expect 1 "lint of $2 ${3-}" lint --policy "$work/entry.yaml"
        says out "$1"
}
lint_says "entry.yaml:5:7: error: no operation is all that this asks for: it can never match [never-matches]" \
        '{operations: [pipelines.runs.run], access: [read], projects: [a]}'
lint_says "no operation of this entry touches any pipelines" '{operations: [git.fetch], pipelines: [42]}'
lint_says "entry.yaml:6:12: error: no operation of this entry touches any pipelines" '{operations: [git.fetch], projects: [a]}' \
        'deny: [{operations: [git.fetch], pipelines: [42]}]'
lint_says "entry.yaml:5:7: error: no request has a path like this (/contoso/..): it can never match" '{method: GET, path: /contoso/..}'
lint_says "no ref is in \`refs\` and in \`where.refs\` at once" \
        '{operations: [pipelines.runs.run], projects: [a], refs: [refs/heads/main], where: {refs: [refs/heads/x]}}'
lint_says "role r denies all that this allows (entry.yaml:6) [never-allows]" '{operations: [git.fetch], projects: [a], repositories: [x]}' \
        'deny: [{operations: [git.*], projects: ["a*"]}]'
lint_says "where.deleteSourceBranch\` is never \`yes\`: Azure DevOps knows true, false [impossible-value]" \
        '{operations: [git.pullRequests.update], projects: [a], where: {deleteSourceBranch: ["yes"]}}'
lint_says "no binding gives anybody the role \`s\` [unused-role]" '{operations: [git.fetch], projects: [a]}' \
        '
  s: {allow: [{operations: [git.fetch], projects: [b]}]}'
lint_says "has the method GET" '{operations: [pipelines.runs.run], method: GET, projects: [a]}'
lint_says "mixes Latin letters with ones of another alphabet that look like them: U+0430 [look-alike]" \
        '{operations: [pipelines.runs.run], projects: [anаlytics]}'
lint_says "has a character that is not seen: U+200B" '{operations: [pipelines.runs.run], projects: ["b\u200b"]}'
lint_says 'the project `c ` begins or ends with a blank' '{operations: [pipelines.runs.run], projects: ["c "]}'
lint_says "U+2010" '{operations: [pipelines.runs.run], projects: [a‐b]}'
printf 'version: 1\nroles:\n  "ор": {allow: [{operations: [git.fetch], projects: [Москва, größe]}]}\n  etl-0: {allow: [{operations: [git.fetch], projects: [a]}]}\n  etl-O: {allow: [{operations: [git.fetch], projects: [a]}]}\nbindings: [{callers: {issuer: i, subject: "ѕystem:x"}, roles: ["ор", etl-0, etl-O], credential: c}]\n' >"$work/alike.yaml"
expect 1 "lint of names" lint --policy "$work/alike.yaml"
says out "the role \`ор\` has no letter that does not look like a Latin one"
says out "the role \`etl-O\` is easily read as \`etl-0\` (alike.yaml:4)"
says out "the subject \`ѕystem:x\` mixes Latin letters"
says out "3 findings, 0 of them errors"
for s in 0 1; do
        cat <<POLICY >"$work/many-$s.yaml"
version: 1
roles:
  r: {allow: [{operations: [build.builds.list], projects: [$(seq -s, -f p%g $((1 + s)) 900)], pipelines: [$(seq -s, $((1 + s)) 400)]}]}
bindings: [{callers: {issuer: i, subject: s}, roles: [r], credential: c}]
POLICY
done
expect 1 "a difference that is bounded" diff "$work/many-0.yaml" "$work/many-1.yaml" --limit 100
says out "NOT EXHAUSTIVE: 1 operations"
expect 1 "the same as JSON" diff "$work/many-0.yaml" "$work/many-1.yaml" --limit 100 --json
says out '"unfinished":1'
says out '"exhaustive":false'
expect 2 "no limit" diff "$work/many-0.yaml" "$work/many-1.yaml" --limit 0
printf '{"roles": ["User"]}' >"$work/claims.json"
expect 0 "can" can --policy "$policies/airflow-roles.yaml" --issuer entra --subject u --claims "$work/claims.json"
says out "may     operations pipelines.runs.run, build.builds.queue (2 operations), only: organizations contoso; projects analytics; pipelines 42, 57"
says out "airflow-roles.yaml:15, role Viewer, by binding users"
expect 0 "can, with denials first" can --policy "$policies/teams.yaml" --issuer airflow --subject system:serviceaccount:airflow:red-1
says out "may not access manage, delete"
expect 1 "can nothing" can --policy "$policies/teams.yaml" --issuer airflow --subject nobody
expect 0 "can as JSON" can --policy "$policies/airflow-roles.yaml" --issuer entra --claims "$work/claims.json" --json
says out "\"effect\":\"allow\""
expect 0 "no difference" diff "$policies/teams.yaml" "$policies/teams.yaml"
says out "0 more possible, 0 no longer, 0 bindings changed"
sed -e 's/42, 57/42/' -e '/where: {variables: /d' "$policies/airflow-roles.yaml" >"$work/changed.yaml"
expect 1 "a difference" diff "$policies/airflow-roles.yaml" "$work/changed.yaml"
says out "+ may now pipelines.runs.run: organization contoso, project analytics, pipeline 42"
says out "no longer build.builds.queue: organization contoso, project analytics, pipeline 57"
says out 'POST /contoso/analytics/_apis/build/builds {"definition":{"id":57}}'
expect 1 "a difference as Markdown" diff "$policies/airflow-roles.yaml" "$work/changed.yaml" --format markdown
says out '| Operation | Touches | Because | Example |'
expect 1 "a difference as JSON" diff "$policies/airflow-roles.yaml" "$work/changed.yaml" --json
says out '"change":"denied","subject":"role User","operation":"build.builds.queue"'
sed 's/expires: 2027-01-01/expires: 2027-12-31/' "$policies/artifact-publisher.yaml" >"$work/longer.yaml"
expect 1 "a binding that lives longer" diff "$policies/artifact-publisher.yaml" "$work/longer.yaml"
says out "until 2027-12-31"
expect 2 "a difference to nothing" diff "$policies/teams.yaml"
expect 2 "a difference to what is not there" diff "$policies/teams.yaml" "$work/none.yaml"
expect 2 "no such format" diff --format html a b

# What was asked: worker-1 starts 42 (allowed), 99 (denied), and says parameters once.
record() { # TIME SUBJECT PIPELINE EFFECT RULE SAYS
        printf '{"seq":1,"time":"%s","kind":"outcome","correlation_id":"c-%s","caller":{"issuer":"airflow","subject":"%s"},' "$1" "$3" "$2"
        printf '"request":{"method":"POST","path":"/contoso/analytics/_apis/pipelines/%s/runs","operation":"pipelines.runs.run",' "$3"
        printf '"organization":"contoso","project":"analytics","resources":["pipeline:%s","ref:refs/heads/main"]%s},' "$3" "$6"
        printf '"decision":{"effect":"%s","role":"%s","rule":"%s"},"credential":{"name":"etl"},"response":{"status":%s}}\n' \
                "$4" "$(test "$4" = allow && echo starter)" "$5" "$(test "$4" = allow && echo 200 || echo 403)"
}
cat >"$work/live.yaml" <<'POLICY'
version: 1
roles:
  starter:
    allow:
      - {operations: [pipelines.runs.run], projects: [analytics], pipelines: [42, 57]}
      - {operations: [git.fetch], repositories: [analytics/dags]}
bindings:
  - {name: workers, callers: {issuer: airflow, subject: "worker-*"}, roles: [starter], credential: etl}
POLICY
{
        record 2026-01-01T00:00:00Z worker-1 42 allow live.yaml:5 ""
        record 2026-02-01T00:00:00Z worker-2 57 allow live.yaml:5 ',"says":["templateParameters.environment"]'
        record 2026-02-02T00:00:00Z worker-1 99 deny "" ""
        echo '{"seq":2,"time":"2026-01-01T00:00:00Z","kind":"event","event":{"name":"log.opened"}}'
} >"$work/audit.jsonl"
expect 0 "replay: as before" replay --policy "$work/live.yaml" --unverified --log "$work/audit.jsonl"
says out "3 requests: 3 as before, 0 now allowed, 0 now denied, 0 cannot be told"
sed 's/42, 57/42, 99/' "$work/live.yaml" >"$work/moved.yaml"
expect 1 "replay: other answers" replay --policy "$work/moved.yaml" --unverified --log "$work/audit.jsonl"
says out "3 requests: 1 as before, 1 now allowed, 1 now denied, 0 cannot be told"
says out "now allowed, 1 times: pipelines.runs.run by worker-1 (issuer airflow)"
says out "  before: nothing allowed it; after: moved.yaml:5"
says out "audit.jsonl:2, /contoso/analytics/_apis/pipelines/57/runs, c-57"
expect 1 "replay as Markdown" replay --policy "$work/moved.yaml" --format markdown --unverified --log "$work/audit.jsonl"
says out '| `now denied` | `1` | `pipelines.runs.run` | `worker-2 (issuer airflow)` | `live.yaml:5` |  | `c-57` |'
expect 1 "replay as JSON" replay --policy "$work/moved.yaml" --json --unverified --log "$work/audit.jsonl"
says out '"records":3,"same":1,"allowed":1,"denied":1,"unclear":0,"others":1,"damaged":0'
sed 's/57\]}/57], where: {templateParameters: {environment: [test]}}}/' "$work/live.yaml" >"$work/where.yaml"
expect 1 "replay: values are not recorded" replay --policy "$work/where.yaml" --unverified --log "$work/audit.jsonl"
says out "cannot tell, 1 times"
says out "depends on what the record does not tell"
{ cat "$work/audit.jsonl"; printf '{"seq":3,"time":'; } >"$work/torn.jsonl"
expect 1 "replay of a torn log" replay --policy "$work/live.yaml" --unverified --log "$work/torn.jsonl"
says out "1 lines are no audit records"
expect 0 "replay of standard input" replay --policy "$work/live.yaml" --log -
# A log that was changed proves nothing; nor does one that another key signed.
"$python" "$source/tests/bench/audit_log" 40 >"$work/chained.jsonl"
expect 1 "replay of a log that is whole" replay --policy "$work/live.yaml" --log "$work/chained.jsonl"
says out "40 requests: "
gzip -k "$work/chained.jsonl"
expect 0 "suggest from a log that is whole" suggest --log "$work/chained.jsonl.gz"
sed '20s/contoso/fabrikam/' "$work/chained.jsonl" >"$work/edited.jsonl"
for command in replay suggest; do
        expect 2 "$command of a log that was edited" $command --policy "$work/live.yaml" --log "$work/edited.jsonl"
        says err "edited.jsonl:20: edited: "
        says err "nothing is concluded from it"
        if [ -s "$work/out" ]; then
                echo "FAILED: $what: something is concluded"
                failed=1
        fi
done
sed 20d "$work/chained.jsonl" >"$work/deleted.jsonl"
expect 2 "replay of a log with a gap" replay --policy "$work/live.yaml" --log "$work/deleted.jsonl"
says err "deleted.jsonl:20: deleted: "
expect 1 "the same, taken as it is" replay --policy "$work/live.yaml" --log "$work/deleted.jsonl" --unverified
openssl genpkey -algorithm ed25519 2>/dev/null | openssl pkey -pubout >"$work/key.pem" 2>/dev/null
expect 2 "replay of a log that the key did not sign" replay --policy "$work/live.yaml" --log "$work/chained.jsonl" --key "$work/key.pem"
says err "unsigned: "
expect 2 "a key that is none" replay --policy "$work/live.yaml" --log "$work/chained.jsonl" --key "$work/live.yaml"
# What a subcommand would pass over.
for given in "test --at 2027-01-01" "test --issuer airflow" "lint --role x" "who-can --body x" "can --body x" "explain --log x" \
        "replay --since 2027-01-01" "diff --policy x" "diff --at 2027-01-01" "suggest --at 2027-01-01" "lint --unverified"; do
        expect 2 "an option that it does not take: $given" $given --policy "$policies/teams.yaml"
        says err "takes no --"
done
expect 2 "an option twice" lint --policy "$policies/teams.yaml" --at 2027-01-01 --at 2027-01-02
says err "given twice: --at"
set -- --log
for i in $(seq 201); do set -- "$@" /dev/null; done
expect 2 "replay of more logs than it takes" replay --policy "$work/live.yaml" "$@"
says err "too many logs"
expect 2 "replay without a log" replay --policy "$work/live.yaml"
says err "--log FILE is missing"
expect 2 "replay of a log that is not there" replay --policy "$work/live.yaml" --log "$work/none.jsonl"
expect 2 "replay without a policy" replay --unverified --log "$work/audit.jsonl"
expect 0 "suggest" suggest --policy "$work/live.yaml" --unverified --log "$work/audit.jsonl" --since 2026-01-15
says out "live.yaml:6, role starter: never used (operations git.fetch; repositories analytics/dags)"
says out "new since then: pipelines.runs.run by starter: organizations contoso projects analytics pipelines 57"
cp "$work/out" "$work/suggested.yaml"
expect 0 "what is suggested is a policy that allows just that" replay --policy "$work/suggested.yaml" --unverified --log "$work/audit.jsonl"
says out "3 requests: 3 as before"
expect 0 "suggest as JSON" suggest --policy "$work/live.yaml" --unverified --log "$work/audit.jsonl" --json
says out '"used":0'
expect 0 "suggest as Markdown" suggest --unverified --log "$work/audit.jsonl" --format markdown
says out '```yaml'
# What somebody asked for with a `*`, and another's credential, are nobody's to have; a line of text
# stays one.
{
        record 2026-01-01T00:00:00Z worker-1 '4*' allow live.yaml:5 ""
        record 2026-01-01T00:00:00Z 'worker-*' 42 allow live.yaml:5 ""
        record 2026-01-01T00:00:00Z worker-1 group:etl allow live.yaml:5 ""
        record 2026-01-01T00:00:00Z worker-1 42 allow live.yaml:5 ""
        record 2026-01-01T00:00:00Z worker-2 57 allow live.yaml:5 "" | sed 's/"name":"etl"/"name":"admin"/'
        record 2026-01-01T00:00:00Z worker-1 '42\nroles: {}' allow live.yaml:5 ""
} >"$work/hostile.jsonl"
expect 0 "suggest from what somebody wants to be suggested" suggest --unverified --log "$work/hostile.jsonl" --since 2025-01-01
says err "3 requests cannot be named by an entry"
says out '42\x0aroles: {} refs'
if grep -q '\*\|group:\|^roles: {}' "$work/out" || ! grep -A2 -F '["worker-1"]' "$work/out" | grep -q '"etl"' ||
        ! grep -A2 -F '["worker-2"]' "$work/out" | grep -q '"admin"'; then
        echo "FAILED: $what"
        cat "$work/out"
        failed=1
fi
expect 2 "who-can by an id that is misspelt" who-can $trigger pipelines.run.run
says err "did you mean \`pipelines.runs.run\`?"
expect 2 "explain of a method in lower case" explain $trigger $worker post /contoso/a
says err "a method is written in upper case, unlike post"
cat >"$work/builds.yaml" <<'POLICY'
version: 1
roles:
  r: {allow: [{operations: [build.builds.update], projects: [a], pipelines: [42]}]}
POLICY
sed 's/42/42, 43/' "$work/builds.yaml" >"$work/more-builds.yaml"
expect 1 "a difference that upstream would have to tell" diff "$work/builds.yaml" "$work/more-builds.yaml"
says out "NOT EXHAUSTIVE: what 2 entries do hinges on"
says out "  ? cannot be tried: entry more-builds.yaml:3 was added, and what it does to build.builds.update"
expect 1 "the same as JSON" diff "$work/builds.yaml" "$work/more-builds.yaml" --json
says out '"rule":"more-builds.yaml:3","operation":"build.builds.update","operations":1'
expect 1 "the same as Markdown" diff "$work/builds.yaml" "$work/more-builds.yaml" --format markdown
says out '| `role r` | `more-builds.yaml:3` | `added` | `build.builds.update` |'
expect 1 "suggest from nothing" suggest --log /dev/null
expect 2 "suggest since no time" suggest --unverified --log "$work/audit.jsonl" --since yesterday

for subcommand in "test" "lint" "who-can pipelines.runs.run" "can $worker" "explain $worker $run42"; do
        "$program" policy ${subcommand%% *} $trigger --format markdown ${subcommand#"${subcommand%% *}"} >"$work/out" 2>&1
        what="$subcommand as Markdown"
        says out "## "
done
expect 2 "suggest without a log" suggest
says err "--log FILE is missing"
expect 0 "help" --help
expect 0 "help of a subcommand" explain --help
expect 2 "no subcommand"
expect 2 "a misspelt subcommand" explian
says err "did you mean \`explain\`?"
expect 2 "no policy" test
expect 2 "a configuration and a policy" test $trigger --config x
expect 2 "no URL" explain $trigger $worker GET
expect 2 "no issuer" explain $trigger GET /contoso
says err "--issuer NAME is missing"
exit $failed
