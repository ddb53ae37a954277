"""Every kind of checkpoint, built small in its true form, and what becomes of it.

`python -m tests.problem.checkpoint_kinds` writes the table of docs/checkpoints.md; test_checkpoint_kinds.py tries each row.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import gzip
import importlib
import io
import json
import os
import pathlib
import pickle
import random
import re
import struct
import sys
import tempfile
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.checkpoints import Source, load

DOCUMENT = Path(__file__).parents[2] / "docs" / "checkpoints.md"
BEGIN, END = "<!-- table: python -m tests.problem.checkpoint_kinds -->", "<!-- end of table -->"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A checkpoint, the network that it is for, and what the network must have afterwards; None for nothing."""

    path: Path
    network: nn.Module
    wanted: Mapping[str, Tensor] | None = None
    key: str | None = None
    part: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """A row of the table.

    Attributes:
        name: What it is.
        writer: Who writes it.
        make: Writes one into a folder.
        words: What the refusal says; empty where it is loaded.
        says: What a line about it says, where it is loaded.
        needs: A library without which it cannot be made.
    """

    name: str
    writer: str
    make: Callable[[Path], Case]
    words: str = ""
    says: str = ""
    needs: str = ""


KINDS: list[Kind] = []


def kind(name: str, writer: str, words: str = "", says: str = "", needs: str = "") -> Callable[..., Any]:
    """Puts a function that writes a checkpoint into the table."""

    def keep(make: Callable[[Path], Case]) -> Callable[[Path], Case]:
        KINDS.append(Kind(name=name, writer=writer, make=make, words=words, says=says, needs=needs))
        return make

    return keep


