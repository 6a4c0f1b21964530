"""Sections on robustness, diversity, attribution, features and joint training: what files hold."""

import io
import json
import re
import types
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from rich.console import Console

from dissim_jax.errors import UserError
from dissim_jax.files import run
from dissim_jax.files.run import read_run
from dissim_jax.pages import figures as page_figures
from dissim_jax.pages import findings, training
from dissim_jax.pages.run import write_report
from dissim_jax.render import images, page, style, table, terminal
from dissim_jax.studies.attribution import record as attribution_record
from dissim_jax.studies.attribution import report as attribution_report
from dissim_jax.studies.corruption import figures as corruption_figures
from dissim_jax.studies.corruption import record as corruption_record
from dissim_jax.studies.corruption import report as corruption_report
from dissim_jax.studies.features import record as features_record
from dissim_jax.studies.features import report as features_report
from dissim_jax.studies.outputs import figures as outputs_figures
from dissim_jax.studies.outputs import record as outputs_record
from dissim_jax.studies.outputs import report as outputs_report
from dissim_jax.studies.outputs import tables
from dissim_jax.studies.similarity import at_taps
from dissim_jax.studies.similarity import heat_maps as similarity_maps
from dissim_jax.studies.similarity import report as similarity_report
from tests.pages.test_report import _html, _printed, make_run, save_metrics

NAMES = {
  "plasma_noise": "Plasma noise",
  "checkerboard_cutout": "Checkerboard cutout",
  "water_drop": "Water drop",
  "lines": "Lines",
  "gaussian_noise": "Gaussian noise",
  "shot_noise": "Shot noise",
  "impulse_noise": "Impulse noise",
  "gaussian_blur": "Gaussian blur",
  "motion_blur": "Motion blur",
  "zoom_blur": "Zoom blur",
  "fog": "Fog",
  "brightness": "Brightness",
  "contrast": "Contrast",
  "pixelate": "Pixelate",
  "jpeg": "JPEG",
}
ROW = (
  "member_accuracy",
  "best_member_accuracy",
  "ensemble_accuracy",
  "error_consistency",
  "cohens_kappa_label",
  "jensen_shannon_divergence",
  "gain_over_best",
  "gain_over_mean",
  "error_reduction_rate",
)
PAIRS = (
  "error_consistency",
  "cohens_kappa_label",
  "error_inconsistency",
  "label_disagreement",
  "error_disagreement_ratio",
  "q_statistic",
  "error_correlation",
  "double_fault",
  "kullback_leibler_divergence",
  "cosine_similarity",
  "jensen_shannon_divergence",
  "entropy_measure",
  "kohavi_wolpert_variance",
  "coincident_failure_diversity",
  "shannon_equitability",
  "shannon_equitability_right",
  "shannon_equitability_wrong",
  "all_wrong_fraction",
)
RULES = ("probs", "logits", "median", "geometric", "vote")


def add_joint(workdir, objectives=("gncl", "balanced"), size=3, main=None, weight=0.2):
  """Adds groups of members trained jointly to a run; with `main`, its own members are one."""
  path = workdir / "evaluation" / "metrics.json"
  metrics, rng = json.loads(path.read_text()), np.random.default_rng(3)
  like = metrics["members"][0]
  for objective in objectives:
    names = [f"{objective}_{i}" for i in range(size)]
    metrics["members"] += [
      {**like, "name": name, "teachers": [], "objective": objective, "group": objective}
      for name in names
    ]
    metrics["sequences"][objective] = names
    metrics["ensembles"] += [
      {
        **metrics["ensembles"][0],
        "sequence": objective,
        "size": count,
        "ensemble_accuracy": 0.94 + 0.02 * rng.random(),
        "error_consistency": 0.2 + 0.1 * rng.random(),
      }
      for count in range(2, size + 1)
    ]
    save_curves(workdir / objective, rng)
  for member in metrics["members"] if main else []:
    if member["name"].startswith("member"):
      member |= {"objective": main, "group": main}
      (workdir / member["name"] / "metrics.jsonl").unlink()
      save_curves(workdir / main, rng)
  metrics["objective"] = {
    "name": main or "sequential",
    "weight": weight,
    "compare": list(objectives),
  }
  with np.load(workdir / "evaluation" / "similarity.npz") as archive:
    arrays = dict(archive)
  known = [m["name"] for m in metrics["members"]]
  kinds = ("lincka", "lincka_position", "r2")
  some = {kind: next(v for k, v in arrays.items() if k.startswith(f"{kind}/")) for kind in kinds}
  for i, a in enumerate(known):
    for b in known[i:]:
      arrays.setdefault(f"lincka/{a}/{b}", some["lincka"] * rng.uniform(0.6, 1))
      if a != b:
        noise = rng.uniform(0.6, 1, 3)
        arrays.setdefault(f"lincka_position/{a}/{b}", some["lincka_position"] * noise[0])
        arrays.setdefault(f"r2/{a}/{b}", some["r2"] * noise[1])
        arrays.setdefault(f"r2/{b}/{a}", some["r2"] * noise[2])
  np.savez(workdir / "evaluation" / "similarity.npz", **arrays)
  save_metrics(workdir, metrics)
  return metrics


