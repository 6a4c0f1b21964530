"""What an architecture is made of, as data: the components that analyses compare models by.

Hwang et al., "Similarity of neural architectures based on input gradient transferability",
Table 1: 13 components, each a word of a closed vocabulary; `kernel`, `width` and `depth` are ours.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Components:
  """The components of an architecture; every value is a word that can be compared with `==`.

  Attributes:
    base: what kind of network it is: CNN, Transformer, MLP-Mixer.
    stem: the first layers, such as `3x3 conv s1`; `s` is the stride.
    normalisation: BN (batch), LN (layer).
    hierarchical: whether the spatial size falls between stages: yes, no.
    activation: ReLU, ReLU6, GELU.
    stem_pooling: whether the stem pools: yes, no.
    self_attention: 2D self-attention: no, global, window.
    channel_attention: no, SE (squeeze and excitation).
    channel_attention_place: where it is in a block: none, block end.
    depthwise: depth-wise convolutions: yes, no.
    grouped: group convolutions that are not depth-wise: yes, no.
    final_pooling: GAP (mean over space), and what else the head does first.
    kernel: the largest kernel after the stem: `3x3`; of attention: `tokens`.
    width: features of the first stage, before a width multiplier.
    depth: layers with weights, as in its name where it has one.
    input_resolution: pixels a side of the images it was made for.
  """

  base: str
  stem: str
  normalisation: str
  hierarchical: str
  activation: str
  stem_pooling: str = "no"
  self_attention: str = "no"
  channel_attention: str = "no"
  channel_attention_place: str = "none"
  depthwise: str = "no"
  grouped: str = "no"
  final_pooling: str = "GAP"
  kernel: str = "3x3"
  width: str = ""
  depth: str = ""
  input_resolution: str = ""


# The 13 components of the paper; the others are not among them.
PAPER = tuple(
  field.name
  for field in dataclasses.fields(Components)
  if field.name not in ("kernel", "width", "depth")
)