class Net(nn.Module):
    """An encoder with a normalization, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5))
        self.head = nn.Linear(5, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.encoder(inputs))


def filled(network: nn.Module, seed: int) -> nn.Module:
    """A network in which no two tensors are alike; values that 8 bits hold exactly."""
    generator = torch.Generator().manual_seed(seed)
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.randint(-7, 8, value.shape, generator=generator) / 4)
    return network


def state(seed: int = 1) -> dict[str, Tensor]:
    return dict(filled(Net(), seed).state_dict())


def case(path: Path, **further: Any) -> Case:
    return Case(**{"path": path, "network": filled(Net(), 99), "wanted": state(), **further})


def saved(folder: Path, content: Any, name: str = "a.pt", **settings: Any) -> Case:
    torch.save(content, folder / name, **settings)
    return case(folder / name)


def refused(folder: Path, content: bytes, name: str) -> Case:
    (folder / name).write_bytes(content)
    return case(folder / name, wanted=None)


@contextlib.contextmanager
def package(name: str, *classes: str) -> Iterator[list[Any]]:
    """Classes of a package that is there while a file is written, and nowhere when it is read."""
    before = dict(sys.modules)
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:depth]), types.ModuleType(".".join(parts[:depth])))
    made = [type(each, (), {"__module__": name}) for each in classes]
    for each in made:
        setattr(sys.modules[name], each.__name__, each)
    try:
        yield made
    finally:
        for each in [each for each in sys.modules if each not in before]:
            del sys.modules[each]


# ---- torch.save ------------------------------------------------------------------------------------------------------


@kind("a state dictionary", "torch.save(model.state_dict(), path); mpi_landscape.train")
def _(folder):
    return saved(folder, state())


@kind("the form of before torch 1.6", "torch.save of then")
def _(folder):
    return saved(folder, {"net": state()}, _use_new_zipfile_serialization=False)


@kind("pickle protocol 4 or 5", "torch.save(..., pickle_protocol=4)")
def _(folder):
    return saved(folder, {"net": state(), "array": np.arange(3.0)}, pickle_protocol=5)


@kind("a state dictionary beside numbers", "the code of Li et al. 2018")
def _(folder):
    return saved(folder, {"acc": 93.0, "epoch": 300, "state_dict": state()}, "a.t7")


@kind("model and optimizer", "PyTorch's tutorials")
def _(folder):
    model = Net()
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    return saved(
        folder, {"model_state_dict": state(), "optimizer_state_dict": optimizer.state_dict(), "epoch": 3}
    )


@kind("with arguments (argparse.Namespace)", "training scripts")
def _(folder):
    return saved(folder, {"model": state(), "args": argparse.Namespace(lr=0.1, folder=pathlib.Path("x"))})


@kind("with random states", "training scripts")
def _(folder):
    states = {
        "numpy": np.random.RandomState(3).get_state(),
        "python": random.getstate(),
        "torch": torch.get_rng_state(),
    }
    return saved(folder, {"net": state(), "random": states, "generator": np.random.default_rng(3)})


@kind("with dates, paths and metrics of numpy", "training scripts")
def _(folder):
    kept = {
        "when": datetime.datetime(2026, 1, 2),
        "path": pathlib.Path("runs"),
        "best": np.float64(0.9),
        "names": np.array(["a"]),
    }
    return saved(folder, {"model": state(), "best": np.float64(0.9), **kept})


@kind("with a configuration of OmegaConf", "Hydra, fairseq 0.12, NeMo")
def _(folder):
    with package("omegaconf.dictconfig", "DictConfig") as (config,):
        return saved(folder, {"state_dict": state(), "cfg": config()})


@kind("with a class of one's own", "training scripts")
def _(folder):
    with package("my_package.settings", "Settings") as (settings,):
        return saved(folder, {"model": state(), "settings": settings()})


@kind("float16 weights", "model.half()", says="taken exactly, as float32")
def _(folder):
    return saved(
        folder,
        {name: value.half() if value.is_floating_point() else value for name, value in state().items()},
    )


@kind("bfloat16 weights", "mixed-precision trainings", says="taken exactly, as float32")
def _(folder):
    return saved(
        folder,
        {name: value.bfloat16() if value.is_floating_point() else value for name, value in state().items()},
    )


@kind("float8 weights", "FP8 trainings", says="taken exactly, as float32")
def _(folder):
    small = {
        name: value.to(torch.float8_e4m3fn) if value.is_floating_point() else value
        for name, value in state().items()
    }
    return saved(folder, small)


@kind("float64 weights", "model.double()", says="lose digits as float32")
def _(folder):
    fine = {
        name: value.double() + 1e-12 if value.is_floating_point() else value
        for name, value in state().items()
    }
    made = saved(folder, fine)
    return dataclasses.replace(
        made, wanted={name: value.to(state()[name].dtype) for name, value in fine.items()}
    )


# ---- wrappers --------------------------------------------------------------------------------------------------------


@kind("names with module.", "DataParallel, DistributedDataParallel")
def _(folder):
    return saved(folder, nn.DataParallel(filled(Net(), 1)).state_dict())


@kind("names with _orig_mod.", "torch.compile")
def _(folder):
    return saved(folder, torch.compile(filled(Net(), 1)).state_dict())


@kind("a compiled module inside", "torch.compile of a part")
def _(folder):
    net = filled(Net(), 1)
    net.encoder = torch.compile(net.encoder)
    return saved(folder, net.state_dict())


@kind(
    "a checkpointed module inside a wrapped network", "FSDP's full state dictionary, activation checkpointing"
)
def _(folder):
    return saved(
        folder,
        {
            f"_fsdp_wrapped_module.{name}".replace(
                "encoder.", "encoder._fsdp_wrapped_module._checkpoint_wrapped_module."
            ): value
            for name, value in state().items()
        },
    )


@kind("names with _forward_module.", "Lightning Fabric")
def _(folder):
    return saved(folder, {"model": {f"_forward_module.{name}": value for name, value in state().items()}})


@kind("tied weights of which one is left out", "save_pretrained and others")
def _(folder):
    torch.save({"0.weight": torch.ones(3, 2)}, folder / "a.pt")
    return case(
        folder / "a.pt", network=_tied(), wanted={"0.weight": torch.ones(3, 2), "1.weight": torch.ones(3, 2)}
    )


@kind(
    "tied weights that differ",
    "a network that was untied",
    words="1.weight differs from 0.weight, which is the same tensor",
)
def _(folder):
    torch.save({"0.weight": torch.ones(3, 2), "1.weight": torch.zeros(3, 2)}, folder / "a.pt")
    return case(folder / "a.pt", network=_tied(), wanted=None)


def _tied():
    net = nn.Sequential(nn.Embedding(3, 2), nn.Linear(2, 3, bias=False))
    net[1].weight = net[0].weight
    return net


# ---- averages and several networks -----------------------------------------------------------------------------------


@kind(
    "weights and their average",
    "timm and others, as state_dict_ema",
    says="which model.key: state_dict_ema takes",
)
def _(folder):
    return saved(folder, {"state_dict": state(), "state_dict_ema": state(2)})


@kind("the same, with model.key: state_dict_ema", "")
def _(folder):
    return dataclasses.replace(
        saved(folder, {"state_dict": state(2), "state_dict_ema": state()}), key="state_dict_ema"
    )


@kind(
    "the average in a wrapper, with model.key: ema",
    "EMA classes",
)
def _(folder):
    content = {"model": state(2), "ema": {"module": state(), "decay": 0.999}}
    return dataclasses.replace(saved(folder, content), key="ema")


@kind(
    "an average alone",
    "ema_state_dict, model_ema, averaged_model, ...",
    says="averaged weights: there are no others",
)
def _(folder):
    return saved(folder, {"ema_state_dict": state(), "step": 3})


@kind("params and params_ema", "BasicSR, Real-ESRGAN", says="averaged weights are under params_ema")
def _(folder):
    return saved(folder, {"params": state(), "params_ema": state(2)})


@kind("an AveragedModel", "torch.optim.swa_utils", says="the weights are averaged ones")
def _(folder):
    return saved(folder, torch.optim.swa_utils.AveragedModel(filled(Net(), 1)).state_dict())


@kind(
    "two networks under names of their own",
    "DINO, GANs",
    words="under student, teacher; say which",
)
def _(folder):
    return saved(folder, {"student": state(2), "teacher": state(), "epoch": 3})


@kind("the same, with model.key: teacher", "")
def _(folder):
    return dataclasses.replace(saved(folder, {"student": state(2), "teacher": state()}), key="teacher")


@kind(
    "one network under a name of its own",
    "training scripts",
    says="backbone is taken, the only state dictionary in it",
)
def _(folder):
    return saved(folder, {"backbone": state(), "epoch": 3})


def _both():
    return {
        f"{part}.{name}": value
        for part, seed in (("student", 1), ("teacher", 2))
        for name, value in state(seed).items()
    }


@kind(
    "two networks in one state dictionary",
    "distillation, BYOL, MoCo",
    words="more than once, under student., teacher.",
)
def _(folder):
    return saved(folder, {"state_dict": _both()})


@kind("the same, with model.part: student", "")
def _(folder):
    return dataclasses.replace(saved(folder, {"state_dict": _both()}), part="student")


# ---- frameworks ------------------------------------------------------------------------------------------------------


@kind("a checkpoint with hyper-parameters", "Lightning's Trainer", needs="lightning")
def _(folder):
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self, rate: float, settings: Any) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.model = filled(Net(), 1)

        def training_step(self, batch: Any, _: int) -> Tensor:
            return 0 * self.model(batch[0]).sum()

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=0.0)

    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            max_steps=1, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
        )  # fmt: skip
        data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(4, 4)), batch_size=2)
        module = Module(0.1, argparse.Namespace(a=pathlib.Path("x")))
        trainer.fit(module, data)
        trainer.save_checkpoint(folder / "last.ckpt")
    return case(folder / "last.ckpt", wanted=dict(module.model.state_dict()))


@kind("callbacks by their classes", "PyTorch Lightning before 1.5")
def _(folder):
    with package("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint") as (callback,):
        names = {f"model.{name}": value for name, value in state().items()}
        return saved(folder, {"state_dict": names, "callbacks": {callback: {"best": 0.1}}}, "a.ckpt")


@kind(
    "state_dict, state_dict_ema and arguments",
    "timm's CheckpointSaver",
    says="averaged weights are under state_dict_ema",
    needs="timm",
)
def _(folder):
    from timm.utils import CheckpointSaver, ModelEma

    net = filled(Net(), 1)
    ema = ModelEma(net)
    filled(ema.ema, 2)
    saver = CheckpointSaver(
        net, torch.optim.SGD(net.parameters(), lr=0.1), args=argparse.Namespace(model="x"), model_ema=ema,
        checkpoint_dir=str(folder), recovery_dir=str(folder),
    )  # fmt: skip
    saver.save_checkpoint(1, metric=0.5)
    return case(folder / "last.pth.tar")


@kind("args, cfg and model", "fairseq")
def _(folder):
    with package("omegaconf.dictconfig", "DictConfig") as (config,):
        history = [{"optimizer_name": "Adam", "num_updates": 3}]
        return saved(
            folder,
            {
                "args": None,
                "cfg": config(),
                "model": state(),
                "optimizer_history": history,
                "extra_state": {},
            },
        )


@kind("a pickle of numpy's arrays", "Detectron2's model zoo (.pkl)")
def _(folder):
    content = {"model": {name: value.numpy() for name, value in state().items()}, "__author__": "x"}
    (folder / "R-50.pkl").write_bytes(pickle.dumps(content))
    return case(folder / "R-50.pkl")


@kind("model, optimizer, scheduler, iteration", "Detectron2 (.pth)")
def _(folder):
    return saved(
        folder,
        {"model": state(), "optimizer": {}, "scheduler": {"last_epoch": 3}, "iteration": 9},
        "model_final.pth",
    )


@kind("state_dict, meta and message_hub", "OpenMMLab (MMEngine)")
def _(folder):
    with package("mmengine.logging.history_buffer", "HistoryBuffer") as (history,):
        content = {
            "meta": {"epoch": 1, "time": "x"},
            "state_dict": state(),
            "message_hub": {"loss": history()},
        }
        return saved(folder, content, "epoch_1.pth")


@kind("a folder with latest and mp_rank_00_model_states.pt", "DeepSpeed, ZeRO stage 0 to 2")
def _(folder):
    (folder / "global_step7").mkdir()
    (folder / "latest").write_text("global_step7")
    content = {
        "module": state(),
        "optimizer": None,
        "ds_version": "0.16",
        "ds_config": {},
        "param_shapes": [],
    }
    torch.save(content, folder / "global_step7" / "mp_rank_00_model_states.pt")
    return case(folder)


@kind(
    "a folder with zero_pp_rank_*_model_states.pt",
    "DeepSpeed, ZeRO stage 3",
    words="python zero_to_fp32.py . whole",
)
def _(folder):
    (folder / "global_step7").mkdir()
    (folder / "latest").write_text("global_step7")
    torch.save({"module": {}}, folder / "global_step7" / "zero_pp_rank_0_mp_rank_00_model_states.pt")
    return case(folder, wanted=None)


@kind(
    "a folder with .metadata and .distcp", "torch.distributed.checkpoint", words="format_utils dcp_to_torch"
)
def _(folder):
    import torch.distributed.checkpoint as dcp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save({"model": state()}, checkpoint_id=folder / "step", no_dist=True)
    return case(folder / "step", wanted=None)


@kind("what dcp_to_torch makes of it", "torch.distributed.checkpoint.format_utils")
def _(folder):
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save({"model": state()}, checkpoint_id=folder / "step", no_dist=True)
        dcp_to_torch_save(folder / "step", folder / "whole.pt")
    return case(folder / "whole.pt")


@kind("flat parameters", "FSDP's local and sharded states", words="flat parameters of FSDP")
def _(folder):
    return dataclasses.replace(
        saved(folder, {"_flat_param": torch.zeros(9), "head._flat_param": torch.zeros(9)}), wanted=None
    )


@kind("a folder of save_state", "Accelerate", needs="accelerate")
def _(folder):
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    net = filled(Net(), 1)
    accelerator.prepare(net, torch.optim.SGD(net.parameters(), lr=0.1))
    accelerator.save_state(str(folder / "state"))
    return case(folder / "state")


@kind("a folder with pytorch_model/mp_rank_00_model_states.pt", "Accelerate with DeepSpeed")
def _(folder):
    (folder / "pytorch_model").mkdir()
    torch.save({"module": state()}, folder / "pytorch_model" / "mp_rank_00_model_states.pt")
    (folder / "latest").write_text("pytorch_model")
    return case(folder)


# ---- Hugging Face ----------------------------------------------------------------------------------------------------


@kind("a file of safetensors", "safetensors")
def _(folder):
    save_file(state(), folder / "model.safetensors")
    return case(folder / "model.safetensors")


def gpt2(seed: int) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    return filled(
        GPT2LMHeadModel(GPT2Config(vocab_size=11, n_positions=8, n_embd=8, n_layer=2, n_head=2)), seed
    )


def pretrained(folder: Path, **settings: Any) -> Case:
    model = gpt2(1)
    with contextlib.redirect_stderr(io.StringIO()):
        model.save_pretrained(folder / "model", **settings)
    return case(folder / "model", network=gpt2(99), wanted=dict(model.state_dict()))


@kind(
    "a folder with config.json and model.safetensors",
    "transformers, save_pretrained; tied weights once",
    needs="transformers",
)
def _(folder):
    return pretrained(folder)


@kind(
    "a folder with shards and model.safetensors.index.json",
    "transformers, max_shard_size",
    needs="transformers",
)
def _(folder):
    made = pretrained(folder, max_shard_size="3KB")
    assert len(list(made.path.glob("model-*.safetensors"))) > 1
    return made


@kind("the index of shards itself", "transformers", needs="transformers")
def _(folder):
    made = pretrained(folder, max_shard_size="3KB")
    return dataclasses.replace(made, path=made.path / "model.safetensors.index.json")


@kind("a folder with pytorch_model.bin", "transformers before 5")
def _(folder):
    torch.save(state(), folder / "pytorch_model.bin")
    (folder / "config.json").write_text("{}")
    return case(folder)


@kind("a folder with pytorch_model.bin.index.json", "transformers before 5")
def _(folder):
    return sharded(folder)


def sharded(folder: Path, change: Callable[[dict[str, Any]], None] = lambda _: None, **settings: Any) -> Case:
    names = list(state())
    places = {name: f"pytorch_model-0000{1 + (number > 2)}-of-00002.bin" for number, name in enumerate(names)}
    for shard in set(places.values()):
        torch.save({name: state()[name] for name in names if places[name] == shard}, folder / shard)
    change(places)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return case(folder, **settings)


@kind(
    "a folder with both of them",
    "the hub",
    says="model.safetensors of model.safetensors, pytorch_model.bin, by this order",
)
def _(folder):
    save_file(state(), folder / "model.safetensors")
    torch.save(state(2), folder / "pytorch_model.bin")
    return case(folder)


@kind("checkpoint-500", "transformers' Trainer", needs="transformers")
def _(folder):
    made = pretrained(folder)
    torch.save(torch.optim.SGD([torch.zeros(1)], lr=0.1).state_dict(), made.path / "optimizer.pt")
    torch.save({"python": random.getstate()}, made.path / "rng_state.pth")
    (made.path / "trainer_state.json").write_text("{}")
    return dataclasses.replace(made, path=made.path.rename(folder / "checkpoint-500"))


@kind("a snapshot whose files are links", "the cache of the Hugging Face hub")
def _(folder):
    snapshot, blobs = folder / "models--a--b" / "snapshots" / "0123", folder / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    sharded(snapshot)
    for number, each in enumerate(sorted(snapshot.iterdir())):
        each.rename(blobs / f"{number:064x}")
        each.symlink_to(os.path.relpath(blobs / f"{number:064x}", snapshot))
    return case(snapshot)


@kind(
    "a bare network for one with a head around it",
    "transformers' base models, as GPT-2 on the hub",
    needs="transformers",
)
def _(folder):
    model = gpt2(1)
    model.transformer.save_pretrained(folder / "model")
    return case(folder / "model", network=gpt2(99), wanted=dict(model.state_dict()))


@kind(
    "an adapter alone", "PEFT", words="an adapter (PEFT) without the network that it belongs to", needs="peft"
)
def _(folder):
    return case(_adapter(folder), wanted=None)


@kind("the file of an adapter", "PEFT", words="it holds an adapter (LoRA)", needs="peft")
def _(folder):
    return case(_adapter(folder) / "adapter_model.safetensors", network=gpt2(99), wanted=None)


def _adapter(folder: Path) -> Path:
    from peft import LoraConfig, get_peft_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        get_peft_model(gpt2(1), LoraConfig(r=2, target_modules=["c_attn"])).save_pretrained(
            str(folder / "adapter")
        )
    return folder / "adapter"


def quantized(folder: Path, further: dict[str, Tensor]) -> Case:
    save_file(
        {**{name: each for name, each in state().items() if name != "head.weight"}, **further},
        folder / "model.safetensors",
    )
    return case(folder, wanted=None)


@kind("weights in 4 bits", "bitsandbytes", words="it holds quantized weights")
def _(folder):
    packed = torch.zeros(8, 1, dtype=torch.uint8)
    return quantized(
        folder,
        {
            "head.weight": packed,
            "head.weight.absmax": torch.ones(1),
            "head.weight.quant_state.bitsandbytes__nf4": packed.clone(),
        },
    )


@kind("weights in 8 bits", "bitsandbytes", words="it holds quantized weights")
def _(folder):
    return quantized(folder, {"head.weight": torch.zeros(3, 5, dtype=torch.int8), "head.SCB": torch.ones(3)})


@kind("weights in 4 bits", "GPTQ, AWQ", words="it holds quantized weights")
def _(folder):
    return quantized(
        folder,
        {
            "head.qweight": torch.zeros(1, 3, dtype=torch.int32),
            "head.qzeros": torch.zeros(1, dtype=torch.int32),
        },
    )


@kind("quantized tensors", "torch.ao.quantization", words="is quantized; expected a dense tensor of numbers")
def _(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tensor = torch.quantize_per_tensor(torch.ones(3, 5), 0.1, 0, torch.qint8)
    return dataclasses.replace(saved(folder, {**state(), "head.weight": tensor}), wanted=None)


# ---- other programs --------------------------------------------------------------------------------------------------


@kind("an archive of arrays by name (.npz)", "numpy.savez")
def _(folder):
    np.savez(folder / "a.npz", **{name: value.numpy() for name, value in state().items()})
    return case(folder / "a.npz")


@kind(
    "a compressed archive of arrays",
    "numpy.savez_compressed",
    words="write it with numpy.savez, which does not compress",
)
def _(folder):
    np.savez_compressed(folder / "a.npz", **{name: value.numpy() for name, value in state().items()})
    return case(folder / "a.npz", wanted=None)


@kind("a single array (.npy)", "numpy.save", words="is a single array of numpy (.npy)")
def _(folder):
    np.save(folder / "a.npy", np.zeros(3))
    return case(folder / "a.npy", wanted=None)


@kind(
    "a whole network",
    "torch.save(model, path)",
    words="a whole network, which is not loaded since it could run code",
)
def _(folder):
    return dataclasses.replace(saved(folder, nn.Sequential(nn.Linear(2, 3))), wanted=None)


@kind("a whole network of a class of one's own", "torch.save(model, path)", words="not loaded since")
def _(folder):
    return dataclasses.replace(saved(folder, Net()), wanted=None)


@kind("a whole network under model", "YOLOv5 to YOLO11 (Ultralytics)", words="not loaded since")
def _(folder):
    return dataclasses.replace(saved(folder, {"epoch": 1, "model": Net(), "ema": None}), wanted=None)


@kind("a TorchScript archive", "torch.jit.save", words="is a TorchScript archive")
def _(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), folder / "a.pt")
    return case(folder / "a.pt", wanted=None)


@kind("an exported network", "torch.export.save", words="exported by torch.export")
def _(folder):
    return refused(folder, b"PK\x03\x04" + bytes(40), "a.pt2")


@kind("a pickle of tensors", "pickle.dump(model.state_dict(), file), joblib", words="write it by torch.save")
def _(folder):
    return refused(folder, pickle.dumps(state()), "a.pkl")


@kind("a file that calls a function", "nobody who means well", words="could run code")
def _(folder):
    class Runs:
        def __reduce__(self):
            return os.system, ("touch executed",)

    return dataclasses.replace(saved(folder, {"state_dict": state(), "x": Runs()}), wanted=None)


@kind("an ONNX file", "torch.onnx.export", words="is an ONNX file")
def _(folder):
    return refused(folder, b"\x08\x07\x12\x07pytorch" + bytes(40), "model.onnx")


@kind("an HDF5 file", "Keras (.h5)", words="is an HDF5 file (of Keras, or a surface)")
def _(folder):
    with h5py.File(folder / "model.h5", "w") as file:
        file["dense/kernel:0"] = np.zeros((2, 3))
    return case(folder / "model.h5", wanted=None)


@kind("a .keras file", "Keras 3", words="is a file of Keras")
def _(folder):
    return refused(folder, b"PK\x03\x04" + bytes(40), "model.keras")


@kind("a SavedModel", "TensorFlow", words="a SavedModel of TensorFlow")
def _(folder):
    (folder / "saved_model.pb").write_bytes(b"\x08\x01")
    return case(folder, wanted=None)


@kind("a checkpoint", "TensorFlow", words="is a checkpoint of TensorFlow")
def _(folder):
    return refused(folder, bytes(48), "model.ckpt.index")


@kind("a .msgpack file", "Flax", words="is a file of Flax")
def _(folder):
    return refused(folder, b"\x81\xa6params\x80", "flax_model.msgpack")


@kind("a .tflite file", "TensorFlow Lite", words="is a TensorFlow Lite file")
def _(folder):
    return refused(folder, b"\x1c\x00\x00\x00TFL3" + bytes(40), "a.tflite")


@kind("a GGUF file", "llama.cpp", words="is a GGUF file")
def _(folder):
    return refused(folder, b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "a.gguf")


@kind("a compressed file", "gzip", words="unpack it: gzip -d")
def _(folder):
    return refused(folder, gzip.compress(b"x"), "a.pt.gz")


@kind("a pointer of Git LFS", "git clone without git-lfs", words="git lfs pull")
def _(folder):
    return refused(
        folder, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "model.safetensors.pt"
    )


@kind("a page of HTML", "a download of the page about the file", words="download the file by its own address")
def _(folder):
    return refused(folder, b"<!DOCTYPE html><html></html>", "a.pt")


# ---- damaged ---------------------------------------------------------------------------------------------------------


@kind("safetensors, cut", "a full disk", words="is not a safetensors file, or it is")
def _(folder):
    save_file(state(), folder / "a.safetensors")
    content = (folder / "a.safetensors").read_bytes()
    return refused(folder, content[:-9], "a.safetensors")


@kind("safetensors whose header claims more than there is", "", words="its header is not all there")
def _(folder):
    return refused(folder, struct.pack("<Q", 2**40) + b'{"a":1}', "a.safetensors")


@kind("safetensors whose tensors overlap", "", words="is not a safetensors file, or it is damaged")
def _(folder):
    each = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    header = json.dumps({"a": each, "b": each}).encode()
    return refused(folder, struct.pack("<Q", len(header)) + header + bytes(8), "a.safetensors")


@kind("an index that leads out of its folder", "", words="is not in the folder of the index")
def _(folder):
    return sharded(folder, lambda places: places.update({"head.bias": "../a.bin"}), wanted=None)


@kind("an index that names an absolute path", "", words="is not in the folder of the index")
def _(folder):
    return sharded(folder, lambda places: places.update({"head.bias": "/etc/passwd"}), wanted=None)


@kind("a shard that is a link out of the folder", "", words="is a link out of the folder of the index")
def _(folder):
    (folder / "inner").mkdir()
    made = sharded(folder / "inner", wanted=None)
    shard = folder / "inner" / "pytorch_model-00002-of-00002.bin"
    shard.rename(folder / "other.bin")
    shard.symlink_to(folder / "other.bin")
    return made


@kind(
    "a shard that is missing",
    "a download that was cut",
    words="is missing; expected every file of the index beside it",
)
def _(folder):
    made = sharded(folder, wanted=None)
    (folder / "pytorch_model-00002-of-00002.bin").unlink()
    return made


@kind("a tensor in two shards", "", words="expected each tensor in one file")
def _(folder):
    made = sharded(folder, wanted=None)
    torch.save({**state()}, folder / "pytorch_model-00002-of-00002.bin")
    return made


# ---- the table -------------------------------------------------------------------------------------------------------


def outcome(row: Kind, folder: Path) -> tuple[Case, str, bool]:
    """A checkpoint of a kind, the lines about it or its refusal, and whether it was loaded."""
    made = row.make(folder)
    try:
        source = Source(path=str(made.path), key=made.key, part=made.part)
        lines = load(made.network, source, where=str(made.path))
    except LandscapeError as error:
        return made, _portable(str(error), folder, made.path), False
    return made, _portable("; ".join(lines), folder, made.path), True


def _portable(text: str, folder: Path, path: Path) -> str:
    """Without what differs from one folder and one release of a library to another."""
    text = text.replace(str(path), "FILE").replace(str(folder), "FOLDER")
    text = re.sub(r"tests\.problem\.checkpoint_kinds|__main__", "my_package", text)
    return re.sub(r"damaged \(.*", "damaged (...)", text)


def is_installed(row: Kind) -> bool:
    return not row.needs or importlib.util.find_spec(row.needs) is not None


def line(row: Kind) -> str:
    """A row of the document."""
    with tempfile.TemporaryDirectory() as folder:
        _, text, loaded = outcome(row, Path(folder))
    happens = ("loaded" + (f"; said: {text}" if text else "")) if loaded else f"refused: {text}"
    return f"| {row.name} | {row.writer} | {happens.replace('|', chr(92) + '|')} |"


def main() -> None:
    """Write the table into the document."""
    begin, _, rest = DOCUMENT.read_text().partition(BEGIN)
    _, _, end = rest.partition(END)
    rows = ["| kind | who writes it | what happens |", "| --- | --- | --- |", *map(line, KINDS)]
    DOCUMENT.write_text("\n".join([begin.rstrip(), "", BEGIN, "", *rows, "", END]) + end)


if __name__ == "__main__":
    main()
