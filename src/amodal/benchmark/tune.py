"""Search for a method's arguments by Optuna, on validation items; the test items are never looked at."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from amodal.data import Dataset, hold_out, incomplete, random_split
from amodal.data.settings import resolve
from amodal.errors import AmodalError, DataError, MethodError, MissingExtra, UsageError
from amodal.evaluation.arrange import VALIDATION
from amodal.methods import Method, get
from amodal.progress import Progress
from amodal.training import Training

__all__ = ["Search", "Trial", "Tuned", "tune"]

Space = Mapping[str, tuple[Any, ...]]


@dataclass(frozen=True)
class Search:
    """What is searched for, and on what.

    Attributes:
        method: Slug.
        setting: Missing setting of the items learned from.
        bits: Code length; methods without codes have none.
        seeds: How many, from 0; a trial's score is their mean.
        params: Arguments that are given, and not searched for.
    """

    method: str
    setting: str = "hard"
    bits: int = 64
    seeds: int = 1
    params: Mapping[str, Any] | None = None

    @property
    def given(self) -> dict[str, Any]:
        """All arguments that are not searched for, but for the seed."""
        own: dict[str, Any] = {"bits": self.bits} if get(self.method).card.returns == "codes" else {}
        return {**own, **(self.params or {})}

    @property
    def space(self) -> Space:
        """Values to choose from, by argument.

        Raises:
            UsageError: If there is nothing to choose.
        """
        method = get(self.method)
        fixed = {"bits", "seed", *self.given}
        space = {name: tuple(values) for name, values in method.search_space.items() if name not in fixed}
        if not space:
            raise UsageError(f"{self.method} declares nothing to search for beside what is given. Fit it as it is.")
        return space

    def build(self, chosen: Mapping[str, Any], seed: int) -> Method:
        """The method with some arguments."""
        own = {"seed": seed} if get(self.method).accepts("seed") else {}
        return get(self.method).create(**{**self.given, **chosen, **own})


@dataclass(frozen=True)
class Trial:
    """One choice of arguments.

    Attributes:
        number: From 0.
        state: "complete", "pruned" (given up after some of the seeds) or "fail".
        score: Mean validation score; of the seeds that were run if it was pruned, None if it failed.
        params: The arguments.
        error: Why it failed.
    """

    number: int
    state: str
    score: float | None
    params: dict[str, Any]
    error: str = ""


@dataclass(frozen=True)
class Tuned:
    """What a search found.

    Attributes:
        search: What was searched for.
        score: The best mean validation score.
        params: The arguments that have it.
        trials: All trials, in order.
        study: Name of the study in the file.
        file: The SQLite file, which Optuna's own tools read.
    """

    search: Search
    score: float
    params: dict[str, Any]
    trials: tuple[Trial, ...]
    study: str
    file: Path


def tune(
    search: Search,
    dataset: Dataset,
    folder: Path,
    *,
    trials: int = 20,
    training: Training | None = None,
    progress: Progress | None = None,
) -> Tuned:
    """Try arguments of a method's ``search_space`` until there are so many trials in the study.

    A trial learns from training items with gaps and is scored by ``Method.validation_score`` on complete ones that it
    has not seen: the split "dev" or "validation" of the data, else a tenth held out of the training items. The study
    lies in ``folder/study.db`` and goes on where it was; a trial that was interrupted is done again.

    Args:
        search: What to search for.
        dataset: All items; those of the split "test" are not read.
        folder: Where the study is kept.
        trials: How many in all, those of earlier calls included.
        training: Device, and progress within a trial.
        progress: Told after each trial.

    Raises:
        UsageError: If the method, the setting or an argument does not exist, or there is nothing to search for.
        MissingExtra: If Optuna is not installed.
        MethodError: If every trial failed.
    """
    if trials < 1 or search.seeds < 1:
        raise UsageError(f"a search takes at least one trial and one seed; got {trials} and {search.seeds}.")
    resolve(search.setting, dataset.names)
    space = search.space
    search.build({}, 0)
    lessons = [_lesson(dataset, search.setting, seed) for seed in range(search.seeds)]
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "study.db"
    with _study(search, dataset, file) as study:
        _again(study)
        if not study.trials and (defaults := _defaults(search, space)):
            study.enqueue_trial(defaults)
        while (count := len(_settled(study))) < trials:
            _try(study, search, space, lessons, training)
            if progress is not None:
                progress(count + 1, trials, f"trials · best {_best(study):.4f}")
        name, done = study.study_name, tuple(_trial(found, space) for found in _settled(study))
    complete = [trial for trial in done if trial.state == "complete" and trial.score is not None]
    if not complete:
        raise MethodError(f"all {len(done)} trials of {search.method} failed (first: {done[0].error}) See {file}.")
    best = max(complete, key=lambda trial: (trial.score, -trial.number))
    return Tuned(search, float(best.score or 0), best.params, done, name, file)


def _lesson(dataset: Dataset, setting: str, seed: int) -> tuple[Dataset, Dataset]:
    """Items with gaps to learn from, and complete ones to be scored on."""
    if dataset.labels is None:
        raise DataError(f"{dataset.name} has no labels, and a validation score needs them.")
    if dataset.split is None:
        dataset = random_split(dataset)
    train = dataset.part("train")
    assert dataset.split is not None  # noqa: S101 - random_split saw to it
    held = [name for name in VALIDATION if name in dataset.split]
    if held:
        validation = dataset.part(held[0])
    else:
        train, validation = hold_out(train, seed=seed)
    if setting != "complete":
        train = incomplete(train, setting, seed=seed)
    train = train.seen_classes()
    assert train.labels is not None  # noqa: S101 - the data have some
    return train, validation.with_classes(train.labels.names)


@contextmanager
def _study(search: Search, dataset: Dataset, file: Path) -> Iterator[Any]:
    """The study of exactly this search on exactly these data, new or from the file."""
    try:
        import optuna
    except ImportError:
        raise MissingExtra("Optuna", "tune") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    facts = [search.method, search.setting, search.seeds, search.given, search.space, dataset.fingerprint()]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:8]
    storage = optuna.storages.RDBStorage(f"sqlite:///{file.resolve()}")
    name = f"{search.method} {dataset.name} {search.setting} {digest}"
    study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
    # a sampler does not remember what it drew before it was interrupted
    study.sampler = optuna.samplers.TPESampler(seed=len(study.trials))
    study.pruner = optuna.pruners.MedianPruner(n_startup_trials=5)
    try:
        yield study
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _again(study: Any) -> None:
    """Trials that were under way when the process ended are told to have failed, and their arguments tried again."""
    import optuna

    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        study.enqueue_trial(trial.params)
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)


def _settled(study: Any) -> list[Any]:
    """Trials that count: those that have ended, but for interrupted ones."""
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state.is_finished() and (trial.state.name != "FAIL" or "error" in trial.user_attrs)
    ]


def _try(
    study: Any,
    search: Search,
    space: Space,
    lessons: Sequence[tuple[Dataset, Dataset]],
    training: Training | None,
) -> None:
    """One trial, and how it ended."""
    import optuna

    trial = study.ask()
    words = {name: trial.suggest_categorical(name, _words(values)) for name, values in space.items()}
    twin = next((one for one in _settled(study) if one.params == words and one.state.name != "PRUNED"), None)
    try:
        score = _known(twin) if twin else _score(trial, search, _values(words, space), lessons, training)
    except optuna.TrialPruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    except Exception as error:
        # as in a grid: what one choice of arguments breaks must not end the search
        sentence = str(error) if isinstance(error, AmodalError) else f"{type(error).__name__}: {error}"
        trial.set_user_attr("error", sentence)
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    else:
        study.tell(trial, score)


def _known(twin: Any) -> float:
    """What came of the same arguments before; they are not tried again."""
    if "error" in twin.user_attrs:
        raise MethodError(twin.user_attrs["error"])
    return float(twin.value)


def _score(
    trial: Any,
    search: Search,
    chosen: Mapping[str, Any],
    lessons: Sequence[tuple[Dataset, Dataset]],
    training: Training | None,
) -> float:
    """Mean validation score over seeds; given up as soon as most other trials were better so far."""
    import optuna

    scores: list[float] = []
    for seed, (train, validation) in enumerate(lessons):
        method = search.build(chosen, seed)
        scores.append(method.fit(train, validation=validation, training=training).validation_score(validation))
        trial.report(float(np.mean(scores)), seed)
        if seed + 1 < len(lessons) and trial.should_prune():
            raise optuna.TrialPruned
    return float(np.mean(scores))


def _best(study: Any) -> float:
    return max((trial.value for trial in _settled(study) if trial.state.name == "COMPLETE"), default=float("nan"))


def _trial(found: Any, space: Space) -> Trial:
    error = found.user_attrs.get("error", "")
    return Trial(found.number, found.state.name.lower(), found.value, _values(found.params, space), error)


def _defaults(search: Search, space: Space) -> dict[str, str]:
    """The method's own arguments, to begin with, if they are among those searched."""
    own = search.build({}, 0).params()
    return {name: _word(own[name]) for name in space} if all(own[k] in values for k, values in space.items()) else {}


def _words(values: Sequence[Any]) -> list[str]:
    return [_word(value) for value in values]


def _word(value: Any) -> str:
    """A value as --set takes it."""
    return value if isinstance(value, str) else json.dumps(value)


def _values(words: Mapping[str, str], space: Space) -> dict[str, Any]:
    return {name: next(v for v in space[name] if _word(v) == word) for name, word in words.items()}
