"""Who calls: TLS, tokens and certificates. The only place that knows cryptography and JSON web tokens."""
