// Reads the page's data and starts its parts.

/** Shows the keys and values of the config that have the words searched for. */
function startConfigSearch() {
  const input = document.getElementById("config-search");
  if (!input) return;
  const count = document.getElementById("config-count");
  const groups = [...document.querySelectorAll("#config-groups details")];
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const group of groups) {
      const rows = [...group.querySelectorAll(".facts > div")];
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
      const seen = rows.filter((row) => !row.hidden).length;
      group.hidden = seen === 0;
      group.open = words.length > 0 && seen > 0;
      found += seen;
    }
    count.textContent = words.length ? `${found} found` : "";
  });
}

const data = JSON.parse(document.getElementById("data").textContent);
startCharts(data.charts);
startFigures(data.figures);
startViewer(data.viewer);
startConfigSearch();
