"""The watching of one pass: torch's functions as Python calls them, and every operation that reaches a kernel."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mpi_landscape.evaluation.engine.provenance import Place, Provenance, Source

# Methods that give numbers to Python past torch's dispatcher.
_READING = frozenset(
    (
        "tolist", "numpy", "__array__", "__dlpack__", "data_ptr", "storage", "untyped_storage",
        "__reduce_ex__", "__repr__", "__format__",
    )
)  # fmt: skip
# Functions that make a tensor of Python's numbers, among which may be tensors.
_MAKING = frozenset(("tensor", "as_tensor", "asarray"))
# Operations with a result whose shape depends on numbers, which torch does not say of them.
_SHAPED = frozenset(("_pack_padded_sequence", "_pad_packed_sequence"))
_FROM = {Source.DATA: "the data", Source.PARAMETERS: "the parameters"}
_OWN = (str(Path(torch.__file__).parent), __file__, "<")


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation on numbers that depend on data or parameters.

    Attributes:
        text: Its name, arguments and results, the same in every pass that does the same.
        memory: The memory that it reads or writes, but for that of its new results.
        parameters: Names of the moving tensors that it reads or writes.
        within: The watched layer in whose call it happens; empty outside of all.
    """

    text: str
    memory: frozenset[int]
    parameters: frozenset[str]
    within: str


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a watched layer.

    Attributes:
        plain: Whether it was called with one tensor and gave one.
        source: What its inputs depend on.
        input: Where its input lay, if plain.
        output: Where its output lay, if plain.
        started: Operations before it.
        ended: Operations when it was done.
    """

    plain: bool
    source: Source
    input: Place | None
    output: Place | None
    started: int
    ended: int


class Observer:
    """What is seen of one pass.

    Attributes:
        operations: In their order.
        calls: Those of the watched layers, by name.
        reads: The first place where Python looks at numbers, by what they depend on.
        random: The first operation that draws random numbers.
        used: The moving tensors that enter an operation or are read.
    """

    def __init__(self, provenance: Provenance) -> None:
        self.provenance = provenance
        self.used: set[str] = set()
        self.operations: list[Operation] = []
        self.calls: dict[str, list[Call]] = {}
        self.reads: dict[Source, str] = {}
        self.random: str | None = None
        self.function, self.may_read = "", False
        self.busy = False
        self._open: list[tuple[str, bool, Source, Place | None, int]] = []

    @contextmanager
    def looking(self) -> Iterator[None]:
        """What is called inside is the observer's own and no part of the pass."""
        before, self.busy = self.busy, True
        try:
            yield
        finally:
            self.busy = before

    def around(self, run: Callable[[], Any]) -> Any:
        """The result of a function that is watched."""
        with _Functions(self), _Operations(self):
            return run()

    def read(self, what: str, source: Source) -> None:
        """Python looks at numbers."""
        if source is not Source.CONSTANTS and not self.may_read:
            self.reads.setdefault(source, f"{what} of {_FROM[source]} is read at {where()}")

    def use(self, tensors: Sequence[Tensor]) -> frozenset[str]:
        """The moving tensors among some, which count as used from now on."""
        names = frozenset(name for each in tensors for name in self.provenance.parameters(each))
        self.used |= names
        return names

    def strongest(self, leaves: Sequence[Any]) -> Source:
        """What any of some values depends on."""
        sources = (self.provenance.source(leaf) for leaf in leaves if isinstance(leaf, Tensor))
        return max(sources, default=Source.CONSTANTS)

    def record(self, text: str, tensors: Sequence[Tensor]) -> None:
        """An operation on tensors has happened."""
        self.operations.append(
            Operation(
                text=text,
                memory=frozenset(self.provenance.place(each).memory for each in tensors),
                parameters=self.use(tensors),
                within=self._open[-1][0] if self._open else "",
            )
        )

    def returned(self, result: Any) -> None:
        """What a pass gives is used after it."""
        tensors = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.record(f"returned {', '.join(map(self.provenance.label, tensors))}", tensors)

    def enter(self, name: str, _: nn.Module, arguments: Any, named: Any) -> None:
        """A watched layer is called; a hook."""
        with self.looking():
            plain = len(arguments) == 1 and isinstance(arguments[0], Tensor) and not named
            place = self.provenance.place(arguments[0]) if plain else None
            source = self.strongest(tree_leaves((arguments, named)))
            self._open.append((name, plain, source, place, len(self.operations)))

    def leave(self, _: str, __: nn.Module, ___: Any, output: Any) -> None:
        """A watched layer is done; a hook."""
        with self.looking():
            name, plain, source, place, started = self._open.pop()
            plain = plain and isinstance(output, Tensor)
            call = Call(
                plain=plain,
                source=source,
                input=place,
                output=self.provenance.place(output) if plain else None,
                started=started,
                ended=len(self.operations),
            )
            self.calls.setdefault(name, []).append(call)


