"""The published parameters of each corruption: five severities, for three sizes of images.

Source: make_cifar_c.py (32 px), make_tinyimagenet_c.py (64 px) and make_imagenet_c.py (224 px) of
github.com/hendrycks/robustness (Apache 2.0), of which the numbers are taken and no code. An image of another size
takes the list whose size is nearest in ratio: up to 45 pixels the first, up to 119 the second, else the third.
"""

import math

SIZES = (32, 64, 224)
Severities = tuple[tuple[float, ...], ...]  # the parameters of severity 1 to 5

# elastic_transform: shares of the image's side; ImageNet's script has 244 where the images have 224 pixels
_244 = 244 / 224

# kind -> a list for each of SIZES
PARAMETERS: dict[str, tuple[Severities, Severities, Severities]] = {
    "gaussian_noise": (  # standard deviation
        ((0.04,), (0.06,), (0.08,), (0.09,), (0.10,)),
        ((0.04,), (0.08,), (0.12,), (0.15,), (0.18,)),
        ((0.08,), (0.12,), (0.18,), (0.26,), (0.38,)),
    ),
    "shot_noise": (  # photons of a white pixel
        ((500,), (250,), (100,), (75,), (50,)),
        ((250,), (100,), (50,), (30,), (15,)),
        ((60,), (25,), (12,), (5,), (3,)),
    ),
    "impulse_noise": (  # share of the values
        ((0.01,), (0.02,), (0.03,), (0.05,), (0.07,)),
        ((0.01,), (0.02,), (0.05,), (0.08,), (0.14,)),
        ((0.03,), (0.06,), (0.09,), (0.17,), (0.27,)),
    ),
    "speckle_noise": (  # standard deviation, as a share of the pixel
        ((0.06,), (0.1,), (0.12,), (0.16,), (0.2,)),
        ((0.15,), (0.2,), (0.25,), (0.3,), (0.35,)),
        ((0.15,), (0.2,), (0.35,), (0.45,), (0.6,)),
    ),
    "gaussian_blur": (  # sigma
        ((0.4,), (0.6,), (0.7,), (0.8,), (1,)),
        ((0.5,), (0.75,), (1,), (1.25,), (1.5,)),
        ((1,), (2,), (3,), (4,), (6,)),
    ),
    "defocus_blur": (  # radius of the disk, sigma of its edge
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        ((0.5, 0.6), (1, 0.1), (1.5, 0.1), (2.5, 0.01), (3, 0.1)),
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    ),
    "glass_blur": (  # sigma, farthest shift, passes
        ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        ((0.1, 1, 1), (0.5, 1, 1), (0.6, 1, 2), (0.7, 2, 1), (0.9, 2, 2)),
        ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    ),
    "motion_blur": (  # radius, sigma
        ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        ((10, 1), (10, 1.5), (10, 2), (10, 2.5), (12, 3)),
        ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    ),
    "zoom_blur": (  # how many factors from 1, their distance; as many as numpy.arange gives in the scripts
        ((7, 0.01), (12, 0.01), (16, 0.01), (21, 0.01), (26, 0.01)),
        ((7, 0.01), (12, 0.01), (16, 0.01), (21, 0.01), (26, 0.01)),
        ((12, 0.01), (16, 0.01), (11, 0.02), (13, 0.02), (11, 0.03)),
    ),
    "snow": (  # mean and deviation of the flakes, zoom, threshold, radius and sigma of their motion, share of the image
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.8),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.8),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.7),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.65),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.6),
        ),
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    "fog": (  # weight of the fog, how fast its detail decays
        ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        ((0.4, 3), (0.7, 3), (1, 2.5), (1.5, 2), (2, 1.75)),
        ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    ),
    "brightness": (  # added to the value of HSV
        ((0.05,), (0.1,), (0.15,), (0.2,), (0.3,)),
        ((0.1,), (0.2,), (0.3,), (0.4,), (0.5,)),
        ((0.1,), (0.2,), (0.3,), (0.4,), (0.5,)),
    ),
    "saturate": (  # factor on the saturation of HSV, and what is added to it
        ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
        ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (30, 0.2)),
        ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
    ),
    "contrast": (  # factor on the distance from the mean
        ((0.75,), (0.5,), (0.4,), (0.3,), (0.15,)),
        ((0.4,), (0.3,), (0.2,), (0.1,), (0.05,)),
        ((0.4,), (0.3,), (0.2,), (0.1,), (0.05,)),
    ),
    "elastic_transform": (  # size of the shifts, sigma of their smoothing, jitter of the corners, as shares of the side
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
        ((0, 0, 0.08), (0.05, 0.3, 0.06), (0.1, 0.08, 0.06), (0.1, 0.03, 0.03), (0.16, 0.03, 0.02)),
        (
            (2 * _244, 0.7 * _244, 0.1 * _244),
            (2 * _244, 0.08 * _244, 0.2 * _244),
            (0.05 * _244, 0.01 * _244, 0.02 * _244),
            (0.07 * _244, 0.01 * _244, 0.02 * _244),
            (0.12 * _244, 0.01 * _244, 0.02 * _244),
        ),
    ),
    "pixelate": (  # size of the small image, as a share
        ((0.95,), (0.9,), (0.85,), (0.75,), (0.65,)),
        ((0.9,), (0.8,), (0.7,), (0.6,), (0.5,)),
        ((0.6,), (0.5,), (0.4,), (0.3,), (0.25,)),
    ),
    "jpeg_compression": (  # quality
        ((80,), (65,), (58,), (50,), (40,)),
        ((65,), (58,), (50,), (40,), (25,)),
        ((25,), (18,), (15,), (10,), (7,)),
    ),
}


def choose_parameters(kind: str, severity: int, side: int) -> tuple[float, ...]:
    """The published parameters for an image of `side` pixels. severity: 1 to 5.

    >>> choose_parameters("contrast", 5, 32), choose_parameters("contrast", 5, 96), choose_parameters("fog", 1, 120)
    ((0.15,), (0.05,), (1.5, 2))
    """
    size = min(SIZES, key=lambda published: abs(math.log(side / published)))
    return PARAMETERS[kind][SIZES.index(size)][severity - 1]
