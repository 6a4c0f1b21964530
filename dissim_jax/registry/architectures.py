"""The architectures by name, with what can be known of them before they are built."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from dissim_jax.registry.entry import Entry

STEMS = (8, 32, 224)  # image sizes that first layers are made for, pixels a side
MATCHES = ("depth", "name")  # how the tap of another architecture is found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture(Entry):
  """A network for any number of classes.

  `function` is a `models.layered.Design`, or a dict that has it under the architecture's name.

  Attributes:
    taps: how many.
    patches: whether images are cut into patches whose size can be chosen.
  """

  taps: int
  patches: bool = False

  @property
  def design(self) -> Any:
    """How it is built: a `models.layered.Design`."""
    function = self.function
    return function[self.name] if isinstance(function, Mapping) else function

  def __call__(self, num_classes: int, *, patch_size: int = 0, **fields: Any) -> Any:
    """The network, a `models.Layered`; `patch_size` 0 is that of the stem."""
    return self.design.build(num_classes, **self._patch(patch_size), **fields)

  def components(self, *, image_size: int, stem: int, patch_size: int = 0) -> Any:
    """What it is made of for images of `image_size` pixels a side: `models.components`."""
    components = self.design.describe(stem, **self._patch(patch_size))
    return dataclasses.replace(components, input_resolution=str(image_size))

  def _patch(self, patch_size: int) -> dict[str, int]:
    if patch_size and not self.patches:
      raise ValueError(f"patch_size={patch_size}: this architecture has no patches, 0 is allowed")
    return {"patch_size": patch_size} if self.patches else {}


def _family(module: str, taps: Mapping[str, int], *, patches: bool = False) -> list[Architecture]:
  code = f"models.{module}:DESIGNS"
  return [
    Architecture(name=name, label=name, code=code, taps=count, patches=patches)
    for name, count in taps.items()
  ]


_ALL = (
  *_family(
    "resnet",
    {
      "resnet8": 4,
      "resnet14": 7,
      "resnet20": 10,
      "resnet18": 9,
      "resnet34": 17,
      "resnet50": 17,
      "resnet101": 34,
    },
  ),
  *_family(
    "preact_resnet",
    {"preact_resnet18": 9, "preact_resnet34": 17, "preact_resnet50": 17, "preact_resnet_mini": 6},
  ),
  *_family(
    "wide_resnet",
    {"wide_resnet16_8": 7, "wide_resnet28_10": 13, "wide_resnet40_4": 19, "wide_resnet_mini": 5},
  ),
  *_family(
    "resnext", {"resnext29_32x4": 10, "resnext29_8x64": 10, "resnext50_32x4": 17, "resnext_mini": 5}
  ),
  *_family(
    "se_resnet", {"se_resnet20": 10, "se_resnet18": 9, "se_resnet50": 17, "se_resnet_mini": 6}
  ),
  *_family("vgg", {"vgg11": 8, "vgg13": 10, "vgg16": 13, "vgg19": 16, "vgg_mini": 5}),
  *_family("densenet", {"densenet100_12": 51, "densenet121": 62, "densenet_mini": 6}),
  *_family("mobilenet_v2", {"mobilenet_v2": 19, "mobilenet_v2_mini": 6}),
  *_family("tiny10", {"tiny10": 8}),
  *_family(
    "convmixer",
    {"convmixer_mini": 5, "convmixer_256_8": 9, "convmixer_768_32": 33, "convmixer_1536_20": 21},
    patches=True,
  ),
  *_family(
    "convnext", {"convnext_mini": 5, "convnext_atto": 13, "convnext_tiny": 19}, patches=True
  ),
  *_family(
    "mlp_mixer", {"mlp_mixer_mini": 5, "mlp_mixer_s16": 9, "mlp_mixer_b16": 13}, patches=True
  ),
  *_family("swin", {"swin_mini": 5, "swin_tiny": 13}, patches=True),
  *_family("vit", {"vit_mini": 5, "vit_tiny": 13, "vit_small": 13, "vit_base": 13}, patches=True),
)
MODELS: dict[str, Architecture] = {entry.name: entry for entry in _ALL}


def fewest_taps(names: Iterable[str]) -> tuple[str, int]:
  """The architecture with the fewest taps, and its last one."""
  last = {name: MODELS[name].taps - 1 for name in names}
  name = min(last, key=lambda each: last[each])
  return name, last[name]
