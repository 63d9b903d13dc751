"use strict";
// Draws the page from the block of JSON. Text from outside becomes text nodes only, never markup.
const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
// Washes under curves, as red, green and blue: for positive values, and for negative ones.
const WARM = [0.93, 0.36, 0.06], COLD = [0.16, 0.46, 0.94];

/** An element with attributes and children; text is text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  return fill(element, attributes, children);
}

function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const number = (value) => (value === 0 ? "0" : String(Number(value.toPrecision(3)))).replace("-", "−");
const percent = (share) => (share >= 0.9995 ? "100 %" : share < 0.0005 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`);
const css = (colour) => `rgb(${colour.map((part) => Math.round(255 * part)).join(" ")})`;

// ----- colours: a filter turns the greys of a map into them -----

const [heat, even, grey, both] = Object.keys(data.colours);

function filter(id, ...parts) {
  return draw("filter", { id, x: 0, y: 0, width: 1, height: 1, "color-interpolation-filters": "sRGB" }, ...parts);
}

function table(id, colours) {
  const parts = ["R", "G", "B"].map((channel, i) =>
    draw(`feFunc${channel}`, { type: "table", tableValues: colours.map((colour) => colour[i]).join(" ") }),
  );
  return filter(id, draw("feComponentTransfer", {}, ...parts));
}

/** One colour, the more opaque the brighter: `slope` · grey + `start`. */
function wash(colour, slope, start, result) {
  const values = [...colour.map((part) => `0 0 0 0 ${part}`), `${slope} 0 0 0 ${start}`].join(" ");
  return draw("feColorMatrix", { in: "SourceGraphic", type: "matrix", values, result });
}

function paint(name) {
  const zero = 256 / 255;
  find("filters").replaceChildren(
    table("picture-positive", data.colours[name]),
    table("picture-signed", data.colours[both]),
    filter("series-positive", wash(WARM, 1, 0, "warm")),
    filter(
      "series-signed", wash(WARM, 2, -zero, "warm"), wash(COLD, -2, zero, "cold"),
      draw("feMerge", {}, draw("feMergeNode", { in: "warm" }), draw("feMergeNode", { in: "cold" })),
    ),
  );
  document.dispatchEvent(new CustomEvent("painted"));
}

/** The colours of a map from its lowest to its highest value, as a gradient. */
function bar(kind, map) {
  const stops = kind === "series" ? [...(map.signed ? [css(COLD)] : []), "transparent", css(WARM)]
    : data.colours[map.signed ? both : find("colours").value].map(css);
  return `linear-gradient(to right, ${stops.join(", ")})`;
}

/** What stands below the colours: where they end before the largest value, that too. */
function limits({ signed, high, largest }) {
  const clipped = largest > high * 1.0005;
  const [low, top] = [-high, high].map((end) => (clipped ? (end < 0 ? "≤ " : "≥ ") : "") + number(end));
  return [signed ? low : "0", signed ? "0" : "", clipped ? `${top} (largest ${number(largest)})` : top];
}

// ----- one input -----

/** The input with a map over (or, of a series, under) it. */
function stage(sample, described) {
  const map = make("img", { class: "map", alt: "" });
  if (sample.kind === "series") {
    return [make("div", { class: "stage" }, map, ...sample.curves.map((one) => curve(one, described))), map];
  }
  const alt = described ? `The input ${sample.name}` : "";
  const input = make("img", { class: sample.tiny ? "input tiny" : "input", alt, src: sample.image });
  const part = sample.part.some((edge, i) => Math.abs(edge - (i > 1)) > 1e-6);
  return [make("div", { class: "stage" }, input, map, part && described ? make("div", { class: "frame" }) : null), map];
}

function curve({ values, low, high }, described) {
  const span = high - low || 1;
  const points = values.map((value, i) => `${(i + 0.5).toFixed(1)} ${(96 - (92 * (value - low)) / span).toFixed(2)}`);
  const text = `A curve between ${number(low)} and ${number(high)}`;
  const svg = draw(
    "svg",
    { class: "curve", viewBox: `0 0 ${values.length} 100`, preserveAspectRatio: "none", role: "img", "aria-label": text },
    draw("path", { d: `M${points.join("L")}` }),
  );
  if (!described) {
    svg.setAttribute("aria-hidden", "true");
    return svg;
  }
  const ends = [high, low].map((end) => make("span", {}, number(end)));
  return make("div", { class: "strand" }, svg, make("div", { class: "range", "aria-hidden": "true" }, ...ends));
}

