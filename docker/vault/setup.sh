#!/bin/sh
# Prepares an OpenBao or HashiCorp Vault for the gateway: mounts, least-privilege policies, AppRoles, two keys.
# Needs an administrator's BAO_ADDR, BAO_CACERT and BAO_TOKEN, and `bao` (or `vault`, through CLI=vault).
# Running it again changes nothing that is there but the policies; it writes new SecretIDs to $LOGIN.
set -eu
cd "$(dirname "$0")"
CLI=${CLI:-bao}
LOGIN=${LOGIN:-/login}
umask 077

"$CLI" secrets enable transit 2>/dev/null || "$CLI" read -field=accessor sys/mounts/transit >/dev/null
"$CLI" secrets enable -path=kv -version=2 kv 2>/dev/null || "$CLI" read -field=accessor sys/mounts/kv >/dev/null
"$CLI" auth enable approle 2>/dev/null || "$CLI" read -field=accessor sys/auth/approle >/dev/null

for role in data job admin; do
  "$CLI" policy write "sse-$role" "$role-role.hcl"
done

# derived=true binds every data key to its context; the gateway refuses any other key.
for key in default sse-s3; do
  "$CLI" read "transit/keys/sse-$key" >/dev/null 2>&1 ||
    "$CLI" write -f "transit/keys/sse-$key" type=aes256-gcm96 derived=true
done

# No counted uses (the gateway refuses such tokens), no default policy, an hour at a time, a day at most.
for role in data admin; do
  "$CLI" write "auth/approle/role/sse-$role" token_policies="sse-$role" token_no_default_policy=true \
    token_ttl=1h token_max_ttl=24h token_num_uses=0
  "$CLI" read -field=role_id "auth/approle/role/sse-$role/role-id" >"$LOGIN/$role-role-id"
  "$CLI" write -f -field=secret_id "auth/approle/role/sse-$role/secret-id" >"$LOGIN/$role-secret-id"
done
echo "ready: role ids and SecretIDs are in $LOGIN"
