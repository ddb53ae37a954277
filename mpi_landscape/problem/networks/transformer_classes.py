"""What of transformers is built for a task, with random parameters or from a configuration that has been read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
ATTENTION = "eager"
# A loop over the experts; a product of all at once there is in float32 and below alone.
EXPERTS = "eager"
# Releases before it name types, experts and tokenizers otherwise.
_OLDEST = 5


def new_network(*, config: Mapping[str, Any], task: str = "auto", attention: str = ATTENTION) -> nn.Module:
    """Build a network of transformers with random parameters.

    Args:
        config: Its `type`, such as gpt2, and what else is to differ from that type's own values.
        task: One of `TASKS`; "auto" is a causal language model where the type has one, or else its features.
        attention: As in `hugging_face_network`.

    Raises:
        LandscapeError: transformers is not installed, or an argument is not valid.
    """
    transformers = library("hub")
    check_task(task)
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
    with quiet(transformers):
        found = transformers.CONFIG_MAPPING[kind]()
        found._experts_implementation = EXPERTS
        change(found, {key: value for key, value in config.items() if key != "type"}, "config")
        if task == "auto":
            task = "causal" if type(found) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING else "features"
        return made_new(class_for(transformers, found, task), found, attention)


def library(name: str) -> Any:
    """The library itself, for a network that a user calls so; a LandscapeError where it is not installed."""
    try:
        # Here, as it takes seconds and most networks do not need it.
        import transformers
    except ImportError as error:
        raise LandscapeError(
            f"name {shown(name)} needs transformers ({reason(error)}); pip install 'mpi_landscape[language]'"
        ) from error
    if int(transformers.__version__.split(".")[0]) < _OLDEST:
        raise LandscapeError(
            f"name {shown(name)} needs transformers {_OLDEST} or later, and {transformers.__version__} is installed; "
            f"pip install 'mpi_landscape[language]', or build the network in a target of your own"
        )
    return transformers


def check_task(task: Any) -> None:
    """Refuse what is no task, by a LandscapeError."""
    valid = ["auto", *TASKS]
    if task not in valid:
        raise LandscapeError(
            f"task is {shown(task)}; valid are {listed(valid)}{suggestion(str(task), valid)}"
        )


def change(config: Any, values: Mapping[str, Any], where: str) -> None:
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
            raise LandscapeError(f"{where}.{name} is {shown(value)} ({first_said(error)})") from error


def class_for(transformers: Any, config: Any, task: str) -> Any:
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


def made_new(made: Any, config: Any, attention: str) -> nn.Module:
    """A network with random parameters."""
    build = made.from_config if hasattr(made, "from_config") else made._from_config
    return usable(build(config, attn_implementation=attention))


def usable(network: Any) -> nn.Module:
    """A network without what is for generating texts, or only warns."""
    # A cache of keys and values is for generating, one token after another.
    if getattr(network.config, "use_cache", False):
        network.config.use_cache = False
    if getattr(network, "loss_type", "") is None:
        network.loss_type = "ForCausalLM"  # what it takes anyway, with a warning
    result: nn.Module = network
    return result


def first_said(error: Exception) -> str:
    """The first sentence of what transformers says: what follows are links."""
    return f"{type(error).__name__}: {one_line(error).split('. ')[0][:200]}"


@contextmanager
def quiet(transformers: Any) -> Iterator[None]:
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
