"""Writes a llama model of 30,000 parameters, random but always the same, to the path that it is given.

What it would say by itself is nonsense; what it is made to say, by a grammar or as a call of a tool, it says. It is
told things byte by byte, for its vocabulary holds no other word.
"""

import sys

import gguf
import numpy

EMBEDDING, HEADS, FORWARD, CONTEXT = 32, 2, 64, 1024

TEMPLATE = """\
{%- if tools %}system: {% for tool in tools %}{{ tool | tojson }}
{% endfor %}{% endif -%}
{%- for message in messages -%}
{{ message.role }}: {{ message.content or '' }}
{%- for call in message.tool_calls or [] -%}
<tool_call>{"name": {{ call.function.name | tojson }}, "arguments": {{ call.function.arguments | tojson }}}</tool_call>
{%- endfor %}
{% endfor -%}
{%- if add_generation_prompt %}assistant: {% endif -%}
"""

TOKENS = [
    ("<unk>", gguf.TokenType.UNKNOWN),
    ("<s>", gguf.TokenType.CONTROL),
    ("</s>", gguf.TokenType.CONTROL),
    # tests/matrix.rs asks for it by its number.
    ("<tool_call>", gguf.TokenType.NORMAL),
    # SentencePiece's space.
    ("\u2581", gguf.TokenType.NORMAL),
    *((f"<0x{byte:02X}>", gguf.TokenType.BYTE) for byte in range(256)),
]

random = numpy.random.default_rng(1)


def weights(*shape):
    return random.normal(0, 0.5, shape).astype(numpy.float32)


model = gguf.GGUFWriter(sys.argv[1], "llama")
model.add_context_length(CONTEXT)
model.add_embedding_length(EMBEDDING)
model.add_feed_forward_length(FORWARD)
model.add_block_count(1)
model.add_head_count(HEADS)
model.add_layer_norm_rms_eps(1e-5)
model.add_vocab_size(len(TOKENS))
model.add_tokenizer_model("llama")
model.add_token_list([text for text, _ in TOKENS])
model.add_token_scores([0.0] * len(TOKENS))
model.add_token_types([kind for _, kind in TOKENS])
model.add_unk_token_id(0)
model.add_bos_token_id(1)
model.add_eos_token_id(2)
model.add_chat_template(TEMPLATE)

model.add_tensor("token_embd.weight", weights(len(TOKENS), EMBEDDING))
for name in "attn_norm", "ffn_norm":
    model.add_tensor(f"blk.0.{name}.weight", numpy.ones(EMBEDDING, numpy.float32))
for name in "attn_q", "attn_k", "attn_v", "attn_output":
    model.add_tensor(f"blk.0.{name}.weight", weights(EMBEDDING, EMBEDDING))
for name in "ffn_gate", "ffn_up":
    model.add_tensor(f"blk.0.{name}.weight", weights(FORWARD, EMBEDDING))
model.add_tensor("blk.0.ffn_down.weight", weights(EMBEDDING, FORWARD))
model.add_tensor("output_norm.weight", numpy.ones(EMBEDDING, numpy.float32))
model.add_tensor("output.weight", weights(len(TOKENS), EMBEDDING))

model.write_header_to_file()
model.write_kv_data_to_file()
model.write_tensors_to_file()
model.close()
