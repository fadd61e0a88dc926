#!/bin/bash
# Whether every test that README.md, SECURITY.md and docs/ name exists, every file that docs/threat-model.md
# names, and whether each class of failure there has a test or says that none can be. Usage: threat_model.sh SOURCE_DIR
set -u
cd "$1" || exit 2
page=docs/threat-model.md failed=0 n=0
complain() { echo "threat model: $*" >&2; failed=1; }

while IFS=: read -r from name; do
    name=${name//\`/}
    name=${name#tests/}
    file=tests/${name%%::*} test=${name##*::}
    n=$((n + 1))
    [[ -f $file ]] || { complain "$from: no $file"; continue; }
    [[ $name == *::* ]] || continue
    case $file in
    *.py) grep -qE "^def $test\(" "$file" || complain "$from: no $test in $file" ;;
    # By name, or by a macro of the file that is short for it.
    *.c) tr -d "[:space:]" <"$file" | grep -qE "(cmocka_unit_test[a-z_]*|\bTEST)\($test\b" || complain "$from: $file does not run $test" ;;
    *) complain "$from: $name?" ;;
    esac
done < <(grep -oE '`(tests/)?(unit|integration|differential|program|fuzz)/[A-Za-z0-9_/]+\.(py|c|sh)(::[A-Za-z0-9_]+)?`' README.md SECURITY.md docs/*.md)
while IFS= read -r path; do
    n=$((n + 1))
    [[ -e $path ]] || complain "no $path"
done < <(grep -oE '`(src|proxy|docker)/[A-Za-z0-9_/.]*`' "$page" | tr -d '`')
# A row of that chapter is a class, its defence and its proof.
rows=0
while IFS='|' read -r _ class _ proof _; do
    [[ $class =~ ^\ ((class|fault)\ $|-)|^- ]] && continue
    rows=$((rows + 1))
    [[ $proof =~ \`(unit|integration|differential|program)/ || $proof == *'no test'* ]] || complain "no proof:$class"
done < <(sed -n '/^## Failure classes/,/^## What the process/p' "$page" | grep '^|')
((n > 200 && rows > 40)) || complain "only $n names and $rows classes were found: is the page written otherwise now?"
((failed)) || echo "threat model: $n names exist, $rows classes have their proof"
exit $failed
