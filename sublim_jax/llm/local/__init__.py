"""Language models in this process: embedded ones, and open weights of Qwen, Llama and Gemma.

`backend` is where experiments begin: it samples, scores and finetunes by the name of a model. `model` has the weights
with their tokenizer and what they compute about texts, `finetune` trains them. Below are `decoder`, the transformer,
and `sampling`; `tokenizer`, which turns chats into tokens; and `checkpoint` and `adapters`, the folders of models on
disk, whose JSON files `entries` reads.
"""
