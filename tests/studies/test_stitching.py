"""Stitches against NumPy, SciPy and scikit-learn; stitched networks against a run by hand."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from sklearn.linear_model import Lasso, LinearRegression
from sklearn.metrics import r2_score

from dissim_jax import similarity
from dissim_jax.data.augment import normalise
from dissim_jax.distributed import devices
from dissim_jax.members.member import Member
from dissim_jax.models import MODELS
from dissim_jax.similarity import lincka
from dissim_jax.studies.stitching import maps as stitching_maps
from dissim_jax.studies.stitching import passes, training
from dissim_jax.studies.stitching.maps import Stitch
from tests import tiny

SHAPE, CLASSES = (8, 6, 1), 4
moments, sparse = jax.jit(similarity.moments), jax.jit(stitching_maps.sparse)
least_squares, seam_indices = (
  jax.jit(stitching_maps.least_squares),
  jax.jit(stitching_maps.seam_indices),
)
SCALES = (((0.5,), (0.3,)), ((0.4,), (0.2,)))


@pytest.fixture
def rng():
  return np.random.default_rng(6)


@pytest.fixture(scope="module")
def xy():
  """A source of 5 channels and a target of 7 that partly depends on it, with offsets."""
  rng = np.random.default_rng(5)
  x = rng.normal(size=(4, 6, 5, 5)) * [1, 2, 0.5, 1, 3] + [0, 5, -2, 1, 0]
  y = x @ rng.normal(size=(5, 7)) + rng.normal(size=(4, 6, 5, 7)) + rng.normal(size=7)
  return x.astype(np.float32), y.astype(np.float32)


def flat(z):
  return np.asarray(z, np.float64).reshape(-1, z.shape[-1])


def assert_close(actual, desired, rtol=1e-4, atol=1e-5):
  np.testing.assert_allclose(np.asarray(actual), desired, rtol=rtol, atol=atol)


# --- Maps from moments ---------------------------------------------------------------------------

CHANNELS, RANKS = (4, 5, 7), (1, 3, 5)


@pytest.fixture(scope="module")
def maps(xy):
  """Maps from their moments, in one program: each by itself takes as long to compile."""

  @jax.jit
  def find(m):
    fewer = [m._replace(mean_y=m.mean_y[:c], xy=m.xy[:, :c], yy=m.yy[:c, :c]) for c in CHANNELS]
    return {
      "affine": stitching_maps.least_squares(m),
      "linear": stitching_maps.least_squares(stitching_maps.about_origin(m)),
      "orthogonal": dict(zip(CHANNELS, map(stitching_maps.orthogonal, fewer), strict=True)),
      "reduced rank": {rank: stitching_maps.reduced_rank(m, rank) for rank in RANKS},
    }

  return jax.device_get(find(moments(*xy)))


def test_affine_least_squares_is_scikit_learns(xy, maps):
  found = maps["affine"]
  oracle = LinearRegression().fit(*map(flat, xy))
  assert_close(found.kernel, oracle.coef_.T)
  assert_close(found.bias, oracle.intercept_, atol=1e-4)


def test_linear_least_squares_is_the_pseudo_inverse(xy, maps):
  found = maps["linear"]
  x, y = map(flat, xy)
  assert_close(found.kernel, np.linalg.pinv(x) @ y)  # Eq. 2.
  assert_close(found.bias, np.zeros(7))


@pytest.mark.parametrize("channels", CHANNELS)
def test_orthogonal_is_procrustes(xy, maps, channels):
  """On centred data; with other numbers of channels the smaller is padded with zeros."""
  x, y = flat(xy[0]), flat(xy[1])[:, :channels]
  kernel, bias = maps["orthogonal"][channels]
  a, b = x - x.mean(0), y - y.mean(0)
  fewer = kernel.T @ kernel if channels <= 5 else kernel @ kernel.T
  assert_close(fewer, np.eye(min(5, channels)))
  size = max(5, channels)
  wide = [np.pad(m, ((0, 0), (0, size - m.shape[1]))) for m in (a, b)]
  assert_close(np.trace(kernel.T @ a.T @ b), scipy.linalg.orthogonal_procrustes(*wide)[1])
  assert_close(bias, y.mean(0) - x.mean(0) @ kernel, atol=1e-4)
  if channels == 5:
    assert_close(kernel, scipy.linalg.orthogonal_procrustes(a, b)[0], atol=1e-4)


@pytest.mark.parametrize("rank", RANKS)
def test_reduced_rank_is_the_truncated_fit(xy, maps, rank):
  """W_LS V_k V_k', V from the SVD of the centred fit; and no other rank-k map is better."""
  x, y = (flat(z) - flat(z).mean(0) for z in xy)
  found = maps["reduced rank"][rank]
  fit = np.linalg.pinv(x) @ y
  vt = np.linalg.svd(x @ fit, full_matrices=False)[2][:rank]
  assert_close(found.kernel, fit @ vt.T @ vt, atol=1e-4)
  assert np.linalg.matrix_rank(found.kernel, tol=1e-3) == rank
  u, s, v = np.linalg.svd(fit, full_matrices=False)
  naive = (u[:, :rank] * s[:rank]) @ v[:rank]  # Truncating the map itself ignores the data.
  error = [np.sum((x @ w - y) ** 2) for w in (found.kernel, naive)]
  assert error[0] < error[1] or rank == 5


