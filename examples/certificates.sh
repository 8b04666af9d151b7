#!/usr/bin/env bash
# A small CA for bitsd: certificates for the server and for those who upload, and the
# list of what is revoked. All files are in the current folder.
#
#   certificates.sh ca                    once: ca.pem, ca.key, an empty crl.pem
#   certificates.sh server NAME...        server.pem and server.key for these names
#   certificates.sh client USER [EMAIL]   USER.pem and USER.key; with P12_PASSWORD set
#                                         also USER.p12, which Windows imports
#   certificates.sh revoke USER           USER.pem counts no more; a new crl.pem
#   certificates.sh crl                   a new crl.pem, before the old one is 30 days old
#
# Then tell the server: kill -HUP its process, or systemctl reload bitsd.
set -euo pipefail
umask 077 # keys are for their owner only

run() { # a command that talks only when it fails
    local said
    said=$("$@" 2>&1) || {
        printf '%s\n' "certificates.sh: $1 $2 failed" "$said" >&2
        exit 1
    }
}

fail() {
    printf 'certificates.sh: %s\n' "$1" >&2
    exit 1
}

plain() { # a name that is safe as the name of a file and in a subject
    [[ $1 =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]] || fail "not a plain name: $1"
}

signed() { # NAME EXTENSIONS SUBJECT: a new key, and its certificate for a year
    run openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
        -keyout "$1.key" -out "$1.csr" -subj "$3"
    printf '%s\n' "basicConstraints = CA:FALSE" "$2" >"$1.ext"
    run openssl ca -batch -notext -config ca.cnf -in "$1.csr" -out "$1.pem" \
        -extfile "$1.ext"
    rm "$1.csr" "$1.ext"
}

new_list() {
    run openssl ca -gencrl -config ca.cnf -out crl.pem
}

usage() {
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

case "${1-}:$#" in
ca:1)
    [ ! -e ca.key ] || fail "there is a CA in this folder"
    cat >ca.cnf <<'CNF'
[ca]
default_ca = here
[here]
database = ca.index
serial = ca.serial
new_certs_dir = .
certificate = ca.pem
private_key = ca.key
default_md = sha256
default_days = 365
default_crl_days = 30
unique_subject = no
policy = policy
[policy]
commonName = supplied
[req]
distinguished_name = policy
CNF
    : >ca.index
    run openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
        -config ca.cnf -keyout ca.key -out ca.pem -subj "/CN=bitsd clients" \
        -addext "basicConstraints = critical, CA:TRUE" \
        -addext "keyUsage = critical, keyCertSign, cRLSign"
    openssl rand -hex 16 >ca.serial
    new_list
    ;;
server:[1-9]*)
    [ $# -gt 1 ] || usage
    plain "$2"
    names=""
    for name in "${@:2}"; do
        case "$name" in
        *[!0-9.]*) names+="DNS:$name," ;;
        *) names+="IP:$name," ;;
        esac
    done
    signed server "extendedKeyUsage = serverAuth
subjectAltName = ${names%,}" "/CN=$2"
    ;;
client:[23])
    plain "$2"
    signed "$2" "extendedKeyUsage = clientAuth${3:+
subjectAltName = email:$3}" "/CN=$2"
    if [ -n "${P12_PASSWORD-}" ]; then
        run openssl pkcs12 -export -in "$2.pem" -inkey "$2.key" -out "$2.p12" \
            -name "$2" -passout env:P12_PASSWORD
    fi
    ;;
revoke:2)
    plain "$2"
    run openssl ca -revoke "$2.pem" -config ca.cnf
    new_list
    ;;
crl:1)
    new_list
    ;;
*)
    usage
    ;;
esac
