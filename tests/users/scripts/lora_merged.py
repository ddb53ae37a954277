"""The same after the adapter has been merged into the weights."""

import peft
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import mpi_landscape

torch.manual_seed(0)
base = GPT2LMHeadModel(GPT2Config(vocab_size=30, n_positions=12, n_embd=16, n_layer=2, n_head=2))
config = peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True, init_lora_weights=False)
model = peft.get_peft_model(base, config).merge_and_unload().eval()
input_ids = torch.randint(0, 30, (20, 12))

surface = mpi_landscape.landscape(
    model,
    "output",
    {"input_ids": input_ids, "labels": input_ids},
    alpha=(-1, 1, 3),
    beta=(-1, 1, 3),
    output="surface.h5",
)


def plain(model):
    return model(input_ids=input_ids, labels=input_ids).loss
