#!/usr/bin/env bash
# The teacher of this study and its label map, which the arms name: runs/relabel_tiles/maps.safetensors (26 MB, not in git).
# On one core 28 s for the teacher and 12 s for the map. One thread, so that the bits are the same wherever torch and the kind of processor
# are; study.yaml demands the map by its checksum, and a map of other bits is refused there, in one line.
# usage, from the root of the repository: bash experiments/relabel_tiles/make_maps.sh [DIR]     DIR holds MNIST/raw
set -euo pipefail
root=${1:-${PARIBUS_DATA:-data}}
export OMP_NUM_THREADS=1
paribus train experiment=digit_tiles_small name=relabel_tiles_teacher paths.runs=runs/relabel_tiles/teacher \
  data.root="$root" data.train=single 'data.scale=[1.0,1.0]' data.n=20000 'model.widths=[16,32,64]' \
  steps=1ep schedule.warmup=0ep every.evaluate=1ep every.checkpoint=1ep runtime.threads=1 runtime.device=cpu tracker=events
paribus data label-map runs/relabel_tiles/teacher/relabel_tiles_teacher-* data.root="$root" data.train=tiles 'data.scale=[0.08,1.0]' \
  data.n=6000 --size 56 --top 3 --out runs/relabel_tiles/maps.safetensors