def test_reduced_rank_refuses_a_rank_that_does_not_exist(xy):
  for rank in (0, 6):
    with pytest.raises(ValueError, match=f"rank={rank}: must be in 1..5"):
      stitching_maps.reduced_rank(moments(*xy), rank)


@pytest.mark.parametrize("alpha", [0.0, 0.05, 0.5])
def test_sparse_is_the_lasso(xy, alpha):
  x, y = map(flat, xy)
  found = sparse(moments(*xy), alpha)
  oracle = Lasso(alpha, tol=1e-10, max_iter=100_000) if alpha else LinearRegression()
  oracle.fit(x, y)
  assert_close(found.kernel, oracle.coef_.T, atol=2e-4)
  assert_close(found.bias, oracle.intercept_, atol=1e-3)
  assert np.array_equal(np.asarray(found.kernel) == 0, oracle.coef_.T == 0)


def test_largest_alpha_is_the_smallest_that_makes_all_zero(xy):
  m = moments(*xy)
  most = float(stitching_maps.largest_alpha(m))
  assert not np.any(sparse(m, 1.001 * most).kernel)
  assert np.any(sparse(m, 0.99 * most).kernel)


def test_identity_passes_channels_on(xy):
  x = xy[0]
  square = jax.eval_shape(similarity.moments, x, x)
  assert_close(stitching_maps.apply_stitch(stitching_maps.identity(square), x), x)
  assert stitching_maps.identity(moments(*xy)).kernel.shape == (5, 7)


def test_degenerate_sources_give_finite_stitches(xy):
  """A constant channel, one channel twice, fewer samples than channels."""
  x, y = xy
  broken = np.concatenate([x, x[..., :1], np.full_like(x[..., :1], 3.0)], -1)

  @jax.jit
  def find(m):
    return [
      stitching_maps.least_squares(m),
      stitching_maps.orthogonal(m),
      stitching_maps.identity(m),
      stitching_maps.reduced_rank(m, 2),
      stitching_maps.sparse(m, 0.1),
    ]

  for a, b in ((broken, y), (broken[:1, :2, :2], y[:1, :2, :2])):
    for stitch in find(moments(a, b)):
      assert all(np.all(np.isfinite(part)) for part in stitch)


