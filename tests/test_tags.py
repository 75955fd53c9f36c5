"""Which tags faces give, how they are spelled, and that merging keeps what the user wrote."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anigender.faces import Faces
from anigender.tags import GROUPS, format_tags, image_tags, merge_tags, parse_tags, spell_tags


def people(*pictures: str, sure: float = 0.9) -> Faces:
    """Faces from words: ``"ffm"`` is a picture of two women and a man; capitals are sure, small letters not."""
    faces = Faces.from_boxes([[[0, 0, 9, 9]] * len(picture) for picture in pictures], sizes=[(10, 10)] * len(pictures))
    rows = []
    for letter in "".join(pictures):
        likely = sure if letter.isupper() else 0.6
        rows.append([likely, 1 - likely] if letter in "fF" else [1 - likely, likely])
    return faces.with_probabilities(torch.tensor(rows).reshape(-1, 2))


# -- what faces give -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        ("", []),
        ("f", ["1girl", "solo"]),
        ("m", ["1boy", "solo", "male_focus"]),
        ("fm", ["1girl", "1boy"]),
        ("mf", ["1girl", "1boy"]),
        ("ff", ["2girls", "multiple_girls"]),
        ("mm", ["2boys", "multiple_boys", "male_focus"]),
        ("fffm", ["3girls", "1boy", "multiple_girls"]),
        ("ffmm", ["2girls", "2boys", "multiple_girls", "multiple_boys"]),
        ("fffff", ["5girls", "multiple_girls"]),
        ("ffffff", ["6+girls", "multiple_girls"]),
        ("mmmmmmmmm", ["6+boys", "multiple_boys", "male_focus"]),
    ],
)
def test_count_and_focus_tags(picture: str, expected: list[str]) -> None:
    assert image_tags(people(picture)) == [expected]


def test_a_batch_gives_what_its_pictures_give() -> None:
    pictures = ["ffm", "", "m", "f", ""]
    assert image_tags(people(*pictures)) == [image_tags(people(picture))[0] for picture in pictures]
    assert image_tags(Faces.empty([])) == []
    assert image_tags(Faces.empty([(5, 5)])) == [[]]


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([], []),
        (["count"], ["2boys", "multiple_boys"]),
        (["focus"], ["male_focus"]),
        (["gender"], ["male"]),
        (["gender", "focus", "count"], ["2boys", "multiple_boys", "male_focus", "male"]),
    ],
)
def test_groups(groups: list[str], expected: list[str]) -> None:
    assert image_tags(people("mm"), groups) == [expected]


def test_an_unknown_group_lists_the_groups() -> None:
    with pytest.raises(ValueError, match="'counts' is not known.*count, focus, gender"):
        image_tags(people("m"), ["counts"])
    assert list(GROUPS) == ["count", "focus", "gender"]


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        ("F", ["1girl", "solo", "female"]),
        ("f", []),
        ("Fm", ["female"]),
        ("Mm", ["male"]),
        ("FM", ["1girl", "1boy", "female", "male"]),
    ],
)
def test_one_unsure_face_makes_every_count_unsaid(picture: str, expected: list[str]) -> None:
    assert image_tags(people(picture), list(GROUPS), minimum_confidence=0.9) == [expected]


def test_unclassified_faces_are_an_error() -> None:
    with pytest.raises(ValueError, match="not been classified"):
        image_tags(Faces.from_boxes([[[0, 0, 5, 5]]], sizes=[(10, 10)]))


# -- spelling --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "options", "expected"),
    [
        (["2girls", "multiple_girls"], {}, "2girls, multiple_girls"),
        (["2girls", "multiple_girls"], {"underscores": False}, "2girls, multiple girls"),
        (["a", "b"], {"separator": " | "}, "a | b"),
        (["saber_(fate)"], {"escape": True}, r"saber_\(fate\)"),
        ([r"saber_\(fate\)"], {"escape": True}, r"saber_\(fate\)"),
        (["^_^", ">_<", "0_0", "o_o", "red_eyes"], {"underscores": False}, "^_^, >_<, 0_0, o_o, red eyes"),
        ([], {}, ""),
    ],
)
def test_format(tags: list[str], options: dict, expected: str) -> None:
    assert format_tags(tags, **options) == expected


@pytest.mark.parametrize(
    ("text", "separator", "expected"),
    [
        ("", ",", []),
        (" , ,", ",", []),
        ("1girl, red hair,solo", ",", ["1girl", "red hair", "solo"]),
        ("1girl,\r\nsolo\nhat", ", ", ["1girl", "solo", "hat"]),
        ("a | b, c", " | ", ["a", "b, c"]),
        ("1girl  solo", " ", ["1girl", "solo"]),
        ("red hair\nsolo\n", "\n", ["red hair", "solo"]),
    ],
)
def test_parse(text: str, separator: str, expected: list[str]) -> None:
    assert parse_tags(text, separator) == expected


# -- merging ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("existing", "new", "options", "expected"),
    [
        (["hat"], ["1girl", "solo"], {}, ["1girl", "solo", "hat"]),
        (["hat"], ["1girl", "solo"], {"position": "last"}, ["hat", "1girl", "solo"]),
        (["1girl", "solo", "hat"], ["2girls", "multiple_girls"], {}, ["2girls", "multiple_girls", "hat"]),
        (["1girl", "hat", "no humans", "Solo"], ["1boy"], {}, ["1boy", "hat"]),
        # Somebody may show no face: who counts more people is believed.
        (["2girls", "multiple girls", "hat"], ["1girl", "solo"], {}, ["2girls", "multiple girls", "hat"]),
        (["multiple girls", "hat"], ["1girl", "solo"], {}, ["multiple girls", "hat"]),
        (["6+ boys", "multiple_boys", "hat", "1other"], ["6+boys"], {}, ["6+ boys", "multiple_boys", "hat", "1other"]),
        (["1girl", "1boy", "hat"], ["1boy", "solo", "male_focus", "male"], {}, ["male", "1girl", "1boy", "hat"]),
        (["1girl", "1boy", "hat"], ["2girls", "multiple_girls"], {}, ["2girls", "multiple_girls", "hat"]),
        (["hat", "1girl"], ["1girl", "solo"], {"position": "last"}, ["hat", "1girl", "solo"]),
        (["1girl"], ["2girls"], {"replace_counts": False}, ["2girls", "1girl"]),
        (["2girls", "hat"], [], {}, ["2girls", "hat"]),
        (["2girls", "hat"], ["male_focus"], {}, ["male_focus", "2girls", "hat"]),
        (
            ["solo focus", "cat girl", "girls und panzer", "2girls kissing"],
            ["1boy"],
            {},
            ["1boy", "solo focus", "cat girl", "girls und panzer", "2girls kissing"],
        ),
        (["Male Focus", "hat"], ["male_focus"], {"position": "last"}, ["Male Focus", "hat"]),
        (["hat", "Male Focus"], ["male_focus"], {}, ["male_focus", "hat"]),
        (["hat", "hat", " ", "HAT"], [], {}, ["hat", "hat", "HAT"]),
        (["a", "BREAK", "b", "BREAK", "c"], ["1girl"], {}, ["1girl", "a", "BREAK", "b", "BREAK", "c"]),
        (["a", "BREAK", "b", "BREAK"], ["1girl"], {"position": "last"}, ["a", "BREAK", "b", "BREAK", "1girl"]),
        ([r"saber \(fate\)"], ["saber_(fate)"], {"position": "last"}, [r"saber \(fate\)"]),
    ],
)
def test_merge(existing: list[str], new: list[str], options: dict, expected: list[str]) -> None:
    assert merge_tags(existing, new, **options) == expected


def test_another_position_is_an_error() -> None:
    with pytest.raises(ValueError, match="first or last"):
        merge_tags([], [], position="middle")


COUNTS = ["1girl", "2girls", "2 girls", "multiple girls", "multiple_boys", "solo", "Solo"]
words = st.sampled_from([*COUNTS, "hat", "Hat", "red hair", "red_hair"]) | st.text(
    st.characters(blacklist_categories=["C", "Z"], blacklist_characters=","), min_size=1, max_size=6
)
tag_lists = st.lists(words, max_size=8)


def plain(tag: str) -> str:
    return tag.replace("_", " ").casefold()


@settings(max_examples=150, deadline=None)
@given(tag_lists, tag_lists, st.sampled_from(["first", "last"]), st.booleans())
def test_merging_is_idempotent_and_adds_no_duplicates(
    existing: list[str], new: list[str], position: str, replace: bool
) -> None:
    merged = merge_tags(existing, new, position, replace)
    assert merge_tags(merged, new, position, replace) == merged
    assert set(merged) <= set(existing) | set(new)
    counts = {plain(tag) for tag in COUNTS}
    for tag in {plain(tag) for tag in new}:
        assert sum(plain(other) == tag for other in merged) <= max(1, sum(plain(other) == tag for other in existing))
        assert tag in counts or tag in map(plain, merged)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text("abcXYZ ()^", min_size=1, max_size=8).filter(str.strip), unique_by=lambda t: plain(t).split()[0]),
    st.lists(st.sampled_from(COUNTS)),
    st.sampled_from(["first", "last"]),
)
def test_the_users_other_tags_stay_verbatim_and_in_order(others: list[str], new: list[str], position: str) -> None:
    mixed = [tag for pair in zip(others, COUNTS * len(others), strict=False) for tag in pair]
    merged = merge_tags(mixed, new, position)
    assert [tag for tag in merged if tag not in COUNTS] == others
    counted = {plain(tag) for tag in merged if tag in COUNTS}
    if new:  # one side speaks
        assert counted in ({plain(tag) for tag in new}, {plain(tag) for tag in mixed if tag in COUNTS})


@settings(max_examples=100, deadline=None)
@given(tag_lists.map(lambda tags: [tag.strip() for tag in tags]), st.sampled_from([", ", ",", ",  ", "\n"]))
def test_what_is_formatted_is_parsed_again(tags: list[str], separator: str) -> None:
    assert parse_tags(format_tags(tags, separator), separator) == tags


@settings(max_examples=100, deadline=None)
@given(tag_lists, st.booleans())
def test_spelling_twice_changes_nothing(tags: list[str], underscores: bool) -> None:
    once = spell_tags(tags, underscores, escape=True)
    assert spell_tags(once, underscores, escape=True) == once


@pytest.mark.parametrize("separator", ["[\u2028*", "a\nb", "|\x85|"])
def test_a_separator_with_a_line_end_in_it_is_read_back(separator: str) -> None:
    assert parse_tags(separator.join(["1girl", "red hair"]), separator) == ["1girl", "red hair"]
