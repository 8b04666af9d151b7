#!/bin/sh
# Uploads a file by BITS with nothing but curl.
#
#   upload.sh FILE URL [CURL-OPTION...]
#   upload.sh report.7z http://server:8080/images/report.7z
#   upload.sh report.7z https://server/images/report.7z --negotiate --user :
#
# A connection that breaks is tried again. If the script itself was stopped, run it
# again in the same way: it goes on where the server has got to. Until the upload is
# done, FILE.bits-upload holds the session.
#
# BITS_FRAGMENT        largest fragment, in bytes (default 4194304)
# BITS_TRIES           attempts without progress before giving up (default 10)
# BITS_RETRY_SECONDS   pause between two attempts (default 5)
#
# Exit code: 0 uploaded, 1 it did not work, 2 wrong usage.

set -eu

fail() {
    printf 'upload.sh: %s\n' "$1" >&2
    exit 1
}

if [ "$#" -lt 2 ]; then
    echo 'usage: upload.sh FILE URL [CURL-OPTION...]' >&2
    exit 2
fi
file=$1
url=$2
shift 2
case $file in -*) file=./$file ;; esac

command -v curl >/dev/null || fail 'curl is not installed'
[ -f "$file" ] || fail "no such file: $file"
[ -r "$file" ] || fail "cannot read $file"

fragment=${BITS_FRAGMENT:-4194304}
maximum_tries=${BITS_TRIES:-10}
pause=${BITS_RETRY_SECONDS:-5}
size=$(($(wc -c <"$file")))
notes=$file.bits-upload
tries=0

answer=$(mktemp)
trap 'rm -f "$answer"' EXIT
trap 'exit 1' HUP INT TERM

# packet TYPE [CURL-OPTION...]: sends a packet with stdin as its body; the Ack's header
# is then in $answer. curl reads all of its input first, so Content-Length is right.
packet() {
    type=$1
    shift
    curl --silent --show-error --globoff --request BITS_POST \
        --header "BITS-Packet-Type: $type" \
        --header 'Content-Type:' --header 'Expect:' \
        --data-binary @- --dump-header "$answer" --output /dev/null \
        "$@" --url "$url"
}

# Of several headers, such as those of a 401 and of what followed, the last one counts.
status() {
    awk '/^HTTP\// { status = $2 } END { print status }' "$answer"
}

# header NAME: the value of a field; NAME in lower case.
header() {
    tr -d '\r' <"$answer" | awk -v name="$1:" '
        /^HTTP\// { value = "" }
        tolower($1) == name { value = $2 }
        END { print value }'
}

# refused TYPE: says why, and ends.
refused() {
    [ "$(status)" != 413 ] ||
        fail "HTTP 413: a proxy takes no $fragment bytes at once; lower BITS_FRAGMENT"
    [ -n "$(header bits-packet-type)" ] ||
        fail "HTTP $(status) without an Ack: $url takes no BITS uploads"
    code=$(header bits-error-code)
    fail "$1 refused with HTTP $(status), see: bitsd explain ${code:-$(status)}"
}

# try_again REASON: waits, or ends after too many attempts without progress.
try_again() {
    tries=$((tries + 1))
    [ "$tries" -lt "$maximum_tries" ] || fail "gave up after $tries attempts: $1"
    printf 'upload.sh: %s; trying again in %s s\n' "$1" "$pause" >&2
    sleep "$pause"
}

# ask TYPE [CURL-OPTION...]: a packet without a body, until it is answered with
# something that is not a request to come again.
ask() {
    while :; do
        if ! packet "$@" </dev/null; then
            try_again 'no answer'
        elif is_busy; then
            try_again "HTTP $(status)"
        else
            return 0
        fi
    done
}

# The answers after which a BITS client comes again with the same packet.
is_busy() {
    case $(header bits-error-code) in
    0x8020001F | 0x80200020 | 0x80070005 | 0x80070057) return 1 ;;
    esac
    case $(status) in
    501 | 505) return 1 ;;
    408 | 409 | 5??) return 0 ;;
    *) return 1 ;;
    esac
}

# The session is unknown: a BITS client starts over.
is_lost() {
    [ "$(header bits-error-code)" = 0x8020001F ]
}

create() {
    ask Create-Session "$@" \
        --header 'BITS-Supported-Protocols: {7df0354d-249b-430f-820d-3d2a9bef4931}'
    session=$(header bits-session-id)
    [ "$(status)" = 200 ] || refused Create-Session
    [ -n "$session" ] || refused Create-Session
    printf '%s\n%s\n' "$url" "$session" >"$notes" || fail "cannot write $notes"
    offset=0
}

# The session of an earlier run, unless the file changed or goes elsewhere.
resume() {
    [ -f "$notes" ] || return 1
    [ -z "$(find "$file" -prune -newer "$notes")" ] || return 1
    { read -r noted && read -r session; } <"$notes" || return 1
    [ "$noted" = "$url" ] || return 1
    # The last byte alone: it can only be taken if all before it is there, and
    # otherwise the refusal says where to go on.
    offset=$((size > 0 ? size - 1 : 0))
}

# send [CURL-OPTION...]: one fragment from $offset, and what the Ack says about it.
send() {
    length=$((size - offset < fragment ? size - offset : fragment))
    span=$offset-$((offset + length - 1))
    [ "$size" -gt 0 ] || span='*'
    tail -c "+$((offset + 1))" "$file" | head -c "$length" |
        packet Fragment "$@" --header "BITS-Session-Id: $session" \
            --header "Content-Range: bytes $span/$size" || {
        try_again 'the connection broke'
        return 0
    }
    case $(status) in
    200 | 416) follow ;;
    *) if is_lost; then
        try_again 'the server lost the session'
        create "$@"
    elif is_busy; then
        try_again "HTTP $(status)"
    else
        refused Fragment
    fi ;;
    esac
}

# Go on where the server says; it may hold less than was sent, or more.
follow() {
    wanted=$(header bits-received-content-range)
    case $wanted in '' | *[!0-9]*) fail 'an Ack without an offset' ;; esac
    if [ "$(status)" = 416 ]; then
        tries=$((tries + 1))
        [ "$tries" -lt "$maximum_tries" ] || fail "no progress beyond byte $wanted"
        printf 'upload.sh: going on from byte %s\n' "$wanted" >&2
    else
        tries=0
        uploaded=$((wanted >= size))
    fi
    offset=$wanted
    [ ! -t 2 ] || printf '\r%s of %s bytes ' "$offset" "$size" >&2
}

uploaded=0
resume || create "$@"
while [ "$uploaded" -eq 0 ]; do
    send "$@"
done
[ ! -t 2 ] || echo >&2

# If the session is unknown now, an earlier Close arrived and its Ack did not.
ask Close-Session "$@" --header "BITS-Session-Id: $session"
[ "$(status)" = 200 ] || is_lost || refused Close-Session
rm -f "$notes"
printf '%s: %s bytes uploaded\n' "$url" "$size"
