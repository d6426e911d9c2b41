#!/bin/sh
# Makes the secrets of the stack in .secrets, where they are missing; the folder is for its owner only. The files in it can be
# read by all, since containers get them as they are and run as other users.
# POSTGRES_PASSWORD and SECRET_KEY of the environment or of .env are taken where they are given.
set -eu
[ ! -f .env ] || { set -a; . ./.env; set +a; }
umask 077
mkdir -p .secrets
secret() { # file value
    [ -s ".secrets/$1" ] || { printf %s "$2" >".secrets/$1"; chmod 444 ".secrets/$1"; }
}
random() { "$1/python" -c 'import secrets; print(secrets.token_urlsafe(32))'; }
secret postgres_password "${POSTGRES_PASSWORD:-$(random "$1")}"
secret grafana_password "$(random "$1")"
secret secret_key "${SECRET_KEY:-$(random "$1")}"
if [ ! -s .secrets/keys.json ]; then
    rm -f .secrets/api_key
    secret api_key "$(CREDIT_KEYS_FILE=.secrets/keys.json "$1/credit-scoring" keys create --note stack --scopes predict,explain,outcomes,read,metrics)"
    chmod 444 .secrets/keys.json
fi
