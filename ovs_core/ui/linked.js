// Panels that show one photo: cursor, zoom and wipe are numbers on the element around them, and style does the
// rest. What is chosen stays when new panels come. Who shows more of a place than a cursor takes the event "point"
// and says with "place" where the cursor goes (hover.js).
const MOST = 16; // times that a photo is enlarged
const STEP = 1.5; // of a button or a key
const SHARP = 4; // from this zoom on pixels have edges
const NEAR = 4; // pixels that a click may move
let view = { zoom: 1, left: 0, top: 0 }; // left and top of what is seen, in [0, 1] of the photo
let at = null; // cursor, (x, y) in [0, 1] of the photo
let part = 50; // per cent of the wipe that shows the left picture
let sides = {}; // what was chosen for the left and the right
let held = new Map(); // pointers that are down: where they were last
let grabbed = null; // where the last one went down, in pixels
let dragged = false; // whether it moved the panels: its click means nothing more
let wiping = false;
let frame = 0;

const home = element.closest(".ovs-linked");
const within = (value, low, high) => Math.min(high, Math.max(low, value));

function draw() {
  frame = 0;
  const set = (name, value) => home.style.setProperty(name, value);
  set("--zoom", view.zoom);
  set("--left", view.left);
  set("--top", view.top);
  set("--wipe", `${part}%`);
  if (at) {
    set("--x", at[0]);
    set("--y", at[1]);
  }
  home.toggleAttribute("data-pointed", at !== null);
  home.toggleAttribute("data-zoomed", view.zoom > 1);
  home.toggleAttribute("data-sharp", view.zoom >= SHARP);
}

function later() {
  frame ||= requestAnimationFrame(draw);
}

// Where an event is: as part of its stage, and of the photo.
function placeOf(event, stage = event.target.closest?.(".stage")) {
  if (!stage) return null;
  const around = stage.getBoundingClientRect();
  const seen = [(event.clientX - around.left) / around.width, (event.clientY - around.top) / around.height];
  return { stage, around, seen, photo: [view.left + seen[0] / view.zoom, view.top + seen[1] / view.zoom] };
}

function look(zoom, left, top) {
  const seen = 1 / within(zoom, 1, MOST);
  view = { zoom: 1 / seen, left: within(left, 0, 1 - seen), top: within(top, 0, 1 - seen) };
  later();
}

// Zoom so that a place of the photo stays where it is seen.
function zoomAt(factor, [x, y]) {
  const zoom = within(view.zoom * factor, 1, MOST);
  look(zoom, x - ((x - view.left) * view.zoom) / zoom, y - ((y - view.top) * view.zoom) / zoom);
}

function point(place) {
  if (!home.dispatchEvent(new CustomEvent("point", { detail: place, cancelable: true }))) return;
  at = place;
  later();
}

// What is seen follows the cursor.
function follow() {
  if (view.zoom === 1) return;
  const reach = 1 / view.zoom;
  look(view.zoom, within(view.left, at[0] - reach, at[0]), within(view.top, at[1] - reach, at[1]));
}

home.addEventListener("place", (event) => {
  at = event.detail;
  follow();
  draw(); // with the numbers of the place
});

const middle = () => at ?? [view.left + 0.5 / view.zoom, view.top + 0.5 / view.zoom];
const pan = (across, down) => look(view.zoom, view.left - across / view.zoom, view.top - down / view.zoom);

function wipeTo(event, wipe) {
  part = within(100 * placeOf(event, wipe.querySelector(".stage")).seen[0], 0, 100);
  wipe.querySelector("input").value = part;
  later();
}

function fill() {
  const wipe = home.querySelector(".wipe");
  if (!wipe) return;
  const pictures = JSON.parse(wipe.dataset.pictures);
  for (const select of wipe.querySelectorAll("select")) {
    const side = select.dataset.side;
    if (sides[side] in pictures) select.value = sides[side];
    wipe.querySelector(`img.${side}`).src = pictures[select.value];
    wipe.querySelector(`img.${side}`).alt = `${select.selectedOptions[0].textContent}, ${side} of the line`;
  }
  wipe.querySelector("input").value = part;
  draw();
}

