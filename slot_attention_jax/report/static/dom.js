// Elements, the page's data, and how numbers are written.

const SVG = "http://www.w3.org/2000/svg";

/** Sets attributes; true stands alone, null and false are left out. */
function setAttributes(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === false) node.removeAttribute(name);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  return node;
}

/** Makes an element of HTML; strings among the children are text. */
function make(tag, attributes = {}, ...children) {
  const node = setAttributes(document.createElement(tag), attributes);
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** Makes an element of SVG. */
function makeSvg(tag, attributes = {}, ...children) {
  const node = setAttributes(document.createElementNS(SVG, tag), attributes);
  node.append(...children);
  return node;
}

/** A button that is on or off. */
function makeToggle(label, on, onChange) {
  const state = { type: "button", "aria-pressed": String(on) };
  const button = make("button", state, label);
  button.addEventListener("click", () => {
    const next = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(next));
    onChange(next);
  });
  return button;
}

/** A choice out of [value, label] pairs. */
function makeChoice(label, options, onChange) {
  const items = options.map(([value, text]) => make("option", { value }, text));
  const select = make("select", {}, ...items);
  select.addEventListener("change", () => onChange(select.value));
  return make("label", {}, `${label} `, select);
}

/** A slider over the whole numbers from 0 to count - 1, with words. */
function makeSlider(label, count, start, toText, onChange) {
  const input = make("input", {
    type: "range",
    min: 0,
    max: count - 1,
    step: 1,
    value: start,
  });
  const output = make("output", {}, toText(start));
  const update = () => {
    output.textContent = toText(Number(input.value));
    input.setAttribute("aria-valuetext", toText(Number(input.value)));
    onChange(Number(input.value));
  };
  input.setAttribute("aria-valuetext", toText(start));
  input.disabled = count < 2;
  input.addEventListener("input", update);
  const set = (value) => {
    const next = Math.min(Math.max(value, 0), count - 1);
    if (next === Number(input.value)) return;
    input.value = next;
    update();
  };
  const node = make(
    "label",
    { class: "slider" },
    make("span", {}, label),
    input,
    output,
  );
  return { node, input, set };
}

/** A number in four digits, as people write it. */
function formatNumber(value) {
  if (value === null || value === undefined) return "no number";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-4) {
    const [digits, power] = value.toExponential(2).split("e");
    return `${Number(digits)}e${Number(power)}`;
  }
  return String(Number(value.toPrecision(4)));
}

/** Keeps a number between two others. */
function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}
