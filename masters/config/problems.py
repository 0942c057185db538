"""Errors in a recipe, said so that a tired person knows what to type next."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One broken rule: `path = value: rule. remedy`."""

    path: str
    value: object
    rule: str
    remedy: str

    def __str__(self) -> str:
        shown = f" = {self.value}" if self.value is not None else ""
        return f"{self.path}{shown}: {self.rule}. {self.remedy}".rstrip()


class RecipeError(ValueError):
    """A recipe that cannot be run, with every problem found."""

    def __init__(self, recipe: str, problems: list[Problem]):
        self.recipe, self.problems = recipe, problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(
            "\n".join([*(f"{recipe}: {problem}" for problem in problems), f"{count}; nothing was started."])
        )
