"""Files that hold weights in a form that is not read: what each is, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mpi_landscape.errors import LandscapeError

_CONVERT = "load it in its own program, and save the tensors by name: torch.save(model.state_dict(), path)"


@dataclass(frozen=True, kw_only=True)
class Form:
    """A form of files.

    Attributes:
        what: What it is called.
        sign: What such a file has at `place`; none for one that only its name tells.
        ends: Ends of names; of a form with a sign they are not looked at.
        advice: What to do.
    """

    what: str
    sign: bytes = b""
    place: int = 0
    ends: tuple[str, ...] = ()
    advice: str = _CONVERT


_FORMS = (
    Form(
        what="an HDF5 file (of Keras, or a surface)",
        sign=b"\x89HDF\r\n\x1a\n",
        advice="of Keras: numpy.savez(path, **arrays) with the names of the network's tensors",
    ),
    Form(
        what="a GGUF file (of llama.cpp)",
        sign=b"GGUF",
        advice="its weights are for inference, most of them quantized; take the checkpoint that it was made from",
    ),
    Form(what="a GGML file (of llama.cpp)", sign=b"lmgg", advice="take the checkpoint that it was made from"),
    Form(
        what="a single array of numpy (.npy)",
        sign=b"\x93NUMPY",
        advice="a checkpoint has tensors by name: numpy.savez(path, **arrays)",
    ),
    Form(
        what="a TensorFlow Lite file",
        sign=b"TFL3",
        place=4,
        advice="take the checkpoint that it was made from",
    ),
    Form(what="a compressed file (gzip)", sign=b"\x1f\x8b", advice="unpack it: gzip -d"),
    Form(what="a compressed file (xz)", sign=b"\xfd7zXZ\x00", advice="unpack it: xz -d"),
    Form(what="a compressed file (zstd)", sign=b"\x28\xb5\x2f\xfd", advice="unpack it: zstd -d"),
    Form(what="a compressed file (bzip2)", sign=b"BZh", advice="unpack it: bzip2 -d"),
    Form(
        what="a pointer of Git LFS, and not the file itself",
        sign=b"version https://git-lfs",
        advice="fetch the file: git lfs pull",
    ),
    Form(
        what="a page of HTML, and not the file itself",
        sign=b"<!DOCTYPE html",
        advice="download the file by its own address",
    ),
    Form(
        what="a tar archive (of torch before 0.1.10, .nemo and others)",
        sign=b"ustar",
        place=257,
        advice="unpack it, and give the checkpoint in it",
    ),
    Form(
        what="an ONNX file",
        ends=(".onnx",),
        advice="take the checkpoint of PyTorch that it was exported from",
    ),
    Form(
        what="a graph of TensorFlow",
        ends=(".pb",),
        advice="numpy.savez(path, **arrays) with the names of the network's tensors",
    ),
    Form(
        what="a checkpoint of TensorFlow",
        ends=(".ckpt.index", ".data-00000-of-00001", ".index"),
        advice="numpy.savez(path, **arrays) with the names of the network's tensors",
    ),
    Form(
        what="a file of Flax (msgpack)",
        ends=(".msgpack",),
        advice="numpy.savez(path, **arrays) with the names of the network's tensors",
    ),
    Form(
        what="a file of Keras",
        ends=(".keras",),
        advice="numpy.savez(path, **arrays) with the names of the network's tensors",
    ),
    Form(what="a network exported by torch.export", ends=(".pt2",)),
    Form(
        what="an engine of TensorRT",
        ends=(".engine", ".plan"),
        advice="take the checkpoint that it was made from",
    ),
    Form(what="a file of Core ML", ends=(".mlmodel",), advice="take the checkpoint that it was made from"),
    Form(
        what="a file of Paddle",
        ends=(".pdparams",),
        advice="numpy.savez(path, **arrays) with the names of the network's tensors",
    ),
)
_LONGEST_SIGN = 270


def first_bytes(path: Path, where: str) -> bytes:
    """The begin of a regular file that is not empty.

    Raises:
        LandscapeError: It is another thing, or cannot be read.
    """
    if not path.exists():
        raise LandscapeError(f"{where}: no such checkpoint (working folder {Path.cwd()})")
    if not path.is_file():
        raise LandscapeError(f"{where}: is not a regular file; expected a checkpoint of torch.save")
    try:
        with path.open("rb") as file:
            first = file.read(_LONGEST_SIGN)
    except OSError as error:
        raise LandscapeError(f"{where}: cannot be read ({error.strerror or error})") from error
    if not first:
        raise LandscapeError(f"{where}: is empty; expected a checkpoint of torch.save")
    return first


def refuse_foreign(path: Path, first: bytes, where: str) -> None:
    """Refuse a file in a form of another program.

    Raises:
        LandscapeError: It is; says what to do.
    """
    for form in _FORMS:
        is_it = (
            first[form.place :].startswith(form.sign) if form.sign else path.name.lower().endswith(form.ends)
        )
        if is_it:
            further = "" if "not the file itself" in form.what else ", and not a checkpoint of PyTorch"
            raise LandscapeError(f"{where}: is {form.what}{further}; {form.advice}")
