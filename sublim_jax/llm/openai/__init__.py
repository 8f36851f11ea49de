"""Models behind servers that speak OpenAI's API.

`backend` is where experiments begin. `requests` makes chat requests in the dialect of a server, and `server_features`
asks what it can do. `transport` sends requests and repeats them where that helps, `validation` refuses responses that
are not what was requested, and `finetune_job` waits for a finetuning job on the server.
"""
