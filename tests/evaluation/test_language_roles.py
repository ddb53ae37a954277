"""What a filter is in language models and vision transformers: a table for each architecture, and outputs that go with it."""

import fnmatch

import pytest
import torch
from torch import nn

from mpi_landscape.configuration.sections.plane import TensorRule
from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.roles import roles_of
from mpi_landscape.geometry.layout import layout_of
from mpi_landscape.geometry.normalization import filter_norms
from mpi_landscape.placement.roles import ruled
from mpi_landscape.problem.build import Problem

transformers = pytest.importorskip(
    "transformers", minversion="5", reason="pip install 'mpi_landscape[language]'"
)

IDS = torch.arange(1, 17).reshape(2, 8)
SIZES = {"vocab_size": 40, "hidden_size": 24, "num_hidden_layers": 1, "intermediate_size": 32}
GROUPED = {**SIZES, "num_attention_heads": 4, "num_key_value_heads": 2, "attn_implementation": "eager"}
EXPERTS = {**GROUPED, "num_local_experts": 3, "num_experts_per_tok": 2}


def answer(network):
    return network(input_ids=IDS, labels=IDS)


def look(network):
    return network(torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))


def gpt2():
    config = transformers.GPT2Config(
        vocab_size=40, n_positions=16, n_embd=24, n_layer=1, n_head=2, attn_implementation="eager"
    )
    return transformers.GPT2LMHeadModel(config), answer


def bert():
    config = transformers.BertConfig(
        **SIZES, num_attention_heads=2, max_position_embeddings=16, attn_implementation="eager"
    )
    return transformers.BertForMaskedLM(config), answer


def llama():
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**GROUPED)), answer


def mixtral():
    return transformers.MixtralForCausalLM(transformers.MixtralConfig(**EXPERTS)), answer


def gpt_oss():
    config = transformers.GptOssConfig(**EXPERTS, head_dim=6, layer_types=["full_attention"])
    return transformers.GptOssForCausalLM(config), answer


def t5():
    config = transformers.T5Config(
        vocab_size=40,
        d_model=24,
        d_kv=6,
        d_ff=32,
        num_layers=1,
        num_heads=4,
        decoder_start_token_id=0,
        pad_token_id=0,
    )
    return transformers.T5ForConditionalGeneration(config), answer


def vit():
    timm = pytest.importorskip("timm", reason="pip install 'mpi_landscape[timm]'")
    arguments = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2}
    return timm.create_model("vit_tiny_patch16_224", num_classes=10, **arguments), look


def torchvision_vit():
    from torchvision.models import VisionTransformer

    return VisionTransformer(32, 8, 1, 2, 24, 32, num_classes=10), look


def attention():
    layer = nn.TransformerEncoderLayer(24, 2, 32, batch_first=True)
    return nn.Sequential(nn.Embedding(40, 24), layer), lambda network: network(IDS)


