#!/usr/bin/env bash
# The paper's experiments, and what later work asks for, at full size: days, even on a GPU. Whatever stops it, the same command
# goes on; OUT/tables.txt has the tables at last.
#
#   benches/experiments.sh OUT [DATA]
#   SMALL=1 benches/experiments.sh OUT      one of each kind on phantoms: minutes on two cores
#
# DATA holds CASE/image.nii.gz and CASE/label.nii.gz of IBSR18 (10 cases train, 5 measure: not the paper's split); without it
# phantoms alone are tried. Every folder in OUT gets a report, with the paper's figures beside ours; the tables come last.
# WIDTH, STEPS, RATE, SEEDS and PHANTOMS make it smaller, of a new OUT: what was begun goes on as it was.
set -euo pipefail
out=$(realpath -m "$1") data=${2:+$(realpath "$2")} overtrace=${OVERTRACE:+$(realpath "$OVERTRACE")}
cd "$(dirname "$0")/.."
overtrace=${overtrace:-$(realpath target/release/overtrace)}
if [ -n "${SMALL:-}" ]; then WIDTH=${WIDTH:-8} STEPS=${STEPS:-200} SEEDS=${SEEDS:-1}; fi
width=${WIDTH:-64} steps=${STEPS:-6000} seeds=${SEEDS:-5} phantoms=${PHANTOMS:-18}
# Wide networks want a smaller one.
if [ "$width" -ge 64 ]; then rate=${RATE:-0.0005}; else rate=${RATE:-0.001}; fi
held_out=IBSR_11,IBSR_12,IBSR_13,IBSR_14,IBSR_17
mkdir -p "$out"

# settings NAME, then lines of [training]
settings() {
  printf '[model]\nbase_channels = %s\n[training]\nbatch = 16\nsteps = %s\nlearning_rate = %s\n%s\n' \
    "$width" "$steps" "$rate" "$2" >"$out/$1.toml"
}
settings paper 'recipe = "paper"'
# A part of it is tried by `without = ["poly"]` or `with = ["augmentation"]`.
settings strong 'recipe = "strong"'

# experiment NAME KIND SETTINGS, then what else it takes
experiment() {
  local name=$1 kind=$2 settings=$3
  shift 3
  echo "== $name"
  # One that was begun is gone on with.
  if [ -f "$out/$name/experiment.toml" ]; then set --; else set -- --settings "$out/$settings.toml" "$@"; fi
  "$overtrace" experiment "$kind" "$out/$name" "$@" >"$out/$name.txt"
}

# tables: everything that was found
tables() {
  for table in "$out"/*.txt; do
    if [ "$table" = "$out/tables.txt" ]; then continue; fi
    echo
    echo "== $(basename "$table" .txt)"
    cat "$table"
  done | tee "$out/tables.txt"
}
if [ -n "${SMALL:-}" ]; then
  of=(--phantoms 18 --test "$(seq -s, -f phantom-%g 10 17)")
  # What learns once learns as long as what learns in five rounds.
  steps=$((5 * steps)) settings long 'recipe = "strong"'
  experiment full full long "${of[@]}" --systems u-net,u-net-mse
  experiment query query strong "${of[@]}" --budget 2 --seeds "$seeds"
  experiment effort effort strong "${of[@]}" --budget 2 --seeds "$seeds"
  tables
  exit
fi

strategies=average-bvsb,average-bvsb-foreground,entropy,class-stratified,foreground-random,random
systems=u-net,u-net-mse,voxresnet,multi-scale,u-net+voxresnet+multi-scale
for of in brain usual-brain; do
  experiment "query-$of" query strong --phantoms "$phantoms" --of $of --seeds "$seeds" --strategies $strategies
done
# Two a round, as alike as they come and chosen to differ.
experiment diversity query strong --phantoms "$phantoms" --seeds "$seeds" --budget 2 --strategies average-bvsb,average-bvsb-diverse,random
experiment full-phantoms full strong --phantoms "$phantoms" --systems $systems
experiment disagreement-phantoms query strong --phantoms "$phantoms" --seeds "$seeds" \
  --systems u-net+u-net+u-net,u-net+u-net+u-net-folds,u-net+u-net+u-net-snapshots --strategies average-bvsb,disagreement,random
if [ -n "$data" ]; then
  for recipe in paper strong; do
    experiment "full-$recipe" full $recipe --data "$data" --test $held_out --systems $systems
    # Four iterations of one case, as in the paper's Table 3.
    experiment "effort-$recipe" effort $recipe --data "$data" --test $held_out --rounds 4 --seeds "$seeds"
  done
  experiment query-ibsr query strong --data "$data" --test $held_out --seeds "$seeds" --strategies $strategies
  # Which cases each network finds worth annotating.
  experiment worth-ibsr query strong --data "$data" --test $held_out --systems u-net,voxresnet,multi-scale,u-net+voxresnet+multi-scale
  # What each part of "strong" is worth, and what it leaves out.
  for part in cross-entropy foreground poly overlap; do
    settings "without-$part" "recipe = \"strong\"
without = [\"$part\"]"
    experiment "without-$part" full "without-$part" --data "$data" --test $held_out --seeds "$seeds"
  done
  for part in augmentation mirroring; do
    settings "with-$part" "recipe = \"strong\"
with = [\"$part\"]"
    experiment "with-$part" full "with-$part" --data "$data" --test $held_out --seeds "$seeds"
  done
  # Table 4's setting: no label at all, weights of another data set.
  if [ ! -f "$out/phantoms.safetensors" ]; then
    "$overtrace" --project "$out/full-phantoms/runs/fold1-seed1-u-net" model export "$out/phantoms.safetensors"
  fi
  experiment effort-transferred effort strong --data "$data" --test $held_out --start 0 --rounds 3 --weights "$out/phantoms.safetensors"
fi
tables
