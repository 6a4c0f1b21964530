"""Convolutional families: published sizes, and every kind of block against NumPy and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate2d

from dissim_jax.models import densenet, grouped, mobilenet_v2, vgg
from dissim_jax.models import preact_resnet as preact
from dissim_jax.models.resnet import BasicBlock, BottleneckBlock, Ops
from dissim_jax.models.resnext import ResNeXtBlock
from dissim_jax.models.se_resnet import SEBasicBlock, SEBottleneckBlock, SqueezeExcitation
from tests.traced import traced

# (name, stem, classes): parameters. Sources, A + B - C: A is published, the rest ours by intent.
# kuangliu: github.com/kuangliu/pytorch-cifar, sizes as listed in tables made with it.
# torchvision: `num_params` of the weights; osmr: github.com/osmr/imgclsmob, asserted there.
PUBLISHED = {
  # kuangliu, which has no last batch norm (2 x 512 or 2 x 2048); He et al. 2016b have one.
  ("preact_resnet18", 32, 10): 11_171_146 + 1_024,
  ("preact_resnet34", 32, 10): 21_279_306 + 1_024,
  ("preact_resnet50", 32, 10): 23_509_066 + 4_096,
  ("preact_resnet50", 224, 1000): 25_549_352,  # timm's resnetv2_50; its table says 25.55M.
  ("wide_resnet28_10", 32, 10): 36_479_194,  # osmr; 36.5M in the paper, Table 4.
  ("wide_resnet28_10", 32, 100): 36_536_884,  # osmr.
  ("wide_resnet16_8", 32, 10): 10_961_370,  # 11.0M in the paper, Table 4.
  ("wide_resnet40_4", 32, 10): 8_949_210,  # 8.9M in the paper, Table 4.
  ("resnext29_32x4", 32, 10): 4_775_754,  # osmr.
  ("resnext29_8x64", 32, 10): 34_426_698,  # 34.4M in the paper, Table 7; by hand below.
  ("resnext50_32x4", 224, 1000): 25_028_904,  # torchvision.
  ("se_resnet18", 224, 1000): 11_778_592,  # osmr.
  ("se_resnet50", 224, 1000): 28_088_024,  # osmr and timm.
  # This project's ResNet20 and its gates: three blocks each of C = 16, 32, 64, C/16 reduced.
  ("se_resnet20", 32, 10): 272_474 + 3 * (2 * 16 + 17) + 3 * (2 * 64 + 34) + 3 * (2 * 256 + 68),
  ("vgg11", 224, 1000): 132_868_840,  # torchvision, vgg11_bn and so on.
  ("vgg13", 224, 1000): 133_053_736,
  ("vgg16", 224, 1000): 138_365_992,
  ("vgg19", 224, 1000): 143_678_248,
  ("vgg11", 32, 10): 9_231_114,  # kuangliu.
  ("vgg13", 32, 10): 9_416_010,
  ("vgg16", 32, 10): 14_728_266,
  ("vgg19", 32, 10): 20_040_522,
  ("densenet100_12", 32, 10): 769_162,  # osmr; 0.8M in the paper, Table 2.
  ("densenet121", 224, 1000): 7_978_856,  # torchvision.
  ("mobilenet_v2", 224, 1000): 3_504_872,  # torchvision; 3.4M in the paper, Table 4.
  # kuangliu, which also expands in the first block (1 x 1 x 32 x 32, batch norm), and projects the
  # shortcut where features change at stride 1: 32 to 16, 16 to 24, 64 to 96, 160 to 320.
  ("mobilenet_v2", 32, 10): 2_296_922
  - (32 * 32 + 64)
  - (32 * 16 + 32)
  - (16 * 24 + 48)
  - (64 * 96 + 192)
  - (160 * 320 + 640),
}
SMALL = [
  f"{family}_mini"
  for family in (
    "preact_resnet",
    "wide_resnet",
    "resnext",
    "se_resnet",
    "vgg",
    "densenet",
    "mobilenet_v2",
  )
]


@pytest.mark.parametrize("name, stem, classes", PUBLISHED)
def test_size_is_the_published_one(name, stem, classes):
  variables, _ = traced(name, stem, (stem, stem), classes)
  parameters = sum(x.size for x in jax.tree.leaves(variables["params"]))
  assert parameters == PUBLISHED[name, stem, classes]


def test_size_of_resnext29_8x64_by_hand():
  total = 3 * 3 * 3 * 64 + 2 * 64 + 1024 * 10 + 10
  for stage, first in enumerate((64, 256, 512)):
    inner, out = 512 * 2**stage, 256 * 2**stage
    for inputs in (first, out, out):
      total += inputs * inner + 9 * inner * inner // 8 + inner * out + 4 * inner + 2 * out
    total += first * out + 2 * out  # The projection.
  assert total == PUBLISHED["resnext29_8x64", 32, 10]


@pytest.mark.parametrize("name", [*SMALL, "preact_resnet18", "se_resnet18", "vgg11"])
def test_odd_images_of_one_channel_and_any_width(name):
  for stem, size, width in ((8, (5, 9), 0.3), (32, (17, 19), 0.02), (224, (99, 130), 1.7)):
    _, taps = traced(name, stem, size, channels=1, width=width)
    assert all(min(tap) >= 1 for tap in taps)


@pytest.mark.parametrize(
  "name, stem, sides",
  [
    ("preact_resnet50", 224, [56, 28, 14, 7]),
    ("wide_resnet16_8", 32, [32, 16, 8]),
    ("resnext50_32x4", 224, [56, 28, 14, 7]),
    ("se_resnet20", 8, [8, 4, 2]),
    ("vgg16", 224, [224, 112, 56, 28, 14]),
    ("vgg16", 32, [32, 16, 8, 4, 2]),
    ("vgg16", 8, [8, 4, 2]),
    ("densenet121", 224, [56, 28, 14, 7]),
    ("densenet_mini", 8, [8, 4]),
    ("mobilenet_v2", 224, [112, 56, 28, 14, 7]),
    ("mobilenet_v2", 32, [32, 16, 8, 4]),
    ("mobilenet_v2", 8, [8, 4, 2]),
  ],
)
def test_taps_have_the_published_sizes(name, stem, sides):
  _, taps = traced(name, stem, (stem, stem), 1000 if stem == 224 else 10)
  assert sorted({tap[0] for tap in taps}, reverse=True) == sides


def test_features_of_wide_resnets_and_mobilenet():
  assert [tap[-1] for tap in traced("wide_resnet28_10", 32, (32, 32))[1]] == (
    [16] + 4 * [160] + 4 * [320] + 4 * [640]
  )
  # Table 2 of the MobileNetV2 paper.
  blocks = [16] + 2 * [24] + 3 * [32] + 4 * [64] + 3 * [96] + 3 * [160] + [320]
  assert [tap[-1] for tap in traced("mobilenet_v2", 32, (32, 32))[1]] == [32, *blocks, 1280]


@pytest.mark.parametrize(
  "name, stem, blocks, growth",
  [("densenet100_12", 32, 3 * (16,), 12), ("densenet121", 224, (6, 12, 24, 16), 32)],
)
def test_features_of_densenets_grow_and_are_compressed(name, stem, blocks, growth):
  expected = [2 * growth]
  for block, layers in enumerate(blocks):
    if block:
      expected.append(expected[-1] // 2)
    for _ in range(layers):
      expected.append(expected[-1] + growth)
  _, taps = traced(name, stem, (stem, stem), 1000 if stem == 224 else 10)
  assert [tap[-1] for tap in taps] == expected


def conv(x, kernel, stride=1, groups=1):
  """Channel by channel in float64: output f sees the inputs of its group alone."""
  inputs, outputs = kernel.shape[2], kernel.shape[3] // groups
  result = np.zeros((*x.shape[:3], kernel.shape[3]))
  for b, f, i in np.ndindex(x.shape[0], kernel.shape[3], inputs):
    image = x[b, :, :, f // outputs * inputs + i]
    result[b, :, :, f] += correlate2d(image, kernel[:, :, i, f], mode="same")
  return result[:, ::stride, ::stride]


class Oracle:
  """A layer's parameters in float64, and what one does with them."""

  def __init__(self, variables):
    numpy = lambda tree: jax.tree.map(lambda x: np.asarray(x, np.float64), tree)  # noqa: E731
    self.params, self.stats = numpy(variables["params"]), numpy(variables.get("batch_stats", {}))

  def conv(self, x, name, stride=1, groups=1):
    bias = self.params[name].get("bias", 0)
    return conv(x, self.params[name]["kernel"], stride, groups) + bias

  def norm(self, x, name):
    mean, var = self.stats[name]["mean"], self.stats[name]["var"]
    scaled = (x - mean) / np.sqrt(var + 1e-5)
    return scaled * self.params[name]["scale"] + self.params[name]["bias"]

  def dense(self, x, name):
    return x @ self.params[name]["kernel"] + self.params[name]["bias"]

  def branch(self, x, steps):
    """Convolution, norm and ReLU by turns, no ReLU at the end; (convolution, stride, groups)."""
    for place, (stride, groups) in enumerate(steps, 1):
      x = self.norm(self.conv(x, f"conv{place}", stride, groups), f"norm{place}")
      x = relu(x) if place < len(steps) else x
    return x

  def shortcut(self, x, stride):
    if "shortcut_conv" not in self.params:
      return x
    return self.norm(self.conv(x, "shortcut_conv", stride), "shortcut_norm")


