#!/bin/sh
# `dagward check`: exit status and where its messages go. Usage: check.sh PROGRAM SOURCE_DIR
set -u
program=$1 source=$2
data=$source/tests/unit/world/data/preflight
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failed=0

# expect STATUS WHAT ARGUMENT...: the program's status, its output in $work/out and $work/err
expect() {
        wanted=$1 what=$2
        shift 2
        "$program" check "$@" >"$work/out" 2>"$work/err"
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

expect 0 "a good configuration" --config "$data/good.yaml"
says out "tests: 1 passed, 0 failed"

expect 0 "the example without its files" --config "$source/policies/dagward.example.yaml" --no-files
expect 2 "files that are missing" --config "$data/files.yaml"
says err "files.yaml:6:52: "
expect 2 "names that do not exist" --config "$data/cross.yaml"
says err "did you mean \`airflow\`?"
expect 2 "a file that is not there" --config "$work/none.yaml"
says err "No such file or directory"

sed 's/expect: allow/expect: deny/' "$data/policy.yaml" >"$work/policy.yaml"
sed "s#^policy:.*#policy: {files: policy.yaml}#" "$data/good.yaml" >"$work/config.yaml"
expect 1 "a policy test that fails" --config "$work/config.yaml" --no-files
says err "policy.yaml:11:5: FAILED"
expect 1 "the same as JSON" --config "$work/config.yaml" --no-files --json
says out '"valid":true'
says out '"failed":1'

expect 0 "the configuration's schema" --schema config
cmp -s "$work/out" "$source/policies/config.schema.json" || { echo "FAILED: config schema"; failed=1; }
expect 0 "the policy's schema" --schema policy
cmp -s "$work/out" "$source/policies/policy.schema.json" || { echo "FAILED: policy schema"; failed=1; }
expect 2 "an unknown schema" --schema other
expect 0 "the reference" --reference
says out '| `audiences` |'
expect 0 "help" --help
expect 2 "no configuration"
expect 2 "an unknown option" --frobnicate
expect 2 "too much" --config "$data/good.yaml" more

exit $failed
