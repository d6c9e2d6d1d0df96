"""Rows of the complexity data: texts, measured outcomes, and labels that are only assumed."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from meshkit.encoder_onnx import OnnxTextModel
from meshkit.model_files import read_entry, released_manifest
from models.errors import TrainingError
from services.router.core.complexity_features import features_of

Matrix = npt.NDArray[np.float64]
# One row in five of the training split, by its text: equal texts fall on one side.
_DEV_PARTS = 5
# No outcome was measured for these sets; models/complexity/README.md says why they have a label all the same.
EASY_GAIN = 0.0
HARD_GAIN = 0.5
GAIN_PER_STEP = 0.04
ASSUMED_WEIGHT = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Texts as what the model reads: `embeddings` [n, d], `features` [n, f]; `labels` [n, ...] as the set has them."""

    texts: tuple[str, ...]
    embeddings: Matrix
    features: Matrix

    def __getitem__(self, chosen: npt.NDArray[np.bool_]) -> Rows:
        texts = tuple(text for text, keep in zip(self.texts, chosen, strict=True) if keep)
        return Rows(texts, self.embeddings[chosen], self.features[chosen])

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """Rows that both models answered; `weak` and `strong` [n] are 1 where the answer was right."""

    rows: Rows
    weak: Matrix
    strong: Matrix
    domains: npt.NDArray[np.str_]

    def __getitem__(self, chosen: npt.NDArray[np.bool_]) -> Outcomes:
        return Outcomes(self.rows[chosen], self.weak[chosen], self.strong[chosen], self.domains[chosen])

    @property
    def gain(self) -> Matrix:
        """What the strong model adds: -1, 0 or 1."""
        return self.strong - self.weak


@dataclass(frozen=True, slots=True, eq=False)
class Assumed:
    """Rows whose gain nobody measured, and the gain that they are given."""

    rows: Rows
    gain: Matrix


def parts(outcomes: Outcomes) -> npt.NDArray[np.int64]:
    """A number below five for each row, by a hash of its text: 0 is development."""
    digests = (hashlib.sha256(text.encode()).digest() for text in outcomes.rows.texts)
    return np.array([int.from_bytes(digest[:8]) % _DEV_PARTS for digest in digests], dtype=np.int64)


def held_out_domains(outcomes: Outcomes) -> npt.NDArray[np.int64]:
    """A number below five for each row, by its subject alone."""
    digests = (hashlib.sha256(str(domain).encode()).digest() for domain in outcomes.domains)
    return np.array([int.from_bytes(digest[:8]) % _DEV_PARTS for digest in digests], dtype=np.int64)


def without_each_group(outcomes: Outcomes) -> Iterator[tuple[npt.NDArray[np.bool_], ...]]:
    """Masks of the rows to fit on, to calibrate on and to score, once for each group of subjects."""
    groups, part = held_out_domains(outcomes), parts(outcomes)
    for group in np.unique(groups):
        inside = groups == group
        yield ~inside & (part != 0), ~inside & (part == 0), inside


class Reader:
    """Reads sets below `data` and embeds each once; with `cache` the embeddings are kept there between runs."""

    def __init__(self, data: Path, models: Path, cache: Path | None, report: Callable[[str], None]) -> None:
        entry = read_entry(released_manifest(), "encoder")
        self.encoder = entry.id
        self.sources: dict[str, str] = {}
        self._data, self._cache, self._report = data, cache, report
        self._model = OnnxTextModel.load(models, entry)

    def exists(self, name: str) -> bool:
        """Whether the set is there."""
        return (self._data / name).is_file()

    def records(self, name: str) -> list[dict[str, Any]]:
        """A set's records. Raises TrainingError when it is not there."""
        path = self._data / name
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise TrainingError(
                f"{path} is not there; --data names the folder that holds complexity/ and benign/"
            ) from None
        self.sources[name] = hashlib.sha256(content).hexdigest()
        # Not splitlines: texts hold line separators of their own.
        return [json.loads(line) for line in gzip.decompress(content).split(b"\n") if line]

    def rows(self, texts: Sequence[str]) -> Rows:
        """Embeds and counts."""
        features = np.stack([features_of(text) for text in texts]).astype(np.float64)
        return Rows(tuple(texts), self._embed(texts).astype(np.float64), features)

    def outcomes(self, name: str) -> tuple[Outcomes, npt.NDArray[np.str_]]:
        """Rows with measured outcomes, and the split of each ("test" where the set names none)."""
        records = self.records(name)
        weak, strong = ([record[key] for record in records] for key in ("weak_correct", "strong_correct"))
        domains = np.array([record.get("domain", name) for record in records])
        split = np.array([record.get("split", "test") for record in records])
        rows = self.rows([record["text"] for record in records])
        return Outcomes(rows, np.array(weak, dtype=np.float64), np.array(strong, dtype=np.float64), domains), split

    def _embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        key = hashlib.sha256(json.dumps([self.encoder, list(texts)]).encode()).hexdigest()[:16]
        path = None if self._cache is None else self._cache / f"{key}.npy"
        if path is not None and path.is_file():
            kept: npt.NDArray[np.float32] = np.load(path, allow_pickle=False)
            return kept
        self._report(f"embedding {len(texts)} texts, about {len(texts) * 0.02:.0f} s")
        vectors = np.stack([self._model.embed(text).vector for text in texts])
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, vectors)
        return vectors


MMLU = "complexity/routellm-outcomes/mmlu.jsonl.gz"
GSM8K = "complexity/routellm-outcomes/gsm8k.jsonl.gz"
_ARENA_TRAIN = "complexity/arena-hard/v2.0.jsonl.gz"
_GSM8K_TRAIN = "complexity/gsm8k-train/train.jsonl.gz"
_CLINC_TRAIN = ("benign/clinc150/train.jsonl.gz", "benign/clinc150/oos_train.jsonl.gz")
# Beyond these the assumed rows would only cost time: their weight is small.
_EVERY_CLINC_ROW, _EVERY_GSM8K_ROW = 10, 4


def assumed_rows(reader: Reader) -> Assumed:
    """Everyday requests (no gain), hard ones from an arena (half), school sums (by their steps)."""
    everyday = reader.records(_CLINC_TRAIN[0])[::_EVERY_CLINC_ROW] + reader.records(_CLINC_TRAIN[1])
    hard = reader.records(_ARENA_TRAIN)
    sums = reader.records(_GSM8K_TRAIN)[::_EVERY_GSM8K_ROW]
    texts = [row["text"] for row in everyday] + [row["prompt"] for row in hard] + [row["text"] for row in sums]
    steps = [GAIN_PER_STEP * row["n_steps"] for row in sums]
    gain = np.array([EASY_GAIN] * len(everyday) + [HARD_GAIN] * len(hard) + steps, dtype=np.float64)
    return Assumed(reader.rows(texts), gain)


def unlabelled_tests(reader: Reader) -> dict[str, Rows]:
    """Test sets without outcomes: what the model thinks of them can be shown, not scored."""
    return {
        "arena-hard v0.1 (hard by selection)": reader.rows(
            [row["prompt"] for row in reader.records("complexity/arena-hard/v0.1.jsonl.gz")]
        ),
        "clinc150 test (everyday commands)": reader.rows(
            [row["text"] for row in reader.records("benign/clinc150/test.jsonl.gz")[::9]]
        ),
        "self-instruct user-oriented (mixed)": reader.rows(
            [row["text"] for row in reader.records("benign/self-instruct/user-oriented.jsonl.gz")]
        ),
    }