def relu(x):
  return np.maximum(x, 0)


def relu6(x):
  return np.clip(x, 0, 6)


def preact_oracle(o, x, stride, strides):
  """x, or the projection of the activated x, plus norm-ReLU-convolution for each stride."""
  y = x
  for place, step in enumerate(strides, 1):
    active = relu(o.norm(y, f"norm{place}"))
    y = o.conv(active, f"conv{place}", step)
    if place == 1 and "shortcut_conv" in o.params:
      x = o.conv(active, "shortcut_conv", stride)
  return x + y


def residual_oracle(o, x, stride, steps):
  return o.branch(relu(x), steps) + o.shortcut(relu(x), stride)


def inverted_oracle(o, x, stride, expanded):
  y = relu6(o.norm(o.conv(x, "conv1"), "norm1")) if expanded else relu6(x)
  y = relu6(o.norm(o.conv(y, "conv2", stride, y.shape[-1]), "norm2"))
  y = o.norm(o.conv(y, "conv3"), "norm3")
  return x + y if expanded and x.shape == y.shape else y


def dense_layer_oracle(o, x):
  y = o.conv(relu(o.norm(x, "norm1")), "conv1")
  return np.concatenate([x, o.conv(relu(o.norm(y, "norm2")), "conv2")], axis=-1)


