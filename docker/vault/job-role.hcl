# What a rewrap job may do beside reading: bring wrapped data keys to the latest key version, without seeing a
# plaintext. Same names as data-role.hcl.

path "transit/rewrap/sse-*" {
  capabilities = ["update"]
}

path "transit/keys/sse-*" {
  capabilities = ["read"]
}

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