home.addEventListener("change", (event) => {
  if (!event.target.matches(".wipe select")) return;
  sides[event.target.dataset.side] = event.target.value;
  fill();
});
home.addEventListener("input", (event) => {
  if (!event.target.matches(".wipe input")) return;
  part = Number(event.target.value);
  later();
});
home.addEventListener(
  "click",
  (event) => {
    if (dragged) event.stopPropagation();
    dragged = false;
  },
  true,
);
home.addEventListener("click", (event) => {
  const how = event.target.dataset.zoom;
  if (how === "whole") look(1, 0, 0);
  else if (how) zoomAt(how === "in" ? STEP : 1 / STEP, middle());
});
home.addEventListener("dblclick", (event) => {
  const place = placeOf(event);
  if (place) zoomAt(event.shiftKey ? 0.5 : 2, place.photo);
});
home.addEventListener(
  "wheel",
  (event) => {
    const place = event.ctrlKey && placeOf(event); // without Ctrl the page scrolls, as everywhere
    if (!place) return;
    event.preventDefault();
    zoomAt(Math.exp(-event.deltaY / 200), place.photo);
  },
  { passive: false },
);

home.addEventListener("pointerdown", (event) => {
  dragged = false;
  const place = placeOf(event);
  if (!place || event.button !== 0) return;
  wiping = event.target.matches(".edge");
  held.set(event.pointerId, place);
  grabbed = [event.clientX, event.clientY];
  if (wiping || view.zoom > 1 || held.size > 1) place.stage.setPointerCapture(event.pointerId);
  point(place.photo);
});
home.addEventListener("pointermove", (event) => {
  const before = held.get(event.pointerId);
  const place = placeOf(event, before?.stage);
  if (!place) return;
  if (before && wiping) return wipeTo(event, place.stage.closest(".wipe"));
  const moves = before && (held.size === 2 || view.zoom > 1);
  dragged ||= moves && Math.hypot(event.clientX - grabbed[0], event.clientY - grabbed[1]) > NEAR;
  if (moves && held.size === 2) pinch(event.pointerId, place);
  else if (moves) pan(place.seen[0] - before.seen[0], place.seen[1] - before.seen[1]);
  else point(place.photo);
  if (before) held.set(event.pointerId, place);
});
for (const name of ["pointerup", "pointercancel"])
  home.addEventListener(name, (event) => {
    held.delete(event.pointerId);
    wiping = false;
  });
home.addEventListener("pointerleave", (event) => {
  if (held.size || event.pointerType === "touch") return; // where a finger was, the cursor stays
  point(null);
});

// Two fingers: what was between them stays between them.
function pinch(moved, place) {
  const [other] = [...held].find(([id]) => id !== moved).slice(1);
  const before = held.get(moved);
  const apart = (one) => Math.hypot((one.seen[0] - other.seen[0]) * one.around.width, (one.seen[1] - other.seen[1]) * one.around.height);
  const [x, y] = [0, 1].map((axis) => (before.seen[axis] + other.seen[axis]) / 2);
  const center = [view.left + x / view.zoom, view.top + y / view.zoom];
  if (apart(before) > 0) zoomAt(apart(place) / apart(before), center);
  pan((place.seen[0] - before.seen[0]) / 2, (place.seen[1] - before.seen[1]) / 2);
}

home.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || !event.target.matches(".stage") || event.ctrlKey || event.metaKey) return;
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (event.key in arrows) {
    const [across, down] = arrows[event.key];
    const step = 0.02 / view.zoom;
    point([within(middle()[0] + across * step, 0, 1), within(middle()[1] + down * step, 0, 1)]);
    if (at) follow();
  } else if (event.key === "+" || event.key === "=") zoomAt(STEP, middle());
  else if (event.key === "-") zoomAt(1 / STEP, middle());
  else if (event.key === "0" || event.key === "Escape") look(1, 0, 0);
  else return;
  event.preventDefault();
});

watch("value", fill);
fill();
