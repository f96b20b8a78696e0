// Scores and affinity under the pointer, from bytes that came with the answer: a move asks the server nothing.
let data = null; // of the answer that is shown
let at = [0.5, 0.5]; // place shown, (x, y) in [0, 1] of the photo
let pinned = false;
let bars = []; // the parts of each bar: a move looks nothing up
let latest = null; // place of the pointer
let frame = 0; // a request to draw, 0 for none
let asked = null; // the place that the server was asked about

const home = element.closest(".ovs-linked"); // all panels: linked.js says where the pointer is and draws the cursor
const PACKED = ["probabilities", "scores", "winners", "affinity", "colors", "alike", "alike_colors"];
const all = (what) => [...element.querySelectorAll(what)];
const one = (what) => element.querySelector(what);
const percent = (part) => `${Math.round(100 * part)} %`;
const index = (part, length) => Math.min(length - 1, Math.max(0, Math.floor(part * length)));

async function unpacked(text) {
  const deflated = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const bytes = new Blob([deflated]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(bytes).arrayBuffer());
}

async function read() {
  const source = one(".ovs-hover > .data");
  data = null;
  if (!source) return;
  const sent = JSON.parse(source.textContent);
  source.textContent = ""; // the page need not keep it twice
  const names = PACKED.filter((name) => sent[name]);
  const values = await Promise.all(names.map((name) => unpacked(sent[name])));
  if (!source.isConnected) return; // another answer has come
  names.forEach((name, number) => (sent[name] = values[number]));
  data = sent;
  bars = all(".bar").map((bar) => ({
    bar,
    fill: bar.querySelector(".track i"),
    number: bar.querySelector(".number"),
    best: bar.querySelector(".best"),
  }));
  // The place that was clicked to ask stays, in an answer about an earlier click, too.
  pinned = asked !== null;
  const place = asked ?? data.start;
  if (asked && Math.hypot(asked[0] - data.start[0], asked[1] - data.start[1]) < 1e-6) asked = null;
  show(...place);
}

function show(x, y) {
  if (!data) return;
  at = [x, y];
  home.dispatchEvent(new CustomEvent("place", { detail: at }));
  home.toggleAttribute("data-pinned", pinned);
  showBars(x, y);
  if (data.affinity) showAffinity(x, y);
  if (data.alike) showAlike(x, y);
}

function showBars(x, y) {
  const [rows, columns] = data.grid;
  const cell = cellOf(x, y, data.grid);
  const values = data.names.map((_, number) => data.probabilities[number * rows * columns + cell] / 255);
  const order = values.map((_, number) => number).sort((a, b) => values[b] - values[a]);
  data.names.forEach((names, number) => {
    const parts = bars[number];
    parts.bar.classList.toggle("first", number === order[0]);
    parts.fill.style.transform = `scaleX(${values[number]})`; // moves no other part of the page
    parts.number.textContent = percent(values[number]);
    parts.best.textContent = bestName(names, number, cell, rows * columns);
  });
  const [first, second] = order;
  const low = values[first] < data.threshold ? `, under the threshold of ${percent(data.threshold)}: other` : "";
  const lead = second === undefined ? "" : `, ${percent(values[first] - values[second])} ahead of ${data.names[second][0]}`;
  const place = `at ${percent(x)} across, ${percent(y)} down`;
  one(".verdict").textContent =
    `${pinned ? "Pinned: " : ""}${data.names[first][0]} ${percent(values[first])}${lead}${low}, ${place}.`;
}

function bestName(names, number, cell, cells) {
  if (!data.scores) return "";
  const [low, high] = data.range;
  const score = low + ((high - low) * data.scores[number * cells + cell]) / 255;
  const offset = data.other && number === data.names.length - 1 ? 1 : 0; // the first is what it is called
  const name = names[data.winners[number * cells + cell] + offset];
  return name === undefined || names.length === 1 ? score.toFixed(2) : `${score.toFixed(2)}, “${name}”`;
}

