// Tables of the report: a click on a heading sorts, fields above a long table filter its rows.
(function () {
  "use strict";
  const LONG = 8; // rows from which a table has filters
  const CHOICES = 24; // different entries up to which a column of words has a menu
  const NUMBER = /^[+\-−]?[\d,]*\.?\d+/;

  const text = (row, at) => (row.cells[at] ? row.cells[at].textContent.trim() : "");
  const value = (entry) => parseFloat(entry.match(NUMBER)[0].replace(/,/g, "").replace("−", "-"));

  function isNumeric(rows, at) {
    const entries = rows.map((row) => text(row, at)).filter(Boolean);
    return entries.length > 0 && entries.every((entry) => NUMBER.test(entry));
  }

  function sort(table, rows, at, heading) {
    const numeric = isNumeric(rows, at);
    const first = numeric ? "descending" : "ascending"; // large numbers and A first
    const second = numeric ? "ascending" : "descending";
    const order = heading.getAttribute("aria-sort") === first ? second : first;
    const sign = order === "ascending" ? 1 : -1;
    const sorted = rows.slice().sort((a, b) => {
      const [left, right] = [text(a, at), text(b, at)];
      if (!left || !right) return (left ? 0 : 1) - (right ? 0 : 1); // empty entries come last
      return sign * (numeric ? value(left) - value(right) : left.localeCompare(right));
    });
    table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", order);
    table.tBodies[0].append(...sorted);
  }

  function filters(table, rows, headings) {
    const box = document.createElement("div");
    box.className = "filters";
    const chosen = new Map();
    const search = document.createElement("input");
    search.type = "search";
    search.placeholder = "Filter rows";
    search.setAttribute("aria-label", "Filter rows");
    const count = document.createElement("span");
    const apply = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      rows.forEach((row) => {
        const all = row.textContent.toLowerCase();
        const fits =
          words.every((word) => all.includes(word)) &&
          [...chosen].every(([at, entry]) => !entry || text(row, at) === entry);
        row.hidden = !fits;
        shown += fits ? 1 : 0;
      });
      count.textContent = shown + " of " + rows.length + " rows";
    };
    search.addEventListener("input", apply);
    box.append(search);
    headings.forEach((heading, at) => {
      const entries = [...new Set(rows.map((row) => text(row, at)))].sort();
      const few = entries.length > 1 && entries.length <= Math.min(CHOICES, rows.length / 2);
      if (!few || isNumeric(rows, at)) return;
      const menu = document.createElement("select");
      const name = heading.textContent.trim();
      menu.setAttribute("aria-label", name);
      menu.append(new Option(name + ": all", ""));
      entries.filter(Boolean).forEach((entry) => menu.append(new Option(entry, entry)));
      menu.addEventListener("change", () => {
        chosen.set(at, menu.value);
        apply();
      });
      box.append(menu);
    });
    box.append(count);
    apply();
    (table.closest(".scroll, .md-typeset__scrollwrap") || table).before(box);
  }

  function enhance(table) {
    if (!table.tHead || !table.tBodies.length) return;
    const rows = [...table.tBodies[0].rows];
    if (rows.length < 2) return;
    const headings = [...table.tHead.rows[0].cells];
    if (rows.length >= LONG) filters(table, rows, headings);
    headings.forEach((heading, at) => {
      const button = document.createElement("button");
      button.className = "sort";
      button.title = "Sort";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => sort(table, rows, at, heading));
    });
  }

  const start = () => document.querySelectorAll("table").forEach(enhance);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
