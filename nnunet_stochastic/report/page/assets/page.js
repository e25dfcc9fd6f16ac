"use strict";
// The table of cases, its filters, and what happens when a case is selected. Names are put in as text, never as HTML.

(() => {
  const byId = (id) => document.getElementById(id);
  const read = (id) => JSON.parse(byId(id).textContent);
  const { columns, ofEpistemic, rows } = read("data-rows");
  const thumbnails = read("data-thumbnails");
  const volumes = read("data-volumes");
  const TITLES = { dice: "Dice", ged_iou: "GED (1 - IoU)", ged_dice: "GED (1 - Dice)", ratio: "EU/AU", volume_ml: "ml" };
  const BETTER = { dice: "higher", ged_iou: "lower", ged_dice: "lower" };
  const WIDTHS = { dice: 50, volume_ml: 50, TU: 57, AU: 57, EU: 74, ratio: 66 }; // pixels; a mark may stand behind the last two
  const narrow = matchMedia("(max-width: 700px)").matches; // room for one picture beside the numbers
  const beside = () => matchMedia("(min-width: 1250px)").matches; // as in page.css
  const text = (value) => (value === null || value === undefined ? "–" : Math.abs(value) < 0.001 && value !== 0 ? value.toExponential(2) : String(Number(value.toPrecision(3))));
  const shown = (row, column) => text(row[column]) + (row[column] !== null && ofEpistemic.includes(column) ? row.mark : "");

  const several = (column) => new Set(rows.map((row) => row[column])).size > 1;
  const [severalSets, severalModels] = [several("set"), several("model")];
  const whose = (row) => [severalSets ? row.set : null, severalModels ? row.model : null].filter(Boolean).join(" · ");

  const element = (tag, className, content) => {
    const made = document.createElement(tag);
    made.className = className;
    made.textContent = content;
    return made;
  };
  const picture = (cell) => {
    const row = cell.getData();
    const source = thumbnails[row.id];
    if (!source) return element("span", "no-thumbnail", row.note || "no thumbnail");
    const image = element("img", "thumbnail", "");
    image.src = source;
    image.alt = "";
    return image;
  };
  const name = (cell) => {
    const row = cell.getData();
    const box = element("span", "case", row.case + " ");
    if (row.id in volumes) box.append(element("span", "mark", "view"));
    if (row.note) {
      const sign = element("span", "warning", " ⚠");
      sign.title = row.note;
      box.append(sign);
    }
    const more = whose(row);
    if (more) box.append(document.createElement("br"), element("span", "hint", more));
    if (narrow) box.append(picture(cell));
    return box;
  };
  const known = (column) => rows.some((row) => row[column] !== null);
  const emptyLast = { sorter: "number", sorterParams: { alignEmptyValues: "bottom" } };
  const table = new Tabulator("#table", {
    data: rows, index: "id", layout: "fitDataFill", rowHeight: narrow ? 150 : 88, selectableRows: 1, placeholder: "No case matches.",
    initialSort: severalModels || !known("TU") ? [] : [{ column: "TU", dir: "desc" }], columnDefaults: { vertAlign: "middle" },
    columns: [
      { title: "slice", field: "thumbnail", formatter: picture, headerSort: false, width: 170, frozen: true, visible: !narrow },
      { title: "case", field: "case", formatter: name, sorter: "alphanum", width: 132, frozen: true },
      ...columns.filter(known).map((column) => ({
        title: TITLES[column] || column, field: column, cssClass: ["numeric", BETTER[column]].filter(Boolean).join(" "), width: WIDTHS[column] || 52, hozAlign: "right", formatter: (cell) => shown(cell.getData(), column), ...emptyLast,
        headerSortStartingDir: column === "dice" ? "asc" : "desc",
      })),
    ],
  });

  for (const [id, field] of [["choose-set", "set"], ["choose-model", "model"]]) {
    byId(id).append(...[...new Set(rows.map((row) => row[field]))].map((value) => new Option(value, value)));
    byId(id).parentElement.hidden = !several(field);
  }
  const matches = (row) => row.case.toLowerCase().includes(byId("search").value.trim().toLowerCase())
    && (!byId("choose-set").value || row.set === byId("choose-set").value)
    && (!byId("choose-model").value || row.model === byId("choose-model").value)
    && (!byId("only-viewable").checked || row.id in volumes);
  const filter = () => table.setFilter(matches);
  byId("search").addEventListener("input", filter);
  for (const id of ["choose-set", "choose-model", "only-viewable"]) byId(id).addEventListener("change", filter);
  table.on("dataFiltered", (_, found) => { byId("count").textContent = `${found.length} of ${rows.length}`; });

  const viewer = new CaseViewer({
    canvas: byId("canvas"), map: byId("choose-map"), opacity: byId("opacity"), scale: byId("scale"), scaleValue: byId("scale-value"),
    plane: byId("choose-plane"), slice: byId("slice"), sliceValue: byId("slice-value"), smooth: byId("smooth"),
    legend: byId("legend"), location: byId("location"), samples: byId("samples"), sampleValue: byId("sample-value"),
  });
  const show = async (row) => {
    byId("case-name").textContent = [row.case, whose(row)].filter(Boolean).join(" · ");
    byId("case-numbers").textContent = columns.filter((column) => row[column] !== null).map((column) => `${TITLES[column] || column} ${shown(row, column)}`).join(", ");
    const viewable = row.id in volumes;
    const hint = "The volumes of this case are not in this page: make it again with more --viewer_cases or --max_megabytes.";
    byId("case-note").textContent = [row.note, viewable ? null : hint].filter(Boolean).join(" ");
    byId("stage").hidden = !viewable;
    byId("large-thumbnail").hidden = viewable || !thumbnails[row.id];
    byId("large-thumbnail").src = thumbnails[row.id] || "data:,";
    if (!viewable) return;
    try {
      await viewer.show(volumes[row.id], row.mark);
      byId("viewer").dataset.shown = row.id;
    } catch (error) {
      byId("stage").hidden = true;
      byId("case-note").textContent = error.message;
    }
  };
  let opened = false; // the first case is selected by the page, and must not scroll it
  const reveal = () => {
    if (opened && !beside()) byId("viewer").scrollIntoView({ block: "start" });
    opened = true;
  };
  table.on("rowSelected", (row) => show(row.getData()).then(reveal));
  byId("previous-sample").addEventListener("click", () => viewer.stepSample(-1));
  byId("next-sample").addEventListener("click", () => viewer.stepSample(1));
  byId("viewer").addEventListener("keydown", (event) => {
    if (!["ArrowLeft", "ArrowRight"].includes(event.key) || ["INPUT", "SELECT"].includes(event.target.tagName)) return;
    event.preventDefault();
    viewer.stepSample(event.key === "ArrowRight" ? 1 : -1);
  });
  // Says where a table goes on beyond its right edge.
  const tellOfMore = () => {
    for (const box of document.querySelectorAll(".scroll")) {
      box.previousElementSibling.hidden = box.scrollWidth <= box.clientWidth + 1;
    }
    const holder = document.querySelector("#table .tabulator-tableholder");
    if (holder) byId("table").previousElementSibling.hidden = holder.scrollWidth <= holder.clientWidth + 1;
  };
  addEventListener("resize", tellOfMore);
  tellOfMore();
  const step = (direction) => {
    const active = table.getRows("active");
    const selected = table.getSelectedRows()[0];
    const position = selected ? active.findIndex((row) => row.getIndex() === selected.getIndex()) + direction : 0;
    if (position < 0 || position >= active.length) return;
    table.deselectRow();
    active[position].select();
    table.scrollToRow(active[position], "nearest", false);
  };
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  table.on("tableBuilt", () => {
    byId("count").textContent = `${rows.length} of ${rows.length}`;
    if (rows.length) step(1);
    tellOfMore();
  });
})();
