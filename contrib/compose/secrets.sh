#!/bin/sh
# Makes the secrets of compose.yaml in the folder secrets beside it, each once. What is there stays.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets # which only its owner enters, while the files are for the containers' users to read
chmod 700 secrets

random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }

secret() {
	[ -s "secrets/$1" ] && return
	printf '%s' "$2" >"secrets/$1.new"
	chmod 444 "secrets/$1.new"
	mv "secrets/$1.new" "secrets/$1"
}

login() { # file, role, host and port
	secret "$1" "postgres://$2:$(random)@$3/notes?sslmode=disable"
}

secret postgres_password "$(random)"
secret dba_url "postgres://postgres:$(cat secrets/postgres_password)@postgres:5432/notes?sslmode=disable"
login migrator_url notes_migrator postgres:5432
login app_url notes_app pgbouncer:6432
login system_url notes_system pgbouncer:6432
login catalogue_url notes_catalogue pgbouncer:6432
secret tenant_key "$(random)"
secret jwt_secret "$(random)"
