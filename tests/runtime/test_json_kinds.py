"""Kinds of the values of JSON objects."""

import pytest

from slot_attention_jax.runtime import json_kinds

KINDS = {"a": {"b": int, "c": (str, type(None))}, "d": [{"e": bool}]}
GOOD = {"a": {"b": 1, "c": None}, "d": [{"e": True}, {"e": False, "f": 1}]}


def test_what_is_as_expected_has_no_problem():
  assert json_kinds.problem(GOOD, KINDS, all_needed=True) == ""
  assert json_kinds.problem({}, KINDS) == ""


@pytest.mark.parametrize("value", [3, [], None, "b", True, 1.5])
def test_what_is_no_object_is_a_problem(value):
  for all_needed in (True, False):
    found = json_kinds.problem(
      {**GOOD, "a": value}, KINDS, all_needed=all_needed
    )
    assert found == f"an object as 'a', got {value!r}"


@pytest.mark.parametrize(
  ("changes", "problem"),
  [
    ({"a": {"b": True, "c": ""}}, "an integer as 'a.b', got True"),
    ({"a": {"b": 1, "c": 2}}, "text or null as 'a.c', got 2"),
    ({"d": {}}, "a list as 'd', got {}"),
    ({"d": [{"e": True}, 4]}, "an object as 'd[1]', got 4"),
    ({"a": {"b": 1}}, "the keys ['a.b', 'a.c'], it lacks ['a.c']"),
    ({"d": "x" * 99}, f"a list as 'd', got '{'x' * 56}..."),
  ],
)
def test_a_problem_names_the_key_by_its_path(changes, problem):
  found = json_kinds.problem({**GOOD, **changes}, KINDS, all_needed=True)
  assert found == problem


def test_keys_that_are_not_needed_may_be_absent_at_any_depth():
  assert json_kinds.problem({"a": {}, "d": [{}]}, KINDS) == ""
