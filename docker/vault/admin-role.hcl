# What the key administration routes (create, list, rotate) need, under a credential of its own
# (`admin_auth_method`); without it those routes answer 501. It can use no key: neither datakey nor decrypt is here.
# Destroying key material stays the operator's act, so `delete` is not granted.

path "transit/keys" {
  capabilities = ["list"]
}

# Covers transit/keys/sse-NAME and its /rotate and /config.
path "transit/keys/sse-*" {
  capabilities = ["create", "read", "update"]
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
