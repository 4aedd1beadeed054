import io

from custom_apps.common.errors import DataError
from custom_apps.common.problems import WARNING, Problem, errors_of, print_problems, problem_table


def test_table_puts_errors_first_and_shortens_paths():
    problems = [
        Problem("/data/set/b.nii.gz", "origin differs", "that of the image", WARNING),
        Problem.of(DataError("/data/set/labels/a.nii.gz", "has NaN", "finite")),
    ]
    lines = problem_table(problems, "/data/set").splitlines()
    assert lines[2].split()[:2] == ["error", "labels/a.nii.gz"]
    assert lines[3].split()[:2] == ["warning", "b.nii.gz"]
    assert problem_table(problems, "/data/set", limit=1).endswith("… and 1 more")
    assert errors_of(problems) == problems[1:]


def test_exit_status_and_verdict():
    out = io.StringIO()
    assert print_problems([], "/data/set", out) == 0
    assert out.getvalue() == "/data/set: 0 errors, 0 warnings\n"
    assert print_problems([Problem("x", "odd", "even", WARNING)], "/data/set", out) == 0
    assert print_problems([Problem("x", "odd", "even")], "/data/set", out) == 1
    assert out.getvalue().endswith("/data/set: 1 errors, 0 warnings\n")
