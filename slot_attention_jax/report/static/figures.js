// Figures of runs that have no arrays: one picture for each evaluation.

function startFigures(figures) {
  const place = document.getElementById("figures");
  if (!place || !figures.length) return;
  const last = figures.length - 1;
  const image = make("img", { class: "drawn" });
  const show = (i) => {
    image.src = figures[i].picture;
    image.alt = `Figure of ${figures[i].label}: images and their slots`;
  };
  const toText = (i) => figures[i].label;
  const slider = makeSlider("Training", figures.length, last, toText, show);
  show(last);
  const region = {
    class: "scroll",
    role: "region",
    "aria-label": "Figure",
    tabindex: 0,
  };
  place.append(slider.node, make("div", region, image));
}
