"""Networks of transformers: the same as the library's own, and one true line where there is none."""

import json
import pickle

import pytest
import torch

from mpi_landscape.configuration.sections.sources import ModelConfiguration
from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.networks.table import build_network

transformers = pytest.importorskip(
    "transformers", minversion="5", reason="pip install 'mpi_landscape[language]'"
)

SMALL = {
    "gpt2": {"vocab_size": 40, "n_positions": 16, "n_embd": 24, "n_layer": 1, "n_head": 2},
    "bert": {
        "vocab_size": 40,
        "hidden_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 16,
    },
}
IDS = torch.arange(1, 25).reshape(2, 12)


def built(name, **arguments):
    configuration = ModelConfiguration(name=name, arguments=arguments)
    return build_network(configuration, where="mine.yaml", folders=[]).eval()


def refused(name, **arguments):
    with pytest.raises(LandscapeError) as caught:
        built(name, **arguments)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.fixture
def causal(tmp_path):
    torch.manual_seed(3)
    network = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(**SMALL["gpt2"], attn_implementation="eager")
    ).eval()
    network.save_pretrained(tmp_path / "gpt")
    return tmp_path / "gpt", network


@pytest.fixture
def encoder(tmp_path):
    torch.manual_seed(3)
    network = transformers.BertModel(transformers.BertConfig(**SMALL["bert"])).eval()
    network.save_pretrained(tmp_path / "bert")
    return tmp_path / "bert", network


@pytest.mark.parametrize("task", ["auto", "causal"])
def test_a_folder_gives_the_outputs_of_the_network_that_was_saved(causal, task):
    folder, network = causal
    found = built(f"hub/{folder}", task=task)
    assert torch.equal(found(IDS).logits, network(IDS).logits)
    assert found(IDS).past_key_values is None


def test_a_type_and_values_give_a_new_network_by_the_seed():
    torch.manual_seed(5)
    first = built("hub", config={"type": "gpt2", **SMALL["gpt2"]})
    torch.manual_seed(5)
    plain = transformers.GPT2LMHeadModel(transformers.GPT2Config(**SMALL["gpt2"]))
    ours, theirs = first.state_dict(), plain.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_configuration_alone_needs_no_weights(causal):
    folder, network = causal
    (folder / "model.safetensors").unlink()
    found = built(f"hub/{folder}", pretrained=False)
    assert [each.shape for each in found.parameters()] == [each.shape for each in network.parameters()]
    text = refused(f"hub/{folder}")
    assert "its weights cannot be loaded" in text
    assert "pretrained: false" in text


def test_weights_keep_their_type(causal, tmp_path):
    _, network = causal
    network.to(torch.bfloat16).save_pretrained(tmp_path / "half")
    assert next(built(f"hub/{tmp_path}/half").parameters()).dtype == torch.bfloat16


def test_values_of_the_configuration_can_be_changed(encoder):
    folder, network = encoder
    found = built(f"hub/{folder}", task="classification", config={"num_labels": 3}, random_head=True)
    assert found(IDS).logits.shape == (2, 3)
    own = network.embeddings.word_embeddings.weight
    assert torch.equal(found.bert.embeddings.word_embeddings.weight, own)


def test_an_adapter_gives_what_peft_gives_and_it_alone_is_trainable(causal, tmp_path):
    peft = pytest.importorskip("peft", reason="pip install 'mpi_landscape[language]'")
    folder, _ = causal
    # A network of its own: peft changes the one that it is given.
    base = transformers.AutoModelForCausalLM.from_pretrained(folder)
    base.config._name_or_path = str(folder)
    adapted = peft.get_peft_model(base, peft.LoraConfig(target_modules=["c_attn"], r=2, fan_in_fan_out=True))
    with torch.no_grad():
        for name, each in adapted.named_parameters():
            if "lora_B" in name:
                each.normal_()
    adapted.save_pretrained(tmp_path / "adapter")
    found = built(f"hub/{tmp_path}/adapter")
    torch.testing.assert_close(found(IDS).logits, adapted.eval()(IDS).logits)
    trainable = {name for name, each in found.named_parameters() if each.requires_grad}
    assert trainable
    assert all("lora_" in name for name in trainable)


