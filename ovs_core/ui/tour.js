// When the answer of a step has come, what the step is about is framed and brought into sight.
const FRAME = "ovs-toured";

function frame() {
  for (const one of document.querySelectorAll(`.${FRAME}`)) one.classList.remove(FRAME);
  const stop = element.querySelector(".ovs-tour");
  const view = stop?.offsetParent && document.querySelector(stop.dataset.view);
  if (!view) return;
  view.classList.add(FRAME);
  view.scrollIntoView({ block: "nearest", behavior: "smooth" });
}

const status = document.querySelector("#inspect-status");
let shown = null; // name of the answer that was framed
new MutationObserver(() => {
  const answer = status.querySelector("[data-answer-last]")?.dataset.answer;
  if (!answer || answer === shown) return;
  shown = answer;
  setTimeout(frame, 400); // after the page has put the answer in its place
}).observe(status, { childList: true, subtree: true });