function classes(sample, key) {
  const rows = sample.classes.map((one) => {
    const explained = one.map !== null, tag = explained ? "label" : "div";
    const radio = make("input", { type: "radio", name: `${key}-class`, value: one.map, checked: one.map === 0 });
    const row = make(
      tag, { class: explained ? "class" : "class unexplained", title: explained ? null : "No map was computed for this class" },
      explained ? radio : make("span"), make("span", {}, one.name),
      make("span", { class: "value" }, one.probability === null ? "" : percent(one.probability)),
    );
    row.style.setProperty("--probability", `${100 * (one.probability ?? 0)}%`);
    return row;
  });
  return make("fieldset", { class: "classes" }, make("legend", {}, "What is explained, and its probability"), ...rows);
}

function methods(sample, key) {
  const thumbs = [];
  const rows = sample.methods.map((method, i) => {
    const [picture, map] = stage(sample, false);
    thumbs.push(map);
    const radio = make("input", { class: "hidden", type: "radio", name: `${key}-method`, value: i, checked: i === 0 });
    const at = method.layer === null ? null : make("span", {}, `at ${method.layer}`);
    return make("label", { class: "method" }, radio, picture, make("span", { class: "name" }, method.title, at));
  });
  const strip = make("div", { class: "strip" }, ...rows);
  return [make("fieldset", { class: "methods" }, make("legend", {}, "Method"), strip), thumbs];
}

function slider(section, kind) {
  const range = { type: "range", min: 0, max: 1, step: 0.01, value: kind === "series" ? 0.8 : 0.6 };
  const input = make("input", { ...range, "aria-label": "From the input to the map" });
  const moved = () => {
    section.style.setProperty("--share", input.value);
    section.style.setProperty("--grey", Math.min(1, 2 * input.value));
  };
  input.addEventListener("input", moved);
  moved();
  return make("label", { class: "slider" }, "Input", input, "Map");
}

/** Where a number of the input's places lie below its curves, or nothing below a picture. */
function axis(sample) {
  if (sample.kind !== "series") return null;
  return make("div", { class: "axis" }, make("span", {}, "0"), make("span", {}, String(sample.length - 1)));
}

function place(section, sample) {
  if (sample.kind === "series") return;
  const [top, left, bottom, right] = sample.part;
  const shares = { top, left, width: right - left, height: bottom - top };
  for (const [name, share] of Object.entries(shares)) section.style.setProperty(`--${name}`, `${100 * share}%`);
  section.style.setProperty("--proportion", sample.width / sample.height);
}

/** The parts of a section that change with what is chosen; returns what changes them. */
function teller(sample, map, thumbs) {
  const colours = make("div", { class: "colours" }), ends = make("div", { class: "ends" });
  const told = make("p", { class: "told", "aria-live": "polite" }), details = make("p", { class: "details" });
  const notes = make("ul", { class: "notes" });
  const lay = (image, shown) => {
    image.src = shown.image;
    image.style.filter = `url(#${sample.kind}-${shown.signed ? "signed" : "positive"})`;
  };
  const of = (method, target) => method.maps[target] ?? method.maps[0];
  function tell(method, target) {
    const shown = of(method, target), name = sample.classes.find((one) => one.map === target)?.name;
    const title = method.layer === null ? method.title : `${method.title} at ${method.layer}`;
    lay(map, shown);
    thumbs.forEach((thumb, k) => lay(thumb, of(sample.methods[k], target)));
    const low = number(shown.signed ? -shown.high : 0);
    map.alt = `${title} for ${name}, over ${sample.name}; values from ${low} to ${number(shown.high)}`;
    colours.style.background = bar(sample.kind, shown);
    ends.replaceChildren(...limits(shown).map((end) => make("span", {}, end)));
    const score = shown.score === null ? "" : `, score ${number(shown.score)}`;
    told.replaceChildren(make("strong", {}, title), ` for ${name}${score}. ${method.summary}`);
    details.textContent = [method.options, method.provider].filter(Boolean).join(", ");
    const warnings = [
      ...(shown.lost ? [`${shown.lost} values of this map are not finite; they are drawn as 0.`] : []),
      ...(shown.largest === 0 ? ["All values of this map are 0."] : []),
    ];
    notes.replaceChildren(...[...warnings, ...method.notes, ...sample.notes].map((note) => make("li", {}, note)));
  }
  return { scale: make("div", { class: "scale" }, colours, ends), texts: [told, details, notes], tell };
}

