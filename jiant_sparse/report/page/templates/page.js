for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if ("unsortable" in head.dataset) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows];
      const numeric = rows.some((row) => row.cells[column].dataset.v !== undefined);
      // What a numeric column does not know is null, and stays last in both directions.
      const key = (row) => {
        const cell = row.cells[column];
        if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
        return numeric || cell.classList.contains("none") ? null : cell.textContent.trim();
      };
      const compare = (a, b) => {
        if (a === null || b === null) return (a === null) - (b === null);
        const order = typeof a === "number" ? a - b
          : a.localeCompare(b, "en", { numeric: true });
        return down ? -order : order;
      };
      body.append(...rows.sort((a, b) => compare(key(a), key(b))));
    });
  });
}

// For browsers that do not open what an address points into.
const reveal = () => {
  let id = location.hash.slice(1);
  let target = document.getElementById(id);
  if (!target) {
    try { target = document.getElementById(decodeURIComponent(id)); } catch { return; }
  }
  if (!target) return;
  for (let at = target; at; at = at.parentElement) {
    if (at.localName === "details") at.open = true;
  }
  target.scrollIntoView();
};
addEventListener("hashchange", reveal);
if (location.hash) reveal();
