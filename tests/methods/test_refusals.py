"""What a card rules out is refused with a sentence that says who could do it."""

from dataclasses import replace

import pytest

from amodal.data import incomplete, toy
from amodal.errors import MethodError
from amodal.methods import get, names


def named(message):
    """The methods that a sentence names as able."""
    return message.rsplit("could learn: ", 1)[1].rstrip(".").split(", ")


def vectors():
    return [get(slug).card for slug in names() if "vectors" in get(slug).card.takes]


@pytest.mark.parametrize("labelled", [True, False])
def test_without_pairs_those_that_need_none_are_named(labelled):
    data = incomplete(toy(40, classes=3, seed=1), presence={"image": 0.5, "text": 0.5})
    data = data if labelled else replace(data, labels=None)
    with pytest.raises(MethodError, match="cca_itq learns from pairs, and no item has two modalities") as refused:
        get("cca_itq").create().fit(data)
    wanted = [c.slug for c in vectors() if c.needs_pairs != "yes" and (labelled or not c.needs_labels)]
    assert named(str(refused.value)) == (wanted or ["none"])


def test_without_labels_those_that_need_none_are_named():
    data = replace(toy(40, classes=3, seed=1), labels=None)
    with pytest.raises(MethodError, match="ciim learns from labels, and no item has any") as refused:
        get("ciim").create().fit(data)
    assert named(str(refused.value)) == [c.slug for c in vectors() if not c.needs_labels]
    assert "cca_itq" in named(str(refused.value))


def test_one_modality_is_told_from_two():
    data = toy(40, classes=3, seed=1)
    one = data.with_tables({"image": data["image"]})
    with pytest.raises(MethodError, match=r"at least two modalities; the data have image\. No registered") as no:
        get("label_regression").create().fit(one)
    assert "second" in str(no.value)