function show(sample, i) {
  const key = `input-${i + 1}`;
  const section = make("section", { class: `sample ${sample.kind}`, id: key, "aria-labelledby": `${key}-title` });
  place(section, sample);
  const [picture, map] = stage(sample, true), [strip, thumbs] = methods(sample, key);
  const { scale, texts, tell } = teller(sample, map, thumbs);
  const figure = make("figure", {}, picture, axis(sample), slider(section, sample.kind), scale);
  section.append(
    make("h3", { id: `${key}-title` }, sample.name),
    make("div", { class: "columns" }, figure, make("div", {}, classes(sample, key), ...texts)),
    strip,
  );
  const chosen = (name) => Number(section.querySelector(`input[name="${key}-${name}"]:checked`)?.value ?? 0);
  const update = () => tell(sample.methods[chosen("method")], chosen("class"));
  section.addEventListener("change", update);
  document.addEventListener("painted", update);
  update();
  return section;
}

// ----- the rest of the page -----

function rows(list) {
  return make("dl", {}, ...list.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)]));
}

function card(title, list) {
  return list.length ? make("div", { class: "card" }, make("h3", {}, title), rows(list)) : null;
}

function grid(head, body) {
  const cells = (row) => [make("th", { scope: "row" }, row[0]), ...row.slice(1).map((text) => make("td", {}, text))];
  return make(
    "table", {}, make("thead", {}, make("tr", {}, ...head.map((text) => make("th", { scope: "col" }, text)))),
    make("tbody", {}, ...body.map((row) => make("tr", {}, ...cells(row)))),
  );
}

function layers() {
  const shown = grid(["Layer", "Type", "Shape", "Parameters", "Gradient", "Difference"], data.layers);
  find("layer-table").append(shown);
  const lines = [...shown.tBodies[0].rows].map((row, i) => [row, data.layers[i].slice(0, 3).join(" ").toLowerCase()]);
  const sift = () => {
    const words = find("filter").value.toLowerCase().split(/\s+/);
    for (const [row, text] of lines) row.hidden = !words.every((word) => text.includes(word));
    const count = lines.filter(([row]) => !row.hidden).length;
    find("count").textContent = count === lines.length ? `${count} layers` : `${count} of ${lines.length} layers`;
  };
  find("filter").addEventListener("input", sift);
  sift();
}

document.title = `${data.title} · onnxviz report`;
find("title").textContent = data.title;
find("made").textContent = `What the network sees, by onnxviz on ${data.provider}, ${data.made}`;
find("facts").append(...data.facts.map(([name, text]) => make("div", {}, make("dt", {}, name), make("dd", {}, text))));
const choices = [heat, even, grey].map((name) => make("option", { value: name }, name[0].toUpperCase() + name.slice(1)));
find("colours").append(...choices);
find("colours").addEventListener("change", (event) => paint(event.target.value));
paint(heat);
const leftOut = Object.entries(data.leftOut).map(([method, why]) => `${method} has no answer: ${why}`);
find("left-out").append(...leftOut.map((text) => make("li", {}, text)));
find("caveats").append(...data.notes.map((note) => make("li", {}, note)));
if (data.samples.length > 1) {
  find("contents").append(...data.samples.map((sample, i) => make("a", { href: `#input-${i + 1}` }, sample.name)));
}
find("samples").append(...data.samples.map(show));
find("cards").append(...[card("File", data.card), card("Preparation of pictures", data.preparation)].filter(Boolean));
layers();
find("exactness-table").append(grid(["Compared", "Largest", "Median", "Cosine"], data.exactness));
find("version-table").append(grid(["Package", "At conversion", "For this report"], data.versions));
document.body.dataset.ready = "true";
