"use strict";
// The page reads without this: it adds interactive charts, sorting, and the filter of test sets.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const hiddenSeries = new Set();
  const hiddenDatasets = new Set();
  const views = new Map();

  // ---- charts
  const AXIS = 48, LABELS = 92, WIDEST = 320;  // pixels

  function themed(ownLegend) {
    const style = getComputedStyle(document.documentElement);
    const read = (name) => style.getPropertyValue(name).trim();
    const [ink, soft, line] = ["--ink", "--soft", "--line"].map(read);
    const font = getComputedStyle(document.body).fontFamily;
    return {
      background: "transparent", aria: false, font,
      legend: { labelColor: ink, disable: ownLegend },
      axis: { labelColor: soft, titleColor: soft, gridColor: line }, header: { labelColor: ink },
    };
  }

  function merged(base, extra) {
    const result = { ...base };
    for (const [key, value] of Object.entries(extra)) {
      const both = value && base[key] && typeof value === "object" && typeof base[key] === "object";
      result[key] = both ? merged(base[key], value) : value;
    }
    return result;
  }

  // As many panels a row as fit, each as wide as the row allows.
  function fitted(spec, available) {
    const rows = Object.values(spec.datasets ?? {})[0] ?? [];
    const panels = new Set(rows.map((row) => row[spec.facet.field])).size || 1;
    const gap = spec.spacing.column;
    const room = available - (spec.facet.field === "comparison" ? LABELS : AXIS) - 12;
    const least = room < 400 ? 115 : 0.95 * spec.spec.width;
    const fit = Math.max(1, Math.min(panels, Math.floor((room + gap) / (least + gap))));
    const columns = Math.ceil(panels / Math.ceil(panels / fit));
    const width = Math.min(WIDEST, Math.floor((room + gap) / columns) - gap);
    const header = { ...spec.facet.header, labelLimit: width + gap - 8 };
    return { ...spec, columns, facet: { ...spec.facet, header }, spec: { ...spec.spec, width } };
  }

  async function draw(figure) {
    const canvas = figure.querySelector(".canvas");
    canvas.hidden = false;
    const spec = JSON.parse(figure.querySelector("script.spec").textContent);
    const available = document.querySelector("main").clientWidth -
      2 * parseFloat(getComputedStyle(document.querySelector("main")).paddingLeft);
    views.get(figure)?.finalize();
    // Vega names what it draws in; the canvas keeps our name, which says what is to be seen.
    canvas.replaceChildren(document.createElement("div"));
    canvas.firstChild.ariaHidden = "true";
    const result = await vegaEmbed(canvas.firstChild, { ...fitted(spec, available), config: merged(spec.config, themed(!!figure.querySelector(".legend"))) }, {
      actions: false, renderer: "svg", ast: true, defaultStyle: false, logLevel: 1,  // errors
      tooltip: { theme: dark.matches ? "dark" : "light" },
    });
    views.set(figure, result);
    figure.classList.add("drawn");
    apply(result.view);
  }

  function apply(view) {
    view.signal("hidden_series", [...hiddenSeries]).signal("hidden_datasets", [...hiddenDatasets]).runAsync();
  }

  // One after the other, so that the page answers in between; what is in sight comes first.
  const figures = all("figure.chart");
  const pause = () => new Promise((resolve) => setTimeout(resolve));
  const distance = (figure) => Math.abs(figure.getBoundingClientRect().top);
  let round = 0;
  async function drawAll() {
    const mine = ++round;
    delete document.documentElement.dataset.drawn;
    for (const figure of [...figures].sort((a, b) => distance(a) - distance(b))) {
      await pause();
      if (mine !== round) return;
      await draw(figure);
    }
    document.documentElement.dataset.drawn = "true";
  }

  if (window.vegaEmbed) {
    all(".legend").forEach((element) => { element.hidden = false; });
    addEventListener("load", drawAll);
    dark.addEventListener("change", drawAll);
    let width = innerWidth, timer;
    addEventListener("resize", () => {
      clearTimeout(timer);
      timer = setTimeout(() => { if (innerWidth !== width) { width = innerWidth; drawAll(); } }, 150);
    });
  }

  // ---- the legend: one click hides a curve in every chart
  all(".legend button").forEach((button) => button.addEventListener("click", () => {
    const series = button.dataset.series;
    const hide = !hiddenSeries.has(series);
    hide ? hiddenSeries.add(series) : hiddenSeries.delete(series);
    all(".legend button").filter((other) => other.dataset.series === series)
      .forEach((other) => other.setAttribute("aria-pressed", String(!hide)));
    views.forEach((result) => apply(result.view));
  }));

  // ---- the filter of test sets: columns of tables, panels of charts
  all(".filter").forEach((button) => { button.hidden = false; });
  all("[data-dataset]").forEach((box) => {
    box.checked = true;
    box.addEventListener("change", () => {
      box.checked ? hiddenDatasets.delete(box.dataset.title) : hiddenDatasets.add(box.dataset.title);
      all("[data-column]").filter((cell) => cell.dataset.column === box.dataset.dataset)
        .forEach((cell) => { cell.hidden = !box.checked; });
      const shown = all("[data-dataset]").filter((other) => other.checked).length;
      const total = all("[data-dataset]").length;
      all(".filter").forEach((button) => {
        button.textContent = shown < total ? `Test sets: ${shown} of ${total}` : "Test sets";
      });
      views.forEach((result) => apply(result.view));
    });
  });

  // ---- sorting: within each group of rows; a third click restores the order
  all("table.cells").forEach((table) => {
    const bodies = all("tbody", table).map((body) => [body, all("tr", body)]);
    all("thead th", table).slice(1).forEach((header, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => {
        const next = { none: "descending", descending: "ascending", ascending: "none" }[header.ariaSort ?? "none"];
        all("thead th", table).forEach((other) => other.removeAttribute("aria-sort"));
        if (next !== "none") header.setAttribute("aria-sort", next);
        for (const [body, original] of bodies) {
          const value = (row) => Number(row.cells[index + 1]?.querySelector("data")?.value ?? NaN);
          const fixed = original.filter((row) => row.classList.contains("group"));
          const rows = original.filter((row) => !row.classList.contains("group"));
          const sign = next === "ascending" ? 1 : -1;
          if (next !== "none") {
            rows.sort((a, b) => (isNaN(value(a)) - isNaN(value(b))) || sign * (value(a) - value(b)) || 0);
          }
          body.append(...fixed, ...rows);
        }
      });
    });
  });
})();