def cells(x, height, width, reduce):
  """2x2 cells; those at the end of odd sides are smaller."""
  rows, columns = range(0, height, 2), range(0, width, 2)
  cell = lambda i, j: reduce(x[:, i : i + 2, j : j + 2], axis=(1, 2))  # noqa: E731
  return np.stack([np.stack([cell(i, j) for j in columns], 1) for i in rows], 1)


def transition_oracle(o, x):
  return cells(o.conv(relu(o.norm(x, "norm")), "conv"), 7, 6, np.mean)


def gate(o, y):
  hidden = relu(o.dense(y.mean(axis=(1, 2)), "reduce"))
  return y / (1 + np.exp(-o.dense(hidden, "expand")))[:, None, None]


def vgg_oracle(o, x):
  return o.norm(o.conv(cells(relu(x), 7, 6, np.max), "conv"), "norm")


def small_head_oracle(o, x):
  return o.dense(cells(relu(x), 7, 6, np.max).mean(axis=(1, 2)), "dense")


OPS = Ops()
BASIC2, NECK2 = ((2, 1), (1, 1)), ((1, 1), (2, 1), (1, 1))
# Every kind of layer on 7x6 images of 8 features, of either sign, and the same in NumPy.
LAYERS = {
  "preact": (preact.PreActBasicBlock(8, 1, OPS), lambda o, x: preact_oracle(o, x, 1, (1, 1))),
  "preact /2": (preact.PreActBasicBlock(6, 2, OPS), lambda o, x: preact_oracle(o, x, 2, (2, 1))),
  "preact neck": (
    preact.PreActBottleneckBlock(2, 1, OPS),
    lambda o, x: preact_oracle(o, x, 1, (1, 1, 1)),
  ),
  "preact neck /2": (
    preact.PreActBottleneckBlock(3, 2, OPS),
    lambda o, x: preact_oracle(o, x, 2, (1, 2, 1)),
  ),
  "resnext": (
    ResNeXtBlock(2, 1, OPS, 3, 64),
    lambda o, x: residual_oracle(o, x, 1, ((1, 1), (1, 3), (1, 1))),
  ),
  "resnext /2": (
    ResNeXtBlock(3, 2, OPS, 4, 64),
    lambda o, x: residual_oracle(o, x, 2, ((1, 1), (2, 4), (1, 1))),
  ),
  "inverted": (
    mobilenet_v2.InvertedResidual(8, 1, 3, OPS),
    lambda o, x: inverted_oracle(o, x, 1, True),
  ),
  "inverted /2": (
    mobilenet_v2.InvertedResidual(8, 2, 3, OPS),
    lambda o, x: inverted_oracle(o, x, 2, True),
  ),
  "inverted, first": (
    mobilenet_v2.InvertedResidual(8, 1, 1, OPS),
    lambda o, x: inverted_oracle(o, x, 1, False),
  ),
  "mobilenet head": (
    mobilenet_v2.Head6(5),
    lambda o, x: o.dense(relu6(x).mean(axis=(1, 2)), "dense"),
  ),
  "dense layer": (densenet.DenseLayer(3, OPS), dense_layer_oracle),
  "transition": (densenet.Transition(OPS), transition_oracle),
  "vgg, pooled": (vgg.ConvLayer(5, False, True, OPS), vgg_oracle),
  "vgg": (
    vgg.ConvLayer(5, False, False, OPS),
    lambda o, x: o.norm(o.conv(relu(x), "conv"), "norm"),
  ),
  "vgg, first": (
    vgg.ConvLayer(5, True, False, OPS),
    lambda o, x: o.norm(o.conv(x, "conv"), "norm"),
  ),
  "vgg head": (vgg.SmallHead(5, True), small_head_oracle),
  "excitation": (SqueezeExcitation(), gate),
}