# For each architecture: pattern of names, kind, axes that enumerate filters, how many, reason. All tensors are named.
TABLES = {
    gpt2: [
        (
            "*.wte.weight",
            "weight",
            (0,),
            40,
            "a row per token; the head is the same tensor, which counts once",
        ),
        ("*.wpe.weight", "weight", (0,), 16, "a row per position"),
        ("*.c_attn.weight", "weight", (1,), 72, "(in, out): queries, keys and values by neuron"),
        ("*.attn.c_proj.weight", "weight", (1,), 24, "(in, out)"),
        ("*.c_fc.weight", "weight", (1,), 96, "(in, out)"),
        ("*.mlp.c_proj.weight", "weight", (1,), 24, "(in, out)"),
        ("*.ln_*", "norm", (), 1, "LayerNorm"),
        ("*.bias", "bias", (), 1, "biases"),
    ],
    bert: [
        ("*.word_embeddings.weight", "weight", (0,), 40, "a row per token"),
        ("*.position_embeddings.weight", "weight", (0,), 16, "a row per position"),
        ("*.token_type_embeddings.weight", "weight", (0,), 2, "a row per type"),
        ("*.LayerNorm.*", "norm", (), 1, "LayerNorm"),
        ("*.intermediate.dense.weight", "weight", (0,), 32, "(out, in)"),
        ("*.weight", "weight", (0,), 24, "(out, in): query, key and value each by neuron"),
        ("*.bias", "bias", (), 1, "biases, that of the tied head too"),
    ],
    llama: [
        ("*.embed_tokens.weight", "weight", (0,), 40, "a row per token"),
        ("lm_head.weight", "weight", (0,), 40, "a row per token, not tied"),
        ("*.[kv]_proj.weight", "weight", (0,), 12, "two of four heads have keys and values"),
        ("*.gate_proj.weight", "weight", (0,), 32, "by neuron"),
        ("*.up_proj.weight", "weight", (0,), 32, "by neuron"),
        ("*_proj.weight", "weight", (0,), 24, "by neuron"),
        ("*norm.weight", "norm", (), 1, "RMSNorm"),
    ],
    mixtral: [
        ("*.experts.gate_up_proj", "weight", (0, 1), 3 * 64, "(experts, out, in)"),
        ("*.experts.down_proj", "weight", (0, 1), 3 * 24, "(experts, out, in)"),
        ("*.mlp.gate.weight", "weight", (0,), 3, "the router: a row per expert"),
        ("*.[kv]_proj.weight", "weight", (0,), 12, "grouped heads"),
        ("*.[qo]_proj.weight", "weight", (0,), 24, "by neuron"),
        ("*norm.weight", "norm", (), 1, "RMSNorm"),
        ("*", "weight", (0,), 40, "a row per token"),
    ],
    gpt_oss: [
        ("*.experts.gate_up_proj", "weight", (0, 2), 3 * 64, "(experts, in, out)"),
        ("*.experts.down_proj", "weight", (0, 2), 3 * 24, "(experts, in, out)"),
        ("*_bias", "bias", (), 1, "(experts, out), added"),
        ("*.bias", "bias", (), 1, "added"),
        ("*.sinks", "weight", (), 1, "a number per head"),
        ("*.router.weight", "weight", (0,), 3, "a row per expert"),
        ("*.[kv]_proj.weight", "weight", (0,), 12, "grouped heads"),
        ("*.[qo]_proj.weight", "weight", (0,), 24, "by neuron"),
        ("*norm.weight", "norm", (), 1, "RMSNorm"),
        ("*", "weight", (0,), 40, "a row per token"),
    ],
    t5: [
        ("shared.weight", "weight", (0,), 40, "a row per token, three times tied"),
        ("*.relative_attention_bias.weight", "weight", (0,), 32, "a row per distance, as of positions"),
        ("*.wi.weight", "weight", (0,), 32, "by neuron"),
        ("*norm.weight", "norm", (), 1, "T5's LayerNorm, which is an RMSNorm"),
        ("*", "weight", (0,), 24, "by neuron"),
    ],
    vit: [
        ("cls_token", "weight", (0,), 1, "one vector"),
        ("pos_embed", "weight", (1,), 17, "a row per position"),
        ("patch_embed.proj.weight", "weight", (0,), 24, "by output channel"),
        ("*.qkv.weight", "weight", (0,), 72, "queries, keys and values by neuron"),
        ("*.fc1.weight", "weight", (0,), 96, "by neuron"),
        ("head.weight", "weight", (0,), 10, "by class"),
        ("*norm*", "norm", (), 1, "LayerNorm"),
        ("*.weight", "weight", (0,), 24, "by neuron"),
        ("*.bias", "bias", (), 1, "biases"),
    ],
    torchvision_vit: [
        ("class_token", "weight", (0,), 1, "one vector"),
        ("*.pos_embedding", "weight", (1,), 17, "a row per position"),
        ("*.in_proj_weight", "weight", (0,), 72, "queries, keys and values by neuron"),
        ("*.mlp.0.weight", "weight", (0,), 32, "by neuron"),
        ("heads.*.weight", "weight", (0,), 10, "by class"),
        ("*.ln*", "norm", (), 1, "LayerNorm"),
        ("*.weight", "weight", (0,), 24, "by neuron or channel"),
        ("*bias", "bias", (), 1, "biases"),
    ],
    attention: [
        ("0.weight", "weight", (0,), 40, "a row per token"),
        ("*.in_proj_weight", "weight", (0,), 72, "queries, keys and values by neuron"),
        ("*.linear1.weight", "weight", (0,), 32, "by neuron"),
        ("*.norm*", "norm", (), 1, "LayerNorm"),
        ("*.weight", "weight", (0,), 24, "by neuron"),
        ("*bias", "bias", (), 1, "biases"),
    ],
}


