// The log of a run: sticks to its end while it is followed, and says now and then how much has come.
const MOST_LINES = 6000;
const SAY_EVERY_MS = 10_000;
const NEAR_END_PX = 32;

let following = false;
let unsaid = { lines: 0, warning: 0, error: 0 };
let saidAt = 0;

const box = () => document.querySelector(".log");
const button = () => document.getElementById("follow");
const atEnd = (log) => log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_END_PX;

function follow(on) {
  const log = box();
  following = on;
  button()?.setAttribute("aria-pressed", String(on));
  if (button()) button().textContent = on ? "Following" : "Follow";
  if (on && log) log.scrollTop = log.scrollHeight;
}

function begin() {
  const log = box();
  const line = location.hash.match(/^#L\d+$/)?.[0];
  if (line && log && !document.querySelector(line) && document.getElementById("whole")) {
    location.replace(`?all${line}`);
    return;
  }
  if (!log) return;
  button().hidden = !log.hasAttribute("data-live");
  following = false;
  if (log.hasAttribute("data-live") && !line) follow(true);
  new MutationObserver(grown).observe(document.getElementById("log-lines"), { childList: true });
}

function grown(changes) {
  const list = document.getElementById("log-lines");
  for (const line of changes.flatMap((change) => [...change.addedNodes])) {
    if (line.nodeType !== Node.ELEMENT_NODE) continue;
    unsaid.lines += 1;
    if (line.dataset.level in unsaid) unsaid[line.dataset.level] += 1;
  }
  while (list.childElementCount > MOST_LINES) list.firstElementChild.remove();
  if (following) follow(true);
  say();
}

// At most once in a while: somebody who listens is not to be read every line.
function say() {
  if (!unsaid.lines || Date.now() - saidAt < SAY_EVERY_MS) return;
  saidAt = Date.now();
  const parts = [`${unsaid.lines} new ${unsaid.lines === 1 ? "line" : "lines"} in the log`];
  for (const level of ["warning", "error"]) {
    if (unsaid[level]) parts.push(`${unsaid[level]} ${level}${unsaid[level] === 1 ? "" : "s"}`);
  }
  document.getElementById("log-says").textContent = parts.join(", ");
  unsaid = { lines: 0, warning: 0, error: 0 };
}

document.addEventListener(
  "scroll",
  (event) => {
    const log = box();
    if (event.target !== log || !log.hasAttribute("data-live")) return;
    if (atEnd(log) !== following) {
      following = atEnd(log);
      button().setAttribute("aria-pressed", String(following));
      button().textContent = following ? "Following" : "Follow";
    }
  },
  true,
);
document.addEventListener("click", (event) => {
  if (event.target.id === "follow") follow(!following);
});
document.addEventListener("htmx:afterSettle", (event) => {
  if (event.target.id === "log") begin();
  // The last answer about a run names no further one: nothing comes any more that could be followed.
  const now = document.getElementById("run-now");
  if (now && !now.hasAttribute("hx-get") && box()?.hasAttribute("data-live")) {
    box().removeAttribute("data-live");
    button().hidden = true;
    saidAt = 0;
    say();
  }
});
document.addEventListener("htmx:historyRestore", begin);
begin();
