#!/usr/bin/env bash
# Creates the secrets that compose.yaml and the Kubernetes manifests need, in deploy/secrets; existing ones are kept.
set -euo pipefail
folder=$(cd "$(dirname "$0")" && pwd)/secrets
umask 077
mkdir -p "$folder"

random() { head -c 32 /dev/urandom | sha256sum | cut -c1-64; }

keep() { # NAME CONTENT: readable for the containers' users, behind a folder that only its owner may enter
  [ -s "$folder/$1" ] || printf '%s' "$2" >"$folder/$1"
  chmod 444 "$folder/$1"
}

keep ray_token "$(random)"
keep postgres_password "$(random)"
keep grafana_password "$(random)"
keep ampsweep_database_url "postgresql://ampsweep:$(cat "$folder/postgres_password")@${POSTGRES_HOST:-postgres}:5432/ampsweep"
echo "secrets: $folder"