def save_curves(folder, rng, epochs=20):
  """The curves of a group of members."""
  folder.mkdir(parents=True, exist_ok=True)
  rows = []
  for epoch in range(1, epochs + 1):
    done = 1 - np.exp(-3 * epoch / epochs)
    rows.append(
      {
        "epoch": epoch,
        "step": epoch,
        "train_loss": 2.0 - 1.9 * done,
        "train_cross_entropy": 2.3 - 2 * done,
        "train_accuracy": 0.1 + 0.8 * done,
        "train_ensemble_accuracy": 0.15 + 0.83 * done,
        "train_diversity": 0.4 * done + 0.02 * rng.random(),
      }
    )
  (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def save(workdir, name, content):
  """Writes `evaluation/<name>`."""
  path = workdir / "evaluation" / name
  path.write_text(json.dumps(content, allow_nan=False))
  return content


def _sequences(workdir):
  return json.loads((workdir / "evaluation" / "metrics.json").read_text())["sequences"]


def _robust_row(rng, error, gain):
  ensemble = 1 - error
  member = ensemble - gain * (0.5 + rng.random())
  row = dict.fromkeys(ROW, 0.1)
  return row | {
    "member_accuracy": member,
    "best_member_accuracy": ensemble - gain / 2,
    "ensemble_accuracy": ensemble,
    "gain_over_best": gain * (rng.random() - 0.2),
    "gain_over_mean": ensemble - member,
    "error_consistency": 0.6 - gain * 5,
    "jensen_shannon_divergence": 0.02 + error / 5 + gain,
  }


def add_robustness(
  workdir, corruptions=NAMES, severities=(1, 2, 3, 4, 5), side=8, channels=1, seed=0
):
  """Writes robustness.json and corruptions.npz of all sequences of a run."""
  rng, sequences = np.random.default_rng(seed), _sequences(workdir)
  gains = {name: 0.01 + 0.012 * index for index, name in enumerate(sequences)}

  def block(error):
    return {
      "sequences": {
        name: _robust_row(rng, error * (1 - 6 * gain) + 0.002 * rng.random(), gain)
        for name, gain in gains.items()
      },
      "members": {},
    }

  content = {
    "severities": list(severities),
    "seed": 0,
    "rule": "probs",
    "corruptions": [{"name": name, "title": NAMES[name]} for name in corruptions],
    "clean": block(0.05),
    "conditions": [],
  }
  for index, name in enumerate(corruptions):
    for severity in severities:
      error = 0.05 + 0.025 * severity * (1 + 5 * (index * 7 % 11) / 11) * 0.8
      content["conditions"].append({"corruption": name, "severity": severity, **block(error)})
  x, y = np.meshgrid(np.linspace(-1, 1, side), np.linspace(-1, 1, side))
  image = (255 * np.exp(-8 * (np.hypot(x, y) - 0.6) ** 2))[..., None]
  image = image * np.linspace(1, 0.6, channels)
  strength = np.array(severities) * 20
  noise = rng.normal(0, 1, (len(corruptions), 1, side, side, channels))
  images = image + noise * strength[None, :, None, None, None]
  np.savez(
    workdir / "evaluation" / "corruptions.npz",
    original=image.astype(np.uint8),
    images=np.clip(images, 0, 255).astype(np.uint8),
  )
  return save(workdir, "robustness.json", content)


def _reliability(rng, bins=15, over=0.1):
  confidence = (np.arange(bins) + 0.5) / bins
  count = np.round(1000 * confidence**6)
  accuracy = np.clip(confidence - over * confidence * rng.random(bins), 0, 1)
  empty = count == 0
  empty[0] = False  # an empty bin may have values, which mean nothing
  fill = lambda values: [None if gone else float(v) for v, gone in zip(values, empty, strict=True)]  # noqa: E731
  return {
    "edges": np.linspace(0, 1, bins + 1).tolist(),
    "count": count.astype(int).tolist(),
    "confidence": fill(confidence),
    "accuracy": fill(accuracy),
  }


def _scores(rng, over=0.1, more=()):
  return {
    "accuracy": 0.9 + 0.05 * rng.random(),
    "cross_entropy": 0.2 + over * rng.random(),
    "expected_calibration_error": over * rng.random(),
    **{key: 0.5 * rng.random() for key in more},
    "reliability": _reliability(rng, over=over),
  }


def add_diversity(workdir, calibrated=True, classes=10, seed=0):
  """Writes diversity.json of all sequences of a run."""
  rng, sequences = np.random.default_rng(seed), _sequences(workdir)
  metrics = json.loads((workdir / "evaluation" / "metrics.json").read_text())
  more = ("gain_over_best", "gain_over_mean", "error_reduction_rate", "conversion_rate")

  def block(over):
    return {
      "diversity": {key: float(rng.random()) for key in PAIRS},
      "ensembles": {rule: _scores(rng, over, more) for rule in RULES},
    }

  members = {
    member["name"]: {
      "temperature": 1.2 + rng.random() if calibrated else None,
      "uncalibrated": _scores(rng, 0.3),
      "calibrated": _scores(rng, 0.05) if calibrated else None,
    }
    for member in metrics["members"]
  }
  theta = np.linspace(-0.78, 0.78, 21)
  t = np.linspace(0, 1, 21)
  out = {}
  for index, (name, of) in enumerate(sequences.items()):
    shape = (  # noqa: E731
      lambda centre, top: (
        np.round(  # noqa: E731
          top * np.exp(-((((theta[1:] + theta[:-1]) / 2 - centre) / 0.25) ** 2))
        )
        .astype(int)
        .tolist()
      )
    )
    curve = lambda drop: (0.94 - drop * (t - 0.5) ** 2 + 0.002 * rng.random(21)).tolist()  # noqa: E731
    out[name] = {
      "members": of,
      "uncalibrated": block(0.3),
      "calibrated": block(0.05) if calibrated else None,
      "interpolation": {
        "a": of[0],
        "b": of[1],
        "favours_b": [bool(k % 2) for k in range(classes)],
        "weights": t.tolist(),
        "validation_accuracy": curve(0.1),
        "test_accuracy": curve(0.12),
        "by_class_validation_accuracy": curve(0.05),
        "by_class_test_accuracy": curve(0.06),
      }
      if calibrated and len(of) > 1
      else None,
      "specialisation": {
        "a": of[0],
        "b": of[1],
        "edges": theta.tolist(),
        "both_right": shape(0, 300),
        "only_a": shape(0.2 + 0.05 * index, 20),
        "only_b": shape(-0.2, 18),
        "neither": shape(0, 25),
        "by_class": rng.normal(0, 0.1, classes).tolist(),
      }
      if len(of) > 1
      else None,
    }
  order = list(members)[:5]
  greedy = (
    {
      "first": order[0],
      "order": order,
      "validation_accuracy": np.linspace(0.92, 0.95, len(order)).tolist(),
      "test_accuracy": np.linspace(0.91, 0.945, len(order)).tolist(),
    }
    if calibrated
    else None
  )
  return save(
    workdir,
    "diversity.json",
    {
      "num_test": 1397,
      "num_validation": 100 if calibrated else 0,
      "rules": list(RULES),
      "members": members,
      "sequences": out,
      "greedy": greedy,
    },
  )


def add_attribution(workdir, count=4, side=8, channels=1, method="saliency", seed=0):
  """Writes attribution.json and attribution.npz of all sequences of a run."""
  rng, sequences = np.random.default_rng(seed), _sequences(workdir)
  metrics = json.loads((workdir / "evaluation" / "metrics.json").read_text())
  names = [member["name"] for member in metrics["members"]]
  integrated = method == "integrated_gradients"
  content = save(
    workdir,
    "attribution.json",
    {
      "method": method,
      "images": 256,
      "steps": 20 if integrated else None,
      "sequences": {
        name: {
          "diversity": 0.2 + 0.3 * rng.random(),
          "diversity_std": 0.05,
          "diversity_right": 0.2 + 0.3 * rng.random(),
        }
        for name in sequences
      },
      "pairs": [],
      "members": {
        name: {"completeness_error_mean": 0.004, "completeness_error_max": 0.02}
        if integrated
        else {}
        for name in names
      },
    },
  )
  y, x = np.mgrid[:side, :side] / side
  images = np.stack(
    [255 * np.exp(-9 * (np.hypot(x - 0.5, y - 0.5) - 0.1 * (i % 4)) ** 2) for i in range(count)]
  )
  maps = np.abs(rng.normal(0, 0.3, (len(names), count, side, side))) * images / 255
  labels = np.arange(count) % 10
  predictions = np.where(rng.random((len(names), count)) < 0.2, (labels + 1) % 10, labels)
  np.savez(
    workdir / "evaluation" / "attribution.npz",
    images=np.repeat(images[..., None], channels, -1).astype(np.uint8),
    labels=labels,
    predictions=predictions,
    members=np.array(names),
    maps=(maps / np.linalg.norm(maps, axis=(2, 3), keepdims=True)).astype(np.float32),
  )
  return content


def add_features(workdir, seed=0):
  """Writes features.json of all sequences of a run."""
  rng, out = np.random.default_rng(seed), {}
  dimensions = [1, 2, 4, 8, 16, 32, 64, 128]
  grown = 0.97 - 0.8 * np.exp(-np.arange(8) / 2)
  for index, (name, of) in enumerate(_sequences(workdir).items()):
    if len(of) < 2:
      continue
    shares = np.array([1, 0.75, 0.5, 0.25, 0])
    out[name] = {
      "a": of[0],
      "b": of[1],
      "width": 64,
      "shares": shares.tolist(),
      "accuracy": (0.95 + (0.02 + 0.01 * index) * 4 * shares * (1 - shares)).tolist(),
      "accuracy_std": [0.003] * 5,
      "compression": {
        "dimensions": dimensions,
        "diverse": (grown + 0.01 * index).tolist(),
        "random": (grown - 0.04 + 0.01 * rng.random(8)).tolist(),
        "random_std": [0.02] * 8,
      },
    }
  return save(
    workdir,
    "features.json",
    {"draws": 5, "regularisation": 1.0, "num_train": 1000, "num_test": 797, "sequences": out},
  )


def add_sections(workdir, **options):
  """All files of the optional sections."""
  return (
    add_robustness(workdir, **options),
    add_diversity(workdir),
    add_attribution(workdir),
    add_features(workdir),
  )


FEW = ("plasma_noise", "fog")
FILES = (
  "robustness.json",
  "corruptions.npz",
  "diversity.json",
  "attribution.json",
  "attribution.npz",
  "features.json",
)
SECTIONS = (
  corruption_report.TITLE,
  "Diversity of errors and predictions",
  "Consensus rules and calibration",
  "Weights and choice of members",
  "Where members look",
  "Features of two members joined",
)
SECTION_PICTURES = {
  *corruption_report.PICTURES,
  *outputs_report.PICTURES,
  *attribution_report.PICTURES,
  *features_report.PICTURES,
}


@pytest.fixture(autouse=True)
def _house_style(monkeypatch):
  """The pictures of every run are made but not drawn: `test_report` draws them."""
  undrawn = types.SimpleNamespace(
    Section=page.Section,
    picture=lambda name, figure, alt, caption: page.Picture(name, b"drawn", alt, caption),
  )
  monkeypatch.setattr(page_figures, "page", undrawn)
  with matplotlib.rc_context(style.STYLE):
    yield


def _cells(table):
  """{row label: its cells}."""
  return {row.labels[0]: row.cells for row in table.rows}


def _shown(cells):
  return [cell.text + cell.mark for cell in cells]


def test_comparison_is_the_mean_over_severities(tmp_path):
  make_run(tmp_path, size=3)
  add_joint(tmp_path, ("gncl",))
  content = add_robustness(tmp_path, FEW, (1, 2, 4.5))
  found = corruption_record.read(read_run(tmp_path))
  table = corruption_report.comparison(found)
  assert found.sequences == ["baseline", "dissimilar", "gncl"]
  assert [title for title, _ in table.groups] == [
    "Member accuracy [%] ↑",
    "Ensemble accuracy [%] ↑",
    "Error consistency κ [%] ↓",
    "JSD [%] ↑",
  ]
  keys = ("member_accuracy", "ensemble_accuracy", "error_consistency", "jensen_shannon_divergence")
  blocks = {"clean": [content["clean"]]}
  for name in FEW:
    blocks[NAMES[name]] = [row for row in content["conditions"] if row["corruption"] == name]
  blocks["mean of corruptions"] = content["conditions"]
  rows = _cells(table)
  assert list(rows) == list(blocks)
  for label, parts in blocks.items():
    expected = [
      f"{100 * np.mean([part['sequences'][name][key] for part in parts]):.2f}"
      for key in keys
      for name in found.sequences
    ]
    assert _shown(rows[label]) == expected
  assert {len(body.rows) for body in table.bodies} == {1, 2}


@pytest.mark.usefixtures("undrawn")
def test_every_severity_is_shown_folded(tmp_path):
  make_run(tmp_path, size=3)
  content = add_robustness(tmp_path, FEW, (1, 2, 4.5))
  results = read_run(tmp_path)
  (part,) = corruption_report.sections(results, corruption_record.read(results))
  (folded,) = (block for block in part.blocks if block.kind == "folded")
  rows = _cells(*folded.blocks)
  assert folded.title == "Every severity" and len(rows) == 3 * len(FEW)
  keys = ("ensemble_accuracy", "error_consistency", "gain_over_best")
  for row in content["conditions"]:
    expected = [
      f"{100 * row['sequences'][name][key]:.2f}".replace("-", "−")
      for key in keys
      for name in ("baseline", "dissimilar")
    ]
    assert _shown(rows[f"{NAMES[row['corruption']]} {row['severity']:g}"]) == expected
  page = write_report(str(tmp_path))
  assert "<details><summary>Every severity</summary>" in Path(page).read_text()


def _constant(workdir, **values):
  """Robustness with one value of each measure for both sequences, everywhere."""
  content = add_robustness(workdir, FEW, (1, 2))
  for part in (content["clean"], *content["conditions"]):
    for key, (baseline, dissimilar) in values.items():
      part["sequences"]["baseline"][key] = baseline
      part["sequences"]["dissimilar"][key] = dissimilar
  save(workdir, "robustness.json", content)
  return _cells(corruption_report.comparison(corruption_record.read(read_run(workdir))))


def test_best_is_bold_and_better_underlined_at_printed_precision(tmp_path):
  make_run(tmp_path)
  rows = _constant(
    tmp_path,
    member_accuracy=(0.9, 0.95),
    ensemble_accuracy=(0.91, 0.910004),
    error_consistency=(0.4, 0.3),
    jensen_shannon_divergence=(0.2, 0.1),
  )
  for cells in rows.values():
    marks = [(cell.best, cell.better) for cell in cells]
    assert marks == [
      (False, False),
      (True, True),
      (False, False),
      (False, False),
      (False, False),
      (True, True),
      (True, False),
      (False, False),
    ]


def test_means_that_lack_conditions_are_marked(tmp_path):
  make_run(tmp_path)
  content = add_robustness(tmp_path, FEW, (1, 2, 3))
  first, *_, last = content["conditions"]
  first["sequences"]["dissimilar"]["error_consistency"] = None
  for part in content["conditions"][3:]:
    part["sequences"]["dissimilar"]["jensen_shannon_divergence"] = None
  content["clean"]["sequences"]["baseline"]["error_consistency"] = None
  save(tmp_path, "robustness.json", content)
  rows = _cells(corruption_report.comparison(corruption_record.read(read_run(tmp_path))))
  kept = [
    part["sequences"]["dissimilar"]["error_consistency"] for part in content["conditions"][1:3]
  ]
  assert _shown(rows["Plasma noise"])[5] == f"{100 * np.mean(kept):.2f}†"
  assert _shown(rows["Fog"])[7] == "–" == _shown(rows["clean"])[4]
  assert [text.endswith("†") for text in _shown(rows["mean of corruptions"])] == [False] * 5 + [
    True,
    False,
    True,
  ]
  assert "† Some conditions have no value" in _told(tmp_path)
  assert "†" in _printed(tmp_path, 200)
  add_robustness(tmp_path, FEW)
  assert "†" not in _told(tmp_path)


def _told(workdir):
  """The note of the comparison."""
  results = read_run(workdir)
  (part,) = corruption_report.sections(results, corruption_record.read(results))
  return next(block.text for block in part.blocks if block.kind == "text")


def test_errors_by_severity_share_an_axis(tmp_path):
  make_run(tmp_path)
  content = add_robustness(tmp_path, FEW, (1, 3))
  found = corruption_record.read(read_run(tmp_path))
  figure = corruption_figures.errors(found, corruption_figures.error_curves(found), found.sequences)
  assert [ax.get_title("left") for ax in figure.axes] == [
    "Plasma noise",
    "Fog",
    corruption_record.MEAN,
  ]
  assert len({ax.get_ylim() for ax in figure.axes}) == 1 and figure.axes[0].get_ylim()[0] == 0
  clean = content["clean"]["sequences"]["dissimilar"]["ensemble_accuracy"]
  values = np.array(
    [part["sequences"]["dissimilar"]["ensemble_accuracy"] for part in content["conditions"]]
  ).reshape(2, 2)
  for ax, row in zip(figure.axes, [*values, values.mean(0)], strict=True):
    line = ax.lines[1]
    np.testing.assert_allclose(line.get_xdata(), [0, 1, 3])
    np.testing.assert_allclose(line.get_ydata(), 100 * (1 - np.array([clean, *row])))
  gains = corruption_figures.gains(found).axes[0].lines[1].get_xdata()
  expected = [content["clean"], *content["conditions"]]
  expected = [part["sequences"]["dissimilar"]["gain_over_best"] for part in expected]
  np.testing.assert_allclose(
    gains,
    100
    * np.array([expected[0], np.mean(expected[1:3]), np.mean(expected[3:]), np.mean(expected[1:])]),
  )


@pytest.mark.parametrize("channels", [1, 3])
def test_examples_show_every_corruption_and_severity(tmp_path, channels):
  make_run(tmp_path)
  add_robustness(tmp_path, FEW, (1, 2, 3), side=6, channels=channels)
  found = corruption_record.read(read_run(tmp_path))
  (ax,) = corruption_figures.examples(found).axes
  assert len(ax.images) == 2 * 4
  for image, pixels in zip(
    ax.images, [found.original, *found.images[0], found.original, *found.images[1]], strict=True
  ):
    expected = pixels if channels == 3 else pixels[..., 0]
    np.testing.assert_array_equal(image.get_array(), expected)
    assert image.get_interpolation() == "nearest"
    left, right, bottom, top = image.get_extent()
    assert right - left == pytest.approx(top - bottom) and right - left > 0.5
    if channels == 1:
      assert image.get_cmap().name == "gray" and image.get_clim() == (0, 255)


def test_severities_may_be_in_any_order(tmp_path):
  make_run(tmp_path)
  content = add_robustness(tmp_path, FEW, (3, 1, 2))
  found = corruption_record.read(read_run(tmp_path))
  with np.load(tmp_path / "evaluation" / "corruptions.npz") as archive:
    np.testing.assert_array_equal(found.images, archive["images"][:, [1, 2, 0]])
  wanted = {
    row["severity"]: row["sequences"]["baseline"]["ensemble_accuracy"]
    for row in content["conditions"]
    if row["corruption"] == "fog"
  }
  assert found.by_severity("fog", "baseline", "ensemble_accuracy")[1:] == sorted(wanted.items())


def test_an_image_that_is_not_square_keeps_its_shape():
  _, ax = images.blank(3, 3)
  images.image(ax, np.zeros((2, 8, 3), np.uint8), 1, 1, 1)
  assert ax.images[0].get_extent() == pytest.approx((1, 2, 1.375, 1.625))


def test_diversity_table_and_consensus_rules(tmp_path):
  make_run(tmp_path)
  content = add_diversity(tmp_path)
  found = outputs_record.read(read_run(tmp_path))
  rows = _cells(outputs_report.diversity_table(found))
  assert len(rows) == len(PAIRS)
  arrows = {
    label.split(" [")[0].rsplit(" ", 1)[0] if "[" not in label else label.split(" [")[0]: label[-1]
    for label in rows
  }
  for key, arrow in (
    ("Q statistic", "↓"),
    ("Double fault", "↓"),
    ("All members wrong", "↓"),
    ("Kohavi-Wolpert variance", "↑"),
    ("Shannon equitability", "↑"),
    ("Kullback-Leibler divergence", "↑"),
    ("Error inconsistency", "↑"),
    ("Cosine similarity of probabilities", "↓"),
  ):
    assert arrows[key] == arrow
  sequences = content["sequences"]
  assert _shown(rows["Q statistic ↓"]) == [
    f"{sequences[name][stage]['diversity']['q_statistic']:.3f}"
    for stage in ("uncalibrated", "calibrated")
    for name in ("baseline", "dissimilar")
  ]
  rules = _cells(outputs_report.rule_table(found))
  assert len(rules) == 2 * len(RULES)
  cells = _shown(rules["dissimilar, majority vote"])
  ends = [
    sequences["dissimilar"][stage]["ensembles"]["vote"] for stage in ("uncalibrated", "calibrated")
  ]
  assert cells[0] == " → ".join(f"{100 * end['accuracy']:.2f}" for end in ends)
  assert cells[4] == " → ".join(f"{100 * end['conversion_rate']:.1f}" for end in ends)
  members = _cells(outputs_report.member_table(found))
  assert _shown(members["member_1"])[0] == f"{content['members']['member_1']['temperature']:.2f}"


@pytest.mark.usefixtures("undrawn")
def test_without_validation_images_nothing_is_calibrated(tmp_path):
  make_run(tmp_path)
  told = "Not calibrated: no validation images (data.validation=0)."
  add_diversity(tmp_path, calibrated=False)
  html = _html(tmp_path)
  assert told in html and "After calibration" not in html and "→" not in html
  assert SECTIONS[3] not in html
  found = outputs_record.read(read_run(tmp_path))
  assert outputs_figures.interpolation(found) is None
  assert outputs_figures.greedy(found) is None
  assert len(outputs_figures.reliability(found).axes) == 2


def test_reliability_diagrams(tmp_path):
  make_run(tmp_path)
  content = add_diversity(tmp_path)
  figure = outputs_figures.reliability(outputs_record.read(read_run(tmp_path)))
  assert [ax.get_title("left") for ax in figure.axes] == [
    f"{name}, {stage}" for name in ("baseline", "dissimilar") for stage in ("before", "after")
  ]
  ax = figure.axes[2]
  ensemble = content["sequences"]["dissimilar"]["uncalibrated"]["ensembles"]["probs"]["reliability"]
  full = np.array(ensemble["count"]) > 0
  assert full.sum() < len(full)
  thick = max(ax.lines, key=lambda line: line.get_linewidth())
  for key, data in (("confidence", thick.get_xdata()), ("accuracy", thick.get_ydata())):
    np.testing.assert_allclose(data, np.array(ensemble[key], float)[full])
  assert len(ax.lines) == 1 + 2 + 1  # the diagonal, members, the ensemble
  assert sum(bar.get_height() for bar in ax.patches) == pytest.approx(1)
  counts = np.array(ensemble["count"]) / np.sum(ensemble["count"])
  np.testing.assert_allclose([bar.get_height() for bar in ax.patches], counts)


def test_specialisation_interpolation_and_greedy(tmp_path):
  make_run(tmp_path)
  content = add_diversity(tmp_path, classes=7)
  found = outputs_record.read(read_run(tmp_path))
  figure = outputs_figures.specialisation(found)
  row = content["sequences"]["dissimilar"]["specialisation"]
  for ax, group in zip(figure.axes[4:], outputs_record.GROUPS, strict=True):
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], row[group])
    np.testing.assert_allclose(ax.patches[3].get_x(), row["edges"][3])
  assert figure.axes[4].get_ylabel() == "dissimilar\na = member_0\nb = member_1"
  (ax,) = outputs_figures.specialisation_by_class(found).axes
  np.testing.assert_allclose([bar.get_height() for bar in ax.patches[7:]], row["by_class"])
  curves = content["sequences"]["baseline"]["interpolation"]
  ax = outputs_figures.interpolation(found).axes[0]
  for prefix in ("", "by_class_"):
    for split, dashes in (("validation", "--"), ("test", "-")):
      expected = 100 * np.array(curves[f"{prefix}{split}_accuracy"])
      (line,) = (line for line in ax.lines if np.allclose(line.get_ydata(), expected))
      assert line.get_linestyle() == dashes
  (ax,) = outputs_figures.greedy(found).axes
  assert [text.get_text() for text in ax.get_xticklabels()] == [
    "member_0",
    "+ member_1",
    "+ independent_1",
  ]
  np.testing.assert_allclose(
    ax.lines[1].get_ydata(), 100 * np.array(content["greedy"]["test_accuracy"])
  )
  add_diversity(tmp_path, classes=1000)
  (ax,) = outputs_figures.specialisation_by_class(outputs_record.read(read_run(tmp_path))).axes
  assert not ax.patches and (np.diff(ax.lines[0].get_ydata()) >= 0).all()


