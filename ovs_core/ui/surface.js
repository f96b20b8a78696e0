// A picture that is drawn on: one place, a box (a drag or two clicks), or a stroke. What was drawn goes to the
// server as fractions of the picture; until its answer comes back as new HTML, the line stays where it was drawn.
const SVG = "http://www.w3.org/2000/svg";
const NEAR = 6; // pixels of the screen: what moved less was a click
let line = null; // places of the gesture that is going on
let corner = null; // first corner of a box that is drawn by two clicks

const picture = () => element.querySelector(".ovs-surface");
const setting = (name) => (element.closest(`[data-${name}]`) || picture()).dataset[name];

function placeOf(event) {
  const frame = picture().getBoundingClientRect();
  const part = (at, start, length) => Math.min(1, Math.max(0, (at - start) / length));
  return [part(event.clientX, frame.left, frame.width), part(event.clientY, frame.top, frame.height)];
}

function apart(one, other) {
  const frame = picture().getBoundingClientRect();
  return Math.hypot((one[0] - other[0]) * frame.width, (one[1] - other[1]) * frame.height);
}

function show(kind, attributes) {
  const live = picture().querySelector("svg.live");
  const shape = document.createElementNS(SVG, kind);
  for (const [name, value] of Object.entries(attributes)) shape.setAttribute(name, value);
  live.replaceChildren(shape);
}

function clear() {
  picture()?.querySelector("svg.live").replaceChildren();
}

function showBox(one, other) {
  const { width, height } = picture().querySelector("svg.live").viewBox.baseVal;
  show("rect", {
    x: Math.min(one[0], other[0]) * width,
    y: Math.min(one[1], other[1]) * height,
    width: Math.abs(one[0] - other[0]) * width,
    height: Math.abs(one[1] - other[1]) * height,
  });
}

function showStroke() {
  const { width, height } = picture().querySelector("svg.live").viewBox.baseVal;
  const at = line.map(([x, y]) => `${x * width},${y * height}`).join(" ");
  const points = line.length > 1 ? at : `${at} ${at}`; // a dot is a line of no length with round ends
  show("polyline", { points, "stroke-width": 2 * Number(setting("radius") || 1) });
}

function showCorner(at) {
  const { width, height } = picture().querySelector("svg.live").viewBox.baseVal;
  show("circle", { cx: at[0] * width, cy: at[1] * height, r: Math.max(width, height) / 100 });
}

function send(points) {
  trigger("select", { tool: setting("tool"), points });
}

element.addEventListener("pointerdown", (event) => {
  if (!picture()?.contains(event.target) || event.button !== 0) return;
  if (setting("tool") !== "place") event.preventDefault(); // else the picture itself would be dragged
  element.setPointerCapture(event.pointerId);
  if (!corner) clear(); // what was refused is still there
  line = [placeOf(event)];
  if (setting("tool") === "stroke") showStroke();
});

element.addEventListener("pointermove", (event) => {
  if (!picture()) return;
  const tool = setting("tool");
  if (tool === "box" && (corner || line)) showBox(corner || line[0], placeOf(event));
  if (tool !== "stroke" || !line) return;
  const seen = event.getCoalescedEvents?.() ?? [];
  for (const at of (seen.length ? seen : [event]).map(placeOf)) {
    if (apart(at, line[line.length - 1]) >= 1) line.push(at);
  }
  showStroke();
});

element.addEventListener("pointerup", (event) => {
  if (!picture() || !line) return;
  const [start, end, tool] = [line[0], placeOf(event), setting("tool")];
  const drawn = line;
  line = null;
  if (tool === "place") send([end]);
  else if (tool === "stroke") send(drawn);
  else if (corner || apart(start, end) > NEAR) {
    const first = corner || start;
    corner = null;
    showBox(first, end);
    send([first, end]);
  } else {
    corner = end;
    showCorner(end);
  }
});

element.addEventListener("pointercancel", () => {
  line = null; // the finger went on to scroll or to zoom
  corner = null;
  clear();
});

element.addEventListener("dragstart", (event) => event.preventDefault());
