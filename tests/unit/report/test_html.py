"""The report is one page that asks for nothing, says first what came of the run, and is small for the whole matrix."""

import base64
import hashlib
import json
import math
import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from browsers import chromium
from made_runs import ALL, agreed, heavy, past, run_of, timed, whole_matrix

from harness import matrix
from harness.case import Case
from harness.report import ci, compare, html
from harness.report.html import page
from harness.report.publish import PAST
from harness.report.records import Record, head_line
from harness.vocabulary import Outcome

CASE = Case.parse("regnety_016-ascend310p-fp16-bs16")
VOID = {"meta", "link", "input", "br", "wbr", "img"}


class Page(HTMLParser):
    """Ids, links, addresses and tags of a page; a tag that is closed out of turn is an error."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.addresses, self.open, self.texts = [], [], [], [], []
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given["href"]] if tag == "a" else []
        self.addresses += [given[name] for name in ("src", "srcset", "action", "data", "poster") if name in given]
        self.addresses += [given["href"]] if tag != "a" and "href" in given else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        opened = self.open.pop()
        assert opened == tag, f"</{tag}> closes <{opened}>"

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)


@cache
def whole():
    """The page of all cases."""
    return page(run_of(whole_matrix()))


@pytest.mark.slow
def test_the_whole_matrix_is_below_5_mb():
    text = page(run_of(heavy(whole_matrix())))

    assert len(text.encode()) < 5e6
    assert len(set(re.findall(r'<tr [^>]*id="([^"]+)"', text))) == ALL


@pytest.mark.slow
def test_nothing_is_asked_for_and_every_anchor_is_there_once():
    found = Page(whole())

    assert found.addresses == ["data:,"]
    assert len(found.ids) == len(set(found.ids))
    assert found.links
    assert {link for link in found.links if link[1:] not in found.ids} == set()


def test_a_policy_forbids_the_page_to_fetch():
    text = page(run_of([timed(CASE, 100.0)]))

    assert "default-src 'none'" in text
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest", text)


def test_the_banner_says_what_ran_what_not_and_why_before_anything_else():
    absent = Record(Case.parse("regnety_016-t4-fp16-bs4"), "export", "SKIP", "t4 is absent; to have it: install it")
    text = page(run_of([*whole_matrix([CASE], broken=False), absent], asked=2))
    banner = text[text.index('<div class="banner') : text.index("<nav")]

    for part in ("simulated: no failure", "ran 1 of 2 cases", "regnety_016-ascend310p-fp16-bs16", "t4 is absent"):
        assert part in banner, part
    assert "says nothing about real hardware" in banner


@pytest.mark.parametrize(
    ("outcomes", "required", "said"),
    [
        (["PASS"], [], "good"),
        (["PASS", "FAIL"], [], "not good"),
        (["INVALID", "PASS"], [], "cannot be trusted"),
        (["ERROR", "PASS"], [], "the laboratory has a fault"),
        (["INCONCLUSIVE"], [], "too little data"),
        (["SKIP"], [], "nothing ran"),
        ([], [], "nothing ran"),
        (["SKIP"], ["ascend310p"], "the laboratory has a fault"),
    ],
)
def test_the_conclusion_never_calls_good_what_is_not(outcomes, required, said):
    records = [Record(CASE, "numerics", outcome, "x", str(i)) for i, outcome in enumerate(outcomes)]

    text = page(run_of(records, asked=1, options={"require": str(required)}))

    assert said in ci.conclusion(records, required)
    assert said in text
    assert f'<div class="banner {ci.status(records, required).name}">' in text


def test_a_row_is_filtered_by_the_verdict_that_it_shows():
    text = page(
        run_of([agreed(CASE, "top1", "FAIL"), timed(CASE, 100.0), timed(replace(CASE, batch=4), 9.0, "INVALID")])
    )
    rows = re.findall(r'<tr data-v="(\w+)".*?<td class="verdict (\w+)"', text, re.DOTALL)

    assert rows
    assert {shown for _, shown in rows} == {"PASS", "FAIL", "INVALID"}
    assert [filtered for filtered, _ in rows] == [shown for _, shown in rows]


def test_what_changed_is_the_second_block(tmp_path):
    sections = re.findall(r'<section id="(\w+)"', every_part(tmp_path))

    assert sections[:3] == ["failures", "changes", "differing"]
    assert {"undecided", "grid", "charts", "trends", "accuracy", "records", "environment"} <= set(sections)


def test_failures_come_before_charts_and_tables_and_name_their_command():
    text = whole()

    assert (
        text.index('id="failures"') < text.index('id="grid"') < text.index('id="charts"') < text.index('id="accuracy"')
    )
    assert text.count("<b>again</b>") == 3
    assert "npu-smi info: look whether" in text


def test_what_is_said_is_escaped_everywhere():
    evil = "<script>alert(1)</script>&\"'"
    record = Record(CASE, "numerics", "FAIL", evil, evil, {}, (), {evil: evil, "next": evil})
    text = page(run_of([record, Record(CASE, "export", "SKIP", evil), agreed(CASE, evil)], host=evil), changes="")

    assert "<script>alert" not in text
    Page(text)


def test_charts_show_published_and_target_lines_percentiles_and_bounds():
    target = Record(CASE, "targets", "PASS", "x", "t4", {"other": 600.0, "bound": 1.6, "measured": 1000.0})
    text = page(run_of([timed(CASE, 1000.0, published=900.0), target, agreed(CASE, "top1")]))

    assert 'class="target"' in text
    assert "target against t4" in text
    assert 'class="s0 p"' in text  # published
    assert "p99.9: 24,000 us" in text
    assert "0.1 % PASS" in text
    assert 'class="bound"' in text


def section(text, name):
    start = text.index(f'<section id="{name}">')
    return text[start : text.index("</section>", start)]


def test_charts_of_a_small_run_are_open_and_of_a_large_one_those_of_the_first_model():
    cases = [case for case in matrix.cases() if str(case).endswith("-cpu-fp32-bs1")]
    small, large = (section(text, "charts") for text in (page(run_of(whole_matrix(cases))), whole()))

    assert small.count("<details open>") == small.count("<details") == len(cases)
    assert large.count("<details open>") == 1
    assert large.index("<details open>") < large.index("<details>")


def test_beside_the_overview_stands_how_many_times_what_is_asked_a_throughput_is():
    asked = timed(CASE, 1000.0, bound=500.0)

    assert "throughput as a multiple of what is asked" in section(page(run_of([asked])), "grid")
    assert "<svg" not in section(page(run_of([timed(CASE, 1000.0)])), "grid")


@pytest.mark.parametrize(("reasons", "opened"), [(3, True), (4, False)])
def test_a_few_reasons_for_what_is_undecided_are_shown(reasons, opened):
    why = ("the windows vary", "too few images", "a clock moved", "no bound")[:reasons]
    records = [Record(CASE, "numerics", "INCONCLUSIVE", text, f"m{n}") for n, text in enumerate(why)]

    assert ("<details open>" in section(page(run_of(records)), "undecided")) is opened


def test_without_figures_there_are_no_charts_and_no_empty_tables():
    text = page(run_of([Record(CASE, "export", "ERROR", "broken")]))

    assert "<svg" not in text
    assert 'id="throughput"' not in text


def test_every_fact_of_a_record_is_in_the_page():
    text = page(run_of([replace(timed(CASE, 100.0), facts={"engine": "abc/def.om", "list": [1, 2]})]))

    assert '["engine", "abc/def.om"]' in text
    assert '["list", "[1, 2]"]' in text


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_button_of_a_record_opens_its_own_facts(lang):
    """Also where the table is in another order than the run, and its metrics have other names."""
    told = {"mean_accuracy": "PASS", "tail": "FAIL", "top1": "INCONCLUSIVE", "ap": "PASS"}
    records = [replace(agreed(CASE, metric), outcome=outcome, text=f"said of {metric}", facts={"own": metric})
               for metric, outcome in told.items()]  # fmt: skip
    text = page(run_of(records), lang)

    facts = json.loads(re.search(r'id="facts"[^>]*>(.*?)</script>', text, re.DOTALL)[1])
    opened = re.findall(r"said of (\w+)</td><td><button[^>]*data-f=\"(\d+)\"", text)
    assert len(opened) == len(told)
    for metric, place in opened:
        assert ["own", metric] in [facts["pairs"][pair] for pair in facts["records"][int(place)]]


def test_a_stopped_run_says_so():
    run = replace(run_of([timed(CASE, 1.0)]), footer={"asked": 9, "stopped": "STOPPED before its end"})

    assert page(run).count("STOPPED before its end") == 2  # in the title and in the banner
    assert "STOPPED before its end" not in page(run, "zh")


def test_a_next_step_that_is_a_command_is_shown_as_one():
    records = [Record(CASE, "numerics", "FAIL", "x", facts={"next": "chipproof diagnose <it>"})]

    assert "<code>chipproof diagnose &lt;it&gt;</code>" in page(run_of(records))
    assert "`chipproof diagnose <it>`" in ci.markdown(run_of(records))
    records = [Record(CASE, "numerics", "FAIL", "x", facts={"next": "look at <it>"})]
    assert "look at &lt;it&gt;" in page(run_of(records))
    assert "<code>look" not in page(run_of(records))


SHAPE = {"output": "class", "sample": 0, "largest": 1.0, "counts": [1] * 41, "heat": ["0123450123" * 4] * 40,
         "plane": [400, 40], "wrapped": False}  # fmt: skip


def pictured(folder, case, count=3, outcome="FAIL", noise=False):
    """A record of accuracy with pictures, written into the folder of results."""
    (folder / "run").mkdir(exist_ok=True)
    facts = []
    for n in range(count):
        body = b"JPEG " + str((case, n)).encode() + b"x" * (40_000 if noise else 0)
        (folder / "run" / f"{case}.{n}.jpg").write_bytes(body)
        boxes = [[10, 10, 60, 80, 0.9, 1], [100, 20, 150, 70, 0.8, 0]]
        facts.append({
            "file": f"run/{case}.{n}.jpg", "sha256": hashlib.sha256(body).hexdigest(), "image": f"<picture {n}>",
            "width": 480, "height": 300, "task": "faces", "counts": [2, 1, 2, 1], "chip": boxes, "reference": boxes,
        })  # fmt: skip
    return replace(agreed(case, "ap_easy", outcome), facts={"pictures": facts, "images": 36})


def cells(line, wanted="figure"):
    return re.findall(rf"<{wanted}[ >].*?</{wanted}>", line, re.DOTALL)


def test_pictures_are_in_the_page_with_both_sets_of_boxes_and_a_legend(tmp_path):
    text = page(run_of([pictured(tmp_path, CASE)]), folders=[tmp_path])
    section = text[text.index('<section id="differing">') : text.index('<section id="grid">')]
    figures = cells(section)

    Page(text)
    assert len(figures) == 3
    assert base64.b64encode((tmp_path / "run" / f"{CASE}.1.jpg").read_bytes()).decode() in figures[1]
    assert '<img loading="lazy" src="data:image/jpeg;base64,' in figures[0]
    assert "&lt;picture 0&gt;" in figures[0]
    assert "<picture" not in figures[0]
    assert section.index("<details") < section.index("<figure")
    for one in ('class="chip alone"', 'class="reference alone"', 'class="chip"', 'class="reference"'):
        assert one in figures[0]
    assert "svg .reference { stroke: #ffd23f; stroke-dasharray" in text  # dashed: told apart without colour
    for said in ("dashed: the reference", "solid: the chip", "thick: the other has no such box"):
        assert said in section
    assert "虚线：参考实现" in page(run_of([pictured(tmp_path, CASE)]), "zh", folders=[tmp_path])


def test_a_failure_leads_to_its_pictures(tmp_path):
    text = page(run_of([pictured(tmp_path, CASE)]), folders=[tmp_path])
    found = Page(text)

    assert "#differ-1" in found.links
    assert "differ-1" in found.ids
    assert text.index('id="failures"') < text.index('id="differing"') < text.index('id="grid"')


def test_differences_of_a_failed_output_are_drawn_and_not_listed(tmp_path):
    record = Record(CASE, "numerics", "FAIL", "cosine 0.5", "", {}, (), {"differences": SHAPE, "worst": {"rms": 1}})
    text = page(run_of([record]))

    assert "output class, image 0 of the batch" in text
    assert "40 rows" not in text
    assert "400 rows x 40 columns" in text
    assert '"worst"' in text
    assert '"differences"' not in text
    assert "dashed: the reference" not in text


def test_at_most_twelve_pictures_of_what_is_worst_and_of_as_many_chips_as_can_be(tmp_path):
    one, again, other = (
        Case.parse(f"regnety_016-{chip}-fp16-bs{n}") for chip, n in (("t4", 1), ("t4", 4), ("cuda", 1))
    )
    passed = pictured(tmp_path, Case.parse("regnety_016-cpu-fp16-bs1"), 3, "PASS")
    records = [passed, *(pictured(tmp_path, case, 5) for case in (one, again, other))]
    text = page(run_of(records), folders=[tmp_path])
    section = text[text.index('<section id="differing">') : text.index('<section id="grid">')]

    assert len(cells(section)) == 12
    assert re.findall(r"ap_easy: (\S+)</summary>", section) == [str(one), str(other), str(again)]


@pytest.mark.parametrize(("outcome", "opened"), [("FAIL", True), ("INCONCLUSIVE", False), ("PASS", False)])
def test_pictures_are_open_at_once_only_where_something_failed(tmp_path, outcome, opened):
    text = page(run_of([pictured(tmp_path, CASE, outcome=outcome)]), folders=[tmp_path])

    assert ('<details id="differ-1" open>' in text) is opened
    assert len(cells(text)) == 3


def test_a_picture_that_is_gone_costs_nothing_else(tmp_path):
    record = pictured(tmp_path, CASE)
    (tmp_path / "run" / f"{CASE}.0.jpg").unlink()
    (tmp_path / "run" / f"{CASE}.1.jpg").write_bytes(b"another")

    assert len(cells(page(run_of([record]), folders=[tmp_path]))) == 1
    assert 'id="differing"' not in page(run_of([record]))
    assert str(CASE) in page(run_of([record]))


@pytest.mark.slow
def test_a_whole_matrix_that_differs_everywhere_is_below_5_mb(tmp_path):
    """Twelve pictures of 40 kB and twelve maps, whatever there is."""
    records = heavy(whole_matrix())
    cases = list(dict.fromkeys(r.case for r in records))
    more = [pictured(tmp_path, case, noise=True) for case in cases]
    more += [Record(case, "numerics", "FAIL", "x", "rows", {}, (), {"differences": SHAPE}) for case in cases]
    text = page(run_of([*records, *more]), folders=[tmp_path])

    assert len(text.encode()) < 5e6
    assert text.count("<img ") == 12
    assert text.count("of the batch (from 0)") == 12


def test_pictures_that_are_large_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(html, "MOST", 85_000)

    assert page(run_of([pictured(tmp_path, CASE, noise=True)]), folders=[tmp_path]).count("<img ") == 2


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture
def browse(browser, tmp_path):
    """Opens a page; it may ask for nothing but itself, and complain of nothing, until the test ends."""
    opened, complaints, asked = [], [], []

    def show(text, width=1280, scheme="light"):
        file = tmp_path / "page.html"
        file.write_text(text, encoding="utf-8")
        seen = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        opened.append(seen)
        seen.on("console", lambda message: complaints.append(message.text))
        seen.on("pageerror", lambda error: complaints.append(str(error)))
        seen.on("request", lambda request: asked.append(request.url))
        seen.goto(file.as_uri())
        return seen

    yield show
    for seen in opened:
        seen.close()
    assert complaints == []
    assert [url for url in asked if not url.startswith("data:")] == [(tmp_path / "page.html").as_uri()] * len(opened)


def every_part(folder, lang="en"):
    """A page that has every part that a page can have."""
    picture = cv2.imencode(".jpg", np.zeros((300, 480, 3), np.uint8))[1].tobytes()
    cases = [case for case in matrix.cases() if case.chip in ("ascend310", "mlu370_x4", "t4") and case.batch == 16]
    records = [*whole_matrix(cases), pictured(folder, CASE), *past([100.0], ["CANN 6"])[0].records]
    for fact in records[-2].facts["pictures"]:
        (folder / fact["file"]).write_bytes(picture)
        fact["sha256"] = hashlib.sha256(picture).hexdigest()
    records += [
        Record(CASE, "numerics", "FAIL", "cosine 0.5", "rows", {}, (), {"differences": SHAPE}),
        Record(CASE, "targets", "INCONCLUSIVE", "1.5 x t4; asked 1.6", "t4", {"other": 600.0, "bound": 1.6}),
        Record(Case.parse("regnety_016-cuda-fp16-bs1"), "export", "SKIP", "cuda is absent; next: install it"),
    ]
    changed = compare.compare(run_of(whole_matrix(cases, broken=False)), run_of(records))
    before = past([100.0] * 9 + [90.0] * 6, ["CANN 6"] * 9 + ["CANN 7"] * 6)
    return page(run_of(records), lang, compare.html(changed, lang), [folder], before)


OPENED = """() => {
  for (const part of document.querySelectorAll("details")) part.open = true;
  for (const part of document.querySelectorAll("main section")) part.style.contentVisibility = "visible";
  document.querySelector("#records button[data-f]").click();
}"""
WIDER = """() => [...document.querySelectorAll("table, svg, .card, p, h1, h2, h3, pre")]
  .filter(part => part.getBoundingClientRect().right > innerWidth + 0.5).map(part => part.outerHTML.slice(0, 200))"""


@pytest.mark.slow
@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing_serious_and_no_line_is_wider_than_the_window(browse, tmp_path, width, scheme, lang):
    from axe_playwright_python.sync_playwright import Axe

    seen = browse(every_part(tmp_path, lang), width, scheme)
    seen.evaluate(OPENED)
    found = Axe().run(seen).response["violations"]

    told = [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")]
    assert told == []
    assert seen.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.slow
def test_the_overview_of_the_whole_matrix_fits_a_desk(browse):
    seen = browse(page(run_of(whole_matrix())))

    wide, there = seen.evaluate(
        "(part => [part.scrollWidth, part.clientWidth])(document.querySelector('#grid .scroll'))"
    )
    assert wide <= there


IN_SIGHT = """([name, left]) => {
  const part = document.querySelector(`#${name} .scroll`), row = part.querySelector("tbody tr");
  part.scrollLeft = left * part.scrollWidth;
  const ends = cell => [cell.getBoundingClientRect().left, cell.getBoundingClientRect().right];
  const [from, to] = ends(part), cells = [...row.querySelectorAll("th"), row.cells[0], row.querySelector(".verdict")];
  return [part.scrollWidth > part.clientWidth, cells.filter(Boolean).every(cell => {
    const [begin, end] = ends(cell);
    return begin >= from - 1 && end <= to + 1 && document.elementFromPoint((begin + end) / 2,
      cell.getBoundingClientRect().top + 3) === cell;
  })];
}"""


@pytest.mark.slow
@pytest.mark.parametrize(("width", "name"), [(390, "grid"), (390, "throughput"), (1280, "throughput")])
def test_a_row_shows_its_names_and_its_verdict_wherever_its_table_is_scrolled(browse, width, name):
    seen = browse(page(run_of(whole_matrix())), width)
    seen.evaluate("name => document.getElementById(name).scrollIntoView()", name)
    seen.wait_for_function("scrollY > 0")

    assert [seen.evaluate(IN_SIGHT, [name, part]) for part in (0, 0.4, 1)] == [[True, True]] * 3


@pytest.mark.slow
def test_a_chart_grows_with_the_letters_of_a_large_screen_and_not_on_paper(browse):
    seen = browse(page(run_of([timed(CASE, 100.0)])), 3840)
    wide = "document.querySelector('#charts svg').getBoundingClientRect().width"
    large = seen.evaluate(wide)
    seen.emulate_media(media="print")

    assert large > 450
    assert seen.evaluate(wide) == pytest.approx(340, abs=1)


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_a_link_to_a_table_shows_its_heading_below_the_filter(browse, width):
    seen = browse(page(run_of(whole_matrix())), width)
    seen.click("nav a[href='#throughput']")
    seen.wait_for_function("scrollY > 0")

    bar, heading = (seen.locator(name).bounding_box() for name in (".filter", "#throughput h2"))
    assert bar["y"] + bar["height"] <= heading["y"] < 400


@pytest.mark.slow
def test_on_paper_every_column_is_there(browse, tmp_path):
    """A4 on its side without its margins is 1054 pixels wide; what is wider is cut off."""
    seen = browse(every_part(tmp_path), 1054)
    seen.emulate_media(media="print")
    seen.evaluate(OPENED)

    assert seen.evaluate(WIDER) == []
    assert seen.evaluate("document.documentElement.scrollWidth") <= 1054
    assert seen.pdf(prefer_css_page_size=True).startswith(b"%PDF")


@pytest.mark.slow
def test_filter_sorting_and_details_work_in_a_browser(browse):
    script = """() => {
      const q = s => document.querySelector(s), told = [];
      const every = name => [...document.querySelectorAll(`#${name} tbody tr`)];
      const shown = name => every(name).filter(r => !r.hidden && !r.classList.contains("facts"));
      q("#f-verdict").value = "FAIL"; q("#f-verdict").dispatchEvent(new Event("input"));
      told.push(shown("records").length);
      q("#f-chip").value = "t4"; q("#f-chip").dispatchEvent(new Event("input"));
      told.push(shown("records").length);
      q("#f-verdict").value = q("#f-chip").value = ""; q("#f-chip").dispatchEvent(new Event("input"));
      const head = [...document.querySelectorAll("#throughput th")].find(h => h.textContent.startsWith("img/s"));
      head.firstChild.click();
      const cells = shown("throughput").map(r => parseFloat(r.cells[head.cellIndex].textContent.replace(/,/g, "")));
      told.push(cells.every((v, i) => !i || v >= cells[i - 1]), head.getAttribute("aria-sort"));
      q("#records button[data-f]").click();
      told.push(q("tr.facts").textContent.includes("simulated"));
      return told;
    }"""
    told = browse(page(run_of(whole_matrix()))).evaluate(script)

    failed = [r for r in whole_matrix() if r.outcome is Outcome.FAIL]
    assert told == [len(failed), sum(r.case.chip == "t4" for r in failed), True, "ascending", True]


def runs_of(records, days):
    """The figures of records day after day with some noise, as if real."""
    chance = np.random.default_rng(0)
    figures = [r for r in records if r.values.get("measured")]
    runs = []
    for day in range(days):
        mine = [replace(r, values={"measured": r.values["measured"] * math.exp(chance.normal(0, 0.01))}, marks=())
                for r in figures]  # fmt: skip
        runs.append(run_of(mine, time=f"2026-01-{day + 1:02d}T00:00:00Z"))
    return runs


def test_a_figure_with_a_history_is_a_line_with_its_change_and_what_changed_there():
    runs = past([100.0] * 9 + [93.0] * 6, ["CANN 6"] * 9 + ["CANN 7"] * 6)
    text = page(runs[-1], past=runs)
    section = text[text.index('<section id="trends">') : text.index('<div class="filter"')]

    Page(text)
    assert "ascend310p fp16 bs16 throughput, img/s" in section
    assert "regnety_016: 1 figure, 1 changed" in section
    assert "since 2026-01-10T00:00:00Z: 100" in section
    assert "ascend310p version: CANN 6 -&gt; CANN 7" in section
    assert section.count('class="bound"') == 1
    assert 'id="trends"' not in page(runs[-1], past=runs[-1:])
    assert 'id="trends"' not in page(
        run_of([agreed(matrix.cases()[0], "top1")]), past=runs
    )  # of cases that are in the report


@pytest.mark.slow
def test_lines_over_time_of_the_whole_matrix_leave_the_page_below_5_mb():
    run = run_of(heavy(whole_matrix()))
    text = page(run, past=runs_of(run.records, PAST))

    assert len(text.encode()) < 5e6
    assert text.count("<figure><svg") > 1000
    assert "more figures: chipproof history CASE" in text


@pytest.mark.slow
def test_the_head_line_is_that_of_the_records():
    run = run_of(whole_matrix())

    assert head_line(run.records, ALL) in page(run)