@pytest.mark.usefixtures("undrawn")
def test_attribution_maps_and_table(tmp_path):
  make_run(tmp_path, size=3)
  content = add_attribution(tmp_path, count=3, method="integrated_gradients")
  results = read_run(tmp_path)
  found = attribution_record.read(results)
  rows = _cells(attribution_report._table(found))
  for name, row in content["sequences"].items():
    first, second = rows[name]
    assert (first.text, first.spread) == (f"{row['diversity']:.4f}", "0.0500")
    assert second.text == f"{row['diversity_right']:.4f}"
  groups = attribution_report._members(results, found)
  assert groups == [
    ("baseline", ["member_0", "independent_1", "independent_2"]),
    ("dissimilar", ["member_1", "member_2"]),
  ]
  (ax,) = attribution_report.draw(found, groups).axes
  drawn = [image for image in ax.images if image.get_cmap().name == attribution_report.COLOURS]
  assert len(drawn) == 15 and len(ax.images) == 18
  order = [name for _, names in groups for name in names]
  for image in drawn:
    member, row = divmod(drawn.index(image), 3)
    member = found.shown["members"].index(order[member])
    np.testing.assert_array_equal(image.get_array(), found.shown["maps"][member, row])
    assert image.get_clim() == pytest.approx((0, found.shown["maps"][:, row].max()))
  red = sum(text.get_color() == attribution_report.WRONG for text in ax.texts)
  assert red == np.sum(found.shown["predictions"] != found.shown["labels"]) > 0
  html = _html(tmp_path)
  assert "By integrated gradients, 20 steps, on 256 test images" in html
  assert "means of members 0.40 %, at most 2.00 %" in html