// A map (rows, columns) of bytes, the one at `place` of many, in 256 colours.
function paint(canvas, maps, place, [rows, columns], colors) {
  if (canvas.width !== columns || canvas.height !== rows) Object.assign(canvas, { width: columns, height: rows });
  const context = canvas.getContext("2d");
  const picture = context.createImageData(columns, rows);
  for (let cell = 0; cell < rows * columns; cell += 1) {
    const color = 3 * maps[place * rows * columns + cell];
    for (let band = 0; band < 3; band += 1) picture.data[4 * cell + band] = colors[color + band];
    picture.data[4 * cell + 3] = 255;
  }
  context.putImageData(picture, 0, 0);
}

const cellOf = (x, y, [rows, columns]) => index(y, rows) * columns + index(x, columns);

function showAffinity(x, y) {
  const place = cellOf(x, y, data.places);
  paint(one(".stage.map canvas"), data.affinity, place, data.places, data.colors);
  one(".peak").textContent = data.peaks[place];
}

// How alike each place of the second photo is, and which one most.
function showAlike(x, y) {
  const place = cellOf(x, y, data.patches);
  const [rows, columns] = data.there;
  paint(one(".beside canvas"), data.alike, place, data.there, data.alike_colors);
  const cosines = data.alike.subarray(place * rows * columns, (place + 1) * rows * columns);
  const best = cosines.reduce((first, value, cell) => (value > cosines[first] ? cell : first), 0);
  const [across, down] = [((best % columns) + 0.5) / columns, (Math.floor(best / columns) + 0.5) / rows];
  one(".found").style.transform = `translate(${100 * across}%, ${100 * down}%)`;
  const [low, high] = data.alike_range;
  const cosine = low + ((high - low) * cosines[best]) / 255;
  one(".alike").textContent = `most at ${percent(across)} across, ${percent(down)} down, cosine ${cosine.toFixed(2)}`;
}

// Of the photo, as it lies there zoomed and moved.
function placeOf(event) {
  const picture = event.target.closest?.(".stage")?.querySelector("img");
  if (!picture) return null;
  const around = picture.getBoundingClientRect();
  const part = (where, start, length) => Math.min(1, Math.max(0, (where - start) / length));
  return [part(event.clientX, around.left, around.width), part(event.clientY, around.top, around.height)];
}

// Drawn once a frame, where the layout is known: to ask for it between two changes would make it anew each time.
home.addEventListener("point", (event) => {
  event.preventDefault(); // the cursor goes where `show` says
  if (!event.detail || pinned) return;
  latest = event.detail;
  frame ||= requestAnimationFrame(follow);
});

function follow() {
  frame = 0;
  if (!pinned) show(...latest);
}

home.addEventListener("click", (event) => {
  const place = event.detail < 2 && placeOf(event); // the second click of two zooms
  if (!place) return;
  if (!data || one(".ovs-hover[data-asks]")) {
    asked = place;
    trigger("select", { tool: "place", points: [place] });
  }
  if (!data) return;
  const around = event.target.closest(".stage").getBoundingClientRect();
  const same = Math.hypot((place[0] - at[0]) * around.width, (place[1] - at[1]) * around.height) < 8;
  pinned = !(pinned && same); // a click on the pin takes it out, one elsewhere moves it
  show(...place);
});

element.addEventListener("keydown", (event) => {
  if (!data || !event.target.closest?.(".stage")) return;
  const [rows, columns] = data.places ?? data.patches ?? data.grid;
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (event.key in steps) {
    const [right, down] = steps[event.key];
    const moved = (part, step, length) => (Math.min(length - 1, Math.max(0, index(part, length) + step)) + 0.5) / length;
    show(moved(at[0], right, columns), moved(at[1], down, rows));
  } else if (event.key === "Enter" || event.key === " ") {
    pinned = !pinned;
    show(...at);
    if (pinned && one(".ovs-hover[data-asks]")) trigger("select", { tool: "place", points: [(asked = at)] });
  } else if (event.key === "Escape" && pinned) {
    pinned = false;
    asked = null; // an answer that is on its way puts the pin nowhere
    show(...at);
  } else return;
  event.preventDefault();
});

watch("value", read);
read();
