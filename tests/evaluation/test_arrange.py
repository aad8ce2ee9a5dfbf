"""Protocols: who learns, who asks, who is searched, and where things may go missing."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from amodal.data import Mask, random_split, toy
from amodal.errors import DataError, UsageError
from amodal.evaluation import PROTOCOLS, PairProtocol, Protocol, arrange, get_protocol
from tests.evaluation.toys import split_toy

DATA = split_toy(300)  # 150 train, 60 dev, 90 test


def ids(data):
    return set(data.ids.tolist())


def part(name):
    return ids(DATA.part(name))


def complete(data):
    return bool(data.presence().all())


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("setting", ["complete", "hard", "one-sided-text-missing-50"])
def test_who_is_who(name, setting):
    found = arrange(DATA, get_protocol(name), setting, seed=3)
    share = {"complete": 1.0, "hard": 0.1, "one-sided-text-missing-50": 0.5}[setting]
    paired = {item for item, row in zip(found.train.ids.tolist(), found.train.presence(), strict=True) if row.all()}
    assert len(paired) == share * 150
    assert ids(found.train) == (paired if name == "cich-discard" else part("train"))
    assert ids(found.queries) == part("test")
    assert ids(found.validation) == part("dev")
    expected = {
        "cich-extend": part("train"),
        "cich-enhance": paired,
        "cich-discard": paired,
        "dcmh": part("train") | part("dev"),
    }.get(name, part("test"))
    assert ids(found.database) == expected
    # things go missing in training items only, and in a database only where it is made of those
    assert complete(found.queries)
    assert complete(found.validation)
    assert complete(found.database) == (name != "cich-extend" or setting == "complete")
    assert (found.mask is None) == (setting == "complete")
    if not found.protocol.pairs:
        assert not ids(found.queries) & ids(found.database)
    assert not ids(found.train) & (ids(found.queries) | ids(found.validation))
    assert (found.setting, found.seed, found.protocol.name) == (setting, 3, name)


def test_extended_database_has_a_side_for_each_direction():
    found = arrange(DATA, get_protocol("cich-extend"), "hard")
    assert found.database is found.train
    assert [len(found.database[name]) for name in ("image", "text")] == [15 + 67, 15 + 68]


def test_sample_of_training_items_depends_on_the_seed_and_spares_validation():
    protocol = replace(get_protocol("dcmh"), sample=40)
    first, again, other = (arrange(DATA, protocol, seed=seed) for seed in (0, 0, 1))
    assert len(first.train) == 40
    assert ids(first.train) < part("train")
    assert first.train.ids.tolist() == again.train.ids.tolist()
    assert ids(first.train) != ids(other.train)
    assert len(first.database) == 210
    assert complete(arrange(DATA, protocol, "hard").database)


def test_the_same_seed_removes_the_same_things():
    one, two, other = (arrange(DATA, get_protocol("heldout"), "hard", seed=seed) for seed in (1, 1, 2))
    assert one.mask.sha256 == two.mask.sha256 != other.mask.sha256
    np.testing.assert_array_equal(one.train.presence(), two.train.presence())


def test_a_mask_drawn_before_is_used_as_it_is():
    mask = Mask.draw(DATA, "easy", seed=9)
    found = arrange(DATA, get_protocol("heldout"), "hard", mask=mask)
    assert found.setting == "easy"
    assert found.mask is mask
    np.testing.assert_array_equal(found.train.presence(), mask.apply(DATA.part("train")).presence())
    assert complete(found.queries)


def test_mechanism_reaches_the_mask():
    found = arrange(DATA, get_protocol("heldout"), "hard", mechanism="class")
    assert found.mask.mechanism == "class"


def test_data_without_split_are_divided_always_the_same_way():
    bare = toy(100)
    one, two = (arrange(bare, get_protocol("heldout"), seed=seed) for seed in (0, 5))
    assert (len(one.train), len(one.queries), one.validation) == (80, 20, None)
    assert ids(one.queries) == ids(two.queries)


def test_rows_of_other_splits_take_no_part():
    data = random_split(toy(100), {"train": 0.5, "test": 0.3, "unused": 0.2})
    for protocol in PROTOCOLS.values():
        found = arrange(data, protocol)
        seen = ids(found.train) | ids(found.queries) | ids(found.database)
        assert not seen & ids(data.part("unused"))
        assert found.validation is None


@pytest.mark.parametrize("missing", ["train", "test"])
def test_a_split_that_is_not_there_is_named(missing):
    data = random_split(toy(50), {"train" if missing == "test" else "test": 0.5, "other": 0.5})
    with pytest.raises(UsageError, match=f'unknown split "{missing}".*Known: other'):
        arrange(data, get_protocol("heldout"))


def test_an_unknown_setting_names_the_nearest():
    with pytest.raises(UsageError, match=r'"hrad".*Did you mean "hard"'):
        arrange(DATA, get_protocol("heldout"), "hrad")


def test_nothing_to_learn_from_is_a_sentence():
    with pytest.raises(DataError, match=r"cich-discard at setting pdr-1 leaves no training item with two modalities"):
        arrange(DATA, get_protocol("cich-discard"), "pdr-1")


def test_protocols_are_named_and_hashed_by_every_field():
    assert {name: protocol.name for name, protocol in PROTOCOLS.items()} == {name: name for name in PROTOCOLS}
    hashes = {protocol.sha256 for protocol in PROTOCOLS.values()}
    assert len(hashes) == len(PROTOCOLS)
    changes = {"unanswerable": "zero", "ties": "index", "db_codes": "learned", "pairs": False, "database": "rest"}
    for name, value in {**changes, "sample": 7, "learns": "paired"}.items():
        assert replace(get_protocol("heldout"), **{name: value}).sha256 not in hashes
    assert json.loads(json.dumps(asdict(get_protocol("dcmh")))) == asdict(get_protocol("dcmh"))


def test_an_unknown_protocol_names_the_nearest():
    with pytest.raises(UsageError, match=r'"held-out".*Did you mean "heldout"'):
        get_protocol("held-out")


def test_rules_of_the_published_protocols():
    for name, protocol in PROTOCOLS.items():
        assert isinstance(protocol, Protocol)
        ours = name == "heldout" or isinstance(protocol, PairProtocol)
        assert protocol.unanswerable == ("skip" if ours else "zero")
        assert (protocol.ties, protocol.db_codes) == ("average", "hashed")
        assert protocol.pairs == ours