def test_names_of_classes_fit_beside_their_images(tmp_path):
  make_run(tmp_path)
  add_attribution(tmp_path, count=8)
  results = read_run(tmp_path)
  found = attribution_record.read(results)
  found.shown["classes"] = ["automobile", *found.shown["classes"][1:]]
  found.shown["labels"][:] = 0
  figure = attribution_report.draw(found, attribution_report._members(results, found))
  renderer = FigureCanvasAgg(figure).get_renderer()
  boxes = [
    text.get_window_extent(renderer)
    for text in figure.axes[0].texts
    if text.get_text() == "automobile" and text.get_ha() == "right"
  ]
  assert len(boxes) == 8 and min(box.x0 for box in boxes) > 0
  images = [image.get_window_extent(renderer) for image in figure.axes[0].images]
  assert not any(box.overlaps(image) for box in boxes for image in images)


def test_as_many_members_as_fit_are_shown(tmp_path):
  make_run(tmp_path, size=5)
  add_joint(tmp_path, size=5)
  add_attribution(tmp_path, count=1)
  results = read_run(tmp_path)
  groups = attribution_report._members(results, attribution_record.read(results))
  assert len(results.members) == 19 and sum(len(names) for _, names in groups) == 12
  (part,) = attribution_report.sections(results, attribution_record.read(results))
  assert "7 more members did not fit" in part.pictures[0].caption


