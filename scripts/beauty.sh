#!/usr/bin/env bash
# The tables of docs/results/beauty.md, from raw files to means over seeds. What is done is not done again.
#   scripts/beauty.sh FOLDER_WITH_sequences.txt_AND_items.csv OUT
set -euo pipefail
raw=$1 out=$2 seeds=${SEEDS:-"42 43 44"} systems=${SYSTEMS:-"sasrec llmesr"}
seqloom=${SEQLOOM:-.venv/bin/seqloom}
data=$out/beauty

test -e "$data" || $seqloom prepare "$raw/sequences.txt" --items "$raw/items.csv" --out "$data"
$seqloom embed "$data" --encoder all-minilm-l6-v2
for system in popularity itemknn; do
  $seqloom train "$data" --system $system --out "$out/$system" --resume
  $seqloom evaluate "$out/$system"
done
for seed in $seeds; do
  for system in $systems; do
    $seqloom train "$data" --system "$system" --set seed="$seed" --out "$out/$system-$seed" --resume
    $seqloom evaluate "$out/$system-$seed"
  done
done
for seed in $seeds; do
  $seqloom compare "$out/sasrec-$seed" "$out/llmesr-$seed" --report "$out/report-$seed.html"
done
"$(dirname "$seqloom")/python" "$(dirname "$0")/results_table.py" "$out"
