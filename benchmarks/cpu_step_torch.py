"""The PyTorch side of `cpu_step`: `python cpu_step_torch.py WIDTH BATCH`, imports torch alone.

Reads how many steps to take, line by line, and answers with wall and CPU seconds of one.
"""

import sys
import time

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
  """ReLU, then two 3x3 convolutions beside a shortcut, as `models.resnet.BasicBlock`."""

  def __init__(self, channels: int, features: int, stride: int):
    super().__init__()
    self.conv1 = nn.Conv2d(channels, features, 3, stride, 1, bias=False)
    self.conv2 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
    self.norm1, self.norm2 = nn.BatchNorm2d(features), nn.BatchNorm2d(features)
    self.shortcut = nn.Identity()
    if stride > 1:
      conv = nn.Conv2d(channels, features, 1, stride, bias=False)
      self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(features))

  def forward(self, x):
    """`[B, C, H, W]` -> `[B, features, H / stride, W / stride]`."""
    x = functional.relu(x)
    y = functional.relu(self.norm1(self.conv1(x)))
    return self.norm2(self.conv2(y)) + self.shortcut(x)


def resnet20(width: float) -> nn.Module:
  """ResNet20 for 10 classes."""
  widths = [max(1, round(features * width)) for features in (16, 32, 64)]
  layers = [nn.Conv2d(3, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0])]
  channels = widths[0]
  for stage, features in enumerate(widths):
    for index in range(3):
      layers.append(Block(channels, features, 2 if stage and not index else 1))
      channels = features
  pool = nn.AdaptiveAvgPool2d(1)
  return nn.Sequential(*layers, nn.ReLU(), pool, nn.Flatten(), nn.Linear(channels, 10))


def main(width: float, batch: int) -> None:
  """Answers every line of stdin."""
  network = resnet20(width).train()
  optimizer = torch.optim.SGD(
    network.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
  )
  images = torch.randint(0, 256, (batch, 3, 32, 32), dtype=torch.uint8)
  labels = torch.randint(0, 10, (batch,))
  for line in sys.stdin:
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(int(line)):
      optimizer.zero_grad()
      loss = functional.cross_entropy(network((images.float() / 255 - 0.5) / 0.25), labels)
      loss.backward()
      optimizer.step()
    spent = time.perf_counter() - wall, time.process_time() - cpu
    print(spent[0] / int(line), spent[1] / int(line), flush=True)


if __name__ == "__main__":
  main(float(sys.argv[1]), int(sys.argv[2]))
