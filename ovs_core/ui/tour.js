// When the answer of a step has come, what the step is about is framed and brought into sight.
const FRAME = "ovs-toured";
const SETTLING_MS = 4000; // views come one after the other, and those above move the one in sight
const OWN_WAY = ["wheel", "touchstart", "pointerdown", "keydown"]; // somebody looks elsewhere

function frame(behavior) {
  const stop = element.querySelector(".ovs-tour");
  const view = stop?.offsetParent && document.querySelector(stop.dataset.view);
  for (const one of document.querySelectorAll(`.${FRAME}`)) one.classList.toggle(FRAME, one === view);
  if (!view) return;
  view.classList.add(FRAME);
  view.scrollIntoView({ block: "nearest", behavior });
}

let settling = null;
function settle() {
  settling?.abort();
  const own = (settling = new AbortController());
  let seen = false; // the observer calls at once, too
  const moved = new ResizeObserver(() => (seen ? frame("instant") : (seen = true)));
  own.signal.addEventListener("abort", () => moved.disconnect());
  for (const act of OWN_WAY) addEventListener(act, () => own.abort(), { signal: own.signal, capture: true, passive: true });
  setTimeout(() => own.abort(), SETTLING_MS);
  frame("smooth");
  moved.observe(document.body);
}

const status = document.querySelector("#inspect-status");
let shown = null; // name of the answer that was framed
new MutationObserver(() => {
  const answer = status.querySelector("[data-answer-last]")?.dataset.answer;
  if (!answer || answer === shown) return;
  shown = answer;
  setTimeout(settle, 400); // after the page has put the answer in its place
}).observe(status, { childList: true, subtree: true });