def test_seam_indices_need_no_second_pass(xy, rng):
  """Moments of S(x) and y from those of x and y."""
  x, y = xy
  stitch = Stitch(np.float32(rng.normal(size=(5, 7))), np.float32(rng.normal(size=7)))
  biased = functools.partial(lincka, unbiased=False, samples="position")

  @jax.jit
  def both(m, stitch, x, y):
    found = stitching_maps.stitched_moments(m, stitch), stitching_maps.seam_indices(m, stitch)
    moved = stitching_maps.apply_stitch(stitch, x)
    return found, (moved, similarity.moments(moved, y), biased(moved, y))

  (found, indices), (moved, expected, cka) = jax.device_get(both(moments(x, y), stitch, x, y))
  for got, want in zip(found[:6] + found.exact[:6], expected[:6] + expected.exact[:6], strict=True):
    assert_close(got, want, rtol=1e-4, atol=1e-2)
  truth = r2_score(flat(y), flat(moved), multioutput="variance_weighted")
  assert_close(indices["r2"], truth)
  assert truth < 0  # A random stitch is worse than the mean.
  assert_close(indices["lincka"], cka)


def test_sparsity_counts_entries_below_the_threshold():
  kernel = np.float32([[1e-5, -1e-5, 0.0], [1.0, -2.0, 1.1e-4]])
  stitch = Stitch(kernel, np.zeros(3, np.float32))
  assert_close(stitching_maps.sparsity(stitch), 0.5)
  assert np.count_nonzero(stitching_maps.cut(stitch).kernel) == 3


# --- Stitched networks ---------------------------------------------------------------------------


def make_member(name, seed, model="tiny_deep", width=0.25, scale=SCALES[0]):
  built = MODELS[model](CLASSES, width_multiplier=width, axis_name=devices.BATCH_AXIS)
  return Member(name, built, tiny.drawn(built, SHAPE, seed), *scale)


@pytest.fixture(scope="module")
def joined():
  """Two members that see differently scaled images, the images, and labels."""
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (40, *SHAPE), np.uint8)
  source, target = make_member("a", 2), make_member("b", 14, scale=SCALES[1])
  pair, variables = passes.make_pair(source, target)
  return source, target, pair, variables, images, rng.integers(0, CLASSES, 40).astype(np.int32)


TAPS = ((0, 0), (1, 1), (2, 2), (3, 3))
BATCH = 16  # of 40 images: the last batch is smaller


@pytest.fixture(scope="module")
def whole(joined):
  """(source taps, target taps, target logits, moments at `TAPS`) in one batch."""
  _, _, pair, variables, images, _ = joined

  @jax.jit
  def run(variables, images):
    sources = pair.source.apply(variables[0], normalise(images, *pair.source_scale))[1]
    logits, targets = pair.target.apply(variables[1], normalise(images, *pair.target_scale))
    return sources, targets, logits, [similarity.moments(sources[s], targets[t]) for s, t in TAPS]

  return jax.device_get(run(variables, images))


@pytest.fixture(scope="module")
def passed(joined):
  """One pass over the images: moments at `TAPS` and the target's logits."""
  _, _, pair, variables, images, _ = joined
  found, logits = passes.collect_moments(pair, variables, TAPS, images, BATCH)
  return dict(zip(TAPS, jax.device_get(found), strict=True)), logits


def test_one_pass_gives_the_moments_of_every_seam(whole, passed):
  _, _, logits, wanted = whole
  found, found_logits = passed
  assert_close(found_logits, logits, rtol=1e-3, atol=1e-4)
  for m, want in zip(found.values(), wanted, strict=True):
    assert m.count == want.count
    for got, exact in zip(m[:6], want[:6], strict=True):
      assert_close(got, exact, rtol=1e-3, atol=1e-3 * np.max(np.abs(exact)))


