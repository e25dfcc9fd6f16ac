"use strict";
// The table of cases, its filters, and what happens when a case is selected. Names are put in as text, never as HTML.

(() => {
  const byId = (id) => document.getElementById(id);
  const read = (id) => JSON.parse(byId(id).textContent);
  const { columns, sort, rows } = read("data-rows");
  const thumbnails = read("data-thumbnails");
  const volumes = read("data-volumes");
  const narrow = matchMedia("(max-width: 700px)").matches; // room for one picture beside the numbers
  const beside = () => matchMedia("(min-width: 1250px)").matches; // as in page.css
  const shown = (row, column) => formatted(row[column.field], column.kind) + (row[column.field] !== null && column.of_epistemic ? row.mark : "");

  const data = read("data-details");
  const several = (column) => new Set(rows.map((row) => row[column])).size > 1;
  const [severalSets, severalModels] = [several("set"), several("model")];
  const whose = (row) => [severalSets ? row.set : null, severalModels ? row.model : null].filter(Boolean).join(" · ");

  const picture = (cell) => {
    const row = cell.getData();
    const source = thumbnails[row.id];
    if (!source) return made("span", "no-thumbnail", row.note || "no thumbnail");
    const image = made("img", "thumbnail", "");
    image.src = source;
    image.alt = "";
    return image;
  };
  const name = (cell) => {
    const row = cell.getData();
    const box = made("span", "case", row.case + " ");
    if (row.id in volumes) box.append(made("span", "mark", "view"));
    if (row.note) {
      const sign = made("span", "warning", " ⚠");
      sign.title = row.note;
      box.append(sign);
    }
    const more = whose(row);
    if (more) box.append(document.createElement("br"), made("span", "hint", more));
    if (narrow) box.append(picture(cell));
    if (narrow && row.reason) box.append(made("span", "hint", row.reason));
    return box;
  };
  const value = (column) => (cell) => {
    const row = cell.getData();
    const text = shown(row, column);
    if (!column.below || !row[column.below]) return column.kind === "text" ? made("span", "words", text) : text;
    const box = made("span", "", text);
    box.append(made("span", "interval", row[column.below]));
    return box;
  };
  const known = (column) => rows.some((row) => row[column.field] !== null && row[column.field] !== undefined);
  const BETTER = { 1: "higher", "-1": "lower" };
  const emptyLast = { sorterParams: { alignEmptyValues: "bottom" } };
  const table = new Tabulator("#table", {
    data: rows.map((row) => ({ ...row })), index: "id", layout: "fitDataFill", rowHeight: narrow ? (rows.some((row) => row.reason) ? 240 : 150) : 88, selectableRows: 1, placeholder: "No case matches.",
    initialSort: sort ? [{ column: sort[0], dir: sort[1] }] : [], columnDefaults: { vertAlign: "middle" },
    columns: [
      { title: "slice", field: "thumbnail", formatter: picture, headerSort: false, width: 170, frozen: true, visible: !narrow },
      { title: "case", field: "case", formatter: name, sorter: "alphanum", width: 132, frozen: true },
      ...columns.filter((column) => known(column) && !(narrow && column.field === "reason")).map((column) => ({
        title: column.title, field: column.field, width: column.width, formatter: value(column), headerSortStartingDir: column.first, ...emptyLast,
        ...(column.kind === "text" ? { sorter: "string", cssClass: "text" } : { sorter: "number", hozAlign: "right", cssClass: ["numeric", BETTER[column.direction]].filter(Boolean).join(" ") }),
      })),
    ],
  });

  const viewer = new CaseViewer({
    canvas: byId("canvas"), map: byId("choose-map"), opacity: byId("opacity"), scale: byId("scale"), scaleValue: byId("scale-value"),
    plane: byId("choose-plane"), slice: byId("slice"), sliceValue: byId("slice-value"), smooth: byId("smooth"),
    legend: byId("legend"), location: byId("location"), samples: byId("samples"), sampleValue: byId("sample-value"),
  });
  const details = new CaseDetails(data, { lesions: byId("lesions"), structures: byId("structures") }, (lesion) => viewer.goTo(lesion));

  for (const [id, field] of [["choose-set", "set"], ["choose-model", "model"]]) {
    byId(id).append(...[...new Set(rows.map((row) => row[field]))].map((value) => new Option(value, value)));
    byId(id).parentElement.hidden = !several(field);
  }
  const matches = (row) => [row.case, row.reason, row.structure].some((text) => text && text.toLowerCase().includes(byId("search").value.trim().toLowerCase()))
    && (!byId("choose-set").value || row.set === byId("choose-set").value)
    && (!byId("choose-model").value || row.model === byId("choose-model").value)
    && (!byId("only-viewable").checked || row.id in volumes);
  const filter = () => table.setFilter(matches);
  byId("search").addEventListener("input", filter);
  for (const id of ["choose-set", "choose-model", "only-viewable"]) byId(id).addEventListener("change", filter);
  const ofStructure = byId("choose-structure");
  ofStructure.append(...details.structureNames().map((name) => new Option(name, name)));
  ofStructure.parentElement.hidden = ofStructure.options.length < 3;
  // The numbers of the chosen structure in place of those of the most doubtful one of each case.
  ofStructure.addEventListener("change", () => {
    const nothing = Object.fromEntries(fieldsOf(data.structureColumns).map((field) => [field, null]));
    const selected = table.getSelectedData()[0];
    table.replaceData(rows.map((row) => (ofStructure.value ? { ...row, ...nothing, ...details.structure(row.id, ofStructure.value) } : { ...row }))).then(() => {
      if (selected) table.selectRow(selected.id);
    });
  });
  table.on("dataFiltered", (_, found) => { byId("count").textContent = `${found.length} of ${rows.length}`; });

  const show = async (row) => {
    byId("case-name").textContent = [row.case, whose(row)].filter(Boolean).join(" · ");
    const numbers = columns.filter((column) => column.kind !== "text" && known(column) && row[column.field] !== null && row[column.field] !== undefined);
    byId("case-numbers").textContent = numbers.map((column) => `${column.title} ${shown(row, column)}${column.below && row[column.below] ? ` (${row[column.below]})` : ""}`).join(", ");
    byId("case-reason").textContent = row.reason || "";
    const viewable = row.id in volumes;
    details.show(row.id, viewable);
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
  // Tabulator's own lists are for the mouse: headings are sorted by Enter, rows are gone through by the arrow keys.
  byId("table").addEventListener("keydown", (event) => {
    const heading = event.target.closest(".tabulator-col[tabindex]");
    if (heading && ["Enter", " "].includes(event.key)) heading.querySelector(".tabulator-col-content").click();
    else if (!heading && ["ArrowDown", "ArrowUp"].includes(event.key)) step(event.key === "ArrowDown" ? 1 : -1);
    else if (!heading && event.key === "Enter") byId("viewer").focus();
    else return;
    event.preventDefault();
  });
  table.on("tableBuilt", () => {
    for (const heading of document.querySelectorAll("#table .tabulator-col.tabulator-sortable")) heading.tabIndex = 0;
    document.querySelector("#table .tabulator-tableholder").setAttribute("aria-label", "cases: arrow keys select, Enter goes to the viewer");
    byId("count").textContent = `${rows.length} of ${rows.length}`;
    if (rows.length) step(1);
    tellOfMore();
  });
})();