def test_features(tmp_path):
  make_run(tmp_path)
  content = add_features(tmp_path)["sequences"]["dissimilar"]
  left, right = features_report.draw(features_record.read(read_run(tmp_path))).axes
  curves = [
    line for line in left.lines if len(line.get_xdata()) == 5 and line.get_linestyle() == "-"
  ]
  np.testing.assert_allclose(curves[1].get_xdata(), 100 * np.array(content["shares"]))
  np.testing.assert_allclose(curves[1].get_ydata(), 100 * np.array(content["accuracy"]))
  diverse, chance = right.lines[2:]
  assert (diverse.get_linestyle(), chance.get_linestyle()) == ("-", "--")
  np.testing.assert_allclose(diverse.get_ydata(), 100 * np.array(content["compression"]["diverse"]))
  np.testing.assert_allclose(chance.get_ydata(), 100 * np.array(content["compression"]["random"]))
  edges = right.collections[1].get_paths()[0].vertices
  assert np.ptp(edges[edges[:, 0] == 8, 1]) == pytest.approx(4)  # two deviations of 2 points


def test_relations_of_members_trained_jointly(tmp_path):
  make_run(tmp_path, size=3)
  add_joint(tmp_path, ("gncl", "independent"))
  results = read_run(tmp_path)
  expected = {
    ("member_0", "member_1"): "against",
    ("gncl_0", "gncl_2"): "joint",
    ("independent_0", "independent_2"): "independent",
    ("gncl_0", "member_0"): "other",
    ("member_1", "independent_1"): "other",
    ("member_0", "independent_1"): "independent",
  }
  for (a, b), relation in expected.items():
    assert results.relation(a, b) == results.relation(b, a) == relation
  assert results.regularised_taps == [3]
  labels = [run.sequence_label(results, name) for name in results.sequences]
  assert labels == [
    "baseline",
    "dissimilar (ExpVar, tap 3)",
    "gncl (jointly, λ = 0.2)",
    "independent (jointly)",
  ]
  members = tables.members_section(results).blocks[0]
  rows = {row.labels[0]: row.labels[2] for row in members.rows}
  assert rows["gncl_1"] == "jointly (GNCL)" and rows["independent_1"] == "– (trained jointly)"
  assert rows["member_1"] == "member_0" and rows["member_0"] == "–"
  assert findings.title(results) == (
    "resnet8 on digits: ExpVar at tap 3 (block 3), λ = 1; GNCL, trained jointly, λ = 0.2, seed 0"
  )
  assert "Accuracy of the other ensembles: gncl" in " ".join(findings.sentences(results))


