"""Rules: what they mean (against Python itself), what their errors say, and that no text can break the parser."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anigender.rules import MAX_LENGTH, NAMES, PRESETS, Rule, RuleError, compile_rule, words

NOBODY = dict.fromkeys(NAMES, 0.0)


# -- meaning ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "known", "holds"),
    [
        ("female", {"female": 2}, True),
        ("female", {"female": 0}, False),
        ("female >= 1 and male == 0", {"female": 1, "male": 0}, True),
        ("female >= 1 and male == 0", {"female": 1, "male": 1}, False),
        ("1 <= female <= 2", {"female": 2}, True),
        ("1 <= female <= 2", {"female": 3}, False),
        ("3 > female > 1 < male", {"female": 2, "male": 2}, True),
        ("largest > 50%", {"largest": 0.5}, False),
        ("largest >= 50%", {"largest": 0.5}, True),
        (".5 == 50.0%", {}, True),
        ("5. == 5", {}, True),
        ("NOT Female AND True", {"female": 0}, True),
        ("not female == 0", {"female": 0}, False),
        ("not not male", {"male": 1}, True),
        ("true or male", {}, True),
        ("false and male", {}, False),
        ("true or true and false", {}, True),
        ("(true or true) and false", {}, False),
        ("7 - 2 - 1 == 4", {}, True),
        ("8 / 2 / 2 == 2", {}, True),
        ("2 + 3 * 4 == 14", {}, True),
        ("(2 + 3) * 4 == 20", {}, True),
        ("-2 * -3 == 6", {}, True),
        ("--2 == 2", {}, True),
        ("female - male > 1", {"female": 3, "male": 1}, True),
        ("female\n  >= 1", {"female": 1}, True),
        ("any-female and largest > 20%", {"female": 1, "largest": 0.3}, True),
        ("ANY-FEMALE", {"female": 1}, True),
        ("not any-male or false", {"male": 1}, False),
        ("any-male-1", {"male": 1}, False),
        ("female == 0 or male / female > 1", {"female": 0, "male": 1}, True),
    ],
)
def test_a_rule_means_what_it_says(text: str, known: dict[str, float], holds: bool) -> None:
    result = compile_rule(text).evaluate({**NOBODY, **known})
    assert result is holds


OPERATORS = ["and", "or", "==", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/"]
leaves = st.one_of(
    st.sampled_from(["female", "male", "largest"]),
    st.integers(0, 9).map(str),
    st.sampled_from(["0.5", "1.25", "10.0"]),
)
expressions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        # Chains without parentheses try precedence and associativity; Python reads the very same text.
        st.tuples(inner, st.lists(st.tuples(st.sampled_from(OPERATORS), inner), min_size=1, max_size=4)).map(
            lambda parts: " ".join([parts[0], *(f"{sign} {right}" for sign, right in parts[1])])
        ),
        inner.map(lambda text: f"({text})"),
        inner.map(lambda text: f"(not {text})"),
        inner.map(lambda text: f"-{text}"),
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(expressions, st.integers(0, 3), st.integers(0, 3), st.floats(0, 1))
def test_rules_agree_with_python(text: str, female: int, male: int, largest: float) -> None:
    known = {"female": float(female), "male": float(male), "largest": largest}
    try:
        expected = bool(eval(text, {"__builtins__": {}}, known))  # noqa: S307  (text of the grammar above, no other)
    except ZeroDivisionError:
        with pytest.raises(RuleError, match="division by zero"):
            compile_rule(text).evaluate(known)
    else:
        rule = compile_rule(text)
        assert rule.evaluate(known) is expected
        assert rule.names == set(re.findall("[a-z]+", text)) & set(known)


# -- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "position", "says"),
    [
        ("", 0, "empty"),
        ("   ", 3, "any-female"),
        ("femal >= 1", 0, "did you mean female?"),
        ("female >= 1 and hieght > 5", 16, "did you mean height?"),
        ("xyzzy > 1", 0, "female_confidence, male_confidence"),
        ("any-femal", 0, "did you mean any-female?"),
        ("female >= ", 10, "expected a number, a name or ("),
        ("female = 1", 7, "use == to compare"),
        ("female && male", 7, "use the word and"),
        ("!female", 0, "use the word not"),
        ("(female >= 1", 12, "closes the ( at character 1"),
        ("female >= 1)", 11, "end of the rule"),
        ("female male", 7, "expected an operator"),
        ("2girls", 1, "expected an operator"),
        ("5 % 2", 2, "no meaning"),
        ("female == not male", 10, "parentheses"),
        ("female.real", 6, "no meaning"),
        ("__import__('os')", 0, "not a known name"),
        ("female >= ١", 10, "no meaning"),
        ("()", 1, "expected a number"),
    ],
)
def test_an_error_points_at_the_character(text: str, position: int, says: str) -> None:
    with pytest.raises(RuleError) as caught:
        compile_rule(text)
    assert caught.value.position == position
    assert caught.value.rule == text
    assert says in str(caught.value)
    lines = str(caught.value).splitlines()
    assert lines[1] == f"  {text}"
    assert lines[2] == " " * (position + 2) + "^"


def test_the_caret_stands_right_in_long_wide_and_broken_lines() -> None:
    with pytest.raises(RuleError) as caught:
        compile_rule("true and " * 30 + "男 or " + "true or " * 30 + "true")
    _, shown, caret, _ = str(caught.value).splitlines()
    assert shown[caret.index("^")] == "男"
    assert len(shown) < 120
    with pytest.raises(RuleError) as caught:
        compile_rule("female ==\n\t1 ? 2")
    _, shown, caret, _ = str(caught.value).splitlines()
    assert shown[caret.index("^")] == "?"


def test_division_by_zero_names_rule_and_position() -> None:
    rule = compile_rule("female >= 1 and male / (female - 1) > 2")
    with pytest.raises(RuleError, match="division by zero") as caught:
        rule.evaluate({"female": 1, "male": 3})
    assert caught.value.position == 21
    assert rule.text in str(caught.value)


def test_a_missing_fact_is_an_error_and_not_false() -> None:
    with pytest.raises(RuleError, match="male is not known of this picture"):
        compile_rule("male").evaluate({"female": 1})


@pytest.mark.parametrize(
    "hostile", ["(" * 9000, "-" * 9000 + "1", "not " * 2400 + "1", "1 or 1 and 1 == 1 + 1 * (" * 300]
)
def test_depth_is_bounded(hostile: str) -> None:
    with pytest.raises(RuleError, match="nested too deeply"):
        compile_rule(hostile)


def test_length_is_bounded_and_long_rules_work() -> None:
    assert compile_rule("+".join(["1"] * 5000)).evaluate({})
    assert compile_rule("(" * 90 + "male" + ")" * 90).evaluate({"male": 1})
    with pytest.raises(RuleError, match="10,000"):
        compile_rule("1" * (MAX_LENGTH + 1))


WORDS = [*NAMES, *PRESETS, *OPERATORS, "(", ")", "not", "1", "50%", ".", "é"]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60) | st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join))
def test_any_text_is_a_rule_or_a_rule_error(text: str) -> None:
    try:
        compile_rule(text).evaluate(NOBODY)
    except RuleError as error:
        assert 0 <= error.position <= len(text)


# -- names and facts -------------------------------------------------------------------------------------------------


def test_extra_names() -> None:
    rule = compile_rule("any-female and chromatic_aberration < 50%", extra_names=["chromatic_aberration"])
    assert rule.names == {"female", "chromatic_aberration"}
    assert rule.evaluate({"female": 1, "chromatic_aberration": 0.25})
    with pytest.raises(RuleError, match="not a known name"):
        compile_rule("chromatic_aberration < 50%")
    for wrong in ("Upper", "and", "solo", "a-b", "1st", ""):
        with pytest.raises(ValueError, match="cannot be a name"):
            compile_rule("female", extra_names=[wrong])


def test_a_rule_shows_its_text_and_can_be_compared() -> None:
    rule = compile_rule("only-female")
    assert repr(rule) == "Rule('only-female')"
    assert rule.text == "only-female"
    assert isinstance(rule, Rule) and rule == compile_rule("only-female") and rule != compile_rule("only-male")


@pytest.mark.parametrize(
    ("text", "facts", "expected"),
    [
        ('has("asuka")', {"character:asuka": 1}, True),
        ("HAS('Asuka')", {"character:asuka": 2}, True),
        ("has(“asuka”)", {"character:asuka": 0}, False),
        ('has("asuka langley") == 2 and not has("rei")', {"character:asuka langley": 2, "character:rei": 0}, True),
        ('has("and or not") and female >= 1', {"character:and or not": 1, "female": 1}, True),
    ],
)
def test_characters_are_asked_for_by_name(text: str, facts: dict[str, float], expected: bool) -> None:
    assert compile_rule(text).evaluate(facts) is expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("has(asuka)", 'write has("name")'),
        ("has", 'write has("name")'),
        ('has("asuka"', 'write has("name")'),
        ('has("")', "this one is empty"),
        ('has("asuka', "has no meaning"),
        ('"asuka"', "expected a number, a name"),
    ],
)
def test_a_character_without_a_name_is_refused(text: str, problem: str) -> None:
    with pytest.raises(RuleError, match=re.escape(problem)):
        compile_rule(text)


def test_what_a_recogniser_does_not_know_is_no_answer() -> None:
    with pytest.raises(RuleError, match="carry no names"):
        compile_rule('has("asuka")').evaluate({"female": 1})
    with pytest.raises(RuleError, match="did you mean asuka"):
        compile_rule('has("asuk")').evaluate({"character:asuka": 1})
    rule = compile_rule('female or has(" Asuka ") or has("rei")')
    rule.check_characters(["rei", "ASUKA", "misato"])
    with pytest.raises(RuleError, match="did you mean asuka") as told:
        compile_rule('female or has("asuk")').check_characters(["asuka"])
    assert told.value.position == 10
    with pytest.raises(RuleError, match="carry no names"):
        rule.check_characters([])
    assert words('has("female cat") and red > 1') == {"red"}
