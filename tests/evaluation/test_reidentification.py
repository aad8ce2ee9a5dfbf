"""Re-identification against loops: galleries drawn as released code draws them, measures, trials, both directions."""

import numpy as np
import pytest

from amodal.codes import BinaryCodes, Embeddings
from amodal.data import Dataset, Observations, read, regdb_trial
from amodal.errors import DataError, MissingModality, UsageError
from amodal.evaluation import (
    GALLERY_PROTOCOLS,
    GalleryEvaluation,
    evaluate_gallery,
    evaluate_gallery_codes,
    get_gallery_protocol,
)
from tests.data.reidentification import regdb, sysu
from tests.evaluation.toys import Signs
from tests.oracles.reidentification import gallery, one_order

CUTOFFS = (1, 5, 10, 20)
SEEN = {person: [(1, 2, 3), (1, 2, 3, 4, 5, 6), (2, 3), (4, 6), (1, 5, 3, 6)][person % 5] for person in range(1, 16)}


def vectors(n, rng):
    x = rng.standard_normal((n, 6))
    return Embeddings((x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32))


def embedded(data, seed=0):
    """Random unit vectors for every picture: no ties, so one order says everything."""
    rng = np.random.default_rng(seed)
    return {name: vectors(len(data[name]), rng) for name in data.names}


def averaged(queries, database, who, whom, removed):
    """Means over the queries whose person is in the gallery."""
    found = []
    for row in range(len(queries)):
        order = np.argsort(-(database @ queries[row]), kind="stable").tolist()
        found.append(one_order(order, who[row], whom, removed[row], CUTOFFS))
    answered = [values for values in found if values is not None]
    return {name: np.mean([values[name] for values in answered]) for name in answered[0]}, len(found) - len(answered)


@pytest.fixture(scope="module")
def shots(tmp_path_factory):
    return read(sysu(tmp_path_factory.mktemp("sysu"), SEEN, each=12)).part("test")


@pytest.mark.parametrize("search", ["all", "indoor"])
def test_single_shot_galleries_are_those_of_the_released_code(shots, search):
    protocol = GALLERY_PROTOCOLS[f"sysu-{search}"]
    files = {}
    for name, camera, person in zip(
        shots.ids.tolist(), shots.attributes["camera"], shots.attributes["identity"], strict=True
    ):
        files.setdefault((camera, person), []).append(name)
    for trial in range(10):
        rows = protocol.gallery(shots, "visible", trial)
        cameras = (1, 2, 4, 5) if search == "all" else (1, 2)
        wanted = gallery(files, set(shots.attributes["identity"]), cameras, trial)
        assert shots.ids[shots["visible"].item[rows]].tolist() == wanted
    order = np.random.default_rng(0).permutation(len(shots))
    shuffled = shots.take(order)
    again = shuffled.ids[shuffled["visible"].item[protocol.gallery(shuffled, "visible", 9)]]
    assert again.tolist() == wanted


def test_multi_shot_galleries_have_ten_pictures_of_each(shots):
    rows = GALLERY_PROTOCOLS["sysu-all-multi"].gallery(shots, "visible", 3)
    item = shots["visible"].item[rows]
    groups = list(zip(shots.attributes["identity"][item], shots.attributes["camera"][item], strict=True))
    assert {groups.count(group) for group in groups} == {10}
    assert len(set(rows.tolist())) == len(rows)
    assert set(groups) == {(f"{p:04d}", c) for p, seen in SEEN.items() if p > 1 for c in seen if c not in (3, 6)}


@pytest.mark.parametrize("name", ["sysu-all", "sysu-indoor", "sysu-indoor-multi"])
def test_sysu_measures_are_those_of_loops(shots, name):
    protocol, codes = GALLERY_PROTOCOLS[name], embedded(shots)
    found = evaluate_gallery_codes(codes, shots, protocol)
    who = shots["infrared"].item
    cameras, people = shots.attributes["camera"], shots.attributes["identity"]
    for trial in range(10):
        rows = protocol.gallery(shots, "visible", trial)
        whom = shots["visible"].item[rows]
        removed = [
            {j for j, item in enumerate(whom.tolist()) if cameras[query] == 3 and cameras[item] == 2} for query in who
        ]
        wanted, unanswered = averaged(
            codes["infrared"].vectors, codes["visible"].vectors[rows], people[who], people[whom].tolist(), removed
        )
        way = "infrared->visible"
        assert found.values["map"][way][trial] == pytest.approx(wanted["map"], abs=1e-9)
        assert found.values["minp"][way][trial] == pytest.approx(wanted["minp"], abs=1e-9)
        for k in [k for k in CUTOFFS if k <= len(rows)]:
            assert found.values[f"cmc@{k}"][way][trial] == pytest.approx(wanted[f"identity@{k}"], abs=1e-9)
            assert wanted[f"identity@{k}"] >= wanted[f"image@{k}"]
        assert found.counts[way][trial] == {"queries": len(who), "unanswerable": unanswered, "gallery": len(rows)}
    assert unanswered > 0, "persons 3, 8, 13 were seen by cameras 2 and 3 alone"
    values = found.values["map"]["infrared->visible"]
    assert found.mean("map", "infrared->visible") == pytest.approx(sum(values) / 10)
    assert found.sd("map", "infrared->visible") == pytest.approx(np.std(values, ddof=1))


