#!/usr/bin/env bash
# The paper's loop on labelled volumes, timed: the stored labels play the annotator, through the inbox.
#
#   benches/loop.sh DATA PROJECT [base_channels] [max_epochs] [rounds]
#
# DATA holds CASE/image.nii.gz and CASE/label.nii.gz; the split below is IBSR18's. Prints the tables of rounds,
# corrections and models, and what the whole took.
set -euo pipefail
data=$1 project=$2 base=${3:-32} epochs=${4:-6} rounds=${5:-3}
labelled=${LABELLED:-IBSR_01 IBSR_03}
pool=${POOL:-IBSR_04 IBSR_05 IBSR_06 IBSR_07 IBSR_08 IBSR_09 IBSR_16 IBSR_18}
held_out=${HELD_OUT:-IBSR_11 IBSR_12 IBSR_13 IBSR_14 IBSR_17}
overtrace=${OVERTRACE:-target/release/overtrace}
run() { "$overtrace" --project "$project" "$@"; }
paths() { for case in $1; do echo "$data/$case"; done; }

mkdir -p "$project"
cat >"$project/overtrace.toml" <<TOML
[model]
base_channels = $base
[training]
max_epochs = $epochs
learning_rate = ${LEARNING_RATE:-0.0005}
batch = ${BATCH:-16}
[inbox]
stable_s = 0.0
TOML
began=$SECONDS
"$overtrace" init "$project"
run import $(paths "$labelled") --pool labelled
run import $(paths "$pool") --pool unlabelled
run import $(paths "$held_out") --pool held-out
run round start
echo "first training and ranking: $((SECONDS - began)) s"
run rank
for _ in $(seq "$rounds"); do
  run round start
  case=$(run handout --to stand-in --json | sed -n 's/.*"case": "\(.*\)".*/\1/p')
  cp "$data/$case/label.nii.gz" "$project/inbox/${case}_corrected.nii.gz"
  run inbox
  run round train
done
echo "the whole: $((SECONDS - began)) s"
run round
run history
run model
