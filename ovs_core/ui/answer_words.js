// Chips of an answer's words: pointed at or focused, a word shows its scores over the photo, from numbers that
// came with the answer; a click switches it off or on. A finger's first tap shows, its second one switches.
const OUTLINE = 250; // alpha from which a pixel of a mask is its border
let shown = null; // label of the word whose map is drawn
let focused = null; // label of the word that was clicked: new chips take the focus from it
let tapped = false; // whether the click that comes is of a finger that asks for the map alone
let read = { key: null }; // numbers of the answer, unpacked

const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const chipAt = (target) => target?.closest?.(".ovs-words button");
const chipOf = (label) => element.querySelector(`.ovs-words button[data-label="${label}"]`);
const frame = () => document.querySelector("#overlay .image-container");

function maps() {
  const source = document.querySelector("#word-maps .data");
  if (!source) return null;
  if (read.key !== source.dataset.key) {
    const sent = JSON.parse(source.textContent);
    read = { ...sent, key: source.dataset.key, maps: bytes(sent.maps), colors: bytes(sent.colors) };
  }
  return read;
}

function clear() {
  shown = null;
  frame()?.querySelector("canvas")?.remove();
  const line = element.querySelector(".said");
  if (line?.dataset.hint) line.textContent = line.dataset.hint;
}

function show(label) {
  const chip = chipOf(label);
  const photo = frame()?.querySelector("img");
  const sent = maps();
  if (!chip || !photo?.naturalWidth || !sent) return clear();
  shown = label;
  const size = { width: photo.naturalWidth, height: photo.naturalHeight };
  const canvas = frame().querySelector("canvas") || document.createElement("canvas");
  Object.assign(canvas, size).setAttribute("aria-hidden", "true");
  const context = canvas.getContext("2d");
  context.drawImage(heat(sent, label), 0, 0, size.width, size.height);
  const mask = frame().querySelectorAll("img.mask")[chip.dataset.mask ?? -1];
  const won = Boolean(mask?.naturalWidth);
  if (won) context.drawImage(border(mask), 0, 0, size.width, size.height);
  if (!canvas.isConnected) frame().append(canvas);
  say(chip.querySelector(".word").textContent, sent, label, won);
}

function heat(sent, label) {
  const [rows, columns] = sent.grid;
  const small = Object.assign(document.createElement("canvas"), { width: columns, height: rows });
  const picture = new ImageData(columns, rows);
  const values = valuesOf(sent, label);
  for (let cell = 0; cell < values.length; cell += 1) {
    const color = 3 * values[cell];
    picture.data.set([sent.colors[color], sent.colors[color + 1], sent.colors[color + 2], 255], 4 * cell);
  }
  small.getContext("2d").putImageData(picture, 0, 0);
  return small;
}

// Where the word won: the border of its mask, in white.
function border(mask) {
  const line = Object.assign(document.createElement("canvas"), { width: mask.naturalWidth, height: mask.naturalHeight });
  const context = line.getContext("2d", { willReadFrequently: true });
  context.drawImage(mask, 0, 0);
  const picture = context.getImageData(0, 0, line.width, line.height);
  const pixels = new Uint32Array(picture.data.buffer);
  for (let at = 0; at < pixels.length; at += 1) pixels[at] = picture.data[4 * at + 3] < OUTLINE ? 0 : 0xffffffff;
  context.putImageData(picture, 0, 0);
  return line;
}

function valuesOf(sent, label) {
  const cells = sent.grid[0] * sent.grid[1];
  return sent.maps.subarray((label - 1) * cells, label * cells);
}

function say(word, sent, label, won) {
  const line = element.querySelector(".said");
  line.dataset.hint ??= line.textContent;
  const [low, high] = sent.range;
  const number = (step) => (low + ((high - low) * step) / 255).toFixed(2);
  const values = valuesOf(sent, label);
  const [least, most] = [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
  line.textContent =
    `Scores of “${word}”: ${number(least)} to ${number(most)}; ` +
    `dark is ${number(0)}, bright ${number(255)} for every word.${won ? " The white line is round what it won." : ""}`;
}

element.addEventListener("pointerover", (event) => {
  const chip = chipAt(event.target);
  if (chip && event.pointerType !== "touch") show(Number(chip.dataset.label));
});
element.addEventListener("pointerout", (event) => {
  if (event.pointerType !== "touch" && !chipAt(event.relatedTarget)) clear();
});
element.addEventListener("focusin", (event) => {
  if (event.target.matches(":focus-visible") && chipAt(event.target)) show(Number(event.target.dataset.label));
});
element.addEventListener("focusout", (event) => {
  if (event.relatedTarget) clear(); // not where new chips come
});
element.addEventListener("pointerdown", (event) => {
  const chip = chipAt(event.target);
  tapped = Boolean(chip) && event.pointerType === "touch" && shown !== Number(chip.dataset.label);
});
document.addEventListener("pointerdown", (event) => {
  if (shown !== null && !element.contains(event.target)) clear();
});

element.addEventListener("click", (event) => {
  const chip = chipAt(event.target);
  if (!chip) return;
  const label = Number(chip.dataset.label);
  if (tapped) {
    tapped = false;
    show(label);
    return;
  }
  focused = label;
  trigger("select", { label, on: chip.getAttribute("aria-pressed") === "false" });
});

watch("value", () => {
  if (focused !== null && document.activeElement === document.body) chipOf(focused)?.focus({ preventScroll: true });
  focused = null;
  if (shown !== null) show(shown);
});
