"""The density of scores: a Gaussian fitted to the parts of samples that a model was not fitted to, and its calibration.

    score(x)    -log N(u; m, S),   u_j = (part_j(x) - median_j) / spread_j               (models/score_parts.py)
    p_value(x)  (1 + #{i: score_i >= score(x)}) / (n + 1)

The likelihood of a VAE alone says little of whether a sample is of the kind of its data: what is simple is likely. Its
parts move together on such data, and apart on others (LPath, https://arxiv.org/abs/2401.04933, does this with four of
them; DoSE, Morningstar et al., AISTATS 2021, https://arxiv.org/abs/2006.09273, with densities of statistics). The score
sees all parts but those that are sums of others.

The Gaussian is fitted to all n samples, and calibrated to scores that each of them got from a Gaussian fitted to the
other nine tenths (Vovk, Cross-conformal predictors, 2015, https://arxiv.org/abs/1208.0806). For new data of the same
kind the p-value is then uniform on 1 / (n + 1), ..., 1, up to the tenth of the data that a fit more makes. The least
p-value there can be, 1 / (n + 1), is its resolution.
"""
