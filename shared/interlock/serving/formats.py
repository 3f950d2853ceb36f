"""Telling artifacts apart by their bytes: above all those that execute code when they are loaded."""

from __future__ import annotations

import pickletools
from pathlib import PurePosixPath
from typing import Final

from interlock.errors import Code, Refusal

ARTIFACT_EXECUTES_CODE = Code(
    "ARTIFACT_EXECUTES_CODE",
    422,
    "The artifact is in a format that executes code when it is loaded",
    "Convert it on your own machine and push what the command writes.",
)

_SUFFIXES: Final = {
    ".pkl": "pickle",
    ".pickle": "pickle",
    ".p": "pickle",
    ".joblib": "joblib",
    ".dill": "pickle",
    ".cloudpickle": "pickle",
    ".skops": "skops",
    ".pt": "PyTorch archive",
    ".pth": "PyTorch archive",
    ".h5": "Keras file",
    ".keras": "Keras file",
    ".npy": "NumPy file",
}
#: Leading bytes that no ONNX, XGBoost or LightGBM file has.
_MAGIC: Final = (
    (b"\x1f\x8b", "compressed joblib"),
    (b"BZh", "compressed joblib"),
    (b"\xfd7zXZ\x00", "compressed joblib"),
    (b"\x04\x22\x4d\x18", "compressed joblib"),
    (b"\x78\x01", "compressed joblib"),
    (b"\x78\x5e", "compressed joblib"),
    (b"\x78\x9c", "compressed joblib"),
    (b"\x78\xda", "compressed joblib"),
    (b"PK\x03\x04", "zip archive (skops, PyTorch or Keras)"),
    (b"\x89HDF", "Keras file"),
    (b"\x93NUMPY", "NumPy file"),
)
_OLD_PICKLE_STARTS: Final = b"(]}lcdINFLSVtCX"
_OLD_PICKLE_BYTES_MAX: Final = 4 * 1024 * 1024


def executable_kind(path: str, content: bytes) -> str | None:
    """Return what the artifact is (`pickle`, `joblib`, ...) if loading it could execute code, else None.

    Decided by the name's suffix and by the bytes, which rule where a pickle bears a harmless name. `content` may
    be the first few kilobytes only; then a pickle of protocol 0 or 1 under a harmless name may pass.
    """
    by_name = _SUFFIXES.get(PurePosixPath(path).suffix.lower())
    if by_name:
        return by_name
    if len(content) >= 2 and content[0] == 0x80 and 2 <= content[1] <= 5:
        return "pickle"
    for magic, kind in _MAGIC:
        if content.startswith(magic):
            return kind
    return "pickle" if _old_pickle(content) else None


def refuse_executable(
    path: str, content: bytes, name: str = "NAME", version: int | str = "N", owner: str = "OWNER"
) -> None:
    """Raise Refusal(ARTIFACT_EXECUTES_CODE), with the command that converts it, if the artifact executes code."""
    kind = executable_kind(path, content)
    if kind is None:
        return
    source = path or "model.pkl"
    command = f"interlock model export {source} --out . --name {name} --version {version} --owner {owner}"
    raise Refusal(
        ARTIFACT_EXECUTES_CODE,
        f"{path or 'the artifact'} is a {kind}: loading it would run code that came with it, so no server does."
        f" Run: {command}",
        command=command,
        kind=kind,
    )


def _old_pickle(content: bytes) -> bool:
    """Recognise a pickle of protocol 0 or 1, which has no magic: it parses whole as opcodes and ends with a stop."""
    if not content or content[0] not in _OLD_PICKLE_STARTS or content.rstrip()[-1:] != b".":
        return False
    try:
        for _ in pickletools.genops(content[:_OLD_PICKLE_BYTES_MAX]):
            pass
    except (ValueError, IndexError, UnicodeDecodeError, OverflowError):
        return False
    return True
