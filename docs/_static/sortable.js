// Tables of results: a heading sorts by its column, again the other way round, and long tables have a filter. Without this
// file they are plain tables. A heading is a button, so that it works by keyboard and is read out.
"use strict";

const MANY = 10; // rows from which a filter is worth its place

// the number at the beginning of a cell, such as −2.00 of "−2.00 to −0.71" and 1.13 of "× 1.13"; null where there is none
function numberOf(text) {
  const found = text.replace(/−/g, "-").replace(/(\d),(?=\d{3})/g, "$1").match(/^[×<\s]*([+-]?\d+(\.\d+)?)/);
  return found ? Number(found[1]) : null;
}

function compare(a, b) {
  const [x, y] = [numberOf(a), numberOf(b)];
  if (x !== null && y !== null) return x - y;
  return a.localeCompare(b);
}

function sortBy(table, column, direction) {
  const body = table.tBodies[0];
  const text = (row) => row.cells[column].textContent.trim();
  const isEmpty = (row) => text(row) === "" || text(row) === "–";
  const rows = [...body.rows];
  rows.sort((a, b) => isEmpty(a) - isEmpty(b) || direction * compare(text(a), text(b))); // empty ones last, always
  body.append(...rows);
}

function makeSortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...(head.querySelector("p") || head).childNodes);
    button.addEventListener("click", () => {
      const direction = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
      sortBy(table, column, direction);
    });
    head.replaceChildren(button);
  });
}

function addFilter(table) {
  const label = document.createElement("label");
  label.className = "table-filter";
  const input = document.createElement("input");
  input.type = "search";
  input.placeholder = "cutmix, better, ece …";
  const shown = document.createElement("span");
  shown.setAttribute("role", "status");
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = [...table.tBodies[0].rows];
    rows.forEach((row) => {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    });
    shown.textContent = words.length ? `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows` : "";
  });
  label.append("Only rows with", input, shown);
  (table.closest(".table-wrapper") || table).before(label);
}

for (const table of document.querySelectorAll("article table")) {
  if (!table.tHead || table.tBodies.length !== 1 || table.tBodies[0].rows.length < 4) continue;
  makeSortable(table);
  if (table.tBodies[0].rows.length >= MANY) addFilter(table);
}