def test_regdb_goes_both_ways_and_its_trials_are_put_together(tmp_path):
    data, protocol = read(regdb(tmp_path, people=8, each=3, trials=3)), GALLERY_PROTOCOLS["regdb"]
    parts = []
    for number in (1, 2, 3):
        test = regdb_trial(data, number).part("test")
        codes = embedded(test, number)
        parts.append(evaluate_gallery_codes(codes, test, protocol))
        people = test.attributes["identity"]
        for a, b in (("visible", "infrared"), ("infrared", "visible")):
            who, whom = people[test[a].item], people[test[b].item].tolist()
            wanted, _ = averaged(codes[a].vectors, codes[b].vectors, who, whom, [set()] * len(who))
            for name, value in (("map", "map"), ("minp", "minp"), ("cmc@1", "image@1"), ("cmc@5", "image@5")):
                assert parts[-1].values[name][f"{a}->{b}"] == pytest.approx([wanted[value]], abs=1e-9)
    whole = GalleryEvaluation.together(parts)
    for way in ("visible->infrared", "infrared->visible"):
        assert whole.values["map"][way] == [part.values["map"][way][0] for part in parts]
    assert whole.absent == {f"{way} cmc@20": "the gallery has 12 pictures, fewer than 20." for way in whole.counts}
    summary = whole.summary()["metrics"]["cmc@1"]["visible->infrared"]
    assert summary["mean"] == pytest.approx(np.mean(summary["trials"]))
    assert len(summary["trials"]) == 3


def made(people=6, each=4):
    """Features in which a person is a direction, for both modalities; attributes as a table would give them."""
    rng = np.random.default_rng(0)
    centre = np.sign(rng.standard_normal((people, 16)))
    who = np.repeat(np.arange(people), 2 * each)
    infrared = np.tile(np.arange(2 * each) >= each, people)
    features = (centre[who] + 0.1 * rng.standard_normal((len(who), 16))).astype(np.float32)
    return Dataset(
        np.array([f"{k:03d}" for k in range(len(who))]),
        {
            "visible": Observations(features[~infrared], np.flatnonzero(~infrared)),
            "infrared": Observations(features[infrared], np.flatnonzero(infrared)),
        },
        split=np.array(["test"] * len(who)),
        attributes={"identity": who, "camera": np.where(infrared, "6", "1")},
    )


def test_a_method_is_evaluated_on_its_test_pictures():
    data = made()
    method = Signs(16)
    method.fit(data.only(visible="visible", infrared="infrared"))
    found = evaluate_gallery(method, data, get_gallery_protocol("sysu-all"))
    assert found.mean("map", "infrared->visible") == found.mean("cmc@1", "infrared->visible") == 1
    assert found.mean("chance", "infrared->visible") == pytest.approx(np.mean(1 / np.arange(1, 7)))
    assert found.sd("map", "infrared->visible") == 0


def test_constant_codes_score_chance():
    data = made()
    codes = {name: BinaryCodes.from_signs(np.ones((len(data[name]), 8))) for name in data.names}
    found = evaluate_gallery_codes(codes, data, GALLERY_PROTOCOLS["sysu-all-multi"])
    way = "infrared->visible"
    assert found.values["map"][way] == pytest.approx(found.values["chance"][way])
    assert found.values["cmc@1"][way] == pytest.approx([1 / 6] * 10)
    assert found.values["cmc@5"][way] == pytest.approx([5 / 6] * 10)


def test_what_cannot_be_is_refused():
    data, sysu_all = made(), GALLERY_PROTOCOLS["sysu-all"]
    with pytest.raises(UsageError, match='unknown protocol of re-identification "sysu"'):
        get_gallery_protocol("sysu")
    with pytest.raises(DataError, match="0 codes were given for 24 observations"):
        evaluate_gallery_codes({}, data, sysu_all)
    with pytest.raises(MissingModality, match='unknown modality "infrared"'):
        evaluate_gallery_codes(embedded(data), data.only(visible="visible"), sysu_all)
    bare = Dataset(data.ids, data.modalities)
    for protocol, name in ((sysu_all, "camera"), (GALLERY_PROTOCOLS["regdb"], "identity")):
        with pytest.raises(DataError, match=f'has no attribute "{name}", which re-identification needs'):
            evaluate_gallery_codes(embedded(bare), bare, protocol)
    named = Dataset(data.ids, data.modalities, attributes={**data.attributes, "camera": np.full(48, "cam1")})
    with pytest.raises(DataError, match='"camera" must hold numbers of cameras'):
        evaluate_gallery_codes(embedded(named), named, sysu_all)
    dark = Dataset(data.ids, data.modalities, attributes={**data.attributes, "camera": np.full(48, 9)})
    with pytest.raises(DataError, match='no "infrared" picture from camera 3, 6'):
        evaluate_gallery_codes(embedded(dark), dark, sysu_all)
    with pytest.raises(UsageError, match="got 0 of none"):
        GalleryEvaluation.together([])


def test_protocols_have_names_and_hashes():
    assert len({protocol.sha256 for protocol in GALLERY_PROTOCOLS.values()}) == len(GALLERY_PROTOCOLS) == 5
    assert all(name == protocol.name and protocol.summary for name, protocol in GALLERY_PROTOCOLS.items())
