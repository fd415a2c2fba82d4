"""How the corruptions of Hendrycks & Dietterich 2019 (arXiv 1903.12261) are made, for evaluators/corruptions.py."""