@pytest.mark.usefixtures("undrawn")
def test_a_joint_main_run_claims_no_penalty_at_taps(tmp_path):
  make_run(tmp_path, size=3)
  add_joint(tmp_path, (), main="gncl")
  results = read_run(tmp_path)
  assert results.metrics["dissim"]["weight"] == 1.0 and results.regularised_taps == []
  assert set(results.curves) == {"gncl", "independent_1", "independent_2"}
  html, printed = _html(tmp_path), _printed(tmp_path)
  for word in (
    "ExpVar",
    "At the regularised",
    "Similarity at the regularised",
    "outline",
    "with the penalty",
  ):
    assert word not in html.replace('"metric": "expvar"', "") and word not in printed
  assert "resnet8 on digits: GNCL, trained jointly, λ = 0.2, seed 0" in html
  assert "dissimilar (GNCL, jointly, λ = 0.2)" in html


def test_curves_of_a_group_are_one_line(tmp_path):
  make_run(tmp_path, size=3)
  add_joint(tmp_path)
  results = read_run(tmp_path)
  figure = training.curves(results)
  assert [ax.get_title() for ax in figure.axes] == [
    "Loss",
    "Accuracy",
    "Similarity to earlier members",
    "Diversity of a group",
  ]
  rows = results.curves["gncl"]
  for ax, key in (
    (figure.axes[0], "train_cross_entropy"),
    (figure.axes[0], "train_loss"),
    (figure.axes[1], "train_accuracy"),
    (figure.axes[1], "train_ensemble_accuracy"),
    (figure.axes[3], "train_diversity"),
  ):
    expected = [row[key] for row in rows]
    assert any(np.array_equal(line.get_ydata(), expected) for line in ax.lines)
  assert len(figure.axes[3].lines) == 2
  names = [text.get_text() for text in figure.legends[0].get_texts()]
  assert names == [
    "member_0",
    "member_1",
    "member_2",
    "independent_1",
    "independent_2",
    "gncl (mean of 3 members)",
    "balanced (mean of 3 members)",
  ]


