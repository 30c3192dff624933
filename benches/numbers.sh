#!/usr/bin/env bash
# Output, loss and every gradient at any width against PyTorch's in double precision: at most 1e-4 of each tensor's largest.
#
#   benches/numbers.sh TORCH_UNET [base_channels] [batch]
#
# TORCH_UNET is the peer's script (see fixtures/unet_torch.md); PYTHON has torch, numpy and safetensors.
set -euo pipefail
script=$(realpath "$1") base=${2:-64} batch=${3:-2} python=${PYTHON:-python3}
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
"$python" "$script" weights --double --base "$base" --batch "$batch" --out "$folder/unet.npz"
"$python" - "$folder" <<'PY'
import sys
import numpy as np
from safetensors.numpy import save_file
a = dict(np.load(f"{sys.argv[1]}/unet.npz"))
t = {k: np.ascontiguousarray(v, dtype=np.float32).reshape(v.shape or (1,)) for k, v in a.items() if k != "y"}
t["y"] = a["y"].argmax(1).astype(np.uint8)
save_file(t, f"{sys.argv[1]}/unet.safetensors")
PY
NUMBERS=$folder/unet.safetensors cargo test --release --lib numbers_of_any_width -- --ignored --nocapture
