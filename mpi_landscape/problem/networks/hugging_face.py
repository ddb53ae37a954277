"""Networks of transformers, by a folder or a name in the local cache.

Nothing of a folder is executed: no code beside the weights (`trust_remote_code`), and of weights tensors alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.networks.transformer_classes import (
    ATTENTION,
    EXPERTS,
    change,
    check_task,
    class_for,
    first_said,
    library,
    made_new,
    quiet,
    usable,
)
from mpi_landscape.wording import one_line, reason, shown

_ADAPTER = "adapter_config.json"
_MOST_NAMED = 3


def hugging_face_network(
    name: str,
    /,
    *,
    task: str = "auto",
    download: bool = False,
    pretrained: bool = True,
    random_head: bool = False,
    config: Mapping[str, Any] | None = None,
    attention: str = ATTENTION,
) -> nn.Module:
    """Build a network of transformers, in the type in which its weights are kept.

    Args:
        name: A folder with a config.json, or with an adapter of peft; or a name on the Hugging Face hub.
        task: One of `TASKS`; "auto" is what the folder says that it is.
        download: Whether what is not in the cache may be fetched.
        pretrained: False takes the config.json alone and random parameters.
        random_head: Whether what the task needs and the weights do not have may be random, to be trained.
        config: Values of config.json to be changed, such as {num_labels: 3}.
        attention: Implementation of attention, as transformers calls it.

    Raises:
        LandscapeError: transformers is not installed, the folder or its adapter's base is not there, its weights are
            quantized, or an argument is not valid.
    """
    transformers = library(f"hub/{name}")
    _check_flags(download=download, pretrained=pretrained, random_head=random_head)
    check_task(task)
    if (Path(name) / _ADAPTER).is_file():
        if not pretrained:
            raise LandscapeError(
                f"pretrained is false, and {name} is an adapter; expected the name of its base"
            )
        arguments = {"task": task, "download": download, "random_head": random_head, "config": config}
        return _adapted(Path(name), {**arguments, "attention": attention})
    found = _configuration(transformers, name, download)
    _refuse_quantized(found, name)
    found._experts_implementation = EXPERTS
    change(found, config or {}, "config")
    made = class_for(transformers, found, task)
    with quiet(transformers):
        if not pretrained:
            return made_new(made, found, attention)
        network, report = _read(made, name, found, attention, download)
    _check_loaded(report, name, random_head)
    return usable(network)


def _check_flags(**flags: Any) -> None:
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise LandscapeError(f"{name} is {shown(value)}; expected true or false")


def _sources(download: bool) -> dict[str, bool]:
    return {"local_files_only": not download, "trust_remote_code": False}


def _configuration(transformers: Any, name: str, download: bool) -> Any:
    """The config.json of a folder or a name."""
    folder = Path(name)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise LandscapeError(
            f"name is {shown(f'hub/{name}')}: the folder has no config.json; expected one that save_pretrained of "
            f"transformers has written"
        )
    if not folder.is_dir() and (folder.is_absolute() or name.startswith(".") or name.count("/") > 1):
        raise LandscapeError(
            f"name is {shown(f'hub/{name}')}: there is no such folder (working folder {Path.cwd()})"
        )
    try:
        with quiet(transformers):
            return transformers.AutoConfig.from_pretrained(name, **_sources(download))
    except Exception as error:
        if folder.is_dir():
            raise LandscapeError(f"{name}/config.json cannot be used ({first_said(error)})") from error
        raise LandscapeError(_absent(name, download, error)) from error


def _absent(name: str, download: bool, error: Exception) -> str:
    from huggingface_hub import constants

    place = f"neither a folder nor in the cache {constants.HF_HUB_CACHE}"
    if download:
        return f"name is {shown(f'hub/{name}')}: it is {place}, and cannot be fetched ({first_said(error)})"
    return (
        f"name is {shown(f'hub/{name}')}: it is {place}; valid is a folder that save_pretrained has written, or, with a "
        f"connection, arguments.download: true"
    )


def _refuse_quantized(config: Any, name: str) -> None:
    how = getattr(config, "quantization_config", None)
    if how:
        method = how.get("quant_method") if isinstance(how, Mapping) else getattr(how, "quant_method", None)
        raise LandscapeError(
            f"{name}: its weights are quantized ({method or 'quantization_config'}), and a step between two quantized "
            f"numbers is none; expected the weights that they were made of"
        )


def _read(made: Any, name: str, config: Any, attention: str, download: bool) -> tuple[Any, Mapping[str, Any]]:
    """A network with its weights, in their own type, and what was missing."""
    kinds = {"dtype": "auto", "attn_implementation": attention}
    try:
        network, report = made.from_pretrained(
            name, config=config, output_loading_info=True, **kinds, **_sources(download)
        )
    # Safetensors, pickle, the disk and transformers itself each have exceptions of their own.
    except Exception as error:
        raise LandscapeError(
            f"{name}: its weights cannot be loaded ({first_said(error)}); expected tensors as save_pretrained writes them, or "
            f"pretrained: false for random ones"
        ) from error
    return network, report


def _check_loaded(report: Mapping[str, Any], name: str, random_head: bool) -> None:
    missing = sorted(report.get("missing_keys", ()))
    wrong = sorted(str(each[0]) for each in report.get("mismatched_keys", ()))
    if wrong and not random_head:
        raise LandscapeError(
            f"{name}: weights of another shape than the configuration says: {_some(wrong)}; expected config as in "
            f"config.json, or random_head: true"
        )
    if missing and not random_head:
        raise LandscapeError(
            f"{name}: has no weights for {_some(missing)}; expected a task that it was trained for, or, to train them, "
            f"random_head: true"
        )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{', '.join(names[:_MOST_NAMED])}{more}"


def _adapted(folder: Path, arguments: Mapping[str, Any]) -> nn.Module:
    """A base with an adapter of peft, whose parameters alone are trainable."""
    try:
        said = json.loads((folder / _ADAPTER).read_text())
        base = said["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LandscapeError(f"{folder / _ADAPTER} does not say its base ({reason(error)})") from error
    try:
        import peft
    except ImportError as error:
        raise LandscapeError(f"{folder} is an adapter, which needs peft ({reason(error)})") from error
    # Beside the adapter, or from the working folder.
    beside = folder / str(base)
    place = str(beside) if beside.is_dir() else str(base)
    try:
        network = hugging_face_network(place, **arguments)
    except LandscapeError as error:
        raise LandscapeError(f"{folder} is an adapter of {shown(base)}: {one_line(error, None)}") from error
    adapted: nn.Module = peft.PeftModel.from_pretrained(network, str(folder), is_trainable=True)
    return adapted
