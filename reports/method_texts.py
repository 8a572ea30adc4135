"""What each method is, in words, with its formula and its source."""

Method = tuple[str, str, str]
"""What it is, its formula, where it is from."""
BOOTSTRAP = (
    "Davison and Hinkley, Bootstrap Methods and their Application, 1997, sections 3.8 and 5.2; "
    "Field and Welsh, J. R. Stat. Soc. B 2007, 69:369-390"
)
INTERVALS: dict[str, Method] = {
    "Wilson": (
        "Score interval of a share k/n, one case per patient",
        "(p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n), p = k/n, z = 1.96",
        "Wilson, J. Am. Stat. Assoc. 1927, 22:209-212",
    ),
    "Rao-Scott Wilson": (
        "Wilson's interval on the effective number of trials, several cases per patient",
        (
            "v = I/(I-1) Σ(kᵢ - mᵢp)² / (Σmᵢ)² over I patients; n = p(1-p)/v · (z/t)², t of at "
            "most I-1 df, fewer where few patients have most cases"
        ),
        (
            "Rao and Scott, Biometrics 1992, 48:577-585; Obuchowski, Stat. Med. 1998, "
            "17:1495-1507; Korn and Graubard, Survey Methodology 1998, 24:193-201; Satterthwaite, "
            "Biometrics Bull. 1946, 2:110-114 (df)"
        ),
    ),
    "Clopper-Pearson": (
        "Exact interval of a share, every patient counted once, where patients do not differ",
        "[Beta(2.5%; k, n-k+1), Beta(97.5%; k+1, n-k)]",
        "Clopper and Pearson, Biometrika 1934, 26:404-413",
    ),
    "patient bootstrap, studentised": (
        "Whole patients are drawn again with all their cases, 2000 times",
        (
            "value - error · q, with q the 97.5% and 2.5% quantiles of (resampled - value) / "
            "resampled error"
        ),
        BOOTSTRAP,
    ),
    "patient bootstrap, freed of chance": (
        "Whole patients are drawn again; the lower limit without what chance adds to an error",
        "quantiles of the resampled error, the lower of √(error² - 2 · chance²)",
        "Cameron, Gelbach and Miller, Rev. Econ. Stat. 2008, 90:414-427 (chance by random signs)",
    ),
    "Obuchowski, logit": (
        "Area under the ROC curve of cases that share patients, on the logit scale",
        "logit(A) ± t √v / (A(1-A)), v = Σ over patients (parts of positive and negative cases)²",
        (
            "Obuchowski, Biometrics 1997, 53:567-578; DeLong et al., Biometrics 1988, 44:837-845; "
            "Pepe, The Statistical Evaluation of Medical Tests, 2003, chapter 5"
        ),
    ),
    "Newcombe": (
        "Difference of two shares, from the Wilson limits of each",
        "d - √((p₁-l₁)² + (u₂-p₂)²), d + √((u₁-p₁)² + (p₂-l₂)²)",
        "Newcombe, Stat. Med. 1998, 17:873-890, method 10",
    ),
    "Newcombe on Rao-Scott limits": (
        "Difference of two shares, from the limits of each on its effective number of trials",
        "d - √((p₁-l₁)² + (u₂-p₂)²), d + √((u₁-p₁)² + (p₂-l₂)²)",
        "Newcombe 1998; Zou and Donner, Stat. Med. 2008, 27:1693-1702",
    ),
    "Newcombe on Obuchowski limits": (
        "Difference of two areas under the ROC curve, from the limits of each",
        "d - √((A₁-l₁)² + (u₂-A₂)²), d + √((u₁-A₁)² + (A₂-l₂)²)",
        "Newcombe 1998; Zou and Donner, Stat. Med. 2008, 27:1693-1702",
    ),
    "Tango": (
        "Change of a share, patient by patient: b turn right, c turn wrong, of n",
        "all d with |b - c - nd| ≤ z √(n(2q + d(1-d))), q the likeliest share turning wrong at d",
        "Tango, Stat. Med. 1998, 17:891-908",
    ),
}
COLUMNS: dict[str, tuple[str, str, Method]] = {
    "p_holm": (
        "estimates",
        "Correction for the groups compared (Holm)",
        (
            (
                "Chance of naming any group falsely stays at 5% under one probe and metric, "
                "whatever "
                "the dependence; a group and its complement are one comparison"
            ),
            "the i-th smallest of k p-values times k - i + 1, never falling",
            "Holm, Scand. J. Stat. 1979, 6:65-70",
        ),
    ),
    "detectable": (
        "estimates",
        "What could have been found",
        (
            (
                "Least true gap that the corrected comparison finds with 80% power, normal "
                "approximation"
            ),
            "(z(1 - 0.05/2m) + z(0.8)) · error of the difference, m comparisons",
            "Cohen, Statistical Power Analysis for the Behavioral Sciences, 2nd ed. 1988",
        ),
    ),
    "interaction": (
        "estimates",
        "Change, and difference of the changes",
        (
            (
                "Value under the probe minus clean value, patient by patient, on cases that "
                "neither "
                "failed on; then the group's change minus that of all others"
            ),
            "(v' - v in the group) - (v' - v in all others), studentised patient bootstrap, Holm",
            BOOTSTRAP,
        ),
    ),
    "bound_low": (
        "estimates",
        "Patients without a record",
        (
            "Least and greatest value that any choice among them can give the group",
            "patients added whole, in the order of their own ratios, while the ratio moves outward",
            (
                "Manski, Partial Identification of Probability Distributions, 2003, chapter 1; "
                "Dinkelbach, Manage. Sci. 1967, 13:492-498"
            ),
        ),
    ),
    "p_any": (
        "gaps",
        "Do any groups differ (max-T)",
        (
            "Chance that, without any difference, some group of the subgroup lies as far off",
            "largest |deviate| of the observed gaps against the largest of each of 2000 resamples",
            "Westfall and Young, Resampling-Based Multiple Testing, 1993, algorithm 2.8",
        ),
    ),
    "range": (
        "gaps",
        "Distance from best to worst",
        (
            "Shown only beside what patients shuffled among the groups give",
            "largest minus smallest value; p = (1 + shuffles as large) / (shuffles + 1)",
            "Good, Permutation, Parametric, and Bootstrap Tests of Hypotheses, 3rd ed. 2005",
        ),
    ),
    "worst_corrected": (
        "gaps",
        "The worst group, corrected for having been picked",
        (
            "Each group pulled towards the common mean; the interval holds for all groups at once",
            (
                "m + v/(v + e²) (value - m), v the variance between groups; limits at "
                "0.05/groups or by "
                "the largest |t|"
            ),
            (
                "Efron and Morris, J. Am. Stat. Assoc. 1975, 70:311-319; DerSimonian and Laird, "
                "Control. Clin. Trials 1986, 7:177-188; Andrews et al., Q. J. Econ. 2024, "
                "139:305-358"
            ),
        ),
    ),
    "p_joint": (
        "search",
        "Search for worse groups (max-T)",
        (
            "How often chance alone makes any of the searched groups as extreme",
            "(1 + resamples whose largest |deviate| is as large) / (resamples + 1)",
            "Westfall and Young 1993; Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 2010, 9:39",
        ),
    ),
}
"""By column: the table it is in, its name, and the method."""
FIGURES: dict[str, tuple[str, Method]] = {
    ".loa_low": (
        "Limits of agreement",
        (
            "Between them lie about 95% of the patients' errors",
            "mean error ± 1.96 SD of the errors, within and between patients",
            "Bland and Altman, Lancet 1986, 327:307-310; Stat. Methods Med. Res. 1999, 8:135-160",
        ),
    ),
    ".failure": (
        "Share beyond a tolerance",
        (
            "Share whose value is worse than the tolerance that the plan declares",
            "Σ [worse than the tolerance] / n",
            "the plan",
        ),
    ),
    ".sensitivity": (
        "Rates at the threshold",
        (
            (
                "Sensitivity and specificity among cases with and without the finding; predictive "
                "values among those called and not called"
            ),
            "cases called right / cases in question",
            "Altman and Bland, BMJ 1994, 308:1552 and 309:102",
        ),
    ),
    ".observed_expected": (
        "Observed over expected",
        (
            "Below 1 predicted risks are too high, above 1 too low",
            "Σ [finding there] / Σ predicted probability",
            "Riley et al., BMJ 2016, 353:i3140",
        ),
    ),
    ".calibration_slope": (
        "Calibration intercept and slope",
        (
            (
                "Slope below 1: predictions too extreme; above 1: too moderate. Intercept above "
                "0: the "
                "finding is commoner than predicted"
            ),
            "logit P(finding) = a + b · logit(predicted); intercept with b held at 1",
            "Cox, Biometrika 1958, 45:562-565; Van Calster et al., BMC Medicine 2019, 17:230",
        ),
    ),
    ".smooth_ece": (
        "Smooth calibration error",
        (
            "Mean distance of predictions from what comes true, smoothed; chance adds to it",
            "∫ |residuals smoothed at width w|, at the w that equals it",
            "Blasiok and Nakkiran, ICLR 2024, arXiv:2309.12236",
        ),
    ),
}
"""By the end of a metric's name."""
