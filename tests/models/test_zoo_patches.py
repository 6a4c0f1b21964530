"""Architectures of patches: published sizes, and what is special in each family."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import correlate
from scipy.special import erf, softmax

from dissim_jax.models import MODELS
from dissim_jax.models.convmixer import MixerHead, MixerLayer, gelu
from dissim_jax.models.convnext import ConvNeXtBlock
from dissim_jax.models.grouped import GroupedConv
from dissim_jax.models.mlp_mixer import MixerBlock
from dissim_jax.models.patches import Mlp, NormedPatches, PatchEmbed, SelfAttention, TokenHead
from dissim_jax.models.resnet import Ops
from dissim_jax.models.swin import PatchMerging, SwinBlock, WindowAttention
from dissim_jax.models.vit import Embedding, EncoderBlock
from tests.traced import shallow, traced

# Parameters with 1000 classes at 224x224 and the number of taps.
# Torchvision's weights (num_params): ViT-B/16, Swin-T, ConvNeXt-T. DeiT-Ti and -S: the parameters
# of timm's deit_tiny/small_patch16_224, 5.72 and 22.05 million in its results-imagenet.csv. Mixer:
# Tolstikhin et al. 2021, Table 1 (18 and 59 million), to the last digit in ports of the authors'
# code. ConvMixer: by hand from the authors' code, 21.1 and 51.6 million in the paper's Table 1.
# ConvNeXt-Atto: by hand, 3.70 million in timm's results-imagenet.csv. The ViTs here have no class
# token: two vectors, itself and its position embedding, less.
PUBLISHED = {
  "vit_tiny": (5_717_416 - 2 * 192, 13),
  "vit_small": (22_050_664 - 2 * 384, 13),
  "vit_base": (86_567_656 - 2 * 768, 13),
  "swin_tiny": (28_288_354, 13),
  "mlp_mixer_s16": (18_528_264, 9),
  "mlp_mixer_b16": (59_880_472, 13),
  "convnext_tiny": (28_589_128, 19),
  "convnext_atto": (3_695_520, 13),
  "convmixer_768_32": (21_110_248, 33),
  "convmixer_1536_20": (51_625_960, 21),
}
# With 10 classes at 32x32, patches of 2: github.com/locuslab/convmixer-cifar10, by hand.
SMALL = {"convmixer_256_8": (594_186, 9)}
FAMILIES = ("vit", "swin", "mlp_mixer", "convnext", "convmixer")


def sizes_of(name, classes, size):
  variables, taps = traced(name, size, (size, size), classes)
  return sum(x.size for x in jax.tree.leaves(variables["params"])), len(taps)


@pytest.mark.parametrize("name", PUBLISHED)
def test_size_is_the_published_one(name):
  assert sizes_of(name, 1000, 224) == PUBLISHED[name]


@pytest.mark.parametrize("name", SMALL)
def test_size_at_32_is_the_published_one(name):
  assert sizes_of(name, 10, 32) == SMALL[name]


@pytest.mark.parametrize(
  ("name", "grids"),
  [
    ("swin_tiny", [(56, 96)] * 3 + [(28, 192)] * 2 + [(14, 384)] * 6 + [(7, 768)] * 2),
    ("convnext_atto", [(56, 40)] * 3 + [(28, 80)] * 2 + [(14, 160)] * 6 + [(7, 320)] * 2),
    ("vit_tiny", [(14, 192)] * 13),
    ("convmixer_768_32", [(32, 768)] * 33),
  ],
)
def test_taps_are_grids_of_the_published_sizes(name, grids):
  assert traced(name, 224, (224, 224), 1000)[1] == [(n, n, c) for n, c in grids]


NO_TRAIN = (SelfAttention, Mlp, GroupedConv, PatchMerging, WindowAttention)


def drawn(module, x, *arguments):
  """Variables in which nothing is at its special initial value; variances are positive."""
  shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), x, *arguments))
  rng = np.random.default_rng(x.ndim)

  def draw(path, v):
    value = rng.uniform(0.2, 0.9, v.shape) / math.sqrt(max(1, v.size // v.shape[-1]))
    signs = 1 if path[-1].key == "var" else rng.choice([-1, 1], v.shape)
    return (value * signs).astype(np.float32)

  return jax.tree_util.tree_map_with_path(draw, shapes)


def normal(*shape):
  return np.random.default_rng(7).normal(size=shape).astype(np.float32)


def runner(module, x, change=lambda variables: variables):
  """Drawn variables of the module, and the function of its input that they make, compiled."""
  arguments = () if isinstance(module, NO_TRAIN) else (False,)
  variables = change(drawn(module, x, *arguments))
  return variables, jax.jit(lambda x: module.apply(variables, x, *arguments))


def built(make, *shape):
  """Variables in float64, inputs, outputs of a module."""
  x = normal(*shape)
  variables, run = runner(make(), x)
  wide = jax.tree.map(lambda v: np.asarray(v, np.float64), variables)
  return wide, np.asarray(x, np.float64), np.asarray(run(x))


def close(got, expected):
  np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-4)


def layer_norm(p, x, epsilon=1e-6):
  x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon)
  return x * p["scale"] + p["bias"]


def dense(p, x):
  return x @ p["kernel"] + p.get("bias", 0)


def exact_gelu(x):
  return x * (1 + erf(x / math.sqrt(2))) / 2


def mlp(p, x):
  return dense(p["dense2"], exact_gelu(dense(p["dense1"], x)))


def attention(p, x, allowed=lambda t, s: True, bias=lambda head, t, s: 0.0):
  """One sequence `[T, C]`, pair by pair."""
  q, k, v = np.moveaxis(np.einsum("tc,cihd->tihd", x, p["qkv"]["kernel"]) + p["qkv"]["bias"], 1, 0)
  out = np.zeros_like(q)
  for head, t in np.ndindex(q.shape[1], len(x)):
    keys = [s for s in range(len(x)) if allowed(t, s)]
    scores = [q[t, head] @ k[s, head] / math.sqrt(q.shape[-1]) + bias(head, t, s) for s in keys]
    out[t, head] = softmax(scores) @ v[keys, head]
  return np.einsum("thd,hdc->tc", out, p["out"]["kernel"]) + p["out"]["bias"]


def convolved(p, x):
  """Depth-wise, feature by feature with zeros outside."""
  pairs = itertools.product(range(len(x)), range(x.shape[-1]))
  out = np.zeros_like(x)
  for b, c in pairs:
    out[b, :, :, c] = correlate(x[b, :, :, c], p["kernel"][:, :, 0, c], mode="constant")
  return out + p["bias"]


def batch_norm(p, stats, x):
  x = (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5)
  return x * p["scale"] + p["bias"]


def test_patches_are_a_reshape_and_a_matrix_product():
  v, x, out = built(lambda: PatchEmbed(5, 2), 3, 4, 6, 2)
  p = v["params"]["conv"]
  cut = x.reshape(3, 2, 2, 3, 2, 2).transpose(0, 1, 3, 2, 4, 5).reshape(3, 2, 3, 8)
  close(out, cut @ p["kernel"].reshape(8, 5) + p["bias"])


def test_normed_patches():
  v, x, out = built(lambda: NormedPatches(5, 1, 1e-6), 2, 3, 2, 1)
  close(out, layer_norm(v["params"]["norm"], dense(squeezed(v["params"]["patches"]["conv"]), x)))


def squeezed(p):
  return {"kernel": p["kernel"][0, 0], "bias": p["bias"]}


@pytest.mark.parametrize("family", FAMILIES)
def test_patch_that_does_not_divide_the_image(family):
  model = MODELS[f"{family}_mini"](10, stem=8, patch_size=3)
  with pytest.raises(ValueError, match="model.patch_size=3: images are 9x8 pixels"):
    jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 9, 8, 1))))


def test_gelu_is_the_erf_form():
  """The approximation by tanh is up to 5e-4 away."""
  x = np.linspace(-4, 4, 33, dtype=np.float32)[:, None]
  one = {"kernel": np.ones((1, 1), np.float32), "bias": np.zeros(1, np.float32)}
  mlp = lambda x: Mlp(1).apply({"params": {"dense1": one, "dense2": one}}, x)  # noqa: E731
  for out in jax.jit(lambda x: (mlp(x), gelu(x)))(x):
    np.testing.assert_allclose(out, exact_gelu(x), atol=1e-6)


@pytest.mark.parametrize("pool_first", [False, True])
def test_head(pool_first):
  v, x, out = built(functools.partial(TokenHead, 4, 1e-6, pool_first), 3, 2, 5, 6)
  p = v["params"]
  mean = lambda x: x.mean((1, 2))  # noqa: E731
  x = layer_norm(p["norm"], mean(x)) if pool_first else mean(layer_norm(p["norm"], x))
  close(out, dense(p["dense"], x))


def test_encoder_block():
  v, x, out = built(lambda: EncoderBlock(2), 2, 3, 2, 6)
  p = v["params"]
  for image, got in zip(x.reshape(2, 6, 6), out.reshape(2, 6, 6), strict=True):
    image = image + attention(p["attention"], layer_norm(p["norm1"], image))
    close(got, image + mlp(p["mlp"], layer_norm(p["norm2"], image)))


def test_only_the_position_embedding_tells_tokens_apart():
  """Blocks commute with any order of the tokens; with position embeddings it matters."""
  x = np.random.default_rng(0).normal(size=(2, 6, 8)).astype(np.float32)
  order = np.array([3, 0, 5, 1, 2, 4])
  _, block = runner(EncoderBlock(2), x.reshape(2, 3, 2, 8))
  variables, embedding = runner(Embedding(8, 1, 0.02), x.reshape(2, 3, 2, 8))
  tokens = lambda f, x: np.asarray(f(x.reshape(2, 3, 2, 8))).reshape(2, 6, 8)  # noqa: E731
  close(tokens(block, x[:, order]), tokens(block, x)[:, order])
  moved = tokens(embedding, x[:, order]) - tokens(embedding, x)[:, order]
  assert np.abs(moved).max() > 1e-2
  p = variables["params"]
  patches = dense(squeezed(p["patches"]["conv"]), x)
  close(tokens(embedding, x), patches + p["position"].reshape(6, 8))


def test_mixer_block():
  v, x, out = built(lambda: MixerBlock(), 2, 3, 2, 6)
  p = v["params"]
  assert p["token_mixing"]["dense1"]["kernel"].shape == (6, 3)
  for image, got in zip(x.reshape(2, 6, 6), out.reshape(2, 6, 6), strict=True):
    image = image + mlp(p["token_mixing"], layer_norm(p["norm1"], image).T).T
    close(got, image + mlp(p["channel_mixing"], layer_norm(p["norm2"], image)))


def test_token_mixing_treats_features_alike():
  """Without the other MLP a permutation of features goes through; one of tokens does not."""
  x = np.random.default_rng(0).normal(size=(2, 3, 2, 6)).astype(np.float32)

  def plain(variables):
    p = variables["params"]
    silent = jax.tree.map(np.zeros_like, p["channel_mixing"])
    norm = {"scale": np.ones(6, np.float32), "bias": np.zeros(6, np.float32)}
    return {"params": p | {"channel_mixing": silent, "norm1": norm}}

  _, run = runner(MixerBlock(), x, plain)
  order = np.array([3, 0, 5, 1, 2, 4])
  out = np.asarray(run(x))
  close(run(x[..., order]), out[..., order])
  assert np.abs(run(x[:, ::-1]) - out[:, ::-1]).max() > 1e-2


@pytest.mark.parametrize("downsample", [False, True])
def test_convnext_block(downsample):
  v, x, out = built(functools.partial(ConvNeXtBlock, 4, downsample, 1.0), 2, 6, 4, 4)
  p = v["params"]
  if downsample:
    x = layer_norm(p["downsample_norm"], x)
    x = x.reshape(2, 3, 2, 2, 2, 4).transpose(0, 1, 3, 2, 4, 5).reshape(2, 3, 2, 16)
    conv = p["downsample_conv"]
    x = x @ conv["kernel"].reshape(16, 4) + conv["bias"]
  assert p["depthwise"]["kernel"].shape == (7, 7, 1, 4)
  y = mlp(p["mlp"], layer_norm(p["norm"], convolved(p["depthwise"], x)))
  close(out, x + p["scale"] * y)


def test_layer_scale_makes_fresh_blocks_nearly_the_identity():
  x = normal(2, 3, 2, 4)
  block = ConvNeXtBlock(4, False, 1e-6)
  out, _ = jax.jit(lambda x: block.init_with_output(jax.random.key(1), x, False))(x)
  np.testing.assert_allclose(out, x, atol=1e-4)


def relu(x):
  return np.maximum(x, 0)


@pytest.mark.parametrize(("act", "exact"), [(gelu, exact_gelu), (jax.nn.relu, relu)])
def test_convmixer_layer(act, exact):
  v, x, out = built(functools.partial(MixerLayer, 5, act, Ops()), 2, 4, 3, 3)
  p, stats = v["params"], v["batch_stats"]
  x = batch_norm(p["input_norm"], stats["input_norm"], exact(x))
  x = x + batch_norm(p["norm"], stats["norm"], exact(convolved(p["depthwise"], x)))
  close(out, dense(p["pointwise"], x))


def test_convmixer_head():
  v, x, out = built(lambda: MixerHead(5, gelu, Ops()), 2, 4, 3, 3)
  p = v["params"]
  x = batch_norm(p["input_norm"], v["batch_stats"]["input_norm"], exact_gelu(x))
  close(out, dense(p["dense"], x.mean((1, 2))))


def windowed(p, x, window, shift):
  """Every place of one grid attends to those in its window, found in the grid itself."""
  height, width = x.shape[:2]
  wh, ww = min(window, height), min(window, width)
  sh, sw = (shift if n > window else 0 for n in (height, width))
  places = list(np.ndindex(height, width))
  box = [((y - sh) // wh, (z - sw) // ww) for y, z in places]

  def bias(head, t, s):
    dy, dx = np.subtract(places[t], places[s])
    return p["bias_table"][(dy + wh - 1) * (2 * ww - 1) + dx + ww - 1, head]

  allowed = lambda t, s: box[t] == box[s]  # noqa: E731
  out = attention(p["attention"], x.reshape(len(places), -1), allowed, bias)
  return out.reshape(x.shape)


@pytest.mark.parametrize(
  ("grid", "window", "shifted"),
  [
    ((4, 6), 2, False),
    ((4, 6), 2, True),
    ((6, 9), 3, True),  # an odd window
    ((5, 7), 3, True),  # padded, and shifted
    ((5, 4), 3, False),  # padded
    ((2, 6), 3, True),  # one side is a single window
  ],
)
def test_window_attention(grid, window, shifted):
  v, x, out = built(functools.partial(WindowAttention, 2, window, shifted, 0.02), 2, *grid, 4)
  for image, got in zip(x, out, strict=True):
    close(got, windowed(v["params"], image, window, window // 2 if shifted else 0))


@pytest.mark.parametrize("shifted", [False, True])
def test_what_a_change_of_one_patch_reaches(shifted):
  x = normal(1, 4, 6, 4)
  _, run = runner(WindowAttention(2, 2, shifted, 0.02), x)
  changed = x.copy()
  changed[0, 0, 0] += 1
  moved = np.abs(np.asarray(run(changed)) - np.asarray(run(x))).max((0, 3)) > 1e-6
  reached = {(0, 0)} if shifted else {(0, 0), (0, 1), (1, 0), (1, 1)}
  assert set(map(tuple, np.argwhere(moved).tolist())) == reached


def test_patch_merging():
  v, x, out = built(lambda: PatchMerging(5), 2, 3, 4, 2)
  p = v["params"]
  x = np.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0)))
  for b, i, j in np.ndindex(2, 2, 2):
    four = [x[b, 2 * i + a, 2 * j + c] for a in (0, 1) for c in (0, 1)]
    close(out[b, i, j], dense(p["dense"], layer_norm(p["norm"], np.concatenate(four), 1e-5)))


def test_swin_block():
  v, x, out = built(lambda: SwinBlock(4, 2, 2, 0.02, True, False), 2, 4, 6, 4)
  p = v["params"]
  for image, got in zip(x, out, strict=True):
    y = layer_norm(p["norm1"], image, 1e-5)
    image = image + windowed(p["window_attention"], y, 2, 1)
    close(got, image + mlp(p["mlp"], layer_norm(p["norm2"], image, 1e-5)))


def test_every_second_block_of_a_swin_shifts_and_stages_merge():
  layers = MODELS["swin_tiny"](10, stem=224).layers[1:]
  assert [layer.shifted for layer in layers] == [False, True] * 6
  assert [i for i, layer in enumerate(layers) if layer.merge] == [2, 4, 10]
  assert [layer.heads for layer in layers] == [3] * 2 + [6] * 2 + [12] * 6 + [24] * 2
  assert {layer.window for layer in layers} == {7}


@pytest.mark.parametrize("family", FAMILIES)
def test_images_that_are_not_square(family):
  model = shallow(f"{family}_mini", 7, stem=8, width_multiplier=0.26)
  images = normal(2, 6, 10, 3)
  variables = {"batch_stats": {}} | drawn(model, images)
  logits, taps = jax.jit(model.apply)(variables, images)
  assert logits.shape == (2, 7) and np.isfinite(logits).all()
  side = MODELS[f"{family}_mini"].components(image_size=8, stem=8).stem[0]
  assert taps[0].shape[1:3] == (6 // int(side), 10 // int(side))


@pytest.mark.parametrize(("name", "width"), [("vit_mini", 12), ("swin_mini", 8), ("vit_tiny", 51)])
def test_width_is_a_multiple_of_the_heads(name, width):
  assert traced(name, 8, (8, 8), 7, width=0.26)[1][0][-1] == width


@pytest.mark.parametrize("family", FAMILIES)
def test_patch_size_is_a_field_and_a_component(family):
  entry = MODELS[f"{family}_mini"]
  found = entry.components(image_size=8, stem=8, patch_size=4)
  assert found.stem == "4x4 conv s4"
  model = shallow(f"{family}_mini", 7, stem=8, patch_size=4)
  image = np.zeros((1, 8, 8, 3), np.float32)
  (_, taps), _ = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), image))
  assert taps[0].shape[1:3] == (2, 2)
