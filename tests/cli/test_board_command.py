"""`skyline board` and `skyline site`: their options, the folder that they read, torn records, exit status."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from harness.cli import main as cli
from leaderboard import registry
from tests.support.board_records import PUBLISHED, facts, profile, quality

REPOSITORY = Path(cli.__file__).resolve().parents[2]


@pytest.fixture
def skyline(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["skyline", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    return call


def write(folder, *records):
    (folder / "measured" / "machine").mkdir(parents=True, exist_ok=True)
    for number, record in enumerate(records):
        path = folder / "measured" / "machine" / f"{number}.{record.model}.json"
        path.write_text(record.to_json(), encoding="utf-8")


def scored(model="minilm-l6"):
    return [quality(r, "sst2", s, model=model) for r, s in (("baseline", 90.0), ("magnitude", 89.0))]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["published", "--model", "foo"], "'board published --table ganesh2021' does not take --model"),
        (["published", "--task", "sst2"], "'board published --table ganesh2021' does not take --task"),
        (["architecture", "--task", "sst2"], "'board architecture' does not take --task"),
        (["architecture", "--table", "realise"], "did you mean 'realised'?"),
        (["measured", "--table", "gordon2020"], "unknown table of the measured board 'gordon2020'"),
        (
            ["measured", "--table", "findings", "--task", "sst2"],
            "'board measured --table findings' does not take --task",
        ),
        (
            ["measured", "--table", "curves", "--front"],
            "'board measured --table curves' does not take --front",
        ),
        (["published", "--table", "gordon2002"], "did you mean 'gordon2020'"),
        (["published", "--table", ""], "unknown table of the published board ''"),
        (["published", "--table", "gordon2020", "--axis", "disk"], "axis"),
        (["published", "--readme", "x.md", "--csv"], "leave out --json and --csv"),
        (["archive", "--task", "sst2"], "'board archive' does not take --task"),
        (["archive", "--chart", "x.svg"], "does not take --chart"),
        (["measurd"], "did you mean 'measured'?"),
        (["architecture", "--table", "sizes", "--chart", "x.svg"], "does not take --chart"),
        (["measured", "--chart", "x.pdf"], ".svg or .png"),
    ],
)
def test_what_a_board_does_not_have_is_refused(skyline, arguments, names):
    status, out, errors = skyline("board", *arguments)
    assert (status, out) == (2, "")
    assert errors.startswith("skyline: ")
    assert errors.count("\n") == 1
    assert names in errors


def test_the_small_tables_print_in_each_form(skyline, tmp_path):
    pair = [
        quality(r, "sst2", s)
        for r, s in (("magnitude:sparsity=0.6", 90.0), ("random-pruning:sparsity=0.6", 80.0))
    ]
    write(tmp_path / "records", *pair)
    where = ("board", "measured", "--table", "findings", "--profiles", "records")
    status, out, errors = skyline(*where, "--json")
    assert (status, errors) == (0, "")
    assert json.loads(out)["rows"][0]["verdict"] == "reproduced"
    assert skyline(*where, "--csv")[1].splitlines()[0].startswith("finding,setting,task")
    assert "reproduced" in skyline(*where)[1]
    readme = tmp_path / "README.md"
    readme.write_text("<!-- board:findings -->\n<!-- /board:findings -->\n", encoding="utf-8")
    assert skyline(*where, "--readme", "README.md")[0] == 0
    assert "| magnitude pruning beats random" in readme.read_text(encoding="utf-8")
    status, _, errors = skyline("board", "architecture", "--table", "sizes", "--profiles", "records")
    assert status == 2
    assert "skyline reproduce ganesh2021" in errors


@pytest.mark.parametrize("table", PUBLISHED)
def test_every_published_table_is_a_board(skyline, table):
    status, out, errors = skyline("board", "published", "--table", table, "--json")
    board = json.loads(out)
    assert (status, errors) == (0, "")
    assert board["name"] == table
    assert all(row["id"].startswith(f"{table}/") for row in board["rows"])


def test_the_help_names_every_table(skyline):
    _, out, _ = skyline("board", "--help")
    words = set(re.findall(r"[\w-]+", re.sub(r"[│|]", " ", out)))
    assert {entry.name for entries in registry.ENTRIES.values() for entry in entries if entry.name} <= words


def test_a_table_of_its_own_goes_between_markers_of_its_own(skyline, tmp_path):
    path = tmp_path / "README.md"
    names = ("published", "published-movva2022")
    path.write_text("".join(f"<!-- board:{n} -->\n<!-- /board:{n} -->\n" for n in names))
    assert skyline("board", "published", "--table", "movva2022", "--readme", path)[0] == 0
    text = path.read_text()
    assert text.startswith("<!-- board:published -->\n<!-- /board:published -->\n")
    assert "BERT MEDIUM" in text


def test_the_front_alone_has_its_own_markers(skyline, tmp_path):
    sizes = {"baseline": 400_000, "magnitude": 200_000, "random-pruning": 300_000}
    scores = {"baseline": 90.0, "magnitude": 89.0, "random-pruning": 80.0}
    write(tmp_path / "out", *(quality(r, "sst2", scores[r], artifact=facts(r, disk=sizes[r])) for r in sizes))
    where = ("board", "measured", "--profiles", "out")
    whole = json.loads(skyline(*where, "--json")[1])
    status, out, errors = skyline(*where, "--front", "--json")
    front = json.loads(out)
    assert (status, errors) == (0, "")
    assert front["rows"] == [row for row in whole["rows"] if row["recipe"] in ("baseline", "magnitude")]
    assert front["notes"] == [
        *whole["notes"],
        "only the Pareto front and the baseline are shown: 2 of 3 rows",
    ]
    path = tmp_path / "README.md"
    path.write_text(
        "".join(f"<!-- board:{n} -->\n<!-- /board:{n} -->\n" for n in ("measured", "measured-front"))
    )
    assert skyline(*where, "--front", "--readme", path)[0] == 0
    assert path.read_text().startswith("<!-- board:measured -->\n<!-- /board:measured -->\n")
    assert "Random pruning" not in path.read_text()


def test_a_torn_record_is_warned_of_once_and_the_board_is_printed(skyline, tmp_path):
    write(tmp_path / "out", *scored(), profile("baseline", model="bert-base"))
    for name in ("torn", "other"):
        (tmp_path / "out" / "measured" / "machine" / f"{name}.json").write_text('{"format": 1, "key"')
    status, out, errors = skyline("board", "measured", "--profiles", "out")
    assert status == 1
    assert "Baseline" in out
    lines = errors.splitlines()
    assert len(lines) == 2
    for line, name in zip(lines, ("other", "torn"), strict=True):
        assert line.startswith("left out: ")
        assert line.count(f"{name}.json") == 1
    status, out, errors = skyline("board", "measured", "--profiles", "out", "--json")
    assert (status, len(json.loads(out)["rows"])) == (1, 2)


DECLARED = """title = "Two tasks"
model = "minilm-l6"
tasks = ["sst2", "mrpc"]
"""


def declare(folder, name, text=DECLARED):
    (folder / "boards").mkdir(parents=True, exist_ok=True)
    (folder / "boards" / f"{name}.toml").write_text(text, encoding="utf-8")


def test_a_file_declares_the_measured_board_and_others(skyline, tmp_path):
    write(tmp_path / "out", *scored(), quality("baseline", "mrpc", 84.0))
    where = ("--profiles", "out")
    assert "Measured on minilm-l6" in skyline("board", "measured", *where)[1]
    declare(tmp_path / "out", "measured")
    declare(tmp_path / "out", "mine", DECLARED.replace('"sst2", "mrpc"', '"sst2"'))
    declare(tmp_path / "out", "old", 'kind = "archive"\ntitle = "Old ones"\n')
    two, mine = (json.loads(skyline("board", name, *where, "--json")[1]) for name in ("measured", "mine"))
    assert [row["section"] for row in two["rows"]] == ["ranked", "incomplete"]
    assert [row["section"] for row in mine["rows"]] == ["ranked", "ranked"]
    assert (two["title"], mine["name"]) == ("Two tasks", "mine")
    one = json.loads(skyline("board", "measured", *where, "--task", "sst2", "--json")[1])
    assert [row["drop"] for row in one["rows"]] == [0.0, -1.0]
    assert "Old ones" in skyline("board", "old", *where)[1]
    path = tmp_path / "README.md"
    path.write_text("<!-- board:mine-front -->\n<!-- /board:mine-front -->\n")
    assert skyline("board", "mine", *where, "--front", "--readme", path)[0] == 0
    assert "Baseline" in path.read_text()


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["mine"], ("mine.toml", "protocl", "'protocol'")),
        (["mien"], ("'mien'", "'mine'")),
        (["measured", "--model", "bert-base"], ("minilm-l6", "--model")),
        (["measured", "--task", "cola"], ("'cola'", "mrpc, sst2")),
        (["measured", "--axis", "latency"], ("'latency'", "'latency-128-eager'")),
        (["old", "--axis", "size"], ("archive", "--axis")),
        (["mine", "--table", "findings"], ("'findings'", "coverage")),
        (["typo"], ("typo.toml", "'sst-two'")),
        (["none"], ("p9", "archive")),
    ],
)
def test_mistakes_about_declared_boards_are_one_line(skyline, tmp_path, arguments, names):
    write(tmp_path / "out", *scored())
    declare(tmp_path / "out", "measured")
    declare(tmp_path / "out", "mine", DECLARED + 'protocl = "x"\n')
    declare(tmp_path / "out", "old", 'kind = "archive"\ntitle = "Old ones"\n')
    declare(tmp_path / "out", "typo", DECLARED.replace("sst2", "sst-two"))
    declare(tmp_path / "out", "none", DECLARED + 'protocol = "p9"\n')
    status, out, errors = skyline("board", *arguments, "--profiles", "out")
    assert (status, out, errors.count("\n")) == (2, "", 1)
    for name in names:
        assert name in errors, name


def test_coverage_is_a_table_of_each_measured_board(skyline, tmp_path):
    own = [quality("magnitude", "sst2", 89.0, 1), profile("magnitude", task="sst2", seed=0)]
    write(tmp_path / "out", *scored(), *own)
    declare(tmp_path / "out", "mine", DECLARED + "seeds = [0, 1]\n")
    for name in ("measured", "mine"):
        status, out, _ = skyline("board", name, "--table", "coverage", "--profiles", "out", "--json")
        rows = {row["recipe"]: row for row in json.loads(out)["rows"]}
        assert status == 0
        assert (rows["magnitude"]["sst2_seeds"], rows["magnitude"]["sst2_profiles"]) == ("0 1", 1)
        assert rows["baseline"]["complete"] is (name == "measured")
    assert (rows["magnitude"]["mrpc_seeds"], rows["magnitude"]["mrpc_profiles"]) == (None, 0)


def test_whole_records_end_with_status_0(skyline, tmp_path):
    write(tmp_path / "out", *scored())
    status, out, errors = skyline("board", "measured", "--profiles", "out")
    assert (status, errors) == (0, "")
    assert "Baseline" in out


def test_without_a_folder_profiles_comes_before_runs_and_that_is_said(skyline, tmp_path):
    write(tmp_path / "runs", *scored("bert-tiny"))
    status, out, errors = skyline("board", "measured")
    assert (status, errors) == (0, "records of runs\n")
    assert "Measured on bert-tiny" in out
    (tmp_path / "profiles" / "published").mkdir(parents=True)  # holds no records
    assert "Measured on bert-tiny" in skyline("board", "measured")[1]
    write(tmp_path / "profiles", *scored())
    status, out, errors = skyline("board", "measured", "--json")
    assert (status, errors) == (0, "records of profiles; runs has others: add --profiles runs\n")
    assert json.loads(out)["model"] == "minilm-l6"
    assert "Measured on bert-tiny" in skyline("board", "measured", "--profiles", "runs")[1]


def test_without_any_folder_the_checkouts_records_are_shown(skyline):
    status, out, errors = skyline("board", "archive", "--json")
    assert (status, errors) == (0, f"records of {REPOSITORY / 'profiles'}\n")
    assert json.loads(out)["title"] == "Archive: all committed records"


def test_an_empty_board_says_where_other_records_are(skyline, tmp_path):
    write(tmp_path / "profiles", *scored())
    write(tmp_path / "runs", profile("baseline", model="bert-base"))
    status, _, errors = skyline("board", "architecture")
    assert status == 2
    assert "`skyline run quickstart`" in errors
    assert errors.endswith("; runs has others: add --profiles runs\n")
    assert skyline("board", "architecture", "--profiles", "runs")[0] == 0


def test_the_page_has_every_published_table_and_a_torn_record_is_warned_of_once(skyline, tmp_path):
    write(tmp_path / "runs", *scored())
    (tmp_path / "runs" / "measured" / "machine" / "torn.json").write_text("{")
    status, out, errors = skyline("site", "--out", "page")
    assert (status, out) == (1, f"wrote {Path('page') / 'index.html'}\n")
    assert errors.count("torn.json") == 1
    assert "no architecture board: " in errors
    assert errors.endswith("records of runs\n")
    page = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    for section in ("measured", *(f"published-{table}" for table in PUBLISHED)):
        assert f'id="{section}"' in page
