"""Folders that programs leave: which file in them holds the weights."""

from __future__ import annotations

from pathlib import Path

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.weights.shards import INDEX
from mpi_landscape.wording import listed, shown

# In the order in which transformers, diffusers and accelerate look for them.
_NAMES = tuple(
    f"{stem}{end}"
    for stem, end in (
        *(("model.safetensors", end) for end in ("", INDEX)),
        *(("pytorch_model.bin", end) for end in ("", INDEX)),
        *(("diffusion_pytorch_model.safetensors", end) for end in ("", INDEX)),
        *(("diffusion_pytorch_model.bin", end) for end in ("", INDEX)),
        *(("pytorch_model.pt", ""), ("pytorch_model_fsdp.bin", ""), ("open_clip_model.safetensors", "")),
    )
)
# accelerate leaves DeepSpeed's folder under the first of these names, and that of FSDP under the second.
_INNER = ("pytorch_model", "pytorch_model_fsdp_0")
_DEEPSPEED = "mp_rank_00_model_states.pt"
_LONGEST_TAG = 255
_MOST_NAMED = 5


def weights_in(folder: Path, where: str) -> tuple[Path, str]:
    """The file of the weights in a folder, and a line where there are several, empty otherwise.

    Raises:
        LandscapeError: There is none that is read; says what to do.
    """
    present = [name for name in _NAMES if (folder / name).is_file()]
    if present:
        line = f"{present[0]} of {listed(present)}, by this order" if len(present) > 1 else ""
        return folder / present[0], line
    _refuse_distributed(folder, where)
    states = _deepspeed(folder, where)
    if states is not None:
        return states, ""
    for name in _INNER:
        if (folder / name).is_dir():
            return weights_in(folder / name, f"{where}: {name}")
    _refuse_others(folder, where)
    files = sorted(each.name for each in folder.iterdir() if each.is_file())[:_MOST_NAMED]
    raise LandscapeError(
        f"{where}: is a folder without weights that are known by their name (it has {shown(listed(files))}); expected "
        f"{listed(_NAMES[:4])} in it, or the file itself"
    )


def _refuse_distributed(folder: Path, where: str) -> None:
    if (folder / ".metadata").is_file() or next(folder.glob("*.distcp"), None) is not None:
        raise LandscapeError(
            f"{where}: is a folder of torch.distributed.checkpoint, of which each file holds parts of the tensors; put them "
            f"together: python -m torch.distributed.checkpoint.format_utils dcp_to_torch {where} whole.pt"
        )


def _deepspeed(folder: Path, where: str) -> Path | None:
    """The file of a folder of DeepSpeed that has the whole network, if it is one."""
    tagged = _tagged(folder, where)
    if tagged is None:
        return None
    several = next(tagged.glob("mp_rank_01_model_states.pt"), None) or next(tagged.glob("layer_*"), None)
    if next(tagged.glob("zero_pp_rank_*_model_states.pt"), None) is not None:
        raise LandscapeError(
            f"{where}: is a folder of DeepSpeed with ZeRO stage 3, whose processes each hold a part of every tensor; put them "
            f"together: python zero_to_fp32.py . whole (the script lies in the folder), and give the folder whole"
        )
    if several is not None:
        raise LandscapeError(
            f"{where}: is a folder of DeepSpeed with the network cut into pieces ({shown(several.name)}); put them together "
            f"in the program that wrote it"
        )
    states = tagged / _DEEPSPEED
    return states if states.is_file() else None


def _tagged(folder: Path, where: str) -> Path | None:
    if (folder / _DEEPSPEED).is_file() or next(
        folder.glob("zero_pp_rank_*_model_states.pt"), None
    ) is not None:
        return folder
    latest = folder / "latest"
    if not latest.is_file():
        return None
    with latest.open("rb") as file:
        tag = file.read(_LONGEST_TAG + 1).decode(errors="replace").strip()
    if Path(tag).name != tag or tag in ("", ".", "..") or "\0" in tag or len(tag) > _LONGEST_TAG:
        raise LandscapeError(f"{where}: latest names {shown(tag)}; expected the name of a folder beside it")
    if not (folder / tag).is_dir():
        raise LandscapeError(
            f"{where}: latest names {shown(tag)}, which is missing; expected a folder beside it"
        )
    return folder / tag


def _refuse_others(folder: Path, where: str) -> None:
    for name, what in (
        ("adapter_config.json", "an adapter (PEFT) without the network that it belongs to; merge it into its base first: "
         "PeftModel.from_pretrained(base, folder).merge_and_unload().save_pretrained(other)"),
        ("saved_model.pb", "a SavedModel of TensorFlow; numpy.savez(path, **arrays) with the names of the network's tensors"),
        ("tf_model.h5", "weights of TensorFlow alone; from_pretrained(folder, from_tf=True).save_pretrained(other) with an "
         "earlier transformers"),
        ("flax_model.msgpack", "weights of Flax alone; from_pretrained(folder, from_flax=True).save_pretrained(other) with an "
         "earlier transformers"),
        ("model.onnx", "an ONNX file alone; take the checkpoint of PyTorch that it was exported from"),
    ):  # fmt: skip
        if (folder / name).is_file():
            raise LandscapeError(f"{where}: is a folder with {what}")
