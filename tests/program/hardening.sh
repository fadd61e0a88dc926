#!/bin/bash
# Whether the program was built with what makes a mistake harder to use: looks into the binary.
#
#   tests/program/hardening.sh PROGRAM BUILD-TYPE
#
# Skipped (77) for other builds than Release, with a sanitizer, or without readelf.
set -u
program=$1 type=$2
command -v readelf >/dev/null || exit 77
[[ $type == Release ]] || exit 77
"$program" version | grep -q '^sanitizer *none' || exit 77

failed=0
# has WHAT PATTERN TEXT: complains unless the text has it.
has() { grep -qE "$2" <<<"$3" || { echo "hardening: no $1" >&2; failed=1; }; }
hasnt() { ! grep -qE "$2" <<<"$3" || { echo "hardening: $1" >&2; failed=1; }; }

header=$(readelf -W -h "$program")
segments=$(readelf -W -l "$program")
dynamic=$(readelf -W -d "$program")
symbols=$(readelf -W --dyn-syms "$program")

has "position independent program" 'Type: +DYN' "$header"
has "PIE flag" 'FLAGS_1.*PIE' "$dynamic"
has "immediate binding" 'FLAGS_1.*NOW|BIND_NOW' "$dynamic"
has "read-only relocations" 'GNU_RELRO' "$segments"
has "stack without code" 'GNU_STACK +.* RW +' "$segments"
hasnt "memory that is written and run" ' RWE ' "$segments"
hasnt "relocations in code" 'TEXTREL' "$dynamic"
hasnt "a path of the build machine for libraries" '(RPATH|RUNPATH)' "$dynamic"
has "stack protector" '__stack_chk_fail' "$symbols"
has "checked copies (_FORTIFY_SOURCE)" '__(memcpy|snprintf|vsnprintf|strcpy)_chk' "$symbols"
case $(uname -m) in
x86_64)
    # The note that the kernel looks for is there only where the C library was built so, too.
    code=$(objdump -d --no-show-raw-insn "$program" 2>/dev/null)
    if [[ -n $code ]]; then
        has "landing pads for indirect branches (-fcf-protection)" '\<endbr64' "$code"
        # A frame larger than a page is touched page by page.
        has "stack clash protection" '\<or[lq] +\$0x0,.*\(%rsp' "$code"
    fi
    ;;
aarch64)
    code=$(objdump -d --no-show-raw-insn "$program" 2>/dev/null)
    [[ -z $code ]] || has "signed return addresses" '\<paciasp' "$code"
    ;;
esac
((failed)) || echo "hardening: all there"
exit $failed
