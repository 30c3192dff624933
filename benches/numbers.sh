#!/usr/bin/env bash
# Output, loss and every gradient at any width against PyTorch's in double precision: at most 2e-7 of each tensor's largest in f64,
# and 1e-4 in f32. (In f32 a sum next to 0 may fall on the other side of a ReLU, with every other seed or so at 64 channels;
# gradients are then off by some 1e-3, and another seed has to do.)
#
#   benches/numbers.sh [base_channels] [batch] [seed]
#
# PYTHON has torch, numpy and safetensors.
set -euo pipefail
base=${1:-64} batch=${2:-2} seed=${3:-1} python=${PYTHON:-python3}
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
"$python" benches/torch_numbers.py "$base" "$batch" "$seed" "$folder/unet.safetensors"
NUMBERS=$folder/unet.safetensors cargo test --release --lib numbers_of_any_width -- --ignored --nocapture
