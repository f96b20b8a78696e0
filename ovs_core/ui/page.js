// What the page does in the browser alone: no request is made for any of it.
window.ovs = (() => {
  const KEPT = "ovs-lens"; // name in the browser's storage
  const PICTURES = /\.(avif|bmp|dib|gif|hei[cf]s?|hif|ico|jfif|jpe?g?|jp2|j2k|p[bgnp]m|pcx|png|qoi|tga|tiff?|webp)$/i;
  const ANSWERS = { segment: "#summary [role=status]", compare: "#compare-table .ovs-table", inspect: "#inspect-status .line" };
  const SPOKEN = { segment: ANSWERS.segment, compare: "#compare-status .line", inspect: ANSWERS.inspect };
  const SAID_MS = 12000;
  const PRESSED_MS = 3000; // a press of which no work came is forgotten after this
  const asked = {}, running = {}, standing = {}; // by tab: question of the answer shown, of the work, in the fields
  let kept = null; // what is to be remembered; null until the last visit's was read
  let pressed = 0; // when a start button was pressed whose work has not begun yet
  let waiting = null; // the wish that waits for the answer before it

  // Not by its offsetParent: on a phone the start button is fixed and has none.
  const shown = (selector) => [...document.querySelectorAll(selector)].find((one) => one.getClientRects().length > 0);
  const plain = (value) => (value && value.path ? value.path : value);
  const text = (values) => JSON.stringify(values.map(plain));

  function mark(tab) {
    const stale = asked[tab] !== undefined && asked[tab] !== standing[tab];
    document.documentElement.classList.toggle(`ovs-stale-${tab}`, stale);
  }

  // Work begins: `places` are those of the question among the values. Numbers out of range are put right.
  function ask(tab, places, ids, ...values) {
    running[tab] = standing[tab] = text(places.map((place) => values[place]));
    pressed = 0;
    mark(tab);
    readOut("");
    return clamped(ids, ...values);
  }

  // The status line changed; an answer that came belongs to the question that ran.
  function status(tab, html) {
    if (!html.includes("data-answer") || running[tab] === undefined) return;
    asked[tab] = running[tab];
    mark(tab);
    if (!html.includes("data-answer-last")) return;
    setTimeout(() => present(tab), 150);
  }

  // The focus goes from what started the work to the answer. Who is elsewhere by now, above all typing the next
  // word, stays there: the answer is read out.
  function present(tab) {
    const answer = shown(ANSWERS[tab]);
    if (!answer) return;
    const focus = document.activeElement;
    if (focus !== document.body && !focus.closest(`#${tab}-start, #${tab}-stop, .ovs-examples`)) {
      readOut(shown(SPOKEN[tab])?.innerText ?? "");
      return;
    }
    answer.tabIndex = Math.max(answer.tabIndex, -1);
    answer.focus({ preventScroll: true });
    // On a phone there is no room beside the words, and what Inspect shows stands below its line.
    const below = tab === "inspect" && window.matchMedia("(max-width: 640px)").matches;
    const go = () => document.activeElement === answer && answer.scrollIntoView({ block: below ? "start" : "nearest" });
    go();
    // A picture that is still on its way moves what stands below it.
    for (const picture of document.querySelectorAll("img:not([loading=lazy])")) {
      if (!picture.complete) picture.addEventListener("load", go, { once: true });
    }
  }

  // Screen readers read out what comes into a live region that was there before, not one that comes with its words.
  function lineOf(id, attribute, value) {
    const found = document.getElementById(id);
    if (found) return found;
    const line = document.createElement("div");
    line.id = id;
    line.setAttribute(attribute, value);
    document.body.append(line);
    return line;
  }

  function readOut(sentence) {
    lineOf("ovs-read-out", "aria-live", "polite").textContent = sentence;
  }

  // The picture's own text; gradio says that it is a file. Masks lie over it and say nothing more.
  function describe() {
    const said = shown(ANSWERS.segment)?.innerText ?? "";
    for (const picture of document.querySelectorAll("#overlay img"))
      picture.alt = picture.matches(".mask") ? "" : `The labelled photo: ${said}`;
  }

  // A photo that browsers cannot draw, a TIFF or HEIC, is shown by the copy that stands in this piece of the page.
  function showCopy(html) {
    const photo = document.querySelector("#photo img");
    const copy = html?.match(/<img[^>]* src="([^"]+)"/)?.[1];
    if (!photo || !copy) return;
    const draw = () => (photo.src = copy);
    if (!photo.complete) photo.addEventListener("error", draw, { once: true });
    else if (!photo.naturalWidth) draw();
  }

  function changed(tab, ...values) {
    standing[tab] = text(values);
    mark(tab);
  }

  // Values of sliders, each inside its range; what is empty is the lowest, as the field makes of it when it is left.
  function clamped(ids, ...values) {
    ids.forEach((id, place) => {
      const range = id && document.querySelector(`#${id} input[type=range]`);
      if (!range) return;
      const number = Number(values[place] ?? NaN);
      values[place] = Math.min(Number(range.max), Math.max(Number(range.min), isNaN(number) ? -Infinity : number));
    });
    return values;
  }

  // The same once an answer's own numbers stand in its sliders: they come just after what the answer changes first.
  async function settled(ids, ...values) {
    await new Promise((done) => setTimeout(done, 200));
    ids.forEach((id, place) => {
      const field = id && document.querySelector(`#${id} input[type=number]`);
      if (field) values[place] = field.value === "" ? null : Number(field.value);
    });
    return clamped(ids, ...values);
  }

  const start = () => shown("#segment-start, #compare-start, #inspect-start");

  function run() {
    if (!start())
      [...document.querySelectorAll("button[role=tab]")].find((tab) => tab.textContent.trim() === "Segment")?.click();
    clearTimeout(waiting);
    waiting = setTimeout(() => press(start()), 50);
  }

  // While an answer is made its button rests: the newest wish waits for it, and Cancel is for that wish, too.
  function press(button) {
    if (!button) return;
    if (button.disabled || Date.now() - pressed < PRESSED_MS) {
      waiting = setTimeout(press, 100, button);
      return;
    }
    pressed = Date.now();
    button.click();
  }

  function cancel(event) {
    if (event.target.closest?.("#segment-stop, #compare-stop, #inspect-stop")) clearTimeout(waiting);
  }

  function say(sentence) {
    const line = lineOf("ovs-say", "role", "alert");
    line.textContent = sentence;
    line.hidden = false;
    clearTimeout(line.timer);
    line.timer = setTimeout(() => (line.hidden = true), SAID_MS);
  }

  function give(file) {
    const field = document.querySelector("#photo input[type=file]");
    if (!field) return;
    if (!file.type.startsWith("image/") && !PICTURES.test(file.name)) {
      say(`${file.name} is not a picture. JPEG, PNG, WebP, TIFF and other pictures can be dropped or pasted here.`);
      return;
    }
    const carrier = new DataTransfer();
    carrier.items.add(file);
    field.files = carrier.files;
    field.dispatchEvent(new Event("change", { bubbles: true }));
  }

  function paste(event) {
    const [file] = event.clipboardData?.files ?? [];
    const typing = event.target.closest?.("textarea, input, [contenteditable=true]");
    if (!file || (typing && event.clipboardData.types.includes("text/plain"))) return;
    event.preventDefault();
    event.stopPropagation();
    give(file);
  }

  const elsewhere = (target) => !target.closest?.("#photo") && target.closest?.("[aria-dropeffect], .upload-container");

  function drop(event) {
    if (!event.dataTransfer?.types.includes("Files") || elsewhere(event.target)) return;
    event.preventDefault();
    if (event.type !== "drop") return;
    event.stopPropagation();
    if (event.dataTransfer.files.length) give(event.dataTransfer.files[0]);
  }

  // Enter runs, Shift+Enter is a new line.
  function key(event) {
    if (event.key !== "Enter" || event.isComposing || !event.target.closest?.("#classes textarea")) return;
    event.stopPropagation();
    if (event.shiftKey || event.type !== "keydown") return;
    event.preventDefault();
    run();
  }

  // What was kept here, and what the address asks for.
  function recall() {
    let before = {};
    try {
      before = JSON.parse(localStorage.getItem(KEPT)) ?? {};
    } catch {} // no storage, or not ours
    return [{ kept: before, address: Object.fromEntries(new URLSearchParams(location.search)) }];
  }

  // From now on changes are kept.
  function remember() {
    kept = recall()[0].kept;
  }

  function keep(names, ...values) {
    if (kept === null) return;
    names.forEach((name, place) => (kept[name] = values[place]));
    try {
      localStorage.setItem(KEPT, JSON.stringify(kept));
    } catch {} // private windows may have none
  }

  async function link(names, usual, ...values) {
    const words = new URLSearchParams();
    names.forEach((name, place) => {
      if (values[place] && values[place] !== usual[place]) words.set(name, values[place]);
    });
    const address = `${location.origin}${location.pathname}?${words}`;
    try {
      await navigator.clipboard.writeText(address);
      say("The link is copied. It holds words and choices, not the photo.");
    } catch {
      say(address); // without HTTPS a browser copies nothing
    }
  }

  document.addEventListener("paste", paste, true);
  document.addEventListener("click", cancel, true);
  for (const name of ["dragover", "drop"]) document.addEventListener(name, drop, true);
  for (const name of ["keydown", "keypress"]) document.addEventListener(name, key, true);
  return { ask, status, describe, showCopy, changed, clamped, settled, run, recall, remember, keep, link };
})();