class _Functions(TorchFunctionMode):
    """Sees torch's functions as Python calls them, also those that the dispatcher never sees."""

    def __init__(self, observer: Observer) -> None:
        super().__init__()
        self._observer = observer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, seen = kwargs or {}, self._observer
        if seen.busy:
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name in _READING or (name in _MAKING and args and not isinstance(args[0], Tensor)):
            with seen.looking():
                given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
                if name != "data_ptr":  # which gives no numbers
                    seen.use(given)
                seen.read(name.strip("_"), seen.strongest(given))
        before = seen.function, seen.may_read
        # torch itself looks whether its labels are in range, and gives a shape that does not depend on them.
        seen.function, seen.may_read = (
            name,
            seen.may_read or (name == "one_hot" and _num_classes(args, kwargs) > 0),
        )
        try:
            return func(*args, **kwargs)
        finally:
            seen.function, seen.may_read = before


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation that reaches a kernel."""

    def __init__(self, observer: Observer) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._observer = observer

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, seen = kwargs or {}, self._observer
        if seen.busy or not isinstance(func, torch._ops.OpOverload):
            return func(*args, **kwargs)
        # In inference mode some come here that are made of others.
        with self:
            result = func.decompose(*args, **kwargs)
        if result is not NotImplemented:
            return result
        with seen.looking():
            return _operate(seen, func, args, kwargs)


def _operate(seen: Observer, func: Any, args: Any, kwargs: Any) -> Any:
    """One operation; what goes into it is noted before, and what comes out of it afterwards."""
    name, of = func._schema.name.removeprefix("aten::"), seen.provenance
    given = tree_leaves((args, kwargs))
    tensors = [leaf for leaf in given if isinstance(leaf, Tensor)]
    if name == "lift_fresh" and seen.function:  # a tensor of Python's numbers
        of.made(tensors[0], Source.CONSTANTS)
    source = seen.strongest(given)
    if torch.Tag.data_dependent_output in func.tags:
        seen.read("item" if name == "_local_scalar_dense" else name, source)
    elif name in _SHAPED or torch.Tag.dynamic_output_shape in func.tags:
        seen.read(f"the shape of {name}", seen.strongest(_shaping(name, tensors)))
    # In place or not: what is written is another result from then on, whoever looks at it.
    text = _text(of, name.rstrip("_"), given, kwargs) if source > Source.CONSTANTS else name
    before = _generator_states(func, given)
    result = func(*args, **kwargs)
    if any(not torch.equal(*states) for states in zip(before, _generator_states(func, given), strict=True)):
        source = max(source, Source.DATA)  # other numbers in the next pass
        seen.random = seen.random or f"{name} at {where()}"
    results = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
    for each in {of.place(each).memory: each for each in _written(func, args, kwargs)}.values():
        of.written(each, source)
    for each in results:
        of.made(each, source)
    if source > Source.CONSTANTS:
        seen.record(f"{text} -> {', '.join(map(of.label, results))}", tensors)
    return result


def _shaping(name: str, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Those of an operation's arguments on whose numbers the shape of its result depends."""
    if name == "_ctc_loss":  # a result that nobody sees
        return []
    if name in ("index", "masked_select"):
        return [index for index in tensors[1:] if index.dtype in (torch.bool, torch.uint8)]
    return list(tensors)


def _text(of: Provenance, name: str, given: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    words = [
        of.label(leaf)
        if isinstance(leaf, Tensor)
        else "generator"
        if isinstance(leaf, torch.Generator)
        else repr(leaf)
        for leaf in given
    ]
    return f"{name}({', '.join(words)}; {', '.join(kwargs)})"


def _written(func: Any, args: Any, kwargs: Any) -> Iterator[Tensor]:
    """The tensors that an operation writes in place."""
    for index, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[index] if index < len(args) else kwargs.get(argument.name)
            yield from (leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor))


def _num_classes(args: Any, kwargs: Any) -> int:
    """Of a call of `one_hot`; -1 where it finds them out itself."""
    number = args[1] if len(args) > 1 else kwargs.get("num_classes", -1)
    return number if isinstance(number, int) else -1


def _generator_states(func: Any, given: Sequence[Any]) -> list[Tensor]:
    """Those of the generators from which an operation may draw: it need not, as dropout in evaluation mode."""
    if torch.Tag.nondeterministic_seeded not in func.tags:
        return []
    generators = [leaf for leaf in given if isinstance(leaf, torch.Generator)]
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        generators += torch.cuda.default_generators
    return [each.get_state() for each in (torch.default_generator, *generators)]


def where(*own: str) -> str:
    """The file and line of the innermost code that is neither torch's nor in a file of those named."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith((*_OWN, *own)):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
