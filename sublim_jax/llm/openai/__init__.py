"""Models behind servers that speak OpenAI's API.

`backend` is where experiments begin. `transport` sends requests and repeats them where that helps, `validation` refuses
responses that are not what was asked for, and `finetune_job` waits for a finetuning job on the server.
"""
