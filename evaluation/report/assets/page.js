"use strict";

const touch = matchMedia("(pointer: coarse)").matches;
const settings = { responsive: true, displayModeBar: false };

/* An SVG with a view box scales with its place, which is how a plot fits the paper. */
function fitForPrint(plot) {
  for (const svg of plot.querySelectorAll(".main-svg"))
    svg.setAttribute("viewBox", `0 0 ${svg.getAttribute("width")} ${svg.getAttribute("height")}`);
}

for (const plot of document.querySelectorAll(".plot")) {
  const { data, layout } = JSON.parse(plot.nextElementSibling.text);
  if (touch) layout.dragmode = false; /* a finger scrolls the page */
  Plotly.newPlot(plot, data, layout, settings).then(() => {
    fitForPrint(plot);
    plot.on("plotly_afterplot", () => fitForPrint(plot));
  });
}

for (const button of document.querySelectorAll(".save")) {
  const plot = button.closest("figure").querySelector(".plot");
  button.hidden = false;
  button.addEventListener("click", () => {
    const { width, height } = plot.getBoundingClientRect();
    Plotly.downloadImage(plot, { format: "svg", filename: "plot", width, height });
  });
}

for (const button of document.querySelectorAll("button[data-series]"))
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", shown);
    for (const plot of button.closest("section").querySelectorAll(".plot")) {
      const traces = plot.data.flatMap((trace, i) => (trace.legendgroup === button.dataset.series ? [i] : []));
      if (traces.length) Plotly.restyle(plot, { visible: shown }, traces);
    }
  });
