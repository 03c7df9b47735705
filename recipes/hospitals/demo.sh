#!/usr/bin/env bash
# A server and three phantom hospitals, each a process of its own, with mutual TLS on this machine: make demo-hospitals
# Run it again to go on where it was stopped.
set -euo pipefail
polysite=${1:-polysite} from=recipes/hospitals out=runs/demo-hospitals
hospitals=(abbey bridge castle)

mkdir -p "$out"
"$polysite" provision "$from/consortium.yaml" "$out/kits"

started=()
trap 'kill "${started[@]}" 2>/dev/null || true; wait' EXIT
for hospital in "${hospitals[@]}"; do
    "$polysite" join "$from/$hospital.yaml" >"$out/$hospital.txt" 2>&1 &
    started+=($!)
done

# Each hospital alone, for comparison, then together: two runs, one after the other, while the hospitals stay joined.
folders=()
for method in local pflsynth; do
    server=$out/$method
    what=("$from/run.yaml" --set "algorithm.name=$method" --out "$server")
    if [ -e "$server/config.yaml" ]; then what=(--resume "$server"); fi
    "$polysite" serve "${what[@]}" --kit "$out/kits/server" --listen 127.0.0.1
    "$polysite" status "$server"
    folders+=("$server")
done
kill "${started[@]}"
wait "${started[@]}" || true

for hospital in "${hospitals[@]}"; do
    for folder in "$out/$hospital"/demo-hospitals-*; do
        "$polysite" evaluate "$folder"
        folders+=("$folder")
    done
    for method in local pflsynth; do
        "$polysite" audit "$out/$hospital/audit.jsonl" --against "$out/$method/audit.jsonl" --site "$hospital" | tail -n 1
    done
done
"$polysite" report "${folders[@]}" --out "$out/report.html"