def test_pictures_of_eleven_members(tmp_path):
  make_run(tmp_path, size=3)
  add_joint(tmp_path)
  results = read_run(tmp_path)
  assert len(results.pairs) == 55
  blocks = similarity_maps.map_blocks(results)
  assert [(block.title, len(block.pairs)) for block in blocks] == [
    (name, 3) for name in ("baseline", "dissimilar", "gncl", "balanced")
  ]
  figure = similarity_maps.lincka_maps(results)
  assert sum(bool(ax.patches) for ax in figure.axes) == 3  # those regularised at the tap
  assert "Pairs that share no sequence are left out" in findings.caption("lincka_maps", results)
  legend = [text.get_text() for text in similarity_report.diagonal(results).legends[0].get_texts()]
  assert legend == [
    "mean of 3 pairs: independent",
    "mean of 3 pairs: dissimilar",
    "mean of 6 pairs: trained jointly",
    "mean of 43 pairs: not trained against each other",
    "regularised tap 3 (block 3)",
  ]
  rows = {row["relation"]: row["pairs"] for row in at_taps.tap_similarity(results)}
  assert rows == {"independent": 3, "against": 3, "joint": 6, "other": 43}


@pytest.mark.usefixtures("undrawn")
def test_absent_files_are_no_sections(tmp_path):
  make_run(tmp_path)
  html = _html(tmp_path)
  assert not any(title in html for title in SECTIONS)
  assert not {path.stem for path in (tmp_path / "report").glob("*.png")} & SECTION_PICTURES
  assert "test images" not in _printed(tmp_path)


def test_everything_at_once(tmp_path, request):
  make_run(tmp_path, count=3, taps=(1,))
  add_joint(tmp_path, ("gncl",), size=2)
  add_sections(tmp_path, corruptions=FEW, severities=(1, 2))
  html = _html(tmp_path)
  first = {path.name: path.read_bytes() for path in (tmp_path / "report").iterdir()}
  assert all(f"<h2>{title}</h2>" in html for title in SECTIONS)
  assert {path[:-4] for path in first} >= SECTION_PICTURES
  assert html.count("<img") == html.count("base64,") == len(first) - 1
  assert not re.search(r"https?://|<script|<link|>\s*(nan|inf)\s*<", html)
  assert len(re.findall(r'alt="[^"]{20,}"', html)) == len(first) - 1
  assert _html(tmp_path) == html
  assert {path.name: path.read_bytes() for path in (tmp_path / "report").iterdir()} == first
  told = "Calibrated: each member's logits are divided by its own temperature, fitted on 100 "
  assert f"{told}validation images" in html.replace("&#39;", "'")
  printed = _printed(tmp_path)
  assert max(map(len, printed.splitlines())) <= 80 and "…" not in printed
  for cells in _cells(
    corruption_report.comparison(corruption_record.read(read_run(tmp_path)))
  ).values():
    assert all(cell.text in printed for cell in cells[3:6])  # the ensembles' accuracies
  for name in FILES:
    (tmp_path / "evaluation" / name).unlink()
  request.getfixturevalue("undrawn")  # The figures that remain were drawn above.
  _html(tmp_path)
  assert not {path.stem for path in (tmp_path / "report").glob("*.png")} & SECTION_PICTURES


def _without_values(
  content,
  keep=(
    "edges",
    "weights",
    "shares",
    "dimensions",
    "severities",
    "severity",
    "regularisation",
    "favours_b",
  ),
):
  """The same JSON with null for every measured number."""
  if isinstance(content, dict):
    return {key: value if key in keep else _without_values(value) for key, value in content.items()}
  if isinstance(content, list):
    return [_without_values(value) for value in content]
  return None if isinstance(content, float) else content


