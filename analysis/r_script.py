"""The R script of a bundle: the main numbers without Python, compared with those of the report.

The code is `templates/analysis.R`; here a plan's values are put in front of it. It needs base R alone for the ranking,
`sandwich` for the win rates, and lme4, emmeans, psychotools and BradleyTerry2 for the models beside them; a package
that is not installed is passed over with a note.
"""

from __future__ import annotations

from importlib import resources

from analysis.plan import AnalysisPlan


def r_string(text: str) -> str:
    """The text as an R string literal of ASCII characters only, so that no locale can misread it."""
    written = []
    for character in text:
        if character in ('"', "\\"):
            written.append("\\" + character)
        elif " " <= character <= "~":
            written.append(character)
        else:
            written.append(f"\\U{{{ord(character):x}}}")
    return '"' + "".join(written) + '"'


def _vector(texts: list[str]) -> str:
    return f"c({', '.join(map(r_string, texts))})"


def _truth(value: bool) -> str:
    return "TRUE" if value else "FALSE"


def r_script(plan: AnalysisPlan, *, half_wins: bool) -> str:
    """The script for one plan.

    Parameters
    ----------
    plan : AnalysisPlan
    half_wins : bool
        Whether the report's ranking had half a win added on each side of every pair.
    """
    head = [
        f"# The main numbers of a study in R: {r_string(plan.title)}",
        "#   Rscript analysis.R [RESULTS.csv] [--fast]",
        "# Reads tables/votes.csv and numbers.csv beside it; ends with status 1 when a number is not the reported one.",
        "",
        f"contrasts <- data.frame(focal = {_vector([a for a, _ in plan.contrasts])},",
        f"                        against = {_vector([b for _, b in plan.contrasts])}, stringsAsFactors = FALSE)",
        f"confidence <- {plan.confidence!r}",
        f"new_people <- {_truth(plan.population.people == 'new')}",
        f"new_prompts <- {_truth(plan.population.items == 'new')}",
        f"davidson_section <- {r_string('ranking' if plan.ties == 'davidson' else 'ranking_sensitivity')}",
        f"half_wins <- {_truth(half_wins)}",
        "",
    ]
    body = resources.files("analysis").joinpath("templates/analysis.R").read_text(encoding="utf-8")
    return "\n".join(head) + body
