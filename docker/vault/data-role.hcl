# What the gateway itself may do. Names here: transit mount `transit`, key_prefix `sse-`, KV v2 mount `kv`, control
# store root `express-s3-sse`; change them together with the configuration. Held to the code by test/e2e-vault.
#
# Only `update` on datakey and decrypt. There is no `transit/encrypt` at all: with `create` it would make missing keys
# silently, and without context binding.

path "transit/datakey/plaintext/sse-*" {
  capabilities = ["update"]
}

path "transit/decrypt/sse-*" {
  capabilities = ["update"]
}

# Read: the gateway refuses a key that is exportable, not derived, convergent, or open to plaintext backup.
path "transit/keys/sse-*" {
  capabilities = ["read"]
}

# The token's own care. With token_no_default_policy these are 403 otherwise.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}

path "auth/token/renew-self" {
  capabilities = ["update"]
}

path "auth/token/revoke-self" {
  capabilities = ["update"]
}

path "sys/capabilities-self" {
  capabilities = ["update"]
}

# The control store (several replicas). No delete: a record is deleted by writing null.
path "kv/data/express-s3-sse/*" {
  capabilities = ["create", "read", "update"]
}

path "kv/metadata/express-s3-sse/*" {
  capabilities = ["list"]
}