def test_everything_null(tmp_path):
  make_run(tmp_path, count=3, taps=(1,))
  contents = add_sections(tmp_path, corruptions=FEW, severities=(1,))
  names = ("robustness.json", "diversity.json", "attribution.json", "features.json")
  for name, content in zip(names, contents, strict=True):
    save(tmp_path, name, _without_values(content))
  html, printed = _html(tmp_path), _printed(tmp_path)
  assert all(title in html for title in SECTIONS)
  assert not re.search(r"\b(nan|None)\b", html) and "nan" not in printed
  assert all(
    cell.text == "–" and not (cell.best or cell.better or cell.mark)
    for cells in _cells(
      corruption_report.comparison(corruption_record.read(read_run(tmp_path)))
    ).values()
    for cell in cells
  )


@pytest.mark.parametrize("size", [1, 2])
def test_one_sequence(tmp_path, size):
  make_run(tmp_path, size=size, baseline=False, count=3, taps=(1,))
  add_sections(tmp_path, corruptions=FEW, severities=(1,))
  html, printed = _html(tmp_path), _printed(tmp_path)
  assert (
    corruption_report.TITLE in html
    and "better than the baseline"
    not in html[html.index(corruption_report.TITLE) : html.index("<h2>Members")]
  )
  assert ("Features of two members" in html) == (size > 1)
  table = corruption_report.comparison(corruption_record.read(read_run(tmp_path)))
  assert not any(cell.best or cell.better for cells in _cells(table).values() for cell in cells)
  assert "Plasma noise" in printed


@pytest.mark.parametrize("name", FILES)
def test_damaged_files_are_named(tmp_path, name):
  make_run(tmp_path, count=3)
  add_sections(tmp_path, corruptions=FEW, severities=(1,))
  path = tmp_path / "evaluation" / name
  content = path.read_bytes()
  for damage in (b"{ torn", b"", b"[1]", b"{}", b'{"sequences": 3}'):
    path.write_bytes(damage)
    with pytest.raises(UserError, match=re.escape(str(path))) as error:
      write_report(str(tmp_path))
    assert str(error.value).count("\n") == 0 and "remove it" in str(error.value)
  assert not (tmp_path / "report").exists()
  path.write_bytes(content)
  if name.endswith(".npz"):
    with np.load(path) as archive:
      arrays = {
        key: value[:1] if key in ("images", "labels") else value[..., :2]
        for key, value in archive.items()
      }
    np.savez(path, **arrays)
    with pytest.raises(UserError, match="another form"):
      write_report(str(tmp_path))


@pytest.mark.parametrize(
  "name, change, told",
  [
    ("robustness.json", lambda c: c["conditions"].pop(), "no condition fog, severity 1"),
    (
      "robustness.json",
      lambda c: c["clean"]["sequences"]["baseline"].pop("error_consistency"),
      "lacks the field 'error_consistency'",
    ),
    (
      "robustness.json",
      lambda c: c["clean"]["sequences"]["baseline"].update(member_accuracy="a"),
      "'a' is no number",
    ),
    (
      "diversity.json",
      lambda c: c["sequences"]["baseline"]["interpolation"]["weights"].pop(),
      "20 weights",
    ),
    (
      "diversity.json",
      lambda c: c["sequences"]["baseline"]["specialisation"].update(edges=[None]),
      "without a value",
    ),
    ("features.json", lambda c: c["sequences"]["baseline"]["accuracy"].pop(), "4 accuracy"),
    ("attribution.json", lambda c: c.pop("method"), "lacks the field 'method'"),
  ],
)
def test_what_is_wrong_in_a_file_is_told(tmp_path, name, change, told):
  make_run(tmp_path, count=3)
  add_sections(tmp_path, corruptions=FEW, severities=(1,))
  content = json.loads((tmp_path / "evaluation" / name).read_text())
  change(content)
  save(tmp_path, name, content)
  with pytest.raises(UserError, match=re.escape(told)):
    write_report(str(tmp_path))


def test_wide_tables_are_split_by_measure(tmp_path):
  make_run(tmp_path)
  add_robustness(tmp_path, FEW)
  table = corruption_report.comparison(corruption_record.read(read_run(tmp_path)))
  parts = table.split(5)
  assert [[title for title, _ in part.groups] for part in parts] == [
    [title for title, _ in table.groups[:2]],
    [title for title, _ in table.groups[2:]],
  ]
  for label, cells in _cells(table).items():
    assert [cell for part in parts for cell in _cells(part)[label]] == cells
  assert len(table.split(1)) == 4 and table.split(8)[0].groups == table.groups


@pytest.mark.parametrize("width, columns", [(80, 4), (60, 4), (40, 2), (100, 8)])
def test_terminal_tables_leave_out_whole_groups(width, columns):
  """But for the first group, of which there is as much as fits."""
  heads = [f"column {i}" for i in range(8)]
  shown = table.labelled("name", [("", heads)], [[("row", [table.Cell("1234567") for _ in heads])]])
  console = Console(width=width, record=True, file=io.StringIO())
  terminal.print_table(shown, console, group=4)
  assert console.export_text().count("1234567") == columns


def test_pictures_have_no_clipped_text(tmp_path):
  make_run(tmp_path, size=3)
  add_joint(tmp_path, ("gncl_masked", "attribution"))
  add_sections(tmp_path)
  results = read_run(tmp_path)
  robust, diverse = corruption_record.read(results), outputs_record.read(results)
  maps_found = attribution_record.read(results)
  curves = corruption_figures.error_curves(robust)
  drawn = [
    corruption_figures.errors(robust, curves, robust.sequences),
    corruption_figures.gains(robust),
    corruption_figures.examples(robust),
    *(getattr(outputs_figures, name)(diverse) for name in outputs_report.PICTURES),
    attribution_report.draw(maps_found, attribution_report._members(results, maps_found)),
    features_report.draw(features_record.read(results)),
    training.curves(results),
  ]
  for figure in drawn:
    figure.draw_without_rendering()  # Only then everything has its place.
    tight = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert tight.x0 >= 0 and tight.y0 >= 0 and tight.x1 <= width + 1e-6
    assert tight.y1 <= height + 1e-6
