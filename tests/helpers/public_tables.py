"""Tables of other people's published runs, as files that `paribus judge` reads. Every number is as published; where
stands beside each table, with the commit that was read.
"""

from pathlib import Path

# Validation loss of repeated runs of NanoGPT speedrun records (github.com/KellerJordan/modded-nanogpt, README.md of
# records/track_1_short/NAME), no seeds given. DropAttn: commit 0e97a1cbe384; PolarExpress: 0e97a1cbe384; CautiousWD:
# 861cd6aa42df; RetieLMHead: 01bde7685fa0.
NANOGPT_LOSSES = {
    "2025-09-21_DropAttn": [3.2786, 3.2798, 3.2762, 3.2781, 3.2778, 3.2801, 3.2774, 3.2772, 3.2777, 3.2789],
    "2025-09-29_PolarExpress": [3.2789, 3.2792, 3.2796, 3.2776, 3.2797, 3.2787, 3.2792],
    "2025-10-28_CautiousWD": [3.2768, 3.2747, 3.2774, 3.2793, 3.2764, 3.2774, 3.2769],
    "2025-12-19_RetieLMHead": [3.2777, 3.2790, 3.2776, 3.2792, 3.2760, 3.2792, 3.2767, 3.2763, 3.2770],
}
# Their training times in seconds, each beside the record before it on the same machine (from the same files).
NANOGPT_TIMES = {
    "2025-09-29_PolarExpress": [148.617, 148.580, 148.569, 148.653, 148.578, 148.542, 148.587],
    "PR#133": [149.714, 149.676, 149.659, 149.716, 149.649, 149.569, 149.521],
}
# CIFAR-10 test accuracy of a SqueezeNet by activation function, 23 runs each, in per cent: mean and standard deviation
# (github.com/digantamisra98/Mish, README.md, "Sample Size = 23", commit 0004347eb347). The 95 % intervals printed there
# for the difference from Mish are MISH_INTERVALS (of Student's t with pooled variances, from unrounded numbers).
MISH = {
    "Mish": (23, 87.48, 0.3967),
    "Swish-1": (23, 87.32, 0.414),
    "E-Swish": (23, 87.49, 0.411),
    "GELU": (23, 87.37, 0.472),
    "ReLU": (23, 86.66, 0.584),
    "ELU": (23, 86.41, 0.3371),
    "SELU": (23, 83.91, 0.5995),
}
MISH_INTERVALS = {
    "Swish-1": (-0.3975, 0.0844),
    "E-Swish": (-0.2261, 0.2539),
    "GELU": (-0.3682, 0.1499),
    "ReLU": (-1.1179, -0.5247),
    "ELU": (-1.2931, -0.8556),
    "SELU": (-3.8713, -3.2670),
}
# The same with 3 runs each ("Sample Size = 3").
MISH_OF_THREE = {
    "Mish": (3, 87.93, 0.04358898943540784),
    "ReLU": (3, 87.06, 0.5311308689955831),
    "GELU": (3, 87.28, 0.15620499351812658),
    "ELisH": (3, 87.86, 0.04358898943540458),
    "Sigmoid": (3, 78.96, 1.8929606440705533),
}
# AUC of C4.5 and of C4.5 with tuned parameters on 14 data sets: Demšar, JMLR 7 (2006), Table 2, in the digits of
# SciPy's own test of friedmanchisquare (scipy/stats/tests/test_stats.py). The data sets take the place of seeds.
DATA_SETS = (
    *("adult", "breast cancer", "breast cancer wisconsin", "cmc", "ionosphere", "iris", "liver disorders"),
    *("lung cancer", "lymphography", "mushroom", "primary tumor", "rheum", "voting", "wine"),
)
C45 = {
    "C4.5": [0.763, 0.599, 0.954, 0.628, 0.882, 0.936, 0.661, 0.583, 0.775, 1.0, 0.94, 0.619, 0.972, 0.957],
    "C4.5+m": [0.768, 0.591, 0.971, 0.661, 0.888, 0.931, 0.668, 0.583, 0.838, 1.0, 0.962, 0.666, 0.981, 0.978],
    "C4.5+cf": [0.771, 0.590, 0.968, 0.654, 0.886, 0.916, 0.609, 0.563, 0.866, 1.0, 0.965, 0.614, 0.9751, 0.946],
    "C4.5+m+cf": [0.798, 0.569, 0.967, 0.657, 0.898, 0.931, 0.685, 0.625, 0.875, 1.0, 0.962, 0.669, 0.975, 0.970],
}
# Test accuracy of a small Keras net by seed after 200 and after 360 epochs (github.com/MatHatter/DESONN,
# keras_results.R, commit 8d2933d57323).
KERAS = {
    "200 epochs": {505: 0.998667, 506: 1.0, 507: 0.996, 508: 0.994667, 509: 0.998667, 510: 0.998667},
    "360 epochs": {505: 0.998667, 506: 0.998667, 507: 0.996, 508: 1.0, 509: 1.0, 510: 1.0},
}
# One run each: ImageNet accuracy of timm's models (huggingface/pytorch-image-models, results/results-imagenet.csv,
# commit 0173a139a2c6).
TIMM = """\
model,top1,top1_err,top5,top5_err,param_count,img_size,crop_pct,interpolation
convnext_base.fb_in22k_ft_in1k,86.274,13.726,98.092,1.908,88.59,288,1.000,bicubic
vit_base_patch16_384.augreg_in21k_ft_in1k,85.996,14.004,98.002,1.998,86.86,384,1.000,bicubic
regnety_160.sw_in12k_ft_in1k,85.986,14.014,97.834,2.166,83.59,288,1.000,bicubic
"""
# 10,000 examples by which of two models has them right (both, second alone, first alone, neither), the two cases of
# mlxtend's user guide (rasbt.github.io/mlxtend/user_guide/evaluate/mcnemar_table): 11 to 1, and 25 to 15.
MLXTEND = {"A": (9959, 11, 1, 29), "B": (9945, 25, 15, 15)}


def write_runs(path: Path, arms: dict[str, list[float]], column: str) -> Path:
    """Without seeds."""
    rows = [f"{arm},{value}" for arm, values in arms.items() for value in values]
    return _write(path, [f"method,{column}", *rows])


def write_seeds(path: Path, arms: dict[str, dict[int, float]], column: str) -> Path:
    rows = [f"{arm},{seed},{value}" for arm, values in arms.items() for seed, value in values.items()]
    return _write(path, [f"method,seed,{column}", *rows])


def write_data_sets(path: Path) -> Path:
    rows = [f'"{arm}","{name}",{v}' for arm, values in C45.items() for name, v in zip(DATA_SETS, values, strict=True)]
    return _write(path, ["algorithm,data set,AUC", *rows])


def write_summaries(path: Path, arms: dict[str, tuple[int, float, float]]) -> Path:
    rows = [f"{arm},{n},{mean},{sd}" for arm, (n, mean, sd) in arms.items()]
    return _write(path, ["activation,n,mean accuracy,std", *rows])


def write_correctness(path: Path, counts: tuple[int, int, int, int]) -> Path:
    both, second, first, neither = counts
    rows = ["1,1"] * both + ["0,1"] * second + ["1,0"] * first + ["0,0"] * neither
    return _write(path, ["id,model 1,model 2", *(f"{i},{row}" for i, row in enumerate(rows))])


def _write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path