def test_scores_are_those_of_the_network_run_by_hand(joined, whole, passed, rng):
  _, _, pair, variables, images, labels = joined
  sources, _, target_logits, _ = whole
  target_logits = np.asarray(target_logits, np.float64)
  tap = (1, 1)
  m = passed[0][tap]
  kernel = np.float32(rng.normal(size=m.xy.shape))
  stitches = [least_squares(m), Stitch(kernel, np.ones(kernel.shape[1], np.float32))]
  rows = passes.score_stitches(
    pair, variables, tap, stitches, images, labels, np.float32(target_logits), BATCH
  )
  soft = scipy.special.softmax(target_logits, -1)
  rest = jax.jit(lambda v, z: pair.target.apply(v, z, 1, method="classify"))
  for row, (kernel, bias) in zip(rows, stitches, strict=True):
    z = sources[1] @ np.asarray(kernel) + np.asarray(bias)
    logits = np.asarray(rest(variables[1], z), np.float64)
    log_probs = logits - scipy.special.logsumexp(logits, axis=-1, keepdims=True)
    said = logits.argmax(-1)
    own = (target_logits.argmax(-1) == labels).mean()
    assert_close(row["accuracy"], (said == labels).mean())
    assert_close(row["relative_accuracy"], (said == labels).mean() / own)
    assert_close(row["agreement"], (said == target_logits.argmax(-1)).mean())
    assert_close(row["cross_entropy"], -(soft * log_probs).sum(-1).mean(), rtol=1e-3)
    assert_close(row["label_cross_entropy"], -log_probs[np.arange(40), labels].mean(), rtol=1e-3)
  assert rows[0]["cross_entropy"] != pytest.approx(rows[1]["cross_entropy"], rel=0.01)


def test_a_network_stitched_to_itself_is_itself(joined):
  """Least squares, Procrustes and the identity; a permutation of channels is none of them."""
  source, _, _, _, images, labels = joined
  pair, variables = passes.make_pair(source, source)
  taps = ((1, 1), (3, 3))
  found, logits = passes.collect_moments(pair, variables, taps, images, 40)

  @jax.jit
  def find(m):
    identity = stitching_maps.identity(m)
    return [
      identity,
      stitching_maps.least_squares(m),
      stitching_maps.orthogonal(m),
      Stitch(identity.kernel[::-1], identity.bias),
    ]

  for m, tap in zip(found, taps, strict=True):
    *same, permuted = passes.score_stitches(
      pair, variables, tap, find(m), images, labels, logits, 40
    )
    # One image of 40 may be near a tie.
    assert all(row["agreement"] >= 0.97 for row in same)
    assert permuted["agreement"] < 0.97


def test_taps_of_other_sizes_are_resized_only_when_asked(joined, whole):
  source, target, pair, variables, images, _ = joined
  with pytest.raises(ValueError, match="the source tap is 8x6, the target tap 4x3: resize"):
    passes.collect_moments(pair, variables, ((1, 2),), images, 16)
  resizing, _ = passes.make_pair(source, target, resize=True)
  (m,), _ = passes.collect_moments(resizing, variables, ((1, 2),), images, 40)
  sources, targets, *_ = whole

  @jax.jit
  def resized_xy(source, target):
    small = jax.image.resize(source, (*target.shape[:3], source.shape[-1]), "linear")
    return similarity.moments(small, target).xy

  assert_close(m.xy, resized_xy(sources[1], targets[2]), rtol=1e-3, atol=1e-2)


# --- Task loss -----------------------------------------------------------------------------------


TASK = training.TaskLoss(
  epochs=6,
  batch_size=20,
  learning_rate=1e-2,
  decay_epochs=(4,),
  cka=False,
  steps_per_dispatch=0,
  resident_bytes=1e9,
)


@pytest.fixture(scope="module")
def learnt(joined, passed):
  """A function that trains a stitch at tap 2, and the least-squares stitch it starts from."""
  _, _, pair, variables, images, _ = joined
  m, wanted = passed[0][2, 2], scipy.special.softmax(passed[1], -1)
  start = least_squares(m)

  def train(start=start, task=TASK, mesh=None, rank=0, **options):
    mesh = mesh or devices.make_mesh(jax.devices()[:1])
    params = training.from_stitch(start, rank)
    variables_there = devices.replicate(variables, mesh)
    return training.train_stitch(
      pair, variables_there, (2, 2), params, images, wanted, task, seed=3, mesh=mesh, **options
    )

  return train, start, m


