"""A server in OpenAI's form for models of `local.Local`. Its modules need the extra `serve`, except for this file,
`access` and `heartbeat`.

`http` is the server: requests arrive there through `connections`, are read by `schema`, and are answered by `scoring`
(draws and log-probabilities), `uploads` (files) and `jobs` (finetuning). `access` has the names and the key that
requests need, `heartbeat` reports long work, and `fault_injection` makes the server fail, for the tests of clients.
"""

FINGERPRINT_PREFIX = "sublim-"
"""Beginning of the `system_fingerprint` of every response."""