def test_an_adapter_whose_base_is_gone_says_which(tmp_path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "someone/base"}))
    text = refused(f"hub/{folder}")
    assert "is an adapter of 'someone/base'" in text
    assert "neither a folder nor in the cache" in text


def test_a_name_that_is_not_in_the_cache_says_where_it_was_looked_for():
    text = refused("hub/someone/nothing")
    assert text.startswith(
        "mine.yaml: model: name is 'hub/someone/nothing': it is neither a folder nor in the cache /"
    )
    assert "download: true" in text


def test_a_folder_without_a_configuration_is_told_from_a_folder_that_is_not_there(tmp_path):
    assert "the folder has no config.json" in refused(f"hub/{tmp_path}")
    assert "there is no such folder" in refused(f"hub/{tmp_path}/absent")


def test_quantized_weights_are_refused_before_they_are_read(causal):
    folder, _ = causal
    said = json.loads((folder / "config.json").read_text())
    said["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (folder / "config.json").write_text(json.dumps(said))
    (folder / "model.safetensors").unlink()
    assert "its weights are quantized (bitsandbytes)" in refused(f"hub/{folder}")


def test_a_head_without_weights_is_refused_by_the_names_of_its_tensors(encoder):
    folder, _ = encoder
    text = refused(f"hub/{folder}", task="classification")
    assert "has no weights for classifier.bias, classifier.weight" in text
    assert "random_head: true" in text


class Planted:
    def __reduce__(self):
        return (print, ("executed",))


def test_nothing_of_a_folder_is_executed(causal, capsys):
    folder, _ = causal
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Planted()))
    assert "its weights cannot be loaded" in refused(f"hub/{folder}")
    said = json.loads((folder / "config.json").read_text())
    said |= {
        "auto_map": {"AutoConfig": "planted.C", "AutoModelForCausalLM": "planted.N"},
        "model_type": "mine",
    }
    (folder / "config.json").write_text(json.dumps(said))
    (folder / "planted.py").write_text("print('executed')\n")
    assert "cannot be used" in refused(f"hub/{folder}")
    assert "executed" not in capsys.readouterr().out


def test_tensors_of_torch_save_are_read(causal):
    folder, network = causal
    (folder / "model.safetensors").unlink()
    torch.save(network.state_dict(), folder / "pytorch_model.bin")
    assert torch.equal(built(f"hub/{folder}")(IDS).logits, network(IDS).logits)


WRONG = [
    ({"config": {"type": "gtp2"}}, "config.type is 'gtp2'", "an unknown type"),
    ({"config": {"n_layer": 2}}, "expected a mapping with a type", "no type"),
    ({"config": {"type": "gpt2", "n_layr": 2}}, "did you mean 'n_layer'", "a misspelt value"),
    ({"config": {"type": "gpt2"}, "task": "casual"}, "did you mean 'causal'", "a misspelt task"),
    ({"config": {"type": "gpt2"}, "task": "masked"}, "no such network for gpt2", "a task that it has not"),
]


@pytest.mark.parametrize(("arguments", "said", "why"), WRONG, ids=[why for *_, why in WRONG])
def test_what_is_wrong_is_said(arguments, said, why):
    assert said in refused("hub", **arguments)


def test_an_example_does_not_depend_on_what_it_is_padded_with(encoder):
    folder, _ = encoder
    found = built(f"hub/{folder}").double()
    alone = found(IDS[:1, :5]).last_hidden_state
    mask = torch.tensor([[1] * 5 + [0] * 7, [1] * 12])
    batch = found(input_ids=IDS, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(batch[:1, :5], alone, rtol=1e-12, atol=1e-12)


def test_a_mixture_of_experts_computes_in_float64_too(tmp_path):
    values = {"vocab_size": 40, "hidden_size": 24, "num_hidden_layers": 1, "intermediate_size": 32}
    values |= {"num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 3}
    torch.manual_seed(1)
    found = built("hub", config={"type": "mixtral", **values})
    single = found(IDS).logits
    torch.testing.assert_close(found.double()(IDS).logits, single.double(), rtol=1e-4, atol=1e-5)
    found.float().save_pretrained(tmp_path / "experts")
    torch.testing.assert_close(built(f"hub/{tmp_path}/experts").double()(IDS).logits.float(), single)
