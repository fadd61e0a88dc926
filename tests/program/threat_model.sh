#!/bin/bash
# Whether every test and every file that docs/threat-model.md names exists. Usage: threat_model.sh SOURCE_DIR
set -u
cd "$1" || exit 2
page=docs/threat-model.md failed=0 n=0
complain() { echo "threat model: $*" >&2; failed=1; }

while IFS= read -r name; do
    file=tests/${name%%::*} test=${name##*::}
    n=$((n + 1))
    [[ -f $file ]] || { complain "no $file"; continue; }
    [[ $name == *::* ]] || continue
    case $file in
    *.py) grep -qE "^def $test\(" "$file" || complain "no $test in $file" ;;
    *.c) grep -qE "cmocka_unit_test[a-z_]*\($test\b" "$file" || complain "$file does not run $test" ;;
    *) complain "$name?" ;;
    esac
done < <(grep -oE '`(unit|integration|differential|program)/[A-Za-z0-9_/]+\.(py|c|sh)(::[A-Za-z0-9_]+)?`' "$page" | tr -d '`')
while IFS= read -r path; do
    n=$((n + 1))
    [[ -e $path ]] || complain "no $path"
done < <(grep -oE '`(src|proxy|docker)/[A-Za-z0-9_/.]*`' "$page" | tr -d '`')
((n > 100)) || complain "only $n names were found: is the page written otherwise now?"
((failed)) || echo "threat model: $n names exist"
exit $failed
