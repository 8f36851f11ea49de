"""A server in OpenAI's form for models of `LocalBackend`. Its modules need the extra `serve`, except for this file,
`access` and `heartbeat`.

`http` is the server. Requests arrive there through `connections` and are read by `schema`, which lists their `fields`;
they are answered by `completions` (drawn and scored by `scoring`), `uploads` (files) and `jobs` (finetuning).
`responses` has the form of answers, `api_error` that of refusals. `access` has the names and the key that requests
need, `heartbeat` reports long work, and `fault_injection` makes the server fail, for the tests of clients.
"""

FINGERPRINT_PREFIX = "sublim-"
"""Beginning of the `system_fingerprint` of every response."""
