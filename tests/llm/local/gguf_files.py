"""GGUF files made by hand, by the format's description: a writer, random blocks of every type, and a small llama."""

import pathlib
import struct
from typing import Any, NamedTuple

import numpy as np

CODES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 8, "BF16": 30}
FORMS = {"u32": (4, "I"), "i32": (5, "i"), "f32": (6, "f"), "bool": (7, "?"), "u64": (10, "Q")}
LETTERS = "abcdefghijklmnopqrstuvwxyz.,:ĠĊ"
TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *LETTERS, *"0123456789", "ow", "owl", "12", "us", "er"]
MERGES = ["o w", "ow l", "1 2", "u s", "e r"]
TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nbe an owl<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""ChatML with a system turn of the template's own, as SmolLM2 has it."""
LAYERS, HIDDEN, INNER, HEADS, KV_HEADS = 2, 64, 32, 2, 1
HEAD, EPSILON, ROPE_BASE = HIDDEN // HEADS, float(np.float32(1e-5)), 5000.0
SHAPES = {
    "attn_norm": (HIDDEN,), "attn_q": (HIDDEN, HIDDEN), "attn_k": (HEAD, HIDDEN), "attn_v": (HEAD, HIDDEN),
    "attn_output": (HIDDEN, HIDDEN), "ffn_norm": (HIDDEN,), "ffn_gate": (INNER, HIDDEN), "ffn_up": (INNER, HIDDEN),
    "ffn_down": (HIDDEN, INNER),
}  # fmt: skip
KINDS = {
    "attn_norm": "F32", "attn_q": "Q4_1", "attn_k": "Q4_0", "attn_v": "F16", "attn_output": "BF16",
    "ffn_norm": "F32", "ffn_gate": "Q4_1", "ffn_up": "Q8_0", "ffn_down": "Q4_0",
}  # fmt: skip
METADATA = {
    "general.architecture": "llama",
    "general.license": "apache-2.0",
    "llama.block_count": ("u32", LAYERS),
    "llama.context_length": ("u32", 128),
    "llama.embedding_length": ("u32", HIDDEN),
    "llama.feed_forward_length": ("u32", INNER),
    "llama.attention.head_count": ("u32", HEADS),
    "llama.attention.head_count_kv": ("u32", KV_HEADS),
    "llama.attention.layer_norm_rms_epsilon": ("f32", 1e-5),
    "llama.rope.freq_base": ("f32", ROPE_BASE),
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": TOKENS,
    "tokenizer.ggml.token_type": ("i32", [3, 3, 3, *[1] * (len(TOKENS) - 3)]),
    "tokenizer.ggml.merges": MERGES,
    "tokenizer.ggml.add_bos_token": ("bool", False),
    "tokenizer.ggml.bos_token_id": ("u32", 1),
    "tokenizer.ggml.eos_token_id": ("u32", 2),
    "tokenizer.ggml.padding_token_id": ("u32", 2),
    "tokenizer.chat_template": TEMPLATE,
}


class Stored(NamedTuple):
    """A tensor in a file."""

    shape: tuple[int, ...]
    code: int
    content: bytes


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def entry(value: Any) -> bytes:
    """A text, texts, or a form with one number or a list of them."""
    if isinstance(value, str):
        return struct.pack("<I", 8) + text(value)
    if isinstance(value, list):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
    form, numbers = value
    code, letter = FORMS[form]
    if isinstance(numbers, list):
        return struct.pack("<IIQ", 9, code, len(numbers)) + struct.pack(f"<{len(numbers)}{letter}", *numbers)
    return struct.pack("<I", code) + struct.pack(f"<{letter}", numbers)


def write(
    path: pathlib.Path, metadata: dict[str, Any], tensors: dict[str, Stored], *, version: int = 3, alignment: int = 32
) -> int:
    """Write a file. Returns the number of bytes before the tensors."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    for name, value in metadata.items():
        head += text(name) + entry(value)
    body = b""
    for name, (shape, code, content) in tensors.items():
        body += b"\0" * (-len(body) % alignment)
        head += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape[::-1], code, len(body))
        body += content
    path.write_bytes(head + b"\0" * (-len(head) % alignment) + body)
    return len(head)


def random_tensor(random: np.random.Generator, kind: str, shape: tuple[int, ...]) -> Stored:
    """Random numbers of size 0.2 or so in a type: any bytes are numbers of a block beside its scale and minimum."""
    count = int(np.prod(shape))
    if kind in ("F32", "F16"):
        numbers = random.normal(0, 0.2, count).astype("<f4" if kind == "F32" else "<f2")
        return Stored(shape, CODES[kind], numbers.tobytes())
    if kind == "BF16":
        numbers = random.normal(0, 0.2, count).astype("<f4").view("<u4") >> 16
        return Stored(shape, CODES[kind], numbers.astype("<u2").tobytes())
    content, bound = b"", {"Q4_0": 8, "Q4_1": 15, "Q8_0": 127}[kind]
    for _ in range(count // 32):
        content += np.float16(random.uniform(0.2, 0.4) / bound).tobytes()
        content += np.float16(random.uniform(-0.2, -0.1)).tobytes() if kind == "Q4_1" else b""
        content += random.bytes(32 if kind == "Q8_0" else 16)
    return Stored(shape, CODES[kind], content)


def values(tensor: Stored) -> np.ndarray:
    """The numbers of a tensor, one at a time, by the description of its type."""
    kind = next(name for name, code in CODES.items() if code == tensor.code)
    content, numbers = tensor.content, []
    if kind == "F32":
        numbers = [struct.unpack_from("<f", content, at)[0] for at in range(0, len(content), 4)]
    if kind == "F16":
        numbers = [struct.unpack_from("<e", content, at)[0] for at in range(0, len(content), 2)]
    if kind == "BF16":
        numbers = [struct.unpack("<f", b"\0\0" + content[at : at + 2])[0] for at in range(0, len(content), 2)]
    size = {"Q4_0": 18, "Q4_1": 20, "Q8_0": 34}.get(kind, len(content) + 1)
    for at in range(0, len(content) // size * size, size):
        block = content[at : at + size]
        (scale,) = struct.unpack_from("<e", block, 0)
        if kind == "Q8_0":
            numbers += [scale * signed for signed in struct.unpack_from("<32b", block, 2)]
        if kind == "Q4_0":
            numbers += [scale * ((block[2 + j] & 15) - 8) for j in range(16)]
            numbers += [scale * ((block[2 + j] >> 4) - 8) for j in range(16)]
        if kind == "Q4_1":
            (minimum,) = struct.unpack_from("<e", block, 2)
            numbers += [scale * (block[4 + j] & 15) + minimum for j in range(16)]
            numbers += [scale * (block[4 + j] >> 4) + minimum for j in range(16)]
    return np.array(numbers, np.float32).reshape(tensor.shape)


def llama(*, tied: bool = False) -> dict[str, Stored]:
    """The tensors of a llama of two layers, in all types."""
    random = np.random.default_rng(0)
    tensors = {"token_embd.weight": random_tensor(random, "Q8_0", (len(TOKENS), HIDDEN))}
    for layer in range(LAYERS):
        for part, shape in SHAPES.items():
            tensors[f"blk.{layer}.{part}.weight"] = random_tensor(random, KINDS[part], shape)
    tensors["output_norm.weight"] = random_tensor(random, "F32", (HIDDEN,))
    if not tied:
        tensors["output.weight"] = random_tensor(random, "F32", (len(TOKENS), HIDDEN))
    return tensors
