#!/usr/bin/env bash
# Installs overtrace, and with --cuda or --cudnn the program beside it that computes on NVIDIA GPUs.
#
#   ./install.sh [--cuda | --cudnn] [what else cargo install takes, --root DIR say]
#
# overtrace itself is never linked with CUDA: it starts everywhere, and computes on the CPU where the other cannot.
# --cuda needs the CUDA toolkit here and its libraries (cuBLAS, NVRTC) where it runs; --cudnn, faster, cuDNN too.
set -euo pipefail
features=
case ${1:-} in
--cuda | --cudnn)
  features=${1#--}
  shift
  ;;
esac
cd "$(dirname "$0")"
cargo install --locked --path . --bin overtrace "$@"
[ -z "$features" ] || cargo install --locked --path . --bin overtrace-cuda --features "$features" "$@"
