"""Names that may stand in a pickle beside the tensors: what they name is not read, and is no reason to refuse the file.

Training scripts keep their arguments, paths, dates, random states and metrics in the file of the weights. Nothing is imported
or called for them: an `Unread` stands in the place of each. Refused all the same is what a pickle that means harm needs and a
record of a training does not: whatever of Python's own library, of torch and of numpy is not on the lists here. A package
beyond these three gives a pickle no power here, where nothing is called, and its classes of data cannot be told by name.
"""

from __future__ import annotations

import sys

_PATHS = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
_VALUES = frozenset(
    (
        *(f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in _PATHS),
        *(f"datetime.{name}" for name in ("date", "time", "datetime", "timedelta", "timezone")),
        *("decimal.Decimal", "fractions.Fraction", "uuid.UUID", "types.SimpleNamespace", "random.Random"),
        *("collections.deque", "collections.UserDict", "collections.ChainMap", "zoneinfo.ZoneInfo._unpickle"),
        *("torch.device", "torch.Generator", "torch.torch_version.TorchVersion"),
        # As an object of any of the above is made in further protocols.
        *("copyreg._reconstructor", "copyreg.__newobj_ex__"),
    )
)
# Optimizers and schedulers as whole objects, and numpy's random generators.
_PARTS = ("torch.optim.", "numpy.random.", "numpy.dtypes.")
_OWN = frozenset(sys.stdlib_module_names) | {"torch", "numpy", "builtins", "posix", "nt", "copy_reg"}


def stands_unread(name: str) -> bool:
    """Whether what a name stands for is left unread.

    Example:
        >>> [stands_unread(name) for name in ("pathlib.PosixPath", "omegaconf.dictconfig.DictConfig", "os.system")]
        [True, True, False]
    """
    return name in _VALUES or name.startswith(_PARTS) or name.partition(".")[0] not in _OWN
