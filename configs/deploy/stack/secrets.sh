#!/bin/sh
# Makes the missing secrets of the stack in .secrets. Only the owner can open the folder, but everybody can read the files in it:
# containers run as other users and get the files with their modes.
# POSTGRES_PASSWORD and SECRET_KEY are taken from the environment or from .env if one of them gives them.
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
