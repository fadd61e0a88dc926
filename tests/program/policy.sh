#!/bin/sh
# `dagward policy`: exit status and what it prints. Usage: policy.sh PROGRAM SOURCE_DIR
set -u
program=$1 source=$2
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
says out "wide.yaml:2: warning:"
says out "[every-project]"
says out "[everybody]"
expect 1 "lint as JSON" lint --policy "$work/wide.yaml" --json
says out "\"check\":\"every-project\""
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
expect 2 "replay without a policy" replay
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
