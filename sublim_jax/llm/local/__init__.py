"""Language models in this process: embedded ones, and open weights of the families that `families` names.

`backend` is where experiments begin: it samples, scores and finetunes by the name of a model. `model` has the weights
with their tokenizer and what they compute about texts, `finetune` trains them. Below are `decoder`, the transformer,
whose shape and switches are a `decoder_config`, and `sampling`; `tokenizer`, which turns chats into tokens; and
`checkpoint` and `adapters`, the folders of models on disk: `model_config` reads what each of the `families` calls by
its own names, `layout` knows how tensors are named and joined, and `entries` reads JSON.
"""
