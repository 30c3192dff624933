"""A seeded network of PyTorch, random tiles and classes, and what PyTorch makes of them in double precision, for
`benches/numbers.sh`: softmax `p`, Dice `loss`, weights `w/<name>` and gradients `g/<name>`, in f32, axes as PyTorch has them.

    python benches/torch_numbers.py BASE_CHANNELS BATCH SEED FILE.safetensors
"""
import sys

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file

from against_torch import CLASSES, UNet, dice_loss

# A level's up-convolution and the two convolutions after it are one list there, as its blocks are.
PLACES = {"down": {"a": "down.{}.0", "b": "down.{}.1"}, "mix": {"a": "up.{}.1", "b": "up.{}.2"}}


def known_as(name):
    """The name of a parameter as `fixtures/unet_torch.md` has it."""
    part, *level, kind = name.split(".")
    if part == "head":
        return name
    place = PLACES[part][level[1]].format(level[0]) if part in PLACES else f"{part}.{level[0]}.0"
    return f"{place}.{kind}"


(base, batch, seed), file = map(int, sys.argv[1:4]), sys.argv[4]
torch.manual_seed(seed)
net = UNet(base).double()
x = torch.rand(batch, 1, 64, 64).double()
y = torch.randint(CLASSES, (batch, 64, 64))
logits = net(x)
loss = dice_loss(logits, F.one_hot(y, CLASSES).permute(0, 3, 1, 2).double())
loss.backward()
found = {"x": x, "p": F.softmax(logits, 1), "loss": loss.reshape(1)}
for name, parameter in net.named_parameters():
    found["w/" + known_as(name)], found["g/" + known_as(name)] = parameter, parameter.grad
tensors = {name: np.ascontiguousarray(value.detach().numpy(), dtype=np.float32) for name, value in found.items()}
save_file(tensors | {"y": y.numpy().astype(np.uint8)}, file)
