"""Networks of transformers, by a folder or a name in the local cache, or made anew from a configuration.

Nothing of a folder is executed: no code beside the weights (`trust_remote_code`), and of weights tensors alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.wording import listed, one_line, reason, shown, suggestion

# What a network is to answer, and the class of transformers that finds the network for it.
TASKS = {
    "causal": "AutoModelForCausalLM",
    "masked": "AutoModelForMaskedLM",
    "sequence_to_sequence": "AutoModelForSeq2SeqLM",
    "classification": "AutoModelForSequenceClassification",
    "tokens": "AutoModelForTokenClassification",
    "questions": "AutoModelForQuestionAnswering",
    "images": "AutoModelForImageClassification",
    "features": "AutoModel",
}
# Products and a softmax, the same on every device. What torch chooses among fused kernels depends on device, type and mask, and
# the derivatives of one of them on a GPU are not deterministic. On a CPU both gave one example the same bits beside any other.
_ATTENTION = "eager"
# A loop over the experts; a product of all at once there is in float32 and below alone.
_EXPERTS = "eager"
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
    attention: str = _ATTENTION,
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
    transformers = _library(f"hub/{name}")
    _check_flags(download=download, pretrained=pretrained, random_head=random_head)
    _check_task(task)
    if (Path(name) / _ADAPTER).is_file():
        if not pretrained:
            raise LandscapeError(
                f"pretrained is false, and {name} is an adapter; expected the name of its base"
            )
        arguments = {"task": task, "download": download, "random_head": random_head, "config": config}
        return _adapted(Path(name), {**arguments, "attention": attention})
    found = _configuration(transformers, name, download)
    _refuse_quantized(found, name)
    found._experts_implementation = _EXPERTS
    _change(found, config or {}, "config")
    made = _class(transformers, found, task)
    with _quiet(transformers):
        if not pretrained:
            return _from(made, found, attention)
        network, report = _read(made, name, found, attention, download)
    _check_loaded(report, name, random_head)
    return _usable(network)


def new_network(*, config: Mapping[str, Any], task: str = "auto", attention: str = _ATTENTION) -> nn.Module:
    """Build a network of transformers with random parameters.

    Args:
        config: Its `type`, such as gpt2, and what else is to differ from that type's own values.
        task: One of `TASKS`; "auto" is a causal language model where the type has one, or else its features.
        attention: As in `hugging_face_network`.

    Raises:
        LandscapeError: transformers is not installed, or an argument is not valid.
    """
    transformers = _library("hub")
    _check_task(task)
    if not isinstance(config, Mapping) or not isinstance(config.get("type"), str):
        raise LandscapeError(
            f"config is {shown(config)}; expected a mapping with a type, such as {{type: gpt2, n_layer: 2}}"
        )
    types = list(transformers.CONFIG_MAPPING.keys())
    kind = config["type"]
    if kind not in types:
        raise LandscapeError(
            f"config.type is {shown(kind)}; transformers {transformers.__version__} has no such type{suggestion(kind, types)}"
        )
    with _quiet(transformers):
        found = transformers.CONFIG_MAPPING[kind]()
        found._experts_implementation = _EXPERTS
        _change(found, {key: value for key, value in config.items() if key != "type"}, "config")
        if task == "auto":
            task = "causal" if type(found) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING else "features"
        return _from(_class(transformers, found, task), found, attention)


def _library(name: str) -> Any:
    try:
        # Here, as it takes seconds and most networks do not need it.
        import transformers
    except ImportError as error:
        raise LandscapeError(
            f"name {shown(name)} needs transformers ({reason(error)}); pip install 'mpi_landscape[language]'"
        ) from error
    return transformers


def _check_flags(**flags: Any) -> None:
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise LandscapeError(f"{name} is {shown(value)}; expected true or false")


def _check_task(task: Any) -> None:
    valid = ["auto", *TASKS]
    if task not in valid:
        raise LandscapeError(
            f"task is {shown(task)}; valid are {listed(valid)}{suggestion(str(task), valid)}"
        )


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
        with _quiet(transformers):
            return transformers.AutoConfig.from_pretrained(name, **_sources(download))
    except Exception as error:
        if folder.is_dir():
            raise LandscapeError(f"{name}/config.json cannot be used ({_said(error)})") from error
        raise LandscapeError(_absent(name, download, error)) from error


def _absent(name: str, download: bool, error: Exception) -> str:
    from huggingface_hub import constants

    place = f"neither a folder nor in the cache {constants.HF_HUB_CACHE}"
    if download:
        return f"name is {shown(f'hub/{name}')}: it is {place}, and cannot be fetched ({_said(error)})"
    return (
        f"name is {shown(f'hub/{name}')}: it is {place}; valid is a folder that save_pretrained has written, or, with a "
        f"connection, arguments.download: true"
    )


def _said(error: Exception) -> str:
    """The first sentence of what transformers says: what follows are links."""
    return f"{type(error).__name__}: {one_line(error).split('. ')[0][:200]}"


def _refuse_quantized(config: Any, name: str) -> None:
    how = getattr(config, "quantization_config", None)
    if how:
        method = how.get("quant_method") if isinstance(how, Mapping) else getattr(how, "quant_method", None)
        raise LandscapeError(
            f"{name}: its weights are quantized ({method or 'quantization_config'}), and a step between two quantized "
            f"numbers is none; expected the weights that they were made of"
        )


def _change(config: Any, values: Mapping[str, Any], where: str) -> None:
    """Change values that a configuration has; transformers would take any other name without a word."""
    if not isinstance(values, Mapping):
        raise LandscapeError(f"{where} is {shown(values)}; expected a mapping such as {{num_labels: 3}}")
    known = {*config.to_dict(), *getattr(config, "attribute_map", {}), "num_labels"}
    for name, value in values.items():
        if name not in known:
            raise LandscapeError(
                f"{where} has {shown(name)}, which a {type(config).__name__} does not know{suggestion(str(name), sorted(known))}"
            )
        try:
            setattr(config, name, value)
        except Exception as error:  # each release has another way to check them
            raise LandscapeError(f"{where}.{name} is {shown(value)} ({_said(error)})") from error


def _class(transformers: Any, config: Any, task: str) -> Any:
    """The class of transformers, or the one that finds it, for a task."""
    if task != "auto":
        found = getattr(transformers, TASKS[task])
        if type(config) not in found._model_mapping:
            raise LandscapeError(
                f"task is {task}, and transformers has no such network for {config.model_type}; expected another task"
            )
        return found
    said = getattr(config, "architectures", None) or ()
    for each in said:
        found = getattr(transformers, str(each), None)
        # A class of transformers' own: a name in a file must not reach anything else.
        if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
            return found
    if said:
        raise LandscapeError(
            f"config.json says architectures {listed(map(str, said))}, which transformers {transformers.__version__} has not; "
            f"nothing of a folder is executed, so expected a network of transformers' own, or a task"
        )
    return transformers.AutoModel


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
            f"{name}: its weights cannot be loaded ({_said(error)}); expected tensors as save_pretrained writes them, or "
            f"pretrained: false for random ones"
        ) from error
    return network, report


def _from(made: Any, config: Any, attention: str) -> nn.Module:
    """A network with random parameters."""
    build = made.from_config if hasattr(made, "from_config") else made._from_config
    return _usable(build(config, attn_implementation=attention))


def _usable(network: Any) -> nn.Module:
    # A cache of keys and values is for generating, one token after another.
    if getattr(network.config, "use_cache", False):
        network.config.use_cache = False
    if getattr(network, "loss_type", "") is None:
        network.loss_type = "ForCausalLM"  # what it takes anyway, with a warning
    result: nn.Module = network
    return result


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


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without progress bars and reports of transformers: what matters of them is said in errors."""
    log = transformers.utils.logging
    before, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(before)
        if bars:
            log.enable_progress_bar()
