#!/usr/bin/env bash
# Everything that needs a GPU, in two steps, since a machine with one may have no Rust.
#
#   benches/gpu.sh build FOLDER         where Rust and the CUDA toolkit are: programs and tests, stripped, into FOLDER
#   benches/gpu.sh run FOLDER [DATA]    where the GPU is: tests, then the peer's times beside ours, then real volumes
#
# FOLDER is carried over with the repository's benches/. Needs Python with torch there; its CUDA libraries serve ours too.
# DATA holds CASE/image.nii.gz and CASE/label.nii.gz (IBSR18's names): two rounds, and the ranking in bf16 against that in f32.
set -euo pipefail
step=$1 folder=$(realpath -m "$2") data=${3:+$(realpath "$3")}
cd "$(dirname "$0")/.."

if [ "$step" = build ]; then
  mkdir -p "$folder"
  cargo build --release --bin overtrace
  cp target/release/overtrace "$folder/"
  cargo build --release --features cudnn --bin overtrace-cuda
  cp target/release/overtrace-cuda "$folder/"
  for features in cudnn cuda; do
    tests=$(cargo test --release --features $features --lib --no-run --message-format=json |
      sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1)
    cp "$tests" "$folder/tests-$features"
  done
  strip "$folder"/{overtrace,overtrace-cuda,tests-cudnn,tests-cuda}
  du -sh "$folder"
  exit
fi

site=$(python3 -c 'import site, sys; print(" ".join(site.getsitepackages() + sys.path))')
libraries=$(for place in $site; do ls -d "$place"/nvidia/*/lib "$place"/nvidia/*/lib64 2>/dev/null || true; done | paste -sd:)
export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} OVERTRACE=$folder/overtrace

if missing=$(ldd "$folder/overtrace-cuda" | grep "not found"); then
  echo "these libraries are missing; install torch's of the toolkit's version, or set LD_LIBRARY_PATH:" >&2
  echo "$missing" >&2
  exit 1
fi
# A backtrace behind every refusal would hide it.
export RUST_BACKTRACE=0
failed=
echo "== tests: cuDNN, then products alone"
for features in cudnn cuda; do
  "$folder/tests-$features" model::cuda::tests --nocapture --test-threads=1 || failed+=" tests-$features"
done
echo "== overtrace bench: a volume of 2048 tiles, none skipped"
for precision in f32 tf32 bf16; do
  "$OVERTRACE" bench --device cuda:0 --precision $precision --base-channels 16,64 --batch 16 --runs 20 --volume
done
"$OVERTRACE" bench --device cuda:0 --networks voxresnet --base-channels 32 --batch 16
"$OVERTRACE" bench --device cuda:0 --networks multi-scale --base-channels 16 --batch 16
echo "== beside PyTorch, rounds interleaved"
for precision in tf32 bf16 f32; do
  for batch in 16 256; do
    python3 benches/against_torch.py --device cuda:0 --precision $precision --base 64 --batch $batch --rounds 3 --runs 7
  done
done
if [ -n "$data" ]; then
  echo "== real volumes: rounds on the GPU, then the same pool ranked in f32, TF32 and bf16"
  umask 077
  whole=$(mktemp -d)
  trap 'rm -r "$whole"' EXIT
  project=$whole/project
  mkdir "$project"
  benches/loop.sh "$data" "$project" 64 6 1
  "$OVERTRACE" --project "$project" model export "$project/weights.safetensors"
  for precision in f32 tf32 bf16; do
    other=$project-$precision
    mkdir "$other"
    printf '[model]\nbase_channels = 64\n[compute]\ndrawing_precision = "%s"\n' $precision >"$other/overtrace.toml"
    "$OVERTRACE" init "$other"
    "$OVERTRACE" --project "$other" import "$data"/IBSR_0[4-9] "$data"/IBSR_16 "$data"/IBSR_18 --pool unlabelled
    "$OVERTRACE" --project "$other" model import "$project/weights.safetensors"
    "$OVERTRACE" --project "$other" rank --json >"$project/$precision.json"
  done
  python3 - "$project" <<'PY' || failed+=" the ranking"
import json, sys
def scores(value):
    """Case -> score, wherever in the answer they stand."""
    found = {}
    if isinstance(value, dict):
        if "case" in value and isinstance(value.get("score"), (int, float)):
            found[value["case"]] = value["score"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            found.update(scores(item))
    return found
f32, *others = [scores(json.load(open(f"{sys.argv[1]}/{p}.json"))) for p in ("f32", "tf32", "bf16")]
assert f32, "no scores were found"
order = lambda s: sorted(s, key=s.get)
for name, other in zip(("TF32", "bf16"), others):
    off = max(abs(f32[c] - other[c]) for c in f32)
    print(f"{name}: {'the same order' if order(f32) == order(other) else 'another order'}, scores off by {off:.1e} at most")
sys.exit(any(order(f32) != order(other) for other in others))
PY
fi
if [ -n "$failed" ]; then
  echo "FAILED:$failed" >&2
  exit 1
fi