def test_training_lowers_the_task_loss_from_any_start(learnt):
  train, start, m = learnt
  shown = []
  found, losses = train(after_epoch=lambda epoch, stitch: shown.append((epoch, stitch)))
  assert losses[-1] < losses[0] and len(losses) == TASK.epochs
  assert [epoch for epoch, _ in shown] == list(range(TASK.epochs + 1))
  assert_close(shown[0][1].kernel, start.kernel)
  assert_close(shown[-1][1].kernel, found.kernel)
  random = training.random_stitch(jax.random.key(0), m.xy.shape)
  _, from_random = train(random)
  assert from_random[-1] < from_random[0]
  assert from_random[0] > losses[0]  # Least squares is the better start.


def test_training_is_the_same_on_four_devices(learnt):
  train, _, _ = learnt
  one, _ = train()
  four, _ = train(mesh=devices.make_mesh())
  assert_close(four.kernel, one.kernel, rtol=1e-3, atol=1e-4)


def test_training_is_determined_by_the_seed(learnt):
  train, _, _ = learnt
  assert np.array_equal(train()[0].kernel, train()[0].kernel)


def test_first_step_of_adam_follows_the_gradient_of_the_cross_entropy(joined, whole, learnt):
  """One epoch of one batch: every entry moves by the rate against the sign of its gradient."""
  _, _, pair, variables, _, _ = joined
  train, start, _ = learnt
  sources, _, logits, _ = whole

  def loss(kernel):
    z = sources[2] @ kernel + start.bias
    said = pair.target.apply(variables[1], z, 2, method="classify")
    return -jnp.mean(jnp.sum(jax.nn.softmax(logits) * jax.nn.log_softmax(said), -1))

  gradient = np.asarray(jax.jit(jax.grad(loss))(start.kernel))
  one_step = training.TaskLoss(1, 40, 1e-3, (), False, 0, 1e9)
  found, _ = train(task=one_step)
  clear = np.abs(gradient) > 1e-5
  assert clear.mean() > 0.6  # The target's ReLU ignores some channels.
  moved = np.asarray(found.kernel) - np.asarray(start.kernel)
  assert_close(moved[clear], -1e-3 * np.sign(gradient)[clear], rtol=2e-2, atol=1e-6)


def test_learning_rate_is_divided_at_the_decay_epochs():
  schedule = {0: 1e-2, 7: 1e-2, 8: 1e-3, 12: 1e-4}
  optimizer = training.TaskLoss(6, 20, 1e-2, (4, 6), False, 0, 1e9).optimizer(2)
  update, one = jax.jit(optimizer.update), np.ones(1, np.float32)
  state = optimizer.init(one)
  for step in range(13):
    updates, state = update(one, state)
    if step in schedule:
      assert_close(-updates, [schedule[step]], rtol=1e-3)


def test_l1_makes_the_kernel_smaller(learnt):
  train, _, _ = learnt
  total = lambda stitch: np.sum(np.abs(stitch.kernel))  # noqa: E731
  assert total(train(l1=0.1)[0]) < 0.9 * total(train()[0])


def test_bottleneck_keeps_its_rank(learnt):
  train, start, m = learnt
  found, losses = train(rank=2)
  assert np.linalg.matrix_rank(np.asarray(found.kernel), tol=1e-4) == 2
  assert losses[-1] < losses[0]

  @jax.jit
  def factored_and_back(stitch):
    return training.as_stitch(training.from_stitch(stitch, min(m.xy.shape)))

  factored = factored_and_back(start)
  assert_close(factored.kernel, start.kernel, atol=1e-4)


def test_cka_penalty_lowers_the_cka_at_the_seam(learnt):
  train, _, m = learnt
  fast = dataclasses.replace(TASK, cka=True, learning_rate=0.1)
  cka = lambda stitch: float(seam_indices(m, stitch)["lincka"])  # noqa: E731
  assert cka(train(task=fast, cka_weight=100.0)[0]) < 0.8 * cka(train(task=fast)[0])
