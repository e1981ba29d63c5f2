#!/usr/bin/env bash
# The E4SRec rows of docs/results/office.md: every variant that the paper tests, over the IDs of one sasrec a seed.
#   scripts/e4srec.sh DATASET OUT
# DATASET is what `prepare` wrote. What is done is not done again; a killed run goes on where it stopped.
#   SEEDS="42 43 44"            VARIANTS="causal prompt ..." (names of configs/e4srec/*.yaml)
#   IDS="gru4rec llmesr ..."    other recommenders that supply the IDs, in mode causal
#   SET="add_giver=false"       keys for all of these runs
#   LAYERS=4                    layers of the language model, for instance on a CPU; minilm keeps all of its own
set -euo pipefail
data=$1 out=$2 seeds=${SEEDS:-"42 43 44"} ids=${IDS-"llmesr"}
variants=${VARIANTS:-"causal ids prompt head-only random-llm random-start bpr paper minilm"}
keys_of_all=${SET:-}
layers=${LAYERS:+llm.num_layers=$LAYERS}
seqloom=${SEQLOOM:-.venv/bin/seqloom} here=$(dirname "$0")
configs=$here/../configs/e4srec

train() { # RUN SYSTEM SEED OPTIONS...
  local run=$1 system=$2 seed=$3
  shift 3
  $seqloom train "$data" --system "$system" --set seed="$seed" "$@" --out "$run" --resume
  evaluate "$run"
}

evaluate() { # RUN
  test -e "$1/metrics.json" || $seqloom evaluate "$1"
}

for seed in $seeds; do
  train "$out/sasrec-$seed" sasrec "$seed"
  runs=("$out/sasrec-$seed")
  for variant in $variants; do
    keys=(--config "$configs/$variant.yaml")
    case $variant in
      paper | bpr) ;; # train their own giver of the IDs
      *) keys+=(--set ids.run="$out/sasrec-$seed") ;;
    esac
    for key in $keys_of_all; do keys+=(--set "$key"); done
    test "$variant" = minilm || for key in $layers; do keys+=(--set "$key"); done
    train "$out/e4srec-$variant-$seed" e4srec "$seed" "${keys[@]}"
    runs+=("$out/e4srec-$variant-$seed")
    own_ids=$out/e4srec-$variant-$seed/ids
    if test -e "$own_ids"; then
      evaluate "$own_ids"
      runs+=("$own_ids")
    fi
  done
  for system in $ids; do
    train "$out/$system-$seed" "$system" "$seed"
    keys=(--set ids.run="$out/$system-$seed" --set candidates=ids)
    for key in $keys_of_all $layers; do keys+=(--set "$key"); done
    train "$out/e4srec-ids-$system-$seed" e4srec "$seed" "${keys[@]}"
    runs+=("$out/e4srec-ids-$system-$seed")
  done
  # The report shows the metrics by length of history, among others.
  $seqloom compare "${runs[@]}" --report "$out/report-e4srec-$seed.html"
done
"$(dirname "$seqloom")/python" "$here/results_table.py" "$out"
