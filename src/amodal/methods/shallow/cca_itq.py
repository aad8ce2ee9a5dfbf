"""CCA-ITQ: maximally correlated directions, rotated to binary codes. The control for paired data without labels."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from amodal.codes import BinaryCodes, Codes, Embeddings
from amodal.errors import MethodError
from amodal.methods.base import Method
from amodal.methods.card import Card
from amodal.methods.features import Kernel, by_blocks
from amodal.methods.shallow.inputs import Rows, above_zero, kernel_rows, one_of
from amodal.methods.shallow.solvers import frame, itq

if TYPE_CHECKING:
    from amodal.data import Dataset
    from amodal.training.settings import Training

__all__ = ["CCAITQ"]

Array = NDArray[np.float64]

CODES = ("itq", "real")
COVARIANCES = ("all", "pairs")
ROTATIONS = ("shared", "own")
# Principal components kept of features that are wide for the number of pairs: at most so many, and no more than hold
# this share of the variance
COMPONENTS, ENERGY = 256, 0.95
# A correlation below this is none.
NO_CORRELATION = 1e-6


class CCAITQ(Method):
    """Canonical correlation analysis, and iterative quantisation of what it finds.

    Each modality is whitened, C_m + epsilon I = F_m^-T F_m^-1, and the directions are the top eigenvectors of

        [ I                    F_1^T C_12 F_2   ... ]
        [ F_2^T C_21 F_1       I                ... ],    eigenvalue 1 + (M - 1) rho,  blocks u_1, u_2, ...

        A_m = F_m u_m sqrt(M) rho^power

    For two modalities this is CCA: rho are the canonical correlations, and A_m^T (C_m + epsilon I) A_m = I with
    ``power=0``. For more it is MAXVAR generalised CCA. C_ml is taken over the items that have both, which may be other
    items for each pair of modalities; no matrix over items is ever built. Rows are items (of one with several
    observations of a modality, their mean); labels are not used.

    "real": (x - mean) A_m, compared by cosine. "itq": sgn((x - mean) A_m R), the rotation R found by iterative
    quantisation of the training rows.

    Args:
        bits: Length of codes, and most directions used.
        code: "itq" for binary codes or "real" for embeddings.
        anchors: Anchors of a Gaussian kernel put in front; 0 for features as they are.
        epsilon: Regularisation of each covariance, in mean eigenvalues of it; above 0.
        power: Exponent of rho, 0 or more.
        covariance: Whether C_m is taken over "all" rows observed or over items with several modalities, "pairs".
        rotation: R from the rows of all modalities, "shared", or of the first one, "own" (as Gong and Lazebnik).
        lift: With fewer directions than bits, spread them over all bits by a random matrix with orthonormal rows;
            otherwise refuse.
        steps: Rounds of iterative quantisation.
        seed: Of anchors, lift and the rotation to start from.

    Attributes:
        correlations_: rho, shape (k,), k <= bits; between 0 and 1.
        kernels_: What is done to features first: centring, and the kernel if there is one.
        maps_: A_m, for codes times lift and R, by modality, shape (d, k) or (d, bits).

    Paper: Hotelling, Relations between two sets of variates, Biometrika 1936; Gong and Lazebnik, CVPR 2011.
    Reference code: the ITQ distributed inside kding1225/RoPH (no licence; read, not used).
    """

    card = Card(
        slug="cca_itq",
        name="CCA-ITQ",
        summary="Maximally correlated directions of paired items, rotated to binary codes; uses no labels.",
        paper="Gong and Lazebnik, Iterative Quantization: A Procrustean Approach to Learning Binary Codes, CVPR 2011",
        url="https://doi.org/10.1109/CVPR.2011.5995432",
        family="shallow",
        returns="codes",
        needs_labels=False,
        needs_pairs="yes",
        native="any",
        checked="Correlations equal those of scikit-learn's CCA; shuffled pairs fall to the level of chance.",
        departures=(
            "epsilon is one mean eigenvalue (there: 1e-4, absolute): relative, so that units do not matter, and larger "
            "because 1e-4 overfits: mAP with real-valued directions on Flickr8k .49 against .64, with a tenth of the "
            "pairs .46 against .57.",
            "R is fitted on all modalities together (there: on one); rotation='own' is theirs.",
            "Features wider than a quarter of the pairs are first reduced to at most 256 principal components that "
            "hold at most 95 % of the variance: without it, correlations are 1 in training and chance elsewhere.",
            "More bits than directions are filled by a random lift.",
        ),
        reference_code="the ITQ distributed inside kding1225/RoPH, no licence; read, never copied",
    )
    search_space: ClassVar = {
        "bits": (16, 32, 64, 128),
        "code": CODES,
        "anchors": (0, 500),
        "epsilon": (1e-4, 1e-2, 1e-1, 1.0, 10.0),
        "power": (0.0, 1.0, 2.0),
        "covariance": COVARIANCES,
        "rotation": ROTATIONS,
    }

    correlations_: Array
    kernels_: dict[str, Kernel]
    maps_: dict[str, Array]

    def __init__(
        self,
        *,
        bits: int = 64,
        code: str = "itq",
        anchors: int = 0,
        epsilon: float = 1.0,
        power: float = 1.0,
        covariance: str = "pairs",
        rotation: str = "shared",
        lift: bool = True,
        steps: int = 50,
        seed: int = 0,
    ) -> None:
        self.bits, self.code, self.anchors, self.epsilon, self.power = bits, code, anchors, epsilon, power
        self.covariance, self.rotation, self.lift, self.steps, self.seed = covariance, rotation, lift, steps, seed

    def _learn(self, data: Dataset, validation: Dataset | None, training: Training | None) -> None:
        one_of(self.code, CODES, what="code of cca_itq")
        one_of(self.covariance, COVARIANCES, what="covariance of cca_itq")
        one_of(self.rotation, ROTATIONS, what="rotation of cca_itq")
        above_zero("cca_itq", bits=self.bits, epsilon=self.epsilon, steps=self.steps)
        random = np.random.default_rng(self.seed)
        if self.covariance == "pairs":
            data = data.take(data.presence().sum(axis=1) > 1)
        self.kernels_, rows = kernel_rows(data, fill="mask", anchors=self.anchors, random=random)
        pairs = {(a, b): _both(rows[a], rows[b]) for a, b in combinations(data.names, 2)}
        self._directions(rows, pairs)
        if self.code == "itq":
            self._quantise(rows, random)

    def _directions(self, rows: dict[str, Rows], pairs: Mapping[tuple[str, str], tuple[Array, Array]]) -> None:
        """Correlations and, in ``maps_``, the directions A_m."""
        fewest = {name: min(len(x) for pair, (x, _) in pairs.items() if name in pair) for name in rows}
        whiten = {name: self._whitener(x, fewest[name]) for name, (_, x) in rows.items()}
        ends = np.cumsum([0] + [F.shape[1] for F in whiten.values()])
        block = {name: slice(ends[m], ends[m + 1]) for m, name in enumerate(rows)}
        joint = np.eye(ends[-1])
        for (a, b), (x, y) in pairs.items():
            joint[block[a], block[b]] = whiten[a].T @ (x.T @ y / max(len(x), 1)) @ whiten[b]
            joint[block[b], block[a]] = joint[block[a], block[b]].T
        most = min(self.bits, len(joint))
        values, vectors = eigh(joint, subset_by_index=(len(joint) - most, len(joint) - 1))
        rho = np.clip((values[::-1] - 1) / (len(rows) - 1), 0, 1)
        self.correlations_ = rho = rho[rho > NO_CORRELATION]
        if not len(rho):
            raise MethodError("cca_itq found no correlation between the modalities of the paired items.")
        u = vectors[:, ::-1][:, : len(rho)] * np.sqrt(len(rows)) * rho**self.power
        self.maps_ = {name: whiten[name] @ u[block[name]] for name in rows}

    def _whitener(self, x: Array, pairs: int) -> Array:
        """F with F^T (C + epsilon I) F = I, of full rank or on the principal components kept; shape (d, k)."""
        values, vectors = np.linalg.eigh(x.T @ x / len(x))
        values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
        if len(values) > pairs / 4:
            within = int((np.cumsum(values) <= ENERGY * values.sum()).sum())
            kept = min(max(within, 1), COMPONENTS)
            vectors = vectors[:, :kept]
        return np.asarray(vectors / np.sqrt(values[: vectors.shape[1]] + self.epsilon * values.mean()))

    def _quantise(self, rows: dict[str, Rows], random: np.random.Generator) -> None:
        """Lift and rotate the directions so that signs lose least."""
        found = len(self.correlations_)
        if found < self.bits and not self.lift:
            raise MethodError(
                f"cca_itq found {found} correlated directions, fewer than {self.bits} bits. "
                "Ask for fewer bits, set anchors, or set lift=True."
            )
        spread = frame(found, self.bits, random) if found < self.bits else np.eye(found)
        names = list(rows) if self.rotation == "shared" else list(rows)[:1]
        V = np.concatenate([rows[name][1] @ self.maps_[name] for name in names]) @ spread
        R = spread @ itq(V, random, steps=self.steps)
        self.maps_ = {name: A @ R for name, A in self.maps_.items()}

    def _encode(self, features: NDArray[np.float32], modality: str) -> Codes:
        kernel, A = self.kernels_[modality], self.maps_[modality]
        outputs = by_blocks(lambda x: kernel(x) @ A, features)
        return BinaryCodes.from_outputs(outputs) if self.code == "itq" else Embeddings.from_vectors(outputs)

    def state(self) -> dict[str, NDArray[Any]]:
        """Correlations, kernels and maps."""
        state: dict[str, NDArray[Any]] = {f"map.{name}": A for name, A in self.maps_.items()}
        for name, kernel in self.kernels_.items():
            state |= kernel.state(f"kernel.{name}")
        return state | {"correlations": self.correlations_}

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """The inverse of ``state``."""
        self.correlations_ = state["correlations"]
        self.maps_ = {name: state[f"map.{name}"] for name in self.widths_}
        self.kernels_ = {name: Kernel.from_state(state, f"kernel.{name}") for name in self.widths_}


def _both(a: Rows, b: Rows) -> tuple[Array, Array]:
    """Features of the items that have both modalities."""
    _, i, j = np.intersect1d(a[0], b[0], assume_unique=True, return_indices=True)
    return a[1][i], b[1][j]
