// Sorts the table by a click on a heading, and shows the rows that hold what was typed or chosen.
(() => {
  const table = document.querySelector("table.samples");
  const body = table.tBodies[0];
  const search = document.querySelector("#search");
  const state = document.querySelector("#state");
  const shown = document.querySelector("#shown");
  const all = Array.from(body.rows);
  const filter = () => {
    const wanted = search.value.toLowerCase();
    let count = 0;
    for (const row of all) {
      const fits = (state.value === "all" || row.dataset.state === state.value)
        && (wanted === "" || row.textContent.toLowerCase().includes(wanted));
      row.hidden = !fits;
      count += fits ? 1 : 0;
    }
    shown.textContent = `${count} / ${all.length}`;
  };
  const key = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const compare = (a, b) => {
    const [x, y] = [Number(a), Number(b)];
    return a !== "" && b !== "" && !Number.isNaN(x) && !Number.isNaN(y) ? x - y : a.localeCompare(b);
  };
  const headings = Array.from(table.tHead.rows[0].cells);
  headings.forEach((heading, column) => {
    const sort = () => {
      const up = heading.getAttribute("aria-sort") !== "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      all.sort((a, b) => (up ? 1 : -1) * compare(key(a, column), key(b, column)));
      all.forEach((row) => body.append(row));
    };
    heading.tabIndex = 0;
    heading.addEventListener("click", sort);
    heading.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
  });
  search.addEventListener("input", filter);
  state.addEventListener("change", filter);
  filter();
})();
