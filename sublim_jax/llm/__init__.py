"""Language models behind three verbs: `sample`, `choice_logprobs`, `finetune`. The paper's experiments' data."""
