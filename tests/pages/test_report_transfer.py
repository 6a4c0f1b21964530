"""The section on attack transfer between the members of a run: what its files hold."""

import json
import math

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from dissim_jax.errors import UserError
from dissim_jax.files.run import read_run
from dissim_jax.studies.transfer import record
from dissim_jax.studies.transfer import report as transfer_report
from tests.pages.test_report import _html, make_run

MEMBERS = ["member_0", "member_1", "independent_1"]


def add_transfer(workdir, pictures=True, **changes):
  """What `studies.transfer` writes of a run of two members and an independent one."""
  rng = np.random.default_rng(0)
  pairs = [
    {"a": a, "b": b, "images": count, "a_to_b": forth, "b_to_a": back, "similarity": s}
    for a, b, count, forth, back, s in (
      ("member_0", "member_1", 200, 0.25, 0.2, 3.114),
      ("member_0", "independent_1", 210, 0.5, 0.6, 4.007),
      ("member_1", "independent_1", 0, None, None, None),
    )
  ]
  ensembles = [
    {
      "sequence": sequence,
      "members": names[:size],
      "size": size,
      "source": source,
      "clean": 0.92,
      "attacked": attacked,
      "kept": 0.9,
      "members_attacked": [0.5, 0.7][:size],
    }
    for source in MEMBERS
    for sequence, names, attacked in (
      ("dissimilar", MEMBERS[:2], 0.8),
      ("baseline", MEMBERS[::2], 0.65),
    )
    for size in (1, 2)
  ]
  content = {
    "attack": {"name": "pgd", "epsilon": 32 / 255, "step_size": 4 / 255, "iterations": 50},
    "floor": 0.01,
    "images": 300,
    "members": MEMBERS,
    "accuracy": dict.fromkeys(MEMBERS, 0.9),
    "white_box": {"member_0": 0.94, "member_1": 1.0, "independent_1": None},
    "pairs": pairs,
    "ensembles": ensembles,
    "settings": {},
    **changes,
  }
  folder = workdir / "evaluation"
  (folder / "transferability.json").write_text(json.dumps(content))
  if pictures:
    np.savez(
      folder / "transferability.npz",
      original=rng.integers(0, 256, (4, 5, 6, 1), np.uint8),
      adversarial=rng.random((3, 4, 5, 6, 1), np.float32),
      labels=np.arange(4),
      predictions=np.array([[0, 1, 2, 9], [3, 3, 3, 3], [-1, 1, 2, 3]], np.int16),
      members=np.array(MEMBERS),
    )
  return content


@pytest.fixture
def results(tmp_path):
  make_run(tmp_path, taps=(2,))
  add_transfer(tmp_path)
  return read_run(str(tmp_path))


def texts(table):
  return {row.labels[0]: [cell.text for cell in row.cells] for row in table.rows}


def test_pairs_are_named_by_how_they_were_trained(results):
  table = transfer_report.pair_table(results, record.read(results))
  assert texts(table) == {
    "member_0, member_1 (dissimilar)": ["200", "25.0", "20.0", "3.11"],
    "member_0, independent_1 (independent)": ["210", "50.0", "60.0", "4.01"],
    "member_1, independent_1 (not trained against each other)": ["0", "–", "–", "–"],
  }


def test_answer_compares_dissimilar_with_independent_pairs(results):
  answer = transfer_report.answer(results, record.read(results))
  assert "55.0 % for pairs that are independent (mean s 4.01, 1 pair)" in answer
  assert "22.5 % for pairs that are dissimilar (mean s 3.11, 1 pair)" in answer


def test_no_answer_without_both_kinds(tmp_path):
  make_run(tmp_path, taps=())
  add_transfer(tmp_path)
  results = read_run(str(tmp_path))
  found = record.read(results)
  assert transfer_report.answer(results, found) == ""


def test_gain_is_over_the_members_under_the_same_attack(results):
  found = record.read(results)
  row = found.ensembles["member_0", "dissimilar"]
  assert row["size"] == 2
  assert row["members"] == pytest.approx(0.6) and row["gain"] == pytest.approx(0.2)
  assert row["gain_over_best"] == pytest.approx(0.1)
  table = transfer_report.ensemble_table(results, found)
  own = {row.labels[0]: row.cells for row in table.bodies[0].rows}
  assert [c.text for c in own["member_0: dissimilar of 2"]] == [
    "92.0",
    "60.0",
    "80.0",
    "20.0",
    "10.0",
  ]
  assert [c.text for c in own["member_0: baseline of 2"]] == ["92.0", "60.0", "65.0", "5.0", "−5.0"]
  assert own["member_0: dissimilar of 2"][2].best and own["member_0: dissimilar of 2"][2].better
  assert not own["member_0: baseline of 2"][2].best


@pytest.mark.usefixtures("undrawn")
def test_page_tells_attack_and_white_box(tmp_path):
  make_run(tmp_path, taps=(2,))
  assert "Attack transfer between members" not in _html(tmp_path)
  add_transfer(tmp_path)
  page = _html(tmp_path)
  assert "Attack transfer between members" in page
  assert "PGD, at most 32/255 a pixel, 50 iterations of 4/255, on 300 test images" in page
  assert "own attack fools it on 94.0 to 100.0 %" in page
  assert (tmp_path / "report" / "attacked_images.png").exists()
  (tmp_path / "evaluation" / "transferability.npz").unlink()
  assert "Attack transfer between members" in _html(tmp_path)
  assert not (tmp_path / "report" / "attacked_images.png").exists()


def test_picture_marks_what_was_fooled(results):
  figure = transfer_report.draw(record.read(results))
  FigureCanvasAgg(figure).draw()
  marks = [text for text in figure.axes[0].texts if text.get_text() not in ("as it is", *MEMBERS)]
  rows = [[text.get_text() for text in marks[i : i + 4]] for i in (0, 4, 8, 12)]
  assert rows == [list("0123"), ["0", "1", "2", "9"], list("3333"), ["–", "1", "2", "3"]]
  wrong = [text.get_color() == transfer_report.WRONG for text in marks]
  assert wrong == [False] * 7 + [True] * 4 + [False] * 5
  bounds = figure.bbox
  assert all(bounds.contains(*text.get_window_extent().p0) for text in figure.axes[0].texts)


@pytest.mark.parametrize(
  "changes, told",
  [
    ({"pairs": [{"a": "member_0"}]}, "lacks the field 'b'"),
    (
      {
        "pairs": [
          {"a": "x", "b": "member_0", "images": 1, "a_to_b": 1, "b_to_a": 1, "similarity": 1}
        ]
      },
      "members that the run does not have: x",
    ),
    ({"white_box": 3}, "has values of another form"),
    ({"attack": {"name": "pgd"}}, "lacks the field 'epsilon'"),
    (
      {
        "ensembles": [
          {
            "source": "member_0",
            "sequence": "baseline",
            "size": 2,
            "clean": 1,
            "attacked": 1,
            "members_attacked": [math.nan],
          }
        ]
      },
      "has values of another form",
    ),
  ],
)
def test_damaged_files_are_named(tmp_path, changes, told):
  make_run(tmp_path)
  add_transfer(tmp_path, **changes)
  with pytest.raises(UserError, match="transferability.json") as error:
    record.read(read_run(str(tmp_path)))
  assert told in str(error.value)


def test_arrays_of_another_form_are_named(tmp_path):
  make_run(tmp_path)
  add_transfer(tmp_path)
  np.savez(tmp_path / "evaluation" / "transferability.npz", original=np.zeros((2, 3)))
  with pytest.raises(UserError, match="transferability.npz"):
    record.read(read_run(str(tmp_path)))
