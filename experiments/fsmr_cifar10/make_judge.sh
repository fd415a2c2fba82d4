#!/usr/bin/env bash
# How judge.safetensors beside this file was made: the network on whose features this study and ggdr_cifar10 compare images, a classifier
# of CIFAR-10 at 16 pixels (64 features). Two minutes of one core; one thread, so that the bits are the same wherever torch and the kind of
# processor are. The file is committed, since distances on another network's features do not compare.
# usage, from the root of the repository: bash experiments/fsmr_cifar10/make_judge.sh [DIR]     DIR holds cifar-10-batches-py
set -euo pipefail
root=${1:-${PARIBUS_DATA:-data}}
export OMP_NUM_THREADS=1
paribus train experiment=cifar10_small name=gan_judge paths.runs=runs/gan_judge/classifier data.root="$root" data.train_size=null \
  data.size=16 data.pad=2 'model.widths=[16,32,64]' steps=6ep every.log=390ba every.evaluate=6ep every.checkpoint=6ep \
  runtime.threads=1 runtime.device=cpu tracker=events
paribus export runs/gan_judge/classifier/gan_judge-* --out runs/gan_judge/judge.safetensors   # compare with the one that is here
