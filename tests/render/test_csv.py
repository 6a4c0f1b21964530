"""Cells of CSV files that a spreadsheet would execute."""

import csv as reader
import io

import pytest

from dissim_jax.render import csv


@pytest.mark.parametrize(
  "name",
  ['=cmd|" /C calc"!A0', "+1+1", "-@SUM(A1)", "@SUM(A1)", "\tx", "\r=1", " =1", "＝1+1", "-x"],
)
def test_a_name_is_no_formula(name):
  ((cell, other),) = reader.reader(io.StringIO(csv.text([(name, "member_0")]), newline=""))
  assert cell == f"'{name}" and other == "member_0"


@pytest.mark.parametrize("number", ["-1.5", "+2e-5", "-inf", "nan", "-0", -3, 0.5, ""])
def test_a_number_stays_one(number):
  assert csv.text([(number, "x")]) == f"{number},x\n"


def test_commas_quotes_and_lines_stay_in_their_cell():
  rows = [["a,b", 'say "x"', "two\nlines"], ["", "e", "f"]]
  assert list(reader.reader(io.StringIO(csv.text(rows), newline=""))) == rows
