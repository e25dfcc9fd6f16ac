"""The page as a text: nothing in it ends a script early, leaves the file, or depends on the run."""

import json
import re
from html.parser import HTMLParser

import matplotlib
import pytest

from nnunet_stochastic.report.page import PageContent, page_cases, read_results, render_page
from nnunet_stochastic.report.page.embedding import embed_json, embed_script, embed_style
from tests.report.results import write_result

EVIL = "</script><script>alert(1)</script><!-- & \"quotes\" 'too'"


def no_files(folder):
    raise FileNotFoundError(f"{folder} was deleted")


def render(folders, **changes):
    results = read_results(folders)
    cases = page_cases(results, no_files)
    content = {
        "title": "Report",
        "results": results,
        "cases": cases,
        "thumbnails": [None] * len(cases),
        "notes": [case.source for case in cases],
        "volumes": {},
    }
    return "".join(render_page(PageContent(**content | changes)))


def scripts(page):
    return re.findall(r"<script[^>]*>(.*?)</script>", page, flags=re.DOTALL)


def test_json_and_scripts_cannot_end_their_element():
    embedded = embed_json({"name": EVIL})
    assert "<" not in embedded
    assert json.loads(embedded) == {"name": EVIL}
    script = embed_script('text = "</SCRIPT><!-- a"; //\n//# sourceMappingURL=a.map')
    assert "</script" not in script.lower()
    assert "<!--" not in script
    assert "sourceMappingURL" not in script
    with pytest.raises(ValueError, match="must not hold </style"):
        embed_style("a { } </STYLE>")


def test_numbers_that_json_has_not_are_refused():
    with pytest.raises(ValueError, match="JSON"):
        embed_json([float("nan")])


def test_hostile_names_stay_text(tmp_path):
    folder = write_result(tmp_path / "run", name=f"{EVIL} / swag", case_names=(EVIL, "b"), left_out={"GED": EVIL})
    page = render([folder], title=EVIL)
    assert "<script>alert" not in page
    rows = json.loads(scripts(page)[0])["rows"]
    assert {row["case"] for row in rows} == {EVIL, "b"}
    assert len(scripts(page)) == page.count("<script") == page.count("</script>") == 9


def test_nothing_is_loaded_from_elsewhere(tmp_path):
    page = render([write_result(tmp_path / "run")])
    page = re.sub(r"<script[^>]*>.*?</script>", "", page, flags=re.DOTALL)
    links = re.findall(r"""\b(?:src|href|srcset|data)\s*=\s*["']([^"']*)""", page)
    assert links
    assert all(link.startswith(("data:", "#")) for link in links)
    assert not re.search(r"url\(\s*['\"]?(?!data:)", page)
    assert "default-src 'none'" in page


def test_the_same_input_gives_the_same_page(tmp_path):
    folder = write_result(tmp_path / "run")
    page = render([folder])
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "axes.grid": False}):  # another library's
        assert render([folder]) == page


def test_a_result_in_which_everything_was_left_out(tmp_path):
    tasks = ("OODD", "AMB", "CAL", "FD", "GED", "VOLUME", "RATIO")
    folder = write_result(tmp_path / "run", left_out=dict.fromkeys(tasks, "no -ood set was given"), shifts=())
    page = render([folder])
    assert page.count("no -ood set was given") == len(tasks)
    assert "Dataset501_Nodules" in page


def test_many_cases(tmp_path):
    page = render([write_result(tmp_path / "run", num_cases=5000, shifts=())])
    assert len(json.loads(scripts(page)[0])["rows"]) == 5000
    assert len(page) < 8e6


class Tables(HTMLParser):
    """Texts of the cells of all tables row by row, which of them are bold, and the classes of the headings."""

    def __init__(self, page):
        super().__init__()
        self.rows, self.bold, self.headings = [], [], []
        self.in_cell = False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        classes = (dict(attributes).get("class") or "").split()
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.in_cell = True
            self.rows[-1].append("")
        if tag == "td" and "best" in classes:
            self.bold.append((len(self.rows) - 1, len(self.rows[-1]) - 1))
        if tag == "th" and "model" in classes:
            self.headings.append(len(self.rows[-1]) - 1)

    def handle_endtag(self, tag):
        self.in_cell = self.in_cell and tag not in ("td", "th")

    def handle_data(self, data):
        if self.in_cell:
            self.rows[-1][-1] = (self.rows[-1][-1] + data).strip()


def without_scripts(page):
    return re.sub(r"<(script|style)[^>]*>.*?</\1>", "", page, flags=re.DOTALL)


def test_bold_cells_of_the_page(tmp_path):
    """A model that segments nothing is better than the others by every other number."""
    folders = [
        write_result(tmp_path / "a", name="ProbUNet / swag_diag", quality=0.99),
        write_result(tmp_path / "b", name="SSN / none", quality=0.6),
        write_result(tmp_path / "c", name="SSN / swag", quality=0.5, left_out={"GED": "no samples"}),
    ]
    summary = json.loads((folders[0] / "summary.json").read_text())
    summary["results"]["raters"]["all classes"]["mean"]["dice"] = 0.035
    (folders[0] / "summary.json").write_text(json.dumps(summary))
    page = without_scripts(render(folders))
    tables = Tables(page)
    quality = tables.rows[:4]
    assert [row[0] for row in quality[1:]] == ["Prob. U-Net / SWAG-D", "SSN / No EU", "SSN / SWAG"]
    assert quality[1][2] == "0.035⚠"
    # Dice ID and OOD, NLL and ECE of the second; the CRPS is equal, and the GED of the second alone is no best.
    assert [place for place in tables.bold if place[0] < 4] == [(2, 2), (2, 3), (2, 4), (2, 5), (2, 10), (3, 10)]
    assert {row for row, _ in tables.bold}.isdisjoint({1, 5, 9, 10, 11, 19})
    line = (
        "⚠ The segmentation of Prob. U-Net / SWAG-D has failed (Dice 0.035 is below half of the best, 0.600), so that"
    )
    assert page.count(line) == 1


def test_tables_keep_their_first_column_and_say_that_they_go_on(tmp_path):
    page = without_scripts(render([write_result(tmp_path / "a"), write_result(tmp_path / "b", quality=0.6)]))
    assert set(Tables(page).headings) == {0}
    assert page.count('<p class="more" hidden>') == page.count('<div class="scroll"') + 1 == 5  # and that of the cases
    assert "OODD\u00a0↑" in page


def test_the_mark_of_one_member_is_explained_where_it_is_read(tmp_path):
    several = write_result(tmp_path / "b", name="SSN / swag")
    one = write_result(tmp_path / "a", name="TTA / none", is_stand_in=True)
    note = "† one member: its aleatoric samples stand in for members; not to be read as epistemic uncertainty."
    page = render([one, several])
    sections = dict(re.findall(r'<section id="(\w+)">(.*?)</section>', page, flags=re.DOTALL))
    assert {name: text.count(note) for name, text in sections.items()} == {
        "summary": 1,
        "figures": 1,
        "models": 1,
        "cases": 1,
        "notes": 0,
    }
    cases = json.loads(scripts(page)[0])
    assert [column["field"] for column in cases["columns"] if column["of_epistemic"]] == ["EU", "ratio"]
    assert {row["model"]: row["mark"] for row in cases["rows"]} == {"TTA / No EU": " †", "SSN / SWAG": ""}
    assert "†" not in render([several])