@pytest.mark.parametrize("build", TABLES, ids=[build.__name__ for build in TABLES])
def test_every_tensor_has_the_filters_of_the_table(build):
    torch.manual_seed(0)
    network, run = build()
    network.eval()
    layout = layout_of(network, roles=roles_of(network, run))
    used = set()
    for entry in layout.entries:
        row = next(row for row in TABLES[build] if fnmatch.fnmatchcase(entry.name, row[0]))
        used.add(row)
        axes = tuple(axis for axis in entry.filter_axes)
        found = entry.kind, axes, entry.num_filters
        # Of what does not move by default the shape of its view says nothing.
        assert found == row[1:4], f"{entry.name} {entry.shape}: {row[4]}"
    assert used == set(TABLES[build])
    assert len({entry.name for entry in layout.entries}) == len(layout.entries)
    numbers = {each.data_ptr(): each.numel() for each in network.parameters()}
    assert layout.size == sum(numbers.values())


# A filter of these tensors makes one column of what its module returns.
COLUMNS = [
    (gpt2, "transformer.h.0.attn.c_attn", "weight"),
    (gpt2, "transformer.h.0.mlp.c_proj", "weight"),
    (llama, "model.layers.0.mlp.down_proj", "weight"),
    (mixtral, "model.layers.0.mlp.experts", "down_proj"),
    (gpt_oss, "model.layers.0.mlp.experts", "down_proj"),
    (vit, "blocks.0.attn.qkv", "weight"),
]


@pytest.mark.parametrize(
    ("build", "path", "local"), COLUMNS, ids=[f"{b.__name__} {p}" for b, p, _ in COLUMNS]
)
def test_a_filter_that_is_zero_takes_one_output_with_it(build, path, local):
    torch.manual_seed(0)
    network, run = build()
    network.eval()
    layout = layout_of(network, roles=roles_of(network, run))
    entry = next(each for each in layout.entries if each.name == f"{path}.{local}")
    module, outputs = network.get_submodule(path), []
    module.register_forward_hook(lambda _, __, output: outputs.append(output.detach().clone()))
    run(network)
    parameter = getattr(module, local)
    before = parameter.detach().clone()
    taken = set()
    for number in range(entry.num_filters):
        with torch.no_grad():
            parameter.copy_(before)
            view = parameter.view(entry.filter_view)
            place = torch.unravel_index(
                torch.tensor(number), tuple(entry.filter_view[axis] for axis in entry.filter_axes)
            )
            index = [slice(None)] * view.ndim
            for axis, where in zip(entry.filter_axes, place, strict=True):
                index[axis] = int(where)
            view[tuple(index)] = 0
        outputs.clear()
        run(network)
        changed, own = outputs[0], outputs[0].shape[-1]
        with torch.no_grad():
            parameter.copy_(before)
        outputs.clear()
        run(network)
        columns = (changed != outputs[0]).reshape(-1, own).any(0).nonzero().flatten().tolist()
        assert len(columns) <= 1  # of an expert that no token went to, none
        taken.update(columns)
    assert taken == set(range(outputs[0].shape[-1]))


def test_heads_are_filters_where_a_rule_says_so():
    torch.manual_seed(0)
    network, run = gpt2()
    network.eval()
    problem = Problem(model=network, loss=lambda model, batch: None, splits={}, where="here.yaml")
    rules = [
        TensorRule(tensors="*.c_attn.weight", axis=1, groups=6),
        TensorRule(tensors="*.attn.c_proj.weight", axis=0, groups=2),
    ]
    layout = layout_of(network, roles=ruled(problem, rules, roles_of(network, run)))
    by_name = {entry.name: entry for entry in layout.entries}
    entry = by_name["transformer.h.0.attn.c_attn.weight"]
    assert entry.num_filters == 6
    vector = layout.flatten(dict(network.named_parameters()), where="here")
    first = sum(each.num_filters for each in layout.entries[: layout.entries.index(entry)])
    weight = network.transformer.h[0].attn.c_attn.weight.detach().double()
    # Queries of head 0 and 1, then keys, then values: 12 columns each.
    plain = [float(weight[:, 12 * head : 12 * head + 12].norm()) for head in range(6)]
    assert filter_norms(vector, layout)[first : first + 6].tolist() == pytest.approx(plain, rel=1e-12)
    assert by_name["transformer.h.0.attn.c_proj.weight"].num_filters == 2


def test_heads_that_do_not_divide_an_axis_are_refused():
    network, _ = gpt2()
    problem = Problem(model=network, loss=lambda model, batch: None, splits={}, where="here.yaml")
    with pytest.raises(LandscapeError, match=r"has 72 along axis 1, which is not 7 groups of one size"):
        ruled(problem, [TensorRule(tensors="*.c_attn.weight", axis=1, groups=7)], {})
