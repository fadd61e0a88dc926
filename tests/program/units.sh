#!/bin/bash
# Whether systemd understands the units, and how much the service is left with.
#
#   tests/program/units.sh PROGRAM DOCKER-FOLDER
#
# Skipped (77) without systemd-analyze.
set -u
program=$(realpath "$1") units=$2
command -v systemd-analyze >/dev/null || exit 77
most=15 # of 100; systemd-analyze prints it divided by ten

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# The account is made by the package; the program is where it was built.
sed -e "s|/usr/bin/dagward|$program|" -e 's|^User=.*|User=daemon|' -e 's|^Group=.*|Group=daemon|' \
    "$units/dagward.service" >"$folder/dagward.service"
cp "$units/dagward.socket" "$folder"
# As it is installed once more, for instances of which one takes the place of another.
cp "$folder/dagward.service" "$folder/dagward@.service"

failed=0
told=$(systemd-analyze verify --man=no "$folder/dagward.service" "$folder/dagward.socket" \
    "$folder/dagward@blue.service" 2>&1)
status=$?
# Of other units of this machine it may say what it likes.
if ((status)) || grep -q "$folder\|dagward\(@blue\)\?\.\(service\|socket\)" <<<"$told"; then
    echo "units: verify ($status): $told" >&2
    failed=1
fi
told=$(systemd-analyze security --offline=true --no-pager --threshold=$most "$folder/dagward.service" 2>&1) || {
    echo "units: the exposure is over $most of 100" >&2
    failed=1
}
grep 'Overall exposure' <<<"$told"
exit $failed
