#!/usr/bin/env bash
# Fuzzes every target for some seconds each (60), from the fixtures on: fuzz/run.sh [SECONDS] [TARGET ..]
# Needs a C++ compiler and cargo-fuzz (cargo install --locked cargo-fuzz). What it finds lies in fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(volume nrrd label_table frames keymap settings)

seed() { mkdir -p "fuzz/corpus/$1"; }
seed volume; cp fixtures/masks/*.nii fixtures/masks/*.nii.gz fuzz/corpus/volume/ 2>/dev/null || true
# Their first nine bytes are put back by the target.
seed nrrd; for file in fixtures/masks/*.nrrd; do tail -c +10 "$file" > "fuzz/corpus/nrrd/$(basename "$file")"; done
seed label_table; printf 'index\tname\n1\tGM\n' > fuzz/corpus/label_table/bids
printf '0 0 0 0 0 0 0 "Clear Label"\n1 1 1 1 1 1 1 "GM"\n' > fuzz/corpus/label_table/itk-snap
seed frames
seed keymap; cp keymaps/*.toml themes/*.toml fuzz/corpus/keymap/
seed settings; find fixtures -name overtrace.toml -exec cp {} fuzz/corpus/settings/ \;

# The sanitizer's flags are for nightly compilers; this lets any have them.
export RUSTC_BOOTSTRAP=1
for target in "${targets[@]}"; do
  cargo fuzz run --fuzz-dir fuzz "$target" -- -max_total_time="$seconds" -max_len=65536 -rss_limit_mb=2048 -timeout=5 2>&1 |
    grep -E '^#[0-9]+.DONE|^==[0-9]+==|panicked at|^SUMMARY|^error' | sed "s/^/$target: /"
done