def randomized(layer, x, *flags):
  """Variables in which nothing is at its special initial value; variances 0.5 to 1.5."""
  rng = np.random.default_rng(1)
  draw = lambda x: (rng.uniform(0.5, 1.5, x.shape) * 0.8).astype(x.dtype)  # noqa: E731
  sign = lambda x: draw(x) * rng.choice([-1, 1], x.shape).astype(x.dtype)  # noqa: E731
  found = jax.eval_shape(lambda: layer.init(jax.random.key(0), x, *flags))
  return jax.tree.map_with_path(
    lambda path, leaf: draw(leaf) if path[-1].key == "var" else sign(leaf), found
  )


def images(channels=8, size=(7, 6)):
  x = 3 * np.random.default_rng(0).normal(size=(2, *size, channels))
  return x.astype(np.float32)


def applied(layer, variables, x, *flags):
  """The layer's output in evaluation mode, of one program."""
  return np.asarray(jax.jit(lambda v, x: layer.apply(v, x, *flags))(variables, x))


@pytest.mark.parametrize("kind", LAYERS)
def test_layer_is_that_of_numpy(kind):
  layer, oracle = LAYERS[kind]
  x = images()
  flags = () if kind == "excitation" else (False,)
  variables = randomized(layer, x, *flags)
  found = applied(layer, variables, x, *flags)
  expected = oracle(Oracle(variables), np.asarray(x, np.float64))
  assert found.shape == expected.shape and np.abs(expected).max() > 0.1
  np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
  "with_gate, without, features",
  [(SEBasicBlock, BasicBlock, 8), (SEBottleneckBlock, BottleneckBlock, 2)],
)
def test_gate_is_at_the_end_of_the_branch(with_gate, without, features):
  """The sum without the gate, less the shortcut, is what the gate weighs."""
  x = images()
  variables = randomized(with_gate(features, 1, OPS), x, False)
  found = applied(with_gate(features, 1, OPS), variables, x, False)
  plain = applied(without(features, 1, OPS), variables, x, False)
  passed = relu(np.asarray(x, np.float64))
  branch = np.asarray(plain, np.float64) - passed
  expected = passed + gate(Oracle({"params": variables["params"]["se"]}), branch)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
  assert np.abs(found - plain).max() > 0.1


def test_gates_reduce_by_sixteen():
  variables, _ = traced("se_resnet50", 32, (32, 32))
  reduced = {
    layer["se"]["reduce"]["kernel"].shape for layer in variables["params"].values() if "se" in layer
  }
  assert reduced == {(256, 16), (512, 32), (1024, 64), (2048, 128)}


def test_fresh_blocks_pass_the_relu():
  x = images()
  blocks = ResNeXtBlock(2, 1, OPS, 2, 64), SEBasicBlock(8, 1, OPS), SEBottleneckBlock(2, 1, OPS)
  fresh = lambda x: [b.init_with_output(jax.random.key(0), x, False)[0] for b in blocks]  # noqa: E731
  for found in jax.jit(fresh)(x):
    np.testing.assert_array_equal(found, relu(x))


