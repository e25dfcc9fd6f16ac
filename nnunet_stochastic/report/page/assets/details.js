"use strict";
// What is listed beside the viewer of a case: its structures, and its lesions, of which a click shows the place.

// Three significant digits, zeros at the end too: 0.900 stands below 0.874.
const digits = (value) => {
  const text = value.toPrecision(3);
  return text.includes("e") ? String(Number(text)) : text;
};

const formatted = (value, kind) => {
  if (value === null || value === undefined) return "–";
  if (kind === "text") return value;
  if (kind === "count") return String(value);
  if (kind === "share") return `${digits(100 * value)} %`;
  return Math.abs(value) < 0.001 && value !== 0 ? value.toExponential(2) : digits(value);
};

const made = (tag, className, content) => {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = content;
  return element;
};

class CaseDetails {
  // data: columns, and rows of each case; goTo: function of the number of a lesion, from 0.
  constructor(data, { lesions, structures }, goTo) {
    this.data = data;
    this.elements = { lesions, structures };
    this.goTo = goTo;
  }

  // Values of a structure of a case by field, or undefined.
  structure(id, name) {
    const fields = fieldsOf(this.data.structureColumns);
    const row = this.data.structures[id].find((values) => values[fields.indexOf("structure")] === name);
    return row && Object.fromEntries(fields.map((field, index) => [field, row[index]]));
  }

  structureNames() {
    const place = fieldsOf(this.data.structureColumns).indexOf("structure");
    return [...new Set(this.data.structures.flat().map((row) => row[place]))];
  }

  // viewable: whether the viewer shows the case, so that lesions have a place in it.
  show(id, viewable) {
    const [lesions, structures] = [this.data.lesions[id], this.data.structures[id]];
    this.fill("lesions", lesions.length ? `Lesions (${lesions.length})` : "", this.data.lesionColumns, lesions, (row, index) => {
      if (!viewable) return row[0];
      const button = made("button", "", row[0]);
      button.type = "button";
      button.title = "show its centre";
      button.addEventListener("click", () => {
        for (const other of this.elements.lesions.querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button));
        this.goTo(index);
      });
      button.setAttribute("aria-pressed", "false");
      return button;
    });
    const [first, ...others] = this.data.structureColumns;
    this.fill("structures", structures.length > 1 ? `Structures (${structures.length})` : "", others, structures, (row) => row[0], first && first.title);
  }

  // A table under a heading; the first cell of a row is what `head` makes of it, and the others have its values.
  fill(name, title, columns, rows, head, corner = "") {
    const box = this.elements[name];
    box.hidden = !title;
    if (!title) { box.replaceChildren(); return; }
    const fields = fieldsOf(columns);
    const used = columns.filter((column) => rows.some((row) => row[1 + fields.indexOf(column.field)] !== null));
    const table = made("table", "", "");
    const heading = table.createTHead().insertRow();
    for (const text of [corner, ...used.map((column) => column.title)]) {
      const cell = made("th", "", text);
      cell.scope = "col";
      heading.append(cell);
    }
    const body = table.createTBody();
    rows.forEach((row, index) => {
      const line = body.insertRow();
      const cell = made("th", "", "");
      cell.scope = "row";
      cell.append(head(row, index));
      line.append(cell);
      for (const column of used) {
        const place = 1 + fields.indexOf(column.field);
        const value = made("td", column.kind === "text" ? "words" : "number", column.kind === "text" && row[place] === null ? "" : formatted(row[place], column.kind));
        if (column.below && row[place + 1]) value.append(made("span", "interval", row[place + 1]));
        line.append(value);
      }
    });
    const scroll = made("div", "wide", "");
    scroll.tabIndex = 0;
    scroll.append(table);
    box.replaceChildren(made("h4", "", title), scroll);
  }
}

// Names of the values of a row: each column's, and that of the text below it.
function fieldsOf(columns) { return columns.flatMap((column) => (column.below ? [column.field, column.below] : [column.field])); }