@pytest.mark.parametrize(
  "groups, inputs, outputs, stride, size",
  [
    (8, 8, 8, 1, 7),
    (8, 8, 8, 2, 5),
    (4, 8, 12, 1, 3),
    (4, 8, 4, 2, 3),
    (3, 3, 6, 1, 3),
    (3, 3, 3, 1, 3),
  ],
)
def test_grouped_convolution(groups, inputs, outputs, stride, size):
  """What runs on a CPU and XLA's own, and both gradients of the two."""
  x = images(inputs)
  if inputs == outputs == 3:  # More places than a matrix is made for.
    x = np.concatenate([x, x[:, ::-1]], axis=1)
  rng = np.random.default_rng(2)
  kernel = rng.normal(size=(size, size, inputs // groups, outputs)).astype(np.float32)
  expected = conv(np.asarray(x, np.float64), np.asarray(kernel, np.float64), stride, groups)
  outward = rng.normal(size=expected.shape).astype(np.float32)

  def both(function, x, kernel):
    value, pullback = jax.vjp(lambda x, kernel: function(x, kernel, groups, stride), x, kernel)
    return value, *pullback(outward)

  functions = grouped.grouped_convolution, grouped.convolution
  ours, xlas = jax.jit(lambda x, kernel: [both(f, x, kernel) for f in functions])(x, kernel)
  np.testing.assert_allclose(ours[0], expected, rtol=1e-4, atol=1e-4)
  for one, other in zip(ours, xlas, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-3)


def test_xla_runs_where_there_is_no_cpu(monkeypatch):
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  x = jax.ShapeDtypeStruct((1, 6, 5, 8), jnp.float32)
  kernel = jax.ShapeDtypeStruct((3, 3, 1, 8), jnp.float32)
  jaxpr = str(jax.make_jaxpr(lambda x, k: grouped.grouped_convolution(x, k, 8, 1))(x, kernel))
  assert "feature_group_count=8" in jaxpr


def test_grouped_convolution_with_bias_and_bad_groups():
  x = images()
  layer = grouped.GroupedConv(4, 4, 3, use_bias=True)
  variables = randomized(layer, x)
  expected = Oracle({"params": {"conv": variables["params"]}}).conv(np.asarray(x), "conv", 1, 4)
  np.testing.assert_allclose(applied(layer, variables, x), expected, rtol=1e-4, atol=1e-4)
  with pytest.raises(ValueError, match="groups=3: 8 features to 6"):
    jax.eval_shape(grouped.GroupedConv(6, 3, 3).init, jax.random.key(0), x)


def test_fresh_kernels_keep_the_variance_of_a_group():
  """fan-out counts the outputs that an input feeds: 9 of a depth-wise 3x3 convolution."""
  image = np.zeros((1, 3, 3, 512), np.float32)
  variables = jax.jit(grouped.GroupedConv(512, 512, 3).init)(jax.random.key(0), image)
  assert np.var(variables["params"]["kernel"]) == pytest.approx(2 / 9, rel=0.1)


def test_pre_activation_and_dense_states_are_kept():
  """The stem is a bare convolution; what a dense layer sees is the first part of its output."""
  x = images(3)
  stem = preact.ConvStem(4, OPS)
  variables = randomized(stem, x, False)
  assert set(variables) == {"params"}
  expected = Oracle(variables).conv(np.asarray(x, np.float64), "conv")
  np.testing.assert_allclose(applied(stem, variables, x, False), expected, rtol=1e-4, atol=1e-4)
  layer = densenet.DenseLayer(3, OPS)
  x = images()
  found = applied(layer, randomized(layer, x, False), x, False)
  np.testing.assert_array_equal(found[..., :8], x)


def test_head_of_pre_activation_families_normalises():
  x = images()
  head = preact.NormHead(5, OPS)
  variables = randomized(head, x, False)
  o = Oracle(variables)
  mean = relu(o.norm(np.asarray(x, np.float64), "norm")).mean(axis=(1, 2))
  dense = o.params["head"]["dense"]
  expected = mean @ dense["kernel"] + dense["bias"]
  np.testing.assert_allclose(applied(head, variables, x, False), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(14, 14), (16, 10), (3, 21)])
def test_large_vgg_head(size):
  """ReLU, pooling, means over a 7x7 grid of bins, three dense layers."""
  x = images(3, size)
  head = vgg.DenseHead(5, 6, OPS)
  variables = randomized(head, x, False)
  pooled = cells(relu(np.asarray(x, np.float64)), *size, np.max)
  height, width = pooled.shape[1:3]
  grid = np.zeros((2, 7, 7, 3))
  for i, j in np.ndindex(7, 7):
    rows = slice(int(np.floor(i * height / 7)), int(np.ceil((i + 1) * height / 7)))
    columns = slice(int(np.floor(j * width / 7)), int(np.ceil((j + 1) * width / 7)))
    grid[:, i, j] = pooled[:, rows, columns].mean(axis=(1, 2))
  if size == (14, 14):
    np.testing.assert_array_equal(grid, pooled)
  o = Oracle(variables)
  hidden = relu(o.dense(relu(o.dense(grid.reshape(2, -1), "dense1")), "dense2"))
  expected = o.dense(hidden, "dense3")
  found = applied(head, variables, x, False)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
